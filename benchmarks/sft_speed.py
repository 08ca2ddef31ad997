"""Tokens a second of `finetune sft` against a bare loop and against TRL's own defaults, same rows, same machine.

    python benchmarks/sft_speed.py [--steps 6] [--only ours,bare,trl]

Rows are synthetic sums with a chain, as the demo's. Each way runs in a process of its own, the first step left
out. Tokens are those of the rows, padding not counted. `cpu_s` is the processor time of a step: on a machine that
others use too, it says more than the clock.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TRACES_PER_STEP = 16
STUDENT = "SmolLM2-135M-Instruct"


def rows(n: int) -> list[dict[str, Any]]:
    """Conversations about sums of 3 or 4 terms, 70 to 110 tokens each."""
    rng, made = random.Random(0), []
    for _ in range(n):
        terms = [rng.randint(1, 99) for _ in range(rng.choice((3, 4)))]
        total, lines = terms[0], []
        for t in terms[1:]:
            lines.append(f"{total} + {t} = {total + t}")
            total += t
        chain = "\n".join(lines)
        made.append({"messages": [
            {"role": "system", "content": "Work left to right, one short line per step, then the answer in \\boxed{}."},
            {"role": "user", "content": f"State the final answer: {' + '.join(map(str, terms))} ="},
            {"role": "assistant", "content": f"<think>\n{chain}\n</think>\n\n\\boxed{{{total}}}"},
        ]})  # fmt: skip
    return made


class Clock:
    """Wall and processor seconds since the first step ended, and tokens."""

    def __init__(self) -> None:
        self.at: list[tuple[float, float]] = []

    def tick(self) -> None:
        self.at.append((time.monotonic(), time.process_time()))

    def figures(self, lengths: list[int]) -> dict[str, float]:
        steps = len(self.at) - 1
        wall, cpu = (self.at[-1][i] - self.at[0][i] for i in (0, 1))
        tokens = sum(lengths) / len(lengths) * TRACES_PER_STEP * steps
        return {
            "tokens_per_s": round(tokens / wall, 1),
            "cpu_s": round(cpu / steps, 2),
            "wall_s": round(wall / steps, 2),
        }


def prepared(steps: int, folder: Path) -> Any:
    from finetune.config import Recipe
    from finetune.dataset import examples
    from finetune.student import find, load_tokenizer

    data = folder / "train.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in rows(TRACES_PER_STEP * (steps + 1))), "utf-8")
    recipe = Recipe.model_validate(
        {"student": STUDENT, "data": str(data), "output": str(folder / "out"), "render": {"max_tokens": 512},
         "train": {"epochs": 1, "traces_per_step": TRACES_PER_STEP, "learning_rate": 1e-4}}
    )  # fmt: skip
    student = find(STUDENT)
    tokenizer = load_tokenizer(student)
    return recipe, student, tokenizer, examples(recipe, tokenizer)


def ours(steps: int, folder: Path) -> dict[str, float]:
    import torch

    from finetune.sft import quiet
    from finetune.trainer import build_trainer, is_bf16_faster, student_parameters, training_config
    from finetune.student import load_model

    recipe, student, tokenizer, made = prepared(steps, folder)
    quiet()
    config = training_config(recipe, made, student_parameters(student), bf16=is_bf16_faster())
    trainer = build_trainer(recipe, made, tokenizer, load_model(student, torch.float32), config)
    return timed(trainer, list(map(len, made.examples)))


def trl(steps: int, folder: Path) -> dict[str, float]:
    """TRL as its documentation begins: messages in, SFTConfig's defaults, 16 rows a step by 8 at a time."""
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from finetune.sft import quiet
    from finetune.student import load_model

    _, student, tokenizer, made = prepared(steps, folder)
    quiet()
    config = SFTConfig(
        output_dir=str(folder / "trl"), num_train_epochs=1, gradient_accumulation_steps=TRACES_PER_STEP // 8,
        use_cpu=not torch.cuda.is_available(), report_to="none", save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    data = Dataset.from_list(rows(TRACES_PER_STEP * (steps + 1)))
    trainer = SFTTrainer(
        model=load_model(student, torch.float32), args=config, train_dataset=data, processing_class=tokenizer
    )
    return timed(trainer, list(map(len, made.examples)))


def timed(trainer: Any, lengths: list[int]) -> dict[str, float]:
    from transformers import TrainerCallback

    clock = Clock()

    class Tick(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    trainer.add_callback(Tick())
    trainer.train()
    return clock.figures(lengths)


def bare(steps: int, folder: Path, *, bf16: bool = True) -> dict[str, float]:
    """No trainer: padded batches of a whole step, full logits, fused AdamW."""
    import torch

    from finetune.student import load_model

    _, student, _, made = prepared(steps, folder)
    model = load_model(student, torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    clock = Clock()
    for at in range(0, len(made.examples), TRACES_PER_STEP):
        batch = made.examples[at : at + TRACES_PER_STEP]
        width = max(map(len, batch))
        ids = torch.tensor([[*e.ids, *[2] * (width - len(e))] for e in batch])
        labels = torch.tensor([[*e.labels, *[-100] * (width - len(e))] for e in batch])
        mask = torch.tensor([[1] * len(e) + [0] * (width - len(e)) for e in batch])
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.tick()
    return clock.figures(list(map(len, made.examples)))


def bare_float32(steps: int, folder: Path) -> dict[str, float]:
    return bare(steps, folder, bf16=False)


WAYS: dict[str, Callable[[int, Path], dict[str, float]]] = {
    "ours": ours, "bare": bare, "bare_float32": bare_float32, "trl": trl,
}  # fmt: skip


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--steps", type=int, default=6)
    p.add_argument("--only", default=",".join(WAYS))
    p.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.in_process:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(WAYS[args.only](args.steps, Path(folder))))
        return
    for way in args.only.split(","):
        command = [sys.executable, __file__, "--in-process", "--steps", str(args.steps), "--only", way]
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{way}: {done.stderr[-2000:]}")
        print(f"{way:14} {done.stdout.strip().splitlines()[-1]}", flush=True)


if __name__ == "__main__":
    main()
