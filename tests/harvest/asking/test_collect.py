"""`collect` buys each answer once, says who answered, goes on after every end, and ends as its exit code says."""

import json
import os
import pty
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import forked
import pytest
from books import audit_file
from conftest import ROOT, Place, sums
from scripted_endpoint import Asked, Endpoint, Say

from harvest.core.money import pusd

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]


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


# ---- ends


def test_a_store_on_a_full_disk_stops_the_asking_with_one_line(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda _: Say(chain=os.urandom(30_000).hex(), output_tokens=15_000, delay_s=0.02))
    p = place(teacher.url, 120, teacher__max_concurrency=4, sampling__max_tokens=20_000, budget__usd="100.00")
    bound = 1_000_000
    process = p.start(before=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (bound, bound)))
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
    assert p.report["questions"]["solved"] == 120


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda how: how.name)
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


IN_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "harvest", "collect", sys.argv[1]])
"""


def test_a_closed_terminal_waits_for_what_is_paid_for(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda _: Say(delay_s=0.4))
    p = place(teacher.url, 24, teacher__max_concurrency=8)
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, str(p.toml)], cwd=p.folder, stdin=its, stdout=its, stderr=its,
        env={**os.environ, "WINNOW_RUNS": str(p.folder / "runs"), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(its)
    wait_for(lambda: len(teacher.asked) >= 8)
    os.close(ours)
    process.send_signal(signal.SIGHUP)  # the shell's, beside the terminal's own
    assert process.wait(timeout=30) == 130
    assert p.report["run"]["status"] == "interrupted"
    assert p.report["attempts"]["in_doubt"] == 0
    assert p.report["attempts"]["answered"] == len(teacher.asked) < 24


def test_under_nohup_a_hang_up_is_nothing(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda _: Say(delay_s=0.4))
    p = place(teacher.url, 8, teacher__max_concurrency=4)
    process = p.start(before=partial(signal.signal, signal.SIGHUP, signal.SIG_IGN))
    wait_for(lambda: len(teacher.asked) >= 2)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert len(teacher.asked) == 8


@pytest.mark.parametrize("way", ["a link to the file", "a link to its folder", "another relative path"])
def test_a_store_is_one_store_whichever_way_it_is_reached(way: str, endpoint: Endpoints, place: Places) -> None:
    refused = threading.Event()
    teacher = endpoint(lambda _: Say() if refused.wait(60) else Say(status=500))
    p = place(teacher.url, 4)
    (p.folder / "link.db").symlink_to(p.store)
    (p.folder / "deep").symlink_to(p.folder)
    process = p.start()
    wait_for(lambda: len(teacher.asked) >= 1)
    other = {"a link to the file": "link.db", "a link to its folder": "deep/store.db"}.get(way, "../place/store.db")
    code, _, err = p.collect("--store", f"sqlite:///{other}")
    assert code == 2, err
    assert f"another process (pid {process.pid}) is writing to it" in err
    refused.set()
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert len(teacher.asked) == 4


def test_a_run_that_begins_anew_in_another_folder_says_so(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint()
    p = place(teacher.url, 2, store="sqlite:///data/s.db")
    p.env["XDG_STATE_HOME"] = str(p.folder / "state")

    def collect(folder: str) -> str:
        (p.folder / folder).mkdir(exist_ok=True)
        env = {**os.environ, "PYTHONPATH": str(ROOT), **p.env}
        done = forked.run("harvest", "collect", "../run.toml", cwd=p.folder / folder, env=env)
        assert done.returncode == 0, done.stderr
        return "".join(line for line in done.stderr.splitlines() if line.startswith("warning"))

    assert p.toml.is_file()
    assert collect("one") == ""
    assert collect("one") == ""
    said = collect("two")
    assert f"last run in {p.folder / 'one'}" in said
    assert f"--store sqlite:///{p.folder / 'one/data/s.db'}" in said
    assert len(teacher.asked) == 4
    assert collect("one") == collect("two") == ""
    (p.folder / "state/winnow/run-in.json").write_text("[1]")
    assert collect("three") == ""
    (p.folder / "state/winnow/run-in.json").unlink()
    (p.folder / "state/winnow").rmdir()
    (p.folder / "state/winnow").write_text("a file, so that nothing can be noted")
    assert collect("four") == ""


def test_max_tokens_may_change_until_something_was_answered(endpoint: Endpoints, place: Places) -> None:
    def script(asked: Asked) -> Say:
        refused = asked.limit > 8192
        return Say(status=400, error="invalid", message="max_tokens: at most 8192") if refused else Say()

    teacher = endpoint(script)
    p = place(teacher.url, 3, sampling__max_tokens=16384)
    p.collect()
    assert len(teacher.asked) == 3
    p.settings["sampling"]["max_tokens"] = 8192
    code, _, err = p.collect()
    assert code == 0, err
    assert p.report["questions"]["solved"] == 3
    assert len(teacher.asked) == 6
    p.settings["sampling"]["max_tokens"] = 4096
    code, _, err = p.collect()
    assert code == 2
    assert "sampling.max_tokens: 8192 before, 4096 now" in err
    assert len(teacher.asked) == 6
    audit_file(p.store)


def wait_for(what: Callable[[], bool], timeout_s: float = 30) -> None:
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < timeout_s, "it never came"
        time.sleep(0.01)


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
