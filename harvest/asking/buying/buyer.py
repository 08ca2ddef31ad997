"""Buys answers from one endpoint, each in as many tries as are allowed. Teachers, the student and the judging model are
asked in the same way: each has its own pace, concurrency limiter and price, and all share one cap."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harvest.asking.buying.cap import SharedCap
from harvest.asking.buying.concurrency_limiter import ConcurrencyLimiter, Slot
from harvest.asking.buying.counters import Counters
from harvest.asking.buying.keyed_lock import KeyedLock
from harvest.asking.buying.pace import LONGEST_WAIT_S, Pace
from harvest.asking.buying.tries import Settled, Tries
from harvest.asking.planning.run import Run
from harvest.core.errors import (
    AttemptFailed,
    CapReached,
    Overbilled,
    RunRefused,
    TeacherRefused,
    Throttled,
    WinnowError,
)
from harvest.core.nouns import Ask, Message, Reply
from harvest.core.teachers import Student
from harvest.endpoint import announced
from harvest.endpoint.client import Arriving, Teacher, request_body
from harvest.store import Reused, Sent, Store, Writer

GIVE_UP_AFTER = 30
"""Nothing more is asked of an endpoint when this many of its tries have brought nothing and none has brought an
answer."""
REFUSED_TOO_LONG_S = 900.0
"""Nothing more is asked of an endpoint when it has refused every request for this many seconds."""
FIRST_WAIT_S = 0.5
"""The longest wait before the second try, in seconds. It doubles before each further try."""


class Stopped(Exception):
    """Says that nothing more is bought. It is raised only in the tasks of a session, and ends the task."""


@dataclass(frozen=True, slots=True)
class Bought:
    """Says what one attempt brought: a reply or a failure."""

    attempt_id: int
    reply: Reply | None
    failure: str | None = None
    """The class of failure of the last try; None if there is a reply."""


class Buyer:
    """Buys answers from one endpoint in one session."""

    def __init__(
        self, name: str, run: Run, teacher: Teacher, pace: Pace, ledger: Writer, cap: SharedCap, counters: Counters,
        on_end: Callable[["Buyer", WinnowError], None],
    ) -> None:  # fmt: skip
        """`name` is what messages call the endpoint; `run` is the run as it asks this one endpoint.

        `on_end` is called when nothing more can be asked at this endpoint. It is also called with Overbilled, after
        which nothing more is asked at any endpoint. `on_end` must call `stop`.
        """
        self.name, self.run, self.teacher, self.pace, self.counters = name, run, teacher, pace, counters
        self.reason: WinnowError | None = None
        """Why nothing more is asked at this endpoint, when this buyer ended by itself; else None."""
        self.was_short_of_money = False
        """Whether a request ever had to wait because the cap had no room."""
        self._ledger, self._cap, self._on_end = ledger, cap, on_end
        self._tries = Tries(run, ledger, teacher, self._on_settled)
        self._limiter = ConcurrencyLimiter(pace)
        self._same_content = KeyedLock()
        self._money_queue = asyncio.Lock()
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._last_answered_s = self._loop.time()
        self._any_answer, self._fruitless = False, 0
        self._last_failure: AttemptFailed | None = None
        self._served_by: set[tuple[str | None, str | None]] = set()

    @property
    def is_open(self) -> bool:
        return not self._stop.is_set()

    def stop(self) -> None:
        """Stops asking. Requests in flight are waited for, since they are paid for."""
        self._stop.set()
        self._cap.changed.set()
        self._limiter.open()

    async def buy(self, question_id: int, ask: Ask, messages: Sequence[Message]) -> Bought:
        """Returns the answer to these messages, or the failure if there is none. Raises Stopped when nothing more is
        bought.

        If the store has an answer to the same content already, it is used and nothing is bought. If another task is
        buying the same content now, that task is waited for.
        """
        # Equal answers are one request to the judging model, whatever their own sample numbers.
        sample = ask.sample if ask.about is None else 0
        body = request_body(self.run.model, messages, self.run.config.sampling, sample, ask.max_tokens)
        key = self.run.key(body, sample)
        async with self._same_content(key):
            return await self._in_tries(question_id, ask, body, key)

    async def _in_tries(self, question_id: int, ask: Ask, body: dict[str, Any], key: str) -> Bought:
        counted = 0
        while True:
            async with self._limiter.slot() as slot:
                held = await self._reserved(question_id, ask, body, key)
                if isinstance(held, Reused):
                    self.pace.withdrawn(slot.sent_s)
                    self.counters.reused += 1
                    return Bought(held.attempt_id, held.reply)
                outcome = await self._try(held, body, ask.max_tokens, slot)
            if isinstance(outcome, Reply):
                return Bought(held.attempt_id, outcome)
            if isinstance(outcome, RunRefused):
                raise Stopped
            if isinstance(outcome, Throttled):
                continue
            counted += 1
            if not outcome.again or counted >= self.run.config.sampling.tries:
                await self._ledger.do(Store.fail_attempt, held.attempt_id, outcome.kind)
                return Bought(held.attempt_id, None, outcome.kind)
            await self._wait_after(outcome, counted)

    async def _reserved(self, question_id: int, ask: Ask, body: dict[str, Any], key: str) -> Sent | Reused:
        """Returns a try whose worst case is reserved, or the answer that is in the store already.

        When the cap has no room now, it waits its turn until other tries give money back. Raises Stopped when no
        unsettled try is left that could: then the cap has no room for another answer from this endpoint.
        """
        held = None if self._money_queue.locked() else await self._reserve_now(question_id, ask, body, key)
        if held is not None:
            return held
        async with self._money_queue:
            while (held := await self._reserve_now(question_id, ask, body, key)) is None:
                self.was_short_of_money = True
                if not self._cap.may_free_up:
                    self._end(CapReached(f"the cap of {self._cap.usd} USD has no room for another answer{self._of}"))
                    raise Stopped
                self._cap.changed.clear()
                await self._cap.changed.wait()
        return held

    async def _reserve_now(self, question_id: int, ask: Ask, body: dict[str, Any], key: str) -> Sent | Reused | None:
        if self._stop.is_set():
            raise Stopped
        return await self._tries.reserve(question_id, ask, body, key)

    async def _try(self, sent: Sent, body: dict[str, Any], max_tokens: int, slot: Slot) -> Reply | AttemptFailed:
        arriving = Arriving()

        def on_answer() -> None:
            self.counters.in_flight -= 1
            self._heed_limits(arriving, slot)
            slot.release()

        self.counters.in_flight += 1
        self.counters.peak_in_flight = max(self.counters.peak_in_flight, self.counters.in_flight)
        try:
            with self._cap.unsettled_try():
                outcome = await self._tries.send(sent, body, max_tokens, arriving, on_answer)
        finally:
            self.counters.in_flight -= slot.is_held
        if isinstance(outcome, AttemptFailed):
            self._on_failure(outcome, slot.sent_s)
            self._heed_limits(arriving, slot)
        return outcome

    def _heed_limits(self, arriving: Arriving, slot: Slot) -> None:
        self.pace.heard(announced(arriving.headers, time.time()), slot.sent_s, self._loop.time())

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

    # ---- what a try says about its endpoint

    def _on_settled(self, settled: Settled) -> None:
        if settled.money is not None:
            self._cap.spent_pusd, self._cap.in_doubt_pusd = settled.money.spent, settled.money.in_doubt
        outcome = settled.outcome
        if isinstance(outcome, AttemptFailed):
            self.counters.failed_tries += 1
            if isinstance(outcome, RunRefused):
                self._end(TeacherRefused(f"{self.name} refuses for good: {outcome}"))
        else:
            self.pace.answered(outcome.usage.output_tokens)
            self._any_answer, self._fruitless, self._last_answered_s = True, 0, self._loop.time()
            self.counters.output_tokens += outcome.usage.output_tokens or 0
            self._notice_who_answers(outcome)
        if settled.overbilled:
            self._on_end(self, _overbilled(settled))

    def _on_failure(self, failure: AttemptFailed, sent_s: float) -> None:
        """Slows down when requests come too fast, and stops asking this endpoint when it does not answer."""
        at_s = self._loop.time()
        if isinstance(failure, Throttled):
            self.pace.refused_at(sent_s, at_s, failure.retry_after_s)
            if at_s - self._last_answered_s > REFUSED_TOO_LONG_S:
                minutes = REFUSED_TOO_LONG_S / 60
                self._end(TeacherRefused(f"every request{self._of} was refused for {minutes:.0f} minutes: {failure}"))
            return
        # One question that an endpoint refuses says nothing of the endpoint. But where a student refuses each of them,
        # all of its questions would go to a teacher.
        if failure.again or isinstance(self.run.config.teacher, Student):
            self._fruitless += 1
            self._last_failure = failure
            if self._fruitless >= GIVE_UP_AFTER and not self._any_answer:
                self._end(TeacherRefused(f"the first {GIVE_UP_AFTER} tries{self._of} brought nothing: {failure}"))

    def _end(self, reason: WinnowError) -> None:
        self.reason = self.reason or reason
        self._on_end(self, reason)

    @property
    def _of(self) -> str:
        return "" if self.name == "the teacher" else f" of {self.name}"

    def _notice_who_answers(self, reply: Reply) -> None:
        """Warns once of each model or provider that answers and is not the one that answered first."""
        who = (reply.served_model, reply.served_by)
        if who not in self._served_by and self._served_by:
            words = " by ".join(str(w) for w in who if w)
            self.counters.warnings.append(
                f"answers{self._of} now come from {words or 'an unnamed model'}, not only who answered first"
            )
        self._served_by.add(who)

    def silence(self) -> str | None:
        """Returns a warning when the endpoint has never answered, or no longer answers, and asking went on all the
        same; else None."""
        if self.reason is not None or self._last_failure is None:
            return None
        if not self._fruitless or (self._any_answer and self._fruitless < GIVE_UP_AFTER):
            return None
        more = " any more" if self._any_answer else ""
        tries = "its last try" if self._fruitless == 1 else f"the last {self._fruitless} tries"
        waits = ", and what it is to answer waits for the next start" if self._last_failure.again else ""
        return f"{self.name} answers nobody{more}{waits}: {tries} brought nothing: {self._last_failure}"


def _overbilled(settled: Settled) -> Overbilled:
    if beyond := next((claim.words for claim in settled.claims if claim.kind == "limit"), None):
        return Overbilled(
            f"the endpoint sent {beyond}: it may bill more than was reserved, and does not say how much. Asking"
            " stopped. `harvest report` has the figures"
        )
    outcome = settled.outcome
    reply = outcome if isinstance(outcome, Reply) else outcome.reply
    what = ""
    if isinstance(reply, Reply):
        what = f" ({reply.usage.output_tokens} output tokens, response {reply.response_id})"
    return Overbilled(
        f"the endpoint billed more for an answer{what} than it had been allowed: all is booked, asking stopped."
        " `harvest report` has the figures"
    )
