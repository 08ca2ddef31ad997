"""Says what each stage of a job will do and cost, and asks nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

from finetune.cost.answering import Evaluating
from finetune.cost.hours import rounded
from finetune.cost.quote import Figures, quote
from finetune.cost.summary import shown
from finetune.job.kinds import PlannedTraining
from finetune.job.settings import Expected, PlannedEvaluation, PlannedJob
from finetune.job.stages import Stage
from finetune.measure.asked_questions import Read
from finetune.measure.benchmarks import benchmark_named
from finetune.measure.sampling import PRESETS
from finetune.run import Run
from harvest.asking.planning.foreseen import Foreseen, foreseen
from harvest.asking.planning.run import asked_about
from harvest.checks import ROW_RULES
from harvest.commands.estimate import quoted
from harvest.core.config import RunConfig
from harvest.core.errors import ConfigError, InputError, StoreUnusable
from harvest.core.money import usd
from harvest.endpoint import prompt as prompts
from harvest.endpoint import tariff_of
from harvest.questions.sources import read_rows
from harvest.report.headline import dollars
from harvest.report.prediction.quote import in_words as quote_in_words
from harvest.store import Store

BYTES_A_TOKEN = 4
PILOT = 1000
"""A quote goes by so many of the questions that have ended, drawn at random."""


@dataclass(frozen=True, slots=True)
class Traces:
    """What the trainings will learn from: how many traces, of how many tokens each; None where nobody knows."""

    rows: int | None = None
    tokens: float | None = None


def foreseen_job(
    job: PlannedJob, stages: Sequence[Stage], is_done: Callable[[Stage], bool], read: Read
) -> dict[str, Any]:
    """Returns the object that `--dry-run --json` prints: an entry for each stage, in order. `read` reads questions."""
    collecting, traces = _collecting(job)
    found = []
    for stage in stages:
        command = stage.command if job.settings.rounds is None else ""  # it would buy the whole pool at once
        entry: dict[str, Any] = {"stage": stage.title, "about": stage.about, "command": command or None}
        entry["done"] = is_done(stage)
        if stage.kind == "collect":
            entry |= collecting
        elif stage.kind == "select":
            entry["traces"] = traces.rows
        elif stage.training is not None:
            entry |= _training(job, stage.training, traces)
        elif stage.evaluation is not None:
            entry |= _evaluating(job, stage.evaluation, traces, read)
            if stage.title == "evaluate after":
                entry["accuracy_quote"] = quoted_accuracy(job, stage.evaluation)
        entry["paid_by_others"] = job.settings.expect.paid.get(stage.kind)
        found.append(entry)
    rounds = None if job.settings.rounds is None else job.settings.rounds.model_dump(mode="json")
    return {"job": str(job.path), "run": job.run.name, "rounds": rounds, "stages": found}


# ---- collect


def _collecting(job: PlannedJob) -> tuple[dict[str, Any], Traces]:
    """Returns the entry of the stage `collect`, and what it will give to train on."""
    config, expected = job.run, job.settings.expect
    cap = None if config.budget.cap_usd is None else str(config.budget.cap_usd)
    answered = _quote_of_answers(config)
    if answered is not None:
        rows = answered["accepted"]["mid"]
        return {"cap_usd": cap, "quote": answered}, Traces(_selected(config, rows), answered["pilot"]["tokens_a_trace"])
    most = _most(job)
    entry: dict[str, Any] = {
        "questions": most.questions,
        "answers_at_most": most.answers,
        "usd_at_most": None if most.pusd is None else usd(most.pusd),
        "cap_usd": cap,
        "likely": _likely(config, expected, most),
    }
    per_question = min(config.sampling.stop_after_accepted, config.sampling.samples * expected.accepted)
    rows = expected.traces or _selected(config, round(most.questions * per_question))
    mean = expected.output_tokens and expected.output_tokens + (expected.input_tokens or 0)
    return entry, Traces(rows, mean)


def _quote_of_answers(config: RunConfig) -> dict[str, Any] | None:
    """Returns the quote by the answers that the run has already; None when no question has ended."""
    try:
        with closing(Store.open(config.store, write=False)) as store:
            run_id = store.run_id(config.name)
            found = quoted(config, run_id, store, store.drawn_questions(run_id, PILOT, config.name))
    except StoreUnusable:
        return None
    return found if found["pilot"]["questions"] else None


def _most(job: PlannedJob) -> Foreseen:
    """Returns what the run takes at most. Reads its questions, unless [expect] says how many there are."""
    config, expected = job.run, job.settings.expect
    prompt = prompts.load(config.prompt, job.folder)
    if expected.questions is None:
        skip = (lambda _: None) if job.settings.skip_bad_rows else None
        without, columns = config.checks.without_gold, config.questions_columns
        rows = read_rows(
            config.questions, job.folder, ROW_RULES, skip_bad_rows=skip, without_gold=without, columns=columns
        )
        rounds = job.settings.rounds
        most = None if rounds is None else rounds.most * rounds.questions
        return foreseen(config, prompt, islice((question for _, question in rows), most))
    answers = expected.questions * config.sampling.samples * max(1, len(config.teachers))
    return Foreseen(expected.questions, answers, None)


def _likely(config: RunConfig, expected: Expected, most: Foreseen) -> dict[str, Any] | None:
    """Returns what is likely by [expect]; None when that says nothing of an answer's length."""
    if expected.output_tokens is None:
        return None
    a_question = min(config.sampling.samples, config.sampling.stop_after_accepted / expected.accepted)
    answers = round(most.questions * a_question)
    tokens_in, cost = expected.input_tokens or 0, None
    if (tariff := tariff_of(config)) is not None:
        price = tariff.at(datetime.now(UTC), tokens_in)
        each = (price.input * tokens_in + price.output * expected.output_tokens) / 1_000_000
        cost = f"{Decimal(answers) * each:.2f}"
    rewriting = _rewriting(config, expected, answers)
    return {"answers": answers, "usd": cost, "output_tokens": answers * expected.output_tokens, "rewriting": rewriting}


