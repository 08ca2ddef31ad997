"""Makes a loss curve readable: keeps fewer points, and draws the curve as one line of bars."""

from collections.abc import Mapping, Sequence
from typing import Any

MOST_POINTS = 200
BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40


def thinned(points: Sequence[Mapping[str, Any]], most: int = MOST_POINTS) -> list[dict[str, Any]]:
    """Returns at most `most` of the points, evenly spaced. The first and the last point are always kept."""
    if len(points) <= most:
        return [dict(p) for p in points]
    return [dict(points[i * (len(points) - 1) // (most - 1)]) for i in range(most)]


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """Returns a line of bars, each as high as the mean of its part of the values, or "" when there are no values.

    The lowest bar is the lowest mean, the highest bar is the highest mean.

    >>> sparkline([4, 3, 2, 1])
    '█▆▃▁'
    """
    width = min(width, len(values))
    parts = [values[i * len(values) // width : (i + 1) * len(values) // width] for i in range(width)]
    means = [sum(p) / len(p) for p in parts]
    low, span = min(means, default=0.0), max(means, default=0.0) - min(means, default=0.0)
    return "".join(BARS[round((m - low) / span * (len(BARS) - 1))] if span else BARS[0] for m in means)
