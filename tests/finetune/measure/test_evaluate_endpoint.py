"""`finetune eval` of an endpoint: its requests go through the store under a cap, and each answer is asked for once."""

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import forked
import pytest
from conftest import ROOT, Place
from scripted_endpoint import Asked, Endpoint, Say

from finetune.__main__ import main
from harvest.core.config import RunConfig
from harvest.store import Store

Places = Callable[..., Place]
Endpoints = Callable[..., Endpoint]


MOCK = ("--model", "mock", "--price", "1", "10", "--max-tokens", "100")


def words(here: Place, student: str, *more: str) -> list[str]:
    flags = ["--questions", str(here.folder / "questions.jsonl"), "--json", "--run", "r", "--store", here.url]
    return ["eval", student, *flags, *more]


def begun(here: Place, student: str, *more: str) -> "subprocess.Popen[str]":
    env = {**os.environ, "WINNOW_RUNS": str(here.folder / "runs"), "PYTHONPATH": str(ROOT)}
    return forked.Forked("finetune", *words(here, student, *more), cwd=here.folder, env=env)


def evaluate(here: Place, url: str, *more: str) -> "subprocess.CompletedProcess[str]":
    return forked.finished(begun(here, url, *MOCK, *more))


def a_run(place: Places, n: int) -> Place:
    """A run of that many questions whose report can have evaluations; nothing of it was asked."""
    here = place("http://127.0.0.1:1/v1", n)
    with Store.open(here.url) as store:
        config = RunConfig.model_validate(here.settings)
        store.put_run("r", config.model_dump(mode="json"), None, "2026-01-01T00:00:00+00:00")
    return here


def half_right(asked: Asked) -> Say:
    return Say() if int(asked.question.split()[2]) % 2 else Say(text="\\boxed{-1}")


def test_an_endpoint_is_measured_once_and_its_cost_is_in_the_report(endpoint: Endpoints, place: Places) -> None:
    other, here = endpoint(half_right), a_run(place, 10)
    for _ in range(2):
        done = evaluate(here, other.url, "--usd", "1.00")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert (found["n"], found["accuracy"]) == (10, 0.5)
    assert len(other.asked) == 10
    entry = here.report["evaluation"][0]
    assert entry["accuracy"] == 0.5
    assert float(entry["cost_usd"]) > 0
    assert here.report["total_usd"] > here.report["money"]["spent_usd"]


def test_a_student_that_several_machines_serve_is_measured_at_all_of_them(endpoint: Endpoints, place: Places) -> None:
    one, two, here = endpoint(half_right), endpoint(half_right), a_run(place, 40)
    done = evaluate(here, one.url, "--usd", "1.00", "--replicas", two.url)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n"] == 40
    assert len(one.asked) + len(two.asked) == 40
    assert min(len(one.asked), len(two.asked)) > 4
    again = evaluate(here, one.url, "--usd", "1.00")
    assert again.returncode == 0, again.stderr
    assert len(one.asked) + len(two.asked) == 40, "the same answers count, whoever gave them"


def test_what_the_endpoint_did_not_answer_is_missing_and_not_wrong(endpoint: Endpoints, place: Places) -> None:
    ill = [True]

    def half(asked: Asked) -> Say:
        return Say() if not ill[0] or int(asked.question.split()[2]) % 2 else Say(status=400, error="invalid_request")

    here, other = a_run(place, 10), endpoint(half)
    done = evaluate(here, other.url, "--usd", "1.00")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["n"], found["accuracy"], found["label"], found["settings"]["asked"]) == (5, 1, None, 10)
    assert "5 of 10 were not answered: the same command asks them again" in done.stderr
    ill[0] = False
    assert json.loads(evaluate(here, other.url, "--usd", "1.00").stdout)["n"] == 10


def test_a_cap_that_is_too_small_ends_it_with_the_caps_exit_code(endpoint: Endpoints, place: Places) -> None:
    other, here = endpoint(), a_run(place, 10)
    done = evaluate(here, other.url, "--usd", "0.003")
    assert done.returncode == 3, done.stderr
    assert "cap" in done.stderr
    assert "Traceback" not in done.stderr
    assert other.billed_pusd <= 3_000_000_000


