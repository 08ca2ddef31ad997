"""Tests on the student itself, with the kernels in use, whether a row of a pack sees another row."""

from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from finetune.train.batches.packing import flattened
from finetune.train.memory import is_out_of_memory
from harvest.core.printable import first_line

LEAK = 0.05
"""Another row, or being in a pack, may change a row's logits by at most this share of the change that the row's own
first token makes, or by ROUNDINGS times what rounding changes, whichever is more. A row that reads differently in a
pack gives about 1."""
ROUNDINGS = 2
"""Two computations that both round may differ by so many times the rounding that is measured."""
MOST = 0.5
"""Rounding never explains more than this share of the change that the row's own first token makes."""
GRADIENT_LEAK = 1e-6
"""The gradient that reaches another row may be at most this share of the gradient within the row. If rows are apart it
is 0 in any precision. A state that leaks little shows in this gradient (Jamba of random weights: 1e-3), but is lost in
the rounding of the logits."""
PROBE_TOKENS = 40
"""Each of the two rows of the probe has this many tokens."""


class Changes(NamedTuple):
    """The largest changes of row B's logits in a pack of the rows A and B."""

    by_another: float
    """Row B's logits change by this much when row A's tokens change."""
    by_packing: float
    """Row B's logits in the pack differ by this much from those of B alone with the student's own attention."""
    by_itself: float
    """Row B's later logits change by this much when B's first token changes: this change does reach them."""
    gradient: float
    """The gradient of B's logits at row A is this share of their gradient at B's own tokens."""
    rounding: float = 0.0
    """The logits of B alone differ by this much between ways to compute them that differ in their rounding."""

    @property
    def limit(self) -> float:
        """Returns how much B's logits may change without a leak."""
        return min(max(LEAK * self.by_itself, ROUNDINGS * self.rounding), MOST * self.by_itself)

    @property
    def leaks(self) -> bool:
        """Whether a row sees another row, or reads differently in a pack. NaN counts as a leak."""
        most = self.limit
        return not (self.by_another <= most and self.by_packing <= most and self.gradient <= GRADIENT_LEAK)


def probe(
    model: PreTrainedModel, precision: AbstractContextManager[Any] | None = None, own_attention: str | None = None
) -> Changes:
    """Measures what changes a row's logits in a pack, on this model with the kernels in use.

    `own_attention` is the student's attention before packing was asked for; None means the attention that it has now.
    """
    # Its own generator: the random numbers of the training must not depend on whether the probe ran.
    draw = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    a, other, b = (torch.randint(vocabulary, (PROBE_TOKENS,), generator=draw) for _ in range(3))
    changed = torch.cat([(b[:1] + 1) % vocabulary, b[1:]])

    def most(x: torch.Tensor, y: torch.Tensor) -> float:
        return float((x - y).abs().max())

    trained = model.training
    model.eval()
    try:
        with precision or nullcontext():
            gradient = _gradient_at(model, a, b)
            with torch.no_grad():
                packed = _last_logits(model, a, b)
                by_itself = most(packed[1:], _last_logits(model, a, changed)[1:])
                by_another = most(packed, _last_logits(model, other, b))
                alone, *others = _alone(model, a, b, own_attention or model.config._attn_implementation)
                by_packing = most(packed, alone)
                rounding = max(most(alone, other) for other in others)
    finally:
        model.train(trained)
    return Changes(by_another, by_packing, by_itself, gradient, rounding)


def _alone(model: PreTrainedModel, a: torch.Tensor, b: torch.Tensor, own_attention: str) -> list[torch.Tensor]:
    """Returns B's logits alone, with the student's own attention, then the same in ways that round otherwise.

    These ways are: in a batch beside A, without autocast's half precision, and with transformers' other attentions.
    """
    in_use = model.config._attn_implementation
    try:
        model.set_attn_implementation(own_attention)
        made = [_last_logits(model, b), _logits(model, input_ids=torch.stack([b, a]))[0]]
        with torch.autocast(model.device.type, enabled=False):
            made.append(_last_logits(model, b))
        for name in {"eager", "sdpa"} - {own_attention}:
            with suppress(ValueError, ImportError):  # the student has no such attention
                model.set_attn_implementation(name)
                made.append(_last_logits(model, b))
    finally:
        model.set_attn_implementation(in_use)
    return made


def _last_logits(model: PreTrainedModel, *rows: torch.Tensor) -> torch.Tensor:
    """Returns the logits of the last of `rows`, [tokens, vocabulary].

    Several rows go through the model as one pack, a single row goes as a batch of one.
    """
    if len(rows) == 1:
        return _logits(model, input_ids=rows[0][None])[0]
    given = flattened([{"input_ids": r.tolist()} for r in rows])
    del given["labels"]
    return _logits(model, **given)[0, -len(rows[-1]) :]


def _logits(model: PreTrainedModel, **given: Any) -> torch.Tensor:
    given = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in given.items()}
    made: torch.Tensor = model(**given, use_cache=False).logits
    return made.float()


def _gradient_at(model: PreTrainedModel, a: torch.Tensor, b: torch.Tensor) -> float:
    """Returns the gradient of B's logits at A's embeddings, as a share of their gradient at B's own embeddings.

    A and B are in one pack.
    """
    seen: list[torch.Tensor] = []

    def watch(module: torch.nn.Module, given: Any, made: torch.Tensor) -> torch.Tensor:
        seen.append(made.detach().requires_grad_())
        return seen[-1]

    hook = model.get_input_embeddings().register_forward_hook(watch)
    try:
        with torch.enable_grad():
            logits = _last_logits(model, a, b)
            signs = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)).to(logits.device)
            (gradient,) = torch.autograd.grad((logits * signs).sum(), seen[0])
    finally:
        hook.remove()
    of_token = gradient[0].float().abs().amax(-1)
    return float(of_token[: len(a)].max() / of_token[len(a) :].max())


def leak(
    model: PreTrainedModel, precision: AbstractContextManager[Any] | None = None, own_attention: str | None = None
) -> str | None:
    """Returns why the rows of a pack are not apart in this student, with the kernels in use; None when they are."""
    try:
        found = probe(model, precision, own_attention)
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as e:
        if is_out_of_memory(e):
            raise
        return f"this student cannot keep rows apart: {first_line(e)}"
    if not found.leaks:
        return None
    return (
        "rows would see each other in this student, or read differently in a pack: a row's logits change "
        f"by {found.by_another:.2g} with another row's tokens, by {found.by_packing:.2g} in a pack, by "
        f"{found.by_itself:.2g} with its own first token, by {found.rounding:.2g} with rounding; "
        f"{found.gradient:.2g} of its gradient goes to another row"
    )
