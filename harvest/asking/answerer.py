"""One teacher, or the student, within one start of `collect`: how its tries are let go, sent, and tried again.

Each has a gate, a pace and a price of its own. The cap is one for all, and who waits for money waits for what any of
them may give back (`Purse`).
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from harvest.asking.buy import Buyer, Settled
from harvest.asking.counters import Counters
from harvest.asking.gate import Gate, Pass, Stopped
from harvest.asking.pace import LONGEST_WAIT_S, Pace
from harvest.asking.run import Run
from harvest.core.errors import (
    AttemptFailed,
    CapReached,
    Overbilled,
    RunRefused,
    TeacherRefused,
    Throttled,
    WinnowError,
)
from harvest.core.nouns import Ask, Reply
from harvest.core.teachers import Student
from harvest.endpoint.announced_limits import announced
from harvest.endpoint.client import Arriving, Teacher
from harvest.store import Reused, Sent, Store, Writer

GIVE_UP_AFTER = 30
"""So many tries in a row, from the first on, that brought nothing: nobody answers there."""
REFUSED_TOO_LONG_S = 900.0


class Purse:
    """What is reserved under the one cap and may be given back, as all who are asked share it."""

    def __init__(self) -> None:
        self.moved = asyncio.Event()
        self._held = 0  # tries whose money is not settled

    @property
    def is_settled(self) -> bool:
        """Nothing is out that could give any back."""
        return not self._held

    @contextmanager
    def holding(self) -> Iterator[None]:
        """While money is reserved that may be given back."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self.moved.set()


