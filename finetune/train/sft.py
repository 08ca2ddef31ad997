"""Supervised training of the student on TRL, from the rendered rows to a folder that transformers loads.

What is ours: which tokens are trained, which rows share a step, the checkpoints one may trust, and when it is
finished. The rest (optimizer, schedule, accumulation, mixed precision) is TRL's SFTTrainer.
"""

import itertools
import logging
import math
import signal
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import SaveStrategy

from finetune.cost.estimate import Measured
from finetune.cost.hours import Interval
from finetune.progress import Progress
from finetune.recipe import Recipe
from finetune.rows.dataset import Examples
from finetune.rows.render import Tokenizer
from finetune.run import Run
from finetune.student import Student
from finetune.train.card import provenance
from finetune.train.launch import World, running
from finetune.train.loss_curve import Curve, read_curve
from finetune.train.output import (
    CHECKPOINTS_KEPT,
    alone,
    check_disk,
    check_resumable,
    check_room,
    disk_watched,
    drop_checkpoints,
    identity_of,
    newest_checkpoint,
    read_state,
    save_student,
    training_key,
    write_state,
)
from finetune.train.trainer import (
    WinnowTrainer,
    build_trainer,
    is_bf16_faster,
    load_student,
    student_parameters,
    training_config,
)
from harvest.core.errors import ConfigError, InputError
from harvest.core.money import pusd, usd

SAVE_EVERY_S = 300.0
KEEP_EVERY_S = 30.0
"""How often the curve goes into the run's store."""
WARM_UP_STEPS = 2
"""Steps of a calibration that do not count: kernels are chosen and caches fill."""


def sft(
    recipe: Recipe,
    examples: Examples,
    tokenizer: Tokenizer,
    student: Student,
    progress: Progress,
    world: World = World(),  # noqa: B008  frozen
    run: Run | None = None,
) -> dict[str, Any]:
    """Trains, or goes on, or does nothing where it is finished; gives the training block of the report. In each of
    the processes of `world`, which gives the same. Its curve goes into the store of `run` as it is made.

    Raises ConfigError for settings that don't go together, InputError where `output` holds something else, is
    being trained into or the disk is too small, Lost where another process ended, KeyboardInterrupt when stopped (the
    same call goes on from the checkpoint).
    """
    output = Path(recipe.output)
    what = identity_of(recipe, examples, student)
    with ExitStack() as held:
        with world.together():
            state = _claimed(recipe, what, held) if world.is_first else {}
        state = world.hear(state)
        if state.get("training"):
            return dict(state["training"])
        refuse_packed_parts(recipe)
        with world.together():
            if not output.is_dir():
                raise InputError(f"output {output}: not there on every machine: name a folder that all of them share")
            config = training_config(
                recipe, examples, student_parameters(student), bf16=state["bf16"], processes=world.readers
            )
            if world.sharers > 1:  # each of those who share a row takes two pieces of it
                config.pad_to_multiple_of = 2 * world.sharers
            torch.manual_seed(recipe.train.seed)
            model = load_student(recipe, student, config)
            checkpoint = _resumed(recipe, model, config, world, progress) if world.is_first else None
            trainer = build_trainer(recipe, examples, tokenizer, model, config, world)
            progress.say(f"{output}: runs as {running(trainer, recipe.launch.strategy)}; {trainer.manner}")
        checkpoint = world.hear(checkpoint)
        if world.is_first:
            write_state(output, state)
        with disk_watched(output), Pace(output, state, progress, trainer, run) as pace, world.watched():
            trainer.add_callback(pace)
            trainer.train(resume_from_checkpoint=checkpoint)
            if trainer.state.global_step < trainer.state.max_steps:
                raise KeyboardInterrupt
            with world.together():
                if world.is_first:
                    check_room(output, trainer.weight_bytes, "the student")
            save_student(trainer, tokenizer, output, world.is_first)
        block: dict[str, Any] = {}
        if world.is_first:
            state["layout"] = asdict(recipe.render.layout(tokenizer))
            block = training_block(recipe, examples, trainer, pace.wall_s)
            write_state(output, {**state, "wall_s": pace.wall_s, "training": block})
            drop_checkpoints(recipe, output)
        return dict(world.hear(block))


