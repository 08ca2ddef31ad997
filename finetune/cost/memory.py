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
LOGITS = 32_768 * 4_096
"""TRL's fused head makes this many logits at a time, in bfloat16."""
SHARDED = ("fsdp2", "fsdp2-cp", "zero3", "zero3-offload")
"""Strategies that spread weights, gradients and optimizer over the GPUs; all others repeat them on each GPU."""


def memory_gib(shape: Shape, work: Work, launching: Launching) -> dict[str, float]:
    """Returns how many GiB each use of memory takes on one GPU at the peak of a step: {"activations": 3.2, …}.

    A weight that is trained in float32 with Adam takes 16 bytes: weight, gradient and two moments. At the peak either
    the head makes the loss, or a layer is in its backward pass. docs/training.md has the sum by hand.
    """
    is_full, is_sharded = launching.method == "full", launching.strategy in SHARDED
    shards = launching.used if is_sharded else 1
    trained = shape.parameters if is_full else shape.adapter(launching.rank)
    frozen = 0 if is_full else _frozen_bytes(shape, launching.method)
    adam = 2 if launching.eight_bit_adam else 8
    a_weight = 4 if is_full and launching.strategy == "zero3-offload" else 8 + adam
    if launching.strategy == "ddp":
        a_weight += 4  # its buckets hold the gradients again
    layer = (shape.parameters - shape.embeddings) / shape.layers
    copies = 0 if is_sharded else 2 * trained  # autocast's, in bfloat16
    tokens = _tokens_at_once(work, launching) / launching.context_parallel
    is_float32 = is_full and not is_sharded  # autocast leaves the embedding and what is added to it as they are
    kept, in_backward = _layer_bytes(shape, tokens, 32 if is_float32 else 22 if is_full else 26)
    if launching.recomputes(shape, work.longest):
        activations = shape.layers * tokens * shape.hidden * (4 if is_float32 else 2)
        at_work = {"one_layer_at_work": kept + in_backward}
    else:
        activations, copies = shape.layers * kept + copies, 0
        at_work = {"one_layer_at_work": in_backward}
    if is_sharded:  # two layers in bfloat16, and the gradients of one
        at_work["gathered_weights"] = 2 * layer * (3 if is_full else 2)
    at_loss = {"head": _head_bytes(shape, tokens, is_full=is_full, is_sharded=is_sharded) + copies}
    uses = {
        "weights_and_optimizer": (frozen + trained * a_weight) / shards,
        "activations": activations,
        **max(at_work, at_loss, key=lambda uses: sum(uses.values())),
        "context": CONTEXT_GIB * GIB,
    }
    return {use: size / GIB for use, size in uses.items()}


def _tokens_at_once(work: Work, launching: Launching) -> float:
    """Returns how many tokens go through a GPU's student at once, padding included."""
    if launching.rows_at_once is not None:
        return launching.rows_at_once * work.longest
    rows = max(1, math.ceil(work.traces_per_step / launching.used))
    return max(work.longest, min(MICRO_TOKENS["cuda"], rows * work.longest))


def _layer_bytes(shape: Shape, tokens: float, a_number: int) -> tuple[float, float]:
    """Returns (the bytes that a layer keeps for its backward pass, the bytes that come on top in that pass).

    A token keeps `a_number` bytes for each of its hidden numbers and 8 for each number of its MLP; in the backward pass
    10 and 6 more. Source: the tensors of a layer of Qwen2, counted on a CPU with torch 2.13.
    """
    h, i = shape.hidden, shape.intermediate
    return tokens * (a_number * h + 8 * i), tokens * (10 * h + 6 * i)


def _head_bytes(shape: Shape, tokens: float, *, is_full: bool, is_sharded: bool) -> float:
    """Returns the bytes that the loss takes: the last hidden states with their gradient, a tile of logits, the head.

    A sharded head is gathered in float32, and a trained one has a gradient in float32 beside the one that is held.
    Source: TRL 1.16, ChunkedLogProbFunction and add_fused_lm_head.
    """
    head = shape.untied_embedding or shape.embeddings
    gathered = head * (4 if is_full else 2) if is_sharded else 0
    return tokens * shape.hidden * 8 + LOGITS * 2 + gathered + (4 * head if is_full else 0)


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
