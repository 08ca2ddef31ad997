"""What a run would have been under other settings is what such a run is, and what nobody can know is not made up."""

import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from harvest.asking.planning.plan import TRUNCATED, next_step, rules_of
from harvest.core.config import RunConfig
from harvest.core.money import Price, pusd
from harvest.core.nouns import STUDENT, Attempt
from harvest.core.teachers import Student
from harvest.endpoint import Tariff
from harvest.report.prediction.odds import odds_of
from harvest.report.prediction.what_if import cut_answers, tariffs_of, what_if
from harvest.store import BoughtAttempt

NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
USD = 1_000_000
"""A picodollar price of 1 USD for a million tokens, for one token."""
LIMIT = 1000
Rows = dict[str, dict[str, Any]]


def config(*teachers: dict[str, Any], **more: Any) -> RunConfig:
    who = {"base_url": "https://x.example/v1", "model": "m"}
    asked = {"teachers": [who | t for t in teachers]} if teachers else {"teacher": who}
    return RunConfig.model_validate({"name": "r", "questions": "q.jsonl", **asked, **more})


def sampled(**settings: int) -> RunConfig:
    return config(sampling={"max_tokens": LIMIT, **settings})


def tariff(per_output: str = "10") -> Tariff:
    return Tariff("config", lambda *_: Price(Decimal(1), Decimal(1), Decimal(per_output), "config"))


def run(settings: RunConfig, questions: int, seed: str) -> list[BoughtAttempt]:
    """A run as its plan makes it. Each question has a share of right answers of its own; wrong answers are longer."""
    rules, bought = rules_of(settings), list[BoughtAttempt]()
    for q in range(questions):
        share = random.Random(f"question {q}").betavariate(0.6, 0.6)
        attempts: list[Attempt] = []
        while asks := next_step(attempts, rules).asks:
            for ask in asks:
                draw = random.Random(f"{seed}/{q}/{ask.sample}")
                right = draw.random() < share
                tokens = int(draw.lognormvariate(5.0 if right else 5.8, 0.7)) + 20
                found = answer(q, len(bought) + 1, ask.sample, min(tokens, ask.max_tokens), right=right)
                asked = replace(found.attempt, max_tokens=ask.max_tokens)
                if tokens > ask.max_tokens:
                    asked = replace(asked, accepted=False, reason=TRUNCATED)
                bought.append(replace(found, attempt=asked))
                attempts.append(asked)
    return bought


def answer(question: int, n: int, sample: int, tokens: int, *, right: bool = True, **more: Any) -> BoughtAttempt:
    attempt = Attempt(n, sample, LIMIT, "answered", right, None if right else "wrong", more.pop("teacher", 0))
    cost = more.pop("cost", USD * (50 + 10 * tokens))
    return BoughtAttempt(question, attempt, cost, False, 50, 0, tokens, **more)


def rows(settings: RunConfig, bought: Iterable[BoughtAttempt], *tariffs: Tariff | None) -> Rows:
    found = what_if(settings, list(bought), dict(enumerate(tariffs or (tariff(),))), NOON)
    return {row["what"]: row for row in found}


@pytest.mark.parametrize("stop", [4, 1])
def test_other_settings_bring_what_such_a_run_brings(stop: int) -> None:
    base = {"samples": 4, "stop_after_accepted": stop}
    found = rows(sampled(**base), run(sampled(**base), 1000, "base"))
    for what, row in found.items():
        name, is_setting, value = what.partition(" = ")
        settings = base | {name: int(value)} if is_setting else base
        settings["stop_after_accepted"] = min(settings["stop_after_accepted"], settings["samples"])
        really = run(sampled(**settings), 1000, "other")
        assert row["output_tokens"]["mid"] == pytest.approx(sum(b.output_tokens for b in really), rel=0.1), what
        assert row["accepted"]["mid"] == pytest.approx(sum(b.attempt.accepted is True for b in really), rel=0.1), what
        assert pusd(Decimal(row["usd"]["mid"])) == pytest.approx(sum(b.cost for b in really), rel=0.1), what
        # Samples that nobody bought are not known, and all else is.
        is_more = row["basis"] == "estimated"
        assert is_more == (what in ("samples = 16", "max_tokens = 2000") or (what == "stop_after_accepted = 4"))
        assert is_more == (row["accepted"]["low"] < row["accepted"]["high"])
    assert len(found) == 7


