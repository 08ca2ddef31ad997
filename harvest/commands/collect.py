"""`harvest collect` is the main job: it asks, checks, stores, selects, reports and exports. Started again, it goes
on."""

import importlib
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from harvest.asking.hooks import Hooks
from harvest.asking.planning.keys_and_prices import take_keys
from harvest.asking.planning.preparation import prepare
from harvest.asking.planning.public_answers import put_public_answers
from harvest.asking.planning.run import ABOUT, Run
from harvest.asking.planning.teacher_terms import refuse_unaccepted
from harvest.asking.session import ask
from harvest.asking.stopping import INTERRUPTED
from harvest.checks import CheckPool, gold_problems
from harvest.commands.export import write_dataset
from harvest.commands.foreseen_costs import start_line
from harvest.commands.progress import Warnings, asking_shown, say, steps
from harvest.commands.report import print_report, write_report_of
from harvest.commands.run_folder import begun_elsewhere
from harvest.commands.select_traces import say_if_changed, select_as_set, take_in
from harvest.commands.settle import in_doubt_words
from harvest.core.config import RunConfig, configs, section_of
from harvest.core.errors import CapReached, ConfigError, InputError, StoreUnusable
from harvest.core.nouns import STUDENT, Question
from harvest.core.settings import file_of
from harvest.report.run_report import run_report
from harvest.selection.sketch_pool import SketchesWhileAsking
from harvest.store import Store


def collect(config: RunConfig, base: Path, *, skip_bad_rows: bool, as_json: bool, file: str | None = None) -> int:
    """Collects one run and returns the exit code.

    The run's paths are relative to the folder `base`. `file` is the RUN.toml that the user named. Raises an InputError
    when something is wrong before anything was asked. Later errors are not raised: they are printed and become the exit
    code, and all that came is stored.
    """
    refuse_terms(config)
    keys = take_keys(config)
    _import_meanwhile("harvest.endpoint.openai_client")
    if config.select.against:
        from harvest.selection.decontamination import evaluations_of

        evaluations_of(
            config.select.against, base, config.select.against_columns
        )  # an evaluation that cannot be read is found before money is spent
    with ExitStack() as opened:
        store = opened.enter_context(Store.open(config.store, say=say))
        pool = opened.enter_context(CheckPool(unsafe_code=config.checks.unsafe_code))
        store.join(config.name, alone=in_batches(config))
        with store.one_at_a_time("preparing", say):
            take_in(store)
            before = store.find_run(config.name)
            run = prepared(config, base, store, pool, skip_bad_rows=skip_bad_rows)
        say_if_changed(before, store.run(config.name))
        if file is not None and (warning := begun_elsewhere(file_of(Path(file)), config.store, is_new=before is None)):
            say(f"warning: {warning}")
        if line := start_line(run, store):
            say(line)
        with SketchesWhileAsking(store.url, run.id, rejected_too=config.select.pool == "all") as sketches:
            hooks = Hooks(say, asking_shown, lambda _q, attempt, _r, said: sketches.take(attempt.id, said.accepted))
            _import_meanwhile("harvest.selection.pipeline", "harvest.report.page.templates")
            ending = ask(run, store, pool, keys, hooks)
        code = ending.exit_code
        words = [ending.words] if ending.words else []
        if code != StoreUnusable.exit_code and (doubt := in_doubt_words(store, config.name)):
            words.append(doubt)
        if ending.words:
            words[0] = f"{'stopped' if code in (CapReached.exit_code, INTERRUPTED) else 'error'}: {words[0]}"
        if words:
            say(". ".join(words))
        if code == StoreUnusable.exit_code:
            return code
        if not ending.is_last:
            say("other processes go on with this run: the last one selects, and writes report and dataset")
            print_report(run_report(store.figures(run.id), live=True), as_json=as_json)
            return code
        opened.enter_context(store.one_at_a_time("reporting", say))
        try:
            select_as_set(store, config.name)
        except InputError as e:
            say(f"error: nothing new is selected: {e}")
            code = code or e.exit_code
        try:
            report = write_report_of(store, config.name, live=False)
            dataset, _ = write_dataset(store, config.name, report)
        except OSError as e:
            say(f"error: {run.folder} cannot be written: {e.strerror}. The store has all of it: `harvest report` later")
            return code or InputError.exit_code
    print_report(report, as_json=as_json)
    say(f"report: {run.folder / 'report.html'} · dataset: {dataset}")
    return code


def _import_meanwhile(*modules: str) -> None:
    """Imports what is needed later in a thread: while files are read, or the first reply is waited for."""
    threading.Thread(target=lambda: [*map(importlib.import_module, modules)], daemon=True).start()


def in_batches(config: RunConfig) -> bool:
    """Whether a teacher is asked in batches. Such a run is collected by one process."""
    return any(one.teacher.mode == "batch" for one in configs(config).values())


def refuse_terms(config: RunConfig) -> None:
    """Raises ConfigError when the terms of a teacher or of the rewriting model forbid training. Nothing is trained on
    what the student and the judging model answer."""
    for place, one in configs(config).items():
        if place != STUDENT:
            refuse_unaccepted(one.teacher, section_of(config, place))
    if config.rewrite.model is not None:
        refuse_unaccepted(config.rewrite.model, ABOUT["rewriter"])


def prepared(config: RunConfig, base: Path, store: Store, pool: CheckPool, *, skip_bad_rows: bool) -> Run:
    """Puts the run and its questions into the store, checks their gold answers, adds what public sets answer, and
    returns the run. Raises an InputError."""
    skipped, seen = Warnings("skipped: "), 0
    with steps("questions") as step:

        def checked_gold(page: Sequence[Question]) -> list[str | None]:
            nonlocal seen
            seen += len(page)
            step(seen, None, f"{seen:,} read, their gold answers checked")
            return gold_problems(page, pool)

        run = prepare(config, base, store, checked_gold, skipped if skip_bad_rows else None, say=say)
    skipped.close("bad rows skipped")
    with steps("public sets") as step:
        put_public_answers(run, store, step, say)
    return run


def student_settings(given: str) -> list[tuple[str, str]]:
    """Returns the settings, as pairs (setting, text), that `--student` stands for.

    Raises ConfigError when `given` is a folder, because a folder must be served first.
    """
    if given.startswith(("http://", "https://")):
        return [("student.base_url", given)]
    if Path(given).is_dir():
        raise ConfigError(
            f"--student {given}: a student is asked over HTTP. Serve the folder (`python -m finetune merge {given}`"
            " prints the lines), then --student http://127.0.0.1:8000/v1 --student.model NAME"
        )
    return [("student.local", given)]
