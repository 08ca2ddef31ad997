"""A job that is killed at any moment and started again ends as its commands do, run one by one without a break."""

import json
import os
import random
import signal
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import scaled
from jobs import environment, make_job, slowly, start_job
from scripted_endpoint import Endpoint
from students import tiny_student
from trainings import OTHERS_WARN, weights

from finetune.job.settings import read_job
from finetune.job.stages import stages_of
from finetune.train.output_folder.loss_curve import read_curve
from harvest.core.errors import StoreUnusable
from harvest.store import Store

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
    *OTHERS_WARN,
]

QUESTIONS, EPOCHS = scaled(16, 60), scaled(3, 10)


def children_of(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def answered(folder: Path) -> set[str]:
    """The questions whose answers are stored."""
    with suppress(StoreUnusable), closing(Store.open(f"sqlite:///{folder / 'store.db'}", write=False)) as store:
        return {a.question.question for a in store.answered_attempts(store.run_id("j"), "all")}
    return set()


def result(folder: Path) -> dict[str, Any]:
    """All of a job's result that is no time and no name of a place."""
    report = json.loads((folder / "data/runs/j/report.json").read_text())
    rows = [json.loads(line) for line in (folder / "data/runs/j/dataset/train.jsonl").read_text().splitlines()]
    evaluation = [(e["label"], e["n"], e["outcomes"], e["mean_output_tokens"]) for e in report["evaluation"]]
    return {
        "rows": [(row["id"], row["messages"]) for row in rows],
        "questions": report["questions"],
        "traces": report["traces"],
        "status": report["run"]["status"],
        "trained": [(t["data"], t["rows"], t["steps"], t["tokens"]) for t in report["training"]],
        "evaluation": evaluation,
        "weights": weights(folder / "data/students/j"),
    }


def by_hand(folder: Path) -> None:
    """Does what a job does, by the commands that its --dry-run prints."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        stages = stages_of(read_job(Path("job.toml")))
    finally:
        os.chdir(here)
    for stage in (s for s in stages if s.words):
        done = forked.run(*stage.words[1:], cwd=folder, env=environment())
        assert done.returncode == 0, done.stderr


def begun(log: Path) -> str:
    """The stage that the job has begun last."""
    lines = [line.split(" · ") for line in log.read_text().splitlines() if " of 5 · " in line]
    return lines[-1][1].split()[0] if lines else ""


def wait_for(stage: str, teacher: Endpoint, folder: Path, job: Any, log: Path, rng: random.Random) -> None:
    """Returns at a random moment of a stage: after some answers, after some steps, or after some seconds."""
    asked, points, seconds = len(teacher.asked) + rng.randint(1, 6), read_curve(folder / "data/students/j"), 0.0
    while job.poll() is None:
        now = read_curve(folder / "data/students/j")
        if begun(log) == stage == "collect" and len(teacher.asked) >= asked:
            seconds = 0.1
        elif begun(log) == stage == "train" and now and now[-1:] != points[-1:]:
            seconds = 1.0
        elif begun(log) == stage == "evaluate":
            seconds = 8.0
        if seconds:
            break
        time.sleep(0.01)
    until = time.monotonic() + rng.random() * seconds
    while job.poll() is None and time.monotonic() < until:
        time.sleep(0.01)


def test_killed_at_any_moment_a_job_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    rng, log = random.Random(18), tmp_path / "log"
    student = tiny_student(tmp_path / "student")
    with Endpoint(slowly) as teacher:
        make_job(tmp_path / "whole", teacher.url, student, QUESTIONS, EPOCHS)
        by_hand(tmp_path / "whole")
        first, folder = len(teacher.asked), tmp_path / "broken"
        make_job(folder, teacher.url, student, QUESTIONS, EPOCHS)
        stages = ["collect"] * scaled(1, 4) + ["train"] * scaled(1, 4) + ["evaluate"] * scaled(0, 2)
        for n, stage in enumerate(stages):
            killed = ("the job", "its stage", "both")[n % 3]
            log.write_text("")
            there, before = answered(folder), len(teacher.asked)
            job = start_job(folder, log=log)
            wait_for(stage, teacher, folder, job, log, rng)
            assert begun(log) == stage
            assert job.poll() is None, log.read_text()
            for pid in [job.pid] * (killed != "its stage") + children_of(job.pid) * (killed != "the job"):
                os.kill(pid, signal.SIGKILL)
            assert forked.finished(job).returncode == (137 if killed == "its stage" else -9), log.read_text()
            assert killed != "its stage" or "was killed by signal 9" in log.read_text()
            assert not {a.question for a in teacher.asked[before:]} & there, "asked again after it was answered"
        log.write_text("")
        done = forked.finished(start_job(folder, log=log))
        assert done.returncode == 0, log.read_text()
        assert f"checked traces from {QUESTIONS} questions" in done.stdout
        most = QUESTIONS + 2 * stages.count("collect")  # two at once are in flight when it is killed
        assert len(teacher.asked) - first <= most
    assert result(folder) == result(tmp_path / "whole")