def test_no_more_answers_are_accepted_than_the_settings_keep() -> None:
    bought = [answer(q, 2 * q + s, s, 100, right=s == 1 or q > 5) for q in range(60) for s in range(1 if q > 5 else 2)]
    more = rows(sampled(samples=2), bought)["samples = 4"]["accepted"]
    assert more["low"] <= more["mid"] <= more["high"] <= 60


def test_the_run_as_it_was_is_what_was_paid_for_it() -> None:
    bought = run(sampled(samples=2), 50, "s")
    was = rows(sampled(samples=2), bought)["as it was"]
    assert pusd(Decimal(was["usd"]["mid"])) == sum(b.cost for b in bought)
    assert was["basis"] == "replayed"


def test_more_samples_are_unknown_when_every_question_has_one_answer() -> None:
    found = rows(sampled(), run(sampled(), 500, "s"))
    assert found["samples = 4"]["basis"] == "unknown"
    assert found["samples = 4"]["accepted"] is None
    assert "too few questions" in found["samples = 4"]["because"]


def test_a_longer_limit_is_unknown_when_hardly_an_answer_is_long() -> None:
    few = [answer(n, n + 1, 0, 30) for n in range(30)]
    cut = replace(few[0].attempt, accepted=False, reason=TRUNCATED)
    found = rows(sampled(), [replace(few[0], attempt=cut, output_tokens=LIMIT), *few[1:]])
    assert found["max_tokens = 2000"]["basis"] == "unknown"
    assert "longer than half of the limit" in str(found["max_tokens = 2000"]["because"])


def test_majorities_under_other_samples_are_unknown() -> None:
    settings = config(sampling={"max_tokens": LIMIT, "samples": 4}, checks={"without_gold": "majority"})
    found = rows(settings, run(sampled(samples=4), 100, "s"))
    assert {row["basis"] for what, row in found.items() if what.startswith("samples")} == {"unknown"}


def test_the_cheapest_teacher_first_solves_what_it_can_and_leaves_the_rest() -> None:
    dear, cheap = (
        {"model": "dear", "sampling": {"max_tokens": LIMIT}},
        {"model": "cheap", "sampling": {"max_tokens": LIMIT}},
    )
    bought = []
    for q in range(100):  # the dear teacher fails at half of the questions, and the cheap one at half of the others
        bought.append(answer(q, 2 * q + 1, 0, 500, right=q % 2 == 0, cost=1000))
        if q % 2:
            bought.append(answer(q, 2 * q + 2, 0, 500, right=q % 4 == 1, cost=10, teacher=1))
    found = rows(config(dear, cheap), bought, tariff(), tariff())["the cheapest teacher first"]
    # The cheap one was asked 50 questions and did 25. The dear one did the other 50, of which the cheap one may do all,
    # or as few as of the first.
    assert found["basis"] == "estimated"
    assert found["accepted"]["mid"] == 75
    low, mid, high = (pusd(Decimal(found["usd"][end])) for end in ("low", "mid", "high"))
    assert low <= 100 * 10 + 25 * 1000 < mid == 100 * 10 + 50 * 1000 < high < 100 * 10 + 65 * 1000
    twice = cheap | {"sampling": {"max_tokens": LIMIT, "samples": 2}}
    unknown = rows(config(dear, twice), bought, tariff(), tariff())["the cheapest teacher first"]
    assert unknown["basis"] == "unknown"  # nobody asked it the same question twice
    every = config(dear, cheap, plan={"teachers": "all"})
    assert "the cheapest teacher first" not in rows(every, bought, tariff(), tariff())


def test_a_filter_that_is_left_out_lets_its_answers_pass_and_the_question_is_not_asked_again() -> None:
    refused = answer(1, 1, 0, 100, right=False, refused_by=frozenset({"language"}))
    refused = replace(refused, attempt=replace(refused.attempt, reason="language"))
    bought = [refused, answer(1, 2, 1, 100), answer(2, 3, 0, 100, refused_by=frozenset({"meta"}))]
    settings = config(sampling={"max_tokens": LIMIT, "samples": 2}, checks={"require": ["correct", "language"]})
    found = rows(settings, bought)
    without, stricter = found["checks.require without language"], found["checks.require with meta"]
    assert without["accepted"]["mid"] == 2
    assert without["output_tokens"]["mid"] == 200
    assert stricter["basis"] == "unknown"  # question 2 would have been asked once more


