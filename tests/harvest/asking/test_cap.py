"""The cap is used as far as it goes and never passed; what an endpoint bills beyond its limit ends the asking."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from conftest import Place
from scripted_endpoint import Endpoint, Say, overbill

from harvest.core.money import pusd

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]
WORST_OUTPUT = Decimal("0.001")
"""100 tokens at $10.00 a million."""


def test_the_cap_is_used_to_the_last_answers_that_fit(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(lambda _: Say(delay_s=0.02))
    p = place(teacher.url, 300, budget__usd="0.03")
    assert here(p) == 3
    report = p.report
    assert report["run"]["status"] == "stopped_at_cap"
    assert report["pace"]["limited_by"] == "cap"
    assert p.money("in_doubt") == 0
    assert Decimal("0.95") * Decimal("0.03") <= p.money("spent") <= Decimal("0.03")
    assert teacher.billed_pusd == pusd(p.money("spent"))


def test_what_waits_for_money_is_not_counted_as_in_flight(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(lambda _: Say(delay_s=0.2))
    p = place(teacher.url, 100, budget__usd="0.006", teacher__max_concurrency=50)
    assert here(p) == 3
    assert p.report["pace"]["limited_by"] == "cap"
    assert p.report["pace"]["peak_in_flight"] == teacher.peak <= 6


def test_a_higher_cap_goes_on_and_asks_nothing_twice(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint()
    p = place(teacher.url, 60, budget__usd="0.01")
    assert here(p) == 3
    bought = p.report["attempts"]["answered"]
    assert 0 < bought < 60
    p.settings["budget"]["usd"] = "1.00"
    assert here(p) == 0
    assert p.report["questions"]["solved"] == 60
    assert p.report["attempts"]["in_doubt"] == 0
    assert len(teacher.asked) == len({a.digest for a in teacher.asked}) == 60


def test_a_cap_below_one_answer_asks_nothing(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint()
    p = place(teacher.url, 3, budget__usd="0.0001")
    assert here(p) == 3
    assert teacher.asked == []


def test_an_endpoint_that_bills_beyond_its_limit_is_booked_and_asked_no_more(
    endpoint: Endpoints, place: Places, here: Any
) -> None:
    teacher = endpoint(overbill(10))
    p = place(teacher.url, 100, teacher__max_concurrency=4)
    assert here(p, overbilled=True) == 5
    report = p.report
    assert report["run"]["status"] == "overbilled"
    assert 1 <= len(teacher.asked) <= 4
    assert pusd(p.money("spent")) == teacher.billed_pusd
    assert report["questions"]["open"] >= 96


def test_an_overbilled_failure_stops_the_asking_too(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(lambda a: Say(output_tokens=a.limit * 3, finish="content_filter"))
    p = place(teacher.url, 50, teacher__max_concurrency=1)
    assert here(p, overbilled=True) == 5
    assert len(teacher.asked) == 1
    assert pusd(p.money("spent")) == teacher.billed_pusd


def test_overbilling_stands_above_a_refusal_that_came_first(endpoint: Endpoints, place: Places, here: Any) -> None:
    first = [Say(), Say(status=401, delay_s=0.1)]
    teacher = endpoint(lambda a: first[a.n] if a.n < 2 else Say(output_tokens=100_000, delay_s=0.4))
    p = place(teacher.url, 3)
    assert here(p, overbilled=True) == 5
    assert pusd(p.money("spent")) == teacher.billed_pusd


def test_what_the_endpoint_says_it_cost_is_booked(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(lambda _: Say(usage_more={"cost": 0.000123456789}))
    p = place(teacher.url, 2)
    assert here(p) == 0
    assert p.report["money"]["price_source"] == "usage.cost"
    assert p.report["money"]["spent_usd"] == "0.000246913578"


def test_an_unpriced_teacher_that_names_its_cost_is_asked_on(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(lambda _: Say(usage_more={"cost": 0.5}))
    p = place(teacher.url, 3, teacher__price_usd_per_mtok=None, budget__usd="none")
    assert here(p) == 0
    assert p.money("spent") == Decimal("1.5")


def test_a_teacher_of_unknown_price_is_asked_without_a_cap_only_if_that_is_said(
    endpoint: Endpoints, place: Places
) -> None:
    teacher = endpoint()
    p = place(teacher.url, 3, teacher__price_usd_per_mtok=None, budget__usd=None)
    code, _, err = p.collect()
    assert (code, teacher.asked, err.count("\n")) == (2, [], 1)
    assert 'budget.usd = "none"' in err
    assert '{ input = "0", output = "0" }' in err
    code, out, err = p.collect("--budget.usd", "none")
    assert code == 0, err
    assert "at a cost that nobody knows" in out
    assert "$0.00" not in out + err
    p.settings["teacher"]["price_usd_per_mtok"] = {"input": "0", "output": "0"}
    p.settings["name"] = "own"
    code, _, err = p.collect()
    assert code == 0, err


def test_a_priced_teacher_is_never_asked_without_a_cap(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint()
    code, _, err = place(teacher.url, 3, budget__usd="none").collect()
    assert (code, teacher.asked) == (2, [])
    assert "priced (by config) and the run has no cap" in err


def test_an_unpriced_teacher_is_counted_and_never_free(endpoint: Endpoints, place: Places, here: Any) -> None:
    p = place(endpoint().url, 3, teacher__price_usd_per_mtok=None, budget__usd="none")
    assert here(p) == 0
    money = p.report["money"]
    assert money["unpriced_calls"] == 3
    assert money["price_source"] == "none"
    assert money["usd_per_accepted_trace"] is None


@pytest.mark.parametrize(
    "extra",
    [{"max_tokens": 100_000}, {"max_completion_tokens": 100_000}, {"n": 5}, {"messages": []}, {"stream": True}],
    ids=lambda e: next(iter(e)),
)
def test_no_extra_can_pass_the_cap(extra: dict[str, Any], endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint()
    p = place(teacher.url, sampling__extra=extra)
    code, _, err = p.collect()
    assert code == 2
    assert f"sampling.extra.{next(iter(extra))}" in err or next(iter(extra)) in err
    assert teacher.asked == []


def test_tools_in_extra_count_as_input_that_may_be_billed(endpoint: Endpoints, place: Places, here: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f", "description": "x" * 50_000, "parameters": {}}}]
    teacher = endpoint(lambda _: Say(input_tokens=12_000))
    p = place(teacher.url, sampling__extra={"tools": tools})
    assert here(p) == 0
    assert p.money("spent") > Decimal("0.012")
