"""The folder that a training writes into: whose it is, what is done there, which checkpoints one may trust, and
whether the disk will hold it.
"""

import fcntl
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune.recipe import Recipe
from finetune.rows.dataset import Examples
from finetune.rows.render import Tokenizer, thinking_template
from finetune.student import Student, identity
from finetune.train.card import datasets_of
from harvest.core.errors import ConfigError, InputError, WinnowError
from harvest.core.files import write_whole
from harvest.core.nouns import content_hash

LOCK = ".lock"
STATE = "winnow.json"
"""In the output folder: what is trained there, and once it is finished, the training block."""
MARK = "winnow.json"
"""In a checkpoint, written once all processes have written theirs: how many there were, and how they were started."""
CHECKPOINTS_KEPT = 2
FREE_TO_CHANGE = {
    "logging_steps",
    "save_steps",
    "save_strategy",
    "save_total_limit",
    "report_to",
    "run_name",
    "project",
}
"""Keys of [train] that change nothing of what is learnt."""


def identity_of(recipe: Recipe, examples: Examples, student: Student) -> dict[str, Any]:
    """All that decides what is learnt. Two trainings with the same are the same training."""
    return {**_identity(recipe, student), "data": examples.digest}


def _identity(recipe: Recipe, student: Student) -> dict[str, Any]:
    train = {k: v for k, v in recipe.train.model_dump(mode="json").items() if k not in FREE_TO_CHANGE}
    return {
        "student": identity(student),
        "method": recipe.method,
        **{f"train.{k}": v for k, v in train.items()},
    }


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """The output folder to ourselves, made where it is not there. Raises InputError."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = os.open(output / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise InputError(f"output {output}: cannot be written: {e.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InputError(f"output {output}: another process is training into it: wait for it") from None
    finally:
        os.close(lock)


def read_state(output: Path, what: Mapping[str, Any]) -> dict[str, Any]:
    """The state of this training in its output folder, a fresh one where nothing was begun. Writes nothing.

    Raises InputError where the folder holds another training, naming what differs, or something else.
    """
    fresh = {"schema": 1, "of": dict(what), "wall_s": 0.0, "training": None}
    state = _noted(output)
    if state is None:
        if output.exists() and (not output.is_dir() or {f.name for f in output.iterdir()} - {LOCK}):
            raise InputError(f"output {output}: holds something that is no training of ours: name an empty folder")
        return fresh
    if not state["training"] and not state["wall_s"] and not checkpoints(output):
        return fresh  # it ended before its first step, on a setting say: nothing is lost
    if changes := _changes(state["of"], what):
        raise InputError(
            f"output {output} holds a training of something else: name another output, or delete that folder\n  "
            + "\n  ".join(changes.values())
        )
    return state


def _noted(output: Path) -> dict[str, Any] | None:
    """What winnow.json says, None where there is none. Raises InputError where it is not what we wrote."""
    try:
        state = json.loads((output / STATE).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as e:
        raise InputError(f"{output / STATE}: cannot be read: {e}") from None
    if not isinstance(state, dict) or not isinstance(state.get("of"), dict) or not {"wall_s", "training"} <= {*state}:
        raise InputError(f"{output / STATE}: not what winnow wrote: name another output")
    return state


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    return {
        k: f"{k}: {_short(before.get(k))} there, {_short(now.get(k))} now"
        for k in sorted({*before, *now})
        if before.get(k) != now.get(k)
    }


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 30 else text[:27] + '…"'


def write_state(output: Path, state: Mapping[str, Any]) -> None:
    write_whole(output / STATE, json.dumps(state, indent=1, ensure_ascii=False) + "\n")


def checkpoints(output: Path) -> list[Path]:
    """Newest first, whole or not."""
    found = [p for p in output.glob("checkpoint-*") if p.name.partition("-")[2].isdigit()]
    return sorted(found, key=lambda p: -int(p.name.partition("-")[2]))


def drop_checkpoints(recipe: Recipe, output: Path) -> None:
    """A finished training needs none. They stay where the recipe says how many to keep."""
    if "save_total_limit" not in recipe.train.further:
        for folder in checkpoints(output):
            shutil.rmtree(folder)


def unrecorded(recipe: Recipe, student: Student) -> dict[str, Any] | None:
    """The block of a training that is finished and that no run has yet; whatever became of its data since, but of the
    data that the recipe names."""
    state = _noted(Path(recipe.output))
    if state is None or not state["training"] or state.get("run"):
        return None
    if (state.get("provenance") or {}).get("datasets", datasets_of(recipe)) != datasets_of(recipe):
        return None
    now = {**_identity(recipe, student), "data": state["of"].get("data")}
    return None if _changes(state["of"], now) else dict(state["training"])


def training_key(output: Path) -> str:
    """Of a finished training, in its run's report: however its folder was spelt."""
    state = _noted(output)
    assert state is not None
    return content_hash({"of": state["of"], "output": str(output.resolve())})


