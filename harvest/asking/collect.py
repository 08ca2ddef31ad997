"""Collects answers: takes each question in hand, asks it as its plan says, has its answers judged, and writes how it
ended."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from harvest.asking.buying.buyer import AskedInBatch, Buyer, Stopped
from harvest.asking.buying.counters import Counters
from harvest.asking.incoming import IncomingAnswers
from harvest.asking.planning.plan import BY_STUDENT, is_by_public, next_step, rules_of
from harvest.asking.planning.run import Run
from harvest.asking.question_queue import QuestionQueue
from harvest.asking.stopping import Stopping
from harvest.asking.tasks import Tasks
from harvest.core.nouns import STUDENT, Ask, Attempt
from harvest.judging.acceptance import unfinished
from harvest.questions.rows import judged_together
from harvest.store import OpenQuestion, Store, StoredAnswer, Writer

PAGE, PAGE_BYTES = 256, 4_000_000
"""So many stored answers, or bytes of packed replies, are judged at once."""
SPARE_QUESTIONS = 32
"""How many more questions are in hand than requests may be in flight, so that no endpoint waits for a question."""


class Collection:
    """Asks the questions of one session, from the first to the last."""

    def __init__(
        self, run: Run, ledger: Writer, queue: QuestionQueue, buyers: Mapping[int, Buyer], incoming: IncomingAnswers,
        stopping: Stopping, counters: Counters, in_batches: frozenset[int] = frozenset(),
    ) -> None:  # fmt: skip
        """`buyers` has a buyer for each teacher and the student, by place. Those in `in_batches` are asked in batches,
        elsewhere."""
        self.in_batches = in_batches
        self.run, self.ledger, self.queue, self.buyers = run, ledger, queue, buyers
        self.incoming, self.stopping, self.counters = incoming, stopping, counters
        self.rules = rules_of(run.config)
        self.elsewhere = Counter[str]()
        """How many answers were not bought, since a batch of the run with this name asks for them."""
        self.tasks = Tasks(stopping.stop)
        self._one_less = asyncio.Event()
        stopping.when_stopping.append(self._one_less.set)

    async def judge_stored(self) -> None:
        """Judges the answers that an earlier session stored and did not judge. Where others collect the run now,
        whoever claims their questions judges them."""
        if await self.ledger.do(Store.others_alive, self.run.id):
            return
        after: StoredAnswer | None = None
        while page := await self.ledger.do(
            Store.stored_answers, self.run.id, after=after, limit=PAGE, most_bytes=PAGE_BYTES
        ):
            for stored in page:
                self.tasks.begin(self.incoming.judge(stored.question_id, stored.question, stored.attempt, stored.reply))
            await self.tasks.all_done()
            if self.stopping.is_stopping:
                return
            after = page[-1]

    async def ask_all(self) -> None:
        """Asks the session's questions. Returns when no question is left but those that wait for a teacher that is
        asked in batches. Returns earlier if asking is stopped, as soon as everything in flight is settled."""
        self.elsewhere.clear()
        async for question in self.queue.questions(self.tasks.all_done):
            await self._room_for_one_more()
            if self.stopping.is_stopping:
                break
            self._take_in_hand(question)
        await self.tasks.all_done()

    async def _see_through(self, question: OpenQuestion) -> None:
        """Asks one question until it ends. If questions are asked by yield, it stops after a teacher's next wrong
        answer, and puts the question back: another question may now promise more."""
        attempts = {a.id: a for a in question.attempts}
        together = judged_together(question.question)
        asked_a_teacher = False
        for attempt in question.attempts:  # a process that died meanwhile may have left it so
            unjudged = attempt.state == "answered" and attempt.accepted is None and not together
            if unjudged and (reply := await self.ledger.do(Store.answer_of, attempt.id)) is not None:
                attempts[attempt.id] = await self.incoming.judge(question.id, question.question, attempt, reply)
        while True:
            step = next_step(list(attempts.values()), self.rules, together=together, question_id=question.question.id)
            if step.ended:
                self.queue.close(question, step.ended)
                self.counters.ended += 1
                self.counters.by_student += step.ended == BY_STUDENT
                self.counters.by_public += is_by_public(attempts.values())
                return
            if step.judge:
                attempts |= {a.id: a for a in await self.incoming.judge_together(question, attempts)}
                continue
            if any(ask.teacher in self.in_batches for ask in step.asks):
                return
            if self.queue.by_yield and asked_a_teacher and not together:
                self.queue.put_back(question)
                return
            asked_a_teacher = asked_a_teacher or any(ask.teacher != STUDENT for ask in step.asks)
            for attempt in await self._attempts(question, step.asks):
                attempts[attempt.id] = attempt

    async def _attempts(self, question: OpenQuestion, asks: Sequence[Ask]) -> list[Attempt]:
        """Buys several answers at once. All are waited for, even where one fails: what the others bring is paid for."""
        if len(asks) == 1:
            return [await self._attempt(question, asks[0])]
        found = await asyncio.gather(*(self._attempt(question, ask) for ask in asks), return_exceptions=True)
        if (failed := next((one for one in found if isinstance(one, BaseException)), None)) is not None:
            raise failed
        return [one for one in found if not isinstance(one, BaseException)]

    async def _attempt(self, question: OpenQuestion, ask: Ask) -> Attempt:
        """Buys one answer, or the rest of one, and has it judged. Returns the attempt, with its judgement or as
        failed."""
        buyer = self.buyers[ask.teacher]
        cut = None if ask.continues is None else await self.ledger.do(Store.answer_of, ask.continues)
        if ask.continues is not None and cut is None:
            raise Stopped  # the cut answer is not in the store yet, because that cannot be written now
        try:
            bought = await buyer.buy(question.id, ask, buyer.run.prompt.messages(question.question), cut)
        except AskedInBatch as batch:
            self.elsewhere[batch.run] += 1
            raise
        state = "failed" if bought.reply is None else "answered"
        answered = Attempt(
            bought.attempt_id,
            ask.sample,
            ask.max_tokens,
            state,
            reason=bought.failure,
            teacher=ask.teacher,
            continues=ask.continues,
        )
        if bought.reply is None:
            return answered
        if cut is not None:  # the half that was rejected alone is a part of this answer now
            self.counters.rejected[unfinished(cut) or ""] -= 1
        judged = await self.incoming.judge(question.id, question.question, answered, bought.reply)
        if judged.accepted is not None:
            self.queue.learned(question, ask.teacher, judged.accepted, bought.reply)
        return judged

    # ---- how many questions are in hand

    def _take_in_hand(self, question: OpenQuestion) -> None:
        def when_done() -> None:
            self.queue.left(question)
            self._one_less.set()

        self.queue.taken(question)
        self.tasks.begin(self._see_through(question), when_done)

    async def _room_for_one_more(self) -> None:
        while len(self.queue.in_hand) >= self._most_in_hand() and not self.stopping.is_stopping:
            self._one_less.clear()
            await self._one_less.wait()

    def _most_in_hand(self) -> int:
        """Returns how many questions may be in hand: enough for all requests that may be in flight; fewer if the
        results of these questions decide which question is next."""
        if self.queue.is_learning:
            return SPARE_QUESTIONS + sum(2 * int(buyer.fleet.limit) for buyer in self.buyers.values())
        beside = sum(about.buyer.fleet.ceiling for about in self.stopping.about_answers)
        return SPARE_QUESTIONS + beside + sum(buyer.fleet.ceiling for buyer in self.buyers.values())