def _rewriting(config: RunConfig, expected: Expected, answers: int) -> dict[str, Any] | None:
    """Returns what the rewriting model is likely to be asked, by [expect]; None when the run has none."""
    if (one := asked_about(config).get("rewriter")) is None:
        return None
    each, cost = expected.rewritten_tokens or expected.output_tokens or 0, None
    texts = round(answers * expected.rewritten)
    if (tariff := tariff_of(one)) is not None:
        price = tariff.at(datetime.now(UTC), each)
        cost = f"{texts * each * (price.input + price.output) / 1_000_000:.2f}"
    return {"texts": texts, "usd": cost, "output_tokens": texts * each}


def _selected(config: RunConfig, accepted: int) -> int:
    """Returns how many of so many accepted traces are selected at most."""
    return accepted if config.select.traces is None else min(accepted, config.select.traces)


# ---- train and evaluate


def _training(job: PlannedJob, training: PlannedTraining, traces: Traces) -> dict[str, Any]:
    """Returns what `finetune estimate` says of a training, or why nobody knows."""
    if training.cut is not None:
        return {"layers": training.cut.layers}
    if training.command == "prefer":
        return {"rows": None, "estimate": None, "unknown": "`prefer --dry-run` counts the pairs once there are answers"}
    if traces.rows is None or traces.tokens is None:
        return {"rows": traces.rows, "estimate": None, "unknown": "there are no answers yet ([expect] output_tokens)"}
    try:
        return {"rows": traces.rows, "estimate": _estimated(job, training, traces)}
    except ConfigError as e:
        return {"rows": traces.rows, "estimate": None, "unknown": str(e)}


def _evaluating(job: PlannedJob, planned: PlannedEvaluation, traces: Traces, read: Read) -> dict[str, Any]:
    """Returns how much one evaluation asks, and the GPU-hours of a student that answers; None where nobody knows."""
    e, benchmark = planned.settings, benchmark_named(planned.source)
    preset = PRESETS[e.preset or (benchmark.preset if benchmark else "greedy")].settings
    most = e.max_tokens or int(preset.get("max_tokens", 1024))
    samples = e.samples or (benchmark.samples if benchmark else 1)
    entry: dict[str, Any] = {"questions": None, "samples": samples, "max_tokens": most, "gpu_hours": None}
    with suppress(InputError):  # `check` says it
        entry["questions"] = len(read(planned.source, e.limit, e.questions_columns or {}))
        if job.trainings:
            evaluating = Evaluating(entry["questions"], samples, min(most, traces.tokens or most), most)
            found = _estimated(job, job.trainings[0], Traces(traces.rows or 1, traces.tokens or most), evaluating)
            entry["gpu_hours"] = rounded(found["evaluation"]["gpu_hours"] / 2)  # of before and after
            entry["gpu"] = found["gpu"]
    return entry


def quoted_accuracy(job: PlannedJob, planned: PlannedEvaluation) -> dict[str, Any] | None:
    """Returns which accuracy `finetune curve --buy` quoted for this student and these questions; None: nothing."""
    students = {t.recipe.student for t in job.trainings}
    quotes = Run(job.run.name, job.run.store).accuracy_quotes()
    return next((q for q in quotes if q["student"] in students and q["questions"] == planned.source), None)


