"""Tokens a second of `finetune sft`, padded and packed, against TRL's own defaults: same rows, student and machine.

    python benchmarks/sft_speed.py [--rows short|long] [--steps 2] [--repeats 3] [--only ours,packed,trl] [--threads 1]

Short rows are synthetic sums with a chain, as the demo's; long ones are traces of Qwen3 of 300 to 1,500 tokens, from
$WINNOW_SHARED/data/traces/qwen3.jsonl (default ../shared). Each way runs in a process of its own, in turns, a step
of short rows left out first. Tokens are those of the rows, padding not counted. Processor time: on a machine
that others use too, it says more than the clock. TRL has its defaults, the same rows a step (8 at a time) and a
max_length that cuts nothing.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

STUDENT = "SmolLM2-135M-Instruct"
TRACES_PER_STEP = {"short": 16, "long": 8}
WARM_UP_STEPS = {"short": 1, "long": 0}
MAX_TOKENS = 2048


def rows(kind: str, n: int) -> list[dict[str, Any]]:
    return short_rows(n) if kind == "short" else long_rows(n)


def short_rows(n: int) -> list[dict[str, Any]]:
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


def long_rows(n: int) -> list[dict[str, Any]]:
    """Chains of thought of Qwen3 as they are, those of 300 to 1,500 of its tokens."""
    shared = Path(os.environ.get("WINNOW_SHARED", Path(__file__).parents[2] / "shared"))
    file = shared / "data/traces/qwen3.jsonl"
    if not file.is_file():
        sys.exit(f"{file}: not here; set WINNOW_SHARED, or take --rows short")
    traces = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    fit = [t for t in traces if t["reasoning"] and t["answer"] and 300 <= t["completion_tokens"] <= 1400]
    random.Random(0).shuffle(fit)
    return [
        {"messages": [
            {"role": "user", "content": t["question"]},
            {"role": "assistant", "content": f"<think>\n{t['reasoning'].strip()}\n</think>\n\n{t['answer'].strip()}"},
        ]}
        for t in fit[:n]
    ]  # fmt: skip


class Clock:
    """Wall and processor seconds of the steps that count."""

    def __init__(self) -> None:
        self.at: list[tuple[float, float]] = []

    def tick(self) -> None:
        self.at.append((time.monotonic(), time.process_time()))

    def figures(self, lengths: list[int], traces_per_step: int) -> dict[str, float]:
        steps = len(self.at) - 1
        wall, cpu = (self.at[-1][i] - self.at[0][i] for i in (0, 1))
        tokens = sum(lengths) / len(lengths) * traces_per_step * steps
        return {"tokens_per_s": round(tokens / wall, 1), "tokens_per_cpu_s": round(tokens / cpu, 1)}


def prepared(kind: str, steps: int, folder: Path, **train: Any) -> Any:
    from finetune.config import Recipe
    from finetune.dataset import examples
    from finetune.student import find, load_tokenizer

    per_step = TRACES_PER_STEP[kind]
    data = folder / "train.jsonl"
    data.write_text(
        "".join(json.dumps(r) + "\n" for r in rows(kind, per_step * (steps + WARM_UP_STEPS[kind]))), "utf-8"
    )
    recipe = Recipe.model_validate(
        {"student": STUDENT, "data": str(data), "output": str(folder / "out"), "render": {"max_tokens": MAX_TOKENS},
         "train": {"epochs": 1, "traces_per_step": per_step, "learning_rate": 1e-4, **train}}
    )  # fmt: skip
    student = find(STUDENT)
    tokenizer = load_tokenizer(student)
    return recipe, student, tokenizer, examples(recipe, tokenizer)


def ours(kind: str, steps: int, folder: Path, **train: Any) -> dict[str, float]:
    import torch

    from finetune.sft import quiet
    from finetune.student import load_model
    from finetune.trainer import build_trainer, is_bf16_faster, student_parameters, training_config

    recipe, student, tokenizer, made = prepared(kind, steps, folder, **train)
    quiet()
    config = training_config(recipe, made, student_parameters(student), bf16=is_bf16_faster())
    trainer = build_trainer(recipe, made, tokenizer, load_model(student, torch.float32), config)
    return timed(trainer, list(map(len, made.examples)), kind)


def packed(kind: str, steps: int, folder: Path) -> dict[str, float]:
    return ours(kind, steps, folder, packing=True)


def trl(kind: str, steps: int, folder: Path) -> dict[str, float]:
    """TRL as its documentation begins: messages in, SFTConfig's defaults."""
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from finetune.sft import quiet
    from finetune.student import load_model

    _, student, tokenizer, made = prepared(kind, steps, folder)
    quiet()
    per_step = TRACES_PER_STEP[kind]
    config = SFTConfig(
        output_dir=str(folder / "trl"), num_train_epochs=1, gradient_accumulation_steps=per_step // 8,
        max_length=2 * MAX_TOKENS, use_cpu=not torch.cuda.is_available(), report_to="none", save_strategy="no",
        disable_tqdm=True,
    )  # fmt: skip
    data = Dataset.from_list(rows(kind, per_step * (steps + WARM_UP_STEPS[kind])))
    trainer = SFTTrainer(
        model=load_model(student, torch.float32), args=config, train_dataset=data, processing_class=tokenizer
    )
    return timed(trainer, list(map(len, made.examples)), kind)


def timed(trainer: Any, lengths: list[int], kind: str) -> dict[str, float]:
    import torch
    from transformers import TrainerCallback

    clock = Clock()

    class Tick(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            clock.tick()

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.tick()

    trainer.add_callback(Tick())
    trainer.train()
    del clock.at[: WARM_UP_STEPS[kind]]
    return clock.figures(lengths, TRACES_PER_STEP[kind])


WAYS: dict[str, Callable[[str, int, Path], dict[str, float]]] = {"ours": ours, "packed": packed, "trl": trl}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", choices=tuple(TRACES_PER_STEP), default="short")
    p.add_argument("--steps", type=int, default=2)
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--only", default=",".join(WAYS))
    p.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.in_process:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(WAYS[args.only](args.rows, args.steps, Path(folder))))
        return
    ways, figures = args.only.split(","), defaultdict[str, list[dict[str, float]]](list)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONWARNINGS": "ignore"}
    env["OMP_NUM_THREADS"] = str(args.threads)
    for _ in range(args.repeats):
        for way in ways:
            command = [sys.executable, __file__, "--in-process", "--rows", args.rows, "--steps", str(args.steps)]
            done = subprocess.run([*command, "--only", way], env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{way}: {done.stderr[-2000:]}")
            figures[way].append(json.loads(done.stdout.strip().splitlines()[-1]))
            print(f"{args.rows:6} {way:7} {json.dumps(figures[way][-1])}", file=sys.stderr, flush=True)
    print(f"{args.rows} rows, tokens a second, median of {args.repeats}")
    print(f"{'way':8} {'by the clock':>13} {'by processor':>13}   against {ways[-1]}")
    middle = {w: {k: statistics.median(f[k] for f in fs) for k in fs[0]} for w, fs in figures.items()}
    for way, of in middle.items():
        than = [f"{of[k] / middle[ways[-1]][k]:.2f}" for k in of]
        print(f"{way:8} {of['tokens_per_s']:13.1f} {of['tokens_per_cpu_s']:13.1f}   {' · '.join(than)}")


if __name__ == "__main__":
    main()
