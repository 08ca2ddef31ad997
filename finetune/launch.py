"""How a training was started, held against what its recipe says: nothing runs otherwise than it was asked to."""

from collections.abc import Mapping
from typing import Any

from harvest.errors import ConfigError

ASKS = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron",
}
"""What accelerate's launcher sets, and what it stands for. On a CPU accelerate takes no notice of the first."""


def check_started(strategy: str, environ: Mapping[str, str]) -> None:
    """Raises ConfigError where processes were started that the recipe's strategy does not have."""
    if strategy != "single":
        return  # refused as a setting, so far
    if (processes := environ.get("WORLD_SIZE", "1")) != "1":
        raise ConfigError(
            f'launch.strategy: "single" is one process, but {processes} were started (WORLD_SIZE): '
            "start it alone, with python -m finetune sft"
        )
    for name, what in ASKS.items():
        if environ.get(name, "").lower() in ("1", "true", "yes"):
            raise ConfigError(f'launch.strategy: "single", but the launcher asks for {what}: unset {name}')


def running(trainer: Any) -> str:
    """What accelerate really made of it, in words: "one process on cpu, float32 weights, bfloat16 products".

    Raises ConfigError where that is not the one process that was asked for.
    """
    state = trainer.accelerator
    kind, processes = str(state.distributed_type.value), int(state.num_processes)
    if kind != "NO" or processes != 1:
        raise ConfigError(f'launch.strategy: "single", but {processes} processes of {kind} would run')
    weights = str(next(trainer.model.parameters()).dtype).removeprefix("torch.")
    products = {"bf16": "bfloat16", "fp16": "float16"}.get(str(state.mixed_precision), weights)
    return f"one process on {state.device}, {weights} weights, {products} products"
