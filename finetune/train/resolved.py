"""Says which arguments the trainer of a recipe gets, from the student's configuration and without its weights."""

import torch
from trl import SFTConfig

from finetune.cost.quote import Figures, quote
from finetune.recipe import Recipe
from finetune.rows.examples import Examples
from finetune.student import MissingAttention, Student, count_parameters, outline
from finetune.train.batches.row_attention import attend_by_rows
from finetune.train.language_model import adapter_settings
from finetune.train.training_args import is_saved_by_clock
from harvest.core.errors import ConfigError

SHOWN = (
    "gradient_checkpointing", "gradient_checkpointing_kwargs", "bf16", "fp16", "per_device_train_batch_size",
    "gradient_accumulation_steps", "learning_rate", "lr_scheduler_type", "warmup_steps", "num_train_epochs", "optim",
    "max_length", "save_strategy", "save_steps", "save_total_limit", "eval_strategy", "eval_steps",
    "metric_for_best_model", "seed",
)  # fmt: skip
"""The arguments of SFTConfig that are shown as they are."""


def elsewhere(recipe: Recipe) -> bool:
    """Whether the recipe is for a GPU and this machine has none, so that the training is for another machine."""
    return recipe.launch.gpu is not None and not torch.cuda.is_available()


def resolved(recipe: Recipe, examples: Examples, student: Student, config: SFTConfig) -> dict[str, object]:
    """Returns the arguments of the trainer by their names, with the number of weights and the memory of a GPU.

    `examples` are those that are trained.

    Raises ConfigError when the student has no such attention, or one that cannot keep packed rows apart.
    """
    arguments = config.to_dict()
    adapters = adapter_settings(recipe.train.further, outline(student)) if recipe.method != "full" else {}
    memory = quote(recipe, Figures(), examples.lengths).as_json()
    return {
        **{name: arguments[name] for name in SHOWN},
        "saves_by_clock": is_saved_by_clock(recipe),
        "packing": recipe.train.packs,
        "attn_implementation": _attention(recipe, student),
        **{name: adapters.get(name) for name in ("target_modules", "exclude_modules")},
        "parameters": count_parameters(student),
        "memory_gib_per_gpu": memory["memory_gib_per_gpu"],
        "memory_gib": memory["memory_gib"],
        "fits": memory["fits"],
        "gpu": memory["gpu"],
        "strategy": recipe.launch.strategy,
    }


def _attention(recipe: Recipe, student: Student) -> str:
    asked = recipe.train.attention
    try:
        model = outline(student, asked)
    except MissingAttention:
        if asked is None or not elsewhere(recipe):  # the other machine may have it
            raise
        return asked
    if not (recipe.train.packs or recipe.train.further.get("padding_free")):
        return str(model.config._attn_implementation)
    try:
        return attend_by_rows(model, "cuda" if torch.cuda.is_available() else "cpu")
    except ValueError as e:
        raise ConfigError(f"[train]: {e}") from None
