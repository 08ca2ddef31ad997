"""`finetune prefer RECIPE.toml` makes preference pairs of a run's answers and trains the student on them."""

import argparse
import json
import os
from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

from finetune.commands.arguments import Overrides
from finetune.commands.sft import begin, finish, train
from finetune.cost import summary
from finetune.cost.quote import Figures, quote
from finetune.progress import Progress
from finetune.recipe import Recipe, recipe_of, recipe_path
from finetune.rows.dataset import run_folder
from finetune.rows.examples import Examples
from finetune.rows.held_out import counts, split
from finetune.rows.template import Tokenizer, recipe_tokenizer
from finetune.student import adapter_base, find
from finetune.train.merge import merge
from finetune.train.preference.attempts import Pairs, kinds_of, preference_pairs
from finetune.train.preference.pairs import counted
from finetune.train.preference.simpo import PreferenceTrainer
from finetune.train.sft import check
from harvest.core.errors import ConfigError
from harvest.core.settings import read_toml


def run(args: argparse.Namespace, overrides: Overrides) -> int:
    recipe = recipe_of({"prefer": {}, **read_toml(recipe_path(args.recipe))}, args.recipe, overrides, train=True)
    if recipe.launch.strategy == "fsdp2-cp":
        raise ConfigError('launch.strategy: "fsdp2-cp" splits the rows of a pair over processes: take another one')
    of_run = begin(recipe, args)
    recipe = _merged(recipe, args)
    source = of_run if run_folder(recipe.data) is not None else None
    if args.dry_run:
        found = _checked(recipe, preference_pairs(recipe, source, recipe_tokenizer(recipe)))
        print(json.dumps(found, ensure_ascii=False) if args.json else in_words(found))
        return 0

    def rows_of(recipe: Recipe, tokenizer: Tokenizer) -> Examples:
        found = preference_pairs(recipe, source, tokenizer)
        Progress("prefer").say(_pairs_in_words(found.counts()))
        return found.examples

    finish(recipe, args, of_run, train(recipe, of_run, PreferenceTrainer, rows_of))
    return 0


def _merged(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    """Returns the recipe over whole weights: an adapter is merged into its model first, beside its own folder.

    Raises ConfigError where several processes train and the adapter is not merged yet: they would read half a folder.
    """
    folder = Path(recipe.student)
    if not folder.is_dir() or adapter_base(folder) is None:
        return recipe
    to = folder.with_name(f"{folder.name}-merged")
    if args.dry_run and not to.is_dir():
        return recipe
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        Progress("prefer").say(f"{folder}: an adapter, trained further as {merge(folder, to)}")
    elif not to.is_dir():
        raise ConfigError(f"student {recipe.student!r}: an adapter: `python -m finetune merge {folder}` first")
    return recipe.model_copy(update={"student": str(to)})


def _checked(recipe: Recipe, pairs: Pairs) -> dict[str, Any]:
    """Returns what --dry-run says: the pairs by kind, their tokens, and the arguments of the trainer."""
    trained, held_out = split(pairs.examples, recipe.train)
    student, progress = find(recipe.student), Progress("prefer")
    figures = counts(held_out)
    return {
        "data": recipe.data,
        "student": recipe.student,
        **pairs.counts(),
        "trained": {**counted(kinds_of(trained)), **trained.summary()},
        "held_out": None if figures is None else {**counted(kinds_of(held_out)), **figures},
        "steps": ceil(ceil(len(trained) / recipe.train.traces_per_step) * recipe.train.epochs),
        "notes": list(pairs.examples.notes),
        "estimate": quote(recipe, Figures(), trained.lengths).as_json() if recipe.launch.gpu else None,
        "resolved": check(recipe, pairs.examples, student, progress),
    }


def in_words(found: Mapping[str, Any]) -> str:
    """Returns what --dry-run found, as text."""
    trained, held_out = found["trained"], found["held_out"]
    lines = [
        f"{found['data']} for {found['student']}",
        _pairs_in_words(found),
        f"{trained['rows']:,} pairs are trained, {trained['tokens']:,} tokens, in {found['steps']:,} steps"
        + (f"; {held_out['rows']:,} are held out" if held_out else ""),
        *(f"warning: {note}" for note in found["notes"]),
    ]
    return "\n".join(lines + ([summary.in_words(found["estimate"])] if found["estimate"] else []))


def _pairs_in_words(found: Mapping[str, Any]) -> str:
    answers, pairs, tokens = found["answers"], found["pairs"], found["mean_tokens"]
    unused = sum(found["unused"].values())
    left = f" ({unused:,} more are neither, or of an evaluation)" if unused else ""
    return (
        f"{answers['right']:,} right and {answers['wrong']:,} wrong answers{left} give {sum(pairs.values()):,} pairs: "
        f"{pairs['shorter']:,} of the shortest right over the longest right, {pairs['longer']:,} of a right over a "
        f"shorter wrong; {tokens['chosen']:,.0f} tokens chosen and {tokens['rejected']:,.0f} rejected on average"
    )
