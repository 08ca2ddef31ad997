"""Tokens a second of `finetune sft`, padded and packed, against TRL's own script: same rows, student, step and machine.

    python benchmarks/sft_speed.py [--rows mixed|short|long] [--steps 2] [--repeats 3] [--only ours,padded,trl]

Short rows are synthetic sums with a chain, as the demo's; long ones traces of Qwen3 of 300 to 800 tokens, from
$WINNOW_SHARED/data/traces/qwen3.jsonl (default ../shared); mixed is half of each. A step has 8 traces, which is TRL's
default. Each way runs in a process of its own, in turns, with one short pass through the student left out first.

    ours      `finetune sft` as it is without settings: rows packed
    padded    with `packing = false`
    trl       `trl sft` with its defaults, but for a max_length that cuts nothing (its 1,024 would), and on a machine
              without a GPU --use_cpu true, without which it stops
    trl-tuned the same with what would help it here: --gradient_checkpointing false, and --bf16 false where bfloat16 is
              slower than float32

Tokens are counted by each trainer, padding left out. Processor time says more than the clock on a machine that others
use too. `loss` is that of the first step: of ours and padded it is of the same rows and tokens, and has to be the same
(TRL trains the prompts too, and has another order).
"""

import argparse
import importlib
import json
import multiprocessing
import os
import random
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

STUDENT = "SmolLM2-135M-Instruct"
TRACES_PER_STEP = 8
MAX_TOKENS = 2048
ROOT = Path(__file__).parents[1]


def rows(kind: str, n: int) -> list[dict[str, Any]]:
    if kind == "mixed":
        mixed = short_rows(n // 2) + long_rows(n - n // 2)
        random.Random(1).shuffle(mixed)
        return mixed
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
    """Chains of thought of Qwen3 as they are, those of 300 to 800 of its tokens."""
    shared = Path(os.environ.get("WINNOW_SHARED", ROOT.parent / "shared"))
    file = shared / "data/traces/qwen3.jsonl"
    if not file.is_file():
        sys.exit(f"{file}: not here; set WINNOW_SHARED, or take --rows short")
    traces = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    fit = [t for t in traces if t["reasoning"] and t["answer"] and 300 <= t["completion_tokens"] <= 800]
    random.Random(0).shuffle(fit)
    if len(fit) < n:
        sys.exit(f"{file}: {len(fit)} rows of that length, {n} are needed: fewer --steps")
    return [
        {"messages": [
            {"role": "user", "content": t["question"]},
            {"role": "assistant", "content": f"<think>\n{t['reasoning'].strip()}\n</think>\n\n{t['answer'].strip()}"},
        ]}
        for t in fit[:n]
    ]  # fmt: skip


class Stopwatch:
    """From the first step's begin to the last one's end, by the clock and by the processor; and the first loss."""

    def __init__(self) -> None:
        from transformers import TrainerCallback, trainer

        watch = self
        self.began = self.ended = (0.0, 0.0)
        self.logged: list[dict[str, Any]] = []

        class Watching(TrainerCallback):  # type: ignore[misc]
            def on_train_begin(self, *_: Any, model: Any = None, **__: Any) -> None:
                warm(model)
                watch.began = watch.ended = now()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                watch.ended = now()

            def on_log(self, *_: Any, logs: Any = None, **__: Any) -> None:
                watch.logged.append(dict(logs or {}))

        trainer.DEFAULT_CALLBACKS.append(Watching)

    def figures(self, tokens: float) -> dict[str, float]:
        wall, cpu = (b - a for a, b in zip(self.began, self.ended, strict=True))
        return {
            "tokens_per_s": round(tokens / wall, 1),
            "tokens_per_cpu_s": round(tokens / cpu, 1),
            "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
            "tokens": tokens,
            "loss": next(entry["loss"] for entry in self.logged if "loss" in entry),
        }


def now() -> tuple[float, float]:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic(), time.process_time()


def warm(model: Any) -> None:
    """Kernels are chosen and memory is had in the first pass; nothing is learnt from it."""
    import torch

    ids = torch.arange(64, device=model.device)[None]
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    model.zero_grad()


def ours(kind: str, steps: int, folder: Path, **train: Any) -> dict[str, float]:
    """`finetune sft` from its recipe to its last step, as the command does it, in this process."""
    from finetune.recipe import Recipe
    from finetune.rows.cache import examples
    from finetune.student import count_parameters, find, load_tokenizer
    from finetune.train.sft import quiet
    from finetune.train.trainer import build_trainer, load_arranged
    from finetune.train.training_args import is_bf16_faster

    recipe = Recipe.model_validate(
        {"student": STUDENT, "data": str(written(kind, steps, folder)), "output": str(folder / "out"),
         "render": {"max_tokens": MAX_TOKENS},
         "train": {"epochs": 1, "traces_per_step": TRACES_PER_STEP, "learning_rate": 2e-5, **train}}
    )  # fmt: skip
    student = find(STUDENT)
    tokenizer = load_tokenizer(student)
    made = examples(recipe, tokenizer)
    quiet()
    watch = Stopwatch()
    parameters, bf16 = count_parameters(student), is_bf16_faster()
    recipe, config, model, _ = load_arranged(recipe, made, student, parameters, bf16=bf16)
    trainer = build_trainer(recipe, made, tokenizer, model, config)
    trainer.train()
    return watch.figures(trainer.tokens)


def padded(kind: str, steps: int, folder: Path) -> dict[str, float]:
    return ours(kind, steps, folder, packing=False)


def trl(kind: str, steps: int, folder: Path, *more: str) -> dict[str, float]:
    """TRL's script, given what its command line would give it."""
    import torch

    from finetune.student import find, load_model, load_tokenizer
    from finetune.train.sft import quiet

    student = find(STUDENT)  # a GGUF file here; a folder is what TRL loads
    load_model(student, torch.float32).save_pretrained(folder / "student")
    load_tokenizer(student).save_pretrained(folder / "student")
    data = written(kind, steps, folder)
    quiet()
    watch = Stopwatch()
    from trl.scripts.sft import main, make_parser

    settings = [
        "--model_name_or_path", str(folder / "student"), "--dataset_name", str(data.parent),
        "--output_dir", str(folder / "trl"), "--num_train_epochs", "1", "--max_length", str(2 * MAX_TOKENS),
        "--report_to", "none", "--save_strategy", "no", "--logging_steps", "1",
        "--use_cpu", str(not torch.cuda.is_available()), *more,
    ]  # fmt: skip
    main(*make_parser().parse_args_and_config(settings, fail_with_unknown_args=False))
    return watch.figures(max(entry.get("num_tokens", 0) for entry in watch.logged))


def trl_tuned(kind: str, steps: int, folder: Path) -> dict[str, float]:
    from finetune.train.training_args import is_bf16_faster

    return trl(kind, steps, folder, "--bf16", str(is_bf16_faster()), "--gradient_checkpointing", "false")


def written(kind: str, steps: int, folder: Path) -> Path:
    data = folder / "data" / "train.jsonl"
    data.parent.mkdir()
    data.write_text("".join(json.dumps(r) + "\n" for r in rows(kind, TRACES_PER_STEP * steps)), "utf-8")
    return data


WAYS: dict[str, Callable[[str, int, Path], dict[str, float]]] = {
    "ours": ours, "padded": padded, "trl-tuned": trl_tuned, "trl": trl,
}  # fmt: skip


def measured(way: str, kind: str, steps: int) -> dict[str, float]:
    """One way in a process of its own, forked from this one, which has imported what all of them need."""
    reader, writer = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=in_child, args=(way, kind, steps, writer))
    child.start()
    writer.close()
    try:
        figures: dict[str, float] = reader.recv()
    except EOFError:
        sys.exit(f"{way}: ended without figures")
    child.join()
    print(f"{kind:6} {way:9} {json.dumps(figures)}", file=sys.stderr, flush=True)
    return figures


