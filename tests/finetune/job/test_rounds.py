"""A job in rounds: what each buys, when they end, and that a killed one goes on without buying twice."""

import json
import os
import signal
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import forked
import pytest
from jobs import environment, make_job, slowly, start_job
from scripted_endpoint import Endpoint
from students import tiny_student
from test_job_kills import children_of

from finetune.job.dry_run import foreseen_job
from finetune.job.rounds import _end, _pool, _questions_chosen, round_of
from finetune.job.settings import PlannedJob, Rounds, read_job
from finetune.job.stages import stages_of
from finetune.measure.asked_questions import reading_once
from harvest.core.errors import ConfigError

ROUNDS = "\n[rounds]\nquestions = 4\nmost = 2\nlooked_at = 6\nleast_points_per_usd = -1e9\n"


def in_rounds(folder: Path, url: str, rounds: str = ROUNDS, student: Path | None = None) -> Path:
    job = make_job(folder, url, student, questions=12, epochs=1)
    job.write_text(job.read_text() + rounds)
    return job


def questions_of(folder: Path, number: int) -> list[str]:
    lines = (folder / f"data/runs/j/rounds/round-{number}.jsonl").read_text().splitlines()
    return [json.loads(line)["question"] for line in lines]


def test_each_round_buys_its_questions_once_also_when_it_is_killed(tmp_path: Path) -> None:
    log, folder = tmp_path / "log", tmp_path / "j"
    with Endpoint(slowly) as teacher:
        in_rounds(folder, teacher.url, student=tiny_student(tmp_path / "student"))
        job = start_job(folder, log=log)
        while job.poll() is None and len(teacher.asked) <= 5:
            time.sleep(0.01)
        assert job.poll() is None, log.read_text()
        for pid in [job.pid, *children_of(job.pid)]:
            os.kill(pid, signal.SIGKILL)
        forked.finished(job)
        done = forked.finished(start_job(folder, log=log))
        assert done.returncode == 0, log.read_text()
        first, both = questions_of(folder, 1), questions_of(folder, 2)
        assert (len(first), len(both), both[:4]) == (4, 8, first), "a round's questions stay, and new ones come after"
        assert set(teacher.made()) == {f"{q}" for q in both}
        assert sum(teacher.made().values()) <= 8 + 2, "two may have been in flight when it was killed"
        asked = len(teacher.asked)
        report = json.loads((folder / "data/runs/j/report.json").read_text())
        one, two = report["rounds"]
        assert (one["questions"], two["questions"]) == (4, 4)
        assert Decimal(one["spent_usd"]) + Decimal(two["spent_usd"]) == Decimal(report["money"]["spent_usd"]) > 0
        assert one["gain"]["points"] is None, "nobody was asked before the first training"
        assert two["gain"]["points"] == 0.0, "a student of random weights"
        assert [Path(t["output"]).name for t in report["training"]] == ["j-round-1", "j-round-2"]
        assert {e["n"] for e in report["evaluation"]} == {4}, "answers to what may be bought are in no report"
        page = (folder / "data/runs/j/report.html").read_text()
        assert "points a dollar" in page

        again = forked.finished(start_job(folder, log=log))
        assert again.returncode == 0, log.read_text()
        assert len(teacher.asked) == asked
        other = forked.run(
            "finetune", "job", "job.toml", "--train.recipe.train.epochs", "2", cwd=folder, env=environment()
        )
        assert other.returncode == 2
        assert "round 1 is done, and was another job: give the run another name" in other.stderr


def planned(tmp_path: Path, rounds: str, monkeypatch: pytest.MonkeyPatch) -> PlannedJob:
    job = in_rounds(tmp_path / "j", "http://127.0.0.1:9/v1", rounds)
    monkeypatch.chdir(job.parent)
    return read_job(Path("job.toml"))


