"""Compares how a training was started with its recipe, and refuses a training that was started otherwise."""

import importlib.util
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.cost.memory import SHARDED
from finetune.train.world import CP_SIZE
from harvest.core.errors import ConfigError
from harvest.core.files import package_folder

FSDP, DEEPSPEED, MEGATRON = "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM"
ASKS = {FSDP: "FSDP", DEEPSPEED: "DeepSpeed", MEGATRON: "Megatron"}
"""accelerate's launcher sets these variables; each asks for the thing named here. On a CPU accelerate ignores
FSDP's."""
SHARDS = "PARALLELISM_CONFIG_DP_SHARD_SIZE"
OFFLOAD = "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE"


def check_started(
    strategy: str,
    gpus: int | None,
    environ: Mapping[str, str],
    devices: int,
    words: Sequence[str] = ("sft", "RECIPE.toml"),
    *,
    has_deepspeed: bool | None = None,
) -> None:
    """Raises ConfigError when the processes were not started as the strategy says. The error names the right command.

    `gpus` is the number in the recipe, None when the recipe has none. `devices` is how many GPUs this machine has.
    `words` are the training's on the command line, after `finetune`. With `has_deepspeed` None, the function looks
    whether DeepSpeed is installed.
    """
    if strategy == "single":
        fault = next(_faults_of_single(environ, words), None)
    else:
        if has_deepspeed is None:
            has_deepspeed = importlib.util.find_spec("deepspeed") is not None
        command = launch_line(strategy, gpus or max(_world_size(environ), devices, 2), words)
        fault = next(_faults_of_several(strategy, gpus, environ, devices, has_deepspeed, command), None)
    if fault is not None:
        raise ConfigError(fault)


def _world_size(environ: Mapping[str, str]) -> int:
    return int(environ.get("WORLD_SIZE", "1"))


def _asked(environ: Mapping[str, str]) -> set[str]:
    """Returns the variables of ASKS that are set."""
    return {name for name in ASKS if environ.get(name, "").lower() in ("1", "true", "yes")}


def _faults_of_single(environ: Mapping[str, str], words: Sequence[str]) -> Iterator[str]:
    name = 'launch.strategy: "single"'
    if (processes := _world_size(environ)) != 1:
        yield (
            f"{name} is one process, but {processes} were started (WORLD_SIZE): start it alone, with "
            f"{launch_line('single', 1, words)}, or set launch.strategy"
        )
    for variable in sorted(_asked(environ)):
        yield f"{name}, but the launcher asks for {ASKS[variable]}: unset {variable}"


def _faults_of_several(
    strategy: str, gpus: int | None, environ: Mapping[str, str], devices: int, has_deepspeed: bool, command: str
) -> Iterator[str]:
    """Yields a sentence for each way in which the started processes differ from the strategy.

    Every sentence after the first may be only a consequence of the first.
    """
    processes, here = _world_size(environ), int(environ.get("LOCAL_WORLD_SIZE", "1"))
    name = f'launch.strategy: "{strategy}"'
    if strategy in SHARDED and not devices:
        yield f'{name} needs GPUs, but this machine shows none: accelerate would run DDP. Take "ddp" or "single"'
    if strategy.startswith("zero3") and not has_deepspeed:
        yield f"{name} needs DeepSpeed, which is not installed: pip install deepspeed"
    if "RANK" not in environ or (processes == 1 and strategy != "zero3-offload"):
        yield f"{name} is several processes, but one was started: {command}"
    wanted = {FSDP} if strategy.startswith("fsdp2") else {DEEPSPEED} if strategy.startswith("zero3") else set()
    for variable in sorted(_asked(environ) - wanted):
        yield f"{name}, but the launcher asks for {ASKS[variable]}: {command}"
    for variable in wanted - _asked(environ):
        yield f"{name}, but the launcher does not ask for {ASKS[variable]}: {command}"
    if gpus is not None and gpus != processes:
        yield (
            f"launch.gpus: {gpus}, but {processes} processes were started (WORLD_SIZE): {command}, "
            f"or set --launch.gpus {processes}"
        )
    if devices and here > devices:
        yield f"{name}: {here} processes on this machine, which shows {devices} GPUs: one for each"
    for fault in (*_faults_of_fsdp(strategy, environ, processes), *_faults_of_deepspeed(strategy, environ)):
        yield f"{name}{fault}: {command}"
    if int(environ.get(CP_SIZE, "1")) > 1 and strategy != "fsdp2-cp":
        yield f'{name}, but the launcher asks for context parallelism: set launch.strategy = "fsdp2-cp"'


