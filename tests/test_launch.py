"""What runs is what the recipe says: another launch is refused, never quietly done otherwise."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from students import chat, tiny_student

from finetune.launch import check_started, running
from harvest.errors import ConfigError

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"WORLD_SIZE": "2"}, r"one process, but 2 were started \(WORLD_SIZE\)"),
        ({"WORLD_SIZE": "1", "ACCELERATE_USE_FSDP": "true"}, "asks for FSDP: unset ACCELERATE_USE_FSDP"),
        ({"ACCELERATE_USE_DEEPSPEED": "1"}, "asks for DeepSpeed"),
    ],
)
def test_a_launcher_that_asks_for_more_than_the_recipe_is_refused(environ: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        check_started("single", environ)


def test_one_process_by_hand_or_by_a_launcher_is_what_single_means() -> None:
    for environ in ({}, {"WORLD_SIZE": "1"}, {"ACCELERATE_USE_FSDP": "false"}, {"ACCELERATE_USE_CPU": "true"}):
        check_started("single", environ)


def test_what_accelerate_makes_otherwise_of_it_is_refused() -> None:
    def trainer(kind: str, processes: int) -> Any:
        return SimpleNamespace(
            accelerator=SimpleNamespace(distributed_type=SimpleNamespace(value=kind), num_processes=processes)
        )

    for kind, processes in (("MULTI_CPU", 2), ("FSDP", 1), ("NO", 2)):
        with pytest.raises(ConfigError, match=f"{processes} processes of {kind} would run"):
            running(trainer(kind, processes))


def test_the_command_says_what_runs_and_refuses_a_second_process(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="needs the extra `train`")
    rows = [{"messages": chat(f"q{i}", f"<think>\n{i}\n</think>\n\n{i}")} for i in range(4)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    words = [
        sys.executable, "-m", "finetune", "sft", "--student", str(tiny_student(tmp_path / "s")), "--data",
        f"{tmp_path}/d.jsonl", "--output", f"{tmp_path}/out", "--train.traces_per_step", "4", "--train.epochs", "1",
    ]  # fmt: skip

    def run(**environ: str) -> "subprocess.CompletedProcess[str]":
        env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environ}
        return subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)

    refused = run(WORLD_SIZE="2", RANK="1", LOCAL_RANK="1", MASTER_ADDR="localhost", MASTER_PORT="29511")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert not (tmp_path / "out").exists()
    done = run()
    assert done.returncode == 0, done.stderr
    assert "runs as one process on cpu, float32 weights, " in done.stderr
