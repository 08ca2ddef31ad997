"""Several processes learn what one learns, stop together, and go on from what all of them had written."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import scaled
from hypothesis import given
from hypothesis import strategies as st
from students import sums, tiny_student

from harvest.core.errors import ConfigError, InputError

ROOT = Path(__file__).parents[3]


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 20), st.integers(1, 8), st.integers(1, 6),
    st.integers(0, 3),
)  # fmt: skip
def test_any_number_of_processes_sees_each_row_once_and_the_same_rows_a_step(
    lengths: list[int], per_step: int, most: int, processes: int, epoch: int
) -> None:
    from finetune.train.batches.steps import Split, Steps, divided

    micro, accumulated = divided(per_step, most, processes)
    assert micro <= most
    alone = Steps(lengths, per_step, 0, Split(1, per_step))
    alone.set_epoch(epoch)
    all_of = [Steps(lengths, per_step, 0, Split(micro, accumulated, processes, r)) for r in range(processes)]
    for steps in all_of:
        steps.set_epoch(epoch)
    dealt = [list(steps) for steps in all_of]
    assert {len(d) for d in dealt} == {len(all_of[0])}, "each as many as the others, and as it says"
    assert all(len(rows) <= micro for d in dealt for rows in d)
    filler = len(lengths)
    seen = sorted(i for d in dealt for rows in d for i in rows if i != filler)
    assert seen == list(range(len(lengths)))
    for n, step in enumerate(alone.steps()):
        of = [i for d in dealt for rows in d[n * accumulated : (n + 1) * accumulated] for i in rows if i != filler]
        assert sorted(of) == sorted(step)


def distributed_checkpoint(folder: Path) -> None:
    """A real one of torch's, of one process."""
    import torch
    import torch.distributed.checkpoint as dcp

    with warnings.catch_warnings(action="ignore"):  # that it is one process
        dcp.save({"weight": torch.ones(64)}, checkpoint_id=folder, no_dist=True)


def sharded(folder: Path, strategy: str, processes: int = 2) -> Path:
    """A checkpoint as `strategy` leaves it, its files real archives of torch's."""
    import torch

    from finetune.train.output_folder.checkpoints import mark

    folder.mkdir(parents=True)
    for n in range(processes):
        torch.save({"n": n}, folder / f"rng_state_{n}.pth")
    if strategy.startswith("zero3"):
        (folder / "global_step4").mkdir()
        (folder / "latest").write_text("global_step4")
        for n in range(processes):
            torch.save({}, folder / "global_step4" / f"bf16_zero_pp_rank_{n}_mp_rank_00_optim_states.pt")
            torch.save({}, folder / "global_step4" / f"zero_pp_rank_{n}_mp_rank_00_model_states.pt")
    else:
        torch.save({}, folder / "scheduler.pt")
    if strategy == "fsdp2":
        distributed_checkpoint(folder / "pytorch_model_fsdp_0")
        distributed_checkpoint(folder / "optimizer_0")
    elif strategy == "ddp":
        from safetensors.torch import save_file

        save_file({"w": torch.ones(4)}, folder / "model.safetensors")
        torch.save({}, folder / "optimizer.pt")
    (folder / "trainer_state.json").write_text("{}")
    mark(folder, strategy, processes)
    return folder


PARTS = {
    "ddp": ["winnow.json", "rng_state_1.pth", "model.safetensors", "optimizer.pt", "trainer_state.json"],
    "fsdp2": ["winnow.json", "pytorch_model_fsdp_0/__0_0.distcp", "optimizer_0/.metadata", "optimizer_0"],
    "zero3": ["latest", "global_step4/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt", "global_step4",
              "global_step4/zero_pp_rank_0_mp_rank_00_model_states.pt", "rng_state_0.pth"],
}  # fmt: skip