def _claimed(recipe: Recipe, what: Mapping[str, Any], held: ExitStack) -> dict[str, Any]:
    """The state of the training in its folder, which is ours alone until `held` is closed."""
    output = Path(recipe.output)
    read_state(output, what)  # before the lock: it would be a file in a folder that is not ours
    held.enter_context(alone(output))
    state = read_state(output, what)
    if state.get("training"):
        drop_checkpoints(recipe, output)
        return state
    if "provenance" not in state:  # now, while the data is here
        state["provenance"] = provenance(recipe)
    if "bf16" not in state:  # once for a training: a second start must not compute otherwise
        state["bf16"] = is_bf16_faster()
    return state


def _resumed(recipe: Recipe, model: Any, config: Any, world: World, progress: Progress) -> str | None:
    """The checkpoint to go on from. Raises ConfigError where it is of another launch, InputError for the disk."""
    output = Path(recipe.output)
    checkpoint = newest_checkpoint(output)
    if checkpoint is not None and (differs := check_resumable(checkpoint, recipe.launch.strategy, world.size)):
        progress.say(f"{output}: {differs}")
    parameters = sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters())
    check_disk(output, parameters, recipe.method, config.save_total_limit or CHECKPOINTS_KEPT)
    return str(checkpoint) if checkpoint else None


def check(recipe: Recipe, examples: Examples, student: Student) -> None:
    """What `sft` refuses before its first step, as far as that can be said without the weights in memory.

    Writes nothing. Raises ConfigError, InputError.
    """
    output = Path(recipe.output)
    refuse_packed_parts(recipe)
    state = read_state(output, identity_of(recipe, examples, student))
    parameters = student_parameters(student)
    processes = 1 if recipe.launch.strategy == "single" else recipe.launch.gpus
    config = training_config(recipe, examples, parameters, bf16=state.get("bf16", False), processes=processes)
    if not state.get("training"):
        check_disk(output, parameters, recipe.method, config.save_total_limit or CHECKPOINTS_KEPT)


