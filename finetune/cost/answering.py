"""Estimates how long a student takes to answer an evaluation's questions on GPUs, with vLLM or with transformers.

Making a token is bound by memory, not by arithmetic: each step reads the weights once, and the key-value cache of each
answer in the batch. transformers' static batches last as long as their longest answer, and start each layer's kernels
from Python. Nobody has measured these figures here: they are reckoned from the makers' data sheets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from finetune.cost.gpus import Gpu, gpu_named
from finetune.cost.hours import Interval
from finetune.cost.shape import Shape
from finetune.cost.work import LONG_TAIL, Launching, Work

IN_FLIGHT = 256
"""vLLM makes at most so many answers at once with each copy of the model."""
STATIC_ROWS = 256
"""The most rows of a batch of transformers."""
WEIGHTS_SHARE = 0.6
"""The weights fill at most this share of a GPU's memory where there are more GPUs: the rest is for the answers'
key-value caches."""
CACHE_SHARE = {"vllm": 0.9, "transformers": 0.8}
"""Weights and caches fill this share of a GPU's memory."""
OF_BANDWIDTH = Interval(0.75, 0.55, 0.35)
"""The share of its bandwidth that a GPU reaches: in the low, the middle and the high estimate of the hours."""
LAYER_S = Interval(0.0007, 0.0012, 0.002)
"""A layer of transformers takes at least this long in each step: its kernels are started from Python."""
CACHE_MOVED = 3
"""transformers' cache is read once, and copied once to add a token: three times its bytes are moved."""
UNFINISHED = 0.05
"""So many answers go on to max_tokens. A static batch then lasts that long."""
START_S = 120.0
"""vLLM takes this long to load, and to record its graphs."""
COMPUTE_SHARE = 0.4
SIZE_BYTES = 2


@dataclass(frozen=True, slots=True)
class Evaluating:
    """Says how much the student answers in its evaluation. It is evaluated twice: before and after its training."""

    questions: int = 500
    samples: int = 1
    tokens: float = 0
    """An answer has this many tokens on average; 0 means as many as a training row has on average."""
    max_tokens: float = 0
    """The longest answers have this many tokens; 0 means as many as the longest training row."""
    engine: str = "vllm"


@dataclass(frozen=True, slots=True)
class Spread:
    """How a model is spread over GPUs: each copy over `tensor` of them, and `data` copies."""

    tensor: int = 1
    data: int = 1


def spread_of(
    parameters: float, heads: int, gpus: Sequence[float], tensor: int | None = None, data: int | None = None
) -> Spread:
    """Returns how vLLM spreads a model of this many weights, in bfloat16, over GPUs of these sizes in GiB.

    A copy takes as few GPUs as leave it WEIGHTS_SHARE of their memory: a power of two that divides the attention heads.
    There are as many copies as the GPUs have room for. `tensor` and `data` are used where they are given.
    """
    if not gpus:
        return Spread(tensor or 1, data or 1)
    if tensor is None:
        gib, most = SIZE_BYTES * parameters / 2**30, len(gpus) // (data or 1)
        able = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= most and heads % n == 0] or [1]
        tensor = next((n for n in able if gib / n <= WEIGHTS_SHARE * min(gpus)), able[-1])
    return Spread(tensor, data or max(1, len(gpus) // tensor))


def answering_hours(shape: Shape, work: Work, launching: Launching, evaluating: Evaluating) -> Interval:
    """Returns the GPU-hours that the student needs to answer all questions twice: before and after its training."""
    gpu = gpu_named(launching.gpu)
    mean = evaluating.tokens or work.tokens / work.rows
    longest = max(evaluating.max_tokens or work.longest, mean)
    answers = evaluating.questions * evaluating.samples
    reckon = _vllm_s if evaluating.engine == "vllm" else _transformers_s
    gpus = launching.gpus if evaluating.engine == "vllm" else 1
    low, mid, high = (
        2 * gpus * reckon(shape, gpu, gpus, answers, mean, longest, n) / 3600 for n in range(len(OF_BANDWIDTH))
    )
    return Interval(low, mid, high)


def _vllm_s(shape: Shape, gpu: Gpu, gpus: int, answers: int, mean: float, longest: float, n: int) -> float:
    """Returns the seconds by the clock of one evaluation with vLLM, in the estimate number `n` of low, mid, high."""
    spread = spread_of(shape.parameters, 64, [gpu.gib] * gpus)
    bandwidth = spread.tensor * gpu.tb_per_s * 1e12 * OF_BANDWIDTH[n]
    weights, token = SIZE_BYTES * shape.parameters, _token_bytes(shape)
    held = LONG_TAIL * mean / 2  # an answer's cache, as the average token sees it
    room = CACHE_SHARE["vllm"] * spread.tensor * gpu.gib * 2**30 - weights
    of_copy = math.ceil(answers / spread.data)
    rows = max(1, min(of_copy, IN_FLIGHT, int(room / max(1.0, held * token))))
    read_s = (SIZE_BYTES * min(shape.parameters, rows * shape.active) + rows * held * token) / bandwidth
    compute_s = 2 * shape.active * rows / (spread.tensor * gpu.tflops * 1e12 * COMPUTE_SHARE)
    alone_s = (
        SIZE_BYTES * shape.active + longest / 2 * token
    ) / bandwidth  # the longest answer, when others have ended
    return START_S + of_copy * mean / rows * max(read_s, compute_s) + (longest - mean) * alone_s


def _transformers_s(shape: Shape, gpu: Gpu, gpus: int, answers: int, mean: float, longest: float, n: int) -> float:
    """Returns the seconds of one evaluation in static batches on one GPU, in the estimate number `n`."""
    bandwidth = gpu.tb_per_s * 1e12 * OF_BANDWIDTH[n]
    weights, token = SIZE_BYTES * shape.parameters, _token_bytes(shape)
    room = CACHE_SHARE["transformers"] * (gpu.gib * 2**30 - weights)
    rows = max(1, min(answers, STATIC_ROWS, int(room / (longest * token))))
    to_the_end = 1 - (1 - UNFINISHED) ** rows
    steps = to_the_end * longest + (1 - to_the_end) * min(longest, 2 * mean)
    going = max(1.0, rows * mean / steps)  # ended rows leave the batch
    step_s = max(shape.layers * LAYER_S[n], (weights + CACHE_MOVED * going * steps / 2 * token) / bandwidth)
    return math.ceil(answers / rows) * steps * step_s


def _token_bytes(shape: Shape) -> float:
    """Returns the bytes of one token's keys and values."""
    return 2 * SIZE_BYTES * shape.attention_layers * shape.kv
