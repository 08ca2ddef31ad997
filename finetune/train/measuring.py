"""Says how often held-out questions are measured, whether they choose the student, and what was measured."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from finetune.recipe import Recipe
from finetune.rows.examples import Examples
from finetune.rows.held_out import counts

ENOUGH_QUESTIONS = 50
"""With fewer held-out questions, their loss only shows: it neither chooses the student nor stops the training."""
MEASURING_SHARE = 0.03
"""Measuring may cost this share of the time, if the recipe does not say how often it is done."""
FORWARD_SHARE = 1 / 3
"""A token is measured in this share of the time that it is trained in: there is no backward pass."""
MOST_AN_EPOCH = 10
LOSS, ACCURACY = "eval_loss", "eval_mean_token_accuracy"
"""The names of a measurement's figures in the log of transformers and TRL."""


def is_enough(held_out: Examples) -> bool:
    return len(set(held_out.question_ids)) >= ENOUGH_QUESTIONS


def measures_every(recipe: Recipe, trained: Examples, held_out: Examples) -> int:
    """Returns after how many steps of the optimizer held-out questions are measured again."""
    steps = math.ceil(len(trained) / recipe.train.traces_per_step)
    if given := recipe.train.further.get("eval_steps"):
        return int(given) if given >= 1 else math.ceil(given * math.ceil(steps * recipe.train.epochs))
    tokens, measured = (sum(of.lengths) for of in (trained, held_out))
    times = min(MOST_AN_EPOCH, MEASURING_SHARE * tokens / (FORWARD_SHARE * measured))
    return max(1, math.ceil(steps / times))


def too_few(recipe: Recipe, held_out: Examples) -> str | None:
    """Returns a sentence that says why held-out questions choose nothing; None when they do, or none were asked for."""
    if not recipe.train.held_out or is_enough(held_out):
        return None
    questions = len(set(held_out.question_ids))
    stops = " nor stops it" if recipe.train.stop_after else ""
    return (
        f"{questions} held-out question{'' if questions == 1 else 's'}: under {ENOUGH_QUESTIONS} their loss only shows,"
        f" and neither chooses the student{stops}: a higher train.held_out or more questions would"
    )


def entry(held_out: Examples, log: Sequence[Mapping[str, Any]], every: int, student_step: int) -> dict[str, Any] | None:
    """Returns what the report says of held-out questions; None when nothing was measured. `log` is transformers'."""
    measured = {e["step"]: (e[LOSS], e[ACCURACY]) for e in log if LOSS in e}
    later = [step for step in measured if step]
    if not later or (counted := counts(held_out)) is None:
        return None
    best = min(later, key=lambda step: (measured[step][0], step))
    at = {"first": min(measured), "best": best, "last": max(later)}
    return {
        **counted,
        "measured_every_steps": every,
        "best_step": best,
        **{f"{name}_loss": measured[step][0] for name, step in at.items()},
        **{f"{name}_accuracy": measured[step][1] for name, step in at.items()},
        "last_step": at["last"],
        "student_step": student_step,
    }
