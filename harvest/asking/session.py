"""One session of asking: from a run that is ready to how its asking ended. Signals, connections and the store's writing
thread meet the event loop here."""

import asyncio
import gc
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace

import uvloop

from harvest.asking.collect import Asked, Collection
from harvest.asking.connections import Keys, connect, connections_allowed
from harvest.asking.counters import Counters
from harvest.asking.hooks import Hooks
from harvest.asking.pace import Pace
from harvest.asking.run import Run, as_judge, asked_alone
from harvest.checks import CheckPool
from harvest.core.clock import now
from harvest.core.config import RunConfig
from harvest.core.errors import CapReached, Overbilled, StoreUnusable, TeacherRefused, WinnowError
from harvest.endpoint.client import Learned, Teacher
from harvest.store import Store, Writer

INTERRUPTED = 130
GC_THRESHOLD = (20_000, 10, 20)
LEARNED, PACE = "learned", "pace"
"""Events of the store that hold what a session found out about an endpoint."""
STATUS: dict[type[WinnowError], str] = {
    CapReached: "stopped_at_cap",
    Overbilled: "overbilled",
    TeacherRefused: "refused",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a session ended: the status in the report, the exit code, and what to tell the user."""

    status: str
    exit_code: int
    words: str | None = None
    reason: WinnowError | None = None


def ask(run: Run, store: Store, judge: CheckPool, keys: Keys, hooks: Hooks) -> Ending:
    """Asks what the run still wants, until it is done or stopped. All that came is in the store."""
    # Thousands in flight are many young objects and no garbage: the collector would walk them again and again.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    return uvloop.run(_session(run, store, judge, keys, hooks))


async def _session(run: Run, store: Store, judge: CheckPool, keys: Keys, hooks: Hooks) -> Ending:
    ledger = Writer(store)
    try:
        session_id = await ledger.do(Store.begin_session, run.id, now())
        await ledger.do(Store.reopen, run.id)
        figures = await ledger.do(Store.counts, run.id)
        counters = Counters(
            run.config.name,
            run.config.budget.usd,
            questions=figures["questions"],
            ended=figures["ended"],
            accepted=figures["accepted"],
            rejected=figures["rejected"],
            by_student=figures["by_student"],
            spent_pusd=figures["spent"],
        )
        collection = None
        async with AsyncExitStack() as stack:
            if figures["questions"] > figures["ended"] or figures["unjudged"]:
                asked = await _all_asked(run, keys, ledger, stack, hooks)
                known = {place: replace(teacher.learned) for place, (_, teacher, _) in asked.items()}
                second = await _second(run, keys, stack)
                collection = Collection(run, ledger, asked, judge, counters, hooks.on_judged, second)
                await _watched(collection, counters, hooks)
                await _keep_what_was_found(ledger, run, asked, known)
        ending = _ending(collection)
        limited_by = _limited_by(collection)
        try:
            await ledger.do(Store.hold_unsettled, run.id, now())
            await ledger.do(Store.end_session, session_id, ending.status, counters.peak_in_flight, limited_by, now())
        except StoreUnusable:
            # The next start books what is still out; here the first cause is what the user must hear of.
            if collection is None or not isinstance(collection.reason, StoreUnusable):
                raise
        return ending
    finally:
        ledger.close()


async def _all_asked(run: Run, keys: Keys, ledger: Writer, stack: AsyncExitStack, hooks: Hooks) -> dict[int, Asked]:
    """Everybody who may be asked, each with its own connections, and with what earlier starts found of it."""
    runs = asked_alone(run)
    wanted = [one.config.teacher.max_concurrency for one in runs.values()]
    allowed = connections_allowed(sum(wanted), hooks.say)
    paces, remembered = await ledger.do(Store.events, run.id, PACE), await ledger.do(Store.events, run.id, LEARNED)
    asked: dict[int, Asked] = {}
    for (place, alone), most in zip(runs.items(), wanted, strict=True):
        teacher = await connect(alone, keys, stack, _unset(alone.config))
        learned = [{k: v for k, v in e.items() if k != "place"} for e in remembered if e.get("place", 0) == place]
        teacher.learned = Learned(**learned[-1]) if learned else Learned()
        ceiling = max(1, most * allowed // sum(wanted))
        found = [e for e in paces if e.get("place", 0) == place]
        pace = Pace(ceiling, min(ceiling, found[-1]["limit"]), found[-1]["rate"]) if found else Pace(ceiling)
        asked[place] = (alone, teacher, pace)
    return asked


async def _second(run: Run, keys: Keys, stack: AsyncExitStack) -> tuple[Run, Teacher] | None:
    second = as_judge(run)
    return None if second is None else (second, await connect(second, keys, stack, frozenset({"temperature"})))


async def _keep_what_was_found(
    ledger: Writer, run: Run, asked: Mapping[int, Asked], known: Mapping[int, Learned]
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


async def _watched(collection: Collection, counters: Counters, hooks: Hooks) -> None:
    """Asks until all is done or asking is stopped, and shows it.

    At the first signal what is paid for is waited for, at the second it is left in doubt.
    """
    loop = asyncio.get_running_loop()
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        all_free = all(answerer.run.is_free for answerer in collection.answerers.values())
        if signals == 1 and not all_free and counters.in_flight:
            hooks.say(
                f"\nstopping: waiting for {counters.in_flight} answers on their way; Ctrl-C again leaves them in doubt"
            )
            collection.interrupt()
        else:
            collection.interrupt()
            collection.abandon()

    for s in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(s, on_signal)
    async with hooks.show(counters):
        try:
            await collection.ask_all()
            if collection.second is not None and collection.second.refused:
                what = "what the checks refused stays refused"
                counters.warnings.append(f"the judging model answers nobody, {what}: {collection.second.refused}")
        finally:
            silent = (answerer.silence() for answerer in collection.answerers.values())
            counters.warnings += [words for words in silent if words is not None]


def _ending(collection: Collection | None) -> Ending:
    reason = None if collection is None else collection.reason_in_the_end()
    if collection is not None and collection.interrupted and (reason is None or collection.reason is None):
        return Ending("interrupted", INTERRUPTED, "the same command goes on from here")
    if reason is None:
        return Ending("complete", 0)
    return Ending(STATUS.get(type(reason), "interrupted"), reason.exit_code, str(reason), reason)


def _limited_by(collection: Collection | None) -> str:
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
