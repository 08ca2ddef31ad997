"""Soft targets against hard text: the same rows, tokens, steps and seeds, one way after the other.

    python benchmarks/soft_targets.py DATA FOLDER [--student S] [--teachers T …] [--rows N] [--seeds 3] [--epochs 1]
        [--temperature 1] [--weight 0.9] [--questions F] [--table]

DATA is a run's export or any file of rows, FOLDER keeps the work. The ways are `hard` (`finetune sft`), `soft-N`
(`finetune distill` with the Nth teacher) and, with several teachers, `soft-all` (their average). A cell is one way with
one seed: a training, then its evaluation on F. Each is a command that goes on where it was killed, and a cell that is
finished is not done again: start the same line again until the table is there. --table prints what there is so far.

A question's rows are trained or held out by the seed, equally for every way. Loss and accuracy by token are of the
held-out rows' text, for every way; `difference` is that from `hard`, by seed, with a 95% interval (Student's quantile).
"""

import argparse
import json
import statistics
import subprocess
import sys
from math import sqrt
from pathlib import Path
from typing import Any

from harvest.core.intervals import paired_gain, student_quantile

HARD = "hard"
LEARNING_RATE = {"full": 1e-5, "lora": 1e-4}


def ways_of(teachers: list[str]) -> dict[str, list[str]]:
    """Maps the name of each way to its teachers."""
    ways: dict[str, list[str]] = {HARD: []}
    ways |= {f"soft-{n}": [teacher] for n, teacher in enumerate(teachers, 1)}
    return ways | ({"soft-all": teachers} if len(teachers) > 1 else {})


def recipe_of(args: argparse.Namespace, data: Path, folder: Path, teachers: list[str], seed: int) -> str:
    distill = ""
    if teachers:
        distill = (
            f"[distill]\nteachers = {json.dumps(teachers)}\ntemperature = {args.temperature}\nweight = {args.weight}\n"
        )
    return (
        f"student = {json.dumps(args.student)}\ndata = {json.dumps(str(data))}\noutput = {json.dumps(str(folder))}\n"
        f'method = "{args.method}"\n[render]\nmax_tokens = 1024\n{distill}[train]\nepochs = {args.epochs}\n'
        f"traces_per_step = {args.traces_per_step}\nseed = {seed}\n"
        f"learning_rate = {args.learning_rate or LEARNING_RATE[args.method]}\nheld_out = {args.held_out}\n"
    )


def some_rows(args: argparse.Namespace) -> Path:
    """Writes the first rows of the data, so that every way has the same."""
    data, to = Path(args.data), Path(args.folder) / "rows.jsonl"
    file = (
        data if data.is_file() else next(p for p in (data / "train.jsonl", data / "dataset/train.jsonl") if p.is_file())
    )
    if not to.is_file():
        lines = file.read_text("utf-8").splitlines(keepends=True)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text("".join(lines[: args.rows]), "utf-8")
    return to


def command(words: list[str], result: Path) -> None:
    """Runs a command of finetune, unless its result is there, and keeps what it prints."""
    if result.is_file():
        return
    print(" ".join(words), file=sys.stderr)
    done = subprocess.run([sys.executable, "-m", "finetune", *words, "--json"], stdout=subprocess.PIPE, check=True)
    unfinished = result.with_suffix(".unfinished")
    unfinished.write_bytes(done.stdout)
    unfinished.replace(result)


def cell(args: argparse.Namespace, data: Path, way: str, teachers: list[str], seed: int) -> None:
    folder = Path(args.folder) / f"{way}-seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "recipe.toml"
    recipe.write_text(recipe_of(args, data, folder / "student", teachers, seed), "utf-8")
    command(["distill" if teachers else "sft", str(recipe)], folder / "training.json")
    if args.questions:
        details = ["--details", str(folder / "answers.jsonl")]
        words = ["eval", str(folder / "student"), "--questions", args.questions, "--prompt", args.prompt, *details]
        words += ["--max-tokens", str(args.max_tokens)]
        command(words, folder / "evaluation.json")


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return found


