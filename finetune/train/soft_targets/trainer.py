"""Trains on soft targets: the loss of each token is a weighted sum of the divergence from its teachers and of its
cross-entropy."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel

from finetune.recipe import Recipe
from finetune.rows.examples import Examples
from finetune.train.loss import beyond_the_head
from finetune.train.soft_targets.divergence import MISSING, SoftTargets
from finetune.train.soft_targets.targets import described, settings_of
from finetune.train.trainer import WinnowTrainer, labelled, rows_of
from harvest.core.errors import ConfigError

TARGETS = ("soft_at", "soft_ids", "soft_logprobs")
"""The columns of a row that hold its soft targets, and the parts of a batch that do."""


NO_OTHER_LOSS = "soft targets have one already: leave the other loss out"


def check_settings(recipe: Recipe) -> None:
    """Raises ConfigError when the recipe asks for what soft targets do not have. Teachers have scored nothing yet."""
    if recipe.launch.strategy not in ("single", "ddp"):
        raise ConfigError('launch.strategy: soft targets are for "single" and "ddp": the others spread the head')
    other = {"loss_type": "nll", "label_smoothing_factor": 0}
    if named := next((k for k, none in other.items() if recipe.train.further.get(k, none) != none), None):
        raise ConfigError(f"train.{named}: {NO_OTHER_LOSS}")


class DistillTrainer(WinnowTrainer):
    """Learns the text of rows and, where tokens have soft targets, the probabilities of their teachers."""

    method: ClassVar[str] = "distill"

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.since_logged = [0.0, 0]
        """The sum of the divergences, and how many tokens with targets there were."""
        self.kl: list[float] = []
        """The mean divergence at each logged step of this start."""
        if self.aux_loss_enabled:
            raise ConfigError(f"student: its routers have a loss of their own: {NO_OTHER_LOSS}")
        if (setting := beyond_the_head(self.accelerator.unwrap_model(self.model).config)) is not None:
            raise ConfigError(f"student: it changes its logits behind the head ({setting}): no soft targets for it yet")

    @staticmethod
    def dataset(examples: Examples, filler: list[int] | None = None) -> Dataset:
        return rows_of(examples, lambda rows: {**labelled(rows), **{name: rows[name] for name in TARGETS}}, filler)

    @staticmethod
    def collator(collate: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        def with_targets(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
            batch = collate([{k: v for k, v in row.items() if k not in TARGETS} for row in rows])
            return {**batch, **laid(rows, batch["labels"].shape)}

        return with_targets

    @property
    def head(self) -> None:
        """Returns None: winnow's loss is computed on every device, since TRL's head knows no soft targets."""
        return None

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Returns the mean loss over the step's trained tokens, however they are batched."""
        settings, (at, ids, logprobs) = settings_of(self.recipe), (inputs[name] for name in TARGETS)
        soft = SoftTargets(at, ids, logprobs, settings.temperature, settings.weight)
        text = {k: v for k, v in inputs.items() if k not in TARGETS}
        loss = super().compute_loss(model, {**text, "soft": soft}, return_outputs, num_items_in_batch)
        self.since_logged[0] += soft.kl.item()
        self.since_logged[1] += len(ids)
        return loss

    def measure(self, inputs: dict[str, Any]) -> tuple[float, float, int]:
        """Returns what `sft` measures of held-out rows: their text. So both can be compared."""
        return super().measure({k: v for k, v in inputs.items() if k not in TARGETS})

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Logs the mean divergence over the tokens with targets since the last logged step, of all processes."""
        if "loss" in logs:
            kl, tokens = self.world.sums(*self.since_logged)
            self.since_logged = [0.0, 0]
            if tokens and settings_of(self.recipe).weight:
                logs["kl"] = kl / tokens
        super().log(logs, start_time)

    def report(self, examples: Examples) -> dict[str, Any]:
        settings = settings_of(self.recipe)
        logged = [e["kl"] for e in self.state.log_history if "kl" in e]
        return {
            "distill": {
                **settings.model_dump(include={"temperature", "weight", "top_k", "share"}),
                **described(examples),
                "kl_first": logged[0] if logged else None,
                "kl_last": logged[-1] if logged else None,
            }
        }


def laid(rows: Sequence[dict[str, Any]], shape: Sequence[int]) -> dict[str, torch.Tensor]:
    """Returns the soft targets of a batch, whose labels have this shape: one line a row, or one line for all rows.

    `soft_at` has the shape and says which line of the other two a token has: [M, K] tokens and log-probabilities, with
    K as the widest row has it.
    """
    width = max((len(row["soft_ids"]) // len(row["soft_at"]) for row in rows if row["soft_at"]), default=1)
    at = np.full(shape, MISSING, np.int64)
    ids, logprobs = [np.empty((0, width), np.int64)], [np.empty((0, width), np.float32)]
    begin = lines = 0
    for n, row in enumerate(rows):
        places, k = np.asarray(row["soft_at"], np.int64), len(row["soft_at"])
        if k:
            line = 0 if shape[0] == 1 else n
            at[line, places + (begin if shape[0] == 1 else 0)] = np.arange(lines, lines + k)
            room = ((0, 0), (0, width - len(row["soft_ids"]) // k))
            of_row = np.asarray(row["soft_ids"], np.int64).reshape(k, -1)
            ids.append(np.pad(of_row, room, constant_values=MISSING))
            values = np.asarray(row["soft_logprobs"], np.float32).reshape(k, -1)
            logprobs.append(np.pad(values, room, constant_values=-np.inf))
            lines += k
        begin += len(row["input_ids"])
    found = (at, np.concatenate(ids), np.concatenate(logprobs))
    return {name: torch.from_numpy(values) for name, values in zip(TARGETS, found, strict=True)}