def test_an_evaluation_for_a_run_spends_within_the_runs_cap(endpoint: Endpoints, place: Places) -> None:
    """The run has a cap and --usd is more, or is not given at all."""
    other, here = endpoint(), a_run(place, 10)
    with Store.open(here.url) as store:
        store.put_run("r", store.run("r").settings | {"budget": {"usd": "0.003"}}, 3 * 10**9, "2026-01-01T00:00:00Z")
    for more in (("--usd", "1.00"), ()):
        done = evaluate(here, other.url, *more)
        assert done.returncode == 3, done.stderr
        assert 0 < other.billed_pusd <= 3 * 10**9
    assert here.money("beside") == Decimal(other.billed_pusd) / 10**12


FOUR = ("--usd", "1.00", "--samples", "4", "--temperature", "0.6", "--top-p", "0.95", "--top-k", "20")


def test_settings_of_the_field_are_sent_and_each_sample_has_its_seed(endpoint: Endpoints, place: Places) -> None:
    other = endpoint(half_right)
    here = a_run(place, 4)
    extra = '{"chat_template_kwargs": {"enable_thinking": true}}'
    done = evaluate(here, other.url, *FOUR, "--seed", "7", "--extra", extra, "--concurrency", "2")
    assert done.returncode == 0, done.stderr
    for asked in other.asked:
        body = asked.body
        assert (body["temperature"], body["top_p"], body["top_k"], body["max_tokens"]) == (0.6, 0.95, 20, 100)
        assert body["chat_template_kwargs"] == {"enable_thinking": True}
    assert Counter(a.body["seed"] for a in other.asked) == {7: 4, 8: 4, 9: 4, 10: 4}
    assert other.peak <= 2
    found = json.loads(done.stdout)
    assert (found["n"], found["samples"], found["answers"], found["accuracy"]) == (4, 4, 16, 0.5)
    assert found["pass_at_k"] == {"1": 0.5, "2": 0.5, "4": 0.5}
    assert found["majority"]["accuracy"] == 0.5
    assert found["settings"]["answered_by"]["served"][0]["served_model"] == "mock"
    assert found["settings"]["engine"]["extra"] == {"chat_template_kwargs": {"enable_thinking": True}}


def slow_and_cut(asked: Asked) -> Say:
    """Every fourth sample is cut at its limit."""
    if asked.body["seed"] % 4 == 0:
        return Say(text="", finish="length", output_tokens=100)
    return Say(delay_s=0.02 * (asked.body["seed"] % 4))


def test_killed_in_the_middle_it_goes_on_and_pays_for_nothing_twice(endpoint: Endpoints, place: Places) -> None:
    here = a_run(place, 8)
    victims = list[Any]()

    def script(asked: Asked) -> Say:
        if asked.n == 13:
            os.kill(victims[0].pid, signal.SIGKILL)
        return slow_and_cut(asked)

    other = endpoint(script)
    victims.append(begun(here, other.url, *MOCK, *FOUR, "--concurrency", "3"))
    victims[0].communicate(timeout=60)
    assert victims[0].returncode == -signal.SIGKILL
    stored = 13 - 3  # what was on its way may have been billed, and is asked again
    done = evaluate(here, other.url, *FOUR, "--concurrency", "3")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["n"], found["answers"], found["unfinished"], found["accuracy"]) == (8, 32, 0.25, 0.75)
    assert 32 <= len(other.asked) <= 32 + 14 - stored
    again = Counter(a.digest for a in other.asked)
    assert sum(n - 1 for n in again.values()) <= 4
    by = found["settings"]["answered_by"]
    assert Decimal(by["spent_usd"]) + Decimal(by["in_doubt_usd"]) >= Decimal(other.billed_pusd) / 10**12
    asked = len(other.asked)
    assert json.loads(evaluate(here, other.url, *FOUR).stdout)["answers"] == 32
    assert len(other.asked) == asked


def test_a_cap_holds_over_all_starts_and_what_came_is_in_the_report(endpoint: Endpoints, place: Places) -> None:
    other = endpoint()
    here = a_run(place, 10)
    for _ in range(3):
        assert evaluate(here, other.url, "--usd", "0.003").returncode == 3
    assert other.billed_pusd <= 3_000_000_000
    part = here.report["evaluation"][0]
    assert 0 < part["n"] < 10
    assert Decimal(part["cost_usd"]) == Decimal(other.billed_pusd) / 10**12
    assert any("answers are missing" in w for w in here.report["warnings"])
    assert json.loads(evaluate(here, other.url, "--usd", "1").stdout)["n"] == 10
    assert len(other.asked) == 10


