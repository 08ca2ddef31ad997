"""Runs one session of asking. It takes a run that is ready, and returns how the asking ended. Signals, connections and
the store's writing thread are tied to the event loop here."""

import asyncio
import gc
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import uvloop

from harvest.asking.accounts import Accounts
from harvest.asking.among_others import among_others
from harvest.asking.batch.collection import BatchCollection
from harvest.asking.buying.breaker import Breaker
from harvest.asking.buying.buyer import FIRST_REPLY, Buyer, first_reply
from harvest.asking.buying.cap import SharedCap
from harvest.asking.buying.connections import Keys, connect, connections_allowed
from harvest.asking.buying.counters import Counters
from harvest.asking.buying.fleet import Replica
from harvest.asking.buying.opinions import Opinions
from harvest.asking.buying.pace import Pace
from harvest.asking.buying.rewritings import Rewritings
from harvest.asking.buying.tries import longest_deadline_s
from harvest.asking.collect import Collection
from harvest.asking.hooks import Hooks
from harvest.asking.incoming import IncomingAnswers
from harvest.asking.planning.plan import rules_of
from harvest.asking.planning.preparation import continues_by_doctor
from harvest.asking.planning.run import LEARNED, Run, runs_about, runs_by_place
from harvest.asking.question_queue import QuestionQueue
from harvest.asking.stopping import Ending, Stopping
from harvest.asking.waste import MOST_WITHOUT_CHAIN, Waste
from harvest.checks import CheckPool
from harvest.core.clock import now
from harvest.core.config import RunConfig, called, configs
from harvest.core.errors import ChainsHidden, StoreUnusable, TeacherRefused
from harvest.core.nouns import Attempt, Judgement, Kind, Question, Reply
from harvest.core.signals import handlers_kept, hung_up, stop_signals
from harvest.endpoint.client import Learned, Teacher
from harvest.filters.required import required_by
from harvest.judging.acceptance import Acceptance
from harvest.store import Store, Writer

GC_THRESHOLD = (20_000, 10, 20)
SETTLING_S = 20.0
"""For so many seconds at most, providers are asked what tries in doubt cost, at the start and at the end."""
CHAINS_HIDDEN = "chains hidden"
"""The kind of the store's events that say that a run stopped because its teacher hides its chains."""
PACE = "pace"
"""The kind of the store's events that hold how fast an endpoint could be asked."""


def ask(
    run: Run, store: Store, checks: CheckPool, keys: Keys, hooks: Hooks, among: Sequence[int] | None = None
) -> Ending:
    """Asks what the run still wants, until it is done or stopped. Returns how the session ended; everything that came
    is in the store. With `among`, only the questions in these rows of the store are asked."""
    # Thousands in flight are many young objects and no garbage: the collector would walk them again and again.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    with handlers_kept():
        return uvloop.run(_session(run, store, checks, keys, hooks, among))


