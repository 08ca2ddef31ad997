"""One start of `collect`, from settings to report: the edge where processes, signals and files meet the loop."""

import asyncio
import gc
import json
import resource
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import uvloop

from harvest import prompt as prompts
from harvest.checks import Judge, gold_problems
from harvest.collect import Collection, Tally
from harvest.config import RUN_NAME, Export, RunConfig, runs_folder
from harvest.doctor import DROPPABLE, Diagnosis, before_asking, diagnose
from harvest.errors import (
    AttemptFailed,
    CapReached,
    InputError,
    Overbilled,
    StoreUnusable,
    TeacherRefused,
    WinnowError,
)
from harvest.export import export, export_settings
from harvest.importing import (
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
from harvest.ledger import Ledger
from harvest.pace import Pace
from harvest.price import tariff_of
from harvest.progress import line, show, steps
from harvest.questions import SHOWN_FAULTS
from harvest.records import Records
from harvest.report import fold, markdown
from harvest.run import (
    Run,
    as_judge,
    checked_tariff,
    now,
    prepare,
    put_run,
    take_judge_key,
    take_key,
    write_whole,
)
from harvest.store import Store, is_being_written
from harvest.teacher import Learned, Teacher
from harvest.trace import Question
from harvest.verify import Judged, Pass, begin_pass, changes_of, end_pass, judge_stored

INTERRUPTED = 130
GC_THRESHOLD = (20_000, 10, 20)
ROOM_FOR_PROMPT_TOKENS = 1024
LEARNED = "learned"
PACE = "pace"
SPARE_FILES = 128
"""For all that is no request: the store, the judge's processes, questions, exports."""
STATUS: dict[type[WinnowError], str] = {
    CapReached: "stopped_at_cap",
    Overbilled: "overbilled",
    TeacherRefused: "refused",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a start ended: the status in the report, the exit code, and what to tell the user."""

    status: str
    exit_code: int
    words: str | None = None
    reason: WinnowError | None = None


def say(text: str) -> None:
    """A line on stderr, where all but the result goes."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def collect(config: RunConfig, base: Path, *, skip_bad_rows: bool, as_json: bool) -> int:
    """The exit code. Raises an InputError before anything was asked; afterwards all that came is stored."""
    skipped: list[str] = []
    key = take_key(config)
    judge_key = take_judge_key(config, key)
    with Store.open(config.store) as store, Judge(unsafe_code=config.checks.unsafe_code) as judge:
        with steps("questions") as told:
            seen = 0

            def gold(page: Sequence[Question]) -> list[str | None]:
                nonlocal seen
                seen += len(page)
                told(seen, None, f"{seen:,} read, their gold answers checked")
                return gold_problems(page, judge)

            run = prepare(config, base, store, gold, skipped.append if skip_bad_rows else None)
        for fault in skipped[:20]:
            say(f"skipped: {fault}")
        if skipped:
            say(f"{len(skipped)} bad rows skipped")
        ending = start(run, store, judge, key, judge_key)
        if ending.words:
            say(f"{'stopped' if ending.exit_code in (3, INTERRUPTED) else 'error'}: {ending.words}")
        if ending.exit_code == StoreUnusable.exit_code:
            return ending.exit_code
        try:
            report = _write_report(store, config.name, live=False)
            to, _ = _write_export(store, config.name, report)
        except OSError as e:
            say(f"error: {run.folder} cannot be written: {e.strerror}. The store has all of it: `harvest report` later")
            return ending.exit_code or InputError.exit_code
    print(json.dumps(report, ensure_ascii=False) if as_json else markdown(report), end="\n" if as_json else "")
    say(f"report: {run.folder / 'report.md'} · dataset: {to}")
    return ending.exit_code


def start(run: Run, store: Store, judge: Judge, key: str | None, judge_key: str | None = None) -> Ending:
    """Asks what the run still wants, with progress, until it is done or stopped. All that came is in the store."""
    # Thousands in flight are many young objects and no garbage: the collector would walk them again and again.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    return uvloop.run(_session(run, store, judge, key, judge_key))


async def _session(run: Run, store: Store, judge: Judge, key: str | None, judge_key: str | None) -> Ending:
    ledger = Ledger(store)
    second = as_judge(run)
    try:
        session_id = await ledger.do(Store.begin_session, run.id, now())
        await ledger.do(Store.reopen, run.id)
        figures = await ledger.do(Store.counts, run.id)
        tally = Tally(figures["questions"], figures["ended"], figures["accepted"], figures["rejected"])
        tally.spent_pusd = figures["spent"]
        collection = None
        async with AsyncExitStack() as stack:
            if figures["questions"] > figures["ended"] or figures["unjudged"]:
                teacher = await stack.enter_async_context(await _teacher(run, key, stack, _unset(run.config)))
                teacher.learned = await _remembered(ledger, run.id)
                known = replace(teacher.learned)
                pace = await _pace_found(ledger, run)
                asked_after = None
                if second is not None:
                    model = await _teacher(second, judge_key, stack, frozenset({"temperature"}))
                    asked_after = second, await stack.enter_async_context(model)
                collection = Collection(run, ledger, teacher, judge, tally, pace, asked_after)
                await _watched(collection, run, tally)
                if pace.rate is not None:
                    await ledger.do(Store.add_event, run.id, PACE, {"limit": pace.limit, "rate": pace.rate}, now())
                if teacher.learned != known:
                    await ledger.do(Store.add_event, run.id, LEARNED, asdict(teacher.learned), now())
        ending = _ending(collection)
        limited_by = _limited_by(collection, run, tally)
        try:
            await ledger.do(Store.hold_unsettled, run.id, now())
            await ledger.do(Store.end_session, session_id, ending.status, tally.peak_in_flight, limited_by, now())
        except StoreUnusable:
            # The next start books what is still out; here the first cause is what the user must hear of.
            if collection is None or not isinstance(collection.reason, StoreUnusable):
                raise
        return ending
    finally:
        ledger.close()


def _unset(config: RunConfig) -> frozenset[str]:
    """Parameters that are sent by default alone, and may be left out where an endpoint refuses them."""
    return frozenset({"temperature"} - config.sampling.model_fields_set)


async def _pace_found(ledger: Ledger, run: Run) -> Pace:
    """Where the last start ended, if the endpoint limited it."""
    ceiling = connections_allowed(run.config.teacher.max_concurrency)
    found = await ledger.do(Store.events, run.id, PACE)
    return Pace(ceiling, min(ceiling, found[-1]["limit"]), found[-1]["rate"]) if found else Pace(ceiling)


def connections_allowed(wanted: int) -> int:
    """As many as were wanted, or fewer, with one line, where this process may not open so many files.

    Each request in flight is an open file, and many shells allow 1,024 of them until a program asks for more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    allowed = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    if allowed >= needed:
        return wanted
    fewer = max(1, allowed - SPARE_FILES)
    say(
        f"max_concurrency = {wanted:,} needs more open files than the {hard:,} allowed here: at most {fewer:,} at once"
        f" (`ulimit -n {needed}` in the shell, or the system's limit, allows more)"
    )
    return fewer


async def _remembered(ledger: Ledger, run_id: int) -> Learned:
    found = await ledger.do(Store.events, run_id, LEARNED)
    return Learned(**found[-1]) if found else Learned()


async def _teacher(run: Run, key: str | None, stack: AsyncExitStack, droppable: frozenset[str]) -> Teacher:
    cfg = run.config
    if cfg.teacher.local is None:
        return _asked_at(cfg.teacher.base_url or "", key, cfg, droppable)
    from harvest.local import LocalServer

    context = cfg.sampling.max_tokens + ROOM_FOR_PROMPT_TOKENS
    server = LocalServer(cfg.teacher.local, slots=min(4, cfg.teacher.max_concurrency), context_tokens=context)
    stack.callback(server.close)
    await asyncio.to_thread(server.start)
    return _asked_at(server.base_url, server.api_key, cfg, droppable)


def _asked_at(base_url: str, key: str | None, config: RunConfig, droppable: frozenset[str]) -> Teacher:
    cfg = config.teacher
    return Teacher(
        base_url,
        key,
        stream=cfg.stream,
        idle_timeout_s=cfg.idle_timeout_s or None,
        stop_repeating=cfg.stop_repeating,
        droppable=droppable,
    )


async def _watched(collection: Collection, run: Run, tally: Tally) -> None:
    """Asks all, with progress, until done or stopped.

    The first signal waits for what is paid for, a second does not.
    """
    loop = asyncio.get_running_loop()
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if signals == 1 and run.config.teacher.local is None and tally.in_flight:
            say(f"\nstopping: waiting for {tally.in_flight} answers on their way; Ctrl-C again leaves them in doubt")
            collection.interrupt()
        else:
            collection.interrupt()
            collection.abandon()

    for s in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(s, on_signal)
    cap = None if run.config.budget.usd is None else str(run.config.budget.usd)
    shown = asyncio.create_task(show(tally, run.config.name, cap))
    try:
        await collection.ask_all()
        if collection.second is not None and collection.second.refused:
            what = "what the checks refused stays refused"
            tally.warnings.append(f"the judging model answers nobody, {what}: {collection.second.refused}")
    finally:
        shown.cancel()
        with suppress(asyncio.CancelledError):
            await shown
        for warning in tally.warnings:
            say(f"warning: {warning}")
        say(line(tally, cap))


def _ending(collection: Collection | None) -> Ending:
    if collection is None or (collection.reason is None and not collection.interrupted):
        return Ending("complete", 0)
    if collection.reason is None:
        return Ending("interrupted", INTERRUPTED, "the same command goes on from here")
    reason = collection.reason
    return Ending(STATUS.get(type(reason), "interrupted"), reason.exit_code, str(reason), reason)


def _limited_by(collection: Collection | None, run: Run, tally: Tally) -> str:
    if collection is None:
        return "concurrency"
    if collection.capped:
        return "cap"
    if collection.pace.announced:
        return "announced limit"
    if collection.pace.refused:
        return "refusals"
    return "teacher" if run.config.teacher.local is not None else "concurrency"


# ---- doctor


def doctor(config: RunConfig, base: Path) -> tuple[Diagnosis, AttemptFailed | None]:
    """What one small request shows, and the failure where it was not answered."""
    key = take_key(config)
    take_judge_key(config, key)
    tariff = tariff_of(config)
    if tariff is not None and config.budget.usd is None and config.teacher.local is None:
        checked_tariff(config)
    with Store.open(config.store) as store:
        named = config.model_copy(update={"name": f"{config.name[:90]}-doctor"})
        with store.transaction():
            run, _ = put_run(named, base, store, tariff, may_change=True)
        found = before_asking(config, tariff, key is not None)
        return found, uvloop.run(_doctor(run, store, key, found))


async def _doctor(run: Run, store: Store, key: str | None, found: Diagnosis) -> AttemptFailed | None:
    ledger = Ledger(store)
    try:
        async with AsyncExitStack() as stack:
            teacher = await stack.enter_async_context(await _teacher(run, key, stack, DROPPABLE))
            return await diagnose(run, ledger, teacher, found)
    finally:
        ledger.close()


# ---- answers paid for elsewhere, and judging again


def import_answers(
    files: Sequence[Path],
    name: str,
    url: str,
    *,
    questions: Path | None,
    skip_bad_rows: bool,
    majority: str | None = None,
    unsafe_code: bool = False,
) -> dict[str, Any]:
    """What became of the lines, with the report. Raises an InputError before anything was stored where a line is bad.

    Stopped by Ctrl-C, what was stored is kept, and the same call goes on.
    """
    if not RUN_NAME.fullmatch(name):
        raise InputError(f"--name {name!r}: letters, digits, dots, dashes and underscores alone (it names a folder)")
    sources = [Records(f) for f in files]
    with Store.open(url) as store, Judge(unsafe_code=unsafe_code) as judge:
        checks = checks_of(store, name, majority)
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
        with _importing(store, settings) as run_id:
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
        with _writing(runs_folder() / name):
            report = _write_report(store, name, live=False)
            to, _ = _write_export(store, name, report)
    return {"run": name, "lines": intake.as_json(), "judged": judged.judged, "dataset": str(to), "report": report}


def verify(name: str, url: str, *, again: bool, unsafe_code: bool = False) -> dict[str, Any]:
    """Judges what is stored with today's checks; what changed. Stopped anywhere, the same call goes on."""
    with Store.open(url) as store, Judge(unsafe_code=unsafe_code) as judge:
        run_id = store.run_id(name)
        judged, warn = Judged(), _Warnings()
        of = begin_pass(store, run_id, again=again)
        _judge(store, run_id, judge, judged, warn, of)
        said = changes_of(store, run_id, of, judged)
        warn.close("questions whose gold answer fails its own check: their answers are not judged")
        with _writing(runs_folder() / name):
            report = _write_report(store, name, live=False)
            if said["judged"] and (runs_folder() / name / "dataset").is_dir():
                _write_export(store, name, report)
        end_pass(store, run_id, said)
    return {"run": name, **said}


def _judge(store: Store, run_id: int, judge: Judge, judged: Judged, warn: "_Warnings", of: Pass | None) -> None:
    with steps("judging") as told:
        words = "{:,} of {:,} answers".format
        judge_stored(
            store, run_id, judge, judged, warn,
            lambda: told(judged.seen, judged.total, words(judged.seen, judged.total)), of,
        )  # fmt: skip


def _of(records: Records, intake: Intake) -> str:
    return f"{intake.lines:,} lines of {records.name}"


class _Warnings:
    """Lines for stderr: the first of a kind, and how many there were."""

    def __init__(self, before: str = "warning: ") -> None:
        self._before, self._n = before, 0

    def __call__(self, text: str) -> None:
        self._n += 1
        if self._n <= SHOWN_FAULTS:
            say(self._before + "".join(c if c.isprintable() else " " for c in text))

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
    return to, census.rows


def _rows_to_come(report: dict[str, Any], which: str) -> int:
    traces = report["traces"]
    return int(traces[which] if which != "all" else traces["accepted"] + sum(traces["rejected"].values()))