def _faults_of_fsdp(strategy: str, environ: Mapping[str, str], processes: int) -> Iterator[str]:
    if strategy.startswith("fsdp2") and (asked := environ.get("FSDP_VERSION", "1")) != "2":
        yield f", but the launcher asks for version {asked}"
    parallel = int(environ.get(CP_SIZE, "1"))
    if strategy == "fsdp2-cp" and parallel == 1:
        yield ", but the launcher does not ask for context parallelism"
    if strategy == "fsdp2-cp" and (shards := int(environ.get(SHARDS, "1")) * parallel) != processes:
        yield f": the launch file is for {shards} processes, but {processes} were started"


def _faults_of_deepspeed(strategy: str, environ: Mapping[str, str]) -> Iterator[str]:
    if not strategy.startswith("zero3") or "ACCELERATE_DEEPSPEED_CONFIG_FILE" in environ:
        return
    if (stage := environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")) != "3":
        yield f", but the launcher asks for ZeRO stage {stage}"
    if (offload := environ.get(OFFLOAD, "none") != "none") != strategy.endswith("offload"):
        yield f", but the launcher {'asks' if offload else 'does not ask'} for the optimizer's offload"


def launch_line(strategy: str, processes: int, words: Sequence[str]) -> str:
    """Returns the command that starts `finetune WORDS…` by this strategy."""
    training = f"-m finetune {shlex.join(words)}"
    if strategy == "single":
        return f"python {training}"
    if strategy == "ddp":
        return f"torchrun --nproc-per-node {processes} {training}"
    file = package_folder("recipes") / "launch" / f"{strategy}.yaml"
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    config = f"--config_file {shlex.quote(str(shown))} --num_processes {processes}"
    if strategy == "fsdp2-cp":
        config += f" --parallelism_config_dp_shard_size {max(1, processes // 2)}"
    return f"accelerate launch {config} {training}"


def running(trainer: Any, strategy: str = "single") -> str:
    """Returns how accelerate really runs the training: "one process on cpu, float32 weights, bfloat16 products".

    Raises ConfigError when that is not what the recipe asks for.
    """
    accelerator = trainer.accelerator
    kind, processes = str(accelerator.distributed_type.value), int(accelerator.num_processes)
    of = _kind(accelerator)
    if of != strategy:
        raise ConfigError(f'launch.strategy: "{strategy}", but {processes} processes of {kind} would run')
    weights = str(next(trainer.model.parameters()).dtype).removeprefix("torch.")
    weights = "4-bit" if getattr(trainer.model, "is_loaded_in_4bit", False) else weights
    products = {"bf16": "bfloat16", "fp16": "float16"}.get(str(accelerator.mixed_precision), weights)
    device = accelerator.device if processes == 1 else accelerator.device.type
    how = "one process" if strategy == "single" else f"{processes} processes of {strategy}"
    return f"{how} on {device}, {weights} weights, {products} products"


def _kind(accelerator: Any) -> str | None:
    """Returns the launch.strategy that an accelerator carries out; None when it carries out none of them."""
    kind, processes = str(accelerator.distributed_type.value), int(accelerator.num_processes)
    if kind == "NO" and processes == 1:
        return "single"
    if kind in ("MULTI_CPU", "MULTI_GPU") and processes > 1:
        return "ddp"
    if kind == "FSDP" and accelerator.is_fsdp2:
        parallel = accelerator.parallelism_config
        return "fsdp2-cp" if parallel is not None and parallel.cp_size > 1 else "fsdp2"
    if kind == "DEEPSPEED":
        zero = accelerator.state.deepspeed_plugin.deepspeed_config.get("zero_optimization", {})
        device = zero.get("offload_optimizer", {}).get("device", "none")
        if zero.get("stage") == 3:
            return "zero3" if device == "none" else "zero3-offload"
    return None


def devices() -> int:
    """Returns how many GPUs this machine shows."""
    import torch

    return torch.cuda.device_count()
