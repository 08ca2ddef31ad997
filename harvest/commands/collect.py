"""The commands that write a run: collecting, importing, judging again; and report and export, from the store alone."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harvest.asking.hooks import Hooks
from harvest.asking.run import prepare, take_keys
from harvest.asking.session import INTERRUPTED, ask
from harvest.checks import CheckPool, gold_problems
from harvest.commands.importing import (
    Gold,
    Intake,
    check_lines,
    checks_of,
    put_imported_run,
    refuse_collected,
    settings_of,
    shelve,
    store_lines,
)
from harvest.commands.progress import asking_shown, say, steps
from harvest.core.clock import now
from harvest.core.config import RUN_NAME, Export, RunConfig, Select, runs_folder
from harvest.core.errors import InputError, StoreUnusable
from harvest.core.files import write_whole
from harvest.core.nouns import Question
from harvest.core.printable import printable
from harvest.endpoint import prompt as prompts
from harvest.export.rows import export, export_settings
from harvest.filters.required import required_by
from harvest.judging.stored import Judged, Pass, begin_pass, changes_of, end_pass, judge_stored
from harvest.questions.files import Records
from harvest.questions.sources import SHOWN_FAULTS
from harvest.report.figures import fold, markdown
from harvest.selection.sketch_pool import SketchesWhileAsking
from harvest.store.store import Store, is_being_written

if TYPE_CHECKING:
    from harvest.selection.summary import Summary


def collect(config: RunConfig, base: Path, *, skip_bad_rows: bool, as_json: bool) -> int:
    """The exit code. Raises an InputError before anything was asked; afterwards all that came is stored."""
    skipped: list[str] = []
    keys = take_keys(config)
    if config.select.against:
        from harvest.selection.decontamination import evaluations_of

        evaluations_of(config.select.against, base)  # before anything is asked, not after
    with Store.open(config.store) as store, CheckPool(unsafe_code=config.checks.unsafe_code) as judge:
        with steps("questions") as told:
            seen = 0

            def gold(page: Sequence[Question]) -> list[str | None]:
                nonlocal seen
                seen += len(page)
                told(seen, None, f"{seen:,} read, their gold answers checked")
                return gold_problems(page, judge)

            before = store.config_of(config.name)
            run = prepare(config, base, store, gold, skipped.append if skip_bad_rows else None)
        for fault in skipped[:20]:
            say(f"skipped: {fault}")
        if skipped:
            say(f"{len(skipped)} bad rows skipped")
        _say_if_otherwise(before, store.config_of(config.name))
        with SketchesWhileAsking(config.store, run.id, rejected_too=config.select.pool == "all") as sketches:
            hooks = Hooks(say, asking_shown, lambda _q, attempt, _r, said: sketches.take(attempt.id, said.accepted))
            ending = ask(run, store, judge, keys, hooks)
        if ending.words:
            say(f"{'stopped' if ending.exit_code in (3, INTERRUPTED) else 'error'}: {ending.words}")
        if ending.exit_code == StoreUnusable.exit_code:
            return ending.exit_code
        code = ending.exit_code
        try:
            _select(store, config.name)
        except InputError as e:
            say(f"error: nothing new is selected: {e}")
            code = code or e.exit_code
        try:
            report = _write_report(store, config.name, live=False)
            to, _ = _write_export(store, config.name, report)
        except OSError as e:
            say(f"error: {run.folder} cannot be written: {e.strerror}. The store has all of it: `harvest report` later")
            return code or InputError.exit_code
    print(json.dumps(report, ensure_ascii=False) if as_json else markdown(report), end="\n" if as_json else "")
    say(f"report: {run.folder / 'report.md'} · dataset: {to}")
    return code


def _say_if_otherwise(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> None:
    """Tells the user where answers that are there were judged by other filters than those that come, or chosen by
    other settings: what `select` had changed gives way to RUN.toml."""
    if before is not None and after is not None and (names := _chosen_otherwise(before, after)):
        say(f"selected by other settings than before: {', '.join(names)} as RUN.toml and this command have it")
    _say_if_required_otherwise(before, after)


def _say_if_required_otherwise(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> None:
    if before is not None and after is not None and required_by(before) != required_by(after):
        say(
            "checks.require, or a setting of what it names, has changed: answers that are there keep their verdicts"
            f" until `harvest verify {after['name']}` judges them by it"
        )


def _chosen_otherwise(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Names of the settings of selection that changed; none of a run of before there were any."""
    names = []
    for section in ("filters", "rewrite", "select"):
        old, new = before.get(section), after.get(section) or {}
        names += [f"{section}.{key}" for key in new if old is not None and old.get(key, new[key]) != new[key]]
    return names


