"""Computes the loss of the trained tokens.

Their logits are computed in chunks. Each chunk is computed once and freed before the next chunk.
"""

import types
from collections.abc import Iterator
from dataclasses import replace
from functools import wraps
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel
from trl.kernels import ChunkedLogProbFunction

from finetune.student import Student, load_model
from finetune.train.soft_targets.divergence import SoftTargets
from finetune.train.training_args import is_bf16_faster
from harvest.core.errors import ConfigError

CHUNK_BYTES = 128 * 2**20
"""The logits of a chunk have this many bytes in float32: 682 tokens for a vocabulary of 49,152, 220 for 152,064."""
SCALES = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")
"""Settings of a model that change the logits behind the head. Source: TRL's `add_fused_lm_head`."""


class ChunkedLoss(torch.autograd.Function):
    """Sums the negative log-likelihoods of `targets` [N] under softmax(`states` [N, H] · `weight` [V, H]ᵀ + `bias`).

    With `soft`, the probabilities of teachers count beside `targets`, as it says.

    The gradients are computed together with the loss, from the same logits. That takes three products a chunk; four are
    needed if the backward pass computes the logits again. Sums are in float32, products in autocast's precision.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        soft: SoftTargets | None = None,
    ) -> torch.Tensor:
        device = states.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
        of_states, of_weight, of_bias = ctx.needs_input_grad[:3]
        w, b = weight.to(dtype), None if bias is None else bias.to(dtype)
        loss = torch.zeros((), dtype=torch.float32, device=states.device)
        d_states = torch.empty_like(states) if of_states else None
        d_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if of_weight else None
        d_bias = torch.zeros(weight.shape[0], dtype=torch.float32, device=weight.device) if of_bias else None
        size = max(1, CHUNK_BYTES // (4 * weight.shape[0]))
        with torch.autocast(device, enabled=False):
            for at in range(0, len(targets), size):
                h, wanted = states[at : at + size].to(dtype), targets[at : at + size, None]
                logits = functional.linear(h, w, b).float()
                total = logits.logsumexp(-1, keepdim=True)
                if soft is not None:
                    part, d_logits = soft.loss(at, logits, total, wanted, any(ctx.needs_input_grad))
                    loss += part
                else:
                    loss += (total - logits.gather(-1, wanted)).sum()
                    d_logits = logits.sub_(total).exp_()  # softmax, less one at the target
                    d_logits.scatter_add_(-1, wanted, d_logits.new_full((), -1.0).expand_as(wanted))
                if d_logits is None or not any(ctx.needs_input_grad):
                    continue
                if d_bias is not None:
                    d_bias += d_logits.sum(0)
                d_logits = d_logits.to(dtype)
                if d_states is not None:
                    d_states[at : at + size] = d_logits @ w
                if d_weight is None:
                    continue
                if dtype == torch.float32:
                    d_weight.addmm_(d_logits.T, h)
                else:
                    d_weight += d_logits.T @ h
        ctx.save_for_backward(d_states, d_weight, d_bias)
        ctx.dtypes = weight.dtype, None if bias is None else bias.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        d_states, d_weight, d_bias = ctx.saved_tensors
        weight, bias = ctx.dtypes
        return (
            None if d_states is None else d_states * d_loss.to(d_states.dtype),
            None if d_weight is None else d_weight.mul_(d_loss).to(weight),
            None if d_bias is None else d_bias.mul_(d_loss).to(bias),
            None,
            None,
        )


@torch.no_grad()
def measured(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> torch.Tensor:
    """Returns [ChunkedLoss's sum, how many targets are the most likely token], without gradients."""
    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else states.dtype
    w, b = weight.to(dtype), None if bias is None else bias.to(dtype)
    found = torch.zeros(2, device=states.device)
    size = max(1, CHUNK_BYTES // (4 * weight.shape[0]))
    with torch.autocast(device, enabled=False):
        for at in range(0, len(targets), size):
            wanted = targets[at : at + size]
            logits = functional.linear(states[at : at + size].to(dtype), w, b).float()
            found[0] += functional.cross_entropy(logits, wanted, reduction="sum")
            found[1] += (logits.argmax(-1) == wanted).sum()
    return found


def add_loss(model: PreTrainedModel) -> None:
    """Makes `model(…, labels=…, trained_loss=True)` return ChunkedLoss's sum over its trained tokens, and nothing else.

    With `measure=True` it returns what `measured` returns for them, in place of `trained_loss=True`, and with
    `log_probs=True` their log-probabilities [N], by TRL's kernel. `soft.at` has the shape of `labels`.

    This is done in the model's own forward, so that wrappers (DDP, adapters, autocast) see an ordinary forward pass.
    """
    forward = model.forward

    @wraps(forward)
    def with_loss(
        self: PreTrainedModel,
        *args: Any,
        trained_loss: bool = False,
        measure: bool = False,
        log_probs: bool = False,
        labels: torch.Tensor | None = None,
        soft: SoftTargets | None = None,
        **more: Any,
    ) -> Any:
        if not (trained_loss or measure or log_probs) or labels is None:
            return forward(*args, **more) if labels is None else forward(*args, labels=labels, **more)
        states = self.base_model(*args, use_cache=False, **more).last_hidden_state[:, :-1]
        trained = labels[:, 1:] != -100
        head = self.get_output_embeddings()
        if measure:
            return measured(states[trained], head.weight, head.bias, labels[:, 1:][trained])
        if log_probs:
            wanted = labels[:, 1:][trained]
            return ChunkedLogProbFunction.apply(
                states[trained], head.weight, head.bias, wanted, 1.0, head.weight.shape[0], None, 1.0, ("log_probs",)
            )[0]
        # Without a trained token the sum is a zero with a gradient: DDP waits for a gradient.
        apply: Any = ChunkedLoss.apply  # torch gives it no types
        soft = None if soft is None else replace(soft, at=soft.at[:, 1:][trained])
        return apply(states[trained], head.weight, head.bias, labels[:, 1:][trained], soft)

    model.forward = types.MethodType(with_loss, model)


def beyond_the_head(config: PreTrainedConfig) -> str | None:
    """Returns the setting by which this student changes its logits behind the head; None when it has none."""
    text = config.get_text_config()
    return next((s for s in SCALES if getattr(text, s, None) not in (None, 1)), None)


def loaded_to_score(student: Student, whose: str) -> Any:
    """Returns a model whose own probabilities are read, on the device that there is. Raises ConfigError, which begins
    with `whose`, when it cannot be loaded, or when it changes the logits that its head gives."""
    model = load_model(student, torch.bfloat16 if is_bf16_faster() else torch.float32).eval()
    if (setting := beyond_the_head(model.config)) is not None:
        raise ConfigError(f"{whose}: it changes its logits behind the head ({setting}): no scores yet")
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def logits_by_chunks(model: Any, states: torch.Tensor) -> Iterator[torch.Tensor]:
    """Gives the logits [n, V], in float32, of `states` [N, H]: some rows at a time, of CHUNK_BYTES together. One
    chunk without rows if there are none."""
    head = model.get_output_embeddings()
    size = max(1, CHUNK_BYTES // (4 * head.weight.shape[0]))
    for at in range(0, max(1, len(states)), size):
        yield functional.linear(states[at : at + size], head.weight, head.bias).float()
