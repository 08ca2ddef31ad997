"""Measures `finetune prefer` on the demo's scale: accuracy and tokens of the demo's student before and after.

    .venv/bin/python benchmarks/shorter_chains.py [--rates 5e-6 2e-5]

Needs a finished `make demo`. Its student answers questions of the trained kind four times each, which makes the pairs;
each learning rate trains a student on them; all are asked the demo's held-out sums. Steps that are done are not done
again. On two cores without other work it takes about ten minutes.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SUMS = "reasoning-gym:chain_sum?n={n}&seed={seed}&min_terms=3&max_terms=4&min_digits=1&max_digits=2"
STUDENT, PAIRS = "data/students/demo", Path("data/own-answers.jsonl")
ASKED = ("--prompt", "steps", "--run", "demo", "--json")
RECIPE = """
student = "{student}"
data    = "{data}"
output  = "{output}"

[render]
max_tokens = 512

[prefer]
wrong_share = 0.1

[train]
epochs          = 1
traces_per_step = 16
learning_rate   = {rate}
seed            = 0
"""


def finetune(*args: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "finetune", *args], check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def row(name: str, found: dict[str, Any]) -> str:
    right = f"{round(found['accuracy'] * found['n'])}/{found['n']}"
    gain = found["gain"]
    points = f"{gain['points']:+.1f} ({gain['low']:+.1f} to {gain['high']:+.1f})" if gain else ""
    tokens = f"{found['mean_output_tokens']:.1f} | {found['tokens_per_right'] or 0:.1f}"
    return f"| {name} | {right} | {points} | {tokens} | {100 * found['unfinished']:.0f}% |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", nargs="+", default=["5e-6", "2e-5"])
    rates = parser.parse_args().rates
    if not PAIRS.is_file():
        drawn = ("--samples", "4", "--temperature", "1", "--max-tokens", "128", "--label", "after")
        own = SUMS.format(n=80, seed=21)
        finetune("eval", STUDENT, "--questions", own, *drawn, *ASKED, "--details", str(PAIRS))
    held_out = SUMS.format(n=100, seed=1001)
    print("| student | right | points (95%, paired) | tokens an answer | tokens for each right answer | unfinished |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    print(row("the demo's", finetune("eval", STUDENT, "--questions", held_out, "--max-tokens", "160", *ASKED)))
    for rate in rates:
        output = Path(f"data/students/demo-short-{rate}")
        recipe = output.with_suffix(".toml")
        recipe.write_text(RECIPE.format(student=STUDENT, data=PAIRS, output=output, rate=rate))
        block = finetune("prefer", str(recipe), "--run", "demo", "--json")
        found = finetune("eval", str(output), "--questions", held_out, "--max-tokens", "160", *ASKED)
        pairs = f"{block['pairs']['shorter']} + {block['pairs']['longer']} pairs, {block['wall_s']:.0f} s"
        print(row(f"`prefer`, {rate} ({pairs})", found), flush=True)


if __name__ == "__main__":
    main()
