"""Computes an attention that stays within each row of a pack."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

ROWS = "winnow_rows"
"""transformers knows `rows_attention` by this name."""
ATTENTIONS = ("full_attention", "sliding_attention", "linear_attention", "attention")
"""`rows_attention` can do these kinds of layers, or they are no attention and the probe shows whether they keep rows
apart."""


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
    """Returns the causal attention of each row of a pack by itself.

    It needs neither padding nor a mask of the whole pack. `query` is [1, heads, tokens, size], the result is ([1,
    tokens, heads, size], None). Without `row_lengths` all tokens are one row. PyTorch's fused attention is used if it
    can do what the layer asks for (a window takes a mask of the row). Otherwise (sinks, soft caps) the model's own
    attention in plain products is used.
    """
    lengths = [query.shape[2]] if row_lengths is None else list(row_lengths)
    window = kwargs.get("sliding_window")
    plain = kwargs.get("s_aux") is not None or kwargs.get("softcap") is not None
    if plain:
        attend = sys.modules[type(module).__module__].eager_attention_forward
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
    """Returns a mask [1, 1, tokens, tokens]: which tokens of a row each of the row's tokens attends to."""
    at = torch.arange(tokens, device=device)
    back = at[:, None] - at[None]
    seen = back >= 0 if window is None else (back >= 0) & (back < window)
    return seen[None, None]


AttentionInterface.register(ROWS, rows_attention)


def attend_by_rows(model: PreTrainedModel, device: str | None = None) -> str:
    """Sets the attention that packs need and returns its name: flash attention if installed, else `rows_attention`.

    A flash attention that the student has already is kept.

    `device` is the kind of device that the model will be moved to; None if the model is already on its device. Raises
    ValueError when the student's attention cannot be chosen, or when `rows_attention` does not support its kind (for
    example Llama 4's chunks, which are longer than the probe's rows).
    """
    from transformers.utils import is_flash_attn_2_available

    text = model.config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ())
    if getattr(text, "attention_chunk_size", None) and not kinds:
        kinds = {"chunked_attention"}
    if other := sorted(k for k in kinds if "attention" in k and k not in ATTENTIONS):
        raise ValueError(f"this student has layers of {other[0]}, which packs do not do")
    half = (device or model.device.type) == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    name = "flash_attention_2" if half and is_flash_attn_2_available() else ROWS
    if "flash" in (given := str(model.config._attn_implementation)):
        name = given
    model.set_attn_implementation(name)
    if model.config._attn_implementation != name:
        raise ValueError("this student's attention cannot be chosen")
    return name
