"""Says how much memory a training took, and turns an error of memory that ran out into one line with what helps."""

import errno
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from trl import SFTConfig

from finetune.recipe import Recipe
from finetune.train.output_folder.checkpoints import goes_on
from finetune.train.world import World
from harvest.core.errors import OutOfMemory

NO_MEMORY = ("out of memory", "can't allocate memory", "Cannot allocate memory", "bad_alloc", "ALLOC_FAILED")
"""torch's RuntimeError has one of these words when memory ran out. Only CUDA's has a class of its own."""


def peak_bytes() -> int:
    """Returns the most bytes that this process held: on a GPU what torch allocated, else the resident memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        status = Path("/proc/self/status").read_text("utf-8")
    except OSError:  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    # ru_maxrss would also have what the process that started this one held.
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@contextmanager
def memory_watched(recipe: Recipe, config: SFTConfig, longest: int, world: World) -> Iterator[None]:
    """Turns the error of memory that ran out, on a GPU or not, into an OutOfMemory of one line.

    `longest` is the number of tokens of the longest row.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as e:
        if not is_out_of_memory(e):
            raise
        micro = config.per_device_train_batch_size
        at_once = "a pack" if recipe.train.packs else f"{micro} row{'s' if micro > 1 else ''}"
        raise OutOfMemory(
            f"[train]: out of memory with {at_once} at once, the longest row of {longest:,} tokens: "
            f"set {' or '.join(remedies(recipe, config, longest, world))}; {goes_on(Path(recipe.output))}"
        ) from None


@contextmanager
def loading_watched(recipe: Recipe) -> Iterator[None]:
    """Does the same while the student is loaded and the trainer is made, when rows do not count yet."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as e:
        if not is_out_of_memory(e):
            raise
        helps = {
            "full": 'method = "lora", or launch.strategy = "fsdp2" on more GPUs',
            "lora": 'method = "qlora", or launch.strategy = "zero3" on more GPUs',
            "qlora": "a smaller student, or a GPU with more memory",
        }[recipe.method]
        raise OutOfMemory(f"student {recipe.student!r}: out of memory while it was loaded: take {helps}") from None


def is_out_of_memory(e: Exception) -> bool:
    if isinstance(e, OSError):
        return e.errno == errno.ENOMEM
    return isinstance(e, MemoryError) or any(words in str(e) for words in NO_MEMORY)


def remedies(recipe: Recipe, config: SFTConfig, longest: int, world: World) -> list[str]:
    """Returns the settings that need less memory, each with a value to try: at most two, the cheapest first."""
    found = []
    if not config.activation_checkpointing:
        found.append("train.activation_checkpointing = true")
    micro, per_step = config.per_device_train_batch_size, recipe.train.traces_per_step
    smaller = [m for m in range(1, micro // 2 + 1) if per_step % (m * world.readers) == 0]
    if recipe.train.packs:
        found.append("train.packing = false with train.per_device_train_batch_size = 1")
    elif smaller:
        found.append(f"train.per_device_train_batch_size = {smaller[-1]}")
    if len(found) < 2:
        found.append(f"render.max_tokens = {max(1, longest // 2)} (another training where rows are left out)")
    return found
