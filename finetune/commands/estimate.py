"""`finetune estimate RECIPE.toml` prints the GPU-hours, memory and money that a training will take."""

import argparse
import json
from typing import Any

from finetune.commands.arguments import Overrides
from finetune.cost.answering import Evaluating
from finetune.cost.estimate import Measured
from finetune.cost.gpus import gpu_named
from finetune.cost.quote import GPU, Figures, quote
from finetune.cost.summary import in_words
from finetune.progress import Progress
from finetune.recipe import Recipe, check_method, read_recipe, recipe_of, recipe_path
from finetune.rows.cache import examples
from finetune.rows.dataset import run_folder
from finetune.rows.examples import Examples
from finetune.rows.held_out import counts, split
from finetune.rows.template import recipe_tokenizer
from finetune.run import Run
from finetune.student import find
from harvest.commands.progress import say
from harvest.commands.run_folder import find_run
from harvest.core.errors import InputError
from harvest.report.sentences import accuracy_quote


def run(args: argparse.Namespace, overrides: Overrides) -> int:
    figures = Figures(args.params_b and args.params_b * 1e9, args.rows, args.mean_tokens)
    if is_free := args.recipe is None and bool(figures.parameters and figures.rows):
        given = {"student": "unnamed", "data": "unnamed", "output": "unused", "launch": {"gpus": 8}}
        recipe = recipe_of(given, "estimate", overrides)
    else:
        recipe = read_recipe(recipe_path(args.recipe), overrides)
    evaluating = Evaluating(
        args.eval_questions, args.eval_samples, args.eval_tokens or 0, args.eval_max_tokens or 0, args.eval_engine
    )
    choose = is_free and not any(key == "launch.strategy" for key, _ in overrides)
    rows: Examples | None = None
    lengths: list[int] | None = None
    measured: Measured | None = None
    if args.calibrate:
        if figures.parameters or args.rows or args.mean_tokens:
            raise InputError("--calibrate trains the recipe's student on its data: leave the figures out")
        gpu_named(recipe.launch.gpu or GPU)  # before the steps, not after them
        measured, rows = _calibrated(recipe)
    elif not (args.rows or args.mean_tokens):
        rows = examples(recipe, recipe_tokenizer(recipe))
    held_out: dict[str, int] | None = None
    if rows is not None:
        for line in rows.notes:
            say(f"warning: {line}")
        trained, out = split(rows, recipe.train)
        lengths, held_out = trained.lengths, counts(out)
    found = quote(recipe, figures, lengths, evaluating, measured, choose=choose).as_json()
    found["held_out"] = held_out
    found["student_accuracy"] = quoted = [] if is_free else _quoted(recipe)
    print(json.dumps(found) if args.json else "\n".join([in_words(found), *map(accuracy_quote, quoted)]))
    return 0


def _quoted(recipe: Recipe) -> list[dict[str, Any]]:
    """Returns which accuracies `curve --buy` quoted for this student and the run that its rows come from."""
    folder = run_folder(recipe.data)
    quotes = [] if folder is None else Run(*find_run(str(folder), None)).accuracy_quotes()
    return [q for q in quotes if q["student"] == recipe.student]


def _calibrated(recipe: Recipe) -> tuple[Measured, Examples]:
    """Returns (how fast this machine trains, the recipe's rows)."""
    from finetune.train.calibrate import calibrate
    from finetune.train.sft import quiet

    check_method(recipe)
    quiet()
    student = find(recipe.student)
    tokenizer = recipe_tokenizer(recipe)
    rows = examples(recipe, tokenizer)
    return calibrate(recipe, rows, tokenizer, student, Progress("calibrate")), rows
