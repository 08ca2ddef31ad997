"""A whole job over short sums, a scripted teacher and a student of random weights, for the tests of jobs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import ROOT
from scripted_endpoint import PRICE, Asked, Say

JOB = """
[run]
name = "j"
questions = "questions.jsonl"
store = "sqlite:///store.db"
[run.teacher]
base_url = "{url}"
model = "mock"
max_concurrency = 2
price_usd_per_mtok = {{ input = "{input}", output = "{output}" }}
[run.sampling]
max_tokens = 100
[run.budget]
usd = "1.00"

[train]
[train.recipe]
student = "student"
[train.recipe.render]
max_tokens = 512
[train.recipe.train]
epochs = {epochs}
traces_per_step = 4
learning_rate = 3e-3
save_steps = 2

[evaluate]
questions = "held-out.jsonl"
max_tokens = 6
who = ["after"]
"""


def slowly(asked: Asked) -> Say:
    """A right answer after a moment, but to every fifth question, which gets a wrong one."""
    n = int(asked.question.split(" + ")[0].split()[-1])
    return Say(delay_s=0.1, text="\\boxed{0}" if n % 5 == 4 else None)


def make_job(folder: Path, url: str, student: Path | None = None, questions: int = 16, epochs: int = 3) -> Path:
    """Writes a JOB.toml and all that it names into `folder`."""
    folder.mkdir()
    if student is not None:
        shutil.copytree(student, folder / "student")
    for name, first, n in (("questions", 1, questions), ("held-out", 100, 4)):
        rows = (
            {"id": f"{name}-{i}", "question": f"{i} + {i + 1}", "answer": str(2 * i + 1)}
            for i in range(first, first + n)
        )
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "job.toml").write_text(JOB.format(url=url, epochs=epochs, **PRICE))
    return folder / "job.toml"


def environment() -> dict[str, str]:
    """The environment of a job, whose stages start in a folder from which the packages are not seen."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def start_job(folder: Path, *words: str, log: Path) -> "subprocess.Popen[str]":
    """`python -m finetune job job.toml words…` as a new process; what it says on stderr goes to `log`."""
    with log.open("a") as to:
        return subprocess.Popen(
            [sys.executable, "-m", "finetune", "job", "job.toml", *words],
            cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=to, text=True,
        )  # fmt: skip
