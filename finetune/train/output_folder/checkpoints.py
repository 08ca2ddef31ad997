"""Finds the checkpoints of a training: which checkpoints are complete, and from which one a training can go on.

When a checkpoint is saved is decided in finetune/train/callback.py.
"""

import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from finetune.recipe import Recipe
from harvest.core.errors import ConfigError
from harvest.core.files import write_whole

MARK = "winnow.json"
"""Each checkpoint gets a file of this name once all processes have written their parts. It says how many processes
there were, and how they were launched."""
CHECKPOINTS_KEPT = 2


def checkpoints(output: Path) -> list[Path]:
    """Returns all checkpoints in the folder, complete or not, the newest first."""
    found = [p for p in output.glob("checkpoint-*") if p.name.partition("-")[2].isdigit()]
    return sorted(found, key=lambda p: -int(p.name.partition("-")[2]))


def best_folder(output: Path, step: int) -> Path:
    """Returns the folder of the student as it was at the best measurement of held-out questions, after `step`."""
    return output / f"best-{step}"


def best_step_of(checkpoint: Path) -> int | None:
    """Returns the step whose student was the best when the checkpoint was written; None when none was chosen."""
    try:
        step = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))["best_global_step"]
        return None if step is None else int(step)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def drop_checkpoints(recipe: Recipe, output: Path) -> None:
    """Removes the checkpoints of a finished training, unless the recipe says how many to keep."""
    if "save_total_limit" not in recipe.train.further:
        for folder in checkpoints(output):
            shutil.rmtree(folder)


def newest_checkpoint(output: Path) -> Path | None:
    """Returns the newest complete checkpoint; None when there is none.

    Newer checkpoints that are incomplete are removed, so that nothing of them is read.
    """
    for folder in checkpoints(output):
        if is_complete(folder):
            return folder
        shutil.rmtree(folder)
    return None


def goes_on(output: Path) -> str:
    """Returns a phrase that says from where the next start of the training goes on."""
    newest = next(filter(is_complete, checkpoints(output)), None)
    return f"the same command goes on from {newest.name}" if newest else "the same command begins again"


def rotate(output: Path, kept: int) -> None:
    """Removes all checkpoints except the `kept` newest. It must be called only when the newest is complete."""
    for folder in checkpoints(output)[kept:]:
        shutil.rmtree(folder, ignore_errors=True)


def mark(checkpoint: Path, strategy: str, processes: int) -> None:
    """Notes in a checkpoint that every process has written its part."""
    write_whole(checkpoint / MARK, json.dumps({"strategy": strategy, "processes": processes}) + "\n")


def mark_of(checkpoint: Path) -> tuple[str, int] | None:
    """Returns (strategy, number of processes) of a checkpoint that all its processes have written; else None."""
    try:
        noted = json.loads((checkpoint / MARK).read_text("utf-8"))
        return str(noted["strategy"]), int(noted["processes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_resumable(checkpoint: Path, strategy: str, processes: int) -> str | None:
    """Returns a sentence that says how this launch differs from the checkpoint's launch; None when it does not differ.

    Raises ConfigError when the training cannot go on from the checkpoint: shards of weights and optimizer can be read
    only by as many processes as wrote them.
    """
    noted = mark_of(checkpoint)
    if noted is None or noted == (strategy, processes):
        return None
    then = f"{checkpoint.name} is of {noted[1]} process{'es' if noted[1] > 1 else ''} of {noted[0]}"
    if {strategy, noted[0]} <= {"single", "ddp"}:
        return f"{then}: the same steps in {processes}, sums rounded in another order, other numbers for dropout"
    raise ConfigError(
        f"launch.strategy: {then}, and cannot be gone on from in {processes} of {strategy}: start {noted[1]} of "
        f"{noted[0]} again, or name another output"
    )


def is_complete(checkpoint: Path) -> bool:
    """Whether every file of the checkpoint was written to its end, by each process that shared in the training.

    The best student that it names must be there too.

    Source of the layouts: transformers 5.23, Trainer._save_checkpoint; accelerate 1.15, save_fsdp_model and
    save_fsdp_optimizer; DeepSpeed, engine.save_checkpoint.
    """
    noted = mark_of(checkpoint)
    if noted is None:
        return False
    strategy, processes = noted
    try:
        json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    if (best := best_step_of(checkpoint)) is not None and not best_folder(checkpoint.parent, best).is_dir():
        return False
    states = [f"rng_state_{n}.pth" for n in range(processes)] if processes > 1 else ["rng_state.pth"]
    archives = [checkpoint / name for name in states]
    if strategy.startswith("zero3"):
        parts = _deepspeed_parts(checkpoint, processes)
        return parts is not None and all(map(zipfile.is_zipfile, [*archives, *parts]))
    archives.append(checkpoint / "scheduler.pt")
    if strategy.startswith("fsdp2"):
        parts = []
        for name in ("pytorch_model_fsdp", "optimizer"):
            if (checkpoint / f"{name}_0").is_dir():
                if not _has_all_shards(checkpoint / f"{name}_0"):
                    return False
            else:
                parts.append(checkpoint / f"{name}.bin")
        return all(map(zipfile.is_zipfile, [*archives, *parts]))
    weights = list(checkpoint.glob("*.safetensors"))
    archives.append(checkpoint / "optimizer.pt")
    return bool(weights) and all(map(zipfile.is_zipfile, archives)) and all(map(_is_whole, weights))


def _has_all_shards(folder: Path) -> bool:
    """Whether torch's distributed checkpoint has every file that its table of contents names.

    The table is written last.
    """
    try:
        named = {n.decode() for n in re.findall(rb"__\d+_\d+\.distcp", (folder / ".metadata").read_bytes())}
        return bool(named) and all((folder / name).stat().st_size for name in named)
    except OSError:
        return False


def _deepspeed_parts(checkpoint: Path, processes: int) -> list[Path] | None:
    """Returns the files of weights and optimizer that all processes wrote.

    Returns None when `latest` names no folder or when the part of a process is missing.
    """
    try:
        tag = (checkpoint / "latest").read_text("utf-8").strip()
    except (OSError, ValueError):
        return None
    folder = checkpoint / tag
    if not tag or folder.parent != checkpoint or not folder.is_dir():
        return None
    found = []
    for kind in ("optim", "model"):
        for n in range(processes):
            part = list(folder.glob(f"*zero_pp_rank_{n}_mp_rank_*_{kind}_states.pt"))
            if not part:
                return None
            found += part
    return found


def _is_whole(safetensors: Path) -> bool:
    """Whether the file is as long as its header says.

    The file has eight bytes with the header's length, then the header as JSON, then the data.
    """
    size = safetensors.stat().st_size
    with safetensors.open("rb") as f:
        header_bytes = int.from_bytes(f.read(8), "little")
    ends = [t["data_offsets"][1] for t in tensors_of(safetensors).values()]
    return size == 8 + header_bytes + max(ends, default=0)


def tensors_of(safetensors: Path) -> dict[str, dict[str, Any]]:
    """Returns the table of tensors in the file's header; {} when the header is cut off."""
    with safetensors.open("rb") as f:
        header_bytes = int.from_bytes(f.read(8), "little")
        if header_bytes > safetensors.stat().st_size:
            return {}
        try:
            header: dict[str, Any] = json.loads(f.read(header_bytes))
        except ValueError:
            return {}
    return {name: t for name, t in header.items() if name != "__metadata__"}
