"""Shows where the demo's gain comes from: three seeds, and a control trained on the answers without their chains.

    .venv/bin/python benchmarks/demo_control.py [--seeds 0 1 2]

Needs a finished `make demo` (its traces, its first student). Trains each student that is not there yet, asks all of
them the demo's held-out questions, and prints a Markdown table. On two cores a student takes minutes.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TRACES = ROOT / "data/runs/demo/dataset/train.jsonl"
STUDENT = "SmolLM2-135M-Instruct"


def held_out() -> list[str]:
    """The demo's two sources of questions, from the Makefile."""
    return re.findall(r"^HELD_OUT\w* = (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)


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


def measured(student: str) -> Iterator[dict[str, Any]]:
    for questions in held_out():
        flags = ["--prompt", "steps", "--max-tokens", "160", "--json"]
        yield json.loads(finetune("eval", student, "--questions", questions, *flags))


def row(name: str, student: str) -> str:
    cells = []
    for e in measured(student):
        right = round(e["accuracy"] * e["n"])
        cells.append(f"{right}/{e['n']} ({100 * e['low']:.0f}–{100 * e['high']:.0f}%)")
        cells.append(f"{e['mean_output_tokens']:.0f}")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    if not TRACES.exists():
        sys.exit("there are no traces of the demo yet: make demo")
    print("| student | 3–4 terms | tokens | 5–6 terms | tokens |")
    print("| --- | --- | ---: | --- | ---: |")
    print(row("before", STUDENT), flush=True)
    recipe = str(ROOT / "recipes/demo-student.toml")
    for seed in seeds[:1]:
        print(row(f"chains, seed {seed}", chains(recipe, seed)), flush=True)
    output = "data/students/demo-answers"
    finetune("sft", recipe, "--output", output, "--data", str(answers_alone()))
    print(row("answers alone (control)", output), flush=True)
    for seed in seeds[1:]:
        print(row(f"chains, seed {seed}", chains(recipe, seed)), flush=True)


def chains(recipe: str, seed: int) -> str:
    """The folder of a student trained on the traces; the demo's own for seed 0."""
    output = "data/students/demo" if seed == 0 else f"data/students/demo-seed{seed}"
    more = ["--output", output, "--train.seed", str(seed), "--data", str(TRACES.parent)]
    finetune("sft", recipe, *(more if seed else []))
    return output


if __name__ == "__main__":
    main()
