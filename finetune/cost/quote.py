"""Makes the estimate for a recipe, from the student's configuration and its rows, or from given figures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from finetune.cost.answering import Evaluating
from finetune.cost.estimate import Estimate, Measured, estimate
from finetune.cost.shape import shape_of, shape_of_size
from finetune.cost.work import LORA_RANK, Launching, Work, work_of, work_of_mean
from finetune.recipe import Recipe, assumed
from finetune.student import count_parameters, find, sizes
from harvest.core.errors import ConfigError

GPU = "H100"
"""An estimate is for this GPU when the recipe names none."""
TRIED = ("single", "fsdp2", "zero3-offload")
"""If no strategy is named, the first of these strategies that fits is taken."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures in place of a model (`parameters`) and of a dataset (`rows` and `mean_tokens`)."""

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
        rows_at_once=further.get("per_device_train_batch_size"),
        is_packed=assumed(recipe).train.packs,
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
    """Returns the estimate of a recipe. `lengths` are the tokens of each row; None if `figures` describe the dataset.

    With `choose` the strategy is the first of TRIED that fits, or the recipe's when none fits. Raises ConfigError when
    a size or a GPU is not known, or when the student cannot be found or downloaded.
    """
    if figures.parameters:
        shape = shape_of_size(figures.parameters)
    else:
        student = find(recipe.student)
        shape = shape_of(sizes(student), count_parameters(student))
    work = _work(recipe, figures, lengths)
    launching, price = launching_of(recipe), recipe.launch.price_usd_per_gpu_hour
    for strategy in TRIED if choose else ():
        tried = estimate(shape, work, replace(launching, strategy=strategy), price, evaluating)
        if tried.fits:
            return tried
    return estimate(shape, work, launching, price, evaluating, measured)


def _work(recipe: Recipe, figures: Figures, lengths: Sequence[int] | None) -> Work:
    epochs, per_step = recipe.train.epochs, recipe.train.traces_per_step
    if lengths is not None:
        return work_of(lengths, epochs, per_step)
    if figures.rows is None or figures.mean_tokens is None:
        raise ConfigError("--rows and --mean-tokens go together, in place of the recipe's data")
    trained = max(1, round(figures.rows * (1 - recipe.train.held_out)))
    return work_of_mean(trained, figures.mean_tokens, recipe.render.max_tokens, epochs, per_step)
