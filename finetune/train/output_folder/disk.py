"""Checks whether the disk has room for what a training writes."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune.train.output_folder.checkpoints import checkpoints, goes_on, is_complete
from harvest.core.errors import InputError, WinnowError

DISK_FULL = ("No space left on device", "os error 28", "Disk quota exceeded", "os error 122", "PytorchStreamWriter")
"""Errors of Python, of Rust's libraries and of torch about a full disk have one of these words. The writers of torch
and safetensors have no class of error for a full disk, so only the words tell."""
SMALL_FILES = 2**20
"""How many bytes are reserved for small files: the state, the curve, the card."""


def check_disk(output: Path, trained: int, student_bytes: int, most: int, bests: int = 0) -> None:
    """Raises InputError when `most` checkpoints and the student will not fit on the disk.

    Each checkpoint has the `trained` weights and two moments of Adam, each with four bytes for a weight. `bests` is how
    many students of held-out questions' best measurements are there at one time.
    """
    one = 3 * 4 * trained
    there = sum(map(_bytes, (*checkpoints(output), *output.glob("best-*"))))
    need = (
        most * one + (bests or 1) * student_bytes - there
    )  # the best one becomes the student and is not written again
    free = shutil.disk_usage(next(p for p in (output, *output.absolute().parents) if p.is_dir())).free
    if free < need:
        raise InputError(
            f"output {output}: {free / 1e9:.1f} GB free, {need / 1e9:.1f} GB needed ({most} checkpoints of "
            f"{one / 1e9:.1f} GB and the student): free some, set train.save_total_limit = 1, or name another output"
        )


def check_room(output: Path, need: int, what: str) -> None:
    """Raises InputError when `what`, of `need` bytes, will not fit on the disk. It must be called before writing."""
    free = shutil.disk_usage(output).free
    if free < need + SMALL_FILES:
        raise InputError(
            f"output {output}: {_size(free)} free, {_size(need)} needed for {what}, of which nothing was written: free "
            f"some; {goes_on(output)}"
        )


def checkpoint_bytes(output: Path) -> int | None:
    """Returns the bytes of the newest complete checkpoint; None when there is none."""
    newest = next(filter(is_complete, checkpoints(output)), None)
    return None if newest is None else _bytes(newest)


def _bytes(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


@contextmanager
def disk_watched(output: Path) -> Iterator[None]:
    """Turns the error of a full disk into an InputError of one line."""
    try:
        yield
    except Exception as e:  # the libraries below tell of a full disk by many classes; any other error is raised on
        if isinstance(e, WinnowError) or not any(words in str(e) for words in DISK_FULL):
            raise
        raise InputError(f"output {output}: the disk is full: free some; {goes_on(output)}") from None


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"
