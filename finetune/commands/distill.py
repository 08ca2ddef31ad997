"""`finetune distill RECIPE.toml` trains the student on its teachers' probabilities beside their text.

With --dry-run it checks rows, teachers and settings, says how many tokens have soft targets, and scores nothing.
"""

import argparse
import os
from functools import partial

from finetune.commands.arguments import Overrides
from finetune.commands.check import checked_rows
from finetune.commands.sft import begin, finish, train
from finetune.progress import Progress
from finetune.recipe import Recipe, recipe_of, recipe_path
from finetune.rows.dataset import run_folder
from finetune.rows.template import recipe_tokenizer
from finetune.run import Run
from finetune.student import find
from finetune.train.sft import check
from finetune.train.soft_targets.targets import foretold, with_targets
from finetune.train.soft_targets.trainer import DistillTrainer, check_settings
from harvest.commands.run_folder import find_run
from harvest.core.errors import ConfigError
from harvest.core.settings import read_toml


def run(args: argparse.Namespace, overrides: Overrides) -> int:
    recipe = recipe_of({"distill": {}, **read_toml(recipe_path(args.recipe))}, args.recipe, overrides, train=True)
    if recipe.prefer is not None:
        raise ConfigError(f"{args.recipe}: [prefer] is for `python -m finetune prefer`: leave it out, or start that")
    check_settings(recipe)
    of_run, progress = begin(recipe, args), Progress("distill", mute=os.environ.get("RANK", "0") != "0")
    runs = _runs(recipe, args)
    if args.dry_run:
        student, tokenizer = find(recipe.student), recipe_tokenizer(recipe)
        checked_rows(
            recipe,
            args,
            lambda rows: {
                **check(recipe, rows, student, progress),
                "distill": foretold(rows, recipe, tokenizer, runs, progress.say),
            },
        )
    else:
        rows_of = partial(with_targets, runs=runs, say=progress.say)
        finish(recipe, args, of_run, train(recipe, of_run, DistillTrainer, rows_of))
    return 0


def _runs(recipe: Recipe, args: argparse.Namespace) -> list[Run]:
    """Returns the runs whose exports the recipe's data and its mixed data are."""
    folders = [run_folder(data) for data in (recipe.data, *(m.data for m in recipe.mix))]
    return [Run(*find_run(str(folder), args.store)) for folder in dict.fromkeys(folders) if folder is not None]
