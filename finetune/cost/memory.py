"""Estimates how much memory a training needs on each GPU."""

import math
from typing import NamedTuple

from finetune.cost.gpus import gpu_named
from finetune.cost.shape import Shape
from finetune.cost.work import MICRO_TOKENS, Launching, Work

GIB = 2**30
USABLE = 0.92
"""An estimate may fill this share of a GPU's memory, since allocators leave gaps."""
CONTEXT_GIB = {"cuda": 1.0, "cpu": 0.6}
"""CUDA's own context, its kernels and communication buffers take this many GiB; on a CPU Python with the libraries."""
NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""A weight in NF4 takes this many bytes: four bits, a scale of eight bits for 64 weights, and one of 32 bits for 256
such scales. Source: arXiv 2305.14314, section 3 (the scales, quantised twice, take 0.127 bits a weight)."""
LOGITS_BYTES = {"cuda": 32_768 * 4_096 * 2, "cpu": 128 * 2**20}
"""The head makes this many bytes of logits at a time: TRL's on a GPU in bfloat16, winnow's on a CPU in float32."""
SHARDED = ("fsdp2", "fsdp2-cp", "zero3", "zero3-offload")
"""Strategies that spread weights, gradients and optimizer over the GPUs; all others repeat them on each GPU."""


class Kept(NamedTuple):
    """A layer keeps so many bytes of each token until its backward pass, by what they grow with.

    `hidden` is for each number of the hidden state, `attention` for each of queries, keys and values, `mlp` for each of
    the MLP. `normed` comes to `attention` in models that norm queries and keys.
    """

    hidden: float
    attention: float
    mlp: float
    normed: float


KEPT = {
    "float32": Kept(24, 8, 16, 8),
    "float32, adapters": Kept(16, 8, 16, 4),
    "bfloat16 over float32": Kept(26, 4, 8, 6),
    "bfloat16": Kept(16, 4, 8, 6),
    "bfloat16, adapters": Kept(18, 6, 8, 4),
}
"""Source: the tensors that a layer of Llama and Qwen3 saves, counted on a CPU with torch 2.13 and transformers 5.23."""


def memory_gib(shape: Shape, work: Work, launching: Launching) -> dict[str, float]:
    """Returns how many GiB each use of memory takes on one GPU at the peak of a step: {"activations": 3.2, …}.

    A weight that is trained in float32 with Adam takes 16 bytes: weight, gradient and two moments. The peak is where
    the head makes the loss, or where a layer is in its backward pass. docs/training.md has the sum by hand.
    """
    is_full, is_sharded = launching.method == "full", launching.strategy in SHARDED
    shards = launching.used if is_sharded else 1
    trained = (shape.parameters if is_full else shape.adapter(launching.rank)) / shards
    frozen = 0 if is_full else _frozen_bytes(shape, launching) / shards
    held, gradient = _bytes_of_a_weight(launching)
    layer = (shape.parameters - shape.embeddings) / shape.layers
    copies = 2 * trained if launching.bf16 and not is_sharded else 0  # autocast's, in bfloat16
    rows, tokens = _at_once(work, launching)
    padded_to = work.longest if rows > 1 and not launching.is_packed else 0
    kept, in_backward = _layer_bytes(shape, tokens, launching, padded_to)
    if launching.recomputes(shape, work.longest):
        # autocast leaves the embedding in float32, and what is added to it
        activations = shape.layers * tokens * shape.hidden * (4 if _is_float32(launching) else 2)
        at_work = {"one_layer_at_work": kept + in_backward}
    else:
        activations, copies = shape.layers * kept + copies, 0
        at_work = {"one_layer_at_work": in_backward}
    if is_sharded:  # two layers in bfloat16, and the gradients of one
        at_work["gathered_weights"] = 2 * layer * (3 if is_full else 2)
    at_loss = {"head": _head_bytes(shape, tokens, launching) + copies}
    held_bytes, gradients = frozen + trained * held, trained * gradient
    if launching.strategy == "single" and rows >= work.traces_per_step:
        # A step of one backward pass begins without gradients, and they are whole when no activation is left.
        moments = [
            {"weights_and_optimizer": held_bytes, "activations": activations, **at_loss},
            {"weights_and_optimizer": held_bytes + gradients, "activations": 0.0, **at_work},
        ]
    else:
        moments = [
            {"weights_and_optimizer": held_bytes + gradients, "activations": activations, **at}
            for at in (at_work, at_loss)
        ]
    uses = max(moments, key=lambda uses: sum(uses.values()))
    return {use: size / GIB for use, size in uses.items()} | {"context": CONTEXT_GIB[launching.device]}


def _bytes_of_a_weight(launching: Launching) -> tuple[float, float]:
    """Returns (the bytes that a trained weight and its moments take on the GPU, the bytes of its gradient)."""
    if launching.method == "full" and launching.strategy == "zero3-offload":
        return 2, 2
    moments = 2 if launching.eight_bit_adam else 8
    return 4 + moments, 8 if launching.strategy == "ddp" else 4  # DDP's buckets hold the gradients again


def _is_float32(launching: Launching) -> bool:
    """Whether a layer gets its input in float32."""
    return not launching.bf16 or (launching.method == "full" and launching.strategy not in SHARDED)


def _at_once(work: Work, launching: Launching) -> tuple[float, float]:
    """Returns (how many rows go through a GPU's student at once, how many tokens these are with their padding)."""
    rows: float = max(1, math.ceil(work.traces_per_step / launching.used))
    if launching.rows_at_once is not None:
        rows = launching.rows_at_once
    else:
        rows = max(1, min(MICRO_TOKENS[launching.device] / work.longest, rows))
    return rows, rows * work.longest / launching.context_parallel


def _layer_bytes(shape: Shape, tokens: float, launching: Launching, padded_to: int) -> tuple[float, float]:
    """Returns (the bytes that a layer keeps for its backward pass, the bytes that come on top in that pass).

    In the backward pass a token takes 10 bytes more for each number of its hidden state and 6 for each of its MLP, in
    float32 twice as many. Where rows are padded (to `padded_to` tokens), attention keeps keys and values once for each
    head, and a mask with a number for each pair of a row's tokens.
    """
    full, mixed = launching.method == "full", launching.bf16
    if mixed:
        kept = KEPT["bfloat16, adapters" if not full else "bfloat16" + " over float32" * _is_float32(launching)]
    else:
        kept = KEPT["float32" + ", adapters" * (not full)]
    a_number = 2 if mixed else 4
    attention = kept.attention + (kept.normed if shape.norms_queries else 0)
    repeated = 2 * a_number * shape.attention if padded_to and shape.kv < shape.attention else 0
    wide = (shape.attention + shape.kv) * attention + repeated
    a_token = kept.hidden * shape.hidden + wide + kept.mlp * shape.intermediate + a_number * padded_to
    return tokens * a_token, tokens * a_number * (5 * shape.hidden + 3 * shape.intermediate)


def _head_bytes(shape: Shape, tokens: float, launching: Launching) -> float:
    """Returns the bytes that the loss takes: the last hidden states with their gradient, a tile of logits, the head.

    A sharded head is gathered in float32, and a trained one has a gradient in float32 beside the one that is held.
    Source: TRL 1.16, ChunkedLogProbFunction and add_fused_lm_head; on a CPU finetune/train/loss.py.
    """
    is_full, is_sharded = launching.method == "full", launching.strategy in SHARDED
    head = shape.untied_embedding or shape.embeddings
    gathered = head * (4 if is_full else 2) if is_sharded else 0
    states = tokens * shape.hidden * (8 if launching.bf16 else 20)
    return states + LOGITS_BYTES[launching.device] + gathered + (4 * head if is_full else 0)


def _frozen_bytes(shape: Shape, launching: Launching) -> float:
    """Returns the bytes of the frozen weights under adapters.

    A weight is in bfloat16 where that multiplies, but with QLoRA every weight except those of embedding and head is in
    four bits.
    """
    in_four_bits = shape.parameters - shape.embeddings if launching.method == "qlora" else 0
    return in_four_bits * NF4_BYTES + (shape.parameters - in_four_bits) * (2 if launching.bf16 else 4)


def total_gib(shape: Shape, work: Work, launching: Launching) -> float:
    return sum(memory_gib(shape, work, launching).values())


def usable_gib(launching: Launching) -> float:
    """Returns how many GiB of one GPU an estimate may fill. Raises ConfigError when the GPU is not known."""
    return gpu_named(launching.gpu).gib * USABLE


def fits(shape: Shape, work: Work, launching: Launching) -> bool:
    return total_gib(shape, work, launching) <= usable_gib(launching)
