"""Describes the work of a training, which is its rows and tokens, and the GPUs that do it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from finetune.cost.gpus import OFFLOAD_ON_SEVERAL_NODES, SHARES, Share
from finetune.cost.shape import Shape

MICRO_TOKENS = {"cpu": 2048, "cuda": 16384}
"""At most this many tokens, padding included, go through the student at once; a longer row goes alone."""
SMALL_PARAMETERS = {"cpu": 600_000_000, "cuda": 200_000_000}
"""A student with fewer weights keeps the activations of a micro-batch. A student with more weights computes them again
in the backward pass. The recipe may say otherwise."""
LORA_RANK = 8
"""This is PEFT's default rank."""
LONG_TAIL = 1.5
"""Σlen²/Σlen is taken to be this many times the mean length if the lengths are not known: chains have a long tail."""
GPUS_A_NODE = 8


def recomputes(parameters: float, longest: int, device: str = "cuda") -> bool:
    """Whether `sft` computes activations again in the backward pass if the recipe does not say."""
    return parameters >= SMALL_PARAMETERS[device] or longest > MICRO_TOKENS[device]


@dataclass(frozen=True, slots=True)
class Work:
    """Work describes the rows of a training.

    `context` is Σlen²/Σlen, which is the length of the row that an average token stands in.
    """

    rows: int
    tokens: float
    """All rows together have this many tokens; each row counts once, whatever `epochs` is."""
    context: float
    longest: int
    epochs: float
    traces_per_step: int


def work_of(lengths: Sequence[int], epochs: float, traces_per_step: int) -> Work:
    tokens = sum(lengths)
    return Work(len(lengths), tokens, sum(n * n for n in lengths) / tokens, max(lengths), epochs, traces_per_step)


def work_of_mean(rows: int, mean_tokens: float, max_tokens: int, epochs: float, traces_per_step: int) -> Work:
    """Returns the work if only the mean length is known. The longest row is taken to be as long as the limit."""
    context = min(LONG_TAIL * mean_tokens, max(max_tokens, mean_tokens))
    return Work(rows, rows * mean_tokens, context, max(max_tokens, round(mean_tokens)), epochs, traces_per_step)


@dataclass(frozen=True, slots=True)
class Launching:
    """A launch names the GPUs, how the training is spread over them, and which weights are trained."""

    strategy: str
    gpu: str
    gpus: int
    method: str = "full"
    rank: int = LORA_RANK
    recompute: bool | None = None
    """Whether activations are computed again in the backward pass; None if `sft` decides it by the sizes of student and
    rows."""
    eight_bit_adam: bool = False
    rows_at_once: int | None = None
    """The student reads this many rows at a time; None if `sft` takes as many as fit."""
    context_parallel: int = 1
    is_packed: bool = False
    """Whether rows are laid one after another, without padding."""
    device: Literal["cuda", "cpu"] = "cuda"
    bf16: bool = True
    """Whether products are in bfloat16, and frozen weights too."""

    @property
    def used(self) -> int:
        """Returns how many GPUs take part in the training."""
        return 1 if self.strategy == "single" else self.gpus

    @property
    def share(self) -> Share:
        """Returns the share of the GPUs' peak that this launch reaches."""
        if self.strategy == "zero3-offload" and self.used > GPUS_A_NODE:
            return OFFLOAD_ON_SEVERAL_NODES
        return SHARES[self.strategy]

    def recomputes(self, shape: Shape, longest: int) -> bool:
        if self.recompute is not None:
            return self.recompute
        return recomputes(shape.parameters, longest, self.device)
