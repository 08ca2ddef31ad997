"""`finetune tryout RUN.toml --student S` asks several teachers the same questions and says which one to buy from.

The answers are kept in the run's store, so that the run of the chosen teacher does not buy them again. Started again,
the command goes on where it stopped.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from finetune.commands.arguments import Overrides
from finetune.commands.curve_buy import bench_recipe, warn_of_overlap
from finetune.commands.score import shown
from finetune.job.stage_process import alone, run_process
from finetune.progress import Progress
from finetune.recipe import recipe_of
from finetune.rows.template import recipe_tokenizer
from finetune.run import Run, ScoredAnswer
from finetune.train.sft import quiet
from finetune.tryout.cells import Bench, Cell, equal_tokens
from finetune.tryout.comparison import WORDS, Compared, Comparison, Trained, TriedAnswer, as_json, compare
from finetune.tryout.fit import Fit, fits_of
from finetune.tryout.scoring import score
from finetune.tryout.teachers import labels, read_settings, settings_of_one, slugs, trying_all, written
from harvest.commands.collect import refuse_terms
from harvest.commands.estimate import ask_pilot
from harvest.commands.progress import say
from harvest.commands.report import write_report
from harvest.core.clock import now
from harvest.core.errors import CapReached, InputError
from harvest.core.files import runs_folder, settings_path
from harvest.core.intervals import paired_gain
from harvest.core.money import PICO
from harvest.core.printable import table
from harvest.core.settings import file_of, folder_of
from harvest.report.headline import dollars
from harvest.store import Store


def run(args: argparse.Namespace, overrides: Overrides) -> int:
    path = settings_path(args.run)
    of_recipe = [o for o in overrides if o[0] == "student" or o[0].startswith("render.")]
    own = [o for o in overrides if o not in of_recipe] + ([("store", args.store)] if args.store else [])
    if "student" not in dict(of_recipe):
        args.command_parser.error("the following arguments are required: --student")
    data, config = read_settings(path, own)
    trying = trying_all(data)
    refuse_terms(trying)
    recipe = recipe_of({"data": trying.name, "output": "unused"}, "tryout", of_recipe)
    recipe_tokenizer(recipe)  # a student that is not there is found before money is spent
    base = bench_recipe(args, of_recipe) if args.train else None
    with Store.open(trying.store, say=say) as store:
        _, drawn, ending = ask_pilot(trying, folder_of(path), store, pilot=args.pilot, skip_bad_rows=args.skip_bad_rows)
    if ending.exit_code not in (0, CapReached.exit_code):
        say(f"error: {ending.words or 'the asking stopped'}")
        return ending.exit_code
    of_run = Run(trying.name, trying.store)
    quiet()
    scoring_id, _ = score(of_run, recipe, "accepted", Progress("score"))
    scores = {a.attempt_id: a for a in of_run.scored_answers(scoring_id) if a.accepted}
    tried = [
        TriedAnswer(
            b.question_id, b.attempt.teacher, bool(b.attempt.accepted), None if b.unpriced else b.cost,
            *((scored.score.means, scored.score.tokens) if (scored := scores.get(b.attempt.id)) else (None, 0)),
        )
        for b in of_run.bought(drawn)
    ]  # fmt: skip
    if not tried:
        raise InputError(f"run {trying.name}: no question has ended, so there is nothing to compare")
    found = compare(tried, len(config.teachers))
    if base is not None:
        warn_of_overlap(of_run, args.eval)
        with alone(runs_folder() / trying.name) as lock:
            bench = Bench(of_run, base, args.eval, partial(run_process, lock=lock, shows=True), args.eval_max_tokens)
            trained = _trained(bench, scores.values(), found, labels(config))
        if isinstance(trained, int):
            say("error: a training or its evaluation ended early; the same command goes on with it")
            return trained
        found = compare(tried, len(config.teachers), trained)
    fits = fits_of(scores.values())
    names = labels(config)
    why = _why(found, names, recipe.student, len({t.question for t in tried}))
    place = None
    if found.chosen is not None:
        left = _left(of_run, trying.budget.cap_usd)
        name = f"{config.name}-{slugs(config)[found.chosen]}"
        said = [f"{now()[:10]}, by `finetune tryout {path.name} --student {recipe.student}`.", *why]
        place = written(file_of(path).parent, name, said, settings_of_one(data, found.chosen, name, left))
    write_report(of_run.name, of_run.url)
    if args.json:
        print(json.dumps(_object(of_run, recipe.student, found, fits, names, why, place), ensure_ascii=False))
    else:
        print("\n".join(in_words(found, fits, names, why)))
        if place is not None:
            print(f"\nwritten: {place}; next: python -m harvest collect {place}")
    if ending.exit_code:
        say(f"stopped: {ending.words}; the table is of what came before that")
    return ending.exit_code


def _trained(
    bench: Bench, answers: Iterable[ScoredAnswer], found: Comparison, names: Sequence[str]
) -> dict[int, Trained] | int:
    """Returns what a training on each teacher's traces brought, all with about as many tokens; else an exit code.

    A teacher whose first trace alone is longer than that, or whose gain has no interval, is left out, and that is said.
    """
    traces: dict[int, list[tuple[int, int]]] = {}
    tokens = {a.attempt_id: a.score.tokens for a in answers if a.score.tokens}
    for a in answers:
        if a.attempt_id in tokens:
            traces.setdefault(a.teacher, []).append((a.attempt_id, tokens[a.attempt_id]))
    before = bench.result(Cell())
    if isinstance(before, int):
        return before
    trained = {}
    equal = equal_tokens(traces)
    for teacher in sorted(traces.keys() - equal.keys()):
        say(f"{names[teacher]} is not trained on: its first trace is longer than all traces of another teacher")
    for teacher, attempts in equal.items():
        say(f"training on {len(attempts):,} traces of {names[teacher]}")
        cell = Cell(tuple(attempts), bench.recipe.train.epochs, bench.recipe.train.seed)
        after = bench.result(cell)
        if isinstance(after, int):
            return after
        points, low, high = paired_gain(before.right, after.right)
        usd = found.teachers[teacher].usd_a_trace
        if points is not None and low is not None and high is not None:
            trained[teacher] = Trained(
                len(attempts), sum(tokens[a] for a in attempts), usd and usd[0] * len(attempts), (points, low, high)
            )
        else:
            say(f"{names[teacher]} has no interval: too few held-out questions")
    return trained


def _left(run: Run, cap_usd: Decimal | None) -> Decimal | None:
    """Returns what the cap has left after the tryout; None: there is no cap."""
    if cap_usd is None:
        return None
    money = run.money()
    left = cap_usd - Decimal(money.spent + money.in_doubt + money.reserved) / PICO
    if left <= 0:
        raise CapReached(f"the tryout has spent the whole cap of {cap_usd} USD: raise budget.usd to buy traces")
    return left


def _why(found: Comparison, names: Sequence[str], student: str, questions: int) -> list[str]:
    """Returns why a teacher was chosen, in sentences."""
    if found.chosen is None:
        return [f"No teacher gave a trace that {student} can be trained on, so none is chosen."]
    first, chosen = names[found.first or 0], names[found.chosen]
    asked = f"Of {len(names)} teachers asked the same {questions:,} questions, {first} comes first for {student}"
    said = [f"{asked}, ordered by {WORDS[found.by]}."]
    share = "" if found.sure is None else f" ({100 * found.sure:.0f}% of the draws)"
    if found.is_certain:
        measure = "" if found.sure is None else " Whether the order by RSR is that of real gains, --train tells."
        return [*said, f"That it comes first by this measure is certain to 95%{share}.{measure}"]
    others = ", ".join(names[t] for t in found.contenders if names[t] != first)
    if found.is_short:
        own = found.teachers[found.first or 0].tokens
        most = max(t.tokens or 0 for t in found.teachers)
        said.append(
            f"But its traces have {own:,} tokens, and another teacher's {most:,}. Short answers have a low RSR"
            " whatever they teach, so that nobody can tell (--train does)."
        )
    else:
        more = "questions (--pilot)" if found.sure is not None else "held-out questions, or more traces (--pilot),"
        said.append(f"Nobody can tell whether that is so{share}: it may be {others} too. More {more} tell more.")
    return [
        *said,
        f"Of those, {chosen} is chosen: a trace of it costs least, and where none costs anything it has the most"
        " accepted answers.",
    ]


def in_words(found: Comparison, fits: Mapping[int, Fit], names: Sequence[str], why: Sequence[str]) -> list[str]:
    """Returns the lines that are printed."""
    heads = ("teacher", "asked", "accepted", "$ a trace", "tokens", "surprisal", "RSR", "place", "points", "points a $")
    rows = [_row(t, fits.get(t.teacher), names[t.teacher]) for t in found.teachers]
    notes = [
        "Tokens: the median of a trace, as the student counts them. RSR: rank over surprisal, the lower the better.",
        f"Place: by {WORDS[found.place_by]}, with a 90% interval. The others are of 95%.",
    ]
    if trained := [t.trained for t in found.teachers if t.trained is not None]:
        traces = ", ".join(f"{t.traces:,} traces of {t.tokens:,} tokens" for t in trained)
        notes.append(f"Points: gained on the held-out questions by trainings at equal tokens ({traces}), one seed.")
    else:
        notes.append("Points are unknown: nothing was trained (--train does), and RSR gives an order alone.")
    return [*table(heads, rows), "", *notes, "", *why]


def _row(t: Compared, fit: Fit | None, name: str) -> tuple[str, ...]:
    share, low, high = t.share
    accepted = "none asked" if share is None else f"{share:.0%} ({low:.0%} to {high:.0%})"
    usd = "unknown"
    if t.usd_a_trace is not None:
        mid, cheap, dear = (dollars(f"{x:.12f}") for x in t.usd_a_trace)
        usd = mid if mid == cheap == dear else f"{mid} ({cheap} to {dear})"
    place = "unknown" if t.rank is None else f"{t.rank[0]} ({t.rank[1]} to {t.rank[2]})"
    gained = "unknown" if t.trained is None else "{:+.1f} ({:+.1f} to {:+.1f})".format(*t.trained.points)
    a_dollar = "unknown" if (p := t.points_per_usd) is None else f"{p[0]:+.2f} ({p[1]:+.2f} to {p[2]:+.2f})"
    tokens = "unknown" if fit is None or fit.tokens is None else f"{fit.tokens:,}"
    surprisal, rsr = ("unknown", "unknown") if fit is None else (shown(fit.surprisal, 3), shown(fit.rsr, 2))
    return name, f"{t.asked:,}", accepted, usd, tokens, surprisal, rsr, place, gained, a_dollar


def _object(
    run: Run, student: str, found: Comparison, fits: Mapping[int, Fit], names: Sequence[str], why: Sequence[str],
    place: Path | None,
) -> dict[str, Any]:  # fmt: skip
    fit_of = {t.teacher: fits[t.teacher].as_json() if t.teacher in fits else None for t in found.teachers}
    return {
        "run": run.name,
        "student": student,
        "teachers": [{"teacher": names[t.teacher], **as_json(t), "fit": fit_of[t.teacher]} for t in found.teachers],
        "ordered_by": found.by,
        "chosen": None if found.chosen is None else names[found.chosen],
        "first": None if found.first is None else names[found.first],
        "certain": found.is_certain,
        "first_in_share_of_draws": found.sure,
        "why": list(why),
        "written": None if place is None else str(place),
    }
