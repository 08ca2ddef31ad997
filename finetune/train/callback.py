"""Does what happens beside the steps of a training.

That is progress, regular checkpoints, the loss curve, stopping on a signal, and the recipe for trackers.
"""

import math
import signal
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune.cost.utilisation import Utilisation
from finetune.progress import Progress
from finetune.recipe import Recipe
from finetune.run import Run
from finetune.train.measuring import ACCURACY, LOSS
from finetune.train.memory import peak_bytes
from finetune.train.output_folder.loss_curve import Curve, read_curve
from finetune.train.output_folder.state import training_key, write_state
from finetune.train.trainer import WinnowTrainer
from harvest.core.errors import InputError
from harvest.core.signals import hung_up, stop_signals
from harvest.report.loss_curve import HELD_OUT_ACCURACY, HELD_OUT_LOSS

SAVE_EVERY_S = 300.0
"""The first checkpoint is saved after this many seconds, and the next ones never sooner, unless the recipe says
otherwise."""
SAVING_SHARE = 0.03
"""Saving may cost this share of the time."""
RECORD_EVERY_S = 30.0
"""New points of the curve go into the run's store at most once in this many seconds."""
UNLOGGED = ("loss", "learning_rate", "grad_norm", "tokens_per_s")
"""A point that has only a measurement of held-out questions has None for these."""
STATE_EVERY_S = 10.0
"""The training time so far is written into the output folder at most once in this many seconds."""


def save_interval_s(took_s: float) -> float:
    """Returns how many seconds the training goes on before the next save, when the last save took `took_s` seconds."""
    return max(SAVE_EVERY_S, took_s * (1 - SAVING_SHARE) / SAVING_SHARE)


LOGGED = ("epoch", "loss", "learning_rate", "grad_norm", "tokens_per_s", "mfu", "peak_gib")
"""What a point of the curve has of what is logged."""
OF_PAIRS = ("margin", "preferred")
"""What it has besides, where pairs are trained."""


