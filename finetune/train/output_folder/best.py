"""Keeps the student as it was at the best measurement of held-out questions, each one in a folder `best-STEP`.

Such a folder is renamed to its name when it is whole. It stays while a checkpoint names its step, so that a training
that goes on from that checkpoint has the best student of that moment.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from finetune.rows.template import Tokenizer
from finetune.train.output_folder.checkpoints import best_folder, best_step_of, checkpoints
from finetune.train.output_folder.state import write_student

MADE = ".best"
"""A folder is written under this name."""


def keep_best(trainer: Any, tokenizer: Tokenizer, output: Path, dtype: Any, step: int, is_first: bool) -> None:
    """Writes the student's weights of this step. Every process must call it."""
    made = output / MADE
    if is_first:
        shutil.rmtree(made, ignore_errors=True)
    write_student(trainer, tokenizer, made, dtype, is_first)
    if is_first:
        shutil.rmtree(best_folder(output, step), ignore_errors=True)
        made.rename(best_folder(output, step))
        drop_bests(output, [step])


def drop_bests(output: Path, needed: Iterable[int | None] = ()) -> None:
    """Removes the folders whose step neither `needed` nor a checkpoint names."""
    steps = {*needed, *map(best_step_of, checkpoints(output))} - {None}
    shutil.rmtree(output / MADE, ignore_errors=True)
    for folder in output.glob("best-*"):
        number = folder.name.partition("-")[2]
        if number.isdigit() and int(number) not in steps:
            shutil.rmtree(folder)
