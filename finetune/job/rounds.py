"""A job in rounds. Each round buys questions that the student before it got wrong, trains anew on all traces, and is
measured. All rounds are one run with one cap.

A round is the same job with other questions and outputs. Its questions lie in the run's folder, those of the rounds
before it among them, and are chosen once. A round that has been measured is in the store and is not done again.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from finetune.job.settings import PlannedEvaluation, PlannedJob, Rounds, read_job
from finetune.job.stages import looking
from finetune.measure.details import read_details
from finetune.run import Run
from finetune.student import find, identity
from harvest.checks import ROW_RULES
from harvest.commands.progress import say
from harvest.core.errors import ConfigError, InputError, StoreUnusable
from harvest.core.files import runs_folder, write_whole
from harvest.core.money import PICO, pusd, usd
from harvest.core.nouns import Question, content_hash
from harvest.questions.sources import read_questions, read_rows
from harvest.report.evaluations import by_question, compared, evaluation_entry
from harvest.report.sentences import round_in_words

Start = Callable[[Sequence[str]], int]
"""Runs `python WORDS…` and returns its exit code."""


def in_rounds(job: PlannedJob, do: Callable[[PlannedJob], int], start: Start) -> int:
    """Does rounds until one does not pay, nothing is left to buy, the cap is reached, or there have been enough.

    `do` does the stages of one round's job, without the report. Returns 0, or the exit code of a stage that failed.
    Raises ConfigError when a round that is done had other settings.
    """
    rounds, run = job.settings.rounds, Run(job.run.name, job.run.store)
    assert rounds is not None
    done, pool = run.rounds(), _pool(job)
    for number in range(1, rounds.most + 1):
        if number > len(done):
            code = _questions_chosen(job, number, pool, start)
            if code is None:
                say(f"the rounds end: the student of round {number - 1} is right on every question that it was asked")
                break
            if code or (code := do(round_of(job, number))):
                return code
            done.append(_measured(job, number, done, run))
            run.put_round(done[-1])
        elif done[number - 1]["of"] != _settings(job):
            raise ConfigError(f"{job.path}: round {number} is done, and was another job: give the run another name")
        say(round_in_words(done[number - 1]))
        why = _end(rounds, number, done[number - 1])
        if why is None and number == len(done):
            why = _nothing_to_buy(job, number, pool, run)
        if why is not None:
            say(f"the rounds end: {why}")
            break
    return 0


def round_of(job: PlannedJob, number: int) -> PlannedJob:
    """Returns the job of one round: over its questions, with students of its own.

    Raises ConfigError when a training names the student of another one, which is that of no round.
    """
    over = [("run.questions", json.dumps([str(_file(job, number))]))]
    over += [(f"train.{n}.recipe.output", f"{t.recipe.output}-round-{number}") for n, t in enumerate(job.trainings)]
    planned = read_job(job.path, [*job.overrides, *over])
    made = {t.recipe.output for t in job.trainings}
    if named := next((t.recipe.student for t in planned.trainings if t.recipe.student in made), None):
        raise ConfigError(f"{job.path}: student {named!r}: each round trains its own: leave `student` out there")
    return planned


def _settings(job: PlannedJob) -> str:
    """Returns a digest of what decides a round's result, beside the run."""
    measured = measured_by(job)
    recipes = [t.recipe.model_dump(mode="json", exclude={"data"}) for t in job.trainings]
    asked = [measured.source, measured.settings.model_dump(mode="json", exclude={"questions", "who"})]
    assert job.settings.rounds is not None
    rounds = job.settings.rounds.model_dump(mode="json", exclude={"most", "least_points_per_usd"})
    return content_hash({"recipes": recipes, "asked": asked, "rounds": rounds})


def measured_by(job: PlannedJob) -> PlannedEvaluation:
    """Returns the evaluation by which rounds are compared: the first one that asks the student after the training."""
    return next(e for e in job.evaluations if {"after", "each"} & set(e.settings.who))


# ---- the questions of a round


def _file(job: PlannedJob, number: int) -> Path:
    return (runs_folder() / job.run.name / "rounds" / f"round-{number}.jsonl").absolute()


def _pool(job: PlannedJob) -> list[Question]:
    """Returns the questions of the run, from which the rounds choose, in an order drawn by the seed."""
    assert job.settings.rounds is not None
    skip: Callable[[str], None] | None = (lambda _: None) if job.settings.skip_bad_rows else None
    rows = read_rows(job.run.questions, job.folder, ROW_RULES, skip_bad_rows=skip, columns=job.run.questions_columns)
    found = [question for _, question in rows]
    random.Random(job.settings.rounds.seed).shuffle(found)
    return found


