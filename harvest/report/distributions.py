"""Computes how a run's money, traces and lengths are distributed: over its time, over lengths, over its questions.
Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any

from harvest.core.money import usd
from harvest.report.loss_curve import thinned
from harvest.report.prediction.forecast import forecast
from harvest.store import EndedQuestion, Length, Moment, Session

MOST_MOMENTS = 120
BARS = 40
"""A histogram has about this many bars."""
SHOWN_SHARE = 0.99
"""A histogram's last bar holds what is longer than this share of the answers."""
PILOT = 30
"""The forecast that is compared with what came is made from this many questions."""


def over_time(moments: Sequence[Moment], sessions: Sequence[Session]) -> list[dict[str, Any]]:
    """Returns what was spent and accepted up to each of at most MOST_MOMENTS moments of the run's working time.

    The time between two sessions does not count. Each entry has `at_s`, `spent_usd` and `accepted`.
    """
    if not moments:
        return []
    # As precise as the moments: what ended in a session's first minute would lie before the session's start.
    size = len(moments[0].at)
    starts = [_like(s.started_at[:size], datetime.fromisoformat(s.started_at)) for s in sessions]
    starts = starts or [datetime.fromisoformat(moments[0].at)]
    whens = [_like(m.at, starts[0]) for m in moments]
    ends = [max((w for w in whens if w < after), default=start) for start, after in _pairs(starts)]
    before = [0.0, *accumulate(max(0.0, (e - s).total_seconds()) for s, e in zip(starts, ends, strict=True))]
    points, spent, accepted = [{"at_s": 0, "spent_usd": usd(0), "accepted": 0}], 0, 0
    for moment, when in zip(moments, whens, strict=True):
        session = max((n for n, start in enumerate(starts) if start <= when), default=0)
        spent, accepted = spent + moment.cost, accepted + moment.accepted
        at = before[session] + max(0.0, (when - starts[session]).total_seconds())
        points.append({"at_s": round(at), "spent_usd": usd(spent), "accepted": accepted})
    return thinned(points, MOST_MOMENTS)


def _like(at: str, start: datetime) -> datetime:
    """Returns the time that a text cut at its second or minute names. It has the time zone of `start`."""
    return datetime.fromisoformat(at).replace(tzinfo=start.tzinfo)


def _pairs(starts: Sequence[datetime]) -> Iterable[tuple[datetime, datetime]]:
    return zip(starts, [*starts[1:], datetime.max.replace(tzinfo=starts[0].tzinfo)], strict=True)


def histogram(lengths: Sequence[Length]) -> dict[str, Any] | None:
    """Returns how many accepted and rejected answers have how many tokens, in bars of equal width.

    `bars` has an entry for each bar, with `from_tokens`, `accepted` and `rejected`. The last bar takes all that is
    longer. None is returned when no length is known.
    """
    answers = sum(one.answers for one in lengths)
    if not answers:
        return None
    reached, seen = 0, 0
    for one in lengths:
        reached, seen = one.tokens, seen + one.answers
        if seen >= SHOWN_SHARE * answers:
            break
    width = _round_up(max(1, reached) / BARS)
    bars = [{"from_tokens": n * width, "accepted": 0, "rejected": 0} for n in range(reached // width + 1)]
    for one in lengths:
        bar = bars[min(one.tokens // width, len(bars) - 1)]
        bar["accepted" if one.accepted else "rejected"] += one.answers
    return {"width_tokens": width, "longest_tokens": lengths[-1].tokens, "answers": answers, "bars": bars}


def _round_up(value: float) -> int:
    """Returns the smallest of 1, 2, 5, 10, 20, 50, … that is not below the value."""
    power = 10 ** max(0, math.floor(math.log10(max(1.0, value))))
    return int(next(step * power for step in (1, 2, 5, 10) if step * power >= value))


def forecast_check(questions: Sequence[EndedQuestion], open_questions: int) -> dict[str, Any] | None:
    """Returns what the first PILOT questions forecast for the others, and what came.

    `usd` and `accepted` each have `low`, `mid` and `high` (95%), and `came`. None is returned when the run is not done,
    or has fewer than twice as many questions.
    """
    pilot, rest = questions[:PILOT], questions[PILOT:]
    if open_questions or len(rest) < PILOT:
        return None
    said: Mapping[str, Any] = forecast(pilot, len(rest)) or {}
    return {
        "questions": len(pilot),
        "others": len(rest),
        "usd": {**said["usd_to_finish"], "came": usd(sum(q.cost for q in rest))},
        "accepted": {**said["accepted_to_expect"], "came": sum(q.solved for q in rest)},
    }
