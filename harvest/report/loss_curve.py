"""Makes a loss curve readable: keeps fewer points, and draws the curve as one line of bars."""

from collections.abc import Mapping, Sequence
from typing import Any

MOST_POINTS = 200
BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40
HELD_OUT_LOSS, HELD_OUT_ACCURACY = "held_out_loss", "held_out_accuracy"
"""A point has these keys if held-out questions were measured at its step."""
TURNED = 1.01
"""Held-out loss that ends above its lowest by less than this factor has not risen: it may be chance."""


def thinned(points: Sequence[Mapping[str, Any]], most: int = MOST_POINTS) -> list[dict[str, Any]]:
    """Returns at most `most` of the points, evenly spaced. The first and the last point are always kept.

    Up to half of them are points at which held-out questions were measured.
    """
    if len(points) <= most:
        return [dict(p) for p in points]
    with_measured = [i for i in range(len(points)) if points[i].get(HELD_OUT_LOSS) is not None]
    kept = {0, len(points) - 1, *_spaced(with_measured, most // 2 - 2)}
    others = [i for i in range(1, len(points) - 1) if i not in kept]
    return [dict(points[i]) for i in sorted({*kept, *_spaced(others, most - len(kept))})]


def _spaced(values: Sequence[int], most: int) -> Sequence[int]:
    """Returns at most `most` of the values, evenly spaced."""
    if len(values) <= most:
        return values
    return [values[i * len(values) // most] for i in range(most)]


def measured(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the points at which held-out questions were measured."""
    return [p for p in points if p.get(HELD_OUT_LOSS) is not None]


def turned(points: Sequence[Mapping[str, Any]]) -> str | None:
    """Returns a sentence when held-out loss ended more than 1% above its lowest; None when it did not."""
    found = measured(points)
    if not found:
        return None
    best, last = min(found, key=lambda p: p[HELD_OUT_LOSS]), found[-1]
    if last[HELD_OUT_LOSS] <= TURNED * best[HELD_OUT_LOSS]:
        return None
    return (
        f"held-out loss was lowest at step {best['step']}, {best[HELD_OUT_LOSS]:.4f}, "
        f"and rose to {last[HELD_OUT_LOSS]:.4f} by step {last['step']}"
    )


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
