"""A quote holds the true cost of the whole run as often as it says, and reckons from what a pilot brought alone."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvest.core.config import RunConfig
from harvest.core.money import Price, pusd
from harvest.endpoint import Tariff
from harvest.report.quote import Rest, in_words, quote
from harvest.store import AskedTry

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


def one(question: int, cost: int | None, *, accepted: bool = True, tokens: int = 100, **more: Any) -> AskedTry:
    at_rest = {"kind": "teacher", "teacher": 0, "sample": 0, "doubt": None, "cut": False, "seconds": 2.0}
    told = {"input_tokens": 10, "cached_input_tokens": 0, "output_tokens": tokens, "is_answer": True}
    return AskedTry(question_id=question, cost=cost, accepted=accepted, **{**at_rest, **told, **more})


def rest(total: int, pilot: list[AskedTry], **more: Any) -> Rest:
    spent, accepted = sum(t.cost or 0 for t in pilot), sum(t.accepted for t in pilot)
    known = {"in_doubt_pusd": 0, "cap_pusd": None, "rate": None, "open": total - len({t.question_id for t in pilot})}
    return Rest(total=total, spent_pusd=spent, accepted=accepted, **{**known, **more})


def quoted(tries: list[AskedTry], rest_: Rest, tariff: Tariff | None = FIXED, **more: Any) -> dict[str, Any]:
    return quote(config(**more), tries, sorted({t.question_id for t in tries}), rest_, {0: tariff}, NOON)


def recorded(shared: Path) -> Iterator[AskedTry]:
    """400 real answers of Qwen3, at 10 USD for a million tokens of four characters; what was cut is rejected."""
    lines = (shared / "data/traces/qwen3.jsonl").read_text("utf-8").splitlines()
    for n, row in enumerate(map(json.loads, lines)):
        tokens = len((row.get("reasoning") or "") + (row.get("answer") or "")) // 4
        whole = row["finish_reason"] != "length"
        yield one(n, pusd(Decimal(tokens) / 100_000), accepted=whole, tokens=tokens, cut=not whole)


def test_the_true_cost_and_yield_lie_in_the_interval_as_often_as_it_says(shared: Path) -> None:
    run = list(recorded(shared))
    cost, accepted = sum(t.cost or 0 for t in run), sum(t.accepted for t in run)
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
    assert pusd_of(found["usd"]["mid"]) == sum(t.cost or 0 for t in run)


def test_one_question_gives_no_interval_and_says_so() -> None:
    found = quoted([one(1, 5)], rest(10, [one(1, 5)]))
    assert (found["usd"]["low"], found["usd"]["high"]) == (None, None)
    assert any("too few questions" in line for line in in_words(found))


def test_a_price_that_nobody_knows_is_said_to_be_unknown() -> None:
    tries = [one(n, None) for n in range(5)]
    found = quoted(tries, rest(10, tries), None)
    assert found["usd"] is None
    assert found["pilot"]["usd"] is None
    assert found["usd_per_accepted_trace"] is None
    assert any("nobody knows" in line for line in in_words(found))
    assert "$" not in " ".join(in_words(found))


def test_a_try_in_doubt_counts_in_full_and_is_named() -> None:
    tries = [one(1, 100), one(2, None, doubt=900, accepted=False, is_answer=False)]
    found = quoted(tries, rest(2, tries, in_doubt_pusd=900))
    assert pusd_of(found["usd"]["mid"]) == 1000
    assert found["pilot"]["in_doubt"] == 1
    assert any("1 tries are in doubt" in line for line in in_words(found))


def test_all_accepted_in_the_pilot_does_not_promise_all_of_the_run() -> None:
    tries = [one(n, 10) for n in range(30)]
    found = quoted(tries, rest(1000, tries))["accepted"]
    assert found["low"] < 1000 == found["mid"] == found["high"]


def test_a_lower_token_limit_costs_less_and_loses_what_is_longer() -> None:
    tries = [one(n, 100 if n % 2 else 1000, tokens=10 if n % 2 else 100) for n in range(10)]
    found = quoted(tries, rest(10, tries), sampling={"max_tokens": 200})
    halved, quartered = found["instead"][-1], found["instead"][0]
    assert quartered["what"] == "max_tokens = 50"
    assert quartered["accepted"] == 5
    assert pusd_of(quartered["usd"]) < pusd_of(found["usd"]["mid"])
    assert halved["what"] == "max_tokens = 50"  # at 100 nothing would be cut, so nothing is said of it


def test_the_cheapest_hours_are_named_where_the_price_depends_on_the_hour() -> None:
    by_hour = Tariff("genai-prices", lambda moment, *_: price("5" if moment.hour >= 16 else "10"))
    tries = [one(n, 10_000) for n in range(4)]
    found = quoted(tries, rest(8, tries), by_hour)["instead"]
    cheapest = next(o for o in found if "cheapest" in o["what"])
    assert cheapest["what"].startswith("asked from 16:00 to 00:00 UTC")
    assert pusd_of(cheapest["usd"]) < pusd_of(next(o for o in found if "dearest" in o["what"])["usd"])


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
