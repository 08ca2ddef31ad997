"""How a training was started, held against what its recipe says: nothing runs otherwise than it was asked to. And
the processes that were started together: what one of them knows, decides or fails at, the others hear.
"""

import importlib.util
import shlex
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harvest.core.config import package_folder
from harvest.core.errors import ConfigError, InputError, WinnowError

FSDP, DEEPSPEED, MEGATRON = "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM"
ASKS = {FSDP: "FSDP", DEEPSPEED: "DeepSpeed", MEGATRON: "Megatron"}
"""What accelerate's launcher sets, and what it stands for. On a CPU accelerate takes no notice of the first."""
CP_SIZE, SHARDS = "PARALLELISM_CONFIG_CP_SIZE", "PARALLELISM_CONFIG_DP_SHARD_SIZE"
OFFLOAD = "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE"
SHARDED = ("fsdp2", "fsdp2-cp", "zero3", "zero3-offload")
"""Strategies in which no process has all weights."""
LOST = ("gloo", "NCCL", "nccl", "process group", "Connection closed by peer", "Connection reset by peer")
"""Words in what torch raises where another process is gone."""


def check_started(
    strategy: str,
    gpus: int | None,
    environ: Mapping[str, str],
    devices: int,
    recipe: str = "RECIPE.toml",
    *,
    has_deepspeed: bool | None = None,
) -> None:
    """Raises ConfigError where what was started is not the recipe's strategy, naming the command that would be.

    `gpus`: what the recipe says, None where it does not; `devices`: how many this machine has; `recipe`: as it was
    named on the command line; `has_deepspeed`: None, and it is looked for.
    """
    processes, here = int(environ.get("WORLD_SIZE", "1")), int(environ.get("LOCAL_WORLD_SIZE", "1"))
    asked = {name for name in ASKS if environ.get(name, "").lower() in ("1", "true", "yes")}
    name = f'launch.strategy: "{strategy}"'
    if strategy == "single":
        if processes != 1:
            raise ConfigError(
                f"{name} is one process, but {processes} were started (WORLD_SIZE): start it alone, with "
                "python -m finetune sft, or set launch.strategy"
            )
        for variable in ASKS:
            if variable in asked:
                raise ConfigError(f"{name}, but the launcher asks for {ASKS[variable]}: unset {variable}")
        return
    wanted = {FSDP} if strategy.startswith("fsdp2") else {DEEPSPEED} if strategy.startswith("zero3") else set()
    command = launch_line(strategy, gpus or max(processes, devices, 2), recipe)
    if strategy in SHARDED and not devices:
        raise ConfigError(
            f'{name} needs GPUs, and this machine shows none; accelerate would run DDP instead: take "ddp" or "single"'
        )
    if has_deepspeed is None:
        has_deepspeed = importlib.util.find_spec("deepspeed") is not None
    if DEEPSPEED in wanted and not has_deepspeed:
        raise ConfigError(f"{name} needs DeepSpeed, which is not installed: pip install deepspeed")
    if "RANK" not in environ or (processes == 1 and strategy != "zero3-offload"):
        raise ConfigError(f"{name} is several processes, but one was started: {command}")
    for variable in sorted(asked - wanted):
        raise ConfigError(f"{name}, but the launcher asks for {ASKS[variable]}: {command}")
    for variable in wanted - asked:
        raise ConfigError(f"{name}, but the launcher does not ask for {ASKS[variable]}: {command}")
    if gpus is not None and gpus != processes:
        raise ConfigError(
            f"launch.gpus: {gpus}, but {processes} processes were started (WORLD_SIZE): {command}, "
            f"or set --launch.gpus {processes}"
        )
    if devices and here > devices:
        raise ConfigError(f"{name}: {here} processes on this machine, which shows {devices} GPUs: one for each")
    if FSDP in wanted and environ.get("FSDP_VERSION") != "2":
        raise ConfigError(f"{name}, but the launcher asks for version {environ.get('FSDP_VERSION', '1')}: {command}")
    if (parallel := int(environ.get(CP_SIZE, "1"))) > 1 and strategy != "fsdp2-cp":
        raise ConfigError(f'{name}, but the launcher asks for context parallelism: set launch.strategy = "fsdp2-cp"')
    if strategy == "fsdp2-cp" and parallel == 1:
        raise ConfigError(f"{name}, but the launcher does not ask for context parallelism: {command}")
    if strategy == "fsdp2-cp" and (shards := int(environ.get(SHARDS, "1")) * parallel) != processes:
        raise ConfigError(f"{name}: the launch file shares {shards} processes out, {processes} were started: {command}")
    if DEEPSPEED in wanted and "ACCELERATE_DEEPSPEED_CONFIG_FILE" not in environ:
        if (stage := environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")) != "3":
            raise ConfigError(f"{name}, but the launcher asks for ZeRO stage {stage}: {command}")
        if (offload := environ.get(OFFLOAD, "none") != "none") != strategy.endswith("offload"):
            asks = "asks" if offload else "does not ask"
            raise ConfigError(f"{name}, but the launcher {asks} for the optimizer's offload: {command}")


def launch_line(strategy: str, processes: int, recipe: str) -> str:
    """The command that starts a recipe as its strategy says."""
    recipe = shlex.quote(recipe)
    if strategy == "single":
        return f"python -m finetune sft {recipe}"
    if strategy == "ddp":
        return f"torchrun --nproc-per-node {processes} -m finetune sft {recipe}"
    file = package_folder("recipes") / "launch" / f"{strategy}.yaml"
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    config = f"--config_file {shlex.quote(str(shown))} --num_processes {processes}"
    if strategy == "fsdp2-cp":
        config += f" --parallelism_config_dp_shard_size {max(1, processes // 2)}"
    return f"accelerate launch {config} -m finetune sft {recipe}"


def running(trainer: Any, strategy: str = "single") -> str:
    """What accelerate really made of it, in words: "one process on cpu, float32 weights, bfloat16 products".

    Raises ConfigError where that is not what was asked for.
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
    """Which of our strategies an accelerator carries out, None where it is none of them."""
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


class Lost(WinnowError):
    """Another process of this training is gone, and its own words say why."""


@dataclass(frozen=True, slots=True)
class World:
    """The processes of one training. The first has the lock, the state, the checkpoints and the word."""

    rank: int = 0
    size: int = 1
    group: Any = None
    """Beside the one that gradients go through, on the CPU: what is told here waits for no GPU."""
    sharers: int = 1
    """Processes that read the same rows, each a part of every row's tokens (context parallelism)."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def readers(self) -> int:
        """In how many parts a step's rows are dealt."""
        return self.size // self.sharers

    @property
    def reader(self) -> int:
        """Which of the parts this process reads."""
        return self.rank // self.sharers

    def hear(self, value: Any) -> Any:
        """The first process's value."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        told = [value]
        with self._lost():
            dist.broadcast_object_list(told, src=0, group=self.group)
        return told[0]

    def sums(self, *values: float) -> list[float]:
        """Each value's sum over the processes."""
        if self.size == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        of = torch.tensor(values, dtype=torch.float64)
        with self._lost():
            dist.all_reduce(of, group=self.group)
        return [float(x) for x in of]

    def wait(self) -> None:
        """Until all are here."""
        self.sums(0)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What one process is refused, all are, with the words of the first that was."""
        fault: WinnowError | None = None
        try:
            yield
        except WinnowError as e:
            if self.size == 1:
                raise
            fault = e
        if self.size == 1:
            return
        import torch.distributed as dist

        faults: list[WinnowError | None] = [None] * self.size
        with self._lost():
            dist.all_gather_object(faults, fault, group=self.group)
        if refused := next(filter(None, faults), None):
            raise refused

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Raises Lost where torch fails since another process is gone."""
        if self.size == 1:
            yield
            return
        with self._lost():
            yield

    @contextmanager
    def _lost(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as e:
            if not any(word in str(e) for word in LOST):
                raise
            raise Lost(
                "another process of this training ended, and this one with it; the same command goes on from the "
                "newest checkpoint"
            ) from None


@contextmanager
def joined(environ: Mapping[str, str]) -> Iterator[World]:
    """The processes that a launcher started with this one; alone where there was none. Raises InputError where the
    others do not answer."""
    size = int(environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    import torch
    import torch.distributed as dist
    from accelerate import PartialState

    try:
        PartialState(cpu=not torch.cuda.is_available())
        world = World(
            dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo"), int(environ.get(CP_SIZE, "1"))
        )
    except (RuntimeError, ValueError) as e:
        first = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise InputError(f"the {size} processes do not find each other: {first[:300]}") from None
    try:
        yield world
    finally:
        # A launcher that sees one end tells the others to; this one is at its end.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if dist.is_initialized():
            dist.destroy_process_group()


def devices() -> int:
    """GPUs that this machine shows."""
    import torch

    return torch.cuda.device_count()