def refuse_packed_parts(recipe: Recipe) -> None:
    """Raises ConfigError for packs whose tokens would be spread over GPUs: context parallelism drops the mask that
    keeps the rows of a pack apart (TRL 1.16, SFTTrainer); and where the weights are, before the proof could run."""
    strategy = recipe.launch.strategy
    if not (recipe.train.packs or recipe.train.further.get("padding_free")):
        return
    if strategy == "fsdp2-cp":
        raise ConfigError('train.packing: not with launch.strategy = "fsdp2-cp", where packed rows see each other')
    if strategy in ("zero3", "zero3-offload"):
        raise ConfigError(
            f'train.packing: not with launch.strategy = "{strategy}", which spreads the weights before it can be tried '
            'whether packed rows see each other: leave packing out, or take "fsdp2"'
        )


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

    Raises ConfigError for settings that don't go together, and for a launch of several processes: this is one.
    """
    if recipe.launch.strategy != "single":
        raise ConfigError(
            f'--calibrate is one process on this machine, and launch.strategy is "{recipe.launch.strategy}": '
            "add --launch.strategy single"
        )
    with tempfile.TemporaryDirectory(prefix="winnow-calibrate-") as nowhere:
        there = recipe.model_copy(update={"output": nowhere})
        config = training_config(there, examples, student_parameters(student), bf16=is_bf16_faster())
        config.max_steps, config.save_strategy = steps + WARM_UP_STEPS, SaveStrategy.NO
        model = load_student(recipe, student, config)
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

    def __init__(
        self, output: Path, state: dict[str, Any], progress: Progress, trainer: WinnowTrainer, run: Run | None = None
    ) -> None:
        self.output, self.state, self.progress, self.trainer, self.run = output, state, progress, trainer, run
        self.curve: Curve | None = None
        self.points: list[dict[str, Any]] = []
        """Those that are not in the store yet."""
        self.since: int | None = None
        self.before_s = float(state["wall_s"])
        self.started = self.saved = time.monotonic()
        self.noted = float("-inf")
        self.logged, self.kept = (self.started, 0.0), self.started
        self.stop = False
        self.world, self.tokens = trainer.world, 0.0
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
        self.keep()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stop:
            raise KeyboardInterrupt
        self.stop = True
        self.progress.say("stopping at the end of this step, with a checkpoint; once more to stop at once")

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.progress.begin(state.max_steps, state.global_step)
        self.logged = (time.monotonic(), 0.0)
        if self.world.is_first:
            self.curve, self.since = Curve(self.output, state.global_step), state.global_step
            self.points = read_curve(self.output)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Any = None,
        **_: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        if self.curve is not None:
            self._note(state.global_step, logs)
        refuse_no_number(state.global_step, logs, scaled=args.fp16)

    def _note(self, step: int, logs: Mapping[str, Any]) -> None:
        assert self.curve is not None
        (since, before), now = self.logged, time.monotonic()
        self.logged = (now, self.tokens)
        point: dict[str, Any] = {"step": step} | {
            k: _finite(v)
            for k, v in (
                ("epoch", logs.get("epoch")),
                ("loss", logs["loss"]),
                ("learning_rate", logs.get("learning_rate")),
                ("grad_norm", logs.get("grad_norm")),
                ("tokens_per_s", round((self.tokens - before) / max(now - since, 1e-9), 1)),
            )
        }
        point["at"] = datetime.now(UTC).isoformat(timespec="seconds")
        self.curve.add(point)
        self.points.append(point)
        self.progress.step(step, float(logs["loss"]), self.tokens / (now - self.started))
        if now - self.kept > KEEP_EVERY_S:
            self.keep()

    def keep(self) -> None:
        """The points so far into the run's store; another time where somebody writes to it."""
        self.kept = time.monotonic()
        if self.run is None or not self.points:
            return
        if self.run.put_points(training_key(self.output), self.points, self.since):
            self.points, self.since = [], None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        now = time.monotonic()
        due = args.save_strategy == "no" and now - self.saved > SAVE_EVERY_S
        # One signal in one process stops all, at the same step; the first process's clock says when to save.
        stop, save, self.tokens = self.world.sums(self.stop, due and self.world.is_first, self.trainer.tokens)
        if stop:
            control.should_training_stop = True
            control.should_save = state.global_step < state.max_steps
        elif save:
            control.should_save = True
        if self.world.is_first and (now - self.noted > 10 or stop):
            self.noted = now
            write_state(self.output, {**self.state, "wall_s": self.wall_s})

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.saved = time.monotonic()


def refuse_no_number(step: int, logs: Mapping[str, Any], *, scaled: bool = False) -> None:
    """Raises InputError where loss or gradient is no number: what would be learnt or saved from here on is nothing.
    With float16 (`scaled`) such a gradient is left out, and the scale lowered."""
    loss, norm = logs["loss"], None if scaled else logs.get("grad_norm")
    for name, value in (("loss", loss), ("gradient", norm)):
        if value is not None and not math.isfinite(value):
            raise InputError(
                f"step {step}: the {name} is {float(value)}, no number, and the training was stopped: lower "
                "train.learning_rate or train.max_grad_norm, and name another output"
            )


def _finite(value: Any) -> float | None:
    """A number that JSON has; a loss may be none."""
    return float(value) if value is not None and math.isfinite(value) else None


def training_block(recipe: Recipe, examples: Examples, trainer: WinnowTrainer, wall_s: float) -> dict[str, Any]:
    """The report's `training` entry. A cost that nobody named is null, not zero."""
    losses = [e["loss"] for e in trainer.state.log_history if "loss" in e]
    processes = trainer.world.size
    gpus = processes if torch.cuda.is_available() else 0  # each process has one, however many there are
    tokens = round(sum(map(len, examples.examples)) * recipe.train.epochs)
    mixed = "bfloat16" if trainer.args.bf16 else "float16" if trainer.args.fp16 else None
    held = "bfloat16" if trainer.args.bf16 and recipe.method == "lora" else "float32"
    held = "4-bit NF4" if recipe.method == "qlora" else held
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
        "strategy": recipe.launch.strategy,
        "processes": processes,
        "gpus": gpus,
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