def test_other_hours_change_the_cost_alone() -> None:
    def price(moment: datetime, *_: Any) -> Price:
        return Price(Decimal(0), Decimal(0), Decimal(20 if moment.hour < 8 else 10), "genai-prices")

    bought = [answer(q, q + 1, 0, 100, cost=1000 * USD) for q in range(10)]
    found = rows(sampled(), bought, Tariff("genai-prices", price))
    dearest = next(row for what, row in found.items() if "dearest" in what)
    assert dearest["what"] == "asked from 00:00 to 08:00 UTC (dearest price)"
    assert pusd(Decimal(dearest["usd"]["mid"])) == 20_000 * USD
    assert dearest["accepted"]["mid"] == 10
    assert not any("batch" in what for what in found)


PRICED = {"price_usd_per_mtok": {"input": "1", "output": "10"}, "batch_discount": "0.5"}


@pytest.mark.parametrize(("mode", "what", "cost"), [("live", "in batches", 900), ("batch", "asked live", 2400)])
def test_the_other_mode_costs_what_its_price_says(mode: str, what: str, cost: int) -> None:
    """The models that judge and rewrite are asked live in each case: 40 USD of 140 do not change."""
    settings = config(sampling={"max_tokens": LIMIT})
    settings = RunConfig.model_validate(
        settings.model_dump(exclude_unset=True)
        | {"teacher": {"base_url": "https://x.example/v1", "model": "m", "mode": mode} | PRICED}
    )
    bought = [answer(q, q + 1, 0, 100, cost=140 * USD, about_cost=40 * USD) for q in range(10)]
    found = rows(settings, bought, *tariffs_of(settings).values())
    assert pusd(Decimal(found[what]["usd"]["mid"])) == cost * USD
    assert found[what]["accepted"]["mid"] == 10
    free = RunConfig.model_validate({"name": "r", "questions": "q", "teacher": {"local": "SmolLM2-135M-Instruct"}})
    assert not any("batch" in name for name in rows(free, [answer(1, 1, 0, 5, cost=0)], *tariffs_of(free).values()))


def test_an_answer_that_would_be_cut_is_not_rewritten() -> None:
    bought = [answer(q, q + 1, 0, LIMIT, cost=USD * 10_100, about_cost=USD * 50) for q in range(10)]
    cut = rows(sampled(), bought)["max_tokens = 500"]
    assert pusd(Decimal(cut["usd"]["mid"])) == 10 * USD * (50 + 10 * 500)


def test_a_longer_limit_costs_what_longer_answers_cost() -> None:
    """The lengths are such that each doubling of the limit lets half of what is cut end, as a power law says."""
    bought = []
    for q in range(4000):
        length = int(100 / random.Random(f"length {q}").random())
        found = answer(q, q + 1, 0, min(length, LIMIT), cost=10 * USD * min(length, LIMIT))
        if length > LIMIT:
            found = replace(found, attempt=replace(found.attempt, accepted=False, reason=TRUNCATED))
        bought.append(found)
    longer = rows(sampled(), bought)["max_tokens = 2000"]
    more = longer["output_tokens"]["mid"] - sum(b.output_tokens for b in bought)
    assert more == pytest.approx(sum(min(int(100 / random.Random(f"length {q}").random()), 2 * LIMIT)
                                     for q in range(4000)) - sum(b.output_tokens for b in bought), rel=0.1)  # fmt: skip
    assert pusd(Decimal(longer["usd"]["mid"])) == pytest.approx(10 * USD * longer["output_tokens"]["mid"], rel=0.001)


def test_an_estimate_says_how_well_the_length_of_answers_is_known() -> None:
    base = run(sampled(samples=2), 200, "s")
    alike = [replace(b, output_tokens=200, cost=200) for b in base]
    apart = [replace(b, output_tokens=n % 2 * 400, cost=n % 2 * 400) for n, b in enumerate(base)]
    widths = [(of["high"] - of["low"]) for bought in (alike, apart)
              for of in [rows(sampled(samples=2), bought)["samples = 4"]["output_tokens"]]]  # fmt: skip
    assert widths[1] > 1.2 * widths[0]
    longer = rows(sampled(), run(sampled(), 300, "s"))["max_tokens = 2000"]["output_tokens"]
    assert longer["low"] < longer["mid"] < longer["high"]


def test_an_answer_that_never_came_is_not_made_up() -> None:
    bought = run(sampled(samples=2), 60, "s")
    lost = replace(bought[0].attempt, state="open", accepted=None, reason=None)
    found = rows(sampled(samples=2), [replace(bought[0], attempt=lost), *bought[1:]])
    assert found["samples = 1"]["basis"] == "unknown"


