"""Trains a student with TRL, from the rendered rows to a folder that transformers loads.

winnow decides which tokens are trained, which rows share a step, which checkpoints are complete, and when the training
is finished. TRL's SFTTrainer does the rest: optimizer, schedule, accumulation, mixed precision.
"""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from finetune.cost.quote import launching_of
from finetune.cost.shape import shape_of
from finetune.cost.utilisation import utilisation_of
from finetune.note import NOTE, ancestors
from finetune.progress import Progress
from finetune.proof.student import gathered, write_trained
from finetune.recipe import Recipe
from finetune.rows.examples import Examples
from finetune.rows.held_out import held_out_digest, split
from finetune.rows.template import Tokenizer, layout_of
from finetune.run import Run
from finetune.student import Student, commit_of, count_parameters, sizes
from finetune.train.callback import RecipeNote, Watch
from finetune.train.launch import running
from finetune.train.measuring import entry, too_few
from finetune.train.memory import loading_watched, memory_watched, peak_bytes
from finetune.train.merge import precision
from finetune.train.output_folder.best import drop_bests, keep_best
from finetune.train.output_folder.card import provenance
from finetune.train.output_folder.checkpoints import (
    best_folder,
    check_resumable,
    drop_checkpoints,
    goes_on,
    newest_checkpoint,
)
from finetune.train.output_folder.disk import check_disk, check_room, disk_watched
from finetune.train.output_folder.state import alone, identity_of, read_state, save_student, write_state
from finetune.train.remarks import before_training
from finetune.train.resolved import elsewhere, foreseen, resolved
from finetune.train.trainer import WinnowTrainer, build_trainer, load_arranged
from finetune.train.training_args import is_bf16_faster, most_bests, most_checkpoints, training_config
from finetune.train.world import World
from harvest.core.errors import InputError
from harvest.core.money import pusd, usd


def sft(
    recipe: Recipe,
    examples: Examples,
    tokenizer: Tokenizer,
    student: Student,
    progress: Progress,
    world: World = World(),  # noqa: B008  frozen
    run: Run | None = None,
    kind: type[WinnowTrainer] = WinnowTrainer,
) -> dict[str, Any]:
    """Trains the student and returns the report's entry of the finished training.

    An interrupted training goes on from its newest checkpoint; a finished training is not repeated. Each process of
    `world` calls it and gets an equal entry. Points of the loss curve go into the store of `run` during the training.

    `kind` says what the student learns from an example: its text, unless another kind of trainer is given.

    Where enough questions are held out, the student is the one of the best measurement, else that of the last step.

    Raises ConfigError when settings do not go together, DatasetError when every question is held out. Raises InputError
    when `output` holds another training, another process trains into it, or the disk is too small, and OutOfMemory when
    memory runs out. Raises Lost when another process ended, and KeyboardInterrupt when the training was stopped.
    """
    output = Path(recipe.output)
    trained, held_out = split(examples, recipe.train)
    what = identity_of(recipe, examples.digest, student, held_out_digest(held_out))
    with ExitStack() as lock:
        with world.together():
            state = _claim(recipe, examples, what, lock) if world.is_first else {}
        state = world.hear(state)
        if state.get("training"):
            return dict(state["training"])
        with world.together():
            if not output.is_dir():
                raise InputError(f"output {output}: not there on every machine: name a folder that all of them share")
            parameters = count_parameters(student)
        recipe, config, model, padded = load_arranged(
            recipe, trained, student, parameters, bf16=state["bf16"], world=world, held_out=held_out
        )
        with world.together(), loading_watched(recipe):
            if padded is not None:
                progress.say(f"{output}: rows are padded: {padded}")
            checkpoint = _checkpoint(recipe, held_out, student, config, world, progress) if world.is_first else None
            trainer = build_trainer(recipe, trained, tokenizer, model, config, world, held_out, kind)
            progress.say(f"{output}: runs as {running(trainer, recipe.launch.strategy)}; {trainer.manner}")
            for said in (*before_training(recipe, len(trained)), too_few(recipe, held_out)):
                if said:
                    progress.say(f"{output}: {said}")
        checkpoint = world.hear(checkpoint)
        if world.is_first:
            write_state(output, state)
        own = getattr(torch, precision(sizes(student))) if recipe.method == "full" else None
        trainer.keep_best = partial(_keep_best, trainer, tokenizer, own, world)
        use = utilisation_of(recipe, trained.lengths, student, bf16=config.bf16, gpus=world.size)
        memory = memory_watched(recipe, config, max(trained.lengths), world)
        with memory, disk_watched(output), Watch(output, state, progress, trainer, run, use) as watch, world.watched():
            trainer.add_callback(RecipeNote(recipe, trainer.callback_handler.callbacks))
            trainer.add_callback(watch)
            trainer.args.eval_on_start &= checkpoint is None
            trainer.train(resume_from_checkpoint=checkpoint)
            if trainer.state.global_step < trainer.state.max_steps and not trainer.is_over:
                raise KeyboardInterrupt(goes_on(output))
            best_step = trainer.state.best_global_step
            best = None if best_step is None else best_folder(output, best_step)
            with world.together():
                if world.is_first and best is None:
                    check_room(output, trainer.weight_bytes, "the student")
            save_student(trainer, tokenizer, output, own, world.is_first, best)
            if world.is_first:
                write_trained(output, recipe, state["proof"], examples, trained, held_out)
        block: dict[str, Any] = {}
        if world.is_first:
            state["layout"] = asdict(layout_of(recipe.render, tokenizer))
            block = _report_entry(recipe, trained, held_out, trainer, watch.wall_s)
            speed = block["tokens"] / watch.wall_s if watch.wall_s else 0.0
            block |= {"mfu": use.mfu(speed), "peak_gib": round(peak_bytes() / 2**30, 2)}
            block["student_commit"] = commit_of(student)
            write_state(output, {**state, "wall_s": watch.wall_s, "training": block})
            drop_checkpoints(recipe, output)
            drop_bests(output)
        return dict(world.hear(block))


