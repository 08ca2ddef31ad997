"""A training runs as its recipe says: another launch is refused, and launch files start what they say."""

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finetune.train.launch import check_started, launch_line, running
from harvest.core.errors import ConfigError

ROOT = Path(__file__).parents[3]
LAUNCH = ROOT / "recipes" / "launch"


STARTED = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8"}


FSDP = {**STARTED, "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


ZERO = {**STARTED, "ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}


CP = {"PARALLELISM_CONFIG_CP_SIZE": "2", "PARALLELISM_CONFIG_DP_SHARD_SIZE": "4"}


@pytest.mark.parametrize(
    ("strategy", "environ", "devices", "why"),
    [
        ("single", {"WORLD_SIZE": "2"}, 0, r"one process, but 2 were started \(WORLD_SIZE\)"),
        ("single", {"WORLD_SIZE": "1", "ACCELERATE_USE_FSDP": "true"}, 0, "asks for FSDP: unset ACCELERATE_USE_FSDP"),
        ("single", {"ACCELERATE_USE_DEEPSPEED": "1"}, 0, "asks for DeepSpeed"),
        ("ddp", {}, 0, "several processes, but one was started: torchrun --nproc-per-node 2 -m finetune sft r.toml"),
        ("ddp", {}, 4, "torchrun --nproc-per-node 4"),
        ("ddp", {**STARTED, "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, 0, "several processes, but one was started"),
        ("ddp", FSDP, 8, "the launcher asks for FSDP: torchrun"),
        ("ddp", STARTED, 4, "8 processes on this machine, which shows 4 GPUs"),
        ("fsdp2", FSDP, 0, 'needs GPUs, but this machine shows none: accelerate would run DDP. Take "ddp"'),
        ("fsdp2", {}, 8, r"accelerate launch --config_file \S*recipes/launch/fsdp2.yaml --num_processes 8 -m finetune"),
        ("fsdp2", STARTED, 8, "the launcher does not ask for FSDP: accelerate launch"),
        ("fsdp2", {**FSDP, "FSDP_VERSION": "1"}, 8, "the launcher asks for version 1"),
        ("fsdp2", {**FSDP, **CP}, 8, 'asks for context parallelism: set launch.strategy = "fsdp2-cp"'),
        ("fsdp2-cp", FSDP, 8, "does not ask for context parallelism: .*--parallelism_config_dp_shard_size 4"),
        ("fsdp2-cp", {**FSDP, **CP, "WORLD_SIZE": "4"}, 8, "is for 8 processes, but 4 were started"),
        ("zero3", ZERO, 0, "needs GPUs"),
        ("zero3", {**ZERO, "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}, 8, "the launcher asks for ZeRO stage 2"),
        ("zero3", {**ZERO, "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "cpu"}, 8, "asks for the optimizer's off"),
        ("zero3-offload", ZERO, 8, "does not ask for the optimizer's offload"),
        ("zero3", FSDP, 8, "asks for FSDP"),
    ],
)
def test_what_was_started_otherwise_is_refused_in_a_line_that_says_how(
    strategy: str, environ: dict[str, str], devices: int, why: str
) -> None:
    with pytest.raises(ConfigError, match=why) as e:
        check_started(strategy, None, environ, devices, ("sft", "r.toml"), has_deepspeed=True)
    assert "\n" not in str(e.value)


def test_the_command_that_is_named_is_the_one_that_was_started() -> None:
    for strategy, environ in (("ddp", {}), ("single", {"WORLD_SIZE": "2"})):
        with pytest.raises(ConfigError, match=r"-m finetune prefer 'my r.toml'"):
            check_started(strategy, None, environ, 0, ("prefer", "my r.toml"))


def test_deepspeed_that_is_not_installed_is_named_with_its_command() -> None:
    with pytest.raises(ConfigError, match="which is not installed: pip install deepspeed"):
        check_started("zero3", None, ZERO, 8, has_deepspeed=False)


def test_another_number_of_processes_than_the_recipe_names_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"launch.gpus: 4, but 8 processes .* --nproc-per-node 4 .* --launch.gpus 8"):
        check_started("ddp", 4, STARTED, 8)
    check_started("ddp", 8, STARTED, 8)
    check_started("ddp", None, STARTED, 8)


def test_one_process_by_hand_or_by_a_launcher_is_what_single_means() -> None:
    for environ in ({}, {"WORLD_SIZE": "1"}, {"ACCELERATE_USE_FSDP": "false"}, {"ACCELERATE_USE_CPU": "true"}):
        check_started("single", None, environ, 0)


def accelerator(kind: str, processes: int, **more: Any) -> Any:
    return SimpleNamespace(
        accelerator=SimpleNamespace(
            distributed_type=SimpleNamespace(value=kind), num_processes=processes, is_fsdp2=False,
            parallelism_config=None, **more,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("strategy", "kind", "processes"),
    [
        ("single", "MULTI_CPU", 2),
        ("single", "FSDP", 1),
        ("fsdp2", "MULTI_CPU", 2),
        ("ddp", "NO", 1),
        ("fsdp2", "FSDP", 2),
    ],
)
def test_what_accelerate_makes_otherwise_of_it_is_refused(strategy: str, kind: str, processes: int) -> None:
    with pytest.raises(ConfigError, match=f"{processes} processes of {kind} would run"):
        running(accelerator(kind, processes), strategy)


@pytest.mark.parametrize(
    ("stage", "offload", "strategy"), [(2, "none", None), (3, "none", "zero3"), (3, "cpu", "both")]
)
def test_the_stage_and_offload_that_deepspeed_was_given_are_looked_at(stage: int, offload: str, strategy: str) -> None:
    import torch

    zero = {"zero_optimization": {"stage": stage, "offload_optimizer": {"device": offload}}}
    plugin = SimpleNamespace(deepspeed_config=zero)
    state = SimpleNamespace(deepspeed_plugin=plugin)
    trainer = accelerator("DEEPSPEED", 2, state=state, device=SimpleNamespace(type="cuda"), mixed_precision="bf16")
    trainer.model = torch.nn.Linear(1, 1)
    for asked in ("zero3", "zero3-offload"):
        if asked == ("zero3-offload" if strategy == "both" else strategy):
            assert running(trainer, asked) == f"2 processes of {asked} on cuda, float32 weights, bfloat16 products"
        else:
            with pytest.raises(ConfigError, match="2 processes of DEEPSPEED would run"):
                running(trainer, asked)


def launched(file: Path, *more: str) -> dict[str, str]:
    """What accelerate's own launcher would give its processes for this file, besides their numbers."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    words = ["--config_file", str(file), "--main_process_port", "0", *more, "-m", "finetune", "sft", "r.toml"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    if args.use_deepspeed:
        args.deepspeed_fields_from_accelerate_config = ""
        env = dict(prepare_deepspeed_cmd_env(args)[1])
    else:
        env = dict(prepare_multi_gpu_env(args))
    world = {"RANK": "0", "WORLD_SIZE": str(args.num_processes), "LOCAL_WORLD_SIZE": str(args.num_processes)}
    return {**env, **world}


OURS = sorted(p for p in LAUNCH.iterdir() if not p.name.startswith("collect"))
"""The files that start trainings. The others start harvests (tests/test_launch_files.py)."""
FILES = [p for p in OURS if p.suffix == ".yaml"]


def test_every_strategy_of_several_processes_has_its_launch_file() -> None:
    assert {p.stem for p in FILES} == {"ddp", "fsdp2", "fsdp2-cp", "zero3", "zero3-offload"}
    assert {p.name for p in OURS} - {p.name for p in FILES} == {"nodes.sh", "slurm.sbatch"}


@pytest.mark.parametrize("file", FILES, ids=[p.stem for p in FILES])
def test_accelerate_makes_of_a_launch_file_what_its_strategy_needs(file: Path) -> None:
    pytest.importorskip("accelerate", reason="needs the extra `train`")
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    config = load_config_from_file(str(file))  # refuses keys it does not know
    known = vars(launch_command_parser().parse_args(["x"]))
    for section in (config.fsdp_config, config.deepspeed_config, config.parallelism_config):
        assert not {k for k in section if k not in known}, "keys of no option of accelerate launch"
    strategy = file.stem
    check_started(strategy, config.num_processes, launched(file), 8, has_deepspeed=True)
    for other in ("single", "ddp", "fsdp2", "fsdp2-cp", "zero3", "zero3-offload"):
        if other != strategy:
            with pytest.raises(ConfigError):
                check_started(other, None, launched(file), 8, has_deepspeed=True)


@pytest.mark.parametrize("file", FILES, ids=[p.stem for p in FILES])
def test_the_line_that_a_refusal_names_is_one_that_is_accepted(file: Path) -> None:
    pytest.importorskip("accelerate", reason="needs the extra `train`")
    strategy = file.stem
    words = launch_line(strategy, 4, ("sft", "r.toml")).split()
    if strategy == "ddp":
        assert words[:3] == ["torchrun", "--nproc-per-node", "4"]
        return
    at = words.index("--config_file")
    check_started(strategy, 4, launched(file, *words[at + 2 : words.index("-m")]), 4, has_deepspeed=True)


@pytest.mark.parametrize("file", OURS, ids=lambda p: p.name)
def test_a_launch_file_says_its_source_its_line_and_whether_it_was_run(file: Path) -> None:
    head = "".join(line for line in file.read_text("utf-8").splitlines(keepends=True) if line.startswith("#"))
    assert re.search(r"^# Source: .{20}", head, re.M)
    assert re.search(r"[Rr]un here|Tried with", head)
    assert f"recipes/launch/{file.name}" in head
    if file.suffix == ".yaml":
        assert f'# Recipe: launch.strategy = "{file.stem}"' in head


def test_the_scripts_are_whole_and_the_one_of_several_machines_starts_what_it_says(tmp_path: Path) -> None:
    subprocess.run(["bash", "-n", LAUNCH / "slurm.sbatch"], check=True)
    for name in ("torchrun", "accelerate"):
        (tmp_path / name).write_text('#!/bin/sh\necho "$(basename "$0") $*"\n')
        (tmp_path / name).chmod(0o755)

    def words(strategy: str) -> "subprocess.CompletedProcess[str]":
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "NODES": "2", "NODE": "1", "FIRST": "10.0.0.1", "GPUS": "4"}
        command = ["sh", str(LAUNCH / "nodes.sh"), strategy, "r.toml", "--train.epochs", "1"]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    ddp = words("ddp").stdout
    assert ddp.startswith("torchrun --nnodes 2 --node-rank 1 --nproc-per-node 4 --master-addr 10.0.0.1 ")
    assert ddp.endswith("-m finetune sft r.toml --train.epochs 1\n")
    assert "fsdp2.yaml --num_machines 2 --machine_rank 1 --num_processes 8 " in words("fsdp2").stdout
    assert words("sideways").returncode == 2