# ---- answers paid for elsewhere, and judging again


def import_answers(
    files: Sequence[Path],
    name: str,
    url: str,
    *,
    questions: Path | None,
    skip_bad_rows: bool,
    majority: str | None = None,
    require: Sequence[str] | None = None,
    unsafe_code: bool = False,
) -> dict[str, Any]:
    """What became of the lines, with the report. Raises an InputError before anything was stored where a line is bad.

    Stopped by Ctrl-C, what was stored is kept, and the same call goes on.
    """
    if not RUN_NAME.fullmatch(name):
        raise InputError(f"--name {name!r}: letters, digits, dots, dashes and underscores alone (it names a folder)")
    sources = [Records(f) for f in files]
    with Store.open(url) as store, CheckPool(unsafe_code=unsafe_code) as judge:
        checks = checks_of(store, name, majority, require)
        settings = settings_of(name, [f.absolute() for f in files], url, Path(), checks)
        intake, judged = Intake(), Judged()
        warn, skip = _Warnings(), _Warnings("skipped: ")
        refuse_collected(store, name)
        gold = Gold(None if questions is None else str(questions), by_majority=checks.without_gold == "majority")
        if gold.file is not None:
            shelve(store, gold.file, Path(), skip if skip_bad_rows else None, checks.without_gold)
        if not skip_bad_rows:
            with steps("reading") as told:
                check_lines(store, name, sources, gold, lambda r, i: told(r.done_bytes, r.total_bytes, _of(r, i)))
        before = store.config_of(name)
        with _importing(store, settings) as run_id:
            _say_if_otherwise(before, store.config_of(name))
            with steps("storing") as told:
                store_lines(
                    store, run_id, sources, gold, intake, skip,
                    lambda r, i: told(r.done_bytes, r.total_bytes, _of(r, i)),
                )  # fmt: skip
            _judge(store, run_id, judge, judged, warn, None)
        skip.close("bad lines skipped")
        for torn in intake.torn:
            say(f"warning: {torn}; whoever writes the file has not finished it: import it again then")
        warn.close("questions whose gold answer fails its own check: their answers are not judged")
        _select(store, name)
        with _writing(runs_folder() / name):
            report = _write_report(store, name, live=False)
            to, _ = _write_export(store, name, report)
    return {"run": name, "lines": intake.as_json(), "judged": judged.judged, "dataset": str(to), "report": report}


def verify(name: str, url: str, *, again: bool, unsafe_code: bool = False) -> dict[str, Any]:
    """Judges what is stored with today's checks; what changed. Stopped anywhere, the same call goes on."""
    with Store.open(url) as store, CheckPool(unsafe_code=unsafe_code) as judge:
        run_id = store.run_id(name)
        judged, warn = Judged(), _Warnings()
        of = begin_pass(store, run_id, again=again)
        _judge(store, run_id, judge, judged, warn, of)
        said = changes_of(store, run_id, of, judged)
        warn.close("questions whose gold answer fails its own check: their answers are not judged")
        failed: InputError | None = None
        try:
            newly_selected = _select(store, name)
        except InputError as e:  # what is rejected now must leave the dataset all the same
            newly_selected, failed = False, e
        with _writing(runs_folder() / name):
            report = _write_report(store, name, live=False)
            if (said["judged"] or newly_selected) and (runs_folder() / name / "dataset").is_dir():
                _write_export(store, name, report)
        if failed is not None:
            raise failed
        end_pass(store, run_id, said)
    return {"run": name, **said}


def _judge(store: Store, run_id: int, judge: CheckPool, judged: Judged, warn: "_Warnings", of: Pass | None) -> None:
    with steps("judging") as told:
        words = "{:,} of {:,} answers".format
        judge_stored(
            store, run_id, judge, judged, warn,
            lambda: told(judged.seen, judged.total, words(judged.seen, judged.total)), of,
        )  # fmt: skip


def _select(store: Store, name: str) -> bool:
    """Selects as the run's settings say; whether anything has changed since the newest selection."""
    from harvest.selection.pipeline import select_run

    run_id = store.run_id(name)
    settings = Select.model_validate(store.config_of_id(run_id).get("select") or {})
    with steps("selecting") as told:
        return select_run(store, run_id, settings, told)[1]


