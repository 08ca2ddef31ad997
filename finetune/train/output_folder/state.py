"""Keeps the state of the folder that a training writes into: which training it holds and how far that training is.

At the end it writes the student.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from finetune.note import NOTE
from finetune.recipe import Recipe
from finetune.rows.template import Tokenizer, thinking_template
from finetune.student import Student, identity
from finetune.train.output_folder.card import datasets_of
from finetune.train.output_folder.checkpoints import checkpoints
from harvest.core.errors import InputError
from harvest.core.files import write_whole
from harvest.core.nouns import content_hash
from harvest.proof.manifest import COPIES
from harvest.store import without_password

LOCK = ".lock"
FREE_TO_CHANGE = {
    # what goes through the student at once, and what of it is held meanwhile: the rows of a step stay the same
    "per_device_train_batch_size", "packing", "packing_strategy", "padding_free", "activation_checkpointing",
    "activation_offloading", "torch_empty_cache_steps",
    # who fetches the rows, and how long processes wait for each other
    "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor",
    "ddp_timeout",
    # what is saved and shown
    "save_steps", "save_strategy", "save_total_limit", "logging_strategy", "logging_steps", "logging_first_step",
    "log_level", "log_level_replica", "log_on_each_node", "report_to", "run_name", "project", "trackio_space_id",
    "push_to_hub", "hub_model_id", "hub_private_repo", "hub_revision",
}  # fmt: skip
"""The keys of [train] that may differ when a training goes on, since they change only how sums are rounded."""


def identity_of(recipe: Recipe, digest: str, student: Student, held_out: str | None = None) -> dict[str, Any]:
    """Returns all that decides what the student learns, as one table. `digest` is the digest of the examples.

    `held_out` is the digest of those that are held out; None when none are. If two trainings have equal tables, they
    are the same training.
    """
    left_out = FREE_TO_CHANGE if recipe.train.held_out else {*FREE_TO_CHANGE, "held_out", "stop_after"}
    train = {k: v for k, v in recipe.train.model_dump(mode="json").items() if k not in left_out}
    return {
        "student": identity(student),
        "method": recipe.method,
        **{f"train.{k}": v for k, v in train.items()},
        **({f"prefer.{k}": v for k, v in recipe.prefer.model_dump().items()} if recipe.prefer else {}),
        **({f"distill.{k}": v for k, v in recipe.distill.model_dump(mode="json").items()} if recipe.distill else {}),
        "data": digest,
        **({} if held_out is None else {"held_out": held_out}),
    }


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """Makes the output folder and locks it for this process. Raises InputError when another process has the lock."""
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
    """Returns the state of this training in its output folder, or a new state if nothing was begun. Writes no file.

    Raises InputError when the folder holds another training (the error says what differs), or something else.
    """
    fresh = {"schema": 1, "of": dict(what), "wall_s": 0.0, "training": None}
    state = _state_of(output)
    if state is None:
        if output.exists() and (not output.is_dir() or {f.name for f in output.iterdir()} - {LOCK, COPIES}):
            raise InputError(f"output {output}: holds something that is no training of ours: name an empty folder")
        return fresh
    if not state["training"] and not state["wall_s"] and not checkpoints(output):
        return fresh  # it ended before its first step, for example at a wrong setting: nothing is lost
    if changes := _changes(state["of"], what):
        raise InputError(
            f"output {output} holds a training of something else: name another output, or delete that folder\n  "
            + "\n  ".join(changes.values())
        )
    return state


def _state_of(output: Path) -> dict[str, Any] | None:
    """Returns what winnow.json says; None when there is no such file. Raises InputError if winnow did not write it."""
    try:
        state = json.loads((output / NOTE).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as e:
        raise InputError(f"{output / NOTE}: cannot be read: {e}") from None
    if not isinstance(state, dict) or not isinstance(state.get("of"), dict) or not {"wall_s", "training"} <= {*state}:
        raise InputError(f"{output / NOTE}: not what winnow wrote: name another output")
    return state


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Returns a line for each key whose values differ.

    An older winnow noted keys that are free to change now; they are passed over.
    """
    free = {f"train.{k}" for k in FREE_TO_CHANGE}
    return {
        k: f"{k}: {_short(before.get(k))} there, {_short(now.get(k))} now"
        for k in sorted({*before, *now} - free)
        if before.get(k) != now.get(k)
    }


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 30 else text[:27] + '…"'


def write_state(output: Path, state: Mapping[str, Any]) -> None:
    write_whole(output / NOTE, json.dumps(state, indent=1, ensure_ascii=False) + "\n")


