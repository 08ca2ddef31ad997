"""An estimate for a recipe: the student's sizes from its configuration, the rows from the dataset or from figures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from finetune.cost.estimate import (
    LORA_RANK,
    Estimate,
    Evaluating,
    Launching,
    Measured,
    Shape,
    Work,
    estimate,
    shape_of,
    shape_of_size,
    work_of,
    work_of_mean,
)
from finetune.recipe import Recipe
from finetune.student import find, sizes
from harvest.core.errors import ConfigError

GPU = "H100"
"""What is reckoned with where a recipe names none."""
TRIED = ("single", "fsdp2", "zero3-offload")
"""In this order, where nobody said how it is launched: the first that fits."""


@dataclass(frozen=True, slots=True)
class Figures:
    """In place of a model and a dataset."""

    parameters: float | None = None
    rows: int | None = None
    mean_tokens: float | None = None


def launching_of(recipe: Recipe) -> Launching:
    further = recipe.train.further
    recompute = further.get("activation_checkpointing")
    return Launching(
        strategy=recipe.launch.strategy,
        gpu=recipe.launch.gpu or GPU,
        gpus=recipe.launch.gpus,
        method=recipe.method,
        context_parallel=2 if recipe.launch.strategy == "fsdp2-cp" else 1,
        rank=int(further.get("r", LORA_RANK)),
        recompute=None if recompute is None else bool(recompute),
        eight_bit_adam="8bit" in str(further.get("optim", "")),
    )


def quote(
    recipe: Recipe,
    figures: Figures,
    lengths: Sequence[int] | None,
    evaluating: Evaluating | None = None,
    measured: Measured | None = None,
    *,
    choose: bool = False,
) -> Estimate:
    """`lengths` are the tokens of each row that will be trained, None where `figures` say how many there are.

    With `choose` the way to launch is the first that fits. Raises ConfigError where a size or a GPU is not known.
    """
    shape = shape_of_size(figures.parameters) if figures.parameters else student_shape(recipe)
    work = _work(recipe, figures, lengths)
    launching = launching_of(recipe)
    quotes = (
        estimate(shape, work, replace(launching, strategy=s), recipe.launch.price_usd_per_gpu_hour, evaluating)
        for s in (TRIED if choose else ())
    )
    if fitting := next((q for q in quotes if q.fits), None):
        return fitting
    return estimate(shape, work, launching, recipe.launch.price_usd_per_gpu_hour, evaluating, measured)


def _work(recipe: Recipe, figures: Figures, lengths: Sequence[int] | None) -> Work:
    epochs, per_step = recipe.train.epochs, recipe.train.traces_per_step
    if lengths is not None:
        return work_of(lengths, epochs, per_step)
    if figures.rows is None or figures.mean_tokens is None:
        raise ConfigError("--rows and --mean-tokens go together, in place of the recipe's data")
    return work_of_mean(figures.rows, figures.mean_tokens, recipe.render.max_tokens, epochs, per_step)


def student_shape(recipe: Recipe) -> Shape:
    """Raises ConfigError where the student is not here and cannot be had."""
    return shape_of(sizes(find(recipe.student)))
