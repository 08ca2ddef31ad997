"""`finetune job JOB.toml` collects, selects, trains and evaluates. Started again, it goes on where it stopped."""

import argparse
import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from finetune.commands.arguments import Overrides, parser
from finetune.commands.eval import checked, is_measured
from finetune.job.dry_run import foreseen_job, in_words
from finetune.job.rounds import in_rounds
from finetune.job.settings import PlannedJob, read_job
from finetune.job.stage_process import INTERRUPTED, alone, run_process
from finetune.job.stages import Stage, stages_of
from finetune.measure.asked_questions import Read, reading_once
from finetune.recipe import check_method
from finetune.rows.template import recipe_tokenizer
from finetune.run import Run
from finetune.student import find
from finetune.train.output_folder.state import check_output
from harvest.asking.planning.preparation import check_prices
from harvest.commands.progress import say
from harvest.commands.report import write_report
from harvest.core.errors import CapReached, InputError
from harvest.core.files import package_folder, runs_folder, settings_path
from harvest.store import without_passwords


def run(args: argparse.Namespace, overrides: Overrides) -> int:
    path = settings_path(args.job) if args.job else package_folder("recipes") / "jobs/demo.toml"
    if args.check:
        return check(read_job(path, overrides, train=True), reading_once())
    job = read_job(path, overrides)
    stages = stages_of(job)
    if args.dry_run:
        return _dry_run(job, stages, as_json=args.json)
    with alone(runs_folder() / job.run.name) as lock:
        return _run(job, stages, lock, as_json=args.json)


def check(job: PlannedJob, read: Read) -> int:
    """Checks what would end the job later: the run's prices and cap, and of every training and evaluation methods,
    students, outputs, questions and prompts.

    `collect` checks the run's keys and questions before its first request. Raises an InputError with a line for each
    fault.
    """
    faults: list[str] = []
    with _noted(faults, f"{job.run_source.path}: "):
        check_prices(job.run)
    made: set[str] = set()
    for training in job.trainings:
        recipe = training.recipe
        with _noted(faults, f"{training.source.path}: "):
            check_method(recipe)
        with _noted(faults, f"{training.source.path}: "):
            if recipe.student not in made:
                recipe_tokenizer(recipe)
                if training.cut is None:
                    check_output(recipe, find(recipe.student), job.run.name)
        made.add(recipe.output)
    with _noted(faults, f"{job.path}: evaluate: "):
        for stage in {s.words: s for s in stages_of(job) if s.kind == "evaluate"}.values():
            with _noted(faults, f"{job.path}: evaluate: "):
                checked(_eval_arguments(stage), read)
    if faults:
        raise InputError("\n".join(dict.fromkeys(faults)))
    return 0


@contextmanager
def _noted(faults: list[str], prefix: str) -> Iterator[None]:
    """Notes the lines of an InputError in place of raising it."""
    try:
        yield
    except InputError as e:
        faults.extend(f"{prefix}{line}" for line in str(e).splitlines())


def _eval_arguments(stage: Stage) -> argparse.Namespace:
    return parser().parse_args(stage.words[stage.words.index("eval") :])


def _dry_run(job: PlannedJob, stages: list[Stage], *, as_json: bool) -> int:
    """Prints what each stage will do and cost. Then come the faults that `check` finds; the exit code is theirs."""
    run = Run(job.run.name, job.run.store)
    report, read = run.report(), reading_once()
    found = foreseen_job(job, stages, lambda stage: report is not None and _is_done(stage, run, report, read), read)
    fault: InputError | None = None
    try:
        check(read_job(job.path, job.overrides, train=True), read)
    except InputError as e:
        fault = e
    found["faults"] = str(fault).splitlines() if fault else []
    print(json.dumps(found, ensure_ascii=False) if as_json else "\n".join(in_words(found)))
    if fault is not None:
        raise fault
    return 0