class Watch(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Watches a training: shows its progress, saves it regularly, and after a signal stops it at the end of a step."""

    def __init__(
        self,
        output: Path,
        state: dict[str, Any],
        progress: Progress,
        trainer: WinnowTrainer,
        run: Run | None = None,
        utilisation: Utilisation | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock, self.utilisation = clock, utilisation
        self.output, self.state, self.progress, self.trainer, self.run = output, state, progress, trainer, run
        self.curve: Curve | None = None
        self.points: list[dict[str, Any]] = []
        """The points that are not in the run's store yet."""
        self.point: dict[str, Any] = {}
        """The newest point."""
        self.measured = ""
        """The newest held-out loss, for the progress."""
        self.since: int | None = None
        """The step from which this start went on; None once the store knows that its later points are out of date."""
        self.before_s = float(state["wall_s"])
        self.started = self.saved = self.save_began = clock()
        self.state_written = float("-inf")
        self.logged, self.recorded = (self.started, 0.0), self.started
        """`logged` has the time and the tokens of the last logged step; `recorded` is when points last went into the
        store."""
        self.stop = False
        self.world, self.tokens = trainer.world, 0.0
        self.handlers: dict[int, Any] = {}
        trainer.speed = self.speed

    @property
    def wall_s(self) -> float:
        """Returns the training time in seconds, over all starts of this training.

        A kill loses at most the last ten seconds.
        """
        return round(self.before_s + self.clock() - self.started, 1)

    def __enter__(self) -> "Watch":
        for s in stop_signals():
            self.handlers[s] = signal.signal(s, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for s, handler in self.handlers.items():
            signal.signal(s, handler)
        self.progress.close()
        self.record()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            hung_up()
        elif self.stop:
            raise KeyboardInterrupt
        self.stop = True
        how = "with" if self.trainer.saves else "without"
        self.progress.say(f"stopping at the end of this step, {how} a checkpoint; signal again to stop at once")

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.progress.begin(state.max_steps, state.global_step)
        self.logged = (self.clock(), 0.0)
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
        if logs and LOSS in logs:
            self._add_measured(state, logs)
        if not logs or "loss" not in logs:
            return
        if self.curve is not None:
            self._add(state.global_step, logs)
        check_finite(state.global_step, logs, scaled=args.fp16)

    def speed(self) -> dict[str, float | None]:
        """Returns the speed since the last logged step and the most memory so far, under their names in the curve."""
        (since, before), now = self.logged, self.clock()
        self.logged = (now, self.tokens)
        pace = round((self.tokens - before) / max(now - since, 1e-9), 1)
        mfu = None if self.utilisation is None else self.utilisation.mfu(pace)
        return {"tokens_per_s": pace, "mfu": mfu, "peak_gib": round(peak_bytes() / 2**30, 3)}

    def _add(self, step: int, logs: Mapping[str, Any]) -> None:
        assert self.curve is not None
        now = self.clock()
        self.point = {"step": step, **{k: _finite(logs.get(k)) for k in LOGGED}, "at": _now()}
        self.point |= {k: _finite(logs[k]) for k in OF_PAIRS if k in logs}
        self._put()
        so_far = self.tokens / (now - self.started)
        self.progress.note(step, f"loss {float(logs['loss']):.4f}{self.measured} · {so_far:,.0f} tokens/s")
        if now - self.recorded > RECORD_EVERY_S:
            self.record()

    def _add_measured(self, state: TrainerState, logs: Mapping[str, Any]) -> None:
        """Adds a measurement of held-out questions to the point of its step, which may be the one before the first."""
        step, loss = state.global_step, logs[LOSS]
        if not math.isfinite(loss):
            raise InputError(
                f"step {step}: the held-out loss is {loss}, no number, and the training was stopped: lower "
                "train.learning_rate, and name another output"
            )
        self.measured = f", held out {loss:.4f}"
        if self.curve is None:
            return
        if self.point.get("step") != step:
            self.point = {"step": step, "epoch": logs.get("epoch"), **dict.fromkeys(UNLOGGED), "at": _now()}
        self.point = {**self.point, HELD_OUT_LOSS: loss, HELD_OUT_ACCURACY: logs[ACCURACY]}
        self._put()

    def _put(self) -> None:
        assert self.curve is not None
        self.curve.add(self.point)
        if self.points and self.points[-1]["step"] == self.point["step"]:
            self.points.pop()
        self.points.append(self.point)

    def record(self) -> None:
        """Puts the new points into the run's store.

        If another process is writing to the store, the points are kept for later.
        """
        self.recorded = self.clock()
        if self.run is None or not self.points:
            return
        if self.run.put_points(training_key(self.output), self.points, self.since):
            self.points, self.since = [], None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        now = self.clock()
        due = self.trainer.saves_by_clock and now - self.saved > save_interval_s(self.state.get("save_s", 0.0))
        # One signal in one process stops all, at the same step; the first process's clock says when to save.
        stop, save, self.tokens = self.world.sums(self.stop, due and self.world.is_first, self.trainer.tokens)
        if stop:
            control.should_training_stop = True
            control.should_save = state.global_step < state.max_steps and self.trainer.saves
        elif save and state.global_step < state.max_steps:
            control.should_save = True
        self.save_began = now
        if self.world.is_first and (now - self.state_written > STATE_EVERY_S or stop):
            self.state_written = now
            write_state(self.output, {**self.state, "wall_s": self.wall_s})

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # A measurement counts neither as training at the next point nor as saving.
        self.save_began, self.logged = self.clock(), (self.clock(), self.tokens)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.saved = self.clock()
        self.state["save_s"] = self.saved - self.save_began  # the next start saves as rarely


class RecipeNote(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Writes the recipe into each tracker (wandb, trackio, tensorboard) when the training begins.

    The trackers' own callbacks come before it, so that their runs are open. Source of the names: transformers 5.23,
    integration_utils.py.
    """

    def __init__(self, recipe: Recipe, callbacks: list[TrainerCallback]) -> None:
        self.recipe, self.callbacks = recipe, callbacks

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        for callback in self.callbacks:
            if (writer := getattr(callback, "tb_writer", None)) is not None:
                writer.add_text("recipe", f"```\n{self.recipe.model_dump_json(indent=2)}\n```")
            for name in ("_wandb", "_trackio"):
                if (library := getattr(callback, name, None)) is not None:
                    library.config.update({"recipe": self.recipe.model_dump(mode="json")}, allow_val_change=True)


def check_finite(step: int, logs: Mapping[str, Any], *, scaled: bool = False) -> None:
    """Raises InputError when loss or gradient is not a finite number: after that the student learns nothing.

    With float16 (`scaled`) the gradient is not checked: the trainer skips such a gradient and lowers the scale.
    """
    loss, norm = logs["loss"], None if scaled else logs.get("grad_norm")
    for name, value in (("loss", loss), ("gradient", norm)):
        if value is not None and not math.isfinite(value):
            raise InputError(
                f"step {step}: the {name} is {float(value)}, no number, and the training was stopped: lower "
                "train.learning_rate or train.max_grad_norm, and name another output"
            )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _finite(value: Any) -> float | None:
    """Returns the number; None when it is not finite, since JSON has no such number."""
    return float(value) if value is not None and math.isfinite(value) else None
