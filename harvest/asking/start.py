"""One start of asking: the edge where processes, signals and connections meet the loop. The doctor's requests too."""

import asyncio
import gc
import resource
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import uvloop

from harvest.asking.answerer import Tally
from harvest.asking.collect import Asked, Collection
from harvest.asking.pace import Pace
from harvest.asking.progress import line, say, show
from harvest.asking.run import Run, as_judge, asked_alone, checked_tariff, put_run, take_keys
from harvest.checks import Judge
from harvest.commands.doctor import DROPPABLE, Diagnosis, before_asking, diagnose, of_the_run
from harvest.core.clock import now
from harvest.core.config import RunConfig
from harvest.core.errors import (
    AttemptFailed,
    CapReached,
    Overbilled,
    StoreUnusable,
    TeacherRefused,
    WinnowError,
)
from harvest.core.teachers import called, configs, section_of
from harvest.endpoint.client import Learned, Teacher
from harvest.store.store import Store
from harvest.store.writer import Ledger

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
Keys = Mapping[str, str]
"""Keys by the names of their variables."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a start ended: the status in the report, the exit code, and what to tell the user."""

    status: str
    exit_code: int
    words: str | None = None
    reason: WinnowError | None = None


def start(run: Run, store: Store, judge: Judge, keys: Keys) -> Ending:
    """Asks what the run still wants, with progress, until it is done or stopped. All that came is in the store."""
    # Thousands in flight are many young objects and no garbage: the collector would walk them again and again.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    return uvloop.run(_session(run, store, judge, keys))


async def _session(run: Run, store: Store, judge: Judge, keys: Keys) -> Ending:
    ledger = Ledger(store)
    try:
        session_id = await ledger.do(Store.begin_session, run.id, now())
        await ledger.do(Store.reopen, run.id)
        figures = await ledger.do(Store.counts, run.id)
        tally = Tally(figures["questions"], figures["ended"], figures["accepted"], figures["rejected"])
        tally.spent_pusd, tally.by_student = figures["spent"], figures["by_student"]
        collection = None
        async with AsyncExitStack() as stack:
            if figures["questions"] > figures["ended"] or figures["unjudged"]:
                asked = await _all_asked(run, keys, ledger, stack)
                known = {place: replace(teacher.learned) for place, (_, teacher, _) in asked.items()}
                collection = Collection(run, ledger, asked, judge, tally, await _second(run, keys, stack))
                await _watched(collection, run, tally)
                await _keep_what_was_found(ledger, run, asked, known)
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


