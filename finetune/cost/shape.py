"""Reads those sizes of a model that decide how long its training takes and how much memory that needs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from harvest.core.errors import ConfigError

NORM_QUERIES = ("qwen3", "gemma3", "gemma4", "olmo2", "olmo3")
"""Models whose model_type begins so norm the queries and keys of each head. Source: transformers 5.23."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape holds a decoder's sizes. `attention` and `kv` are the number of heads × the size of a head."""

    parameters: float
    active: float
    """One token goes through this many weights: through all of them, except in a mixture of experts."""
    untied_embedding: float
    """The input embedding has this many weights if the head is another matrix, else 0. They are looked up, not
    multiplied."""
    layers: float
    attention_layers: float
    """How many layers look at the whole row: they have neither a sliding window nor linear attention."""
    hidden: float
    intermediate: float
    """In one layer a token goes through an MLP of this width."""
    attention: float
    kv: float
    embeddings: float
    """Input embedding and head together have this many weights: one matrix if they are tied, else two."""
    norms_queries: bool = False
    """Whether each head's queries and keys are normed."""

    @property
    def multiplied(self) -> float:
        """Returns the number of weights that one token is multiplied with."""
        return self.active - self.untied_embedding

    def adapter(self, rank: int) -> float:
        """Returns how many weights LoRA of this rank adds on every linear layer."""
        a, k, h, i = self.attention, self.kv, self.hidden, self.intermediate
        return self.layers * rank * (2 * (h + a) + 2 * (h + k) + 3 * (h + i))


def shape_of(config: Mapping[str, Any], parameters: int | None = None) -> Shape:
    """Returns a model's shape from its config.json. Raises ConfigError when a size is missing or is not a number.

    `parameters` is the number of the model's weights. If it is None, the weights of embeddings, attention and MLP are
    counted, and no others (biases, norms, towers for pictures).
    """
    c = {**config, **(config.get("text_config") or {})}
    try:
        h, layers, heads, vocab = (
            int(c[k]) for k in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
        )
        head = int(c.get("head_dim") or h // heads)
        kv = int(c.get("num_key_value_heads") or heads) * head
        experts = int(c.get("num_experts") or c.get("num_local_experts") or c.get("n_routed_experts") or 0)
        used = int(c.get("num_experts_per_tok") or 1) + int(c.get("n_shared_experts") or 0)
        i = int((c.get("moe_intermediate_size") if experts else None) or c["intermediate_size"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as e:
        raise ConfigError(f"config.json: a size is missing or is no number: {e}") from None
    attention = heads * head
    per_layer = 2 * h * attention + 2 * h * kv
    embedding = vocab * h
    tied = bool(c.get("tie_word_embeddings", False))
    kinds = c.get("layer_types") or ["full_attention"] * layers
    body = layers * per_layer + embedding * (1 if tied else 2)
    counted = body + layers * 3 * h * i * max(1, experts)
    parameters = counted if parameters is None else parameters
    resting = layers * 3 * h * i * (experts - used) if experts else 0
    return Shape(
        parameters=parameters,
        active=max(body, parameters - resting),
        untied_embedding=0 if tied else embedding,
        layers=layers,
        attention_layers=sum(kind == "full_attention" for kind in kinds),
        hidden=h,
        intermediate=i * (used if experts else 1),
        attention=attention,
        kv=kv,
        embeddings=embedding * (1 if tied else 2),
        norms_queries=str(c.get("model_type", "")).startswith(NORM_QUERIES),
    )


SIZES = tuple(f.name for f in fields(Shape) if f.name != "norms_queries")

_QWEN25 = (
    Shape(0.494e9, 0.494e9, 0, 24, 24, 896, 4864, 896, 128, 0.136e9),
    Shape(1.544e9, 1.544e9, 0, 28, 28, 1536, 8960, 1536, 256, 0.233e9),
    Shape(3.086e9, 3.086e9, 0, 36, 36, 2048, 11008, 2048, 256, 0.311e9),
    Shape(7.616e9, 7.616e9, 0.545e9, 28, 28, 3584, 18944, 3584, 512, 1.090e9),
    Shape(14.77e9, 14.77e9, 0.779e9, 48, 48, 5120, 13824, 5120, 1024, 1.557e9),
    Shape(32.76e9, 32.76e9, 0.779e9, 64, 64, 5120, 27648, 5120, 1024, 1.557e9),
    Shape(72.71e9, 72.71e9, 1.246e9, 80, 80, 8192, 29568, 8192, 1024, 2.491e9),
)
"""The shapes of the Qwen2.5 models, the smallest first. Source: the config.json of each model."""


def shape_of_size(parameters: float) -> Shape:
    """Returns the shape of a dense model with this many weights, interpolated between the sizes of Qwen2.5."""
    sizes = _QWEN25
    if parameters <= sizes[0].parameters or parameters >= sizes[-1].parameters:
        near = sizes[0] if parameters <= sizes[0].parameters else sizes[-1]
        grown = parameters / near.parameters
        return replace(
            near,
            parameters=parameters,
            active=parameters,
            untied_embedding=near.untied_embedding * grown,
            **{k: getattr(near, k) * grown**0.5 for k in ("hidden", "intermediate", "attention", "kv", "embeddings")},
        )
    n = next(n for n, s in enumerate(sizes) if s.parameters > parameters)
    a, b = sizes[n - 1], sizes[n]
    t = math.log(parameters / a.parameters) / math.log(b.parameters / a.parameters)
    between = {k: (1 - t) * getattr(a, k) + t * getattr(b, k) for k in SIZES}
    share = (1 - t) * a.untied_embedding / a.parameters + t * b.untied_embedding / b.parameters
    return Shape(**{
        **between, "parameters": parameters, "active": parameters, "untied_embedding": share * parameters
    })  # fmt: skip