def in_child(way: str, kind: str, steps: int, writer: Any) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # TRL prints what it logs
    with tempfile.TemporaryDirectory() as folder:
        writer.send(WAYS[way](kind, steps, Path(folder)))


def preload() -> None:
    """What every way imports. No tensor is made: threads that PyTorch had begun would not be in the children."""
    for module in ("torch", "finetune.train.sft", "finetune.train.trainer", "finetune.student", "trl.scripts.sft"):
        importlib.import_module(module)
    importlib.import_module("trl.scripts.sft").make_parser()  # which imports the trainer


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", choices=("mixed", "short", "long"), default="mixed")
    p.add_argument("--steps", type=int, default=2)
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--only", default=",".join(WAYS), help=f"of {', '.join(WAYS)}; the last is what others are held to")
    p.add_argument("--keep", type=Path, help="add the figures to this file, and show the middle of all that are in it")
    args = p.parse_args()
    ways = args.only.split(",")
    if wrong := [w for w in ways if w not in WAYS]:
        p.error(f"--only: {wrong[0]!r} is none of {', '.join(WAYS)}")
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # before torch is imported
    sys.path.insert(0, str(ROOT))
    warnings.simplefilter("ignore")
    preload()
    figures = defaultdict[str, list[dict[str, float]]](list)
    if args.keep and args.keep.exists():
        for line in args.keep.read_text("utf-8").splitlines():
            for way, of in json.loads(line).items():
                figures[way].append(of)
    for _ in range(args.repeats):
        turn = {way: measured(way, args.rows, args.steps) for way in ways}
        for way, of in turn.items():
            figures[way].append(of)
        if args.keep:
            with args.keep.open("a", encoding="utf-8") as f:
                f.write(json.dumps(turn) + "\n")
    last = ways[-1]
    print(
        f"{args.rows} rows, {args.steps} steps of {TRACES_PER_STEP}, {args.threads} threads: median of {args.repeats}"
    )
    print(f"| way | tokens | tokens/s by the clock | by the processor | against {last} | (least, most) | GiB | loss |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for way in ways:
        middle = {k: statistics.median(f[k] for f in figures[way]) for k in figures[way][0]}
        # Each against the run of its own turn, which shared the machine's load with it.
        clock, cpu = (
            sorted(f[k] / of[k] for f, of in zip(figures[way], figures[last], strict=True))
            for k in ("tokens_per_s", "tokens_per_cpu_s")
        )
        print(
            f"| {way} | {middle['tokens']:,.0f} | {middle['tokens_per_s']:.0f} | {middle['tokens_per_cpu_s']:.0f} "
            f"| {statistics.median(clock):.2f}, by the processor {statistics.median(cpu):.2f} "
            f"| {cpu[0]:.2f}, {cpu[-1]:.2f} | {middle['peak_gib']:.2f} | {middle['loss']:.6f} |"
        )


if __name__ == "__main__":
    main()