def test_ctrl_c_waits_for_what_is_paid_for_and_goes_on(endpoint: Endpoints, place: Places) -> None:
    here = a_run(place, 6)
    victims = list[Any]()

    def script(asked: Asked) -> Say:
        if asked.n == 2:
            victims[0].send_signal(signal.SIGINT)
        return Say(delay_s=0.3)

    other = endpoint(script)
    victims.append(begun(here, other.url, *MOCK, "--usd", "1", "--concurrency", "2"))
    _, err = victims[0].communicate(timeout=60)
    assert victims[0].returncode == 130, err
    assert "Traceback" not in err
    assert json.loads(evaluate(here, other.url, "--usd", "1").stdout)["n"] == 6
    assert len(other.asked) == 6


def test_the_runs_teacher_is_asked_as_it_is_there_and_stands_beside_the_student(
    endpoint: Endpoints, place: Places
) -> None:
    teacher = endpoint()
    here = place(teacher.url, 6, prompt="steps", sampling__temperature=0.4)
    assert here.collect()[0] == 0
    (here.folder / "held-out.jsonl").write_text(
        "".join(f'{{"id": "h{i}", "question": "What is {i} + 1?", "answer": "{i + 1}"}}\n' for i in range(20, 26))
    )
    held_out, before = ("--questions", str(here.folder / "held-out.jsonl")), len(teacher.asked)
    done = forked.finished(begun(here, "teacher", *held_out, "--usd", "1.00"))
    assert done.returncode == 0, done.stderr
    assert (json.loads(done.stdout)["label"], json.loads(done.stdout)["accuracy"]) == ("teacher", 1)
    asked = teacher.asked[before:]
    assert [len(a.body["messages"]) for a in asked] == [4] * 6  # with its worked example
    assert asked[0].body["temperature"] == 0.4
    student = endpoint(lambda a: Say(output_tokens=90) if int(a.question.split()[2]) % 3 else Say(text="\\boxed{0}"))
    found = json.loads(evaluate(here, student.url, *held_out, "--usd", "1", "--label", "after").stdout)
    assert [len(a.body["messages"]) for a in student.asked] == [2] * 6
    assert found["against_teacher"]["points"] == pytest.approx(-33.33, abs=0.01)
    assert here.report["against_teacher"]["teacher_accuracy"] == 1
    assert here.report["against_teacher"]["low"] < -33 < here.report["against_teacher"]["high"]
    assert any("times those of the teacher" in w for w in here.report["warnings"])
    assert "mock against its teacher mock" in (here.run_folder / "report.md").read_text()


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (("without a run",), "give one, e.g. --usd 5.00"),
        (("--usd", "1", "--extra", "[1]"), "--extra: no JSON object"),
        (("--usd", "1", "--extra", '{"model": "x"}'), "--extra"),
        (("--usd", "1", "--samples", "4"), "at temperature 0 they would all be the same"),
        (("--usd", "1", "--details", "nowhere/at/all.jsonl"), "there is no folder nowhere/at"),
        (("--usd", "1", "--api-key-env", "NO_SUCH_VARIABLE"), "NO_SUCH_VARIABLE"),
        (("--usd", "1", "--model", ""), "--model names the model there"),
    ],
)
def test_a_wrong_word_is_one_line_before_anything_is_asked(
    endpoint: Endpoints,
    place: Places,
    more: tuple[str, ...],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other, here = endpoint(), a_run(place, 2)
    monkeypatch.setenv("WINNOW_RUNS", str(here.folder / "runs"))
    monkeypatch.chdir(here.folder)
    given = words(here, other.url, "--model", "mock", "--price", "1", "10", *more)
    if more == ("without a run",):  # a run's own cap would be enough
        given = given[: given.index("--run")] + given[given.index("--run") + 2 : -1]
    assert main(given) == 2
    told = capsys.readouterr().err
    assert line in told
    assert "sampling." not in told
    assert not other.asked