def test_an_answer_that_is_asked_for_again_after_a_cut_is_drawn_as_it_ends() -> None:
    settings = config(sampling={"max_tokens": LIMIT, "samples": 2, "when_truncated": "raise"})
    found = rows(settings, run(settings, 300, "s"))
    assert not any(what.startswith("max_tokens") for what in found)
    assert found["samples = 4"]["accepted"]["mid"] > found["as it was"]["accepted"]["mid"]
    really = run(config(sampling={"max_tokens": LIMIT, "samples": 4, "when_truncated": "raise"}), 300, "other")
    assert found["samples = 4"]["accepted"]["mid"] == pytest.approx(
        sum(b.attempt.accepted is True for b in really), rel=0.1
    )


def test_a_quote_of_the_whole_multiplies_the_pilot() -> None:
    bought = run(sampled(samples=2), 50, "s")
    once, thrice = (what_if(sampled(samples=2), bought, {0: tariff()}, NOON, scale)[0] for scale in (1.0, 3.0))
    assert thrice["output_tokens"]["mid"] == 3 * once["output_tokens"]["mid"]
    assert pusd(Decimal(thrice["usd"]["mid"])) == 3 * pusd(Decimal(once["usd"]["mid"]))


def test_what_the_student_was_asked_stays_as_it_was() -> None:
    by_student = answer(0, 1, 0, 100, teacher=STUDENT, cost=7000)
    bought = [by_student, *(answer(q, q + 1, s, 100, cost=100) for q in range(1, 5) for s in range(2))]
    found = rows(sampled(samples=2, stop_after_accepted=2), bought)
    assert pusd(Decimal(found["samples = 1"]["usd"]["mid"])) == 7000 + 400
    assert found["as it was"]["accepted"]["mid"] == 8
    asked = PRICED | {"base_url": "https://x.example/v1", "model": "m"}
    student = {"base_url": "https://x.example/v1", "model": "s", "price_usd_per_mtok": {"input": "1", "output": "1"}}
    settings = RunConfig.model_validate(
        {"name": "r", "questions": "q", "teacher": asked, "student": student, "sampling": {"max_tokens": LIMIT}}
    )
    batch = what_if(settings, bought, tariffs_of(settings), NOON)
    costs = {row["what"]: pusd(Decimal(row["usd"]["mid"])) for row in batch}
    assert costs["in batches"] == 7000 + 400
    listed = settings.model_copy(update={"student": Student(base_url="https://api.openai.com/v1", model="gpt-4o-mini")})
    of_student = tariffs_of(listed, "batch")[STUDENT]
    assert of_student is not None
    assert "batch" not in of_student.source


def test_an_unknown_cost_leaves_the_tokens_and_traces() -> None:
    bought = [replace(b, unpriced=True) for b in run(sampled(samples=2, stop_after_accepted=2), 50, "s")]
    found = rows(sampled(samples=2, stop_after_accepted=2), bought, None)["samples = 1"]
    assert found["usd"] is None
    assert found["accepted"]["mid"] > 0


def test_what_went_into_cut_answers_is_counted() -> None:
    bought = run(sampled(), 300, "s")
    cut = [b for b in bought if b.attempt.reason == TRUNCATED]
    found = cut_answers(bought)
    assert found is not None
    assert found["answers"] == len(cut) > 0
    assert found["output_tokens"] == LIMIT * len(cut)
    assert found["max_tokens"] == [LIMIT, LIMIT]
    assert pusd(Decimal(found["usd"])) == sum(b.cost for b in cut)
    assert (cut_answers([replace(b, unpriced=True) for b in bought]) or {})["usd"] is None
    assert cut_answers([b for b in bought if b not in cut]) is None


def test_the_odds_are_those_that_drew_the_answers() -> None:
    draw, counts = random.Random(1), dict[tuple[int, int], int]()
    for _ in range(3000):
        share = draw.betavariate(1.2, 0.4)
        of = (4, sum(draw.random() < share for _ in range(4)))
        counts[of] = counts.get(of, 0) + 1
    found = odds_of(counts)
    assert found is not None
    low, mid, high = found
    assert low.mean < 0.75 < high.mean
    assert low.weight is not None
    assert high.weight is not None
    assert low.weight < 1.85
    assert high.weight > 1.35
    assert mid.weight == pytest.approx(1.6, rel=0.15)
    after = [mid.after(right, 4) or 0.0 for right in (0, 2, 4)]
    assert after == sorted(set(after))
    once = odds_of({(1, 1): 700, (1, 0): 300})
    assert once is not None
    assert once[0].mean < 0.7 < once[2].mean
    assert once[1].after(0, 0) == pytest.approx(0.7)
    assert once[1].after(1, 1) is None
    assert odds_of({(2, 1): 19, (0, 0): 1000}) is None
