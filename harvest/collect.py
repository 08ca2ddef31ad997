"""The loop that ties plan, budget, teacher and checks together.

For each question: what is worth asking (plan), its worst case reserved (store), one try over the wire (teacher),
settled (store), judged (checks), and again, until the plan says how the question ended.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from harvest.buy import Buyer, Settled
from harvest.checks import judged_together
from harvest.errors import AttemptFailed, CapReached, Overbilled, RunRefused, TeacherRefused, Throttled, WinnowError
from harvest.gate import ByKey, Gate, Pass, Stopped
from harvest.ledger import Ledger
from harvest.limits import announced
from harvest.pace import LONGEST_WAIT_S, Pace
from harvest.plan import next_step, rules_of
from harvest.reply import cut_short
from harvest.ruling import JudgesTogether, Ruling, rule, rule_together
from harvest.run import Run, now
from harvest.second import Second
from harvest.store import OpenQuestion, Reused, Sent, Store
from harvest.teacher import Arriving, Teacher, request_body
from harvest.trace import Ask, Attempt, Question, Reply, Verdict

PAGE = 256
SPARE_QUESTIONS = 32
GIVE_UP_AFTER = 30
"""So many tries in a row, from the first on, that brought nothing: nobody answers there."""
REFUSED_TOO_LONG_S = 900.0


class Judging(JudgesTogether, Protocol):
    async def judge(self, question: Question, answer: str) -> Verdict: ...


@dataclass(slots=True)
class Tally:
    """What this start has done so far, for the progress line. The store's figures are the report's."""

    questions: int = 0
    ended: int = 0
    accepted: int = 0
    rejected: int = 0
    failed_tries: int = 0
    reused: int = 0
    output_tokens: int = 0
    spent_pusd: int = 0
    in_flight: int = 0
    """Tries that are out, or about to be."""
    peak_in_flight: int = 0
    stopping: bool = False
    warnings: list[str] = field(default_factory=list)


class Collection:
    """One start of `collect`. `stop` ends the asking, `abandon` also lets go of what is in flight."""

    def __init__(
        self, run: Run, ledger: Ledger, teacher: Teacher, judge: Judging, tally: Tally, pace: Pace | None = None,
        second: tuple[Run, Teacher] | None = None,
    ) -> None:  # fmt: skip
        """`pace` is what an earlier start found of this teacher; `second` the model that is asked about what the
        checks refuse, if there is one."""
        self.run, self.ledger, self.judge, self.tally = run, ledger, judge, tally
        self.reason: WinnowError | None = None
        self.interrupted = False
        self.capped = False
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._gate = Gate(pace or Pace(run.config.teacher.max_concurrency))
        self._tasks: set[asyncio.Task[None]] = set()
        self._money_moved = asyncio.Event()
        self._money_queue = asyncio.Lock()
        self._by_key = ByKey()
        self._held = 0  # tries whose money is not settled
        self._served: set[tuple[str | None, str | None]] = set()
        self._buyer = Buyer(run, ledger, teacher, self._told)
        self.second: Second | None = None
        if second is not None and run.config.judge is not None:
            asked, model = second
            self.second = Second(asked, run.config.judge, ledger, model, self._told_of_opinion, self._holding)
        self._any_answer, self._fruitless = False, 0
        self._last_good_s = self._loop.time()

    def stop(self, reason: WinnowError | None = None) -> None:
        """Asks nothing more; what is in flight is waited for, since it is paid for."""
        if self.reason is None or isinstance(reason, Overbilled):
            self.reason = reason
        if self.second is not None:
            self.second.stop(capped=isinstance(reason, CapReached))
        self._stop.set()
        self._money_moved.set()
        self.tally.stopping = self._gate.open = True
        self._gate.wake()

    @property
    def pace(self) -> Pace:
        return self._gate.pace

    def interrupt(self) -> None:
        """The user stops it; it can go on."""
        self.interrupted = True
        self.stop()

    def abandon(self) -> None:
        """Lets go of what is in flight: it stays in doubt, in the store."""
        self.stop()
        for task in self._tasks:
            task.cancel()

    async def ask_all(self) -> None:
        """Until every question has ended, or asking has stopped and what was in flight is settled."""
        for question_id, unjudged, attempt, reply in await self.ledger.do(Store.unjudged, self.run.id):
            self._begin(self._judge(question_id, unjudged, attempt, reply))
        while self._tasks:
            await asyncio.wait(self._tasks)
        cfg = self.run.config
        judged_beside = 0 if cfg.judge is None else cfg.judge.max_concurrency
        room = asyncio.Semaphore(cfg.teacher.max_concurrency + judged_beside + SPARE_QUESTIONS)
        after = 0
        while page := await self.ledger.do(Store.open_questions, self.run.id, after, PAGE):
            for question in page:
                await (self._first(room.acquire()) if room.locked() else room.acquire())
                if self._stop.is_set():
                    break
                self._begin(self._see_through(question)).add_done_callback(lambda _: room.release())
            after = page[-1].id
            if self._stop.is_set():
                break
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _first(self, work: Awaitable[Any]) -> None:
        """Waits for the work or for the stop, whichever comes first."""
        both = {asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())}
        _, rest = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()

    def _begin(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _see_through(self, question: OpenQuestion) -> None:
        """One question until it ends."""
        attempts = {a.id: a for a in question.attempts}
        together = judged_together(question.question)
        rules = rules_of(self.run.config)
        while True:
            step = next_step(list(attempts.values()), rules, together=together, question_id=question.question.id)
            if step.ended:
                self.ledger.post(Store.close_question, question.id, step.ended)
                self.tally.ended += 1
                return
            if step.judge:
                await self._judge_together(question, attempts)
                continue
            found = await asyncio.gather(*(self._attempt(question, a) for a in step.asks), return_exceptions=True)
            for a in found:
                if isinstance(a, BaseException):
                    raise a
                attempts[a.id] = a

    async def _guarded(self, work: Coroutine[Any, Any, object]) -> None:
        """A task of its own, whose end ends the run only where it must."""
        try:
            await work
        except Stopped:
            return
        except WinnowError as e:
            self.stop(e)
        # A worker's boundary: a defect of ours must end the run and be told, not vanish with its task.
        except Exception as e:
            self.stop(WinnowError(f"a defect of winnow's own: {type(e).__name__}: {e}"))
            raise

    async def _attempt(self, question: OpenQuestion, ask: Ask) -> Attempt:
        """One answer bought and judged, or given up. The same content in flight already is waited for."""
        cfg = self.run.config
        messages = self.run.prompt.messages(question.question)
        body = request_body(self.run.model, messages, cfg.sampling, ask.sample, ask.max_tokens)
        key = self.run.key(body, ask.sample)
        async with self._by_key(key):
            attempt_id, reply, failed = await self._buy(question.id, ask, body, key)
        if reply is None:
            return Attempt(attempt_id, ask.sample, ask.max_tokens, "failed", None, failed)
        answered = Attempt(attempt_id, ask.sample, ask.max_tokens, "answered")
        return await self._judge(question.id, question.question, answered, reply)

    async def _buy(
        self, question_id: int, ask: Ask, body: dict[str, Any], key: str
    ) -> tuple[int, Reply | None, str | None]:
        """(attempt, its reply or None, the class of failure), in as many tries as are allowed."""
        counted = 0
        while True:
            async with self._gate() as let_in:
                held = await self._reserve(question_id, ask, body, key)
                if isinstance(held, Reused):
                    self.pace.withdrawn(let_in.sent_s)
                    self.tally.reused += 1
                    return held.attempt_id, held.reply, None
                outcome = await self._try(held, body, ask.max_tokens, let_in)
            if isinstance(outcome, Reply):
                return held.attempt_id, outcome, None
            if isinstance(outcome, RunRefused):
                raise Stopped
            if isinstance(outcome, Throttled):
                continue
            counted += 1
            if not outcome.again or counted >= self.run.config.sampling.tries:
                await self.ledger.do(Store.fail_attempt, held.attempt_id, outcome.kind)
                return held.attempt_id, None, outcome.kind
            await self._wait_after(outcome, counted)

    async def _wait_after(self, failure: AttemptFailed, tries: int) -> None:
        wait_s = failure.retry_after_s
        if wait_s is None:
            wait_s = 0.25 * 2**tries * random.uniform(0.5, 1.0)
        await self._first(asyncio.sleep(min(wait_s, LONGEST_WAIT_S)))

    async def _reserve(self, question_id: int, ask: Ask, body: dict[str, Any], key: str) -> Sent | Reused:
        """A try with its worst case reserved. Near the cap it waits its turn for what others give back."""

        async def once() -> Sent | Reused | None:
            if self._stop.is_set():
                raise Stopped
            return await self._buyer.reserve(question_id, ask, body, key)

        held = None if self._money_queue.locked() else await once()
        if held is None:
            async with self._money_queue:
                while (held := await once()) is None:
                    self.capped = True
                    if not self._held:
                        cap = self.run.config.budget.usd
                        self.stop(CapReached(f"the cap of {cap} USD has no room for another answer"))
                        raise Stopped
                    self._money_moved.clear()
                    await self._money_moved.wait()
        return held

    async def _try(self, sent: Sent, body: dict[str, Any], max_tokens: int, let_in: Pass) -> Reply | AttemptFailed:
        arriving = Arriving()

        def answered() -> None:
            self.tally.in_flight -= 1
            self._heard(arriving, let_in)
            let_in.leave()

        self.tally.in_flight += 1
        self.tally.peak_in_flight = max(self.tally.peak_in_flight, self.tally.in_flight)
        try:
            with self._holding():
                outcome = await self._buyer.send(sent, body, max_tokens, arriving, answered)
        finally:
            self.tally.in_flight -= let_in.inside
        if isinstance(outcome, AttemptFailed):
            self._failed(outcome, let_in.sent_s)
            self._heard(arriving, let_in)
        return outcome

    @contextmanager
    def _holding(self) -> Iterator[None]:
        """While money is reserved that may be given back."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self._money_moved.set()

    def _heard(self, arriving: Arriving, let_in: Pass) -> None:
        self.pace.heard(announced(arriving.headers, time.time()), let_in.sent_s, self._loop.time())

    def _told(self, settled: Settled) -> None:
        """Each settlement, as it is in the store."""
        self.tally.spent_pusd += settled.cost_pusd or 0
        outcome = settled.outcome
        if isinstance(outcome, AttemptFailed):
            self.tally.failed_tries += 1
            if isinstance(outcome, RunRefused):
                self.stop(TeacherRefused(f"the teacher refuses for good: {outcome}"))
        else:
            self.pace.answered(outcome.usage.output_tokens)
            self._any_answer, self._last_good_s = True, self._loop.time()
            self.tally.output_tokens += outcome.usage.output_tokens or 0
            self._notice_who(outcome)
        if settled.over:
            self._overbilled(outcome if isinstance(outcome, Reply) else outcome.reply)

    def _told_of_opinion(self, settled: Settled) -> None:
        self.tally.spent_pusd += settled.cost_pusd or 0
        if settled.over:
            outcome = settled.outcome
            self._overbilled(outcome if isinstance(outcome, Reply) else outcome.reply)

    def _overbilled(self, reply: object) -> None:
        what = (
            f" ({reply.usage.output_tokens} output tokens, response {reply.response_id})"
            if isinstance(reply, Reply)
            else ""
        )
        self.stop(
            Overbilled(
                f"the endpoint billed more for an answer{what} than it had been allowed: all is booked, asking stopped."
                " `harvest report` has the figures"
            )
        )

    def _notice_who(self, reply: Reply) -> None:
        """Warns, once for each newcomer, when another model or provider answers within the run."""
        who = (reply.served_model, reply.served_by)
        if who in self._served:
            return
        if self._served:
            words = " by ".join(str(w) for w in who if w)
            self.tally.warnings.append(
                f"answers now come from {words or 'an unnamed model'}, not only who answered first"
            )
        self._served.add(who)

    def _failed(self, failure: AttemptFailed, sent_s: float) -> None:
        """Slows down where it came too fast, and gives up where nobody answers."""
        at = self._loop.time()
        if isinstance(failure, Throttled):
            self.pace.refused_at(sent_s, at, failure.retry_after_s)
            if at - self._last_good_s > REFUSED_TOO_LONG_S:
                self.stop(
                    TeacherRefused(f"every request was refused for {REFUSED_TOO_LONG_S / 60:.0f} minutes: {failure}")
                )
        elif failure.again and not self._any_answer:
            self._fruitless += 1
            if self._fruitless >= GIVE_UP_AFTER:
                self.stop(TeacherRefused(f"the first {GIVE_UP_AFTER} tries brought nothing: {failure}"))

    async def _judge(self, question_id: int, question: Question, attempt: Attempt, reply: Reply) -> Attempt:
        """The attempt after the checks, and the second opinion where there is one: written down. Left as it is where
        all answers to the question are judged together, once the last has come."""
        if reason := cut_short(reply):
            ruling = Ruling(attempt.id, (), reason)
        elif judged_together(question):
            return attempt
        else:
            verdicts = [await self.judge.judge(question, reply.answer)]
            if self.second is not None and self.second.is_asked(question, verdicts[0]):
                opinion = await self.second.opinion(question_id, question, attempt, reply.answer)
                verdicts += [] if opinion is None else [opinion]
            ruling = rule(attempt.id, verdicts)
        self.ledger.post(Store.put_rulings, [ruling], now())
        self.tally.accepted += ruling.accepted
        self.tally.rejected += not ruling.accepted
        return replace(attempt, accepted=ruling.accepted, reason=ruling.reason)

    async def _judge_together(self, question: OpenQuestion, attempts: dict[int, Attempt]) -> None:
        """Judges all answers to a question, writes down what the check says, and brings the attempts up to it."""
        answers = await self.ledger.do(lambda store: list(store.answers_of(question.id)))
        share = self.run.config.checks.majority
        rulings = await asyncio.to_thread(rule_together, question.question, answers, self.judge, share)
        self.ledger.post(Store.put_rulings, rulings, now())
        for r in rulings:
            before = attempts[r.attempt_id]
            self.tally.accepted += r.accepted - (before.accepted is True)
            self.tally.rejected += (not r.accepted) - (before.accepted is False)
            attempts[r.attempt_id] = replace(before, accepted=r.accepted, reason=r.reason)