def _claim(recipe: Recipe, examples: Examples, what: Mapping[str, Any], lock: ExitStack) -> dict[str, Any]:
    """Returns the state of the training in its folder, and locks the folder until `lock` is closed.

    No other process may train into a locked folder.
    """
    output = Path(recipe.output)
    read_state(output, what)  # before the lock, which would be a file of ours in a folder of others
    lock.enter_context(alone(output))
    state = read_state(output, what)
    if state.get("training"):
        drop_checkpoints(recipe, output)
        drop_bests(output)
        return state
    if "provenance" not in state:
        state["provenance"] = provenance(recipe, examples)
    if "proof" not in state:
        state["proof"] = gathered(output, recipe, examples.manifests, what["student"])
    if "came_from" not in state:
        state["came_from"] = ancestors(Path(recipe.student))
    if "bf16" not in state:  # once for a training: a second start must not compute otherwise
        state["bf16"] = is_bf16_faster()
    return state


def _keep_best(trainer: WinnowTrainer, tokenizer: Tokenizer, dtype: Any, world: World) -> None:
    output, step = Path(trainer.args.output_dir), trainer.state.global_step
    with world.together():
        if world.is_first:
            check_room(output, trainer.weight_bytes, f"the student of step {step}")
    keep_best(trainer, tokenizer, output, dtype, step, world.is_first)


def _written(recipe: Recipe, student: Student) -> tuple[int, int]:
    """Returns (how many weights are trained, the bytes of the student that is saved at the end)."""
    parameters = count_parameters(student)
    if recipe.method == "full":
        return parameters, parameters * getattr(torch, precision(sizes(student))).itemsize
    adapter = round(shape_of(sizes(student), parameters).adapter(launching_of(recipe).rank))
    return adapter, 4 * adapter


def _checkpoint(
    recipe: Recipe, held_out: Examples, student: Student, config: Any, world: World, progress: Progress
) -> str | None:
    """Returns the checkpoint to go on from; None when there is none.

    Raises ConfigError when the checkpoint belongs to another kind of launch, InputError when the disk is too small.
    """
    output = Path(recipe.output)
    checkpoint = newest_checkpoint(output)
    if checkpoint is not None and (differs := check_resumable(checkpoint, recipe.launch.strategy, world.size)):
        progress.say(f"{output}: {differs}")
    drop_bests(output)
    most = most_checkpoints(recipe, config)
    check_disk(output, *_written(recipe, student), most, most_bests(held_out, most))
    return str(checkpoint) if checkpoint else None


