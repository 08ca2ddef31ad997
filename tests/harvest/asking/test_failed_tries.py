"""Every failure of an endpoint ends as its class says (field.md §2), is booked, and is in the report."""

import atexit
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from books import audit_file, tries_by_question
from conftest import BARS, Place, scaled, sums
from scripted_endpoint import FAULTS, Asked, Endpoint, Say, Script

from harvest.core.money import pusd

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]
WORST_OUTPUT = Decimal("0.001")
"""100 tokens at $10.00 a million."""


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
    "408": (Say(status=408, raw=b""), "gateway", True, "doubt"),
    "504": (Say(status=504, raw=b"upstream timed out", made=True), "gateway", True, "doubt"),
    "524": (Say(status=524, raw=b"<html>A timeout occurred</html>", made=True), "gateway", True, "doubt"),
    "redirect": (Say(status=302, headers={"location": "/stolen"}, raw=b""), "passing", True, "none"),
    "reset after sending": (Say(reset=True), "cut", True, "doubt"),
    "half a body": (Say(cut_at=100), "cut", True, "doubt"),
    "half a body, then reset": (Say(cut_at=100, reset=True), "cut", True, "doubt"),
    "no status line": (Say(wire=b"\x00\x01garbage\r\n\r\n", made=True), "cut", True, "doubt"),
    "hung up without a word": (Say(wire=b"", made=True), "cut", True, "doubt"),
    "bad json": (Say(raw=b'{"choices": [oops'), "cut", True, "doubt"),
    "bad escape": (Say(raw=b'{"choices": [{"message": {"content": "\\q"}}]}'), "cut", True, "doubt"),
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


# ---- all of them at once


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


def say_peak_memory() -> None:
    sys.stderr.write(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


@pytest.mark.skipif(
    sys.platform != "linux", reason="reads the peak of its own memory in /proc; getrusage has the parent's"
)
def test_hostile_bodies_are_read_in_bounded_memory(endpoint: Endpoints, place: Places) -> None:
    """A gibibyte of spaces, packed and plain, at sixteen at once."""
    teacher = endpoint(lambda a: Say(bomb=True) if a.n % 2 else Say(forever=b" " * (1 << 16), gap_s=0))
    p = place(teacher.url, scaled(8, 64), sampling__tries=1)
    process = p.start(before=partial(atexit.register, say_peak_memory))
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
