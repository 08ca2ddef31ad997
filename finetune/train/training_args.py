"""Makes the arguments of TRL's trainer from a recipe, in the precision that this machine computes fastest."""

import importlib.util
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from trl import SFTConfig

from finetune.cost.work import MICRO_TOKENS, recomputes
from finetune.recipe import Recipe
from finetune.rows.examples import Examples
from finetune.train.batches.packing import packs_a_step
from finetune.train.batches.steps import divided
from finetune.train.measuring import LOSS, is_enough, measures_every
from finetune.train.output_folder.checkpoints import CHECKPOINTS_KEPT
from finetune.train.packs import refuse_shared_rows
from finetune.train.world import World
from finetune.trl_settings import CARRIED_OUT, lora_keys
from harvest.core.errors import ConfigError
from harvest.core.printable import first_line

REFUSALS = (ValueError, TypeError, ImportError, RuntimeError)
"""TRL, transformers and PEFT raise these errors for settings that do not suit the student or the machine."""
TRACKERS = {"tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",), "wandb": ("wandb",)}
"""Maps each tracker of train.report_to to the packages that bring it. If none is installed, the error names the
first."""


def training_config(
    recipe: Recipe,
    examples: Examples,
    parameters: int,
    *,
    bf16: bool,
    world: World = World(),  # noqa: B008  frozen
    device: str | None = None,
    held_out: Examples | None = None,
) -> SFTConfig:
    """Returns the SFTConfig of a recipe, for a student with this number of weights (`parameters`).

    `examples` are trained; `held_out`, if there are any, are measured.

    `device` is "cpu" or "cuda", None for this machine's. Raises ConfigError when TRL refuses a value, settings do not
    go together, or the batch cannot be divided.
    """
    refuse_shared_rows(recipe)
    if recipe.train.held_out and world.sharers > 1:
        raise ConfigError('train.held_out: not with launch.strategy = "fsdp2-cp", whose processes share a row')
    further = {k: v for k, v in recipe.train.further.items() if k not in lora_keys(recipe.train.further)}
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    lengths = examples.lengths
    micro, accumulated = _batch(recipe, lengths, further.pop("per_device_train_batch_size", None), device, world)
    is_one_step = math.ceil(len(lengths) / recipe.train.traces_per_step) * recipe.train.epochs <= 1
    settings: dict[str, Any] = {
        "activation_checkpointing": recomputes(parameters, max(lengths), device),
        "bf16": bf16 and not further.get("fp16"),
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would show a loss that is no number as a number
        "save_strategy": "steps" if "save_steps" in further else "no",
        "save_total_limit": CHECKPOINTS_KEPT,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.0 if is_one_step else 0.1,  # the first step of a warm-up has a learning rate of 0
        "report_to": "none",
        "run_name": Path(recipe.output).name,
        **{k: v for k, v in further.items() if k not in CARRIED_OUT},
        **(_measuring(recipe, examples, held_out) if held_out else {}),
    }
    if recipe.method != "full" and recipe.launch.strategy in ("zero3", "zero3-offload"):
        # TRL asks for it too, but it puts it where transformers does not look if this table is empty.
        given = further.get("activation_checkpointing_kwargs") or {}
        if given.get("use_reentrant") is False:
            raise ConfigError(
                "train.activation_checkpointing_kwargs: use_reentrant: adapters under ZeRO-3 need it: leave it out"
            )
        settings["activation_checkpointing_kwargs"] = {**given, "use_reentrant": True}
    if recipe.launch.strategy.startswith("fsdp2"):
        # Else each GPU holds the gradients of all weights until the last rows of a step.
        settings.setdefault("accelerator_config", {"gradient_accumulation_kwargs": {"sync_each_batch": True}})
    if world.sharers > 1:  # each of the processes that share a row takes two pieces of it
        settings["pad_to_multiple_of"] = 2 * world.sharers
    try:
        config = SFTConfig(
            **settings,
            output_dir=recipe.output,
            num_train_epochs=recipe.train.epochs,
            learning_rate=recipe.train.learning_rate,
            seed=recipe.train.seed,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=accumulated,
            max_length=recipe.render.max_tokens,
            dataset_kwargs={"skip_prepare_dataset": True},
            use_cpu=not torch.cuda.is_available(),
            disable_tqdm=True,
        )
    except REFUSALS as e:
        raise ConfigError(f"[train]: {first_line(e)}") from None
    check_trackers(config)
    if config.n_gpu > 1:  # else transformers spreads each batch over all of them, whatever `launch.strategy` says
        config._n_gpu = 1
    return config


