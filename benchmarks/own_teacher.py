"""Measures how far a model's stored log-probabilities are from the same weights as the student, before any step.

    python benchmarks/own_teacher.py FOLDER [--model Qwen2.5-Coder-0.5B-Instruct] [--questions 24] [--rows 4]

The embedded model answers sums with `top_logprobs`, and the right answers are exported into FOLDER. The student is the
model's own file, in float32 under transformers. What is left of the divergence is the rounding of llama.cpp's kernels
and of 16-bit log-probabilities; a fault in tokens, places or temperature is a hundred times that. FOLDER keeps the run,
so a second start only measures.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch

from finetune.recipe import Recipe
from finetune.rows.template import recipe_tokenizer
from finetune.run import Run
from finetune.student import find, load_model
from finetune.train.loss import add_loss
from finetune.train.sft import quiet
from finetune.train.soft_targets.divergence import SoftTargets
from finetune.train.soft_targets.targets import with_targets
from finetune.train.soft_targets.trainer import TARGETS, DistillTrainer, laid
from harvest.commands.run_folder import find_run

SUMS = "reasoning-gym:chain_sum?n={}&seed=5&min_terms=3&max_terms=4&min_digits=1&max_digits=2"
RUN = """
name = "own"
questions = "{questions}"
store = "sqlite:///own.db"
prompt = "boxed"
[teacher]
local = "{model}"
[sampling]
temperature = 0.7
max_tokens = 256
top_logprobs = 20
"""
TEMPERATURES = (1.0, 2.0)
BAR = 0.05
"""More nats a token than this are no rounding."""


@torch.no_grad()
def divergences(model: str, rows: int) -> tuple[dict[float, float], float, int]:
    """Returns (nats a token by temperature, the text's cross-entropy, how many tokens have targets) of some rows."""
    recipe = Recipe.model_validate({"student": model, "data": "data/runs/own", "output": "unused", "distill": {}})
    tokenizer = recipe_tokenizer(recipe)
    made = with_targets(recipe, tokenizer, [Run(*find_run("own", None))], print)
    student = load_model(find(model), torch.float32).eval()
    add_loss(student)
    kl, text, tokens = dict.fromkeys(TEMPERATURES, 0.0), 0.0, 0
    for row in DistillTrainer.dataset(made).select(range(min(rows, len(made)))):
        ids, labels = (torch.tensor(row[name])[None] for name in ("input_ids", "labels"))
        targets = laid([row], ids.shape)
        has = targets["soft_at"] >= 0
        for t in TEMPERATURES:
            soft = SoftTargets(*(targets[name] for name in TARGETS), temperature=t, weight=1.0)
            student(input_ids=ids, labels=labels, soft=soft, trained_loss=True)
            kl[t] += float(soft.kl)
        text += float(student(input_ids=ids, labels=labels.masked_fill(~has, -100), trained_loss=True))
        tokens += int(has.sum())
    return {t: total / tokens for t, total in kl.items()}, text / tokens, tokens


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=Path)
    p.add_argument("--model", default="Qwen2.5-Coder-0.5B-Instruct")
    p.add_argument("--questions", type=int, default=24)
    p.add_argument("--rows", type=int, default=4)
    args = p.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(args.folder)
    Path("run.toml").write_text(RUN.format(questions=SUMS.format(args.questions), model=args.model), "utf-8")
    subprocess.run([sys.executable, "-m", "harvest", "collect", "run.toml"], stdout=subprocess.DEVNULL, check=True)
    quiet()
    kl, text, tokens = divergences(args.model, args.rows)
    for t, nats in kl.items():
        print(f"divergence at T = {t:g}: {nats:.5f} nats a token")
    print(f"cross-entropy of the text: {text:.3f} nats a token; {tokens} tokens with targets")
    if max(kl.values()) > BAR:
        sys.exit(f"more than {BAR} nats a token: the student is not its own teacher")


if __name__ == "__main__":
    main()
