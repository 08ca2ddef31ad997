"""`collect` at an endpoint that fails as real ones do: every failure ends as field.md §2 says, and is in the report."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from books import audit_file, tries_by_question
from conftest import BARS, Place, scaled, sums
from scripted_endpoint import FAULTS, Asked, Endpoint, Say, Script, overbill

from harvest.commands.collect import collect as collect_run
from harvest.core.config import load
from harvest.core.money import pusd

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]
WORST_OUTPUT = Decimal("0.001")
"""100 tokens at $10.00 a million."""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Place], int]:
    """Runs `collect` in this process, for speed; the exit code. What holds of the command holds of the books too."""

    def run(place: Place, *, overbilled: bool = False) -> int:
        monkeypatch.setenv("WINNOW_RUNS", str(place.folder / "runs"))
        for name, value in place.env.items():
            monkeypatch.setenv(name, value)
        code = collect_run(load(place.toml), place.folder, skip_bad_rows=False, as_json=False)
        capsys.readouterr()
        books = audit_file(place.store, overbilled=overbilled)
        assert books["reserved"] == 0, "a start that ended holds money"
        report = place.report
        parts = sum(Decimal(v) for v in report["money"]["spent_on"].values())
        assert parts == Decimal(report["money"]["spent_usd"])
        return code

    return run


def first(say: Say) -> Script:
    """This for the first request, right answers afterwards."""
    return lambda asked: say if asked.n == 0 else Say()


def closed_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


CASES: dict[str, tuple[Say, str, bool, str]] = {
    # what the endpoint does, class, whether it is asked again, the money: none, doubt or usage
    "429": (Say(status=429, error="rate_limit"), "throttled", True, "none"),
    "429 with retry-after": (Say(status=429, headers={"retry-after": "1"}), "throttled", True, "none"),
    "429 with retry-after-ms": (Say(status=429, headers={"retry-after-ms": "30"}), "throttled", True, "none"),
    "503 html": (Say(status=503, raw=b"<html>Service Unavailable</html>"), "throttled", True, "none"),
    "529": (Say(status=529, error="overloaded_error"), "throttled", True, "none"),
    "500": (Say(status=500, error="server_error"), "passing", True, "none"),
    "502": (Say(status=502, raw=b""), "passing", True, "none"),
    "504": (Say(status=504, raw=b"upstream timed out"), "passing", True, "none"),
    "redirect": (Say(status=302, headers={"location": "/stolen"}, raw=b""), "passing", True, "none"),
    "reset after sending": (Say(reset=True), "cut", True, "doubt"),
    "half a body": (Say(cut_at=100), "cut", True, "doubt"),
    "half a body, then reset": (Say(cut_at=100, reset=True), "cut", True, "doubt"),
    "no status line": (Say(wire=b"\x00\x01garbage\r\n\r\n", made=True), "cut", True, "doubt"),
    "hung up without a word": (Say(wire=b"", made=True), "cut", True, "doubt"),
    "bad json": (Say(raw=b'{"choices": [oops'), "cut", True, "doubt"),
    "bad utf-8": (Say(raw=b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'), "cut", True, "doubt"),
    "html": (FAULTS["html"], "cut", True, "doubt"),
    "a thousand deep": (Say(raw=b"[" * 100_000), "cut", True, "doubt"),
    "unknown packing": (Say(headers={"content-encoding": "br"}), "cut", True, "doubt"),
    "not packed as said": (Say(headers={"content-encoding": "gzip"}), "cut", True, "doubt"),
    "late": (Say(delay_s=30), "late", True, "doubt"),
    "a drip of blank lines": (Say(forever=b"\n", made=True), "late", True, "doubt"),
    "an error in a 200": (Say(raw=b'{"error": {"message": "overloaded"}}'), "hollow", True, "doubt"),
    "no choices, without usage": (Say(usage=False, more={"choices": []}), "hollow", True, "doubt"),
    "no choices": (Say(more={"choices": []}), "hollow", True, "usage"),
    "null choices": (Say(more={"choices": None}), "hollow", True, "usage"),
    "empty answer": (Say(text="", chain=""), "hollow", True, "usage"),
    "packed a thousandfold": (Say(bomb=True, made=True), "too_large", False, "doubt"),
    "without an end": (Say(forever=b" " * (1 << 18), gap_s=0, made=True), "too_large", False, "doubt"),
    "400 context": (Say(status=400, error="context_length_exceeded"), "row", False, "none"),
    "413": (Say(status=413, raw=b""), "row", False, "none"),
    "422": (Say(status=422, error="invalid"), "row", False, "none"),
    "content filter": (Say(finish="content_filter"), "row", False, "usage"),
    "content filter, without usage": (Say(finish="content_filter", usage=False, made=False), "row", False, "none"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_failure_ends_as_its_class_says(name: str, endpoint: Endpoints, place: Places, here: Any) -> None:
    say, kind, again, money = CASES[name]
    teacher = endpoint(first(say))
    p = place(teacher.url, teacher__timeout_s=1.5 if kind == "late" else 20)
    assert here(p) == 0
    report = p.report
    assert report["attempts"]["failed"] == {kind: 1}
    assert len(teacher.asked) == (2 if again else 1)
    assert teacher.stray == [], "a redirect was followed"
    assert report["questions"]["solved" if again else "given_up"] == 1
    right, usage = Say().cost_pusd * again, say.cost_pusd if money == "usage" else 0
    assert pusd(p.money("spent")) == right + usage
    assert pusd(Decimal(report["money"]["spent_on"]["failed_usd"])) == usage
    doubt = p.money("in_doubt")
    assert (doubt > WORST_OUTPUT) if money == "doubt" else (doubt == 0)
    assert report["attempts"]["in_doubt"] == (money == "doubt")
    assert teacher.billed_pusd <= pusd(p.money("spent") + doubt)


def test_a_refused_connection_is_passing_and_costs_nothing(place: Places, here: Any) -> None:
    p = place(f"http://127.0.0.1:{closed_port()}/v1")
    assert here(p) == 0
    assert p.report["attempts"]["failed"] == {"passing": 2}
    assert p.report["questions"]["given_up"] == 1
    assert p.money("in_doubt") == p.money("spent") == 0


REFUSALS = {
    "401": Say(status=401, error="invalid_api_key"),
    "402": Say(status=402, raw=b""),
    "403": Say(status=403, error="forbidden"),
    "404 model": Say(status=404, error="model_not_found"),
    "429 quota": Say(status=429, error="insufficient_quota"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_teacher_that_refuses_for_good_ends_the_run_within_what_is_in_flight(
    name: str, endpoint: Endpoints, place: Places, here: Any
) -> None:
    teacher = endpoint(lambda _: REFUSALS[name])
    p = place(teacher.url, 200, teacher__max_concurrency=4)
    assert here(p) == 4
    report = p.report
    assert report["run"]["status"] == "refused"
    assert len(teacher.asked) <= 4
    assert report["attempts"]["failed"] == {"run": len(teacher.asked)}
    assert report["questions"] == {"total": 200, "asked": len(teacher.asked), "solved": 0, "given_up": 0, "open": 200}
    assert p.money("spent") == p.money("in_doubt") == 0
    teacher.script = lambda _: Say()
    assert here(p) == 0
    assert p.report["questions"]["solved"] == 200


def test_a_reply_without_usage_is_answered_and_stays_in_doubt(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(lambda _: Say(usage=False))
    p = place(teacher.url)
    assert here(p) == 0
    report = p.report
    assert report["questions"]["solved"] == report["attempts"]["answered"] == report["attempts"]["in_doubt"] == 1
    assert report["tokens"]["calls_without_usage"] == 1
    assert p.money("in_doubt") > WORST_OUTPUT
    assert any("without usage" in w for w in report["warnings"])


# ---- the cap


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
    teacher = endpoint(lambda a: Say(status=401, delay_s=0.1) if a.n == 0 else Say(output_tokens=100_000, delay_s=0.4))
    p = place(teacher.url, 2)
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
    p = place(teacher.url, 3, teacher__price_usd_per_mtok=None, budget__usd=None)
    assert here(p) == 0
    assert p.money("spent") == Decimal("1.5")


def test_an_unpriced_teacher_is_counted_and_never_free(endpoint: Endpoints, place: Places, here: Any) -> None:
    p = place(endpoint().url, 3, teacher__price_usd_per_mtok=None, budget__usd=None)
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


# ---- late


def test_a_late_reply_refunds_the_difference_and_is_kept(endpoint: Endpoints, place: Places, here: Any) -> None:
    past_the_deadline: list[dict[str, int]] = []
    p = place("", teacher__timeout_s=1.0)

    def script(_: Asked) -> Say:
        def look() -> None:
            past_the_deadline.append(audit_file(p.store))

        return Say(delay_s=1.2, on_half=look)

    teacher = endpoint(script)
    p.settings["teacher"]["base_url"] = teacher.url
    assert here(p) == 0
    assert past_the_deadline[0]["in_doubt"] > pusd(WORST_OUTPUT), "past its deadline it was not in doubt"
    assert p.report["questions"]["solved"] == 1
    assert len(teacher.asked) == 1
    assert p.money("in_doubt") == 0
    assert pusd(p.money("spent")) == teacher.billed_pusd


def test_a_reply_that_never_comes_does_not_hang_the_run(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(lambda _: Say(delay_s=3600))
    p = place(teacher.url, teacher__timeout_s=0.5, sampling__tries=2)
    began = time.monotonic()
    assert here(p) == 0
    assert time.monotonic() - began < 10
    assert p.report["attempts"]["failed"] == {"late": 2}
    assert p.report["questions"]["given_up"] == 1


# ---- truncated


def test_a_truncated_answer_is_paid_once(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(lambda a: Say(finish="length", output_tokens=a.limit))
    p = place(teacher.url, 3, sampling__samples=4)
    for _ in range(2):
        assert here(p) == 0
        assert len(teacher.asked) == 3
    report = p.report
    assert report["questions"]["given_up"] == 3
    assert report["traces"]["rejected"] == {"truncated": 3}
    assert Decimal(report["money"]["spent_on"]["truncated_usd"]) == p.money("spent") > 3 * WORST_OUTPUT


@pytest.mark.parametrize(("raised", "limit"), [(None, 200), (350, 350)])
def test_a_truncated_answer_is_asked_once_more_with_a_higher_limit(
    raised: int | None, limit: int, endpoint: Endpoints, place: Places, here: Any
) -> None:
    teacher = endpoint(lambda a: Say(finish="length", output_tokens=a.limit) if a.limit == 100 else Say())
    settings = {"sampling__raised_max_tokens": raised} if raised else {}
    p = place(teacher.url, 2, sampling__when_truncated="raise", **settings)
    assert here(p) == 0
    assert sorted(a.limit for a in teacher.asked) == [100, 100, limit, limit]
    assert p.report["questions"]["solved"] == 2
    assert Decimal(p.report["money"]["spent_on"]["truncated_usd"]) > 2 * WORST_OUTPUT
    teacher.script = lambda a: Say(finish="length", output_tokens=a.limit)
    q = place(teacher.url, sums(1, start=50), folder="always", sampling__when_truncated="raise", **settings)
    assert here(q) == 0
    assert [a.limit for a in teacher.asked[4:]] == [100, limit]
    assert q.report["questions"]["given_up"] == 1


# ---- bought once


def test_the_same_run_again_asks_nothing(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint()
    p = place(teacher.url, 10)
    assert here(p) == here(p) == 0
    assert len(teacher.asked) == 10


def test_another_run_takes_the_same_answers_from_the_store(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint()
    p = place(teacher.url, 10)
    assert here(p) == 0
    p.settings["name"] = "second"
    assert here(p) == 0
    assert len(teacher.asked) == 10
    report = p.report
    assert report["attempts"]["reused"] == report["questions"]["solved"] == 10
    assert report["attempts"]["sent"] == 0
    assert p.money("spent") == 0


@pytest.mark.parametrize(
    "change",
    [
        {"sampling__temperature": 0.2},
        {"sampling__max_tokens": 101},
        {"sampling__top_p": 0.9},
        {"sampling__seed": 1},
        {"sampling__reasoning_effort": "high"},
        {"sampling__extra": {"provider": {"only": ["x"]}}},
        {"teacher__revision": "2"},
        {"teacher__model": "other"},
        {"prompt": "steps"},
    ],
    ids=lambda c: next(iter(c)),
)
def test_whatever_the_teacher_sees_changed_is_another_attempt(
    change: dict[str, Any], endpoint: Endpoints, place: Places, here: Any
) -> None:
    teacher = endpoint()
    assert here(place(teacher.url, 2)) == 0
    assert here(place(teacher.url, 2, name="second", **change)) == 0
    assert len(teacher.asked) == 4


def test_the_same_content_twice_in_one_run_is_bought_once(endpoint: Endpoints, place: Places, here: Any) -> None:
    rows = [{"id": f"copy{n}", "question": "What is 3 + 4?", "answer": "7"} for n in range(8)]
    teacher = endpoint(lambda _: Say(delay_s=0.2))
    p = place(teacher.url, rows)
    assert here(p) == 0
    assert len(teacher.asked) == 1
    assert p.report["questions"]["solved"] == 8
    assert p.report["attempts"]["reused"] == 7
    assert pusd(p.money("spent")) == teacher.billed_pusd


def test_samples_are_attempts_of_their_own(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(lambda _: Say(text="\\boxed{-1}"))
    p = place(teacher.url, 2, sampling__samples=3)
    assert here(p) == 0
    assert len(teacher.asked) == 6
    assert p.report["traces"]["rejected"] == {"wrong": 6}
    assert p.report["questions"]["given_up"] == 2


def test_a_run_that_lost_its_endpoint_goes_on_when_it_is_back(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(lambda a: Say(status=500) if a.n < 8 else Say())
    p = place(teacher.url, 4, sampling__tries=2)
    assert here(p) == 0
    assert p.report["questions"]["given_up"] == 4
    assert here(p) == 0
    assert p.report["questions"]["solved"] == 4


# ---- who answered, and how it wants to be asked


def test_a_change_of_who_answers_within_a_run_is_a_warning(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(
        lambda a: Say(
            more={"model": f"mock-{a.n % 2}", "provider": f"P{a.n % 2}", "system_fingerprint": f"fp{a.n % 2}"}
        )
    )
    p = place(teacher.url, 4)
    assert here(p) == 0
    warned = " ".join(p.report["warnings"])
    for word in ("mock-0", "mock-1", "P0", "P1", "fp0", "fp1"):
        assert repr(word) in warned
    assert here(place(teacher.url, sums(1, start=90), folder="one")) == 0


def test_one_teacher_all_along_is_no_warning(endpoint: Endpoints, place: Places, here: Any) -> None:
    p = place(endpoint().url, 4)
    assert here(p) == 0
    assert p.report["warnings"] == []


def wants_max_completion_tokens(asked: Asked) -> Say:
    if "max_tokens" in asked.body:
        said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
        return Say(status=400, error="unsupported_parameter", message=said, delay_s=0.1)
    return Say()


def test_the_field_of_the_limit_is_learned_and_costs_no_row(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(wants_max_completion_tokens)
    p = place(teacher.url, 40)
    assert here(p) == 0
    assert p.report["questions"]["solved"] == 40
    assert p.report["attempts"]["failed"] == {}
    refused = [a for a in teacher.asked if "max_tokens" in a.body]
    assert 1 <= len(refused) <= 16, "asked on with the refused field after the first round"
    assert all(a.body["max_completion_tokens"] == 100 for a in teacher.asked if a not in refused)


def test_what_was_learned_is_remembered_by_the_run(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(wants_max_completion_tokens)
    p = place(teacher.url, 20, budget__usd="0.005")
    assert here(p) == 3
    before = len(teacher.asked)
    p.settings["budget"]["usd"] = "1.00"
    assert here(p) == 0
    assert p.report["questions"]["solved"] == 20
    assert [a for a in teacher.asked[before:] if "max_tokens" in a.body] == []


def test_a_default_temperature_is_left_out_where_it_is_refused(endpoint: Endpoints, place: Places, here: Any) -> None:
    def script(asked: Asked) -> Say:
        if "temperature" in asked.body:
            said = "Unsupported value: 'temperature' does not support 0.7 with this model."
            return Say(status=400, error="unsupported_value", message=said, delay_s=0.1)
        return Say()

    teacher = endpoint(script)
    p = place(teacher.url, 20)
    assert here(p) == 0
    assert p.report["questions"]["solved"] == 20


def test_a_parameter_that_the_user_set_and_the_endpoint_refuses_ends_the_run(
    endpoint: Endpoints, place: Places
) -> None:
    said = "Unsupported parameter: 'top_k' is not supported."
    teacher = endpoint(lambda _: Say(status=400, error="unsupported_parameter", message=said))
    code, _, err = place(teacher.url, 100, sampling__top_k=5).collect()
    assert code == 4
    assert "top_k" in err
    assert len(teacher.asked) <= 16


def test_an_endpoint_that_takes_few_at_once_gets_few_and_every_row_is_answered(
    endpoint: Endpoints, place: Places, here: Any
) -> None:
    teacher = endpoint()
    teacher.script = lambda _: (
        Say(delay_s=0.05) if teacher.in_flight <= 5 else Say(status=429, headers={"retry-after-ms": "20"})
    )
    p = place(teacher.url, 60)
    assert here(p) == 0
    assert p.report["questions"]["solved"] == 60
    assert p.report["pace"]["limited_by"] == "refusals"
    assert p.report["attempts"]["failed"]["throttled"] == len(teacher.asked) - 60


# ---- streams


@pytest.mark.parametrize(
    ("say", "kind"),
    [
        (Say(pieces=tuple(range(1, 400, 7)), gap_s=0), None),
        (Say(cut_at=200), "cut"),
        (Say(cut_at=200, reset=True), "cut"),
        (Say(usage=False), None),
    ],
    ids=["in pieces", "cut", "reset", "without usage"],
)
def test_streams_end_like_whole_bodies(
    say: Say, kind: str | None, endpoint: Endpoints, place: Places, here: Any
) -> None:
    teacher = endpoint(first(say))
    p = place(teacher.url, teacher__stream=True)
    assert here(p) == 0
    assert p.report["questions"]["solved"] == 1
    assert p.report["attempts"]["failed"] == ({kind: 1} if kind else {})
    assert p.report["attempts"]["in_doubt"] == (kind is not None or not say.usage)
    assert teacher.billed_pusd <= pusd(p.money("spent") + p.money("in_doubt"))
    assert all(a.body["stream_options"] == {"include_usage": True} for a in teacher.asked)


# ---- ends


def test_a_store_on_a_full_disk_stops_the_asking_with_one_line(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda _: Say(chain=os.urandom(30_000).hex(), delay_s=0.02))
    p = place(teacher.url, 400, teacher__max_concurrency=4)
    bound = 1_000_000
    command = f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({bound}, {bound}));"
    command += "sys.argv[0] = 'harvest'; runpy.run_module('harvest', run_name='__main__')"
    process = p.start(python=("-c", command))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    said = [line for line in err.splitlines() if line.startswith(("error:", "stopped:"))]
    assert len(said) == 1, err
    assert str(p.store) in said[0]
    assert "Traceback" not in err
    assert len(teacher.asked) < 100, "it asked on without a place for the answers"
    books = audit_file(p.store)
    assert teacher.billed_pusd <= books["spent"] + books["reserved"] + books["in_doubt"]
    code, _, err = p.collect()
    assert code == 0, err
    books = audit_file(p.store)
    assert teacher.billed_pusd <= books["spent"] + books["in_doubt"]
    assert p.report["questions"]["solved"] == 400


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Two megabytes of file system; what a full disk is to the kernel."""
    where = tmp_path / "small"
    where.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(where)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"needs to mount a tmpfs: {done.stderr.strip()}")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def test_a_disk_that_is_really_full_is_named_and_nothing_is_lost(
    endpoint: Endpoints, place: Places, small_disk: Path
) -> None:
    teacher = endpoint(lambda _: Say(chain=os.urandom(30_000).hex(), delay_s=0.02))
    p = place(teacher.url, 300, store=f"sqlite:///{small_disk / 'store.db'}", teacher__max_concurrency=4)
    code, _, err = p.collect()
    assert code == 2, err
    assert "disk is full" in err
    assert "Traceback" not in err
    assert len(teacher.asked) < 100
    books = audit_file(small_disk / "store.db")
    assert teacher.billed_pusd <= books["spent"] + books["reserved"] + books["in_doubt"]
    assert books["spent"] > 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_waits_for_what_is_paid_for_and_the_run_goes_on(
    how: signal.Signals, endpoint: Endpoints, place: Places
) -> None:
    teacher = endpoint(lambda _: Say(delay_s=0.4))
    p = place(teacher.url, 24, teacher__max_concurrency=8)
    process = p.start()
    wait_for(lambda: len(teacher.asked) >= 8)
    process.send_signal(how)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert p.report["run"]["status"] == "interrupted"
    assert p.report["attempts"]["in_doubt"] == 0
    assert p.report["attempts"]["answered"] == len(teacher.asked) < 24
    assert p.collect()[0] == 0
    assert len(teacher.asked) == 24
    assert p.report["questions"]["solved"] == 24


