"""Checks the further keys of a recipe's [train] against the installed TRL and PEFT."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from harvest.core.settings import nearest

EVALUATION = "held-out questions are measured as `train.held_out` and `train.eval_steps` say"
CHECKPOINTS = "the finished student is pushed, once: checkpoints stay in the output folder"
OURS = {
    "output_dir": "it is `output`",
    "max_length": "it is `render.max_tokens`",
    "num_train_epochs": "it is `train.epochs`",
    "max_steps": "set `train.epochs`: a part of one is allowed",
    "gradient_accumulation_steps": "it follows from `train.traces_per_step` and `per_device_train_batch_size`",
    "eval_packing": EVALUATION,
    "use_liger_kernel": "leave it out: TRL's own head is already fused on a GPU, and winnow's head on a CPU",
    "truncation_mode": "nothing is cut here",
    "completion_only_loss": "exactly the assistant's turns are trained",
    "assistant_only_loss": "exactly the assistant's turns are trained",
    "dataset_text_field": "rows are rendered before TRL sees them",
    "dataset_kwargs": "rows are rendered before TRL sees them",
    "chat_template_path": "it is `render.chat_template`",
    "data_seed": "it is `train.seed`",
    "train_sampling_strategy": "rows are shuffled by `train.seed` and grouped by length within a step",
    "resume_from_checkpoint": "it goes on from the newest complete checkpoint by itself",
    "use_cpu": "a GPU is used where there is one; set CUDA_VISIBLE_DEVICES= to leave it out",
    "load_best_model_at_end": EVALUATION,
    "eval_strategy": EVALUATION,
    "do_eval": EVALUATION,
    "save_only_model": "leave it out: a training cannot go on from a checkpoint without the optimizer",
    "ignore_data_skip": "leave it out: after a kill, rows that were already trained would be trained again",
    "average_tokens_across_devices": "the loss is the mean over the step's trained tokens of all processes",
    "auto_find_batch_size": "set `per_device_train_batch_size`; the step stays `train.traces_per_step`",
    "dataloader_drop_last": "each row is trained once an epoch",
    "shuffle_dataset": "rows are shuffled by `train.seed`",
    "logging_nan_inf_filter": "a loss that is no number ends the training",
    "eval_on_start": EVALUATION,
    "do_predict": EVALUATION,
    "eval_delay": EVALUATION,
    "per_device_eval_batch_size": EVALUATION,
    "eval_accumulation_steps": EVALUATION,
    "eval_do_concat_batches": EVALUATION,
    "eval_use_gather_object": EVALUATION,
    "batch_eval_metrics": EVALUATION,
    "prediction_loss_only": EVALUATION,
    "include_for_metrics": EVALUATION,
    "bf16_full_eval": EVALUATION,
    "fp16_full_eval": EVALUATION,
    "label_names": EVALUATION,
    "metric_for_best_model": EVALUATION,
    "greater_is_better": EVALUATION,
    "hub_strategy": CHECKPOINTS,
    "hub_token": "a token is never written into a file: run `hf auth login` or set HF_TOKEN",
    "hub_always_push": CHECKPOINTS,
    "trust_remote_code": "code of a model's own is never run: transformers must know the architecture",
    "revision": 'it stands in the student\'s name: student = "owner/name@revision"',
    "liger_kernel_config": "leave it out: TRL's own head is already fused on a GPU, and winnow's head on a CPU",
    "dataset_num_proc": "rows are rendered before TRL sees them",
    "length_column_name": "rows are grouped by the tokens that they have",
    "dataloader_multiprocessing_context": "nothing reads it: rows are in memory",
    "dataloader_in_order": "nothing reads it: rows come in the order of their step",
    "do_train": "nothing reads it: leave it out",
    "disable_tqdm": "winnow shows its own progress",
    "task_type": "a causal language model is trained, nothing else",
}
"""winnow decides these settings of SFTConfig and LoraConfig itself. Each text says what to do instead."""

PUSHED = ("push_to_hub", "hub_model_id", "hub_private_repo", "hub_revision")
CARRIED_OUT = ("packing", "packing_strategy", "padding_free", "model_init_kwargs", *PUSHED)
"""winnow carries out these settings of SFTConfig itself."""
ATTENTION = "attn_implementation"
"""The only key of train.model_init_kwargs that is not refused. It is passed on to transformers."""
STRATEGIES = {
    "wrapped": 'rows would be cut and see each other: leave it out, "bfd" keeps them whole and apart',
    "bfd_split": 'rows would be cut: leave it out, "bfd" keeps them whole',
}
"""The values of packing_strategy that are refused, each with the reason."""

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
    if not further:
        return
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
            if key == "eval_steps" and not _counts_steps(value):
                yield f"train.{key}: a whole number of steps, or a share of all steps under 1 (it is {value!r})"
            if key == "model_init_kwargs":
                yield from _model_faults(value)
        elif key in lora:
            yield f'train.{key}: a setting of LoRA, but method = "{method}"'
        else:
            yield f"train.{key}: unknown setting{nearest(key, [*known, *ours])}"
    if further.get("packing") is True:
        if further.get("padding_free") is False:
            yield "train.padding_free: packs are never padded: leave it out, or packing"
        if "per_device_train_batch_size" in further:
            yield "train.per_device_train_batch_size: with packing a pack goes through at a time: leave one of them out"


def _counts_steps(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0 and (value < 1 or value == int(value))


def _model_faults(given: Any) -> Iterator[str]:
    for key in given if isinstance(given, Mapping) else ():
        if key != ATTENTION:
            yield f"train.model_init_kwargs.{key}: nothing reads it: winnow itself loads the student"
        elif not isinstance(given[key], str):
            yield f"train.model_init_kwargs.{key}: the name of an attention (it is {given[key]!r})"
    if isinstance(given, str):
        yield f'train.model_init_kwargs: write {{ {ATTENTION} = "…" }}'


def _types(config: type[Any]) -> dict[str, Any]:
    """Returns the type of each setting of a configuration, by the setting's name."""
    hints = get_type_hints(config)
    return {f.name: hints[f.name] for f in dataclasses.fields(config) if f.init}
