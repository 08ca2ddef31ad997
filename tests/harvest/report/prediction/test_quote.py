"""A quote holds the true cost of the whole run as often as it says, and reckons from what a pilot brought alone."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvest.core.config import RunConfig
from harvest.core.money import Price, pusd
from harvest.core.nouns import Attempt
from harvest.endpoint import Tariff
from harvest.report.prediction.quote import Rest, in_words, quote
from harvest.store import AskedTry, BoughtAttempt

NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
PILOT, RESAMPLES = 30, 200


def pusd_of(amount_usd: str) -> int:
    return pusd(Decimal(amount_usd))


def config(**more: Any) -> RunConfig:
    teacher = {"base_url": "https://x.example/v1", "model": "m", "price_usd_per_mtok": {"input": "1", "output": "10"}}
    return RunConfig.model_validate({"name": "r", "questions": "q.jsonl", "teacher": teacher, **more})


def price(per_output: str) -> Price:
    return Price(Decimal(1), Decimal(1), Decimal(per_output), "config")


FIXED = Tariff("config", lambda *_: price("10"))


def one(question: int, cost: int, *, accepted: bool = True, tokens: int = 100, **more: Any) -> AskedTry:
    at_rest = {"kind": "teacher", "teacher": 0, "sample": 0, "cut": False, "seconds": 2.0}
    at_rest |= {"in_doubt": False, "unpriced": False, "reused": False}
    told = {"input_tokens": 10, "cached_input_tokens": 0, "output_tokens": tokens, "is_answer": True}
    return AskedTry(question_id=question, cost=cost, accepted=accepted, **{**at_rest, **told, **more})


def rest(total: int, pilot: list[AskedTry], **more: Any) -> Rest:
    spent, accepted = sum(t.cost for t in pilot), sum(t.accepted for t in pilot)
    known = {"in_doubt_pusd": 0, "cap_pusd": None, "rate": None, "open": total - len({t.question_id for t in pilot})}
    return Rest(total=total, spent_pusd=spent, accepted=accepted, **{**known, **more})


def quoted(tries: list[AskedTry], rest_: Rest, tariff: Tariff | None = FIXED, **more: Any) -> dict[str, Any]:
    settings = config(**more)
    bought = [
        bought_by(n, one, settings.sampling.max_tokens) for n, one in enumerate(tries, 1) if one.kind == "teacher"
    ]
    return quote(settings, tries, bought, sorted({t.question_id for t in tries}), rest_, {0: tariff}, NOON)


def bought_by(n: int, t: AskedTry, max_tokens: int) -> BoughtAttempt:
    reason = None if t.accepted else "truncated" if t.cut else "wrong"
    attempt = Attempt(n, t.sample, max_tokens, "answered", t.accepted, reason)
    return BoughtAttempt(t.question_id, attempt, t.cost, t.unpriced, t.input_tokens or 0, 0, t.output_tokens or 0)


def recorded(shared: Path) -> Iterator[AskedTry]:
    """400 real answers of Qwen3, at 10 USD for a million tokens of four characters; what was cut is rejected."""
    lines = (shared / "data/traces/qwen3.jsonl").read_text("utf-8").splitlines()
    for n, row in enumerate(map(json.loads, lines)):
        tokens = len((row.get("reasoning") or "") + (row.get("answer") or "")) // 4
        whole = row["finish_reason"] != "length"
        yield one(n, pusd(Decimal(tokens) / 100_000), accepted=whole, tokens=tokens, cut=not whole)


def test_the_true_cost_and_yield_lie_in_the_interval_as_often_as_it_says(shared: Path) -> None:
    run = list(recorded(shared))
    cost, accepted = sum(t.cost for t in run), sum(t.accepted for t in run)
    held, traces, widths = 0, 0, []
    for seed in range(RESAMPLES):
        pilot = random.Random(seed).sample(run, PILOT)
        found = quoted(pilot, rest(len(run), pilot))
        low, mid, high = (pusd_of(found["usd"][end]) for end in ("low", "mid", "high"))
        held += low <= cost <= high
        traces += found["accepted"]["low"] <= accepted <= found["accepted"]["high"]
        widths.append((high - low) / 2 / mid)
    assert held >= 0.85 * RESAMPLES
    assert traces >= 0.85 * RESAMPLES
    assert max(widths) < 0.4


def test_a_run_whose_questions_have_all_ended_costs_what_it_cost() -> None:
    run = [one(n, 1000 + n) for n in range(40)]
    found = quoted(run, rest(40, run))
    assert found["usd"]["low"] == found["usd"]["mid"] == found["usd"]["high"]
    assert pusd_of(found["usd"]["mid"]) == sum(t.cost for t in run)


def test_one_question_gives_no_interval_and_says_so() -> None:
    found = quoted([one(1, 5)], rest(10, [one(1, 5)]))
    assert (found["usd"]["low"], found["usd"]["high"]) == (None, None)
    assert any("too few questions" in line for line in in_words(found))


def test_a_price_that_nobody_knows_is_said_to_be_unknown() -> None:
    tries = [one(n, 0, unpriced=True) for n in range(5)]
    found = quoted(tries, rest(10, tries), None)
    assert found["usd"] is None
    assert found["pilot"]["usd"] is None
    assert found["usd_per_accepted_trace"] is None
    assert any("nobody knows" in line for line in in_words(found))
    assert "$" not in " ".join(in_words(found))


def test_a_try_in_doubt_counts_in_full_and_is_named() -> None:
    tries = [one(1, 100), one(2, 900, in_doubt=True, accepted=False, is_answer=False)]
    found = quoted(tries, rest(2, tries[:1], open=0, in_doubt_pusd=900))
    assert pusd_of(found["usd"]["mid"]) == 1000
    assert found["pilot"]["in_doubt"] == 1
    assert any("1 tries are in doubt" in line for line in in_words(found))


def test_answers_that_the_store_had_count_as_if_bought_and_are_named() -> None:
    tries = [one(n, 50, reused=n < 6) for n in range(10)]
    found = quoted(tries, rest(100, [], open=90))
    assert (pusd_of(found["pilot"]["usd"]), found["pilot"]["reused"]) == (200, 6)
    assert pusd_of(found["usd"]["mid"]) == 90 * 50
    assert any("6 of the answers were in the store already" in line for line in in_words(found))


def test_all_accepted_in_the_pilot_does_not_promise_all_of_the_run() -> None:
    tries = [one(n, 10) for n in range(30)]
    found = quoted(tries, rest(1000, tries))["accepted"]
    assert found["low"] < 1000 == found["mid"] == found["high"]


def test_a_lower_token_limit_costs_less_and_loses_what_is_longer() -> None:
    tries = [one(n, 100 if n % 2 else 1000, tokens=10 if n % 2 else 100) for n in range(10)]
    found = quoted(tries, rest(10, tries), sampling={"max_tokens": 200})
    quartered, following = found["instead"][:2]
    assert quartered["what"] == "max_tokens = 50"
    assert quartered["accepted"]["mid"] == 5
    assert pusd_of(quartered["usd"]["mid"]) < pusd_of(found["usd"]["mid"])
    assert following["what"] == "samples = 4"  # at 100 nothing would be cut, so nothing is said of it


def test_the_cheapest_hours_are_named_where_the_price_depends_on_the_hour() -> None:
    by_hour = Tariff("genai-prices", lambda moment, *_: price("5" if moment.hour >= 16 else "10"))
    tries = [one(n, 10_000) for n in range(4)]
    found = quoted(tries, rest(8, tries), by_hour)["instead"]
    cheapest = next(o for o in found if "cheapest" in o["what"])
    assert cheapest["what"].startswith("asked from 16:00 to 00:00 UTC")
    dearest = next(o for o in found if "dearest" in o["what"])
    assert pusd_of(cheapest["usd"]["mid"]) < pusd_of(dearest["usd"]["mid"])


def test_what_the_student_and_the_judge_were_asked_costs_money_and_brings_no_trace() -> None:
    tries = [one(n, 100, kind=kind) for n in range(4) for kind in ("teacher", "student", "judge")]
    found = quoted(tries, replace(rest(8, tries), accepted=4))
    assert (found["pilot"]["answers"], found["pilot"]["accepted"]) == (4, 4)
    assert found["accepted"]["mid"] == 8
    assert pusd_of(found["usd"]["mid"]) == 2400
    assert found["questions"] == {"total": 8, "open": 4}


def test_a_trace_costs_what_all_answers_cost_and_its_interval_is_that_of_a_ratio() -> None:
    tries = [one(n, 100 if n % 4 else 200, accepted=n % 4 != 0) for n in range(40)]
    found = {end: pusd_of(v) for end, v in quoted(tries, rest(80, tries))["usd_per_accepted_trace"].items()}
    assert found["mid"] == 167
    assert found["low"] == pytest.approx(125, abs=3)
    assert found["high"] == pytest.approx(208, abs=3)
    assert quoted(tries, rest(80, tries))["pilot"]["tokens_a_trace"] == 110


def test_the_time_is_no_shorter_than_the_longest_question_and_counts_the_slots_of_a_local_teacher() -> None:
    tries = [one(n, 10, seconds=400.0 if n == 3 else 1.0) for n in range(10)]
    assert quoted(tries, rest(12, tries))["seconds"]["mid"] == 400.0
    local = config(teacher={"local": "SmolLM2-135M-Instruct"})
    tries = [one(n, 0) for n in range(10)]
    found = quote(local, tries, [], list(range(10)), rest(1010, tries), {0: FIXED}, NOON)
    assert (found["at_once"], found["seconds"]["mid"]) == (4, 500.0)


def test_the_cap_is_enough_for_what_is_left_of_it() -> None:
    tries = [one(n, 100) for n in range(10)]
    found = quoted(tries, rest(100, tries, in_doubt_pusd=500, cap_pusd=3500))
    assert found["questions_under_cap"] == 10 + 20
    assert any("is enough for about 30 of 100 questions" in line for line in in_words(found))
    enough = quoted(tries, rest(100, tries, cap_pusd=10_000))
    assert enough["questions_under_cap"] == 100
    assert any("is enough" in line and "about" not in line for line in in_words(enough))


def test_a_rate_that_the_endpoint_allows_sets_the_time() -> None:
    tries = [one(n, 10) for n in range(10)]
    fast = quoted(tries, rest(1010, tries))["seconds"]["mid"]
    assert fast == pytest.approx(1000 * 2.0 / 256, abs=0.1)
    assert quoted(tries, rest(1010, tries, rate=2.0))["seconds"]["mid"] == 500.0


@given(
    st.lists(st.tuples(st.integers(0, 10**12), st.booleans()), min_size=2, max_size=40),
    st.integers(0, 10_000),
)
def test_a_quote_is_never_below_what_is_spent_and_its_ends_are_in_order(
    asked: list[tuple[int, bool]], more: int
) -> None:
    tries = [one(n, cost, accepted=accepted) for n, (cost, accepted) in enumerate(asked)]
    found = quoted(tries, rest(len(asked) + more, tries))
    low, mid, high = (pusd_of(found["usd"][end]) for end in ("low", "mid", "high"))
    assert sum(cost for cost, _ in asked) <= low <= mid <= high
    accepted = found["accepted"]
    assert sum(a for _, a in asked) <= accepted["low"] <= accepted["mid"] <= accepted["high"] <= len(asked) + more
    assert list(in_words(found))
