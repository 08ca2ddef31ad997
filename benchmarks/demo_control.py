"""Shows where the demo's gain comes from: three seeds, and a control trained on the answers without their chains.

    .venv/bin/python benchmarks/demo_control.py [--seeds 0 1 2] [--longer 300] [--epochs 4]

Needs a finished `make demo` (its traces, its first student). Trains each student that is not there yet, asks all of
them the demo's held-out questions, and prints a Markdown table. On two cores a student takes minutes.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TRACES = ROOT / "data/runs/demo/dataset/train.jsonl"
STUDENT, RECIPE = "SmolLM2-135M-Instruct", str(ROOT / "recipes/demo-student.toml")


def held_out(longer: int) -> list[str]:
    """The demo's two sources of questions; the second one, of longer sums, with so many questions."""
    first, second = tomllib.loads((ROOT / "recipes/jobs/demo.toml").read_text())["evaluate"]["questions"]
    return [first, re.sub(r"n=\d+", f"n={longer}", second)]


def answers_alone() -> Path:
    """A folder with the demo's traces, the chain taken out of each assistant's turn."""
    folder = ROOT / "data/runs/demo-answers"
    folder.mkdir(exist_ok=True)
    with TRACES.open() as traces, (folder / "train.jsonl").open("w") as out:
        for line in traces:
            trace = json.loads(line)
            turn = {"role": "assistant", "content": trace["answer"]}
            out.write(json.dumps({"messages": [*trace["messages"][:-1], turn]}) + "\n")
    return folder


def finetune(*args: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "finetune", *args], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def cells(student: str, questions: str) -> Iterator[str]:
    """Yields the cells of a student's row: right answers, the gain over the untrained model, tokens an answer."""
    flags = ["--prompt", "steps", "--max-tokens", "160", "--run", "demo", "--json"]
    e = json.loads(finetune("eval", student, "--questions", questions, *flags))
    yield f"{round(e['accuracy'] * e['n'])}/{e['n']} ({100 * e['low']:.0f}–{100 * e['high']:.0f}%)"
    gain: dict[str, Any] | None = e["gain"]
    yield f"{gain['points']:+.1f} ({gain['low']:+.1f} to {gain['high']:+.1f})" if gain else ""
    yield f"{e['mean_output_tokens']:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--longer", type=int, default=60, help="how many sums of five or six terms are asked (60)")
    parser.add_argument("--epochs", type=float, help="in place of the recipe's")
    args = parser.parse_args()
    if not TRACES.exists():
        sys.exit("there are no traces of the demo yet: make demo")
    print("| student | 3–4 terms | points (95%) | tokens | 5–6 terms | points (95%) | tokens |")
    print("| --- | --- | --- | ---: | --- | --- | ---: |")

    def row(name: str, student: str) -> None:
        found = [cell for questions in held_out(args.longer) for cell in cells(student, questions)]
        print(f"| {name} | {' | '.join(found)} |", flush=True)

    row("before", STUDENT)
    for seed in args.seeds:
        row(f"chains, seed {seed}", chains(seed, args.epochs))
    if args.epochs is None:
        output = "data/students/demo-answers"
        finetune("sft", RECIPE, "--output", output, "--data", str(answers_alone()))
        row("answers alone (control)", output)


def chains(seed: int, epochs: float | None) -> str:
    """The folder of a student trained on the traces; the demo's own for seed 0 and the recipe's epochs."""
    if seed == 0 and epochs is None:
        return "data/students/demo"
    output = f"data/students/demo-seed{seed}" + (f"-epochs{epochs:g}" if epochs else "")
    more = ["--output", output, "--train.seed", str(seed), "--data", str(TRACES.parent)]
    finetune("sft", RECIPE, *more, *(["--train.epochs", str(epochs)] if epochs else []))
    return output


if __name__ == "__main__":
    main()
