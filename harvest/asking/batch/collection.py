"""Asks the questions of a run in batches, until each has ended or waits for a teacher that is asked live.

The store says what is left: the open questions are read page by page, and those in a batch are left out. So the memory
does not grow with the run.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from harvest.asking.batch.buyer import BatchBuyer
from harvest.asking.batch.results import SettledRow
from harvest.asking.buying.buyer import Buyer, Stopped
from harvest.asking.buying.counters import Counters
from harvest.asking.incoming import IncomingAnswers
from harvest.asking.planning.plan import BY_STUDENT, is_by_public, next_step, rules_of
from harvest.asking.planning.run import Run
from harvest.asking.stopping import Stopping
from harvest.core.clock import now
from harvest.core.errors import AttemptFailed, InputError, RunRefused, StoreUnusable, TeacherRefused, WinnowError
from harvest.core.nouns import Ask, Attempt, Question, Reply
from harvest.endpoint.client import request_body
from harvest.questions.rows import judged_together
from harvest.store import OpenQuestion, RowToSend, Store, Writer

T = TypeVar("T")
PAGE = 256


class BatchCollection:
    """Asks in batches, in one session."""

    def __init__(
        self, run: Run, ledger: Writer, buyers: Mapping[int, Buyer], incoming: IncomingAnswers, stopping: Stopping,
        counters: Counters, say: Callable[[str], None], among: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        """`buyers` has those that are asked in batches, or were in an earlier session, by place."""
        self._run, self._ledger, self._incoming, self._stopping = run, ledger, incoming, stopping
        self._counters, self._say, self._among = counters, say, among
        self._rules, self._since = rules_of(run.config), now()
        self._stop = asyncio.Event()
        stopping.when_stopping.append(self._stop.set)
        self._buyers = {
            place: BatchBuyer(place, buyer, ledger, self._settled, say, self._stop, lambda: stopping.interrupted)
            for place, buyer in buyers.items()
        }
        self._after: int | None = 0
        """The scan of the open questions goes on behind this row; None: it is at its end."""
        self._is_more = True
        """Whether another scan may find rows to send."""
        self._left_open = 0
        """How many rows were settled since the last scan whose question wants more."""
        self.elsewhere = Counter[str]()
        """How many answers the last scan did not ask for, since a batch of the run with this name asks for them."""
        self._settled_rows = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def has_any(self) -> bool:
        """Whether anybody is asked in batches."""
        return bool(self._buyers)

    async def ask_all(self) -> bool:
        """Asks until nothing more can be asked in batches, or until asking stops. Returns whether anything came."""
        self._after, self._is_more, self._settled_rows = 0, True, 0
        self._task = asyncio.create_task(self._ask())
        try:
            await self._task
        except (Stopped, asyncio.CancelledError):
            if not self._stopping.is_stopping:
                raise
        except WinnowError as e:
            self._stopping.stop(e)
        finally:
            for buyer in self._buyers.values():
                buyer.drop_slice()
                self._counters.waiting.pop(buyer.buyer.name, None)
        if not isinstance(self._stopping.reason, StoreUnusable):
            for buyer in self._buyers.values():
                await buyer.give_back()
        if left := [batch for buyer in self._buyers.values() for batch in buyer.open]:
            rows, many = sum(batch.rows for batch in left), "1 batch" if len(left) == 1 else f"{len(left)} batches"
            self._say(
                f"{many} with {rows:,} rows stay at the endpoint and run on: the next start fetches their answers"
            )
        return self._settled_rows > 0

    def cancel(self) -> None:
        """Ends what is under way at once. The next session goes on from there."""
        if self._task is not None:
            self._task.cancel()

    async def _ask(self) -> None:
        for buyer in self._buyers.values():
            await self._guarded(buyer, buyer.find_again(), fetches=True)
        made_before = (-1, -1)
        while not self._stopping.is_stopping:
            await self._fill()
            before = self._settled_rows
            for buyer in self._buyers.values():
                await self._guarded(buyer, buyer.look(), fetches=True)
            self._count_open()
            if any(buyer.waits for buyer in self._buyers.values()):
                if self._settled_rows == before:
                    await self._pause()
                continue
            for buyer in self._buyers.values():
                buyer.end_if_short()
            is_more = self._is_more or any(buyer.groups for buyer in self._buyers.values())
            made = (sum(buyer.made for buyer in self._buyers.values()), self._counters.reused)
            if not is_more or made == made_before or not any(buyer.takes_rows for buyer in self._buyers.values()):
                break
            made_before = made

    async def _guarded(self, buyer: BatchBuyer, work: Awaitable[T], *, fetches: bool = False) -> T | None:
        """Does something for one teacher. What ends this teacher alone lets the others go on. Where its batches cannot
        be fetched, nobody waits for them."""
        try:
            return await work
        except InputError:
            raise  # the store, or the disk
        except AttemptFailed as e:
            buyer.buyer.end(TeacherRefused(f"{buyer.buyer.name} refuses a request about batches: {e}"))
        except WinnowError as e:
            buyer.buyer.end(e)
        buyer.is_silent = buyer.is_silent or fetches
        return None

    async def _pause(self) -> None:
        polls = (buyer.buyer.run.config.teacher.batch_poll_s for buyer in self._buyers.values() if buyer.waits)
        try:
            async with asyncio.timeout(min(polls)):
                await self._stop.wait()
        except TimeoutError:
            return

    def _count_open(self) -> None:
        counters = self._counters
        counters.in_batches = sum(batch.rows for buyer in self._buyers.values() for batch in buyer.open)
        counters.peak_in_flight = max(counters.peak_in_flight, counters.in_batches)

    # ---- what is sent

    async def _fill(self) -> None:
        """Sends as many slices as may be sent now."""
        for buyer in self._buyers.values():
            while buyer.groups and buyer.takes_rows:
                await self._send_group(buyer, buyer.groups.popleft())
        if self._after is None:
            is_enough = self._left_open >= self._run.config.teacher.batch_rows
            if not self._is_more or not (is_enough or not any(buyer.waits for buyer in self._buyers.values())):
                return
            self._after, self._is_more, self._left_open = 0, False, 0
            self.elsewhere.clear()
        while any(buyer.takes_rows for buyer in self._buyers.values()) and not self._stopping.is_stopping:
            page = await self._ledger.do(Store.open_questions, self._run.id, self._after, PAGE, self._among)
            if not page:
                self._after = None
                break
            self._after = await self._send_page(page, set(self._buyers))
        if self._after is None:
            for buyer in self._buyers.values():
                await self._guarded(buyer, buyer.send())

    async def _send_group(self, buyer: BatchBuyer, questions: Sequence[int]) -> None:
        """Sends the rows of some questions in a slice of their own."""
        await self._guarded(buyer, buyer.send())
        for at in range(0, len(questions), PAGE):
            among = questions[at : at + PAGE]
            page = await self._ledger.do(Store.open_questions, self._run.id, 0, PAGE, among)
            await self._send_page(page, {buyer.place})
        await self._guarded(buyer, buyer.send())
        self._is_more = True

    async def _send_page(self, page: Sequence[OpenQuestion], places: set[int]) -> int:
        """Puts the rows that some questions want into the slices of these teachers. Returns the last question whose
        rows were put, or need not be: nobody may take more."""
        rows = list[tuple[OpenQuestion, RowToSend, dict[str, Any]]]()
        for question in page:
            for ask in await self._asks(question):
                if ask.teacher in places and self._buyers[ask.teacher].buyer.is_open:
                    run = self._buyers[ask.teacher].buyer.run
                    messages = run.prompt.messages(question.question)
                    body = request_body(run.model, messages, run.config.sampling, ask.sample, ask.max_tokens)
                    rows.append((question, self._buyers[ask.teacher].row_of(question.id, ask, body), body))
        stored = await self._ledger.do(Store.reuse_all, self._run.id, [row for _, row, _ in rows])
        taken = await self._ledger.do(Store.in_batches, [row.key for _, row, _ in rows])
        for (question, row, body), reused in zip(rows, stored, strict=True):
            if reused is not None:
                self._counters.reused += 1
                attempt = Attempt(
                    reused.attempt_id, row.ask.sample, row.ask.max_tokens, "answered", teacher=row.ask.teacher
                )
                await self._judge(question.id, question.question, attempt, reused.reply)
                await self._plan({question.id: question.question})
            elif row.key in taken:
                self._is_more = True  # the answer is on its way, for another question or another run
                self.elsewhere[taken[row.key]] += 1
            else:
                buyer = self._buyers[row.ask.teacher]
                was_taken = await self._guarded(buyer, buyer.add(row, body))
                self._is_more = self._is_more or not was_taken
                if not was_taken and not any(self._buyers[place].takes_rows for place in places):
                    return question.id - 1
        return page[-1].id

    async def _asks(self, question: OpenQuestion) -> tuple[Ask, ...]:
        """Returns what is to be asked about a question now. A question that has ended is closed."""
        attempts = {attempt.id: attempt for attempt in question.attempts}
        while True:
            together = judged_together(question.question)
            step = next_step(list(attempts.values()), self._rules, together=together, question_id=question.question.id)
            if step.judge:
                attempts |= {a.id: a for a in await self._incoming.judge_together(question, attempts)}
                continue
            if step.ended:
                self._close(question.id, step.ended)
                self._counters.by_public += is_by_public(attempts.values())
            return step.asks

    def _close(self, question_id: int, ended: str) -> None:
        self._ledger.post(Store.close_question, question_id, ended)
        self._counters.ended += 1
        self._counters.by_student += ended == BY_STUDENT

    # ---- what comes

    async def _settled(self, rows: Sequence[SettledRow]) -> None:
        """Has answers judged, and plans what their questions want next."""
        self._settled_rows += len(rows)
        tries = await self._ledger.do(Store.tries_since, [one.row.attempt.id for one in rows], self._since)
        answered = list[tuple[SettledRow, Reply]]()
        for one in rows:
            if isinstance(one.outcome, Reply):
                answered.append((one, one.outcome))
            elif not isinstance(one.outcome, RunRefused):
                attempt = one.row.attempt
                most = self._buyers[attempt.teacher].buyer.run.config.sampling.tries
                if not one.outcome.again or tries.get(attempt.id, 0) >= most:
                    self._ledger.post(Store.fail_attempt, attempt.id, one.outcome.kind)
        await asyncio.gather(
            *(
                self._judge(one.row.question_id, one.row.question, replace(one.row.attempt, state="answered"), reply)
                for one, reply in answered
            )
        )
        await self._plan({one.row.question_id: one.row.question for one in rows})

    async def _judge(self, question_id: int, question: Question, attempt: Attempt, reply: Reply) -> None:
        try:
            await self._incoming.judge(question_id, question, replace(attempt, reason=None), reply)
        except Stopped:  # the judging model is asked by the next session
            return

    async def _plan(self, questions: Mapping[int, Question]) -> None:
        """Closes the questions that have ended, and counts those that want more."""
        attempts = await self._ledger.do(Store.attempts_of_all, list(questions))
        for question_id, question in questions.items():
            asks = await self._asks(OpenQuestion(question_id, question, attempts[question_id]))
            self._left_open += bool(asks)
            self._is_more = self._is_more or bool(asks)