def _estimated(
    job: PlannedJob, training: PlannedTraining, traces: Traces, evaluating: Evaluating | None = None
) -> dict[str, Any]:
    parameters = job.settings.expect.parameters_b
    figures = Figures(parameters and parameters * 1e9, max(1, traces.rows or 1), traces.tokens)
    made = {t.recipe.output: t.recipe.student for t in job.trainings}
    student = training.recipe.student
    while student in made and made[student] != student:
        student = made[student]  # of the same size, and there already
    return quote(training.recipe.model_copy(update={"student": student}), figures, None, evaluating).as_json()


# ---- words


def in_words(found: Mapping[str, Any]) -> Iterator[str]:
    """Yields the lines that --dry-run prints."""
    stages, said = found["stages"], set()
    if (rounds := found["rounds"]) is not None:
        yield (
            f"at most {rounds['most']} rounds of {rounds['questions']:,} questions; each round does all stages; the"
            " figures below are those of all rounds together"
        )
    for n, entry in enumerate(stages, 1):
        yield f"{n} of {len(stages)} · {entry['stage']} · {entry['about']}"
        for line in _lines(entry):
            yield f"    {line}"
        if (paid := entry["paid_by_others"]) and paid not in said:  # an evaluation has several stages
            said.add(paid)
            yield f"    others: {paid}"
        if entry["command"]:
            yield f"    {entry['command']}"


def _lines(entry: Mapping[str, Any]) -> Iterator[str]:
    if entry["done"]:
        yield "done already: nothing is asked or trained again"
    elif "quote" in entry:
        yield from list(quote_in_words(entry["quote"]))[1:]
    elif "answers_at_most" in entry:
        yield from _most_in_words(entry)
    elif "traces" in entry and entry["traces"] is not None:
        yield f"about {entry['traces']:,} traces"
    elif "estimate" in entry:
        yield _training_in_words(entry)
    elif "max_tokens" in entry:
        n = "an unknown number of" if entry["questions"] is None else f"{entry['questions']:,}"
        each = "" if entry["samples"] == 1 else f" × {entry['samples']} answers"
        hours = "" if entry["gpu_hours"] is None else f": {shown(entry['gpu_hours'])} GPU-hours on an {entry['gpu']}"
        yield f"{n} questions{each}, {entry['max_tokens']:,} tokens at most{hours}"
        if (quoted := entry.get("accuracy_quote")) is not None:
            a = quoted["accuracy"]
            yield (
                f"quoted: {a['mid']:.1%} right (90%: {a['low']:.1%} to {a['high']:.1%}), by {quoted['trainings']} short"
                f" trainings of `curve --buy` on {quoted['quoted_at']}"
            )


def _most_in_words(entry: Mapping[str, Any]) -> Iterator[str]:
    cap = "no cap" if entry["cap_usd"] is None else f"the cap is {dollars(entry['cap_usd'])}"
    likely = entry["likely"]
    most = " for a price that nobody knows" if entry["usd_at_most"] is None else f" for {dollars(entry['usd_at_most'])}"
    if entry["usd_at_most"] is None and likely and likely["usd"]:
        most = ""  # the price is known, and the questions were not read: [expect] has their number
    yield f"{entry['questions']:,} questions, at most {entry['answers_at_most']:,} answers{most}; {cap}"
    if likely is None:
        yield (
            "likely: nobody knows before there are answers; `python -m harvest estimate JOB.toml#run` asks a few,"
            " or write output_tokens in [expect]"
        )
    else:
        cost = "a price that nobody knows" if likely["usd"] is None else dollars(likely["usd"])
        yield f"likely: {likely['answers']:,} answers of {likely['output_tokens']:,} tokens in all, for {cost}"
        if (again := likely["rewriting"]) is not None:
            cost = "a price that nobody knows" if again["usd"] is None else dollars(again["usd"])
            texts = f"{again['texts']:,} texts of {again['output_tokens']:,} tokens"
            yield f"rewritten by a model: likely {texts}, for {cost}"


def _training_in_words(entry: Mapping[str, Any]) -> str:
    rows = "" if entry["rows"] is None else f"{entry['rows']:,} rows; "
    if (e := entry["estimate"]) is None:
        return f"{rows}hours and money are not known: {entry['unknown']}"
    hours, cost = e["gpu_hours"], "price unknown" if e["cost_usd"] is None else dollars(e["cost_usd"])
    span = f"{shown(hours['mid'])} GPU-hours ({shown(hours['low'])} to {shown(hours['high'])})"
    fit = "fits" if e["fits"] else "does not fit"
    return f"{rows}{e['tokens']:,} tokens: {span} on {e['gpus']} × {e['gpu']}, {cost}; memory {fit}"
