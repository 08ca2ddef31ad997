"""Forecasts what the rest of a run will cost and bring, from what its questions cost so far. Pure."""

import math
from collections.abc import Sequence
from typing import Any

from harvest.core.intervals import Z95
from harvest.core.money import usd
from harvest.store import EndedQuestion


def forecast(ended: Sequence[EndedQuestion], open_questions: int) -> dict[str, Any] | None:
    """Returns the USD to finish and the accepted traces to expect, each as low, mid and high (95%).

    None is returned before any question has ended. The interval is a prediction interval for the sum of m draws. m is
    the number of open questions, and the mean is known from n ended questions. By the normal law, its half width is Z95
    · sd · sqrt(m + m²/n). For the traces, sd is that of a share.
    """
    n, m = len(ended), open_questions
    if not n:
        return None
    solved = sum(q.solved for q in ended)
    mean = sum(q.cost for q in ended) / n
    squares = math.fsum(1.0 * q.cost * q.cost for q in ended)
    variance = max(0.0, squares / n - mean * mean) * (n / (n - 1) if n > 1 else 1)
    share = (solved + 0.5) / (n + 1)
    spread = math.sqrt(m + m * m / n)
    money = Z95 * math.sqrt(variance) * spread
    yielded = Z95 * math.sqrt(share * (1 - share)) * spread
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