def right_answers(folder: Path) -> dict[str, float]:
    """Returns for each question of an evaluation whether it was answered right."""
    file = folder / "answers.jsonl"
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.is_file() else []
    return {str(row["question_id"]): float(row["outcome"] == "right") for row in rows if "question_id" in row}


def interval(values: list[float]) -> str:
    """Returns the mean of some differences with its 95% interval; without one for a single seed."""
    if len(values) < 2:
        return f"{values[0]:+.4f} (one seed)" if values else "–"
    half = student_quantile(len(values) - 1) * statistics.stdev(values) / sqrt(len(values))
    mean = statistics.mean(values)
    return f"{mean:+.4f} ({mean - half:+.4f} to {mean + half:+.4f})"


def table(args: argparse.Namespace) -> str:
    lines = [
        "| way | seeds | held-out loss before | after | difference | held-out accuracy | difference |"
        " questions right | difference, points |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    found = {
        way: {seed: read(Path(args.folder) / f"{way}-seed{seed}" / "training.json") for seed in range(args.seeds)}
        for way in ways_of(args.teachers)
    }
    for way, by_seed in found.items():
        done = {seed: block["held_out"] for seed, block in by_seed.items() if block.get("held_out")}
        both = [s for s in done if found[HARD][s].get("held_out")]

        def mean(name: str, done: dict[int, Any] = done) -> str:
            return f"{statistics.mean(h[name] for h in done.values()):.4f}" if done else "–"

        def against(name: str, done: dict[int, Any] = done, both: list[int] = both) -> str:
            return interval([done[s][name] - found[HARD][s]["held_out"][name] for s in both])

        right = {f"{s}/{q}": r for s in done for q, r in right_answers(Path(args.folder) / f"{way}-seed{s}").items()}
        hard = {f"{s}/{q}": r for s in both for q, r in right_answers(Path(args.folder) / f"{HARD}-seed{s}").items()}
        gain = paired_gain(hard, right)
        points = "–" if gain[0] is None or way == HARD else "{:+.1f} ({:+.1f} to {:+.1f})".format(*gain)
        lines.append(
            f"| {way} | {len(done)} | {mean('first_loss')} | {mean('last_loss')} |"
            f" {'–' if way == HARD else against('last_loss')} | {mean('last_accuracy')} |"
            f" {'–' if way == HARD else against('last_accuracy')} |"
            f" {f'{sum(right.values()):.0f}/{len(right)}' if right else '–'} | {points} |"
        )
    return "\n".join(lines)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("data")
    p.add_argument("folder")
    p.add_argument("--student", default="Qwen2.5-Coder-0.5B-Instruct")
    p.add_argument("--teachers", nargs="+", default=["Qwen2.5-Coder-1.5B-Instruct"])
    p.add_argument("--method", choices=LEARNING_RATE, default="lora")
    p.add_argument("--rows", type=int, default=384)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--epochs", type=float, default=1)
    p.add_argument("--traces-per-step", type=int, default=8)
    p.add_argument("--learning-rate", type=float)
    p.add_argument("--held-out", type=float, default=0.2)
    p.add_argument("--temperature", type=float, default=1.0)
    p.add_argument("--weight", type=float, default=0.9)
    p.add_argument("--questions", help="evaluates each student on these too")
    p.add_argument("--prompt", default="steps")
    p.add_argument("--max-tokens", type=int, default=1024, help="most tokens of an answer to --questions")
    p.add_argument("--table", action="store_true")
    args = p.parse_args()
    if not args.table:
        data = some_rows(args)
        for seed in range(args.seeds):
            for way, teachers in ways_of(args.teachers).items():
                cell(args, data, way, teachers, seed)
    print(table(args))


if __name__ == "__main__":
    main()