def unrecorded(recipe: Recipe, student: Student) -> dict[str, Any] | None:
    """Returns the report's entry of a finished training that is not yet in any run's report; None when there is none.

    The data may have changed since the training, but the recipe must still name the same datasets.
    """
    state = _state_of(Path(recipe.output))
    if state is None or not state["training"] or state.get("run"):
        return None
    if (state.get("provenance") or {}).get("datasets", datasets_of(recipe)) != datasets_of(recipe):
        return None
    now = identity_of(recipe, state["of"].get("data", ""), student, state["of"].get("held_out"))
    return None if _changes(state["of"], now) else dict(state["training"])


def check_output(recipe: Recipe, student: Student, run: str) -> None:
    """Raises InputError when the recipe's output holds something that its training for the run `run` cannot go on with.

    The rows are not compared: they may not be there yet.
    """
    output = Path(recipe.output)
    if (state := _state_of(output)) is None:
        read_state(output, {})
        return
    of, recorded = state["of"], state.get("run")
    if state["training"] and recorded and recorded["name"] != run:
        raise InputError(f"output {output}: holds the student of run {recorded['name']!r}: name another output")
    read_state(output, identity_of(recipe, of.get("data", ""), student, of.get("held_out")))


def training_key(output: Path) -> str:
    """Returns the key of a training in its run's report. The key does not depend on how the folder's path is spelt."""
    state = _state_of(output)
    assert state is not None
    return content_hash({"of": state["of"], "output": str(output.resolve())})


def attach_run(output: Path, name: str, store: str) -> None:
    """Notes that a finished training is in the report of this run."""
    write_state(output, {**(_state_of(output) or {}), "run": {"name": name, "store": without_password(store)}})


def save_student(
    trainer: Any, tokenizer: Tokenizer, output: Path, dtype: Any, is_first: bool = True, best: Path | None = None
) -> None:
    """Puts the student into `output`: the one in the folder `best`, or else the trainer's.

    Each file appears there only when it is complete. Every process must call it. `dtype` is as in `write_student`.
    """
    made = output / ".student"
    if is_first:
        shutil.rmtree(made, ignore_errors=True)
    if best is None:
        write_student(trainer, tokenizer, made, dtype, is_first)
    elif is_first:
        shutil.copytree(best, made, copy_function=_link)
    if not is_first:
        return
    for file in sorted(made.iterdir()):
        file.replace(output / file.name)
    shutil.rmtree(made)  # a name of a file that is in `output` already stays behind


def _link(source: str, to: str) -> None:
    """Makes a file's second name: it takes no room. Copies the file where the disk has no such names."""
    try:
        os.link(source, to)
    except OSError:
        shutil.copy2(source, to)


def write_student(trainer: Any, tokenizer: Tokenizer, made: Path, dtype: Any, is_first: bool = True) -> None:
    """Writes weights, configuration and tokenizer into the folder `made`. The trainer can train afterwards.

    Every process must call it: if weights are sharded, each process gives its shards and the first process writes them.
    FSDP's shards are gathered here. The weights are rounded to `dtype`, unless it is None.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    with ExitStack() as after:
        after.callback(setattr, model.config, "use_cache", model.config.use_cache)
        model.config.use_cache = True  # training turns it off, and generation would be slow without
        if dtype is not None and not sharded and is_first:
            after.enter_context(_rounded(model, dtype))
        if sharded:
            after.callback(setattr, trainer, "saved_dtype", None)
            trainer.saved_dtype = dtype
        if trainer.is_fsdp_enabled:
            plugin = trainer.accelerator.state.fsdp_plugin
            after.callback(plugin.set_state_dict_type, plugin.state_dict_type)
            plugin.set_state_dict_type("FULL_STATE_DICT")
        trainer.save_model(str(made))
    if not is_first:
        return
    (made / "training_args.bin").unlink(missing_ok=True)
    if sharded and dtype is not None:  # transformers wrote the precision of the shards
        config = json.loads((made / "config.json").read_text("utf-8"))
        config["dtype"] = str(dtype).removeprefix("torch.")
        write_whole(made / "config.json", json.dumps(config, indent=2) + "\n")
    template = tokenizer.chat_template
    tokenizer.chat_template = thinking_template(tokenizer)
    tokenizer.save_pretrained(str(made))
    tokenizer.chat_template = template
    for file in made.iterdir():
        file.chmod(0o644)


@contextmanager
def _rounded(model: Any, dtype: Any) -> Iterator[None]:
    """Rounds the model's weights to `dtype` for a while, on the CPU, so that a GPU needs no room for them."""
    held = [(t, t.data) for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
    try:
        for tensor, data in held:
            tensor.data = data.to("cpu", dtype)
        yield
    finally:
        for tensor, data in held:
            tensor.data = data
