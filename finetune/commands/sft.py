"""`finetune sft RECIPE.toml` trains the student. With --dry-run it only checks rows and settings."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from finetune.commands.arguments import Overrides
from finetune.commands.check import checked_rows
from finetune.progress import Progress
from finetune.recipe import Recipe, check_method, read_recipe, recipe_path
from finetune.rows.cache import examples
from finetune.rows.dataset import run_folder
from finetune.rows.examples import Examples
from finetune.rows.template import recipe_tokenizer
from finetune.run import Run
from finetune.student import find
from finetune.train.launch import check_started, devices
from finetune.train.output_folder.card import write_model_card
from finetune.train.output_folder.hub import check_push, push
from finetune.train.output_folder.loss_curve import read_curve
from finetune.train.output_folder.state import attach_run, training_key, unrecorded
from finetune.train.sft import check, quiet, sft
from finetune.train.world import joined
from harvest.commands.report import write_report
from harvest.commands.run_folder import find_run
from harvest.core.errors import StoreUnusable
from harvest.report.loss_curve import turned

LISTED = 20
"""At most this many of the rows that are left out are named one by one."""


def run(args: argparse.Namespace, overrides: Overrides) -> int:
    recipe = read_recipe(recipe_path(args.recipe), overrides, train=True)
    check_method(recipe)
    check_push(recipe)
    gpus = recipe.launch.gpus if "gpus" in recipe.launch.model_fields_set else None
    if not args.dry_run:
        check_started(recipe.launch.strategy, gpus, os.environ, devices(), str(recipe_path(args.recipe)))
    quiet()
    name = args.run_name or run_folder(recipe.data)
    run = Run(*find_run(str(name), args.store)) if name is not None else None
    if args.dry_run:
        if run is not None:
            run.check()
        student, progress = find(recipe.student), Progress("sft")
        checked_rows(recipe, args, lambda rows: check(recipe, rows, student, progress))
    elif (block := _train(recipe, run)) is not None:
        record(recipe, block, run)
        if (pushed := push(recipe)) is not None:
            Progress("sft").say(f"{recipe.output}: pushed as {pushed}")
        print(json.dumps(block, ensure_ascii=False) if args.json else in_words(recipe, block))
    return 0


def _train(recipe: Recipe, run: Run | None) -> dict[str, Any] | None:
    """Trains the student. Returns the report's entry of the finished training; None in every process but the first."""
    with joined(os.environ) as world:
        progress = Progress("sft", mute=not world.is_first)
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
            rows = examples(recipe, tokenizer)
        _say_left_out(rows, progress)
        block = sft(recipe, rows, tokenizer, student, progress, world, run)
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
    lines = [f"{recipe.output}: {block['rows']} rows, {block['tokens']:,} tokens in {block['wall_s']:.0f} s{loss}"]
    if h := block.get("held_out"):
        lines.append(
            f"{h['questions']} held-out questions: loss {h['first_loss']:.3f} to {h['best_loss']:.3f} at step "
            f"{h['best_step']} of {block['steps']}; the student is that of step {h['student_step']}"
        )
    if said := turned(read_curve(Path(recipe.output))):
        lines.append(said)
    return "\n".join(lines)
