"""`finetune eval` of a student on this machine, with and without a run, and killed in the middle."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import forked
import pytest
from scripted_student import Scripted, measured, right
from students import tiny_student

from finetune.__main__ import main
from finetune.measure.engine import Asked
from finetune.measure.sampling import Sampling
from finetune.run import Run, standalone
from finetune.student import find, identity
from harvest.checks import ROW_RULES
from harvest.core.config import RunConfig
from harvest.core.errors import StoreUnusable
from harvest.core.teachers import Teacher
from harvest.endpoint import prompt as prompts
from harvest.questions.sources import read_questions
from harvest.store import Store

TRAINING = {
    "student": "base", "method": "sft", "weights": "full", "output": "trained", "rows": 1, "dropped": 0, "data": "d",
    "tokens": 1, "trained_tokens": 1, "epochs": 1, "steps": 1, "learning_rate": 1e-3, "seed": 0, "loss_first": 1.0,
    "loss_last": 0.5, "precision": "float32", "device": "cpu", "versions": {}, "gpu_hours": 0, "wall_s": 1,
    "cost_usd": None,
}  # fmt: skip


def started(folder: Path, student: Path, *more: str) -> "subprocess.Popen[str]":
    words = ["eval", str(student), "--questions", str(folder / "q.jsonl"), "--json", *more]
    return forked.Forked("finetune", *words, env={**os.environ, "WINNOW_RUNS": str(folder / "runs")})


class Told(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """The command line in this process, which has torch loaded already."""
    monkeypatch.setenv("WINNOW_RUNS", str(tmp_path / "runs"))

    def run(student: Path | str, *more: str) -> Told:
        words = ["eval", str(student), *(() if "--questions" in more else ("--questions", str(tmp_path / "q.jsonl")))]
        code = main([*words, *(() if "--max-tokens" in more else ("--max-tokens", "8")), "--json", *more])
        return Told(code, *capsys.readouterr())

    return run


Command = Callable[..., Told]


def test_a_student_whose_run_is_elsewhere_is_measured_without_it(tmp_path: Path, command: Command) -> None:
    student, url = tiny_student(tmp_path / "s"), f"sqlite:///{tmp_path}/gone/w.db"
    (student / "winnow.json").write_text(json.dumps({"run": {"name": "r", "store": url}}))
    (tmp_path / "q.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    done = command(student)
    assert done.code == 0, done.err
    assert "its run is not here" in done.err
    found = json.loads(done.out)
    assert (found["n"], found["samples"], found["label"]) == (1, 1, "after")
    assert not (tmp_path / "gone").exists()


def test_without_a_run_it_goes_on_too_and_before_and_after_are_paired(tmp_path: Path, command: Command) -> None:
    base, trained = tiny_student(tmp_path / "base"), tiny_student(tmp_path / "trained", seed=2)
    of = {"of": {"student": identity(find(str(base)))}, "wall_s": 1.0, "training": TRAINING}
    (trained / "winnow.json").write_text(json.dumps(of))
    long_questions(tmp_path, 6)
    assert command(base, "--limit", "4").code == 0  # other questions: not before
    assert json.loads(command(trained).out)["gain"] is None
    assert json.loads(command(base).out)["gain"] is None
    again = command(trained)
    assert "eval " not in again.err, "asked again what was there"
    found = json.loads(again.out)
    assert (found["gain"]["n"], found["gain"]["points"], found["label"]) == (6, 0, "after")
    assert any("have no end" in w for w in found["warnings"])
    card = (trained / "README.md").read_text()
    assert "Not evaluated" not in card
    assert "+0.0 points" in card


def test_a_bad_question_is_named_though_it_stands_past_the_limit(tmp_path: Path, command: Command) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n{"question": 7}\n')
    done = command(tmp_path / "s", "--limit", "1")
    assert done.code == 2
    assert "q.jsonl" in done.err


def test_a_question_without_a_gold_answer_measures_no_student(tmp_path: Path, command: Command) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": "a", "question": "What is 1 + 1?", "check": "majority"}\n')
    done = command(tmp_path / "s")
    assert done.code == 2
    assert "question 'a' has no gold answer" in done.err


def test_what_is_kept_without_a_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINNOW_RUNS", str(tmp_path / "runs"))
    table = {f"q{i}": right(i) for i in range(7)}
    with pytest.raises(KeyboardInterrupt):
        measured(Scripted(table, break_after=4), 7, standalone())
    second = Scripted(table)
    found = measured(second, 7, standalone())
    assert second.asked == [("q4", 0), ("q5", 0), ("q6", 0)]
    assert (found["n"], found["accuracy"]) == (7, 1)
    assert found["settings"]["answered_by"] == {"batch_rows": 2}
    third = Scripted(table)
    assert measured(third, 7, standalone())["n"] == 7
    assert not third.asked


def test_a_place_where_nothing_can_be_kept_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").write_text("")
    monkeypatch.setenv("WINNOW_RUNS", str(tmp_path / "runs"))
    with pytest.raises(StoreUnusable, match=r"\.evaluations\.db") as e:
        standalone()
    assert "\n" not in str(e.value)


def long_questions(folder: Path, n: int) -> Path:
    rows = ({"id": f"q{i}", "question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(n))
    (folder / "q.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


def test_stopped_and_killed_it_answers_only_what_is_missing_and_the_same(tmp_path: Path, command: Command) -> None:
    pytest.importorskip("torch", reason="needs the extra `train`")
    from finetune.measure.generate import TransformersEngine

    student, here = tiny_student(tmp_path / "s"), long_questions(tmp_path, 12)
    stopped = Run("stopped", f"sqlite:///{tmp_path}/w.db")
    config = RunConfig(questions="q", teacher=Teacher(base_url="http://127.0.0.1:1/v1", model="m"))
    with Store.open(stopped.url) as store:
        store.put_run("stopped", config.model_dump(mode="json"), None, "2026-01-01T00:00:00+00:00")
    words = ("--temperature", "1", "--max-tokens", "120", "--samples", "2", "--store", stopped.url, "--run", "stopped")

    def answers() -> int:
        return sum(len(e["answers"]) for e in stopped.evaluations())

    for end in (signal.SIGINT, signal.SIGKILL):
        kept = answers()
        victim = started(here, student, *words, "--batch-size", "2")
        until = time.monotonic() + 90
        while answers() < kept + 2 and time.monotonic() < until and victim.poll() is None:
            time.sleep(0.02)
        victim.send_signal(end)
        _, err = victim.communicate(timeout=60)
        assert victim.returncode == (130 if end == signal.SIGINT else -end), err
        assert "Traceback" not in err
        assert kept < answers() < 24
    kept = answers()
    finished = command(student, *words)
    assert finished.code == 0, finished.err
    assert f"% of {24 - kept} right" in finished.err
    one = {(r["question_id"], r["sample"]): r["text"] for r in stopped.answers(stopped.evaluations()[0]["key"])}
    prompt = prompts.load("boxed")
    wanted = [
        Asked(q, s, prompt.student_messages(q))
        for q in read_questions(str(here / "q.jsonl"), Path(), ROW_RULES)
        for s in (0, 1)
    ]
    at_once = TransformersEngine(find(str(student))).answers(wanted, Sampling(max_tokens=120, temperature=1.0))
    assert one == {(a.question.id, a.sample): g.text for batch in at_once for a, g in batch}
    assert len(one) == 24
