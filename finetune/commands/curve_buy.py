"""`finetune curve RUN --buy`: a few short trainings on parts of a run say where the next dollars go."""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from finetune.commands.arguments import Overrides
from finetune.job.stage_process import alone, run_process
from finetune.measure.asked_questions import asked_questions
from finetune.progress import Progress
from finetune.recipe import Recipe, recipe_path
from finetune.run import Run
from finetune.student import find, identity
from finetune.train.sft import quiet
from finetune.tryout.buying import LEAST_POINTS, Advice, Gain, Point, advise, as_json
from finetune.tryout.cells import Bench, Cell, Result, base_recipe
from finetune.tryout.scoring import score
from finetune.tryout.subsets import Subsets, planned, subsets_of, usual
from harvest.commands.progress import say
from harvest.commands.run_folder import find_run
from harvest.core.clock import now
from harvest.core.errors import ConfigError, InputError
from harvest.core.files import runs_folder
from harvest.core.money import PICO
from harvest.core.printable import table
from harvest.core.settings import read_toml
from harvest.report.headline import dollars


def buy(args: argparse.Namespace, overrides: Overrides) -> int:
    if "student" not in dict(overrides):
        args.command_parser.error("--buy needs --student S: which student is trained")
    run, recipe = Run(*find_run(args.output, args.store)), bench_recipe(args, overrides)
    run.check()
    quiet()
    warn_of_overlap(run, args.eval)
    scoring_id, _ = score(run, recipe, "accepted", Progress("score"))
    of = subsets_of(run.scored_answers(scoring_id))
    epochs = recipe.train.epochs
    sizes, tried = usual(len(of.traces), epochs)
    sizes, tried = args.sizes or sizes, args.epochs or tried
    if max(sizes) > len(of.traces):
        raise InputError(
            f"--sizes: run {run.name} has {len(of.traces):,} questions with a trace to train on, beside"
            f" {len(of.held_out):,} that are held out for the loss"
        )
    if len(sizes) < 2 or len(of.held_out) < 1:
        raise InputError(f"run {run.name}: {len(of.traces):,} questions with a trace: too few to see what more bring")
    cells = planned(of, sizes, tried, epochs, recipe.train.seed)
    with alone(runs_folder() / run.name) as lock:
        start = partial(run_process, lock=lock, shows=True)
        bench = Bench(run, recipe, args.eval, start, args.eval_max_tokens, of.held_out)
        results: dict[Cell, Result] = {}
        for n, (cell, questions) in enumerate(cells.items(), 1):
            what = f"{len(cell.attempts):,} traces of {questions:,} questions × {cell.epochs:g} epochs"
            say(f"{n} of {len(cells)} · {what}")
            result = bench.result(cell)
            if isinstance(result, int):
                say("error: a training or its evaluation ended early; the same command goes on with it")
                return result
            results[cell] = result
    usd = args.usd_per_trace if args.usd_per_trace is not None else usd_a_trace(run)
    points = points_of(cells, results)
    bought = None if not usd else float(args.usd) / usd
    advice = advise(points, of.now(epochs), bought)
    found = {
        "run": run.name, "student": recipe.student, "usd": str(args.usd),
        "usd_per_trace": None if usd is None else f"{usd:.9f}", "traces_to_buy": bought,
        "trainings": [
            {"questions": p.questions, "traces": p.traces, "epochs": p.epochs, "accuracy": r.accuracy, "loss": r.loss,
             "ended": r.ended}
            for p, r in zip(points, results.values(), strict=True)
        ],
        **as_json(advice),
    }  # fmt: skip
    run.put_accuracy_quote({
        "student": recipe.student,
        "weights": identity(find(recipe.student)),
        "questions": args.eval,
        "accuracy": found["quote"],
        "traces": sum(map(len, of.traces)),
        "epochs": epochs,
        "trainings": len(cells),
        "quoted_at": now()[:10],
    })  # fmt: skip
    print(json.dumps(found, ensure_ascii=False) if args.json else "\n".join(in_words(found, advice, of)))
    return 0


def bench_recipe(args: argparse.Namespace, overrides: Overrides) -> Recipe:
    """Returns the settings of the short trainings. Raises ConfigError when no held-out questions are named."""
    if args.eval is None:
        raise ConfigError("--eval F: name held-out questions (a file or a built-in source) to measure trainings on")
    asked_questions(args.eval, None)  # what cannot be read is found before anything is asked or trained
    path = recipe_path(args.recipe)
    settings = {k: v for k, v in read_toml(Path(path)).items() if k not in ("data", "output")}
    return base_recipe(settings, str(path), overrides)


