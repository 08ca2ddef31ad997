"""Supervised training of the student on TRL, from the rendered rows to a folder that transformers loads.

What is ours: which tokens are trained, which rows share a step, the checkpoints one may trust, and when it is
finished. The rest (optimizer, schedule, accumulation, mixed precision) is TRL's SFTTrainer.
"""

import itertools
import logging
import signal
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from finetune.card import provenance
from finetune.config import Recipe
from finetune.dataset import Examples
from finetune.estimate import Interval, Measured
from finetune.launch import running
from finetune.output import (
    CHECKPOINTS_KEPT,
    alone,
    check_disk,
    drop_checkpoints,
    identity_of,
    newest_checkpoint,
    read_state,
    save_student,
    write_state,
)
from finetune.progress import Progress
from finetune.render import Tokenizer
from finetune.student import Student, load_model
from finetune.trainer import WinnowTrainer, build_trainer, is_bf16_faster, student_parameters, training_config
from harvest.money import pusd, usd

SAVE_EVERY_S = 300.0
WARM_UP_STEPS = 2
"""Steps of a calibration that do not count: kernels are chosen and caches fill."""


def sft(
    recipe: Recipe, examples: Examples, tokenizer: Tokenizer, student: Student, progress: Progress
) -> dict[str, Any]:
    """Trains, or goes on, or does nothing where it is finished; gives the training block of the report.

    Raises ConfigError for settings that don't go together, InputError where `output` holds something else, is
    being trained into or the disk is too small, KeyboardInterrupt when stopped (the same call goes on from the
    checkpoint).
    """
    output = Path(recipe.output)
    what = identity_of(recipe, examples, student)
    read_state(output, what)  # before the lock: it would be a file in a folder that is not ours
    with alone(output):
        state = read_state(output, what)
        if state.get("training"):
            drop_checkpoints(recipe, output)
            return dict(state["training"])
        if "provenance" not in state:  # now, while the data is here
            state["provenance"] = provenance(recipe)
        if "bf16" not in state:  # once for a training: a second start must not compute otherwise
            state["bf16"] = is_bf16_faster()
        config = training_config(recipe, examples, student_parameters(student), bf16=state["bf16"])
        torch.manual_seed(recipe.train.seed)
        model = load_model(student, torch.bfloat16 if recipe.method == "lora" and config.bf16 else torch.float32)
        checkpoint = newest_checkpoint(output)
        parameters = sum(p.numel() for p in model.parameters())
        check_disk(output, parameters, recipe.method, config.save_total_limit or CHECKPOINTS_KEPT)
        trainer = build_trainer(recipe, examples, tokenizer, model, config)
        progress.say(f"{output}: runs as {running(trainer)}")
        write_state(output, state)
        with Pace(output, state, progress, trainer) as pace:
            trainer.add_callback(pace)
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            if trainer.state.global_step < trainer.state.max_steps:
                raise KeyboardInterrupt
        state["layout"] = asdict(recipe.render.layout(tokenizer))
        save_student(trainer.model, tokenizer, output)
        block = training_block(recipe, examples, trainer, pace.wall_s)
        write_state(output, {**state, "wall_s": pace.wall_s, "training": block})
        drop_checkpoints(recipe, output)
    return block


def check(recipe: Recipe, examples: Examples, student: Student) -> None:
    """What `sft` refuses before its first step, as far as that can be said without the weights in memory.

    Writes nothing. Raises ConfigError, InputError.
    """
    output = Path(recipe.output)
    state = read_state(output, identity_of(recipe, examples, student))
    parameters = student_parameters(student)
    config = training_config(recipe, examples, parameters, bf16=state.get("bf16", False))
    if not state.get("training"):
        check_disk(output, parameters, recipe.method, config.save_total_limit or CHECKPOINTS_KEPT)


class StepClock(TrainerCallback):  # type: ignore[misc]
    """When each step ended, and how many tokens had gone through the student by then."""

    def __init__(self, trainer: "WinnowTrainer", progress: Progress) -> None:
        self.trainer, self.progress, self.ends = trainer, progress, list[tuple[float, int]]()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.progress.begin(state.max_steps, 0)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.ends.append((time.monotonic(), self.trainer.tokens))
        self.progress.note(state.global_step, f"{self.trainer.tokens:,} tokens")

    def rates(self) -> list[float]:
        """Tokens a second of each step but the first two, which warm up."""
        later = self.ends[WARM_UP_STEPS - 1 :]
        return [(b - a) / (until - since) for (since, a), (until, b) in itertools.pairwise(later)]