def _questions_chosen(job: PlannedJob, number: int, pool: Sequence[Question], start: Start) -> int | None:
    """Writes the questions of a round, unless they are there. Returns the exit code of the command that asks the
    student; None when it failed none of them."""
    rounds, file = job.settings.rounds, _file(job, number)
    assert rounds is not None
    if file.is_file():
        return 0
    before = [] if number == 1 else list(read_questions(str(_file(job, number - 1)), Path(), ROW_RULES))
    there = {q.id for q in before}
    left = [q for q in pool if q.id not in there]
    if number == 1 or rounds.choose == "random":
        new = left[: rounds.questions]
    else:
        new = left[: rounds.looked_at or 3 * rounds.questions]
        student = round_of(job, number - 1).trainings[-1].recipe.output
        candidates, answers = (file.with_name(f"round-{number}-{name}.jsonl") for name in ("candidates", "answers"))
        _write(candidates, new)
        say(f"round {number} · look · {student} answers {len(new):,} questions, to buy those that it gets wrong")
        if code := start(looking(job, measured_by(job).settings, student, candidates, answers, rounds.samples)):
            return code
        right = by_question(read_details(answers))
        failed = sorted((q for q in new if right[q.id] < 1), key=lambda q: right[q.id])
        new = failed[: rounds.questions]
    if not new:
        return None
    _write(file, [*before, *new])
    return 0


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def _write(path: Path, questions: Sequence[Question]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, "".join(q.model_dump_json(exclude_none=True) + "\n" for q in questions))
    except OSError as e:
        raise InputError(f"{path}: cannot be written: {e.strerror}") from None


# ---- what a round brought


def _measured(job: PlannedJob, number: int, before: Sequence[Mapping[str, Any]], run: Run) -> dict[str, Any]:
    """Returns the report's entry of a round: what it bought, its cost, its student's accuracy, and what that gained
    over the student before it."""
    planned, report = round_of(job, number), _report(run)
    student = planned.trainings[-1].recipe.output
    last = before[-1]["student"] if before else planned.trainings[0].recipe.student
    answers = _answers(job, run, student)
    gained = compared(_answers(job, run, last), answers) or {}
    spent = None
    if not report["money"]["unpriced_calls"] and all(b["spent_usd"] is not None for b in before):
        spent = run.money().spent - sum(pusd(Decimal(b["spent_usd"])) for b in before)
    entry = evaluation_entry({"model": student, "questions": "", "samples": 1}, answers)
    points = gained.get("points")
    asked = len(_lines(_file(job, number)))
    return {
        "round": number,
        "of": _settings(job),
        "student": student,
        "questions": asked - sum(b["questions"] for b in before),
        "traces": (report.get("selection") or {}).get("selected", 0),
        "spent_usd": None if spent is None else usd(spent),
        "accuracy": {key: entry[name] for key, name in (("mid", "accuracy"), ("low", "low"), ("high", "high"))},
        "gain": {"points": points, "low": gained.get("low"), "high": gained.get("high")},
        "points_per_usd": round(points / (spent / PICO), 2) if spent and points is not None else None,
    }


def _report(run: Run) -> dict[str, Any]:
    """Returns the run's report. Raises StoreUnusable when the store cannot be used."""
    run.check()
    if (report := run.report()) is None:
        raise StoreUnusable(f"run {run.name!r}: its store cannot be read any more; the same command goes on")
    return report


def _answers(job: PlannedJob, run: Run, student: str) -> list[dict[str, Any]]:
    """Returns the newest answers of a student to the questions that compare rounds; none if it was not asked."""
    source, weights = measured_by(job).source, identity(find(student))
    asked = [e for e in run.evaluations() if e["settings"]["questions"] == source]
    alike = [e["answers"] for e in asked if e["settings"].get("engine", {}).get("weights") == weights]
    return list(alike[-1]) if alike else []


def _end(rounds: Rounds, number: int, last: Mapping[str, Any]) -> str | None:
    """Returns in words why there is no round after this one; None where there may be one."""
    points, a_dollar = last["gain"]["points"], last["points_per_usd"]
    if number > 1 and points is not None:
        if a_dollar is None and points <= 0:
            return f"round {number} brought no points"
        if a_dollar is not None and a_dollar <= rounds.least_points_per_usd:
            return (
                f"round {number} brought {a_dollar:+.2f} points a dollar, and"
                f" least_points_per_usd = {rounds.least_points_per_usd:g}"
            )
    return f"there have been {number} (rounds.most)" if number == rounds.most else None


def _nothing_to_buy(job: PlannedJob, number: int, pool: Sequence[Question], run: Run) -> str | None:
    """Returns in words why nothing can be bought after a round that is done; None where something can."""
    if len(_lines(_file(job, number))) >= len(pool):
        return "no question is left"
    report, cap, stored = _report(run), job.run.budget.cap_usd, run.money().cap
    is_capped = report["run"]["status"] == "stopped_at_cap"
    if is_capped and cap is not None and stored is not None and pusd(cap) <= stored:
        return "the cap is reached"
    return None
