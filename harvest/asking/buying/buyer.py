"""Buys answers from one endpoint, each in as many tries as are allowed. Teachers, the student and the judging model are
asked in the same way: each has its own pace, circuit breaker and price, and all share one cap."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from harvest.asking.buying.breaker import REFUSED_TOO_LONG_S, SHORT_WAIT_S, Over
from harvest.asking.buying.concurrency_limiter import ConcurrencyLimiter, Slot
from harvest.asking.buying.continuing import Continuing
from harvest.asking.buying.counters import Counters
from harvest.asking.buying.fleet import Fleet, Replica
from harvest.asking.buying.keyed_lock import KeyedLock
from harvest.asking.buying.outage_watch import OutageWatch
from harvest.asking.buying.pace import LONGEST_WAIT_S
from harvest.asking.buying.tries import Settled, Tries, longest_deadline_s, overbilled
from harvest.asking.planning.run import Run
from harvest.core.clock import now
from harvest.core.errors import (
    AttemptFailed,
    CapReached,
    Late,
    RowRefused,
    RunRefused,
    SettingRefused,
    TeacherDown,
    TeacherRefused,
    TeacherTooBusy,
    Throttled,
    WinnowError,
)
from harvest.core.nouns import Ask, Continuation, Message, Reply, joined
from harvest.endpoint import announced, named_setting
from harvest.endpoint.client import Arriving, Teacher, request_body
from harvest.endpoint.continuation import continuing_body
from harvest.store import ClaimLost, InBatch, InHand, Reused, Sent, Store, Writer

FIRST_REPLY = "first reply"
"""The kind of the store's events that say which endpoints have answered a run, and whether they kept to max_tokens."""
OTHERS_S = 0.5
"""How often we look again for what other processes do: settle their tries, or bring the answer that we want too."""
Reserved = Sent | Reused | InBatch | InHand | ClaimLost
FIRST_WAIT_S = 0.5
"""The longest wait before the second try, in seconds. It doubles before each further try."""


class Stopped(Exception):
    """Says that nothing more is bought. It is raised only in the tasks of a session, and ends the task."""


class AskedInBatch(Stopped):
    """Says that an open batch asks for an answer already, so that this one is not bought: the question stays open.
    `run` is the name of the run that made the batch."""

    def __init__(self, run: str) -> None:
        super().__init__(run)
        self.run = run


@dataclass(frozen=True, slots=True)
class Bought:
    """Says what one attempt brought: a reply or a failure."""

    attempt_id: int
    reply: Reply | None
    failure: str | None = None
    """The class of failure of the last try; None if there is a reply."""


