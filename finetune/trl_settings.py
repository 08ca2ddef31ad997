"""Checks the further keys of a recipe's [train] against the installed TRL and PEFT."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from harvest.core.settings import nearest

OURS = {
    "output_dir": "it is `output`",
    "max_length": "it is `render.max_tokens`",
    "num_train_epochs": "it is `train.epochs`",
    "max_steps": "set `train.epochs`: a part of one is allowed",
    "gradient_accumulation_steps": "it follows from `train.traces_per_step` and `per_device_train_batch_size`",
    "eval_packing": "there is no evaluation while training: use `finetune eval`",
    "use_liger_kernel": "leave it out: TRL's own head is fused, and on a CPU ours",
    "truncation_mode": "nothing is cut here",
    "completion_only_loss": "exactly the assistant's turns are trained",
    "assistant_only_loss": "exactly the assistant's turns are trained",
    "dataset_text_field": "rows are rendered before TRL sees them",
    "dataset_kwargs": "rows are rendered before TRL sees them",
    "chat_template_path": "the student's own template is used",
    "data_seed": "it is `train.seed`",
    "train_sampling_strategy": "rows are shuffled by `train.seed` and grouped by length within a step",
    "resume_from_checkpoint": "it goes on from the newest complete checkpoint by itself",
    "use_cpu": "a GPU is used where there is one; set CUDA_VISIBLE_DEVICES= to leave it out",
    "push_to_hub": "not yet: upload the output folder yourself",
    "load_best_model_at_end": "there is no evaluation while training: use `finetune eval`",
    "eval_strategy": "there is no evaluation while training: use `finetune eval`",
    "do_eval": "there is no evaluation while training: use `finetune eval`",
    "save_only_model": "a checkpoint without the optimizer cannot be gone on from: leave it out",
    "ignore_data_skip": "after a kill rows would be trained again that were",
    "average_tokens_across_devices": "the loss is the mean over the step's trained tokens of all processes",
    "auto_find_batch_size": "set `per_device_train_batch_size`; the step stays `train.traces_per_step`",
    "dataloader_drop_last": "each row is trained once an epoch",
    "shuffle_dataset": "rows are shuffled by `train.seed`",
    "logging_nan_inf_filter": "a loss that is no number ends the training",
    "eval_on_start": "there is no evaluation while training: use `finetune eval`",
    "task_type": "a causal language model is trained, nothing else",
}
"""winnow decides these settings of SFTConfig and LoraConfig itself. Each text says what to do instead."""

PACKING = ("packing", "packing_strategy", "padding_free")
"""winnow carries out these settings of SFTConfig itself."""
STRATEGIES = {
    "wrapped": 'rows would be cut and see each other: leave it out, "bfd" keeps them whole and apart',
    "bfd_split": 'rows would be cut: leave it out, "bfd" keeps them whole',
}
"""These values of packing_strategy are refused. Each text says why."""

GONE = {
    "warmup_ratio": "it is `warmup_steps` since transformers 5, where a number under 1 is a share of all steps",
    "gradient_checkpointing": "it is `activation_checkpointing` now",
    "gradient_checkpointing_kwargs": "it is `activation_checkpointing_kwargs` now",
    "loss_type=chunked_nll": 'it is "nll" now, which is the fused head',
}
"""Older recipes still have these settings, or these values of settings. Each text says what to write instead."""


def lora_keys(further: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those keys of `further`, with their values, that belong to LoraConfig."""
    from peft import LoraConfig

    names = {f.name for f in dataclasses.fields(LoraConfig)}
    return {k: v for k, v in further.items() if k in names}


def train_faults(further: Mapping[str, Any], method: str, ours: Iterable[str]) -> Iterator[str]:
    """Yields a line for each key of `further` that the installed TRL and PEFT do not know or whose value they refuse.

    `ours` are winnow's own keys of [train]: a misspelt key may mean one of them. Importing TRL takes seconds.
    """
    from peft import LoraConfig
    from trl import SFTConfig

    sft, lora = _types(SFTConfig), _types(LoraConfig)
    known = sft if method == "full" else sft | lora
    for key, value in further.items():
        if why := OURS.get(key) or GONE.get(key) or GONE.get(f"{key}={value}"):
            yield f"train.{key}: {why}"
        elif key == "packing_strategy" and value != "bfd":
            yield f"train.{key}: " + STRATEGIES.get(value, 'it is "bfd"')
        elif key in known:
            try:
                TypeAdapter(known[key]).validate_python(value)
            except ValidationError as e:
                yield f"train.{key}: {e.errors(include_url=False)[0]['msg']} (it is {value!r})"
        elif key in lora:
            yield f'train.{key}: a setting of LoRA, but method = "{method}"'
        else:
            yield f"train.{key}: unknown setting{nearest(key, [*known, *ours])}"
    if further.get("packing") is True:
        if further.get("padding_free") is False:
            yield "train.padding_free: packs are never padded: leave it out, or packing"
        if "per_device_train_batch_size" in further:
            yield "train.per_device_train_batch_size: with packing a pack goes through at a time: leave one of them out"


def _types(config: type[Any]) -> dict[str, Any]:
    """Returns the type of each setting of a configuration, by the setting's name."""
    hints = get_type_hints(config)
    return {f.name: hints[f.name] for f in dataclasses.fields(config) if f.init}
