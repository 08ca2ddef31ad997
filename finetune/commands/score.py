"""`finetune score RUN --student S` stores what the student's own probabilities say of each answer of a run."""

import argparse
import json

from finetune.commands.arguments import Overrides
from finetune.progress import Progress
from finetune.recipe import Recipe, recipe_of
from finetune.run import Run
from finetune.train.sft import quiet
from finetune.tryout.fit import Fit, fits_of
from finetune.tryout.scoring import score
from harvest.commands.run_folder import find_run
from harvest.core.config import teachers_of
from harvest.core.printable import one_line, table


def run(args: argparse.Namespace, overrides: Overrides) -> int:
    recipe = recipe_for(overrides, args.run_name, args)
    of_run = Run(*find_run(args.run_name, args.store))
    of_run.check()
    quiet()
    scoring_id, now = score(of_run, recipe, args.which, Progress("score"))
    answers = of_run.scored_answers(scoring_id)
    found = fits_of(a for a in answers if a.accepted or args.which == "all")
    teachers = teachers_of(of_run.stored().settings)
    names = {n: t["model"] or t["local"] or "unknown" for n, t in enumerate(teachers)}
    if args.json:
        by_teacher = [{"teacher": names.get(n, "unknown"), **fit.as_json()} for n, fit in found.items()]
        print(json.dumps({"run": of_run.name, "student": recipe.student, "scored_now": now, "teachers": by_teacher}))
    else:
        print("\n".join(in_words(recipe.student, now, {names.get(n, "unknown"): fit for n, fit in found.items()})))
    return 0


def recipe_for(overrides: Overrides, data: str, args: argparse.Namespace) -> Recipe:
    """Returns a recipe with the student and the settings of the command line. It ends the command where none is
    named."""
    if "student" not in dict(overrides):
        args.command_parser.error("the following arguments are required: --student")
    return recipe_of({"data": data, "output": "unused"}, args.command, overrides)


def in_words(student: str, now: int, found: dict[str, Fit]) -> list[str]:
    """Returns the lines that are printed: a row for each teacher. `now` is how many answers were scored this time."""
    rows = [
        (
            one_line(name, 60),
            f"{f.traces:,}",
            shown(f.surprisal, 3),
            shown(f.rank, 2),
            shown(f.rsr, 2),
            f"{f.without:,}",
        )
        for name, f in found.items()
    ]
    heads = ("teacher", "traces", "surprisal, nats a token", "rank", "RSR (lower suits better)", "without a score")
    return [f"{now:,} answers read by {student} now; those that it had read before were kept.", "", *table(heads, rows)]


def shown(interval: tuple[float | None, float | None, float | None], digits: int) -> str:
    """Returns a mean with its interval in words."""
    mean, low, high = interval
    if mean is None:
        return "unknown"
    return f"{mean:.{digits}f}" + ("" if low is None else f" ({low:.{digits}f} to {high:.{digits}f})")
