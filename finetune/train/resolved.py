"""Says which arguments the trainer of a recipe gets, from the student's configuration and without its weights."""

import torch
from trl import SFTConfig

from finetune.cost.quote import Figures, quote
from finetune.recipe import Recipe, assumed
from finetune.rows.examples import Examples
from finetune.student import MissingAttention, Student, count_parameters, outline
from finetune.train.batches.row_attention import attend_by_rows
from finetune.train.language_model import adapter_settings
from finetune.train.packs import settled
from finetune.train.training_args import is_saved_by_clock

SHOWN = (
    "gradient_checkpointing", "gradient_checkpointing_kwargs", "bf16", "fp16", "per_device_train_batch_size",
    "gradient_accumulation_steps", "learning_rate", "lr_scheduler_type", "warmup_steps", "num_train_epochs", "optim",
    "max_length", "save_strategy", "save_steps", "save_total_limit", "eval_strategy", "eval_steps",
    "metric_for_best_model", "seed",
)  # fmt: skip
"""The arguments of SFTConfig that are shown as they are."""

REDUCED = {"single": None, "ddp": "float32", "fsdp2": "float32", "fsdp2-cp": "float32"}
"""The precision in which processes add their gradients; None when there is one process."""


def elsewhere(recipe: Recipe) -> bool:
    """Whether the recipe is for a GPU and this machine has none, so that the training is for another machine."""
    return recipe.launch.gpu is not None and not torch.cuda.is_available()


def resolved(recipe: Recipe, examples: Examples, student: Student, config: SFTConfig) -> dict[str, object]:
    """Returns the arguments of the trainer by their names, with the number of weights and the memory of a GPU.

    `recipe` is a `foreseen` one, and `examples` are those that are trained. Raises ConfigError when the student has no
    such attention.
    """
    arguments = config.to_dict()
    adapters = adapter_settings(recipe.train.further, outline(student)) if recipe.method != "full" else {}
    memory = quote(recipe, Figures(), examples.lengths).as_json()
    return {
        **{name: arguments[name] for name in SHOWN},
        "saves_by_clock": is_saved_by_clock(recipe),
        "packing": None if recipe.train.packs and _needs_trial(student) else recipe.train.packs,
        "attn_implementation": _attention(recipe, student),
        **{name: adapters.get(name) for name in ("target_modules", "exclude_modules")},
        "gradient_reduce_dtype": REDUCED.get(recipe.launch.strategy, "chosen by DeepSpeed"),
        "parameters": count_parameters(student),
        "memory_gib_per_gpu": memory["memory_gib_per_gpu"],
        "memory_gib": memory["memory_gib"],
        "fits": memory["fits"],
        "gpu": memory["gpu"],
        "strategy": recipe.launch.strategy,
    }


def foreseen(recipe: Recipe, student: Student) -> Recipe:
    """Returns the recipe as it will be trained, as far as the student's configuration shows.

    Its rows are packed unless the recipe asks otherwise, or the student's attention cannot keep packed rows apart.
    Raises ConfigError when the recipe asks for packed rows and the attention cannot keep them apart.
    """
    packed = assumed(recipe)
    try:
        _attention(packed, student)
    except ValueError as e:
        return settled(recipe, str(e))
    return packed


def _needs_trial(student: Student) -> bool:
    """Whether only a trial on the weights shows that the student keeps rows apart: it has more than attention."""
    model = outline(student)
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
    return bool(model._is_stateful) or any(kind not in ("full_attention", "sliding_attention") for kind in kinds)


def _attention(recipe: Recipe, student: Student) -> str:
    """Returns the name of the student's attention. Raises ValueError when it cannot keep packed rows apart."""
    asked = recipe.train.attention
    try:
        model = outline(student, asked)
    except MissingAttention:
        if asked is None or not elsewhere(recipe):  # the other machine may have it
            raise
        return asked
    if not (recipe.train.packs or recipe.train.further.get("padding_free")):
        return str(model.config._attn_implementation)
    return attend_by_rows(model, "cuda" if torch.cuda.is_available() else "cpu")
