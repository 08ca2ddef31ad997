"""A training that is killed or stopped at any moment ends with the weights of an unbroken one. Checkpoints, disks."""

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest
from conftest import scaled
from students import sums
from trainings import OTHERS_WARN, ROOT, Make, make, run, start, student, trainer_for, weights

from harvest.core.errors import InputError

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("trl", reason="needs the extra `train`")

__all__ = ["make", "student"]  # fixtures

pytestmark = OTHERS_WARN

PACKED, PADDED = "packing = true\nsave_steps = 2", "save_steps = 2"


@pytest.mark.parametrize("train", [PACKED, PADDED], ids=["packed", "padded"])
def test_killed_at_any_moment_it_ends_with_the_weights_of_an_unbroken_run(
    train: str, make: Make, tmp_path: Path
) -> None:
    """Each start is killed a step or two after the checkpoint that it went on from: some in a step, some in a save."""
    from finetune.train.output_folder.checkpoints import newest_checkpoint
    from finetune.train.output_folder.loss_curve import read_curve

    whole, broken, log = make("whole", train), make("broken", train), tmp_path / "log"
    epochs = ("--train.epochs", str(scaled(3, 10)))  # of 5 steps each
    assert forked.trained(whole, *epochs, log=log) == 0, log.read_text()
    output, rng = broken.parent / "out", random.Random(5)
    for _ in range(scaled(3, 20)):
        newest = newest_checkpoint(output)
        until = (int(newest.name.partition("-")[2]) if newest else 0) + rng.randint(1, 2)
        before = [p["at"] for p in read_curve(output)]
        p = forked.train(broken, *epochs, log=log)
        deadline = time.monotonic() + forked.END_S
        while p.poll() is None and time.monotonic() < deadline:
            points = read_curve(output)
            if points and points[-1]["step"] >= until and [q["at"] for q in points] != before:
                break
            time.sleep(0.002)
        time.sleep(rng.random() * 0.05)
        p.kill()
        assert p.wait(forked.END_S) == -signal.SIGKILL, log.read_text()
    assert forked.trained(broken, *epochs, log=log) == 0, log.read_text()
    assert weights(output) == weights(whole.parent / "out")


@pytest.mark.parametrize("train", [PADDED, PACKED], ids=["padded", "packed"])
def test_killed_inside_a_save_it_ends_with_the_weights_of_an_unbroken_run(
    train: str, make: Make, tmp_path: Path
) -> None:
    """Half of a file of each kind is on the disk; the next start goes on from the checkpoint before."""
    whole, broken, log = make("whole", train), make("broken", train), tmp_path / "log"
    assert forked.trained(whole, log=log) == 0, log.read_text()
    output = broken.parent / "out"
    files = ["optimizer.pt", "trainer_state.json", "model.safetensors", "rng_state.pth", "scheduler.pt"]
    for step, name in list(zip(range(2, 12, 2), files, strict=True))[: scaled(3, 5)]:
        p = forked.train(broken, log=log, torn=(name, f"checkpoint-{step}"))
        assert p.wait(forked.END_S) == -signal.SIGKILL, log.read_text()
        assert not is_whole(output / f"checkpoint-{step}"), name
    assert forked.trained(broken, log=log) == 0, log.read_text()
    assert weights(output) == weights(whole.parent / "out")


def test_stopped_by_a_signal_it_leaves_a_checkpoint_and_ends_as_if_it_had_not(make: Make) -> None:
    many = "weight_decay = 0.01"
    whole, stopped = make("whole", many), make("stopped", many)
    for r in (whole, stopped):
        r.write_text(r.read_text().replace("epochs = 2\n", "epochs = 12\n"))
    output = stopped.parent / "out"
    p = start(stopped)
    while p.poll() is None and not has_begun(output):
        time.sleep(0.02)
    p.send_signal(signal.SIGTERM)
    _, err = p.communicate(timeout=600)
    assert p.returncode == 130, err
    assert re.search("stopped; the same command goes on from checkpoint-\\d+$", err.strip())
    assert json.loads((output / "winnow.json").read_text())["training"] is None
    assert [is_whole(c) for c in output.glob("checkpoint-*")] == [True]
    assert run(whole)[0] == run(stopped)[0] == 0
    assert weights(output) == weights(whole.parent / "out")


@pytest.mark.parametrize(
    "changes",
    [
        {"train__activation_checkpointing": True},
        {"train__dataloader_num_workers": 1},
        {"train__per_device_train_batch_size": 2},
        {"train__per_device_train_batch_size": 1, "train__activation_checkpointing": True},
        {"train__packing": True},
        {"train__padding_free": True, "train__per_device_train_batch_size": 4},
    ],
    ids=str,
)
def test_a_training_goes_on_with_other_settings_of_the_machine_and_learns_the_same(
    changes: dict[str, object], make: Make
) -> None:
    """43 rows at 8 a step, gone on from the second step of the second epoch; an epoch's last step has 3 rows."""
    whole = trainer_for(make("whole", "save_steps = 8", rows=43))[0]
    whole.train()
    changed, _ = trainer_for(make("changed", "save_steps = 8", rows=43), **changes)
    changed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-8")
    losses, resumed = ([e["loss"] for e in t.state.log_history if "loss" in e] for t in (whole, changed))
    assert len(losses) == len(resumed) == 12
    assert changed.tokens < whole.tokens / 2, "the steps before are not trained again"
    at_once = {*changes} - {"train__activation_checkpointing", "train__dataloader_num_workers"}
    assert resumed == (pytest.approx(losses, abs=1e-5) if at_once else losses)
    for a, b in zip(whole.model.parameters(), changed.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-4 if at_once else 0, rtol=0)


