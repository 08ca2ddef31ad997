"""Measures `finetune init` on the demo's scale: SmolLM2-135M cut to 20 of its 30 layers, then trained as the demo.

    .venv/bin/python benchmarks/cut_layers.py [--keep importance even] [--layers 20]

Needs a finished `make demo`, whose student is the whole one. Prints size, tokens a second and score, and the share of
the whole's score that is retained, beside DistilBERT's own three numbers. Steps that are done are not done again. On
two cores without other work a student takes about five minutes.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

WHOLE, TRAINED = "SmolLM2-135M-Instruct", "data/students/demo"
HELD_OUT = "reasoning-gym:chain_sum?n=100&seed=1001&min_terms=3&max_terms=4&min_digits=1&max_digits=2"
RECIPE = Path(__file__).parents[1] / "recipes/demo-student.toml"


def finetune(*args: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "finetune", *args], check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def speed(folder: str) -> float:
    """Tokens a second of greedy answers, 8 at once, 64 tokens each: the best of three, in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(100, 40_000, (8, 32), generator=torch.Generator().manual_seed(0))
    best = 0.0
    for _ in range(3):
        began = time.perf_counter()
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=64, min_new_tokens=64, do_sample=False)
        best = max(best, 8 * 64 / (time.perf_counter() - began))
    return best


def measured(folder: str) -> dict[str, Any]:
    asked = ("--questions", HELD_OUT, "--prompt", "steps", "--max-tokens", "160", "--json", "--run", "demo")
    found = finetune("eval", folder, *asked)
    weights = AutoModelForCausalLM.from_pretrained(folder).num_parameters()
    return {"weights": weights, "speed": speed(folder), **found}


def row(name: str, found: dict[str, Any], whole: dict[str, Any]) -> str:
    right = (
        f"{round(found['accuracy'] * found['n'])}/{found['n']} ({100 * found['low']:.0f}–{100 * found['high']:.0f}%)"
    )
    size, pace = found["weights"] / whole["weights"], found["speed"] / whole["speed"]
    kept = f"{found['accuracy'] / whole['accuracy']:.0%}" if whole["accuracy"] else ""
    return (
        f"| {name} | {found['weights'] / 1e6:.1f}M ({size:.0%}) | {found['speed']:.0f} ({pace - 1:+.0%}) | {right} | "
        f"{kept} | {found['mean_output_tokens']:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", nargs="+", default=["importance", "even"])
    parser.add_argument("--layers", type=int, default=20)
    args = parser.parse_args()
    whole = measured(TRAINED)
    print("| student | weights | tokens a second | right | of the whole's score | tokens an answer |")
    print("| --- | --- | --- | --- | ---: | ---: |")
    print(row("whole, trained", whole, whole), flush=True)
    for keep in args.keep:
        cut, trained = (f"data/students/cut-{args.layers}-{keep}{end}" for end in ("", "-trained"))
        if not Path(cut).is_dir():
            rows = ("--rows", "data/runs/demo") if keep == "importance" else ()
            finetune("init", WHOLE, "--layers", str(args.layers), "--to", cut, "--keep", keep, *rows, "--json")
        finetune("sft", str(RECIPE), "--student", cut, "--output", trained, "--json")
        print(row(f"{args.layers} layers, {keep}, trained", measured(trained), whole), flush=True)
        print(row(f"{args.layers} layers, {keep}, not trained", measured(cut), whole), flush=True)
    print("| DistilBERT, of BERT | 60% | +60% | | 97% | |")


if __name__ == "__main__":
    main()
