"""Trains preference pairs with SimPO: no reference model, and a margin between the two sides.

Source: arXiv 2405.14734, on TRL's fused head, which gives the log-probability of each trained token.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from datasets import Dataset
from torch.nn import functional
from transformers import PreTrainedModel

from finetune.rows.examples import Examples
from finetune.train.preference.attempts import kinds_of
from finetune.train.preference.pairs import counted
from finetune.train.trainer import WinnowTrainer, labelled, rows_of


def simpo(difference: torch.Tensor, beta: float, gamma: float) -> torch.Tensor:
    """Returns SimPO's loss of each pair, [pairs]: −logsigmoid(beta · difference − gamma).

    `difference` is the chosen answer's mean log-probability by token, less the rejected answer's.
    """
    return -functional.logsigmoid(beta * difference - gamma)


def row_means(log_probs: torch.Tensor, trained: torch.Tensor, row_lengths: Sequence[int] | None) -> torch.Tensor:
    """Returns the mean log-probability of each row's trained tokens, [rows].

    Both tensors are [rows, tokens - 1] where rows are padded, and [1, tokens - 1] in a pack, whose rows have
    `row_lengths`. `log_probs` is 0 where `trained` is false. The mean of a row without a trained token is 0.
    """
    if row_lengths is None:
        sums, counts = log_probs.sum(1), trained.sum(1)
    else:
        lengths = torch.tensor(row_lengths, device=log_probs.device)
        of_token = torch.arange(len(lengths), device=log_probs.device).repeat_interleave(lengths)[1:]
        sums = log_probs.new_zeros(len(lengths)).index_add(0, of_token, log_probs[0])
        counts = log_probs.new_zeros(len(lengths)).index_add(0, of_token, trained[0].to(log_probs.dtype))
    return sums / counts.clamp(min=1)


def pairs_in(batch: dict[str, Any]) -> int:
    """Returns how many pairs a batch has: none in a filler, of which nothing is trained."""
    rows = len(batch["row_lengths"]) if "row_lengths" in batch else len(batch["input_ids"])
    return rows // 2 if bool((batch["labels"] != -100).any()) else 0


class PreferenceTrainer(WinnowTrainer):
    """Learns from pairs: an example's `ids` hold the chosen answer's row and then the rejected answer's.

    A step has `traces_per_step` pairs, and its loss is the mean over them, however they are batched.
    """

    method: ClassVar[str] = "prefer"

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.since_logged = [0.0, 0.0, 0.0]
        """The sum of the differences, how many pairs have the chosen side likelier, and how many pairs there were."""
        self.last: dict[str, float] = {}

    @staticmethod
    def dataset(examples: Examples, filler: list[int] | None = None) -> Dataset:
        pair, of_pair = filler and filler * 2, {"chosen_tokens": len(filler or ())}
        return rows_of(examples, lambda rows: {**labelled(rows), "chosen_tokens": rows["chosen_tokens"]}, pair, of_pair)

    @staticmethod
    def collator(collate: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        return lambda pairs: collate([side for pair in pairs for side in _sides(pair)])

    def differences(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """Returns the differences of a batch's pairs, [pairs]; none for a filler.

        The chosen rows stand at even places, each before its rejected row.
        """
        trained = inputs["labels"][:, 1:] != -100
        with self.accelerator.autocast():  # outside `train` accelerate has put none around the model
            if self.head is None:  # on a CPU TRL's head looks at every position
                found = model(**inputs, log_probs=True)
                log_probs = found.new_zeros(trained.shape).masked_scatter(trained, found)
            else:
                log_probs = model(**inputs, use_cache=False, fused_lm_head=True).log_probs
        means = row_means(log_probs.float(), trained, inputs.get("row_lengths"))
        return means[::2] - means[1::2]

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Returns the sum of SimPO's loss over a batch, divided by the number of the step's pairs."""
        padded = inputs.get("attention_mask")
        self.tokens += inputs["input_ids"].numel() if padded is None else int(padded.sum())
        difference = self.differences(model, inputs)
        pairs = pairs_in(inputs)
        for n, value in enumerate((float(difference.sum()), int((difference > 0).sum()), pairs)):
            self.since_logged[n] += value
        prefer = self.recipe.prefer
        assert prefer is not None
        loss = simpo(difference, prefer.beta, prefer.gamma).sum()
        if not pairs:
            loss = 0 * loss  # with a gradient, which DDP waits for
        shares = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        return loss * shares / (max(pairs, 1) if num_items_in_batch is None else num_items_in_batch)

    def measure(self, inputs: dict[str, Any]) -> tuple[float, float, int]:
        """Returns (the sum of the losses, how many pairs have the chosen side likelier, how many pairs there are)."""
        difference, prefer, pairs = self.differences(self.model, inputs), self.recipe.prefer, pairs_in(inputs)
        assert prefer is not None
        loss = simpo(difference, prefer.beta, prefer.gamma).sum().item() if pairs else 0.0
        return loss, float((difference > 0).sum()), pairs

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor:
        """Returns how many pairs the batches of a step have, over all processes. Transformers counts tokens."""
        pairs = torch.tensor(sum(map(pairs_in, batch_samples)), device=device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            pairs = self.accelerator.gather(pairs).sum()
        return pairs

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Logs the mean difference and the share of preferred pairs since the last logged step, of all processes."""
        if "loss" in logs:
            margin, preferred, pairs = self.world.sums(*self.since_logged)
            self.since_logged = [0.0, 0.0, 0.0]
            if pairs:
                self.last = {"margin": margin / pairs, "preferred": preferred / pairs}
                logs.update(self.last)
        super().log(logs, start_time)

    def report(self, examples: Examples) -> dict[str, Any]:
        assert self.recipe.prefer is not None
        return {
            "pairs": counted(kinds_of(examples)),
            **self.recipe.prefer.model_dump(include={"beta", "gamma"}),
            **{f"{name}_last": round(value, 6) for name, value in self.last.items()},
        }


def _sides(pair: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (the chosen row, the rejected row)."""
    at, columns = pair["chosen_tokens"], ("input_ids", "labels")
    return {k: pair[k][:at] for k in columns}, {k: pair[k][at:] for k in columns}
