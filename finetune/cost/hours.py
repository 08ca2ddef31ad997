"""How many GPU-hours a training and its evaluations take.

Hours are model FLOPs over the share of its peak that a GPU reaches in practice. That share differs by a factor of five
from launch to launch, and was fitted to a few published runs. So hours are an interval. `--calibrate` measures them.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from finetune.cost.gpus import ANSWERING, Share, gpu_named
from finetune.cost.shape import Shape
from finetune.cost.work import Launching, Work


class Interval(NamedTuple):
    low: float
    mid: float
    high: float


def flops_per_token(shape: Shape, context: float, method: str) -> float:
    """Model FLOPs of one trained token, forward and backward, nothing recomputed.

    6 for each weight that is multiplied (4 where no gradient of it is taken) and for each position that attention
    looks at, of which a causal mask leaves half.
    """
    a_weight = 6 if method == "full" else 4
    return a_weight * shape.multiplied + 6 * shape.attention_layers * shape.attention * context


def gpu_hours(shape: Shape, work: Work, launching: Launching) -> Interval:
    """The hours of all GPUs together. Without recomputing a step saves one forward pass, a quarter of its FLOPs."""
    recompute = 1.0 if launching.recomputes(shape, work.longest) else 0.75
    flops = flops_per_token(shape, work.context, launching.method) * work.tokens * work.epochs * recompute
    return _hours(flops, launching.gpu, launching.share)


@dataclass(frozen=True, slots=True)
class Evaluating:
    """The questions that the student answers before and after its training."""

    questions: int = 500
    samples: int = 1
    tokens: float = 0
    """Mean tokens of an answer; 0: as many as a row of the training set has."""


def answering_hours(shape: Shape, work: Work, launching: Launching, evaluating: Evaluating) -> Interval:
    """GPU-hours of answering twice, before and after the training."""
    tokens = 2 * evaluating.questions * evaluating.samples * (evaluating.tokens or work.tokens / work.rows)
    return _hours(2 * shape.active * tokens, launching.gpu, ANSWERING)


def _hours(flops: float, gpu: str, reached: Share) -> Interval:
    peak = gpu_named(gpu).tflops * 1e12 * 3600
    return Interval(*(flops / (peak * share) for share in (reached.high, reached.mid, reached.low)))


def rounded(x: float) -> float:
    """`x` to three significant figures: an estimate knows no more."""
    if x == 0:
        return 0
    number = round(x, max(0, 2 - math.floor(math.log10(abs(x)))))
    return int(number) if number >= 100 else number
