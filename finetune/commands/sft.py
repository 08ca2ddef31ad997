"""`finetune sft RECIPE.toml` trains the student. With --dry-run it only checks rows and settings."""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune.commands.arguments import Overrides
from finetune.commands.check import checked_rows
from finetune.progress import Progress
from finetune.recipe import Recipe, check_method, read_recipe, recipe_path
from finetune.rows.cache import examples
from finetune.rows.dataset import run_folder
from finetune.rows.examples import Examples
from finetune.rows.held_out import split
from finetune.rows.preflight import long_for_a_small_student
from finetune.rows.template import Tokenizer, recipe_tokenizer
from finetune.run import Run
from finetune.student import find
from finetune.train.launch import check_started, devices
from finetune.train.output_folder.card import write_model_card
from finetune.train.output_folder.hub import check_push, push
from finetune.train.output_folder.loss_curve import read_curve
from finetune.train.output_folder.state import attach_run, training_key, unrecorded
from finetune.train.remarks import after_training, before_training
from finetune.train.sft import check, quiet, sft
from finetune.train.trainer import WinnowTrainer
from finetune.train.world import joined
from harvest.commands.report import write_report
from harvest.commands.run_folder import find_run
from harvest.core.errors import ConfigError, StoreUnusable
from harvest.report.loss_curve import turned

LISTED = 20
"""At most this many of the rows that are left out are named one by one."""


def run(args: argparse.Namespace, overrides: Overrides) -> int:
    recipe = read_recipe(recipe_path(args.recipe), overrides, train=True)
    for name in ("prefer", "distill"):
        if getattr(recipe, name) is not None:
            raise ConfigError(
                f"{args.recipe}: [{name}] is for `python -m finetune {name}`: leave it out, or start that"
            )
    run = begin(recipe, args)
    if args.dry_run:
        student, progress = find(recipe.student), Progress("sft")

        remarks: list[str] = []

        def settings(rows: Examples) -> dict[str, object]:
            remarks.extend(before_training(recipe, len(split(rows, recipe.train)[0])))
            return check(recipe, rows, student, progress)

        checked_rows(recipe, args, settings)  # where a row has a fault, the fault alone is said
        for said in remarks:
            progress.say(f"{recipe.output}: {said}")
    else:
        finish(recipe, args, run, train(recipe, run))
    return 0


def begin(recipe: Recipe, args: argparse.Namespace) -> Run | None:
    """Makes the checks that need no rows. Returns the run whose report gets the training; None when there is no run.

    Raises ConfigError when the machine or the launch is not the one that the recipe asks for, and StoreUnusable when a
    dry run does not find the run.
    """
    check_method(recipe)
    check_push(recipe)
    gpus = recipe.launch.gpus if "gpus" in recipe.launch.model_fields_set else None
    if not args.dry_run:
        check_started(
            recipe.launch.strategy, gpus, os.environ, devices(), (args.command, str(recipe_path(args.recipe)))
        )
    quiet()
    name = args.run_name or run_folder(recipe.data)
    run = Run(*find_run(str(name), args.store)) if name is not None else None
    if args.dry_run and run is not None:
        run.check()
    return run


def finish(recipe: Recipe, args: argparse.Namespace, run: Run | None, block: dict[str, Any] | None) -> None:
    """Records the finished training, pushes the student and prints the entry. It does nothing without a `block`."""
    if block is None:
        return
    record(recipe, block, run)
    if (pushed := push(recipe)) is not None:
        Progress(block["method"]).say(f"{recipe.output}: pushed as {pushed}")
    print(json.dumps(block, ensure_ascii=False) if args.json else in_words(recipe, block))


def train(
    recipe: Recipe,
    run: Run | None,
    kind: type[WinnowTrainer] = WinnowTrainer,
    rows_of: Callable[[Recipe, Tokenizer], Examples] = examples,
) -> dict[str, Any] | None:
    """Trains the student. Returns the report's entry of the finished training; None in every process but the first.

    `rows_of` makes the rows, and `kind` is the trainer that learns from them.
    """
    with joined(os.environ) as world:
        progress = Progress(kind.method, mute=not world.is_first)
        block = None
        with world.together():
            student = find(recipe.student)
            if run is not None and world.is_first:
                run.check()
                block = unrecorded(recipe, student)
        if (block := world.hear(block)) is not None:
            progress.say(f"{recipe.output}: finished already, and not in the report yet")
            return block if world.is_first else None
        with world.together():
            tokenizer = recipe_tokenizer(recipe)
            rows = rows_of(recipe, tokenizer)
        _say_left_out(rows, progress)
        if world.is_first and (words := long_for_a_small_student(recipe, rows)) is not None:
            progress.say(f"warning: {words}")
        block = sft(recipe, rows, tokenizer, student, progress, world, run, kind)
        return block if world.is_first else None


def _say_left_out(rows: Examples, progress: Progress) -> None:
    for line in rows.notes:
        progress.say(f"warning: {line}")
    for line in rows.dropped[:LISTED]:
        progress.say(f"left out: {line}")
    if len(rows.dropped) > LISTED:
        progress.say(f"left out: {len(rows.dropped) - LISTED} more")


def record(recipe: Recipe, block: dict[str, Any], run: Run | None) -> None:
    """Puts the training into the run's report if there is a run, and writes the student's model card.

    Raises StoreUnusable when the run's store cannot be written; the trained student is safe then.
    """
    output = Path(recipe.output)
    if run is not None:
        try:
            run.put_training(training_key(output), block, read_curve(output))
            write_report(run.name, run.url)
        except StoreUnusable as e:
            raise StoreUnusable(
                f"{e}\n  the training is finished and safe in {output}; the same command records it"
            ) from None
        attach_run(output, run.name, run.url)
    write_model_card(output)


def in_words(recipe: Recipe, block: dict[str, Any]) -> str:
    first, last = block["loss_first"], block["loss_last"]
    loss = "" if first is None else f", loss {first:.3f} to {last:.3f}"
    what = "pairs" if block["method"] == "prefer" else "rows"
    lines = [f"{recipe.output}: {block['rows']} {what}, {block['tokens']:,} tokens in {block['wall_s']:.0f} s{loss}"]
    if h := block.get("held_out"):
        lines.append(
            f"{h['questions']} held-out questions: loss {h['first_loss']:.3f} to {h['best_loss']:.3f} at step "
            f"{h['best_step']} of {block['steps']}; the student is that of step {h['student_step']}"
        )
    for said in (turned(read_curve(Path(recipe.output))), after_training(block)):
        if said:
            lines.append(said)
    return "\n".join(lines)