class Buyer:
    """Buys answers from one endpoint, of one replica or several, in one session."""

    def __init__(
        self, name: str, run: Run, connected: Mapping[Replica, Teacher], ledger: Writer, counters: Counters,
        on_end: Callable[["Buyer", WinnowError], None], ceiling: int,
    ) -> None:  # fmt: skip
        """`name` is what messages call the endpoint; `run` is the run as it asks this one endpoint. `connected` has its
        replicas, the one that the run's base_url names first. At most `ceiling` requests are in flight.

        `on_end` is called when nothing more can be asked at this endpoint. It is also called with Overbilled, after
        which nothing more is asked at any endpoint. `on_end` must call `stop`.
        """
        self.name, self.run, self.counters = name, run, counters
        self.fleet, self.connected = Fleet(list(connected), ceiling), connected
        self.reason: WinnowError | None = None
        """Why nothing more is asked at this endpoint, when this buyer ended by itself; else None."""
        self.was_short_of_money = False
        """Whether a request ever had to wait because the cap had no room."""
        self.refused_setting: str | None = None
        """The setting that the endpoint named when it refused every row; else None."""
        self._ledger, self._cap, self._on_end = ledger, counters.cap, on_end
        first, *others = self.fleet.replicas
        self._tries = {first: Tries(run, ledger, connected[first], partial(self.on_settled, first))}
        for other in others:  # what one demands of requests, all of them do
            connected[other].learned = self.teacher.learned
            on_settled = partial(self.on_settled, other)
            self._tries[other] = Tries(run, ledger, connected[other], on_settled, other.address)
        self._limiter = ConcurrencyLimiter(self.fleet)
        self._watch = OutageWatch(name, connected, counters.waiting, self._limiter.wake)
        self._same_content = KeyedLock()
        self._continuing = Continuing(name, self.teacher, run.config.teacher.base_url, counters.warnings.append)
        self._money_queue = asyncio.Lock()
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._any_answer = False
        self._last_failures: dict[Replica, AttemptFailed] = {}
        self._served_by: set[tuple[str | None, str | None]] = set()

    @property
    def teacher(self) -> Teacher:
        """The connection to the replica that the run's base_url names: the only one, unless there is a fleet."""
        return self.connected[self.fleet.replicas[0]]

    @property
    def has_answered(self) -> bool:
        """Whether an answer ever came, in this session or an earlier one."""
        return any(replica.breaker.has_answered for replica in self.fleet.replicas)

    @property
    def is_open(self) -> bool:
        return not self._stop.is_set()

    def stop(self) -> None:
        """Stops asking. Requests in flight are waited for, since they are paid for."""
        self._stop.set()
        for replica in self.fleet.replicas:
            self._watch.waits_no_more(replica)
        self._cap.changed.set()
        self._limiter.open()

    async def buy(self, question_id: int, ask: Ask, messages: Sequence[Message], cut: Reply | None = None) -> Bought:
        """Returns the answer to these messages, or the failure if there is none. Raises Stopped when nothing more is
        bought, and AskedInBatch when an open batch asks for it.

        With `cut`, which the attempt `ask.continues` brought, only the rest of that answer is bought, and both are
        returned as one. If the endpoint does not go on with it, nothing is bought or stored.

        If the store has an answer to the same content already, it is used and nothing is bought. If another task is
        buying the same content now, that task is waited for.
        """
        # Equal answers are one request to the judging model, whatever their own sample numbers.
        sample = ask.sample if ask.about is None else 0
        body = request_body(self.run.model, messages, self.run.config.sampling, sample, ask.max_tokens)
        if cut is None:
            return await self._once(question_id, ask, body, sample)
        async with self._continuing.turn(cut) as going_on:
            if going_on is None:
                return Bought(-(ask.continues or 0), None, RowRefused.kind)
            came = self.run.config.sampling.max_tokens
            came = came if cut.usage.output_tokens is None else min(came, cut.usage.output_tokens)
            body = continuing_body({**body, "max_tokens": ask.max_tokens - came}, going_on)
            return await self._once(question_id, ask, body, sample, going_on)

    async def _once(
        self, question_id: int, ask: Ask, body: dict[str, Any], sample: int, going_on: Continuation | None = None
    ) -> Bought:
        key = self.run.key(body, sample)
        async with self._same_content(key):
            return await self._in_tries(question_id, ask, body, key, going_on)

    async def _in_tries(
        self, question_id: int, ask: Ask, body: dict[str, Any], key: str, going_on: Continuation | None
    ) -> Bought:
        counted, tried = 0, set[Replica]()
        if all(replica.breaker.awaits_first_reply for replica in self.fleet.replicas):
            # An answer that the store has need not wait for the first reply.
            stored = await self._ledger.do(Store.reuse, self.run.id, question_id, ask, key)
            if stored is not None:
                return self._reused(stored)
        while True:
            async with self._limiter.slot(question_id, tried) as slot:
                replica = slot.replica
                held = await self._reserved(self._tries[replica], question_id, ask, body, key)
                if not isinstance(held, Sent):
                    replica.pace.withdrawn(slot.sent_s)
                    replica.breaker.withdrawn(slot.sent_s)
                    if isinstance(held, InBatch):
                        raise AskedInBatch(held.run)
                    if isinstance(held, ClaimLost):
                        raise Stopped
                    if isinstance(held, Reused):
                        return self._reused(held)
                else:
                    is_probe = replica.breaker.is_down
                    outcome = await self._try(held, body, ask, slot, going_on)
            if isinstance(held, InHand):
                await self._first_of(asyncio.sleep(OTHERS_S), self._stop.wait())
                continue
            if isinstance(outcome, Reply):
                whole = outcome if going_on is None else joined(going_on.cut, outcome)
                return Bought(held.attempt_id, whole)
            if isinstance(outcome, Throttled):
                continue
            tried.add(replica)
            if self._is_refused_by_replica(replica, outcome, tried):
                continue
            if isinstance(outcome, RunRefused):
                if not self.is_open:
                    raise Stopped
                continue
            counted += not is_probe  # an outage is not the answer's fault
            if isinstance(outcome, Late):
                ask = replace(ask, waited_s=self._tries[replica].deadline_s(ask))
                self._ledger.post(Store.was_late, held.attempt_id, ask.waited_s)
            too_late = ask.waited_s >= longest_deadline_s(self.run.config)
            if not outcome.again or too_late or counted >= self.run.config.sampling.tries:
                await self._ledger.do(Store.fail_attempt, held.attempt_id, outcome.kind)
                return Bought(held.attempt_id, None, outcome.kind)
            if not self.fleet.others_than(tried):
                await self._wait_after(outcome, max(1, counted))

    def _is_refused_by_replica(self, replica: Replica, failure: AttemptFailed, tried: set[Replica]) -> bool:
        """Whether a replica that never answered refuses a row, which another one may take: the replica may have another
        model or a shorter context."""
        is_row = isinstance(failure, RowRefused) and failure.reply is None
        return is_row and not replica.breaker.has_answered and bool(self.fleet.others_than(tried))

    def _reused(self, held: Reused) -> Bought:
        self.counters.reused += 1
        return Bought(held.attempt_id, held.reply)

    async def _reserved(self, tries: Tries, question_id: int, ask: Ask, body: dict[str, Any], key: str) -> Reserved:
        """Returns a try whose worst case is reserved, or why nothing is sent (`Store.reserve`).

        If the cap has no room now, the call waits until other tries give money back, here or in other processes. Raises
        Stopped when no other try is unsettled: then no money can come back, and the cap has no room for another answer
        from this endpoint.
        """
        held = None if self._money_queue.locked() else await self._reserve_now(tries, question_id, ask, body, key)
        if held is not None:
            return held
        async with self._money_queue:
            in_vain = False
            while (held := await self._reserve_now(tries, question_id, ask, body, key)) is None:
                self.was_short_of_money = True
                if self._cap.may_free_up:
                    await self._cap.freed(OTHERS_S if self._ledger.store.shares else None)
                elif await self._ledger.do(Store.others_reserve, self.run.id):
                    in_vain = False
                    await self._cap.freed(OTHERS_S)
                elif in_vain or not self._ledger.store.shares:
                    self.end(CapReached(f"the cap of {self._cap.usd} USD has no room for another answer{self.of}"))
                    raise Stopped
                else:  # others may have settled between the two questions to the store
                    in_vain = True
        return held

    async def _reserve_now(
        self, tries: Tries, question_id: int, ask: Ask, body: dict[str, Any], key: str
    ) -> Reserved | None:
        if self._stop.is_set():
            raise Stopped
        return await tries.reserve(question_id, ask, body, key)

    async def _try(
        self, sent: Sent, body: dict[str, Any], ask: Ask, slot: Slot, going_on: Continuation | None
    ) -> Reply | AttemptFailed:
        arriving, replica = Arriving(), slot.replica
        if replica.breaker.awaits_first_reply:
            self._watch.waits_for(replica, f"more are asked after the first reply{self._watch.of(replica)}: asked")

        def on_answer() -> None:
            self.counters.in_flight -= 1
            replica.answered(slot.sent_s, self._loop.time())
            self._heed_limits(arriving, slot)
            slot.release()

        self.counters.in_flight += 1
        self.counters.peak_in_flight = max(self.counters.peak_in_flight, self.counters.in_flight)
        try:
            with self._cap.unsettled_try():
                outcome = await self._tries[replica].send(sent, body, ask, arriving, on_answer, going_on)
        finally:
            self.counters.in_flight -= slot.is_held
        if isinstance(outcome, AttemptFailed):
            self.on_failure(replica, outcome, slot.sent_s)
            self._heed_limits(arriving, slot)
        return outcome

    def _heed_limits(self, arriving: Arriving, slot: Slot) -> None:
        slot.replica.pace.heard(announced(arriving.headers, time.time()), slot.sent_s, self._loop.time())

    async def _wait_after(self, failure: AttemptFailed, tries: int) -> None:
        wait_s = failure.retry_after_s
        if wait_s is None:
            wait_s = FIRST_WAIT_S * 2 ** (tries - 1) * random.uniform(0.5, 1.0)
        await self._first_of(asyncio.sleep(min(wait_s, LONGEST_WAIT_S)), self._stop.wait())

    @staticmethod
    async def _first_of(*work: Awaitable[Any]) -> None:
        _, rest = await asyncio.wait([asyncio.ensure_future(w) for w in work], return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()

    # ---- what a try says about its replica

    def on_settled(self, replica: Replica, settled: Settled) -> None:
        """Takes in how one try ended."""
        if settled.money is not None:
            self._cap.spent_pusd, self._cap.in_doubt_pusd = settled.money.spent, settled.money.in_doubt
            self._cap.reserved_pusd = settled.money.reserved
        outcome = settled.outcome
        if isinstance(outcome, AttemptFailed):
            self.counters.failed_tries += 1
            if isinstance(outcome, RunRefused):
                reason = TeacherRefused(f"{self._watch.called(replica)} refuses for good: {outcome}")
                self._refuses(replica, outcome, reason)
        else:
            replica.pace.answered(outcome.usage.output_tokens)
            if not settled.overbilled:
                self._on_answer(replica)
            self.counters.output_tokens += outcome.usage.output_tokens or 0
            self._notice_who_answers(outcome)
        if settled.overbilled:
            self._remember_first_reply(replica, kept=False)
            self._on_end(self, overbilled(settled))

    def _goes_on_or_ends(self, replica: Replica, reason: WinnowError) -> None:
        """Goes on without a replica that answers no more, if there are others; else ends for this reason."""
        if all(one.is_left_out for one in self.fleet.replicas if one is not replica):
            self.end(reason)
            return
        self.counters.warnings.append(f"{reason}; the other replicas go on")
        self._limiter.wake()

    def _refuses(self, replica: Replica, failure: AttemptFailed, reason: WinnowError) -> None:
        """Notes that a replica refuses every request. It is asked no more."""
        if replica.refusal is None or len(self.fleet.replicas) == 1:
            replica.refusal = failure
            self._goes_on_or_ends(replica, reason)

    def _on_answer(self, replica: Replica) -> None:
        breaker = replica.breaker
        if not breaker.has_answered:
            self._remember_first_reply(replica, kept=True)
        held_back = [r for r in self.fleet.replicas if r.breaker.awaits_first_reply]
        held_back += [replica] if breaker.is_down or breaker.fruitless else []
        breaker.answered(self._loop.time())
        self.fleet.heed_first_reply()
        self._any_answer = True
        if held_back:
            for one in held_back:
                self._watch.waits_no_more(one)
            self._limiter.wake()

    def _remember_first_reply(self, replica: Replica, *, kept: bool) -> None:
        event = first_reply(self.run, kept, replica.address)
        self._ledger.post(Store.add_event, self.run.id, FIRST_REPLY, event, now())

    def on_failure(self, replica: Replica, failure: AttemptFailed, sent_s: float) -> None:
        """Slows down when requests come too fast, and stops asking a replica when it does not answer."""
        breaker = replica.breaker
        now_s, was_down = self._loop.time(), breaker.is_down
        if isinstance(failure, Throttled):
            replica.pace.refused_at(sent_s, now_s, failure.retry_after_s)
        breaker.failed(failure, sent_s, now_s)
        self._last_failures.pop(replica, None)
        if breaker.fruitless:
            self._last_failures[replica] = failure
        if breaker.over is not None and self.is_open:
            reason, rested = self._why_over(replica, breaker.over, failure), breaker.is_resting
            if breaker.over is Over.REFUSES_ROWS:
                self._refuses(replica, failure, reason)
            elif len(self.fleet.replicas) == 1:
                self.end(reason)
            else:
                breaker.rest(now_s)
                if not rested:
                    self._goes_on_or_ends(replica, reason)
        if breaker.is_down and not was_down and self.is_open:
            wait_s, is_one = breaker.outage_wait_s, len(self.fleet.replicas) == 1
            self._watch.waits_no_more(replica)
            self._watch.waits_for(replica, f"{self._watch.called(replica)} is down", wait_s if is_one else None)
            if wait_s > SHORT_WAIT_S or not is_one:
                self._watch.look(replica)

    def _why_over(self, replica: Replica, over: Over, failure: AttemptFailed) -> TeacherRefused:
        goes_on = "The same command goes on"
        if over is Over.DOWN:
            n, wait_s = replica.breaker.fruitless, replica.breaker.outage_wait_s
            tries = f"the last {n} tries brought nothing, and outage_wait_s = {wait_s:g} is over"
            return TeacherDown(f"{self._watch.called(replica)} is down: {tries}: {failure}. {goes_on}")
        if over is Over.THROTTLED:
            minutes = max(REFUSED_TOO_LONG_S, replica.breaker.outage_wait_s) / 60
            return TeacherTooBusy(
                f"every request{self._watch.of(replica)} was refused for {minutes:.0f} minutes: {failure}. {goes_on}"
            )
        self.refused_setting = named_setting(failure.message)
        change = f": change {self.refused_setting}" if self.refused_setting else ""
        return SettingRefused(f"{self._watch.called(replica)} refuses every row{change}: {failure}")

    def end(self, reason: WinnowError) -> None:
        """Notes that nothing more can be asked at this endpoint, and why."""
        self.reason = self.reason or reason
        self._on_end(self, reason)

    @property
    def of(self) -> str:
        """Words that name the endpoint behind what is its own; empty when there is only one."""
        return self._watch.of()

    def _notice_who_answers(self, reply: Reply) -> None:
        """Warns once of each model or provider that answers and is not the one that answered first."""
        who = (reply.served_model, reply.served_by)
        if who not in self._served_by and self._served_by:
            words = " by ".join(str(w) for w in who if w)
            self.counters.warnings.append(
                f"answers{self.of} now come from {words or 'an unnamed model'}, not only who answered first"
            )
        self._served_by.add(who)

    def silences(self) -> list[str]:
        """Returns a warning for each replica that has never answered, or no longer answers, when asking went on all the
        same."""
        found = []
        for replica, failure in self._last_failures.items():
            breaker = replica.breaker
            if self.reason is not None or (self._any_answer and not breaker.is_down):
                continue
            more = " any more" if replica.answer_s is not None else ""
            tries = "its last try" if breaker.fruitless == 1 else f"the last {breaker.fruitless} tries"
            is_waited_for = failure.again and not self.fleet.others_than([replica])
            waits = ", and what it is to answer waits for the next start" if is_waited_for else ""
            found.append(
                f"{self._watch.called(replica)} answers nobody{more}{waits}: {tries} brought nothing: {failure}"
            )
        return found


def first_reply(run: Run, kept: bool, address: str) -> dict[str, Any]:
    """Returns the event that says of a replica of the endpoint that `run` asks whether its answers `kept` to
    max_tokens."""
    replica = {} if address == (run.config.teacher.base_url or "") else {"replica": address}
    return {"endpoint": run.endpoint, "model": run.model, "kept": kept} | replica