def _run(job: PlannedJob, stages: list[Stage], lock: int, *, as_json: bool) -> int:
    run, read = Run(job.run.name, job.run.store), reading_once()
    if not _is_complete(run.report()) and (code := _checked_first(job, lock, read)):
        return code
    if job.settings.rounds is None:
        code = _did_all(job, stages, run, lock, read)
    else:
        start = partial(run_process, lock=lock, shows=True)
        code = in_rounds(job, lambda planned: _did_all(job, stages_of(planned), run, lock, read), start)
    if code:
        return code
    report = write_report(run.name, run.url)
    place = runs_folder() / run.name / "report.html"
    print(json.dumps(report, ensure_ascii=False) if as_json else f"{report['headline']}\nreport: {place}")
    return 0


def _did_all(job: PlannedJob, stages: list[Stage], run: Run, lock: int, read: Read) -> int:
    """Does the stages in order, except for the report. Returns 0, or the exit code of the one that stopped."""
    for n, stage in enumerate(stages, 1):
        say(f"{n} of {len(stages)} · {stage.title} · {stage.about}")
        if stage.kind == "report":
            break
        code = _did(stage, run, lock, read)
        if code == CapReached.exit_code and stage.kind == "collect" and job.settings.at_cap == "train":
            say('the cap is reached: the job goes on with what there is (at_cap = "stop" would end it here)')
        elif code:
            return _stopped(job, n, stages, code)
    return 0


def _checked_first(job: PlannedJob, lock: int, read: Read) -> int:
    """Checks all settings and returns an exit code. It is a process of its own where it imports torch and TRL."""
    if not job.trainings:
        return check(job, read)
    say("checking the settings of all stages before anything is asked")
    return run_process(["-m", "finetune", "job", str(job.path), "--check", *job.words], lock, shows=True)


def _did(stage: Stage, run: Run, lock: int, read: Read) -> int:
    """Does one stage, unless it is done, and returns its exit code."""
    if stage.kind == "select":
        return _selected(run)
    if stage.evaluation is not None and is_measured(_eval_arguments(stage), run, read):
        say("measured already: the store has these answers of this student")
        return 0
    if stage.training is not None and stage.training.cut is not None and stage.training.cut.is_there():
        say("cut already: the folder holds these layers of this model")
        return 0
    return run_process(stage.words, lock, shows=stage.kind != "collect")


def _is_done(stage: Stage, run: Run, report: dict[str, Any], read: Read) -> bool:
    """Returns whether a stage is done, as far as that is known without its command."""
    try:
        if stage.evaluation is not None:
            return is_measured(_eval_arguments(stage), run, read)
        if stage.training is not None and stage.training.cut is None:
            check_output(stage.training.recipe, find(stage.training.recipe.student), run.name)
    except InputError:  # its student is not there yet, or its output holds another training
        return False
    if stage.training is not None and stage.training.cut is not None:
        return stage.training.cut.is_there()
    if stage.training is not None:
        output = Path(stage.training.recipe.output).resolve()
        return any(Path(t["output"]).resolve() == output for t in report["training"])
    return stage.kind == "collect" and _is_complete(report)


def _is_complete(report: dict[str, Any] | None) -> bool:
    return report is not None and report["run"]["status"] == "complete"


def _selected(run: Run) -> int:
    """Says how many traces `collect` has selected. Returns an exit code, which is not 0 when there are none."""
    report = run.report()
    selection = (report or {}).get("selection") or {}
    say(f"selected: {selection.get('selected', 0):,} traces")
    return 0 if selection.get("selected") else InputError.exit_code


def _stopped(job: PlannedJob, n: int, stages: list[Stage], code: int) -> int:
    """Says in one line which stage stopped, and what to do. Returns the exit code."""
    again = shlex.join(["python", "-m", "finetune", "job", str(job.path), *without_passwords(job.words)[0]])
    kind, what = stages[n - 1].kind, f"ended with exit code {code}"
    remedy = "mend what is said above, then "
    if code == INTERRUPTED:
        what, remedy = "stopped", ""
    elif code > 128:
        what, remedy = f"was killed by signal {code - 128}" + (" (out of memory?)" if code == 137 else ""), ""
    elif code == CapReached.exit_code:
        remedy = 'raise run.budget.usd, or take at_cap = "train"; then '
    elif kind == "select":
        remedy = "no trace is selected, so there is nothing to train on; `python -m harvest report` says why; then "
    say(f"stage {n} of {len(stages)}, {stages[n - 1].title}, {what}: {remedy}`{again}` goes on from there")
    return code
