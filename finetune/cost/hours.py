"""Estimates how many GPU-hours a training takes.

The hours are the model FLOPs divided by the speed that a GPU reaches in practice, which is a share of its peak. That
share was fitted to a few published trainings and differs by a factor of five between launches, so the hours are an
interval. `--calibrate` measures them.
"""

import math
from typing import NamedTuple

from finetune.cost.gpus import Share, gpu_named
from finetune.cost.shape import Shape
from finetune.cost.work import Launching, Work


class Interval(NamedTuple):
    low: float
    mid: float
    high: float


def flops_per_token(shape: Shape, context: float, method: str) -> float:
    """Returns the model FLOPs of one trained token, forward and backward, when no activation is computed again.

    There are 6 FLOPs for each weight that is multiplied (4 if no gradient of the weight is taken). `context` is the
    length of the row that an average token stands in. A layer that looks at the whole row takes 12 FLOPs for each token
    of the row and each of the layer's `shape.attention` dimensions. A causal mask leaves half of these: 6.
    """
    a_weight = 6 if method == "full" else 4
    return a_weight * shape.multiplied + 6 * shape.attention_layers * shape.attention * context


def gpu_hours(shape: Shape, work: Work, launching: Launching) -> Interval:
    """Returns the GPU-hours of a training: the sum over all GPUs, as an interval.

    If activations are kept and not computed again, a step saves one forward pass, which is a quarter of its FLOPs.
    """
    recompute = 1.0 if launching.recomputes(shape, work.longest) else 0.75
    flops = flops_per_token(shape, work.context, launching.method) * work.tokens * work.epochs * recompute
    return _hours(flops, launching.gpu, launching.share)


def _hours(flops: float, gpu: str, reached: Share) -> Interval:
    peak = gpu_named(gpu).tflops * 1e12 * 3600
    return Interval(*(flops / (peak * share) for share in (reached.high, reached.mid, reached.low)))


def rounded(x: float) -> float:
    """Returns `x` rounded to three significant figures, since an estimate is no more exact."""
    if x == 0:
        return 0
    number = round(x, max(0, 2 - math.floor(math.log10(abs(x)))))
    return int(number) if number >= 100 else number
