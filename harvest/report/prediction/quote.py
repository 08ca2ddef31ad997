"""Quotes a whole run from a pilot: what the run will cost, bring and take, and what it would cost otherwise. Pure.

The pilot's questions are drawn at random from the run's. Each figure comes with a 90% prediction interval over
questions, because several answers to one question are not independent of each other.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from harvest.core.config import RunConfig
from harvest.core.intervals import Z90, student_quantile
from harvest.core.money import usd
from harvest.endpoint import Tariff
from harvest.report.headline import dollars, for_traces, many
from harvest.report.prediction.forecast import half_width, sample_variance, share_variance
from harvest.report.prediction.what_if import what_if
from harvest.report.sentences import duration
from harvest.store import AskedTry, BoughtAttempt

Range = dict[str, Any]
"""`low`, `mid` and `high` of one figure. `low` and `high` are None when fewer than two questions have ended."""
Value = Callable[[Sequence[AskedTry]], float]
"""A function from the tries of one question to a figure of that question."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What the whole run has beside its pilot."""

    total: int
    """How many questions the run has."""
    open: int
    """How many of them have not ended."""
    spent_pusd: int
    in_doubt_pusd: int
    accepted: int
    """How many answers were accepted so far, in all of the run."""
    cap_pusd: int | None
    rate: float | None
    """How many requests a second the endpoint takes; None if it has not limited them."""


def quote(
    config: RunConfig,
    tries: Sequence[AskedTry],
    bought: Sequence[BoughtAttempt],
    questions: Sequence[int],
    rest: Rest,
    tariffs: Mapping[int, Tariff | None],
    now: datetime,
) -> dict[str, Any]:
    """Returns the quote. `questions` are the pilot's questions that have ended, `tries` what was asked of them, and
    `bought` the same by attempts. `tariffs` has the prices of the student and of each teacher, by place.

    Amounts of money are None if the price of a try is unknown.
    """
    asked: dict[int, list[AskedTry]] = {question: [] for question in questions}
    for one in tries:
        asked[one.question_id].append(one)
    each = list(asked.values())
    is_priced = not any(one.unpriced for one in tries)
    money = _sum(each, _cost, rest.open) if is_priced else None
    booked = rest.spent_pusd + rest.in_doubt_pusd
    accepted = _sum(each, _accepted, rest.open)
    most = rest.accepted + rest.open * config.sampling.stop_after_accepted
    answers = [one for one in tries if one.is_answer and one.kind == "teacher"]
    at_once = max(1, min(config.teacher.most_at_once, rest.open))
    return {
        "run": config.name,
        "questions": {"total": rest.total, "open": rest.open},
        "pilot": {
            "questions": len(questions),
            "answers": len(answers),
            "accepted": sum(one.accepted for one in answers),
            "cut": sum(one.cut for one in answers),
            "usd": usd(sum(one.cost for one in tries if not one.reused)) if is_priced else None,
            "in_doubt": sum(one.in_doubt for one in tries),
            "reused": sum(one.reused for one in answers),
            "tokens_a_trace": _tokens_a_trace(answers),
        },
        "usd": money and {end: None if v is None else usd(booked + round(v)) for end, v in money.items()},
        "accepted": {
            "low": None if accepted["low"] is None else rest.accepted + math.floor(accepted["low"]),
            "mid": rest.accepted + round(accepted["mid"]),
            "high": None if accepted["high"] is None else min(most, rest.accepted + math.ceil(accepted["high"])),
        },
        "usd_per_accepted_trace": _ratio(each) if is_priced else None,
        "seconds": _seconds(each, rest, at_once),
        "at_once": at_once,
        "cap_usd": None if rest.cap_pusd is None else usd(rest.cap_pusd),
        "questions_under_cap": _questions_under_cap(each, rest) if is_priced else None,
        "instead": what_if(config, bought, tariffs, now, rest.total / len(questions))[1:] if questions else [],
    }


def in_words(q: Mapping[str, Any]) -> Iterator[str]:
    """Yields the lines of a quote for the terminal."""
    pilot, total = q["pilot"], q["questions"]["total"]
    asked = f"{pilot['questions']:,} of {total:,} questions, drawn at random"
    spent = "cost unknown" if pilot["usd"] is None else f"{dollars(pilot['usd'])}"
    doubt = f", of which {pilot['in_doubt']} tries are in doubt and count in full" if pilot["in_doubt"] else ""
    cut = f" · {pilot['cut']:,} cut at the token limit" if pilot["cut"] else ""
    stored = pilot["reused"]
    spent += f"; {stored:,} of the answers were in the store already and count here as if bought" if stored else ""
    yield f"pilot      {asked} · {pilot['answers']:,} answers · {pilot['accepted']:,} accepted{cut} · {spent}{doubt}"
    if q["usd"] is None:
        yield "the run    costs what nobody knows: the teacher's price is unknown (teacher.price_usd_per_mtok sets it)"
    else:
        yield f"the run    {_between(q['usd'], dollars)}, what is spent already included"
    yield f"it brings  {_between(q['accepted'], '{:,}'.format)} accepted traces"
    if q["usd_per_accepted_trace"]:
        n = many(q["usd_per_accepted_trace"]["mid"])
        each = _between(q["usd_per_accepted_trace"], lambda amount: dollars(str(Decimal(amount) * n)))
        yield f"a trace    {each} for {'an accepted one' if n == 1 else f'{n:,} accepted ones'}"
    yield f"it takes   {_between(q['seconds'], duration)}, with {q['at_once']:,} in flight"
    if (within := q["questions_under_cap"]) is not None and q["cap_usd"] is not None:
        enough = within >= total
        words = (
            "is enough" if enough else f"is enough for about {within:,} of {total:,} questions (--budget.usd raises it)"
        )
        yield f"the cap    {dollars(q['cap_usd'])} {words}"
    for other in q["instead"]:
        if other["basis"] != "unknown":
            cost = dollars(other["usd"]["mid"]) if other["usd"] else f"{other['output_tokens']['mid']:,} output tokens"
            each = f", {for_traces(other['usd_per_accepted_trace'])}" if other["usd_per_accepted_trace"] else ""
            about = "about " if other["basis"] == "estimated" else ""
            yield f"instead    {other['what']}: {about}{cost} for {other['accepted']['mid']:,} traces{each}"
    if "training" in q and q["training"] is None:
        yield "training   unknown: no accepted answer of the pilot came with its count of tokens"
    elif training := q.get("training"):
        hours = training["gpu_hours"]
        cost = "price unknown" if training["cost_usd"] is None else dollars(training["cost_usd"])
        between = _between(hours, lambda h: f"{h:.2g}")
        yield f"training   on {training['rows']:,} traces: {between} GPU-hours, {cost}"
    yield "In brackets: the 90% interval, if the other questions are like those of the pilot."