class Answerer:
    """Who is asked. `run` is the run as it asks this one alone; `name` what people call it."""

    def __init__(
        self, name: str, run: Run, ledger: Writer, teacher: Teacher, pace: Pace, purse: Purse, counters: Counters,
        ended: Callable[["Answerer", WinnowError], None],
    ) -> None:  # fmt: skip
        """`ended` hears why nothing more can be asked: of it, or of anybody where it is Overbilled."""
        self.name, self.run, self.ledger, self.purse, self.counters = name, run, ledger, purse, counters
        self.reason: WinnowError | None = None
        """Why nothing more is asked of it, where that is not the end of the start."""
        self.capped = False
        """Whether it ever waited for money."""
        self._ended = ended
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._gate = Gate(pace)
        self._money_queue = asyncio.Lock()
        self._served: set[tuple[str | None, str | None]] = set()
        self._buyer = Buyer(run, ledger, teacher, self._told)
        self._any_answer, self._fruitless = False, 0
        self._last_failure: AttemptFailed | None = None
        self._is_student = isinstance(run.config.teacher, Student)
        self._last_good_s = self._loop.time()

    @property
    def pace(self) -> Pace:
        return self._gate.pace

    @property
    def is_open(self) -> bool:
        return not self._stop.is_set()

    def stop(self) -> None:
        """Asks nothing more; what is in flight is waited for, since it is paid for."""
        self._stop.set()
        self.purse.moved.set()
        self._gate.open = True
        self._gate.wake()

    def _end(self, reason: WinnowError) -> None:
        if self.reason is None:
            self.reason = reason
        self._ended(self, reason)

    async def buy(self, question_id: int, ask: Ask, body: dict[str, Any], key: str) -> tuple[int, Reply | None, str]:
        """(attempt, its reply or None, the class of failure), in as many tries as are allowed. Raises Stopped."""
        counted = 0
        while True:
            async with self._gate() as let_in:
                held = await self._reserve(question_id, ask, body, key)
                if isinstance(held, Reused):
                    self.pace.withdrawn(let_in.sent_s)
                    self.counters.reused += 1
                    return held.attempt_id, held.reply, ""
                outcome = await self._try(held, body, ask.max_tokens, let_in)
            if isinstance(outcome, Reply):
                return held.attempt_id, outcome, ""
            if isinstance(outcome, RunRefused):
                raise Stopped
            if isinstance(outcome, Throttled):
                continue
            counted += 1
            if not outcome.again or counted >= self.run.config.sampling.tries:
                await self.ledger.do(Store.fail_attempt, held.attempt_id, outcome.kind)
                return held.attempt_id, None, outcome.kind
            await self._wait_after(outcome, counted)

    async def first(self, work: Awaitable[Any]) -> None:
        """Waits for the work or for the stop, whichever comes first."""
        both = {asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())}
        _, rest = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()

    async def _wait_after(self, failure: AttemptFailed, tries: int) -> None:
        wait_s = failure.retry_after_s
        if wait_s is None:
            wait_s = 0.25 * 2**tries * random.uniform(0.5, 1.0)
        await self.first(asyncio.sleep(min(wait_s, LONGEST_WAIT_S)))

    async def _reserve(self, question_id: int, ask: Ask, body: dict[str, Any], key: str) -> Sent | Reused:
        """A try with its worst case reserved. Near the cap it waits its turn for what others give back; where nobody
        is left to give any, the cap has no room for another answer of this one."""

        async def once() -> Sent | Reused | None:
            if self._stop.is_set():
                raise Stopped
            return await self._buyer.reserve(question_id, ask, body, key)

        held = None if self._money_queue.locked() else await once()
        if held is None:
            async with self._money_queue:
                while (held := await once()) is None:
                    self.capped = True
                    if self.purse.is_settled:
                        cap = self.run.config.budget.usd
                        of = "" if self.name == "the teacher" else f" of {self.name}"
                        self._end(CapReached(f"the cap of {cap} USD has no room for another answer{of}"))
                        raise Stopped
                    self.purse.moved.clear()
                    await self.purse.moved.wait()
        return held

    async def _try(self, sent: Sent, body: dict[str, Any], max_tokens: int, let_in: Pass) -> Reply | AttemptFailed:
        arriving = Arriving()

        def answered() -> None:
            self.counters.in_flight -= 1
            self._heard(arriving, let_in)
            let_in.leave()

        self.counters.in_flight += 1
        self.counters.peak_in_flight = max(self.counters.peak_in_flight, self.counters.in_flight)
        try:
            with self.purse.holding():
                outcome = await self._buyer.send(sent, body, max_tokens, arriving, answered)
        finally:
            self.counters.in_flight -= let_in.inside
        if isinstance(outcome, AttemptFailed):
            self._failed(outcome, let_in.sent_s)
            self._heard(arriving, let_in)
        return outcome

    def silence(self) -> str | None:
        """What to tell the user where it answered nobody, or nobody any more, and that did not end its part."""
        if self.reason is not None or self._last_failure is None:
            return None
        if not self._fruitless or (self._any_answer and self._fruitless < GIVE_UP_AFTER):
            return None
        more = " any more" if self._any_answer else ""
        tries = "its last try" if self._fruitless == 1 else f"the last {self._fruitless} tries"
        waits = ", and what it is to answer waits for the next start" if self._last_failure.again else ""
        return f"{self.name} answers nobody{more}{waits}: {tries} brought nothing: {self._last_failure}"

    def _heard(self, arriving: Arriving, let_in: Pass) -> None:
        self.pace.heard(announced(arriving.headers, time.time()), let_in.sent_s, self._loop.time())

    def _told(self, settled: Settled) -> None:
        """Each settlement, as it is in the store."""
        self.counters.spent_pusd += settled.cost_pusd or 0
        outcome = settled.outcome
        if isinstance(outcome, AttemptFailed):
            self.counters.failed_tries += 1
            if isinstance(outcome, RunRefused):
                self._end(TeacherRefused(f"{self.name} refuses for good: {outcome}"))
        else:
            self.pace.answered(outcome.usage.output_tokens)
            self._any_answer, self._fruitless, self._last_good_s = True, 0, self._loop.time()
            self.counters.output_tokens += outcome.usage.output_tokens or 0
            self._notice_who(outcome)
        if settled.over:
            self._ended(self, overbilled(outcome if isinstance(outcome, Reply) else outcome.reply))

    def _notice_who(self, reply: Reply) -> None:
        """Warns, once for each newcomer, when another model or provider answers in its name."""
        who = (reply.served_model, reply.served_by)
        if who in self._served:
            return
        if self._served:
            words = " by ".join(str(w) for w in who if w)
            self.counters.warnings.append(
                f"answers now come from {words or 'an unnamed model'}, not only who answered first"
            )
        self._served.add(who)

    def _failed(self, failure: AttemptFailed, sent_s: float) -> None:
        """Slows down where it came too fast, and gives up where nobody answers."""
        at = self._loop.time()
        of = "" if self.name == "the teacher" else f" of {self.name}"
        if isinstance(failure, Throttled):
            self.pace.refused_at(sent_s, at, failure.retry_after_s)
            if at - self._last_good_s > REFUSED_TOO_LONG_S:
                minutes = REFUSED_TOO_LONG_S / 60
                self._end(TeacherRefused(f"every request{of} was refused for {minutes:.0f} minutes: {failure}"))
        # A row's own refusal is no fault of a teacher's; of a student, all its questions would go to a teacher.
        elif failure.again or self._is_student:
            self._fruitless += 1
            self._last_failure = failure
            if self._fruitless >= GIVE_UP_AFTER and not self._any_answer:
                self._end(TeacherRefused(f"the first {GIVE_UP_AFTER} tries{of} brought nothing: {failure}"))


def overbilled(reply: object) -> Overbilled:
    """What the user is told where a reply cost more than was reserved for it."""
    what = (
        f" ({reply.usage.output_tokens} output tokens, response {reply.response_id})"
        if isinstance(reply, Reply)
        else ""
    )
    return Overbilled(
        f"the endpoint billed more for an answer{what} than it had been allowed: all is booked, asking stopped."
        " `harvest report` has the figures"
    )