def _measuring(recipe: Recipe, examples: Examples, held_out: Examples) -> dict[str, Any]:
    """Returns the arguments by which transformers measures held-out rows, and knows which measurement is better."""
    return {
        "eval_strategy": "steps",
        "eval_steps": measures_every(recipe, examples, held_out),
        "eval_on_start": True,
        "metric_for_best_model": LOSS,
        "greater_is_better": False,
    }


def is_saved_by_clock(recipe: Recipe) -> bool:
    """Whether the recipe does not say when to save."""
    return not {"save_steps", "save_strategy"} & recipe.train.further.keys()


def most_checkpoints(recipe: Recipe, config: SFTConfig) -> int:
    """Returns how many checkpoints are on the disk at one time: while one is written, one more than are kept."""
    if config.save_strategy == "no" and not is_saved_by_clock(recipe):
        return 0
    return (config.save_total_limit or CHECKPOINTS_KEPT) + 1


def most_bests(held_out: Examples, checkpoints: int) -> int:
    """Returns how many best students are on the disk at one time, beside at most so many checkpoints.

    Each checkpoint may name another one, the last one's is the newest, and another may be in the writing.
    """
    return max(checkpoints, 1) + 1 if is_enough(held_out) else 0


def _batch(recipe: Recipe, lengths: list[int], micro: int | None, device: str, world: World) -> tuple[int, int]:
    """Returns (how many rows or packs a process takes at once, how often it does so in a step).

    `micro` is the number of rows at once that the recipe asks for; None means as many as fit. Raises ConfigError when
    the rows of a step cannot be divided by it.
    """
    per_step, processes = recipe.train.traces_per_step, world.readers
    if recipe.train.packs:
        epochs, room = math.ceil(recipe.train.epochs), MICRO_TOKENS[device]
        return 1, packs_a_step(lengths, per_step, recipe.train.seed, epochs, room, processes)
    if micro is None:
        return divided(per_step, MICRO_TOKENS[device] // max(lengths), processes)
    if micro < 1 or per_step % (micro * processes):
        raise ConfigError(
            f"train.traces_per_step: {per_step} cannot be divided by per_device_train_batch_size = {micro}"
            + (f" in {processes} processes" if processes > 1 else "")
        )
    return micro, per_step // (micro * processes)


def check_trackers(config: SFTConfig) -> None:
    """Raises ConfigError when a tracker is not installed. The error has the command that installs it."""
    for name in config.report_to:
        if (packages := TRACKERS.get(name)) and not any(map(importlib.util.find_spec, packages)):
            raise ConfigError(f'train.report_to: "{name}" is not installed: pip install {packages[0]}')


def is_bf16_faster() -> bool:
    """Whether this machine multiplies faster in bfloat16 than in float32.

    On a CPU this is measured, in under a second, since the instruction set does not tell: with AVX512-BF16 but without
    AMX we saw half the speed of float32 (88 against 168 GFLOPS a core), and on another CPU half as much again. The time
    is the processor time of one thread, so that a busy machine gives the same answer as an idle one.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for _ in range(3):
        for dtype in seconds:
            a, b = torch.ones(512, 768, dtype=dtype), torch.ones(1024, 768, dtype=dtype)
            started = time.thread_time()
            for _ in range(12):
                functional.linear(a, b)
            seconds[dtype] = min(seconds[dtype], time.thread_time() - started)
    torch.set_num_threads(threads)
    return seconds[torch.bfloat16] < 0.8 * seconds[torch.float32]