def attach_run(output: Path, name: str, store: str) -> None:
    """Notes the run that has a finished training in its report."""
    write_state(output, {**(_noted(output) or {}), "run": {"name": name, "store": store}})


def newest_checkpoint(output: Path) -> Path | None:
    """The newest that is complete; newer ones that broke off are removed, so that nothing of them is read."""
    for folder in checkpoints(output):
        if is_complete(folder):
            return folder
        shutil.rmtree(folder)
    return None


def rotate(output: Path, kept: int) -> None:
    """Removes all checkpoints but the `kept` newest. Called once the newest is whole."""
    for folder in checkpoints(output)[kept:]:
        shutil.rmtree(folder, ignore_errors=True)


def mark(checkpoint: Path, strategy: str, processes: int) -> None:
    """Notes that every process has written its part of it."""
    write_whole(checkpoint / MARK, json.dumps({"strategy": strategy, "processes": processes}) + "\n")


def mark_of(checkpoint: Path) -> tuple[str, int] | None:
    """(strategy, processes) of a checkpoint that all its processes finished, else None."""
    try:
        noted = json.loads((checkpoint / MARK).read_text("utf-8"))
        return str(noted["strategy"]), int(noted["processes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_resumable(checkpoint: Path, strategy: str, processes: int) -> str | None:
    """What differs from how the checkpoint was written, in words, where it can be gone on from all the same.

    Raises ConfigError where it cannot: parts of weights and optimizer belong to as many processes as wrote them.
    """
    noted = mark_of(checkpoint)
    if noted is None or noted == (strategy, processes):
        return None
    then = f"{checkpoint.name} is of {noted[1]} process{'es' if noted[1] > 1 else ''} of {noted[0]}"
    if {strategy, noted[0]} <= {"single", "ddp"}:
        return f"{then}: the same steps in {processes}, sums rounded in another order, other numbers for dropout"
    raise ConfigError(
        f"launch.strategy: {then}, and cannot be gone on from in {processes} of {strategy}: start {noted[1]} of "
        f"{noted[0]} again, or name another output"
    )


def is_complete(checkpoint: Path) -> bool:
    """Whether every file of it was written to its end, by each of its processes.

    Source of the layouts: transformers 5.23, Trainer._save_checkpoint; accelerate 1.15, save_fsdp_model and
    save_fsdp_optimizer; DeepSpeed, engine.save_checkpoint.
    """
    noted = mark_of(checkpoint)
    if noted is None:
        return False
    strategy, processes = noted
    try:
        json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    states = [f"rng_state_{n}.pth" for n in range(processes)] if processes > 1 else ["rng_state.pth"]
    archives = [checkpoint / name for name in states]
    if strategy.startswith("zero3"):
        parts = _deepspeed_parts(checkpoint, processes)
        return parts is not None and all(map(zipfile.is_zipfile, [*archives, *parts]))
    archives.append(checkpoint / "scheduler.pt")
    if strategy.startswith("fsdp2"):
        parts = []
        for name in ("pytorch_model_fsdp", "optimizer"):
            if (checkpoint / f"{name}_0").is_dir():
                if not _has_all_shards(checkpoint / f"{name}_0"):
                    return False
            else:
                parts.append(checkpoint / f"{name}.bin")
        return all(map(zipfile.is_zipfile, [*archives, *parts]))
    weights = list(checkpoint.glob("*.safetensors"))
    archives.append(checkpoint / "optimizer.pt")
    return bool(weights) and all(map(zipfile.is_zipfile, archives)) and all(map(_is_whole, weights))


def _has_all_shards(folder: Path) -> bool:
    """Of torch's distributed checkpoints: every file that the table of contents names, which is written last."""
    try:
        named = {n.decode() for n in re.findall(rb"__\d+_\d+\.distcp", (folder / ".metadata").read_bytes())}
        return bool(named) and all((folder / name).stat().st_size for name in named)
    except OSError:
        return False


def _deepspeed_parts(checkpoint: Path, processes: int) -> list[Path] | None:
    """The files of weights and optimizer that each process wrote; None where `latest` names no such folder, or one
    process's part is missing."""
    try:
        tag = (checkpoint / "latest").read_text("utf-8").strip()
    except (OSError, ValueError):
        return None
    folder = checkpoint / tag
    if not tag or folder.parent != checkpoint or not folder.is_dir():
        return None
    found = []
    for kind in ("optim", "model"):
        for n in range(processes):
            part = list(folder.glob(f"*zero_pp_rank_{n}_mp_rank_*_{kind}_states.pt"))
            if not part:
                return None
            found += part
    return found


def _is_whole(safetensors: Path) -> bool:
    """Whether the file is as long as its own header says (eight bytes of length, JSON, data)."""
    size = safetensors.stat().st_size
    with safetensors.open("rb") as f:
        header_bytes = int.from_bytes(f.read(8), "little")
    ends = [t["data_offsets"][1] for t in tensors_of(safetensors).values()]
    return size == 8 + header_bytes + max(ends, default=0)


def tensors_of(safetensors: Path) -> dict[str, dict[str, Any]]:
    """The file's own table of its tensors, empty where it broke off before its end."""
    with safetensors.open("rb") as f:
        header_bytes = int.from_bytes(f.read(8), "little")
        if header_bytes > safetensors.stat().st_size:
            return {}
        try:
            header: dict[str, Any] = json.loads(f.read(header_bytes))
        except ValueError:
            return {}
    return {name: t for name, t in header.items() if name != "__metadata__"}


DISK_FULL = ("No space left on device", "os error 28", "Disk quota exceeded", "os error 122", "PytorchStreamWriter")
"""Words of what Python, Rust's libraries and torch raise where a disk takes no more."""


SMALL_FILES = 2**20
"""Room for what else is written beside: the state, the curve, the card."""


def check_room(output: Path, need: int, what: str) -> None:
    """Raises InputError where `what` of `need` bytes will not fit, before anything of it is written. Of a checkpoint
    it is the size of the newest one that counts, where there is one."""
    free = shutil.disk_usage(output).free
    if free < need + SMALL_FILES:
        raise InputError(
            f"output {output}: {_size(free)} free, {_size(need)} needed for {what}, of which nothing was written: free "
            f"some; {_goes_on(output)}"
        )


def checkpoint_bytes(output: Path) -> int | None:
    """What the newest whole checkpoint takes on the disk."""
    newest = next(filter(is_complete, checkpoints(output)), None)
    return None if newest is None else sum(f.stat().st_size for f in newest.rglob("*") if f.is_file())


@contextmanager
def disk_watched(output: Path) -> Iterator[None]:
    """Raises InputError, one line, where something inside fails since the disk is full."""
    try:
        yield
    # torch's and safetensors' writers have errors of their own for it: what they say is all there is to go by.
    except Exception as e:
        if isinstance(e, WinnowError) or not any(words in str(e) for words in DISK_FULL):
            raise
        raise InputError(f"output {output}: the disk is full: free some; {_goes_on(output)}") from None


def _goes_on(output: Path) -> str:
    newest = next(filter(is_complete, checkpoints(output)), None)
    return f"the same command goes on from {newest.name}" if newest else "the same command begins again"


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"


def check_disk(output: Path, parameters: int, method: str, kept: int) -> None:
    """Raises InputError where checkpoints and student will not fit. One checkpoint more than are kept is on
    disk for a moment; each has the trained weights and two moments of Adam, four bytes apiece."""
    trained = parameters * 4
    if method != "full":
        trained //= 10  # a generous adapter
    one = 3 * trained
    there = sum(f.stat().st_size for c in checkpoints(output) for f in c.rglob("*") if f.is_file())
    need = (kept + 1) * one + trained - there
    free = shutil.disk_usage(next(p for p in (output, *output.absolute().parents) if p.is_dir())).free
    if free < need:
        raise InputError(
            f"output {output}: {free / 1e9:.1f} GB free, {need / 1e9:.1f} GB needed ({kept + 1} checkpoints of "
            f"{one / 1e9:.1f} GB and the student): free some, set train.save_total_limit = 1, or name another output"
        )


def save_student(trainer: Any, tokenizer: Tokenizer, output: Path, is_first: bool = True) -> None:
    """Weights, configuration and tokenizer into `output`, whole files alone.

    Every process calls it: where weights are in shards each gives its own, and the first writes. What the trainer
    would leave in shards (FSDP's way of checkpoints) is gathered here. After it the trainer is done.
    """
    made = output / ".student"
    if is_first:
        shutil.rmtree(made, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.config.use_cache = True  # training turns it off, and generation would be slow without
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(made))
    if not is_first:
        return
    (made / "training_args.bin").unlink(missing_ok=True)
    template = tokenizer.chat_template
    tokenizer.chat_template = thinking_template(tokenizer)
    tokenizer.save_pretrained(str(made))
    tokenizer.chat_template = template
    for file in sorted(made.iterdir()):
        file.chmod(0o644)
        file.replace(output / file.name)
    made.rmdir()