def _between(figure: Mapping[str, Any], words: Callable[[Any], str]) -> str:
    if figure["low"] is None:
        return f"{words(figure['mid'])} (from too few questions for an interval)"
    return f"{words(figure['mid'])} ({words(figure['low'])} to {words(figure['high'])})"


def _tokens_a_trace(answers: Sequence[AskedTry]) -> int | None:
    """Returns how many tokens an accepted trace has on average, question and answer; None if that is unknown."""
    counts = [
        one.input_tokens + one.output_tokens
        for one in answers
        if one.accepted and one.input_tokens is not None and one.output_tokens is not None
    ]
    return round(sum(counts) / len(counts)) if counts else None


# ---- figures of one question


def _cost(tries: Sequence[AskedTry]) -> float:
    return sum(one.cost for one in tries)


def _accepted(tries: Sequence[AskedTry]) -> float:
    return sum(one.accepted and one.is_answer and one.kind == "teacher" for one in tries)


def _time(tries: Sequence[AskedTry]) -> float:
    return math.fsum(one.seconds for one in tries)


# ---- figures of the run


def _sum(each: Sequence[Sequence[AskedTry]], value: Value, m: int) -> Range:
    """Returns the sum over m further questions, with the ends of its 90% prediction interval (by Student's t).

    If all questions so far brought equally many traces, the variance is that of a share.
    """
    n, values = len(each), [value(tries) for tries in each]
    if not m or not n:
        return {"low": 0.0, "mid": 0.0, "high": 0.0}
    mean, top = math.fsum(values) / n, max(values)
    if n < 2:
        return {"low": None, "mid": mean * m, "high": None}
    variance = sample_variance(values)
    if value is _accepted and len(set(values)) == 1:
        variance = max(top, 1.0) ** 2 * share_variance(n if top else 0, n)
    half = half_width(variance, n, m, student_quantile(n - 1, Z90))
    return {"low": max(0.0, mean * m - half), "mid": mean * m, "high": mean * m + half}


def _ratio(each: Sequence[Sequence[AskedTry]]) -> Range | None:
    """Returns the cost of an accepted trace: the ratio of two means, with its 90% interval (by the delta method)."""
    n, costs, counts = len(each), [_cost(t) for t in each], [_accepted(t) for t in each]
    accepted = math.fsum(counts)
    if not accepted:
        return None
    ratio = math.fsum(costs) / accepted
    if n < 2:
        return {"low": None, "mid": usd(round(ratio)), "high": None}
    off = math.fsum((c - ratio * a) ** 2 for c, a in zip(costs, counts, strict=True)) / (n - 1)
    half = student_quantile(n - 1, Z90) * math.sqrt(off / n) / (accepted / n)
    return {"low": usd(max(0, round(ratio - half))), "mid": usd(round(ratio)), "high": usd(round(ratio + half))}


def _seconds(each: Sequence[Sequence[AskedTry]], rest: Rest, at_once: int) -> Range:
    """Returns how long the open questions will take, in seconds, with `at_once` requests in flight."""
    found = _sum(each, _time, rest.open)
    n = len(each)
    by_rate = rest.open * sum(map(len, each)) / n / rest.rate if n and rest.rate else 0.0
    longest = max((_time(tries) for tries in each), default=0.0) if rest.open else 0.0
    return {
        end: None if value is None else round(max(value / at_once, by_rate, longest), 1) for end, value in found.items()
    }


def _questions_under_cap(each: Sequence[Sequence[AskedTry]], rest: Rest) -> int | None:
    """Returns how many of the run's questions its cap is enough for, by the mean; None without a cap or a pilot."""
    if rest.cap_pusd is None or not each:
        return None
    mean = math.fsum(map(_cost, each)) / len(each)
    left = rest.cap_pusd - rest.spent_pusd - rest.in_doubt_pusd
    return rest.total if not mean else min(rest.total, rest.total - rest.open + max(0, int(left / mean)))