async def _all_asked(run: Run, keys: Keys, ledger: Ledger, stack: AsyncExitStack) -> dict[int, Asked]:
    """Everybody who may be asked, each with its own connections, and with what earlier starts found of it."""
    runs = asked_alone(run)
    wanted = [one.config.teacher.max_concurrency for one in runs.values()]
    allowed = connections_allowed(sum(wanted))
    paces, remembered = await ledger.do(Store.events, run.id, PACE), await ledger.do(Store.events, run.id, LEARNED)
    asked: dict[int, Asked] = {}
    for (place, alone), most in zip(runs.items(), wanted, strict=True):
        teacher = await stack.enter_async_context(await _teacher(alone, keys, stack, _unset(alone.config)))
        learned = [{k: v for k, v in e.items() if k != "place"} for e in remembered if e.get("place", 0) == place]
        teacher.learned = Learned(**learned[-1]) if learned else Learned()
        ceiling = max(1, most * allowed // sum(wanted))
        found = [e for e in paces if e.get("place", 0) == place]
        pace = Pace(ceiling, min(ceiling, found[-1]["limit"]), found[-1]["rate"]) if found else Pace(ceiling)
        asked[place] = (alone, teacher, pace)
    return asked


async def _second(run: Run, keys: Keys, stack: AsyncExitStack) -> tuple[Run, Teacher] | None:
    second = as_judge(run)
    if second is None:
        return None
    model = await _teacher(second, keys, stack, frozenset({"temperature"}))
    return second, await stack.enter_async_context(model)


async def _keep_what_was_found(
    ledger: Ledger, run: Run, asked: Mapping[int, Asked], known: Mapping[int, Learned]
) -> None:
    """For the next start: where the pace ended, if an endpoint limited it, and what it demanded."""
    for place, (_, teacher, pace) in asked.items():
        if pace.rate is not None:
            found = {"place": place, "limit": pace.limit, "rate": pace.rate}
            await ledger.do(Store.add_event, run.id, PACE, found, now())
        if teacher.learned != known[place]:
            await ledger.do(Store.add_event, run.id, LEARNED, {"place": place} | asdict(teacher.learned), now())


def _unset(config: RunConfig) -> frozenset[str]:
    """Parameters that are sent by default alone, and may be left out where an endpoint refuses them."""
    return frozenset({"temperature"} - config.sampling.model_fields_set)


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


async def _teacher(run: Run, keys: Keys, stack: AsyncExitStack, droppable: frozenset[str]) -> Teacher:
    cfg = run.config
    key = keys.get(cfg.teacher.api_key_env or "")
    if cfg.teacher.local is None:
        return _asked_at(cfg.teacher.base_url or "", key, cfg, droppable)
    from harvest.local.server import LocalServer

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
        all_free = all(answerer.run.is_free for answerer in collection.answerers.values())
        if signals == 1 and not all_free and tally.in_flight:
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
        tally.warnings += [words for a in collection.answerers.values() if (words := a.silence()) is not None]
        shown.cancel()
        with suppress(asyncio.CancelledError):
            await shown
        for warning in tally.warnings:
            say(f"warning: {warning}")
        say(line(tally, cap))


def _ending(collection: Collection | None) -> Ending:
    reason = None if collection is None else collection.reason_in_the_end()
    if collection is not None and collection.interrupted and (reason is None or collection.reason is None):
        return Ending("interrupted", INTERRUPTED, "the same command goes on from here")
    if reason is None:
        return Ending("complete", 0)
    return Ending(STATUS.get(type(reason), "interrupted"), reason.exit_code, str(reason), reason)


def _limited_by(collection: Collection | None, run: Run, tally: Tally) -> str:
    if collection is None:
        return "concurrency"
    asked = collection.answerers.values()
    if any(answerer.capped for answerer in asked):
        return "cap"
    if any(answerer.pace.announced for answerer in asked):
        return "announced limit"
    if any(answerer.pace.refused for answerer in asked):
        return "refusals"
    return "teacher" if all(a.run.config.teacher.local is not None for a in asked) else "concurrency"


# ---- doctor


@dataclass(frozen=True, slots=True)
class Examined:
    """What one small request to one of those who may be asked showed, and the failure where it was not answered."""

    name: str
    found: Diagnosis
    failure: AttemptFailed | None


def doctor(config: RunConfig, base: Path) -> list[Examined]:
    """Of each teacher, and of the student, in the order in which they are asked."""
    keys = take_keys(config)
    for place, one in configs(config).items():
        if one.budget.usd is None:
            checked_tariff(one, section_of(config, place))
    with Store.open(config.store) as store:
        named = config.model_copy(update={"name": f"{config.name[:90]}-doctor"})
        with store.transaction():
            run, _ = put_run(named, base, store, may_change=True)
        return uvloop.run(_doctor(run, store, keys))


async def _doctor(run: Run, store: Store, keys: Keys) -> list[Examined]:
    ledger = Ledger(store)
    examined = []
    try:
        for place, alone in asked_alone(run).items():
            has_key = alone.config.teacher.api_key_env in keys
            found = before_asking(alone.config, alone.tariff, has_key, section_of(run.config, place))
            if place == max(configs(run.config)):
                of_the_run(found, run.config)
            async with AsyncExitStack() as stack:
                teacher = await stack.enter_async_context(await _teacher(alone, keys, stack, DROPPABLE))
                failure = await diagnose(alone, ledger, teacher, found, place)
            examined.append(Examined(called(run.config, place), found, failure))
    finally:
        ledger.close()
    return examined
