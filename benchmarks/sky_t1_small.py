"""Runs Sky-T1 whole, as a job, on small stand-ins: sixty questions, embedded models as teacher, rewriter and student.

    python benchmarks/sky_t1_small.py WORK         # goes on in WORK; then prints the tables of the report, in Markdown

WORK gets a folder in the hub's layout for each set of questions (`datasets` takes a folder of a set's name for the
set): NuminaMath-CoT, APPS with its script and the hub's copy in Parquet, TACO, STILL-2. The questions are our own,
and easy enough for a model of 1.5B. All else is as in recipes/jobs/sky-t1-32b.toml, from the names to the report.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
Row = dict[str, Any]
THOUGHT = (
    "<|begin_of_thought|>\n\n{}\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n\\boxed{{{}}}\n\n<|end_of_solution|>"
)
QUESTIONS = [
    "hub:AI-MO/NuminaMath-CoT?source=amc_aime",
    "hub:AI-MO/NuminaMath-CoT?source=olympiads&n=20&seed=1",
    "hub:codeparrot/apps?config=all",
    "hub:BAAI/TACO?config=ALL&difficulty=MEDIUM&n=10&seed=1",
    "hub:RUC-AIBOX/long_form_thought_data_5k?domain=puzzle,physics,biology,chemistry",
]
"""Sixty questions: 10, 20, 10, 10 and 10."""
JOB = """
[run]
name      = "sky-t1-small"
prompt    = "boxed-or-code"
questions = {questions}
[run.teacher]
{teacher}
[run.sampling]
max_tokens  = 256
temperature = 0.6
seed        = 1
[run.budget]
{budget}
[run.rewrite]
on = true
[run.rewrite.model]
{rewriter}
max_tokens = 400
about      = ["no_answer", "format", "no_chain"]
[run.select]
preset  = "sky-t1"
traces  = 40
against = ["held_out.jsonl"]

[train.recipe]
student = "{student}"
output  = "data/students/sky-t1-small"
[train.recipe.render]
reasoning  = "sky-t1"
max_tokens = 1024
[train.recipe.train]
epochs          = 2
traces_per_step = 8
learning_rate   = 2e-4

[evaluate]
questions  = "held_out.jsonl"
max_tokens = {eval_tokens}
"""
PROGRAMS: list[tuple[str, Callable[[int, int], object]]] = [
    ("their sum", lambda a, b: a + b), ("their product", lambda a, b: a * b), ("the larger one", max),
    ("the smaller one", min), ("the first minus the second", lambda a, b: a - b),
    ("the sum of their squares", lambda a, b: a * a + b * b), ("twice their sum", lambda a, b: 2 * (a + b)),
    ("the first plus twice the second", lambda a, b: a + 2 * b), ("their sum plus one", lambda a, b: a + b + 1),
    ("YES if they are equal, else NO", lambda a, b: "YES" if a == b else "NO"),
]  # fmt: skip


def program(n: int) -> Row:
    """Returns a task for a program in the layout of APPS and TACO."""
    words, result = PROGRAMS[n % len(PROGRAMS)]
    pairs = [(3, 4), (10, -2), (7, 7)]
    cases = {"inputs": [f"{a} {b}\n" for a, b in pairs], "outputs": [f"{result(a, b)}\n" for a, b in pairs]}
    times = ", separated by a space" if n < len(PROGRAMS) else ""
    text = f"Read two integers from one line of standard input{times} and print {words}."
    return {"question": text, "input_output": json.dumps(cases), "solutions": "[]", "starter_code": ""}


def sums(n: int, seed: int) -> Iterator[tuple[str, int]]:
    draw = random.Random(seed)
    for _ in range(n):
        a, b, c = (draw.randint(2, 40) for _ in range(3))
        yield f"What is {a} + {b} - {c}?", a + b - c


def stand_ins(folder: Path) -> None:
    """Writes the sets of questions, and ten held-out questions, into `folder`."""
    maths = [
        {"source": source, "problem": text, "solution": f"We get $\\boxed{{{value}}}$."}
        for n, (text, value) in enumerate(sums(60, 1))
        for source in (("amc_aime", "cn_k12", "olympiads", "olympiads", "cn_k12", "olympiads")[n % 6],)
    ]
    _dataset(folder / "AI-MO/NuminaMath-CoT", maths)
    science = [
        {"question": f"A car drives {k * h} km in {h} hours. What is its speed in km/h?", "domain": domain,
         "combined_text": THOUGHT.format(f"{k * h} / {h} = {k}", k)}
        for domain, ks in (("physics", range(31, 41)), ("math", range(51, 56))) for k in ks for h in (3,)
    ]  # fmt: skip
    _dataset(folder / "RUC-AIBOX/long_form_thought_data_5k", science)
    code = [program(n) | {"difficulty": "MEDIUM"} for n in range(10, 20)]
    _dataset(folder / "BAAI/TACO", code + [row | {"difficulty": "HARD"} for row in code], script="ALL")
    _dataset(folder / "codeparrot/apps", [program(n) | {"problem_id": n} for n in range(10)], script="all")
    held_out = [{"question": text, "answer": str(value)} for text, value in sums(10, 2)]
    (folder / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in held_out))


def _dataset(folder: Path, rows: list[Row], script: str | None = None) -> None:
    """Writes a set with its card. With `script`, the set is made by a script, and its rows are the hub's copy of the
    config of that name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    if script is None:
        (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return
    (folder / f"{folder.name}.py").write_text("raise SystemExit('scripts are not run')\n")
    (folder / script / "train").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / script / "train/0000.parquet")


