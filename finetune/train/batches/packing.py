"""Several rows in one row of tokens: which rows of a step share a pack, attention that stays within a row, and the
proof, on the very student and the kernels in use, that no row sees another.
"""

import heapq
import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import ceil
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from finetune.train.batches.steps import Split, Steps

ROWS = "winnow_rows"
"""The name that transformers knows `rows_attention` by."""
LEAK = 0.05
"""What a row's logits may move by, of what its own first token moves the later ones by: the rounding of bfloat16 is
some hundredths at most; where a row reads otherwise in a pack it is about as much as that."""
FELT = 1e-6
"""The gradient that may reach another row, of that within the row. Of rows that are apart it is 0, whatever the
precision; a state that leaks little shows here (Jamba of random weights: 1e-3) and drowns in rounding above."""
ATTENTIONS = ("full_attention", "sliding_attention", "linear_attention", "attention")
"""Kinds of layers by their configuration that `rows_attention` does, or that are no attention and show in the proof."""
PROBE_TOKENS = 40
"""Of each of the two rows of the proof."""


def packs_of(rows: Sequence[int], lengths: Sequence[int], packs: int) -> list[list[int]]:
    """`rows` in at most `packs` packs, none of them empty, as even in tokens as longest-first makes them.

    Not best-fit: that fills packs and leaves a short last one, for which the other processes wait.
    """
    filled: list[tuple[int, int, list[int]]] = [(0, n, []) for n in range(min(packs, len(rows)))]
    for row in sorted(rows, key=lambda i: (-lengths[i], i)):
        tokens, n, pack = filled[0]
        heapq.heapreplace(filled, (tokens + lengths[row], n, [*pack, row]))
    return [pack for _, _, pack in sorted(filled, key=lambda f: (-f[0], f[1]))]


class Packed(Steps):
    """As `Steps`, each list a pack: its rows go through the student as one row of tokens.

    A step has `split.accumulated` packs in each process, whatever its rows: `packs_a_step` says how many keep all
    packs of a training within a number of tokens.
    """

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.traces_per_step)
        return whole * self.split.accumulated + min(self.split.accumulated, ceil(rest / self.split.processes))

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self.steps():
            packs = packs_of(rows, self.lengths, self.split.accumulated * self.split.processes)
            for at in range(0, len(packs), self.split.processes):
                mine = packs[at : at + self.split.processes][self.split.rank :: self.split.processes]
                yield mine[0] if mine else [self.filler]


def packs_a_step(
    lengths: Sequence[int], traces_per_step: int, seed: int, epochs: int, most_tokens: int, processes: int = 1
) -> int:
    """How many packs of a process a step needs, so that none in all epochs is longer than `most_tokens`, nor than the
    longest row where that is longer."""
    room = max(most_tokens, max(lengths))
    steps = Packed(lengths, traces_per_step, seed, Split(1, 1, processes))
    needed = 1
    for epoch in range(epochs):
        steps.set_epoch(epoch)
        for rows in steps.steps():
            tokens = sum(lengths[i] for i in rows)
            needed = max(needed, ceil(tokens / (room * processes)))
            while max(sum(lengths[i] for i in p) for p in packs_of(rows, lengths, needed * processes)) > room:
                needed += 1
    return needed