def test_a_second_signal_leaves_what_is_in_flight_in_doubt(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda _: Say(delay_s=20))
    p = place(teacher.url, 40, teacher__max_concurrency=8, teacher__timeout_s=60)
    process = p.start()
    wait_for(lambda: len(teacher.asked) >= 8)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=15)
    assert process.returncode == 130, err
    assert p.report["attempts"]["in_doubt"] == 8
    audit_file(p.store)


def wait_for(what: Callable[[], bool], timeout_s: float = 30) -> None:
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < timeout_s, "it never came"
        time.sleep(0.01)


def test_each_fault_at_a_fifth_leaves_every_row_answered_or_named(
    endpoint: Endpoints, place: Places, here: Any
) -> None:
    for name, fault in FAULTS.items():
        chance = random.Random(name)
        teacher = endpoint(lambda _, f=fault, c=chance: f if c.random() < 0.2 else Say(delay_s=0.01))
        p = place(
            teacher.url, scaled(12, 400), folder=name, teacher__timeout_s=0.6, sampling__tries=3, budget__usd="5.00"
        )
        assert here(p) == 0, name
        report = p.report
        assert report["questions"]["open"] == 0
        assert report["questions"]["solved"] + report["questions"]["given_up"] == scaled(12, 400)
        kinds = tries_by_question(p.store)
        assert len(kinds) == scaled(12, 400)
        assert teacher.billed_pusd <= pusd(p.money("spent") + p.money("in_doubt")), name