@pytest.mark.parametrize("strategy", PARTS)
def test_a_checkpoint_of_several_processes_is_whole_with_each_ones_part(strategy: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `train`")
    from finetune.train.output_folder.checkpoints import is_complete, newest_checkpoint
    from finetune.train.output_folder.disk import check_disk

    whole = sharded(tmp_path / "checkpoint-4", strategy)
    assert is_complete(whole)
    for n, part in enumerate(PARTS[strategy]):
        broken = tmp_path / f"checkpoint-{5 + n}"
        shutil.copytree(whole, broken)
        if (broken / part).is_dir():
            shutil.rmtree(broken / part)
        else:
            (broken / part).unlink()
        assert not is_complete(broken), part
        assert newest_checkpoint(tmp_path) == whole
        assert not broken.exists()
    # What lies in folders inside counts as there: a second start needs no room for it again.
    with (whole / "rng_state_0.pth").open("ab") as f:
        f.truncate(10**13)
    nested = whole / "nested"
    nested.mkdir()
    (whole / "rng_state_0.pth").rename(nested / "large")
    check_disk(tmp_path, 10**11, 4 * 10**11, 1)
    (nested / "large").unlink()
    with pytest.raises(InputError, match="GB needed"):
        check_disk(tmp_path, 10**12, 4 * 10**12, 1)


def test_a_checkpoint_goes_on_in_another_number_of_processes_only_where_all_have_all_weights(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `train`")
    from finetune.train.output_folder.checkpoints import check_resumable

    ddp = sharded(tmp_path / "checkpoint-2", "ddp")
    assert check_resumable(ddp, "ddp", 2) is None
    assert "checkpoint-2 is of 2 processes of ddp: the same steps in 4" in str(check_resumable(ddp, "ddp", 4))
    assert "in 1" in str(check_resumable(ddp, "single", 1))
    for strategy, processes in (("fsdp2", 2), ("zero3", 2)):
        with pytest.raises(ConfigError, match="start 2 of ddp again, or name another output"):
            check_resumable(ddp, strategy, processes)
    fsdp = sharded(tmp_path / "checkpoint-4", "fsdp2")
    with pytest.raises(ConfigError, match="is of 2 processes of fsdp2, and cannot be gone on from in 4 of fsdp2"):
        check_resumable(fsdp, "fsdp2", 4)


ENV = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


BIN = Path(sys.executable).parent


TORCHRUN = [str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2", "-m", "finetune", "sft"]


ACCELERATE = [
    str(BIN / "accelerate"), "launch", "--config_file", str(ROOT / "recipes/launch/ddp.yaml"),
    "--main_process_port", "0", "-m", "finetune", "sft",
]  # fmt: skip


ALONE = ["sft"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """43 rows, 8 a step: the last step of an epoch has 3, for which two processes cannot be alike. 6 are held out."""
    pytest.importorskip("trl", reason="needs the extra `train`")
    folder = tmp_path_factory.mktemp("several")
    student = tiny_student(folder / "s")
    rows = [{"messages": m, "question_id": f"q{n}"} for n, m in enumerate(sums(49))]
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "r.toml").write_text(
        f'student = "{student}"\ndata = "{folder}/d.jsonl"\noutput = "{folder}/alone"\n[render]\nmax_tokens = 256\n'
        "[train]\nepochs = 2\ntraces_per_step = 8\nlearning_rate = 3e-3\nbf16 = false\nsave_steps = 2\n"
        'held_out = "0.2"\neval_steps = 5\n'
    )
    return folder / "r.toml"


def start(words: list[str], recipe: Path, output: str, *more: str) -> "subprocess.Popen[str]":
    if words is ALONE:
        return forked.Forked("finetune", *ALONE, str(recipe), "--output", str(recipe.parent / output), *more, env=ENV)
    words = [*words, str(recipe), "--output", str(recipe.parent / output), "--launch.strategy", "ddp", *more]
    return subprocess.Popen(words, cwd=ROOT, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start_two(recipe: Path, output: str, *more: str) -> "list[subprocess.Popen[str]]":
    """Two processes of ddp without a launcher, which would import torch three times."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = {**ENV, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    words = ["sft", str(recipe), "--output", str(recipe.parent / output), "--launch.strategy", "ddp", *more]
    return [forked.Forked("finetune", *words, env={**env, "RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")]


def finish(p: "subprocess.Popen[str]") -> tuple[int, str, str]:
    try:
        out, err = p.communicate(timeout=900)
    except subprocess.TimeoutExpired:
        for pid in (*children(p).values(), p.pid):  # a launcher's processes outlive it
            os.kill(pid, signal.SIGKILL)
        raise
    return p.returncode, out, err


@pytest.fixture(scope="module")
def alone(recipe: Path) -> list[dict[str, Any]]:
    """The curve of one process."""
    from finetune.train.output_folder.loss_curve import read_curve

    code, _, err = finish(start(ALONE, recipe, "alone"))
    assert code == 0, err
    assert "runs as one process on cpu, float32 weights, " in err
    assert err.count("6 held-out questions: under 50 their loss only shows") == 1
    return read_curve(recipe.parent / "alone")


def assert_learnt_alike(output: Path, alone: list[dict[str, Any]]) -> None:
    from finetune.train.output_folder.loss_curve import read_curve

    curve = read_curve(output)
    assert [p["step"] for p in curve] == [p["step"] for p in alone] == list(range(13))
    lines = Counter(json.loads(line)["step"] for line in (output / "curve.jsonl").read_text().splitlines())
    measured = [p["step"] for p in curve if "held_out_loss" in p]
    assert measured == [0, 5, 10, 12]
    assert all(n == 1 or step in measured for step, n in lines.items()), "no point twice"
    for key in ("loss", "grad_norm", "learning_rate"):
        assert [p[key] for p in curve[1:]] == pytest.approx([p[key] for p in alone[1:]], abs=1e-5), key
    for key in ("held_out_loss", "held_out_accuracy"):
        assert [curve[n][key] for n in measured] == pytest.approx([alone[n][key] for n in measured], abs=1e-5), key


@pytest.mark.parametrize("packing", ["false", "true"][: scaled(1, 2)])
def test_two_processes_by_accelerate_learn_what_one_learns(
    packing: str, recipe: Path, alone: list[dict[str, Any]]
) -> None:
    output = recipe.parent / f"two-{packing}"
    code, out, err = finish(start(ACCELERATE, recipe, output.name, "--train.packing", packing, "--json"))
    assert code == 0, err
    runs = "runs as 2 processes of ddp on cpu, float32 weights, float32 products; rows "
    assert err.count(runs + ("packed" if packing == "true" else "padded")) == err.count("runs as") == 1
    assert_learnt_alike(output, alone)
    block = json.loads(out)  # one object: the second process says nothing
    assert (block["strategy"], block["processes"], block["gpus"], block["steps"]) == ("ddp", 2, 0, 12)
    assert block["cost_usd"] is None
    assert (block["held_out"]["questions"], block["held_out"]["student_step"]) == (6, 12), "too few to choose"
    a, b = weights(recipe.parent / "alone"), weights(output)
    assert a.keys() == b.keys()
    assert all((a[k] - b[k]).abs().max() < 1e-4 for k in a)
    assert not list(output.glob("checkpoint-*"))


def weights(output: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(output / "model.safetensors")


def children(p: "subprocess.Popen[str]") -> dict[int, int]:
    """{rank: pid} of what a launcher started."""
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            env = (entry / "environ").read_bytes().split(b"\0") if parent == p.pid else []
        except (OSError, IndexError):
            continue
        found |= {int(v.partition(b"=")[2]): int(entry.name) for v in env if v.startswith(b"RANK=")}
    return found


def reached(output: Path, steps: int, p: "subprocess.Popen[str]") -> bool:
    from finetune.train.output_folder.loss_curve import read_curve

    deadline = time.monotonic() + 900
    while p.poll() is None and time.monotonic() < deadline:
        if len(read_curve(output)) >= steps:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize(("victim", "packing"), [(0, "true"), (1, "false")][: scaled(1, 2)])
def test_one_of_two_killed_ends_the_other_and_the_next_start_learns_what_one_process_learns(
    victim: int, packing: str, recipe: Path, alone: list[dict[str, Any]]
) -> None:
    """Packed, against the losses of one process that pads and was never killed; in the full figures padded too."""
    output = recipe.parent / f"killed-{victim}"
    more = ("--train.packing", packing)
    p = start(TORCHRUN, recipe, output.name, *more)
    assert reached(output, 5, p)
    os.kill(children(p)[victim], signal.SIGKILL)
    code, _, err = finish(p)
    assert code != 0
    assert err.count("Traceback (most recent call last)") <= 1, err  # torchrun's own
    if victim:
        assert err.count("error: another process of this training ended") <= 1, err
    done = [c for c in output.glob("checkpoint-*") if (c / "winnow.json").exists()]
    assert done, "it had saved at steps 2 and 4"
    ended = [finish(p) for p in start_two(recipe, output.name, *more)]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert_learnt_alike(output, alone)


def test_a_signal_to_one_process_stops_all_at_the_same_step_and_one_alone_goes_on(
    recipe: Path, alone: list[dict[str, Any]]
) -> None:
    from finetune.train.output_folder.checkpoints import is_complete

    output = recipe.parent / "stopped"
    first, second = start_two(recipe, output.name, "--train.save_steps", "1000")
    assert reached(output, 2, first)
    second.send_signal(signal.SIGTERM)
    (code, _, err), (code_of_second, _, err_of_second) = finish(first), finish(second)
    assert code == code_of_second == 130, err + err_of_second
    assert (err + err_of_second).count("stopped; the same command goes on from checkpoint-") == 1
    assert json.loads((output / "winnow.json").read_text())["training"] is None
    assert [is_complete(c) for c in output.glob("checkpoint-*")] == [True]
    code, _, err = finish(start(ALONE, recipe, output.name))
    assert code == 0, err
    assert "is of 2 processes of ddp: the same steps in 1" in err
    assert_learnt_alike(output, alone)


def test_a_mistake_of_the_users_is_said_once_by_several_processes(recipe: Path) -> None:
    output = recipe.parent / "never"
    ended = [finish(p) for p in start_two(recipe, output.name, "--train.optim", "adamw_bnb_8bit")]
    assert [code for code, _, _ in ended] == [2, 2], ended
    said = [line for _, _, err in ended for line in err.splitlines() if line.startswith("error:")]
    assert len(said) == 1, ended
    assert "bitsandbytes" in said[0]
    assert [out for _, out, _ in ended] == ["", ""]
    assert not output.exists() or not list(output.glob("checkpoint-*"))


def test_processes_that_the_recipe_does_not_have_are_refused_before_anything_is_written(recipe: Path) -> None:
    output = recipe.parent / "refused"
    env = {**ENV, "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    refused = forked.run("finetune", *ALONE, str(recipe), "--output", str(output), env=env)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert "is one process, but 2 were started" in refused.stderr
    assert not output.exists()


def test_fsdp_adds_gradients_in_float32_though_it_computes_in_half_precision() -> None:
    from types import SimpleNamespace

    import torch
    from accelerate.utils import FullyShardedDataParallelPlugin

    from finetune.train.trainer import reduce_in_float32

    plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
    plugin.set_mixed_precision("bf16")
    assert plugin.mixed_precision_policy.reduce_dtype == torch.bfloat16, "else this is accelerate's own by now"
    reduce_in_float32(SimpleNamespace(fsdp_plugin=plugin))
    policy = plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype) == (torch.bfloat16, torch.float32)
    reduce_in_float32(SimpleNamespace())


SHARDED_STEP = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import AutoModelForCausalLM

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
rows = torch.randint(1000, (4, 24))
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
model(input_ids=rows, labels=rows).loss.backward()
alone = [p.grad.clone() for p in model.parameters()]
model.zero_grad(set_to_none=True)
sharded = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
policy = MixedPrecisionPolicy(param_dtype=torch.float32, reduce_dtype=torch.float32)
for part in (*sharded.model.layers, sharded):
    fully_shard(part, mp_policy=policy)
sharded(input_ids=rows[rank::size], labels=rows[rank::size]).loss.backward()
for p, want in zip(sharded.parameters(), alone, strict=True):
    torch.testing.assert_close(p.grad.full_tensor(), want, atol=1e-5, rtol=0)
dist.destroy_process_group()
"""


def test_a_step_of_two_processes_of_fsdp_is_the_step_of_one(tmp_path: Path) -> None:
    """torch's FSDP2 itself, which runs on CPUs. accelerate would run DDP here, so the command was not run with it."""
    (tmp_path / "step.py").write_text(SHARDED_STEP)
    student = tiny_student(tmp_path / "student")
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(tmp_path / "step.py")]
    code, _, err = finish(subprocess.Popen([*words, str(student)], env=ENV, stderr=subprocess.PIPE, text=True))
    assert code == 0, err