def test_the_questions_that_the_student_failed_are_bought_the_worst_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = planned(tmp_path, "\n[rounds]\nquestions = 2\nlooked_at = 5\nsamples = 2\n", monkeypatch)
    pool = _pool(job)
    right = {pool[2].id: 2, pool[3].id: 1, pool[4].id: 0, pool[5].id: 1, pool[6].id: 2}
    started: list[Sequence[str]] = []

    def answers(words: Sequence[str]) -> int:
        started.append(words)
        rows = (
            {"question_id": q, "sample": n, "outcome": "right" if n < of else "wrong", "finish_reason": "stop"}
            for q, of in right.items()
            for n in range(2)
        )
        file = Path(words[words.index("--details") + 1])
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return 0

    def never(_: Sequence[str]) -> int:
        raise AssertionError("the first round asks no student")

    assert _questions_chosen(job, 1, pool, never) == 0
    assert _questions_chosen(job, 2, pool, answers) == 0
    chosen = [json.loads(line)["id"] for line in Path("data/runs/j/rounds/round-2.jsonl").read_text().splitlines()]
    assert chosen == [pool[0].id, pool[1].id, pool[4].id, pool[3].id]
    (words,) = started
    assert words[2:4] == ["eval", "data/students/j-round-1"]
    assert words[words.index("--samples") + 1] == "2"
    assert words[words.index("--temperature") + 1] == "1", "greedy answers would be the same twice"
    assert _questions_chosen(job, 2, pool, never) == 0, "chosen once"
    assert _questions_chosen(job, 3, pool, lambda _: 7) == 7, "the command's exit code"
    right = {pool[n].id: 2 for n in (2, 5, 6, 7, 8)}
    assert _questions_chosen(job, 3, pool, answers) is None, "the student failed none"


def test_a_dry_run_prints_no_command_that_would_buy_the_whole_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = planned(tmp_path, "\n[rounds]\nquestions = 2\nmost = 3\n", monkeypatch)
    found = foreseen_job(job, stages_of(job), lambda _: False, reading_once())
    assert found["stages"][0]["questions"] == 6, "of 12: what three rounds may buy"
    assert {stage["command"] for stage in found["stages"]} == {None}


@pytest.mark.parametrize(
    ("number", "points", "a_dollar", "ends"),
    [
        (1, -3.0, -1.0, None),
        (2, None, None, None),
        (2, 0.0, None, "round 2 brought no points"),
        (2, 0.1, None, None),
        (2, 4.0, 0.5, "round 2 brought +0.50 points a dollar, and least_points_per_usd = 1"),
        (2, 4.0, 1.5, None),
        (3, 4.0, 1.5, "there have been 3 (rounds.most)"),
    ],
)
def test_a_round_that_does_not_pay_is_the_last(
    number: int, points: float | None, a_dollar: float | None, ends: str | None
) -> None:
    rounds = Rounds(questions=10, most=3, least_points_per_usd=1)
    block: dict[str, Any] = {"gain": {"points": points}, "points_per_usd": a_dollar}
    assert _end(rounds, number, block) == ends


def test_rounds_that_cannot_be_measured_or_kept_apart_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = in_rounds(tmp_path / "j", "http://127.0.0.1:9/v1")
    monkeypatch.chdir(job.parent)
    there = job.read_text()
    job.write_text(there.replace('who = ["after"]', 'who = ["before"]'))
    with pytest.raises(ConfigError, match=r"rounds: no \[evaluate\] asks the student after a training"):
        read_job(Path("job.toml"))
    more = '\n[run.checks]\nwithout_gold = "majority"\n[run.sampling]\nsamples = 4'
    job.write_text(there.replace("\n[run.sampling]", more))
    with pytest.raises(ConfigError, match="a student is measured by gold answers"):
        read_job(Path("job.toml"))
    second = '\n[[train]]\n[train.recipe]\nstudent = "data/students/j-0-sft"\n\n[evaluate]'
    job.write_text(there.replace("[train]\n", "[[train]]\n").replace("\n[evaluate]", second))
    with pytest.raises(ConfigError, match="each round trains its own: leave `student` out there"):
        round_of(read_job(Path("job.toml")), 1)
