"""Finds the language model inside a student that also reads pictures, since nothing else of it is trained."""

import re
from typing import Any

from transformers import PreTrainedModel

from finetune.trl_settings import lora_keys


def language_model_of(model: PreTrainedModel) -> str | None:
    """Returns the dotted name of the language model inside a multimodal student.

    Returns None when the student is only a language model.
    """
    if model.config.get_text_config() is model.config:
        return None
    decoder = model.get_decoder()
    return next((name for name, module in model.named_modules() if module is decoder and name), None)


def adapter_settings(further: dict[str, Any], model: PreTrainedModel) -> dict[str, Any]:
    """Returns the settings of LoraConfig from the further keys of [train] (`further`).

    Without `target_modules` every linear layer gets an adapter. A tower for pictures gets none, whatever
    `target_modules` says: rows have no pictures, so that its adapters would get no gradient.
    """
    settings = {"target_modules": "all-linear", **lora_keys(further)}
    if (inside := language_model_of(model)) is not None:
        settings.setdefault("exclude_modules", rf"(?!(?:.*\.)?{re.escape(inside)}\.).*")
    return settings


def freeze_the_rest(model: PreTrainedModel) -> None:
    """Freezes those weights of a multimodal student that are outside its language model and head.

    Rows have no pictures, so these weights would get no gradient.
    """
    if (inside := language_model_of(model)) is None:
        return
    head = model.get_output_embeddings()
    of_head = {id(p) for p in head.parameters()} if head is not None else set[int]()
    for name, parameter in model.named_parameters():
        if not name.startswith(f"{inside}.") and id(parameter) not in of_head:
            parameter.requires_grad_(False)
