"""The memory that a training step takes on this machine, against what `finetune estimate` says of it.

    python benchmarks/memory.py [--lengths 256,512,1024,2048] [--batch-sizes 1,2,4] [--recompute no,yes]
                                [--accumulated 1] [--method full|lora|qlora] [--student NAME] [--write FILE.md]

Each case is one step of the optimizer, with Adam's moments there before it. The rows of a batch have nearly the same
length, so that they are padded; half of each is trained. On a CPU everything is float32, and the peak is the highest
resident memory of the process, less what it held before the student was loaded; one small case goes before. The C
library gives freed memory back at once there (MALLOC_MMAP_THRESHOLD_), so that the peak is of what was in use. On a GPU
the peak is the most that torch allocated, in the precision of a training. The estimate stands without its `context`.
"""

import argparse
import gc
import itertools
import os
import platform
import sys
import tempfile
import time
from array import array
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harvest.core.printable import table

GIB = 2**30


def case(args: argparse.Namespace, length: int, batch: int, *, recompute: bool) -> dict[str, Any]:
    """Trains one step. Returns the peak that was measured and the uses that were estimated, in GiB."""
    import torch

    from finetune.cost.memory import memory_gib
    from finetune.cost.quote import launching_of
    from finetune.cost.shape import shape_of
    from finetune.cost.work import work_of
    from finetune.recipe import Recipe, Render, Train
    from finetune.rows.examples import Examples
    from finetune.student import count_parameters, find, load_tokenizer, sizes
    from finetune.train.sft import quiet
    from finetune.train.trainer import build_trainer, load_student
    from finetune.train.training_args import training_config

    quiet()
    has_gpu = torch.cuda.is_available()
    student = find(args.student)
    tokenizer, parameters = load_tokenizer(student), count_parameters(student)
    rows = [row(length - 8 * n) for n in range(batch)] * args.accumulated
    further = {"per_device_train_batch_size": batch, "activation_checkpointing": recompute, "save_strategy": "no"}
    further["packing"] = False
    with tempfile.TemporaryDirectory() as nowhere:
        recipe = Recipe(
            student=args.student, data="none", output=nowhere, method=args.method, render=Render(max_tokens=length),
            train=Train.model_validate({"epochs": 1, "traces_per_step": len(rows), **further}),
        )  # fmt: skip
        examples = Examples.of(rows)
        config = training_config(recipe, examples, parameters, bf16=has_gpu)
        before = restarted_peak()
        model = load_student(recipe, student, config)
        trainer = build_trainer(recipe, examples, tokenizer, model, config)
        make_moments(trainer)
        began = time.monotonic()
        trainer.train()
        peak = peak_bytes() - before
    launching = replace(launching_of(recipe), device="cuda" if has_gpu else "cpu", bf16=has_gpu)
    said = memory_gib(
        shape_of(sizes(student), parameters), work_of([length] * len(rows), 1, recipe.train.traces_per_step), launching
    )
    said.pop("context")
    device = torch.cuda.get_device_name() if has_gpu else "cpu"
    return {"measured": peak / GIB, "said": said, "device": device, "step_s": time.monotonic() - began}


def row(length: int) -> Any:
    from finetune.rows.render import Example

    mask = [0] * (length // 2) + [1] * (length - length // 2)
    return Example(array("i", [7 * i % 40_000 for i in range(length)]), array("b", mask))


def make_moments(trainer: Any) -> None:
    """Gives Adam its moments by a step with gradients of zero."""
    import torch

    optimizer = trainer.create_optimizer()
    for p in trainer.model.parameters():
        if p.requires_grad:
            p.grad = torch.zeros_like(p)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def restarted_peak() -> int:
    """Returns the bytes in use now, from where the peak is counted from now on."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def peak_bytes() -> int:
    from finetune.train.memory import peak_bytes

    return peak_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lengths", default="256,512,1024,2048")
    parser.add_argument("--batch-sizes", default="1,2,4")
    parser.add_argument("--recompute", default="no,yes")
    parser.add_argument("--accumulated", type=int, default=1)
    parser.add_argument("--method", default="full", choices=("full", "lora", "qlora"))
    parser.add_argument("--student", default="SmolLM2-135M-Instruct")
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    if (allocator := "MALLOC_MMAP_THRESHOLD_") not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, allocator: "65536"})
    case(args, 64, 1, recompute=False)
    head = ("tokens a row", "rows at once", "activations", "measured GiB", "estimated GiB", "estimated of measured")
    lines: list[tuple[str, ...]] = []
    device, worst = "", 0.0
    asked = (args.recompute.split(","), map(int, args.lengths.split(",")), map(int, args.batch_sizes.split(",")))
    for recompute, length, batch in itertools.product(*asked):
        found = case(args, length, batch, recompute=recompute == "yes")
        device, said = found["device"], sum(found["said"].values())
        of = said / found["measured"]
        worst = max(worst, abs(of - 1))
        kept = "computed again" if recompute == "yes" else "kept"
        lines.append((f"{length:,}", str(batch), kept, f"{found['measured']:.2f}", f"{said:.2f}", f"{of:.2f}"))
        print(
            lines[-1], {k: round(v, 2) for k, v in found["said"].items()}, f"{found['step_s']:.0f} s", file=sys.stderr
        )
    passes = f"{args.accumulated} backward pass{'es' * (args.accumulated > 1)} a step"
    precision = "float32" if device == "cpu" else "bfloat16"
    page = (
        f"# Memory of a training step, {datetime.now(UTC):%Y-%m-%d}\n\n"
        f"`python benchmarks/memory.py {' '.join(sys.argv[1:])}`\n\n{args.student}, {args.method}, {precision}, "
        f"{passes}, on {device} ({platform.machine()}, {os.cpu_count()} cores). The "
        f"estimate is at most {worst:.0%} from the peak.\n\n" + "\n".join(table(head, lines)) + "\n"
    )
    print(page)
    if args.write:
        args.write.write_text(page)


if __name__ == "__main__":
    main()
