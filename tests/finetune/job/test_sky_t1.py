"""Sky-T1 whole as a job: question sets by name, a scripted teacher and rewriter, and a student of random weights."""

import json
import re
import sys
from decimal import Decimal
from pathlib import Path

import forked
import pytest
from conftest import ROOT
from jobs import environment
from scripted_endpoint import Asked, Endpoint, Say
from students import tiny_student
from test_model_rewriting import THOUGHT, text_in
from test_sandbox import isolated

from finetune.job.settings import read_job

sys.path.insert(0, str(ROOT / "benchmarks"))

import sky_t1_small

EXPRESSIONS = (
    "a + b", "a * b", "max(a, b)", "min(a, b)", "a - b", "a * a + b * b", "2 * (a + b)", "a + 2 * b", "a + b + 1",
    "'YES' if a == b else 'NO'",
)  # fmt: skip
ENDPOINT = 'base_url = "{}"\nmodel = "{}"\nprice_usd_per_mtok = {{ input = "1.00", output = "10.00" }}'


def teacher(asked: Asked) -> Say:
    """A right answer in a free form: a result in words, or a program without a fenced block. One is wrong."""
    numbers = [int(n) for n in re.findall(r"\d+", asked.question)]
    if asked.question.startswith("What is"):
        a, b, c = numbers
        if a % 2:
            return Say(text=f"So it is \\boxed{{{a + b - c}}}.")
        return Say(text=f"I add {a} and {b} and take {c}. Let us call it the number {a + b - c}!", chain="")
    if asked.question.startswith("A car"):
        return Say(text=f"\\boxed{{{numbers[0] // 3 + (numbers[0] == 93)}}}")
    words = asked.question.rsplit("print ", 1)[1].removesuffix(".")
    n = next(n for n, (said, _) in enumerate(sky_t1_small.PROGRAMS) if said == words)
    program = f"a, b = map(int, input().split())\nprint({EXPRESSIONS[n]})"
    return Say(text=program if "separated" in asked.question else f"```python\n{program}\n```")


def rewriter(asked: Asked) -> Say:
    text = text_in(asked)
    if text.startswith("a, b"):
        return Say(text=f"```python\n{text}\n```", output_tokens=20)
    chain, _, result = text.partition(". ")
    return Say(text=THOUGHT.format(f"{chain}.", re.sub(r"(-?\d+)!", r"\\boxed{\1}!", result)), output_tokens=20)


@isolated
def test_every_stage_of_sky_t1_runs_on_stand_ins_and_stands_in_one_report(tmp_path: Path) -> None:
    folder = tmp_path / "j"
    folder.mkdir()
    sky_t1_small.stand_ins(folder)
    tiny_student(folder / "student")
    with Endpoint(teacher) as asked, Endpoint(rewriter) as model:
        job = sky_t1_small.job_file(
            folder, teacher=ENDPOINT.format(asked.url, "mock"), rewriter=ENDPOINT.format(model.url, "mini"),
            budget='usd = "1.00"', student="student", eval_tokens="6",
        )  # fmt: skip
        done = forked.run("finetune", "job", job.name, cwd=folder, env=environment() | {"HF_HUB_OFFLINE": "1"})
        assert done.returncode == 0, done.stderr
        report = json.loads((folder / "data/runs/sky-t1-small/report.json").read_text())
        even = sum(
            a.question.startswith("What is") and int(re.findall(r"\d+", a.question)[0]) % 2 == 0 for a in asked.asked
        )
        assert len(asked.asked) == report["questions"]["total"] == 60
        assert (report["traces"]["accepted"], report["traces"]["rejected"]) == (59, {"wrong": 1})
        assert (report["rewriting"]["by_model"], report["rewriting"]["accepted"]) == (10 + even, 10 + even)
        assert len(model.asked) == 10 + even > 15
        assert report["traces"]["selected"] == report["training"][0]["rows"] == 40
        assert [one["n"] for one in report["evaluation"]] == [10, 10]
        spent = Decimal(asked.billed_pusd + model.billed_pusd) / 10**12
        assert Decimal(report["money"]["spent_usd"]) == spent
        assert Decimal(report["money"]["spent_on"]["rewriting_usd"]) == Decimal(model.billed_pusd) / 10**12
        dataset = folder / "data/runs/sky-t1-small/dataset/train.jsonl"
        rows = [json.loads(line) for line in dataset.read_text().splitlines()]
        assert {row["licence"] for row in rows} == {"apache-2.0"}
        assert len(list(sky_t1_small.tables(report))) == 10


@pytest.mark.parametrize("name", ["sky-t1-32b", "sky-t1-7b-lora", "s1", "openthoughts", "r1-distill"])
def test_the_jobs_of_the_published_recipes_are_read(name: str) -> None:
    job = read_job(ROOT / f"recipes/jobs/{name}.toml", ())
    assert job.run.budget.usd is not None
    assert job.settings.expect.output_tokens is not None, "--dry-run says what it is likely to cost"
    assert len(job.trainings) == 1
