"""Measures with some real steps how fast a training is on this machine."""

import itertools
import tempfile
import time
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from finetune.cost.estimate import Measured
from finetune.cost.hours import Interval
from finetune.progress import Progress
from finetune.recipe import Recipe
from finetune.rows.examples import Examples
from finetune.rows.held_out import split
from finetune.rows.template import Tokenizer
from finetune.student import Student, count_parameters
from finetune.train.trainer import WinnowTrainer, build_trainer, load_arranged
from finetune.train.training_args import is_bf16_faster
from harvest.core.errors import ConfigError

WARM_UP_STEPS = 2
"""How many steps at the start of a calibration do not count, since kernels are chosen and caches fill in them."""


class StepClock(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Notes when each step ended, and how many tokens had gone through the student by then."""

    def __init__(self, trainer: WinnowTrainer, progress: Progress) -> None:
        self.trainer, self.progress, self.ends = trainer, progress, list[tuple[float, int]]()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.progress.begin(state.max_steps, 0)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.ends.append((time.monotonic(), self.trainer.tokens))
        self.progress.note(state.global_step, f"{self.trainer.tokens:,} tokens")

    def rates(self) -> list[float]:
        """Returns the tokens a second of each step after the warm-up."""
        later = self.ends[WARM_UP_STEPS - 1 :]
        return [(b - a) / (until - since) for (since, a), (until, b) in itertools.pairwise(later)]


def calibrate(
    recipe: Recipe, examples: Examples, tokenizer: Tokenizer, student: Student, progress: Progress, steps: int = 20
) -> Measured:
    """Measures how fast `steps` real training steps are on this machine. The trained weights are thrown away.

    Raises ConfigError when settings do not go together, or when the recipe is for several processes: a calibration is
    one process.
    """
    if recipe.launch.strategy != "single":
        raise ConfigError(
            f'--calibrate is one process on this machine, and launch.strategy is "{recipe.launch.strategy}": '
            "add --launch.strategy single"
        )
    trained, _ = split(examples, recipe.train)
    with tempfile.TemporaryDirectory(prefix="winnow-calibrate-") as nowhere:
        there = recipe.model_copy(update={"output": nowhere})
        parameters, bf16 = count_parameters(student), is_bf16_faster()
        there, config, model, _ = load_arranged(there, trained, student, parameters, bf16=bf16)
        config.max_steps, config.save_strategy = steps + WARM_UP_STEPS, SaveStrategy.NO
        trainer = build_trainer(there, trained, tokenizer, model, config)
        clock = StepClock(trainer, progress)
        trainer.add_callback(clock)
        try:
            trainer.train()
        finally:
            progress.close()
    rates = sorted(clock.rates())
    (since, first), (until, last) = clock.ends[WARM_UP_STEPS - 1], clock.ends[-1]
    has_gpu = torch.cuda.is_available()
    return Measured(
        tokens_per_s=Interval(rates[len(rates) // 10], (last - first) / (until - since), rates[-1 - len(rates) // 10]),
        steps=steps,
        device=torch.cuda.get_device_name() if has_gpu else "cpu",
        peak_gib=torch.cuda.max_memory_allocated() / 2**30 if has_gpu else None,
    )