def job_file(folder: Path, **more: str) -> Path:
    """Writes the job into `folder`, with the settings of teacher, rewriter and student in TOML."""
    path = folder / "job.toml"
    path.write_text(JOB.format(questions=json.dumps(QUESTIONS), **more))
    return path


def tables(report: Row) -> Iterator[str]:
    """Yields the numbers of each stage, in Markdown."""
    q, t, w, m = report["questions"], report["traces"], report["rewriting"], report["money"]
    rejected = ", ".join(f"{n} {reason}" for reason, n in t["rejected"].items())
    refused = ", ".join(f"{n} {reason}" for reason, n in w["by_model_refused"].items()) or "none"
    unselected = ", ".join(f"{n} {reason}" for reason, n in t["unselected"].items()) or "none"
    yield "| stage | result |\n| --- | --- |"
    yield f"| questions | {q['total']} in five sets by name, {q['asked']} asked |"
    yield f"| answers | {t['answers']}: {t['accepted']} accepted; rejected: {rejected or 'none'} |"
    alone = f"{w['accepted']} accepted by that alone"
    yield f"| rewriting | {w['by_rules']} by rules; {w['by_model']} by the model, {alone} |"
    yield f"| refused of the model's | {refused} |"
    yield f"| selection | {t['selected']} selected; left out: {unselected} |"
    yield f"| money | {m['spent_usd']} USD, of that rewriting {m['spent_on'].get('rewriting_usd', '0')} USD |"
    for one in report["training"]:
        loss = f"loss {one['loss_first']:.2f} → {one['loss_last']:.2f}"
        yield f"| training | {one['rows']} rows, {one['tokens']:,} tokens, {one['wall_s']:.0f} s; {loss} |"
    for one in report["evaluation"]:
        share = f"{one['accuracy']:.0%} of {one['n']} ({one['low']:.0%} to {one['high']:.0%})"
        tokens = f"{one['mean_output_tokens']:.0f} tokens an answer"
        yield f"| evaluation {one.get('label') or ''} | {share}, {tokens} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    folder = parser.parse_args().work.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    stand_ins(folder)
    local = 'local = "{}"\nmax_concurrency = 4'
    path = job_file(
        folder, teacher=local.format("Qwen2.5-Coder-1.5B-Instruct"), budget="",
        rewriter=local.format("Qwen2.5-Coder-1.5B-Instruct"), student="SmolLM2-135M-Instruct", eval_tokens="160",
    )  # fmt: skip
    command = [sys.executable, "-m", "finetune", "job", path.name]
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    if done.returncode:
        return done.returncode
    report = json.loads((folder / "data/runs/sky-t1-small/report.json").read_text())
    print("\n".join(tables(report)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
