"""`finetune estimate RECIPE.toml`: GPU-hours, memory and money before training."""

import argparse
import json

from finetune.commands.arguments import Overrides, add_recipe, count, positive, recipe_path
from finetune.cost.estimate import Measured
from finetune.cost.gpus import gpu_named
from finetune.cost.hours import Evaluating
from finetune.cost.quote import GPU, Figures, quote
from finetune.cost.summary import in_words
from finetune.progress import Progress
from finetune.recipe import Recipe, check_method, read_recipe, recipe_of
from finetune.rows.dataset import examples
from finetune.student import find, load_tokenizer
from harvest.core.errors import InputError


def add_arguments(p: argparse.ArgumentParser) -> None:
    add_recipe(p)
    p.add_argument("--params-b", type=positive, metavar="B", help="in place of the student: its weights, in billions")
    p.add_argument("--rows", type=count, metavar="N", help="in place of the data: how many rows it has,")
    p.add_argument("--mean-tokens", type=positive, metavar="T", help="and how many tokens a row has on average")
    p.add_argument("--calibrate", action="store_true", help="measure twenty real steps on this machine; keeps nothing")
    p.add_argument(
        "--eval-questions", type=count, default=500, metavar="N", help="questions asked before and after training"
    )
    p.add_argument("--eval-samples", type=count, default=1, metavar="N", help="answers to each of them")
    p.add_argument("--eval-tokens", type=positive, metavar="T", help="tokens an answer; without it: as a row has")


def run(args: argparse.Namespace, overrides: Overrides) -> int:
    figures = Figures(args.params_b and args.params_b * 1e9, args.rows, args.mean_tokens)
    if is_free := args.recipe is None and bool(figures.parameters and figures.rows):
        given = {"student": "unnamed", "data": "unnamed", "output": "unused", "launch": {"gpus": 8}}
        recipe = recipe_of(given, "estimate", overrides)
    else:
        recipe = read_recipe(recipe_path(args), overrides)
    evaluating = Evaluating(args.eval_questions, args.eval_samples, args.eval_tokens or 0)
    choose = is_free and not any(key == "launch.strategy" for key, _ in overrides)
    lengths: list[int] | None = None
    measured: Measured | None = None
    if args.calibrate:
        if figures.parameters or args.rows or args.mean_tokens:
            raise InputError("--calibrate trains the recipe's student on its data: leave the figures out")
        gpu_named(recipe.launch.gpu or GPU)  # before the steps, not after them
        measured, lengths = _calibrated(recipe)
    elif not (args.rows or args.mean_tokens):
        lengths = [len(e) for e in examples(recipe, load_tokenizer(find(recipe.student))).examples]
    found = quote(recipe, figures, lengths, evaluating, measured, choose=choose).as_json()
    print(json.dumps(found) if args.json else in_words(found))
    return 0


def _calibrated(recipe: Recipe) -> tuple[Measured, list[int]]:
    """(how fast this machine trains, the tokens of each row)."""
    from finetune.train.calibrate import calibrate
    from finetune.train.sft import quiet

    check_method(recipe)
    quiet()
    student = find(recipe.student)
    tokenizer = load_tokenizer(student)
    rows = examples(recipe, tokenizer)
    return calibrate(recipe, rows, tokenizer, student, Progress("calibrate")), list(map(len, rows.examples))
