"""The entry of a finished training in its run's report."""

from importlib.metadata import version
from typing import Any

import torch

from finetune.recipe import Recipe
from finetune.rows.dataset import Examples
from finetune.train.trainer import WinnowTrainer
from harvest.core.money import pusd, usd


def training_block(recipe: Recipe, examples: Examples, trainer: WinnowTrainer, wall_s: float) -> dict[str, Any]:
    """One entry of the report's `training`. Without a price of a GPU-hour the cost is null, not zero."""
    losses = [e["loss"] for e in trainer.state.log_history if "loss" in e]
    processes = trainer.world.size
    gpus = processes if torch.cuda.is_available() else 0  # each process has one GPU, however many this machine has
    tokens = round(sum(map(len, examples.examples)) * recipe.train.epochs)
    mixed = "bfloat16" if trainer.args.bf16 else "float16" if trainer.args.fp16 else None
    held = "bfloat16" if trainer.args.bf16 and recipe.method == "lora" else "float32"
    held = "4-bit NF4" if recipe.method == "qlora" else held
    gpu_hours = wall_s / 3600 * gpus
    price = recipe.launch.price_usd_per_gpu_hour
    return {
        "student": recipe.student,
        "method": "sft",
        "weights": recipe.method,
        "output": recipe.output,
        "rows": len(examples.examples),
        "dropped": len(examples.dropped),
        "data": examples.digest,
        "epochs": recipe.train.epochs,
        "learning_rate": recipe.train.learning_rate,
        "seed": recipe.train.seed,
        "tokens": tokens,
        "trained_tokens": round(sum(e.trained_tokens for e in examples.examples) * recipe.train.epochs),
        "tokens_per_s": round(tokens / wall_s, 1) if wall_s else None,
        "steps": trainer.state.max_steps,
        "wall_s": wall_s,
        "strategy": recipe.launch.strategy,
        "processes": processes,
        "gpus": gpus,
        "gpu_hours": round(gpu_hours, 4),
        "cost_usd": usd(pusd(price * round(wall_s * gpus) / 3600)) if price is not None and gpus else None,
        "loss_first": losses[0] if losses else None,
        "loss_last": losses[-1] if losses else None,
        "precision": f"{mixed} over {held}" if mixed else held,
        "device": torch.cuda.get_device_name() if gpus else "cpu",
        "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
    }