def calibrate(
    recipe: Recipe, examples: Examples, tokenizer: Tokenizer, student: Student, progress: Progress, steps: int = 20
) -> Measured:
    """How fast `steps` real steps are on this machine. Nothing is kept of what they learn.

    Raises ConfigError for settings that don't go together.
    """
    with tempfile.TemporaryDirectory(prefix="winnow-calibrate-") as nowhere:
        there = recipe.model_copy(update={"output": nowhere})
        config = training_config(there, examples, student_parameters(student), bf16=is_bf16_faster())
        config.max_steps, config.save_strategy = steps + WARM_UP_STEPS, SaveStrategy.NO
        model = load_model(student, torch.bfloat16 if recipe.method == "lora" and config.bf16 else torch.float32)
        trainer = build_trainer(there, examples, tokenizer, model, config)
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


class Pace(TrainerCallback):  # type: ignore[misc]
    """Watches a training: shows it, saves it in time, stops it at a step's end when a signal says so."""

    def __init__(self, output: Path, state: dict[str, Any], progress: Progress, trainer: WinnowTrainer) -> None:
        self.output, self.state, self.progress, self.trainer = output, state, progress, trainer
        self.before_s = float(state["wall_s"])
        self.started = self.saved = time.monotonic()
        self.noted = float("-inf")
        self.stop = False
        self.handlers: dict[int, Any] = {}

    @property
    def wall_s(self) -> float:
        """Of all starts together, what was lost in a kill included up to ten seconds."""
        return round(self.before_s + time.monotonic() - self.started, 1)

    def __enter__(self) -> "Pace":
        for s in (signal.SIGINT, signal.SIGTERM):
            self.handlers[s] = signal.signal(s, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for s, handler in self.handlers.items():
            signal.signal(s, handler)
        self.progress.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stop:
            raise KeyboardInterrupt
        self.stop = True
        self.progress.say("stopping at the end of this step, with a checkpoint; once more to stop at once")

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.progress.begin(state.max_steps, state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Any = None,
        **_: Any,
    ) -> None:
        if logs and "loss" in logs:
            seconds = time.monotonic() - self.started
            self.progress.step(state.global_step, float(logs["loss"]), self.trainer.tokens / seconds)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        now = time.monotonic()
        if self.stop:
            control.should_training_stop = True
            control.should_save = state.global_step < state.max_steps
        elif args.save_strategy == "no" and now - self.saved > SAVE_EVERY_S:
            control.should_save = True
        if now - self.noted > 10 or self.stop:
            self.noted = now
            write_state(self.output, {**self.state, "wall_s": self.wall_s})

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.saved = time.monotonic()


def training_block(recipe: Recipe, examples: Examples, trainer: WinnowTrainer, wall_s: float) -> dict[str, Any]:
    """The report's `training` entry. A cost that nobody named is null, not zero."""
    losses = [e["loss"] for e in trainer.state.log_history if "loss" in e]
    gpus = 1 if torch.cuda.is_available() else 0  # the strategy "single" uses one, however many there are
    tokens = round(sum(map(len, examples.examples)) * recipe.train.epochs)
    mixed = "bfloat16" if trainer.args.bf16 else "float16" if trainer.args.fp16 else None
    held = "bfloat16" if trainer.args.bf16 and recipe.method == "lora" else "float32"
    gpu_hours = wall_s / 3600 * gpus
    price = recipe.launch.price_usd_per_gpu_hour
    return {
        "student": recipe.student,
        "method": "sft",
        "weights": recipe.method,
        "output": recipe.output,
        "rows": len(examples.examples),
        "dropped": len(examples.dropped),
        "data": examples.digest,
        "epochs": recipe.train.epochs,
        "learning_rate": recipe.train.learning_rate,
        "seed": recipe.train.seed,
        "tokens": tokens,
        "trained_tokens": round(sum(e.trained_tokens for e in examples.examples) * recipe.train.epochs),
        "tokens_per_s": round(tokens / wall_s, 1) if wall_s else None,
        "steps": trainer.state.max_steps,
        "wall_s": wall_s,
        "gpu_hours": round(gpu_hours, 4),
        "cost_usd": usd(pusd(price * round(wall_s * gpus) / 3600)) if price is not None and gpus else None,
        "loss_first": losses[0] if losses else None,
        "loss_last": losses[-1] if losses else None,
        "precision": f"{mixed} over {held}" if mixed else held,
        "device": torch.cuda.get_device_name() if gpus else "cpu",
        "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
    }


def quiet() -> None:
    """transformers and its like speak on stderr only where something is wrong."""
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    for name in ("trl", "accelerate", "peft", "torch"):
        logging.getLogger(name).setLevel(logging.ERROR)