def test_every_fault_of_the_shared_endpoint_at_a_fifth(shared: Path, place: Places) -> None:
    faults = (
        "500 503html 200html 429 429ms 400ctx reset half badjson nochoices nullcontent nousage filter badutf8 redirect"
        " echo html_script" + (" huge gzipbomb hang" if BARS else "")
    ).split()
    for name in faults if BARS else faults[::6]:
        port = closed_port()
        tool = subprocess.Popen(
            [sys.executable, str(shared / "tools" / "endpoint.py"), "--port", str(port), "--fault", f"{name}=0.2"],
            stdout=subprocess.PIPE,
        )
        try:
            assert tool.stdout is not None
            tool.stdout.readline()
            n = scaled(15, 200)
            p = place(
                f"http://127.0.0.1:{port}/v1", n, folder=name, teacher__timeout_s=5, sampling__max_tokens=2048,
                budget__usd="50.00",
            )  # fmt: skip
            code, _, err = p.collect()
            assert code == 0, (name, err[-500:])
            questions = p.report["questions"]
            assert questions["solved"] + questions["given_up"] == n, name
            audit_file(p.store)
        finally:
            tool.kill()
            tool.communicate()


@pytest.mark.skipif(
    sys.platform != "linux", reason="reads the peak of its own memory in /proc; getrusage has the parent's"
)
def test_hostile_bodies_are_read_in_bounded_memory(endpoint: Endpoints, place: Places) -> None:
    """A gibibyte of spaces, packed and plain, at sixteen at once."""
    teacher = endpoint(lambda a: Say(bomb=True) if a.n % 2 else Say(forever=b" " * (1 << 16), gap_s=0))
    p = place(teacher.url, scaled(8, 64), sampling__tries=1)
    code = (
        "import pathlib, runpy, sys; sys.argv[0] = 'harvest'\n"
        "try: runpy.run_module('harvest', run_name='__main__')\n"
        "finally: print(pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0], file=sys.stderr)"
    )
    process = p.start(python=("-c", code))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err[-500:]
    assert p.report["attempts"]["failed"] == {"too_large": scaled(8, 64)}
    assert int(err.split()[-1]) < 500_000, "kilobytes of memory at its peak"


