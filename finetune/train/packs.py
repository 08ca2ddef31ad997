"""Decides whether the rows of a training are packed: wherever the student is proven to keep them apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from transformers import PreTrainedModel
from trl import SFTConfig

from finetune.recipe import Recipe, assumed, with_packing
from finetune.train.batches.row_attention import attend_by_rows
from finetune.train.batches.row_probe import leak
from finetune.train.world import World
from harvest.core.errors import ConfigError


def refuse_shared_rows(recipe: Recipe) -> None:
    """Raises ConfigError when the recipe packs rows under context parallelism.

    There TRL 1.16 (SFTTrainer) drops the mask that keeps rows apart.
    """
    if recipe.launch.strategy == "fsdp2-cp" and (recipe.train.packs or recipe.train.further.get("padding_free")):
        raise ConfigError('train.packing: not with launch.strategy = "fsdp2-cp", where packed rows see each other')


def settled(recipe: Recipe, why_not: str | None) -> Recipe:
    """Returns the recipe as it is trained, where `why_not` says why the student's rows cannot be packed.

    Raises ConfigError when the recipe itself asks for what cannot be.
    """
    if why_not is None:
        return assumed(recipe)
    if recipe.train.packs or recipe.train.further.get("padding_free"):
        raise ConfigError(f"[train]: packing: {why_not}: leave packing out")
    return with_packing(recipe, False)


def why_not_packed(recipe: Recipe, model: PreTrainedModel, config: SFTConfig, world: World) -> str | None:
    """Tries on the student whether it keeps packed rows apart. Returns why it does not; None when it does.

    `recipe` is an `assumed` one. Afterwards the student has its own attention again. Under FSDP only the first process
    has the weights, so only it tries; under ZeRO-3 all processes gather weights together.
    """
    if not (recipe.train.packs or recipe.train.further.get("padding_free")):
        return None
    own, strategy = model.config._attn_implementation, recipe.launch.strategy
    if strategy in ("single", "ddp") and not getattr(model, "is_loaded_in_4bit", False):
        model.to(config.device)  # where the trainer would put it: the kernels there are tried
    try:
        attend_by_rows(model)
        if not world.is_first and not strategy.startswith("zero3"):
            return None
        half = torch.autocast(model.device.type, torch.bfloat16, enabled=bool(config.bf16))
        with _gathered(model):
            return leak(model, half, own)
    except ValueError as e:
        return str(e)
    finally:
        model.set_attn_implementation(own)


@contextmanager
def _gathered(model: PreTrainedModel) -> Iterator[None]:
    """Lets each process have whole weights under ZeRO-3, of as many layers as have one of each kind.

    A student of 32B does not fit a GPU as a whole. Whether rows stay apart depends on kinds of layers, not on their
    number. Outside ZeRO-3 it does nothing. Source: DeepSpeed 0.19, zero.GatheredParameters, whose memory is released
    with a `modifier_rank` alone. Not run here: there was no GPU.
    """
    if not any(hasattr(p, "ds_id") for p in model.parameters()):
        yield
        return
    zero = import_module("deepspeed.zero")
    decoder = model.get_decoder()
    layers = decoder.layers
    decoder.layers = layers[: layers_of_each_kind(model)]
    try:
        with zero.GatheredParameters(list(model.parameters()), modifier_rank=0):
            yield
    finally:
        decoder.layers = layers


def layers_of_each_kind(model: Any) -> int:
    """Returns the smallest number of a student's first layers that has a layer of each kind."""
    types = getattr(model.config.get_text_config(), "layer_types", None) or ()
    kinds = [
        (tuple(type(m).__name__ for m in layer.modules()), types[n] if n < len(types) else None)
        for n, layer in enumerate(model.get_decoder().layers)
    ]
    return max(kinds.index(kind) for kind in set(kinds)) + 1
