"""`finetune check DATA STUDENT` shows any dataset as a student would read it. `sft --dry-run` makes the same checks."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from finetune.commands.arguments import Overrides
from finetune.cost.quote import Figures, quote
from finetune.recipe import Recipe, recipe_of
from finetune.rows.examples import Examples
from finetune.rows.held_out import split
from finetune.rows.preflight import in_words, preflight
from finetune.rows.template import recipe_tokenizer
from harvest.checks import ROW_RULES
from harvest.core.errors import WinnowError
from harvest.questions.sources import read_questions
from harvest.selection.decontamination import Evaluation


def run(args: argparse.Namespace, overrides: Overrides) -> int:
    given = {"student": args.student, "data": args.data, "output": "unused"}
    checked_rows(recipe_of(given, "check", overrides), args)
    return 0


def checked_rows(
    recipe: Recipe, args: argparse.Namespace, settings: Callable[[Examples], dict[str, object]] | None = None
) -> None:
    """Prints what was found about the recipe's rows. `settings` is a function that makes the training's settings from
    the rows; if it is given, its result is printed too. Raises DatasetError when a row cannot be trained, or when no
    row is left to train. If the rows have no fault, raises the WinnowError that `settings` raised.
    """
    evaluations = [
        Evaluation(f, ((q.id, q.question, q.answer) for q in read_questions(f, Path(), ROW_RULES, may_skip=False)))
        for f in args.evaluations
    ]
    found, findings, made = preflight(recipe, recipe_tokenizer(recipe), evaluations)
    lengths = split(made, recipe.train)[0].lengths
    can_quote = recipe.launch.gpu and lengths
    found["estimate"] = None
    if can_quote:
        found["estimate"] = {**quote(recipe, Figures(), lengths).as_json(), "held_out": found["held_out"]}
    fault: WinnowError | None = None
    try:
        found |= {"resolved": settings(made) if lengths else None} if settings else {}
    except WinnowError as e:  # after the rows' own faults
        found["resolved"], fault = None, e
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        Console().print(in_words(found, lengths), soft_wrap=True)
    if not recipe.skip_bad_rows:
        findings.stop(recipe.data)
    made.refuse_none(recipe.data)
    if fault is not None:
        raise fault