def test_one_reply_that_cannot_be_written_as_it_came_takes_no_other_with_it(endpoint: Endpoints, place: Places) -> None:
    hostile = Say(headers={"content-encoding": "\xff\xfe"}, made=True, delay_s=0.2)
    teacher = endpoint(lambda a: hostile if "7 + 8" in a.question else Say(delay_s=0.2))
    p = place(teacher.url, 20, teacher__max_concurrency=20, sampling__tries=1)
    code, _, err = p.collect()
    assert code == 0, err
    assert p.report["attempts"]["answered"] == 19
    assert p.report["attempts"]["failed"] == {"cut": 1}


@pytest.mark.parametrize("between", ["two files", "a bad row skipped"])
def test_a_file_that_was_read_is_read_again_after_another(
    between: str, endpoint: Endpoints, place: Places, here: Any
) -> None:
    teacher = endpoint()
    p = place(teacher.url, 2, budget__usd="0.0001")  # room for nothing: it reads its questions and stops
    assert p.collect()[0] == 3
    first = p.folder / "questions.jsonl"
    text, more = first.read_text(), "".join(json.dumps(r) + "\n" for r in sums(5)[2:])
    if between == "two files":
        (p.folder / "more.jsonl").write_text(more)
        p.settings["questions"] = [str(first), str(p.folder / "more.jsonl")]
        assert p.collect()[0] == 3
        p.settings["questions"] = str(first)
    else:
        first.write_text(text + more + '{"nope": 1}\n')
        assert p.collect("--skip-bad-rows")[0] == 3
        first.write_text(text)
    p.settings["budget"]["usd"] = "1.00"
    code, _, err = p.collect()
    assert code == 2
    assert "asked 3 questions that are no longer in" in err
    assert not teacher.asked