def warn_of_overlap(run: Run, source: str) -> None:
    """Says it where held-out questions are among those that the run has traces of."""
    questions = asked_questions(source, None)
    if trained := run.trains_on(questions):
        say(
            f"warning: {trained:,} of the {len(questions):,} questions of --eval are among those that run {run.name}"
            " has traces of: what trainings on these bring there says nothing of new questions"
        )


def usd_a_trace(run: Run) -> float | None:
    """Returns what an accepted trace of the run has cost in dollars, all that was spent included; None: unknown."""
    report = run.report()
    if report is None or report["money"]["unpriced_calls"] or not report["traces"]["accepted"]:
        return None
    money = run.money()
    return (money.spent + money.in_doubt) / PICO / float(report["traces"]["accepted"])


def points_of(cells: dict[Cell, int], results: dict[Cell, Result]) -> list[Point]:
    """Returns what each training brought, all with the held-out questions in one order."""
    asked = sorted(set.intersection(*(set(r.right) for r in results.values())))
    return [Point(cells[c], len(c.attempts), c.epochs, [r.right[q] for q in asked], r.loss) for c, r in results.items()]


def in_words(found: dict[str, Any], advice: Advice, of: Subsets) -> list[str]:
    """Returns the lines that are printed."""
    trained = [
        (f"{t['questions']:,}", f"{t['traces']:,}", f"{t['epochs']:g}", f"{t['accuracy']:.1%}",
         "unknown" if t["loss"] is None else f"{t['loss']:.3f}", f"{t['ended']:.0%}")
        for t in found["trainings"]
    ]  # fmt: skip
    heads = ("questions", "traces", "epochs", "right", "held-out loss", "answers that end")
    mid, low, high = advice.accuracy_now
    return [
        *table(heads, trained),
        "",
        f"Fitted to all {len(of.traces):,} questions: {mid:.1%} right ({low:.1%} to {high:.1%}). Trainings scatter by"
        f" {advice.scatter_points:.1f} points around the fit. All intervals are of 90%.",
        "Quoted for one training on all of it: {:.1%} right ({:.1%} to {:.1%}).".format(*advice.quote),
        "",
        _money(found),
        "",
        *table(("what for", "the training then", "points", "best in"), [_row(g) for g in advice.gains]),
        "",
        *verdict(advice),
    ]


def _money(found: dict[str, Any]) -> str:
    if found["traces_to_buy"] is None:
        price = "costs nothing here" if found["usd_per_trace"] else "has a price that nobody knows"
        return f"A trace {price}: --usd-per-trace says at which price more are compared with more epochs."
    each = dollars(found["usd_per_trace"])
    return f"The next {dollars(found['usd'])} buy {found['traces_to_buy']:,.0f} traces at {each}."


NAMES = {"questions": "more questions", "samples": "more samples a question", "epochs": "more or fewer epochs"}


def _row(g: Gain) -> Sequence[str]:
    s = g.setup
    setup = f"{s.questions:,.0f} questions × {s.per_question:.2g} traces × {s.epochs:g} epochs"
    if g.points is None:
        return NAMES[g.option], setup, f"cannot tell: {g.why_unknown}", "–"
    mid, low, high = g.points
    return NAMES[g.option], setup, f"{mid:+.1f} ({low:+.1f} to {high:+.1f})", f"{g.beats_others:.0%} of the fits"


def verdict(advice: Advice) -> list[str]:
    """Returns what to do, in sentences."""
    if advice.best is None:
        return ["Nothing can be told from these trainings."]
    name = NAMES[advice.best]
    said = [
        f"Most is likely to come from {name}." if advice.is_certain else
        f"Nobody can tell which is best; {name} come first in the fit. More held-out questions or trainings tell more."
    ]  # fmt: skip
    if advice.pays is False:
        said.append(f"None of it is likely to bring {LEAST_POINTS:g} point: stop here.")
    elif advice.pays is None:
        said.append(f"Whether it brings {LEAST_POINTS:g} point cannot be told.")
    if advice.stop_at_questions is not None:
        said.append(f"By the fit, the same money brings less than {LEAST_POINTS:g} point from"
                    f" {advice.stop_at_questions:,.0f} questions on.")  # fmt: skip
    return said
