"""Remarks on settings that train little, before a training, and on a loss that went up, after it. Pure."""

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any

from finetune.recipe import Recipe

LORA_RATE = 5e-5
"""Adapters that are trained at less than this hardly move. Source: Thinking Machines, "LoRA Without Regret": the best
learning rate of LoRA is about ten times that of full training."""
FEW_STEPS = 10
"""Fewer steps of the optimizer than this, in the whole training, teach next to nothing."""
ROSE = 1.02
"""A loss that ended at less than so many times its first value may have risen by chance."""


def before_training(recipe: Recipe, rows: int) -> Iterator[str]:
    """Yields a sentence for each setting with which this number of rows trains little, with what would help."""
    train = recipe.train
    if recipe.method != "full" and train.learning_rate < LORA_RATE and recipe.prefer is None:
        yield (
            f"learning_rate = {train.learning_rate:g} is one for training all weights: {recipe.method} wants about ten"
            f" times as much, e.g. --train.learning_rate {10 * train.learning_rate:.0e}"
        )
    an_epoch = ceil(rows / train.traces_per_step)
    steps = ceil(an_epoch * train.epochs)
    better = max(1, rows * int(max(1, train.epochs)) // (2 * FEW_STEPS))
    if rows and steps < FEW_STEPS and better < train.traces_per_step:
        yield (
            f"{rows:,} rows in steps of {train.traces_per_step} are {steps} step{'' if steps == 1 else 's'} in all,"
            f" which teaches little: e.g. --train.traces_per_step {better}"
        )


def after_training(block: Mapping[str, Any]) -> str | None:
    """Returns a sentence when the loss went up; None when it did not. `block` is the report's entry of the training."""
    first, last = block["loss_first"], block["loss_last"]
    if first is None or last is None or last <= ROSE * first:
        return None
    return (
        f"the loss went up, from {first:.3f} to {last:.3f}: the student may be worse than before; a lower"
        f" train.learning_rate than {block['learning_rate']:g} helps in most cases"
    )