async def _session(
    run: Run, store: Store, checks: CheckPool, keys: Keys, hooks: Hooks, among: Sequence[int] | None
) -> Ending:
    runs = runs_by_place(run)
    in_flight = sum(alone.config.teacher.most_at_once for alone in runs.values())
    async with AsyncExitStack() as opened:
        ledger = Writer(store, hooks.say, in_flight=in_flight)
        opened.callback(ledger.close)
        session_id = await ledger.do(Store.begin_session, run.id, now())
        accounts = await Accounts.open(run.id, run.config, keys, ledger, opened)
        await _settle_doubts(accounts, hooks)
        if not await ledger.do(Store.others_alive, run.id):  # what they have given up just now stays so
            await ledger.do(Store.reopen, run.id, _deadlines_s(run))
        figures = await ledger.do(Store.counts, run.id)
        cap = SharedCap(run.config.budget.cap_usd, figures["spent"], figures["in_doubt"])
        counters = Counters(
            run.config.name,
            cap,
            questions=figures["questions"],
            ended=figures["ended"],
            accepted=figures["accepted"],
            rejected=Counter(await ledger.do(Store.rejections, run.id)),
            by_student=figures["by_student"],
            by_public=sum(of.questions for of in await ledger.do(Store.public_figures, run.id)),
            is_priced=all(alone.tariff is not None for alone in runs.values()),
        )
        stopping = Stopping(rules_of(run.config), counters)
        others = await opened.enter_async_context(
            among_others(run, ledger, session_id, counters, stopping.stop, hooks.say)
        )
        left_behind = await ledger.do(Store.open_batches, run.id)
        if figures["questions"] > figures["ended"] or figures["unjudged"] or left_behind:
            async with AsyncExitStack() as stack:
                stopping.buyers = await _buyers(run, keys, ledger, stack, stopping, counters, hooks)
                if others is not None:
                    others.buyers = stopping.buyers
                about = await _asked_about(run, keys, ledger, stack, stopping, counters)
                opinions = None if run.config.judge is None else Opinions(about["judge"], run.config.judge)
                rewrites = run.config.rewrite.model
                rewritings = None if rewrites is None else Rewritings(about["rewriter"], rewrites, run.config, checks)
                stopping.about_answers = [one for one in (opinions, rewritings) if one is not None]
                known = {place: replace(buyer.teacher.learned) for place, buyer in stopping.buyers.items()}
                acceptance = Acceptance(required_by(run.config), run.prompt, run.config.checks.majority)
                waste = await _waste(run, ledger, stopping, hooks)

                def on_judged(question: Question, attempt: Attempt, reply: Reply, judgement: Judgement) -> None:
                    if attempt.teacher >= 0:
                        waste.judged(question, attempt, reply, judgement)
                    hooks.on_judged(question, attempt, reply, judgement)

                incoming = IncomingAnswers(acceptance, checks, opinions, rewritings, ledger, counters, on_judged)
                queue = QuestionQueue(run, ledger, counters, among)
                in_batches = {p for p, buyer in stopping.buyers.items() if buyer.run.config.teacher.mode == "batch"}
                collection = Collection(
                    run, ledger, queue, stopping.buyers, incoming, stopping, counters, frozenset(in_batches)
                )
                in_batches |= {batch.teacher for batch in left_behind}
                theirs = {place: stopping.buyers[place] for place in in_batches & stopping.buyers.keys()}
                batches = BatchCollection(run, ledger, theirs, incoming, stopping, counters, hooks.say, among)
                await accounts.falls(began=True)
                await _collect(collection, batches, hooks)
                if not isinstance(stopping.reason, StoreUnusable):
                    await _remember(ledger, run, stopping.buyers, known)
        ending, limited_by = stopping.ending(), stopping.limited_by()
        if among is not None and ending.status == "complete" and counters.ended < counters.questions:
            ending = replace(ending, status="interrupted")  # the run's other questions are open
        if others is not None:
            await others.end()
            await others.look()
        try:
            is_last = await ledger.do(Store.leave, run.id, now())
            ending = replace(ending, is_last=is_last)
            await ledger.do(
                Store.end_session, session_id, ending.status, counters.peak_in_flight, limited_by, now(),
                ending.stopped_by,
            )  # fmt: skip
            if stopping.buyers and not stopping.interrupted:
                await _settle_doubts(accounts, hooks)
                for fall in await accounts.falls(began=False):
                    if fall.is_beyond_booked:
                        hooks.say(f"warning: {fall}")
        except StoreUnusable:
            # The next start books what is still out; here the first cause is what the user must hear of.
            if not isinstance(stopping.reason, StoreUnusable):
                raise
        return ending


async def _settle_doubts(accounts: Accounts, hooks: Hooks) -> None:
    """Books what providers tell of tries in doubt, and says in a line for each provider what it told."""
    for told in await accounts.settle(most_s=SETTLING_S):
        hooks.say(str(told))


