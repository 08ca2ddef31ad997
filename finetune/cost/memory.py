"""Estimates how much memory a training needs on each GPU."""

import math

from finetune.cost.gpus import gpu_named
from finetune.cost.shape import Shape
from finetune.cost.work import MICRO_TOKENS, Launching, Work

GIB = 2**30
USABLE = 0.92
"""An estimate may fill this share of a GPU's memory, since allocators leave gaps."""
CONTEXT_GIB = 1.0
"""CUDA's own context, its kernels and communication buffers take this many GiB."""
NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""A weight in NF4 takes this many bytes: four bits, a scale of eight bits for 64 weights, and one of 32 bits for 256
such scales. Source: arXiv 2305.14314, section 3 (the scales, quantised twice, take 0.127 bits a weight)."""
SHARDED = ("fsdp2", "fsdp2-cp", "zero3", "zero3-offload")
"""Strategies that spread weights, gradients and optimizer over the GPUs; all others repeat them on each GPU."""


def memory_gib(shape: Shape, work: Work, launching: Launching) -> dict[str, float]:
    """Returns how many GiB each use of memory takes on one GPU: {"activations": 3.2, …}.

    A weight that is trained in float32 with Adam takes 16 bytes.
    """
    n = launching.used
    shards = n if launching.strategy in SHARDED else 1
    adam = 2 if launching.eight_bit_adam else 8
    if launching.method == "full":
        held = shape.parameters * (4 if launching.strategy == "zero3-offload" else 8 + adam) / shards
    else:
        held = (_frozen_bytes(shape, launching.method) + shape.adapter(launching.rank) * (8 + adam)) / shards
    rows = max(1, math.ceil(work.traces_per_step / n))
    tokens = max(work.longest, min(MICRO_TOKENS["cuda"], rows * work.longest)) / launching.context_parallel
    one_layer = tokens * 2 * (12 * shape.hidden + 3 * shape.intermediate)
    if launching.recomputes(shape, work.longest):
        kept, at_work = shape.layers * tokens * 2 * shape.hidden, one_layer
    else:
        kept, at_work = shape.layers * one_layer, one_layer
    return {
        "weights_and_optimizer": held / GIB,
        "activations": kept / GIB,
        "one_layer_at_work": at_work / GIB,
        "context": CONTEXT_GIB,
    }


def _frozen_bytes(shape: Shape, method: str) -> float:
    """Returns the bytes of the frozen weights under adapters.

    A weight is in bfloat16, but with QLoRA every weight except those of embedding and head is in four bits.
    """
    in_four_bits = shape.parameters - shape.embeddings if method == "qlora" else 0
    return in_four_bits * NF4_BYTES + (shape.parameters - in_four_bits) * 2


def total_gib(shape: Shape, work: Work, launching: Launching) -> float:
    return sum(memory_gib(shape, work, launching).values())


def usable_gib(launching: Launching) -> float:
    """Returns how many GiB of one GPU an estimate may fill. Raises ConfigError when the GPU is not known."""
    return gpu_named(launching.gpu).gib * USABLE


def fits(shape: Shape, work: Work, launching: Launching) -> bool:
    return total_gib(shape, work, launching) <= usable_gib(launching)
