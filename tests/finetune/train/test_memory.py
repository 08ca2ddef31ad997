"""A training whose memory runs out: one line with what helps, and the next start goes on."""

import errno
import json
import os
import random
from pathlib import Path

import forked
import pytest
from students import sums
from trainings import Make, make, student

from finetune.recipe import Recipe, Train
from harvest.core.errors import InputError, OutOfMemory

torch = pytest.importorskip("torch", reason="needs the extra `train`")
trl = pytest.importorskip("trl", reason="needs the extra `train`")

__all__ = ["make", "student"]  # fixtures


def test_memory_that_runs_out_is_one_line_and_the_next_start_goes_on(make: Make, tmp_path: Path) -> None:
    """The rows of the fourth step are long; eight at once do not fit into the memory that the process is left."""
    from finetune.train.output_folder.loss_curve import read_curve

    log, room = tmp_path / "log", 850 * 2**20
    # Eager attention takes the same memory on every processor; the fused kernels do not.
    eager = 'model_init_kwargs = { attn_implementation = "eager" }'
    recipe = make(train=f"save_steps = 2\nper_device_train_batch_size = 8\nactivation_checkpointing = false\n{eager}")
    order = list(range(40))
    random.Random("0/0").shuffle(order)  # the order of seed 0's first epoch
    rows = sums(40)
    for i in order[24:32]:
        rows[i][-1]["content"] += " so" * 2000
    (recipe.parent / "train.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in rows))
    words = ("--render.max_tokens", "8192", "--train.epochs", "1", "--train.bf16", "false")
    assert forked.trained(recipe, *words, log=log, room=room) == 2, log.read_text()
    told = log.read_text().splitlines()
    assert "Traceback" not in log.read_text()
    assert told[-1].startswith("error: [train]: out of memory with 8 rows at once, the longest row of 2,0"), told
    assert told[-1].endswith(
        " tokens: set train.activation_checkpointing = true or train.per_device_train_batch_size = 4; "
        "the same command goes on from checkpoint-2"
    ), told
    before = read_curve(recipe.parent / "out")
    assert [p["step"] for p in before] == [1, 2, 3]
    smaller = ("--train.activation_checkpointing", "true", "--train.per_device_train_batch_size", "1")
    assert forked.trained(recipe, *words, *smaller, log=log, room=room) == 0, log.read_text()
    after = read_curve(recipe.parent / "out")
    assert after[:2] == before[:2]
    assert [p["step"] for p in after] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("train", "batch", "recomputed", "told"),
    [
        ({}, 8, False, ["train.activation_checkpointing = true", "train.per_device_train_batch_size = 4"]),
        ({}, 6, True, ["train.per_device_train_batch_size = 3", "render.max_tokens = 500"]),
        ({}, 1, True, ["render.max_tokens = 500"]),
        ({"packing": True}, 1, True, ["train.packing = false with train.per_device_train_batch_size = 1", "render."]),
        ({"traces_per_step": 7}, 7, False, ["train.activation_checkpointing", "train.per_device_train_batch_size = 1"]),
    ],
)
def test_what_helps_is_named_with_values_that_the_recipe_may_take(
    train: dict[str, int], batch: int, recomputed: bool, told: list[str], tmp_path: Path
) -> None:
    from finetune.train.memory import remedies
    from finetune.train.world import World

    recipe = Recipe(student="s", data="d", output=str(tmp_path), train=Train(**{"traces_per_step": 24, **train}))
    config = trl.SFTConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=batch, activation_checkpointing=recomputed, use_cpu=True
    )
    found = remedies(recipe, config, 1000, World())
    assert [f[: len(t)] for f, t in zip(found, told, strict=True)] == told


def test_memory_that_runs_out_while_the_student_is_loaded_names_another_method() -> None:
    from finetune.train.memory import loading_watched

    for method, said in (("full", 'take method = "lora", or'), ("lora", 'take method = "qlora", or')):
        recipe = Recipe(student="s", data="d", output="o", method=method)
        with pytest.raises(OutOfMemory, match=said), loading_watched(recipe):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_errors_of_memory_become_one_line_and_others_stay_what_they_are(tmp_path: Path) -> None:
    from finetune.train.memory import memory_watched
    from finetune.train.world import World

    recipe = Recipe(student="s", data="d", output=str(tmp_path))
    config = trl.SFTConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=1, activation_checkpointing=True, use_cpu=True
    )
    errors = (
        MemoryError(),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to …"),
    )
    for error in errors:
        with pytest.raises(OutOfMemory, match=r"at once.* begins again$"), memory_watched(recipe, config, 9, World()):
            raise error
    for other in (RuntimeError("shapes differ"), OSError(errno.ENOSPC, "full"), InputError("out of memory")):
        with pytest.raises(type(other)) as e, memory_watched(recipe, config, 9, World()):
            raise other
        assert e.value is other