async def _buyers(
    run: Run, keys: Keys, ledger: Writer, stack: AsyncExitStack, stopping: Stopping, counters: Counters, hooks: Hooks
) -> dict[int, Buyer]:
    """Returns a buyer for each teacher and the student, by place. Each buyer knows what earlier sessions found out
    about its endpoint."""
    runs = runs_by_place(run)
    wanted = sum(alone.config.teacher.most_at_once for alone in runs.values())
    allowed = connections_allowed(wanted, hooks.say)
    remembered = await ledger.do(Store.events, run.id, LEARNED)
    buyers: dict[int, Buyer] = {}
    for place, alone in runs.items():
        ceiling = max(1, alone.config.teacher.most_at_once * allowed // wanted)
        connected = await _replicas(alone, place, keys, ledger, stack, _unset(alone.config), ceiling)
        teacher = next(iter(connected.values()))
        learned = [{k: v for k, v in e.items() if k != "place"} for e in remembered if e.get("place", 0) == place]
        teacher.learned = Learned(**learned[-1]) if learned else Learned()
        by_doctor = await ledger.do(continues_by_doctor, alone)
        teacher.learned.continues = {**teacher.learned.continues, **by_doctor}
        name = called(run.config, place)
        buyers[place] = Buyer(name, alone, connected, ledger, counters, stopping.buyer_ended, ceiling)
        counters.paces[name] = buyers[place].fleet
    return buyers


async def _replicas(
    run: Run, place: int | None, keys: Keys, ledger: Writer, stack: AsyncExitStack, droppable: frozenset[str],
    ceiling: int,
) -> dict[Replica, Teacher]:  # fmt: skip
    """Connects to the endpoint that `run` asks. Returns a connection for each of its replicas, which know what earlier
    sessions found out about them. `place` is None for a model whose pace is not remembered."""
    connected = {}
    addresses = run.config.teacher.addresses or ("",)
    paces = await ledger.do(Store.events, run.id, PACE)
    for n, address in enumerate(addresses):
        of = {"place": place} | ({"replica": address} if n else {})
        found = [e for e in paces if _of_whom(e) == of]
        pace = Pace(ceiling, min(ceiling, found[-1]["limit"]), found[-1]["rate"]) if found else Pace(ceiling)
        breaker = await _breaker(run, ledger, address)
        teacher = await connect(run, keys, stack, droppable, address)
        connected[Replica(pace, breaker, address)] = teacher
    return connected


def _of_whom(pace: Mapping[str, Any]) -> dict[str, Any]:
    """Returns who the event about a pace is about: a teacher by its place, and a replica that is not its first one."""
    return {"place": 0} | {name: pace[name] for name in ("place", "replica") if name in pace}


async def _breaker(run: Run, ledger: Writer, address: str) -> Breaker:
    """Returns the circuit breaker of one replica of the endpoint that `run` asks, which knows whether that has answered
    the run."""
    events = await ledger.do(Store.events, run.id, FIRST_REPLY)
    known = [e for e in events if e == first_reply(run, e["kept"], address)]
    has_answered = bool(known) and known[-1]["kept"]
    now_s, teacher = asyncio.get_running_loop().time(), run.config.teacher
    n = max(1, len(teacher.addresses))
    return Breaker(now_s, teacher.outage_wait_s, has_answered=has_answered, is_free=run.is_free, replicas=n)


def _deadlines_s(run: Run) -> dict[int, float]:
    """Returns the longest time that an answer may take, by the place of who is asked."""
    return {place: longest_deadline_s(config) for place, config in configs(run.config).items()}


async def _waste(run: Run, ledger: Writer, stopping: Stopping, hooks: Hooks) -> Waste:
    """Returns what notices wasted money. In a run that stopped for hidden chains before, one more ends it again."""

    def stop(reason: ChainsHidden) -> None:
        if not stopping.is_stopping:
            ledger.post(Store.add_event, run.id, CHAINS_HIDDEN, {}, now())
            stopping.stop(reason)

    before = await ledger.do(Store.events, run.id, CHAINS_HIDDEN)
    patience = 1 if before else MOST_WITHOUT_CHAIN
    return Waste(run.config, run.prompt.reasoning, hooks.say, stop, patience)


ABOUT_WORDS: dict[Kind, tuple[str, str]] = {
    "judge": ("the judging model", "what the checks refused stays refused"),
    "rewriter": ("the rewriting model", "answers stay as they came"),
}
"""What messages call a model that is asked about answers, and what holds when it answers nobody."""


async def _asked_about(
    run: Run, keys: Keys, ledger: Writer, stack: AsyncExitStack, stopping: Stopping, counters: Counters
) -> dict[Kind, Buyer]:
    """Returns a buyer for each model that the run asks about answers."""
    found = {}
    for kind, alone in runs_about(run).items():
        name, stays = ABOUT_WORDS[kind]
        ceiling = alone.config.teacher.most_at_once
        connected = await _replicas(alone, None, keys, ledger, stack, frozenset({"temperature"}), ceiling)
        # the other counters count answers alone
        own = Counters(run.config.name, counters.cap, waiting=counters.waiting, warnings=counters.warnings)
        on_end = partial(stopping.about_ended, stays)
        found[kind] = Buyer(name, alone, connected, ledger, own, on_end, ceiling)
    return found


def _unset(config: RunConfig) -> frozenset[str]:
    """Returns the parameters that are sent only by default, and may be left out if an endpoint refuses them."""
    return frozenset({"temperature"} - config.sampling.model_fields_set)


async def _ask_in_turns(collection: Collection, batches: BatchCollection) -> None:
    """Asks live what can be asked live, then in batches what is asked so, until neither brings anything new. What
    batches of other runs ask for is not bought, and its questions stay open."""
    await collection.judge_stored()
    has_live = bool(collection.buyers.keys() - collection.in_batches)
    while not collection.stopping.is_stopping:
        if has_live:
            await collection.ask_all()
        if not batches.has_any or not await batches.ask_all() or not has_live:
            break
    others = collection.elsewhere + batches.elsewhere
    del others[collection.run.config.name]
    if others and not collection.stopping.is_stopping:
        collection.stopping.stop(
            TeacherRefused(
                f"{others.total():,} answers are on their way in batches of other runs ({', '.join(sorted(others))}):"
                " collect those, then the same command goes on"
            )
        )


async def _collect(collection: Collection, batches: BatchCollection, hooks: Hooks) -> None:
    """Asks until everything is done or asking is stopped, and shows the progress.

    At the first signal, winnow waits for the requests in flight that are paid for; at the second, it leaves them in
    doubt. Of a closed terminal's SIGHUPs only the first counts, since nobody is there who means the second.
    """
    stopping, counters = collection.stopping, collection.counters
    loop, signals = asyncio.get_running_loop(), 0

    def on_signal(number: int) -> None:
        nonlocal signals
        if number == signal.SIGHUP:
            loop.remove_signal_handler(number)
            hung_up()
            if signals:
                return
        signals += 1
        all_free = all(buyer.run.is_free for buyer in collection.buyers.values())
        waits = signals == 1 and not all_free and counters.in_flight
        if waits:
            hooks.say(f"\nstopping: waiting for {waits} answers on their way; Ctrl-C again leaves them in doubt")
        stopping.interrupt()
        if not waits:
            collection.tasks.cancel()
        if signals > 1:
            batches.cancel()

    for number in stop_signals():
        loop.add_signal_handler(number, on_signal, number)
    async with hooks.show(counters):
        try:
            await _ask_in_turns(collection, batches)
        finally:
            for buyer in collection.buyers.values():
                counters.warnings += buyer.silences()
                buyer.stop()  # no replica is looked for any more
            for about in collection.stopping.about_answers:
                about.buyer.stop()


async def _remember(ledger: Writer, run: Run, buyers: Mapping[int, Buyer], known: Mapping[int, Learned]) -> None:
    """Stores two things for the next session: the last pace, if the endpoint limited it, and what the endpoint demanded
    of requests. Opens the questions that a wrong setting closed."""
    for place, buyer in buyers.items():
        if buyer.refused_setting is not None:
            await ledger.do(Store.reopen_refused, run.id, place)
        for n, replica in enumerate(buyer.fleet.replicas):
            if (rate := replica.pace.rate) is not None:
                of = {"place": place} | ({"replica": replica.address} if n else {})
                pace = of | {"limit": replica.pace.limit, "rate": rate}
                await ledger.do(Store.add_event, run.id, PACE, pace, now())
        if buyer.teacher.learned != known[place]:
            found = {"place": place} | asdict(buyer.teacher.learned)
            await ledger.do(Store.add_event, run.id, LEARNED, found, now())
