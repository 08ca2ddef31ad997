"""Forecasts what the rest of a run will cost and bring, from what its questions cost so far. Pure."""

import math
from collections.abc import Sequence
from typing import Any

from harvest.core.intervals import Z95
from harvest.core.money import usd
from harvest.store import EndedQuestion


def half_width(variance: float, n: int, m: float, quantile: float) -> float:
    """Returns half the width of the prediction interval for the sum of m further values, whose mean is known from n
    values only: quantile · sd · sqrt(m + m²/n)."""
    return quantile * math.sqrt(variance) * math.sqrt(m + m * m / n)


def sample_variance(values: Sequence[float]) -> float:
    """Returns the variance of these values, or 0 for a single value."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)


def share_variance(successes: float, n: int) -> float:
    """Returns the variance of a case that succeeds or fails, from n cases. Half a success in one case more is added, so
    it is never 0."""
    share = (successes + 0.5) / (n + 1)
    return share * (1 - share)


def forecast(ended: Sequence[EndedQuestion], open_questions: int) -> dict[str, Any] | None:
    """Returns the USD to finish and the questions that will be solved, each as low, mid and high (95%, normal law).

    None is returned before any question has ended.
    """
    n, m = len(ended), open_questions
    if not n:
        return None
    solved = sum(q.solved for q in ended)
    mean = sum(q.cost for q in ended) / n
    money = half_width(sample_variance([q.cost for q in ended]), n, m, Z95)
    yielded = half_width(share_variance(solved, n), n, m, Z95)
    mid = solved / n * m
    return {
        "usd_to_finish": {
            "low": usd(max(0, round(mean * m - money))),
            "mid": usd(round(mean * m)),
            "high": usd(round(mean * m + money)),
        },
        "accepted_to_expect": {
            "low": max(0, math.floor(mid - yielded)),
            "mid": round(mid),
            "high": min(m, math.ceil(mid + yielded)),
        },
    }