def has_begun(output: Path) -> bool:
    """Whether its first step is over."""
    state = output / "winnow.json"
    return state.exists() and json.loads(state.read_text())["wall_s"] > 0


def is_whole(checkpoint: Path) -> bool:
    from finetune.train.output_folder.checkpoints import is_complete

    return is_complete(checkpoint)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, student: Path) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "train.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in sums(8)))
    (folder / "r.toml").write_text(
        f'student = "{student}"\ndata = "{folder}/train.jsonl"\noutput = "{folder}/out"\n'
        "[train]\nepochs = 2\ntraces_per_step = 4\nsave_steps = 2\n"
    )
    trainer, _ = trainer_for(folder / "r.toml")
    trainer.train()
    return folder / "out" / "checkpoint-2"


@pytest.mark.parametrize(
    "harm",
    ["no state", "torn state", "no optimizer", "torn optimizer", "torn weights", "no weights", "no random state"],
)
def test_a_checkpoint_that_broke_off_is_passed_over(harm: str, checkpoint: Path, tmp_path: Path) -> None:
    from finetune.train.output_folder.checkpoints import is_complete, newest_checkpoint

    for n in (2, 4):
        shutil.copytree(checkpoint, tmp_path / f"checkpoint-{n}")
    newest = tmp_path / "checkpoint-4"
    assert newest_checkpoint(tmp_path) == newest
    file = newest / {"state": "trainer_state.json", "optimizer": "optimizer.pt", "weights": "model.safetensors"}.get(
        harm.partition(" ")[2], "rng_state.pth"
    )
    if harm.startswith("no "):
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-9])
    assert not is_complete(newest)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    assert not newest.exists()


def test_a_disk_that_fills_up_is_one_line_before_anything_of_a_checkpoint_is_written(
    make: Make, tmp_path: Path
) -> None:
    """On a disk of 34 MB, which holds two checkpoints of this student and not three."""
    disk = tmp_path / "disk"
    disk.mkdir()
    jail = ["bwrap", "--dev-bind", "/", "/", "--size", "34000000", "--tmpfs", str(disk)]
    if not shutil.which("bwrap") or subprocess.run([*jail, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs bubblewrap, which makes the small disk: make system")
    words = [sys.executable, "-m", "finetune", "sft", str(make(train="save_steps = 2")), "--output", f"{disk}/out"]
    shell = f'"$@"; code=$?; ls {disk}/out; exit $code'
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*jail, "sh", "-c", shell, "sh", *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 2, done.stderr
    told = done.stderr.splitlines()[-1]
    assert re.fullmatch(
        rf"error: output {disk}/out: \d\.\d MB free, 1\d\.\d MB needed for the checkpoint of step 6, of which nothing "
        "was written: free some; the same command goes on from checkpoint-4",
        told,
    ), done.stderr
    assert done.stdout.split() == ["checkpoint-2", "checkpoint-4", "curve.jsonl", "winnow.json"]


def test_a_disk_that_fills_up_inside_a_save_is_one_line_and_other_failures_stay_what_they_are(
    checkpoint: Path, tmp_path: Path
) -> None:
    from finetune.train.output_folder.disk import check_room, disk_watched

    errors = (
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        Exception("No space left on device (os error 28)"),  # tokenizers
        RuntimeError("[enforce fail at inline_container.cc:668] . PytorchStreamWriter failed writing file data/1"),
    )
    for error in errors:
        with pytest.raises(InputError, match=r"is full: free some; .* begins again$"), disk_watched(tmp_path):
            raise error
    shutil.copytree(checkpoint, tmp_path / "checkpoint-2")
    with pytest.raises(InputError, match=r"goes on from checkpoint-2$"), disk_watched(tmp_path):
        raise errors[0]
    with pytest.raises(InputError, match=r"GB needed for the student, .* goes on from checkpoint-2$"):
        check_room(tmp_path, 10**15, "the student")
    for error in (RuntimeError("out of memory"), InputError("No space left on device, as a user's file says")):
        with pytest.raises(type(error), match=re.escape(str(error))), disk_watched(tmp_path):
            raise error


def test_a_disk_that_is_too_small_is_named_before_the_first_step(tmp_path: Path) -> None:
    from finetune.train.output_folder.disk import check_disk

    with pytest.raises(InputError, match=r"GB free, \d+\.\d GB needed"):
        check_disk(tmp_path / "not" / "there", 10**13, 4 * 10**13, 2)