def rows_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    row_lengths: Sequence[int] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each row of a pack by itself: no mask of the whole pack's square, nothing padded.

    `query` is [1, heads, tokens, size], what comes back [1, tokens, heads, size]. Without `row_lengths` it is one row.
    PyTorch's fused attention where that can do what the layer asks for (windows over a mask of the one row), else the
    model's own in plain products (sinks, soft caps).
    """
    lengths = [query.shape[2]] if row_lengths is None else list(row_lengths)
    window = kwargs.get("sliding_window")
    plain = kwargs.get("s_aux") is not None or kwargs.get("softcap") is not None
    if plain:
        attend = inspect.getmodule(type(module)).eager_attention_forward  # type: ignore[union-attr]
    made = []
    for q, k, v in zip(*(torch.split(x, lengths, dim=2) for x in (query, key, value)), strict=True):
        seen = _seen(q.shape[2], window, q.device) if plain or (window is not None and q.shape[2] > window) else None
        if plain and seen is not None:
            hidden = torch.zeros_like(seen, dtype=q.dtype).masked_fill(~seen, torch.finfo(q.dtype).min)
            made.append(attend(module, q, k, v, hidden, scaling=scaling, dropout=dropout, **kwargs)[0])
        else:
            made.append(sdpa_attention_forward(module, q, k, v, seen, dropout, scaling, is_causal=True)[0])
    return torch.cat(made, dim=1), None


def _seen(tokens: int, window: int | None, device: torch.device) -> torch.Tensor:
    """[1, 1, tokens, tokens]: which tokens of a row each of its tokens looks at."""
    at = torch.arange(tokens, device=device)
    back = at[:, None] - at[None]
    seen = back >= 0 if window is None else (back >= 0) & (back < window)
    return seen[None, None]


AttentionInterface.register(ROWS, rows_attention)


def attend_by_rows(model: PreTrainedModel) -> str:
    """Sets the attention that packs need and gives its name: flash attention where it is installed, else ours.

    Raises ValueError where the student's attention cannot be chosen, or looks at a row in a way that ours does not
    (Llama 4's chunks, of more tokens than the proof has).
    """
    from transformers.utils import is_flash_attn_2_available

    text = model.config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ())
    if getattr(text, "attention_chunk_size", None) and not kinds:
        kinds = {"chunked_attention"}
    if other := sorted(k for k in kinds if "attention" in k and k not in ATTENTIONS):
        raise ValueError(f"packing: this student has layers of {other[0]}, which packs do not do: leave packing out")
    half = model.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    name = "flash_attention_2" if half and is_flash_attn_2_available() else ROWS
    model.set_attn_implementation(name)
    if model.config._attn_implementation != name:
        raise ValueError("packing: this student's attention cannot be chosen: leave packing out")
    return name


class Bounds(NamedTuple):
    """Where the rows of a pack begin and end, in every shape that a kernel may ask for."""

    position_ids: torch.Tensor
    row_lengths: list[int]
    cu_seq_lens: torch.Tensor
    seq_idx: torch.Tensor

    def as_inputs(self) -> dict[str, Any]:
        longest = max(self.row_lengths)
        return {
            "position_ids": self.position_ids,
            "row_lengths": self.row_lengths,
            "cu_seq_lens_q": self.cu_seq_lens,
            "cu_seq_lens_k": self.cu_seq_lens,
            "max_length_q": longest,
            "max_length_k": longest,
            "seq_idx": self.seq_idx,
        }


def bounds_of(row_lengths: Sequence[int]) -> Bounds:
    """Positions [1, tokens] that restart with each row, row numbers likewise, offsets [rows + 1] in int32."""
    lengths = torch.tensor(row_lengths)
    return Bounds(
        torch.cat([torch.arange(n) for n in row_lengths])[None],
        list(row_lengths),
        torch.cat([torch.zeros(1, dtype=torch.int32), lengths.cumsum(0).to(torch.int32)]),
        torch.repeat_interleave(torch.arange(len(row_lengths), dtype=torch.int32), lengths)[None],
    )


def flattened(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The collator of packs: rows of `input_ids` and `labels`, one after another as a batch of one."""
    bounds = bounds_of([len(r["input_ids"]) for r in rows])
    labels = torch.cat([torch.tensor(r["labels"]) for r in rows])[None]
    labels[bounds.position_ids == 0] = -100  # what stands before it is another row's
    return {
        "input_ids": torch.cat([torch.tensor(r["input_ids"]) for r in rows])[None],
        "labels": labels,
        **bounds.as_inputs(),
    }


class Moved(NamedTuple):
    """Largest changes of row B's logits in a pack of A and B."""

    by_another: float
    """When row A's tokens change."""
    by_packing: float
    """Against B alone, as the student attends by itself."""
    by_itself: float
    """After its first token, when that changes: what a change that reaches them looks like."""
    felt: float
    """The gradient of B's logits at row A, of that at B's own tokens."""

    @property
    def leaks(self) -> bool:
        """Whether a row sees another, or reads otherwise in a pack. Numbers that are none count as a leak."""
        return not (
            self.by_another <= LEAK * self.by_itself and self.by_packing <= LEAK * self.by_itself and self.felt <= FELT
        )


def moved(
    model: PreTrainedModel, precision: AbstractContextManager[Any] | None = None, own_attention: str | None = None
) -> Moved:
    """What moves a row's logits in a pack, measured on this model and the kernels in use. `own_attention` is the
    student's before packing was asked for; None: the one that it has."""
    # Its own generator: what the training draws must not depend on whether this ran.
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
            felt = _felt(model, a, b)
            with torch.no_grad():
                packed = _last_logits(model, a, b)
                by_itself = most(packed[1:], _last_logits(model, a, changed)[1:])
                by_another = most(packed, _last_logits(model, other, b))
                in_use = model.config._attn_implementation
                model.set_attn_implementation(own_attention or in_use)
                try:
                    by_packing = most(packed, _last_logits(model, b))
                finally:
                    model.set_attn_implementation(in_use)
    finally:
        model.train(trained)
    return Moved(by_another, by_packing, by_itself, felt)


def _last_logits(model: PreTrainedModel, *rows: torch.Tensor) -> torch.Tensor:
    """[tokens, vocabulary]: of the last of `rows` in one pack; of one row alone as of any batch."""
    given: dict[str, Any] = {"input_ids": torch.cat(rows)[None]}
    if len(rows) > 1:
        given |= bounds_of([len(r) for r in rows]).as_inputs()
    given = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in given.items()}
    made: torch.Tensor = model(**given, use_cache=False).logits
    return made[0, -len(rows[-1]) :].float()


def _felt(model: PreTrainedModel, a: torch.Tensor, b: torch.Tensor) -> float:
    """The gradient of B's logits in a pack of both, at A's embeddings, of that at B's."""
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


def refuse_leaks(
    model: PreTrainedModel, precision: AbstractContextManager[Any] | None = None, own_attention: str | None = None
) -> None:
    """Raises ValueError where the rows of a pack see each other in this student, with the kernels in use."""
    try:
        found = moved(model, precision, own_attention)
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as e:
        why = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise ValueError(f"packing: this student cannot keep rows apart: {why} Or leave packing out") from None
    if found.leaks:
        raise ValueError(
            f"packing: rows would see each other in this student, or read otherwise in a pack: another row's tokens "
            f"move a row's logits by {found.by_another:.2g}, being in a pack by {found.by_packing:.2g}, its own first "
            f"token by {found.by_itself:.2g}; {found.felt:.2g} of its gradient goes to another row: leave packing out"
        )