def select(
    name: str, url: str, overrides: Sequence[tuple[str, str]], *, preset: str | None, dry_run: bool
) -> "tuple[Summary, bool]":
    """A pass with other settings, which the run keeps, with its report and its dataset where there is one."""
    from harvest.selection.pipeline import select_run
    from harvest.selection.settings import changed_settings

    with Store.open(url) as store:
        run_id = store.run_id(name)
        before = store.config_of_id(run_id)
        config = changed_settings(before, overrides, preset)
        with steps("selecting") as told:
            settings = Select.model_validate(config["select"])
            said, new = select_run(store, run_id, settings, told, config=config, dry_run=dry_run)
        if not dry_run:
            _say_if_required_otherwise(before, config)
            with _writing(runs_folder() / name):
                report = _write_report(store, name, live=False)
                write_whole(
                    runs_folder() / name / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n"
                )
                if (runs_folder() / name / "dataset").is_dir():
                    _write_export(store, name, report)
    return said, new


def _of(records: Records, intake: Intake) -> str:
    return f"{intake.lines:,} lines of {records.name}"


class _Warnings:
    """Lines for stderr: the first of a kind, and how many there were."""

    def __init__(self, before: str = "warning: ") -> None:
        self._before, self._n = before, 0

    def __call__(self, text: str) -> None:
        self._n += 1
        if self._n <= SHOWN_FAULTS:
            say(self._before + printable(text))

    def close(self, words: str) -> None:
        if self._n:
            say(f"{self._n} {words}")


@contextmanager
def _importing(store: Store, settings: dict[str, Any]) -> Iterator[int]:
    """An import's start in the store, and how it ended. Its folder names the store from the first line on."""
    run_id = put_imported_run(store, settings)
    folder = runs_folder() / settings["name"]
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept = json.dumps(store.config_of(settings["name"]), indent=2, ensure_ascii=False)
        write_whole(folder / "config.json", kept + "\n")
    with store.transaction():
        session_id = store.begin_session(run_id, now())
    status = "interrupted"
    try:
        yield run_id
        status = "complete"
    finally:
        with store.transaction():
            store.end_session(session_id, status, 0, "", now())


# ---- report and export, from the store alone


@contextmanager
def _reading(url: str) -> Iterator[Store]:
    with Store.open(url, write=False) as store:
        yield store


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise InputError(f"{e.filename or place}: cannot be written: {e.strerror}") from None


def write_report(name: str, url: str) -> dict[str, Any]:
    """report.json and report.md of a run, anew; the report."""
    with _reading(url) as store, _writing(runs_folder() / name):
        return _write_report(store, name, live=is_being_written(url))


def _write_report(store: Store, name: str, *, live: bool) -> dict[str, Any]:
    report = fold(store.figures(store.run_id(name)), live=live)
    folder = runs_folder() / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(folder / "report.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    write_whole(folder / "report.md", markdown(report))
    return report


def write_export(name: str, url: str, *, to: Path | None, given: Mapping[str, Any]) -> tuple[Path, int, Export]:
    """The dataset folder, how many rows it has, and how it is written: as the run's [export] says, with what is
    `given` put over it."""
    with _reading(url) as store, _writing(to or runs_folder() / name):
        report = fold(store.figures(store.run_id(name)), live=is_being_written(url))
        settings = export_settings(store.config_of(name) or {}, given)
        if settings.which == "selected" and report["selection"] and (stale := report["selection"]["stale"]):
            say(f"warning: {stale}")
        return *_write_export(store, name, report, to, settings), settings


def _write_export(
    store: Store, name: str, report: dict[str, Any], to: Path | None = None, settings: Export | None = None
) -> tuple[Path, int]:
    config = store.config_of(name) or {}
    prompt = prompts.parse(config["prompt_text"], Path(config["prompt"]).stem, "the run's prompt")
    to, settings = to or runs_folder() / name / "dataset", settings or export_settings(config, {})
    total = _rows_to_come(report, settings.which)
    with steps("export") as told:
        census = export(
            store, store.run_id(name), config, prompt, to, settings, report,
            lambda n: told(n, total, f"{n:,} of {total:,} rows"),
        )  # fmt: skip
    if census.quoting_marks:
        say(
            f"warning: {census.quoting_marks:,} of {census.rows:,} rows quote the marks around a chain in their text,"
            " and a reader may cut them there: --reasoning apart keeps chain and answer in fields of their own"
        )
    if not census.rows and settings.which == "selected" and report["traces"]["accepted"]:
        say(
            f"warning: none of {report['traces']['accepted']:,} accepted traces is selected:"
            f" `python -m harvest select {name} --dry-run` shows what takes them out"
        )
    return to, census.rows


def _rows_to_come(report: dict[str, Any], which: str) -> int:
    traces = report["traces"]
    return int(traces[which] if which != "all" else traces["accepted"] + sum(traces["rejected"].values()))