def _report_entry(
    recipe: Recipe, examples: Examples, held_out: Examples, trainer: WinnowTrainer, wall_s: float
) -> dict[str, Any]:
    """Returns the report's entry of a finished training.

    `examples` were trained. The cost is null, not zero, when no price of a GPU-hour is given.
    """
    done, best_step = trainer.state.global_step, trainer.state.best_global_step
    epochs = recipe.train.epochs * done / trainer.state.max_steps  # fewer where it stopped early
    losses = [e["loss"] for e in trainer.state.log_history if "loss" in e]
    processes = trainer.world.size
    gpus = processes if torch.cuda.is_available() else 0  # each process has one GPU, however many this machine has
    tokens = round(sum(examples.lengths) * epochs)
    mixed = "bfloat16" if trainer.args.bf16 else "float16" if trainer.args.fp16 else None
    held = "bfloat16" if trainer.args.bf16 and recipe.method == "lora" else "float32"
    held = "4-bit NF4" if recipe.method == "qlora" else held
    gpu_hours = wall_s / 3600 * gpus
    price = recipe.launch.price_usd_per_gpu_hour
    return {
        "student": recipe.student,
        "method": trainer.method,
        "weights": recipe.method,
        "output": recipe.output,
        "rows": len(examples),
        "dropped": len(examples.dropped),
        "data": examples.digest,
        "epochs": recipe.train.epochs,
        "learning_rate": recipe.train.learning_rate,
        "seed": recipe.train.seed,
        "tokens": tokens,
        "trained_tokens": round(examples.trained_tokens * epochs),
        "tokens_per_s": round(tokens / wall_s, 1) if wall_s else None,
        "steps": done,
        "wall_s": wall_s,
        "strategy": recipe.launch.strategy,
        "processes": processes,
        "gpus": gpus,
        "gpu_hours": round(gpu_hours, 4),
        "cost_usd": usd(pusd(price * round(wall_s * gpus) / 3600)) if price is not None and gpus else None,
        "loss_first": losses[0] if losses else None,
        "loss_last": losses[-1] if losses else None,
        "held_out": entry(held_out, trainer.state.log_history, trainer.state.eval_steps, best_step or done),
        "precision": f"{mixed} over {held}" if mixed else held,
        "device": torch.cuda.get_device_name() if gpus else "cpu",
        "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
        **trainer.report(examples),
    }


def check(recipe: Recipe, examples: Examples, student: Student, progress: Progress) -> dict[str, object]:
    """Returns the arguments that `sft` would train with. Raises ConfigError or InputError for all that it would refuse.

    It loads no weights, so faults that only the weights show are not found. It writes nothing. If the recipe names a
    GPU and this machine has none, the arguments are those of a machine with that GPU, and a disk that is too small is
    only a warning.
    """
    output, is_elsewhere = Path(recipe.output), elsewhere(recipe)
    trained, held_out = split(examples, recipe.train)
    is_there = (output / NOTE).is_file()
    what = identity_of(recipe, examples.digest, student, held_out_digest(held_out)) if is_there else {}
    state = read_state(output, what)
    strategy = recipe.launch.strategy
    world = World(size=1 if strategy == "single" else recipe.launch.gpus, sharers=2 if strategy == "fsdp2-cp" else 1)
    parameters, bf16 = count_parameters(student), state.get("bf16", is_elsewhere or is_bf16_faster())
    device = "cuda" if is_elsewhere else None
    recipe = foreseen(recipe, student)
    config = training_config(recipe, trained, parameters, bf16=bf16, world=world, device=device, held_out=held_out)
    found = resolved(recipe, trained, student, config)
    try:
        if not state.get("training"):
            most = most_checkpoints(recipe, config)
            check_disk(output, *_written(recipe, student), most, most_bests(held_out, most))
    except InputError as e:
        if not is_elsewhere:
            raise
        progress.say(f"warning: on this machine, which has no {recipe.launch.gpu}: {e}")
    return found


def quiet() -> None:
    """Turns off all messages of transformers and similar libraries, except errors."""
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    for name in ("trl", "accelerate", "peft", "torch"):
        logging.getLogger(name).setLevel(logging.ERROR)
