"""Chooses which question is asked next: the next one in the order given, or the one that is expected to bring the most
accepted traces for a dollar (expected_yield.py).

The store holds the questions and their turns. This file holds one page of questions at a time, and which questions are
in hand.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime

from harvest.asking.buying.counters import Counters
from harvest.asking.planning.expected_yield import ExpectedYield
from harvest.asking.planning.run import Run
from harvest.asking.planning.strata import typical_characters
from harvest.core.claims import tier_of
from harvest.core.config import configs
from harvest.core.money import CHARACTERS_A_TOKEN, cost_of, pusd
from harvest.core.nouns import STUDENT, Reply
from harvest.endpoint import tariff_of
from harvest.store import OpenQuestion, Store, Writer

PAGE = 256
FEW = 16
"""How many questions of one stratum are taken before the most promising stratum is chosen again."""
OTHERS_S = 1.0
"""How often we look whether other processes still have questions in hand, once there are no other ones."""
EVIDENCE = 32
"""How many questions must have ended before we estimate whether the cap is enough for all questions."""


class QuestionQueue:
    """Gives the open questions of one session. Each comes once; when questions go by yield, a question comes again
    after a wrong answer."""

    def __init__(self, run: Run, ledger: Writer, counters: Counters, among: Sequence[int] | None = None) -> None:
        """With `among`, only the questions in these rows of the store are asked, in the order given."""
        self._among = among
        self._run, self._ledger, self._counters = run, ledger, counters
        self._order = "file" if among is not None else run.config.plan.order
        self._first_teacher = configs(run.config)[0]
        self._tariff = tariff_of(self._first_teacher)
        self.in_hand: dict[int, str] = {}
        """The strata of the questions that are being asked, by the questions' rows."""
        self._yields: ExpectedYield | None = None
        self._put_back = 0
        self._page: deque[OpenQuestion] = deque()
        """The questions that come next in the order given."""

    @property
    def by_yield(self) -> bool:
        """Whether the next question is the one that promises most."""
        return self._yields is not None

    @property
    def is_learning(self) -> bool:
        """Whether the result of one question may change which question is asked next."""
        auto = self._order == "auto" and self._run.config.budget.cap_usd is not None
        return self.by_yield or auto or self._order == "promising"

    async def questions(self, all_done: Callable[[], Awaitable[None]]) -> AsyncIterator[OpenQuestion]:
        """Gives one question after the other. `all_done` waits until no question is in hand."""
        if self._order != "promising":
            async for question in self._in_file_order():
                yield question
                if self._order == "auto" and self._cap_binds() and await self._cap_binds_for_all():
                    break
            else:
                return
            for question in self._page:
                self._ledger.post(Store.give_back, question.id)
        yields = await self._what_is_known()
        for stratum in self.in_hand.values():  # taken in the file's order: `left` will say that they have ended
            yields.begun(stratum)
        self._yields = yields
        await self._ledger.do(Store.count_turns, self._run.id)
        while True:
            before = self._put_back
            async for question in self._most_promising(yields):
                yield question
            await all_done()
            if self._put_back == before and not await self._others_may_leave_some():
                return

    def taken(self, question: OpenQuestion) -> None:
        """Notes that the question is in hand."""
        self.in_hand[question.id] = question.stratum
        if self._yields is not None:
            self._yields.begun(question.stratum)

    def close(self, question: OpenQuestion, status: str) -> None:
        """Writes how the question ended."""
        self._ledger.post(Store.close_question, question.id, status)
        self._no_longer_in_hand(question)

    def put_back(self, question: OpenQuestion) -> None:
        """Lets the question wait for its next turn: questions that have had fewer turns come before it."""
        self._put_back += 1
        self._ledger.post(Store.put_back, question.id)
        self._no_longer_in_hand(question)

    def left(self, question: OpenQuestion) -> None:
        """Notes that nothing more is done about the question. If it is still open, nobody asks it in this session."""
        if self._no_longer_in_hand(question) and self._shares:
            self._ledger.post(Store.set_aside, question.id)

    def _no_longer_in_hand(self, question: OpenQuestion) -> bool:
        """Returns whether the question was in hand until now."""
        was = self.in_hand.pop(question.id, None) is not None
        if was and self._yields is not None:
            self._yields.ended(question.stratum)
        return was

    def learned(self, question: OpenQuestion, place: int, right: bool, reply: Reply) -> None:
        """Updates the expected yield of the question's stratum by one answer: by whether the answer is right and, if a
        teacher gave it, by what it cost. `place` says who gave it."""
        if self._yields is None:
            return
        if place == STUDENT:
            self._yields.student_said(question.stratum, int(right))
        else:
            self._yields.answered(question.stratum, int(right), self._effort(reply))

    async def _in_file_order(self) -> AsyncIterator[OpenQuestion]:
        after = 0
        while True:
            page = await self._ledger.do(Store.open_questions, self._run.id, after, PAGE, self._among)
            self._page = deque(page)
            while self._page:
                yield self._page.popleft()
            if page and not self._shares:
                after = page[-1].id
            elif not page and not await self._others_may_leave_some():
                return

    @property
    def _shares(self) -> bool:
        """Whether other processes collect the run too. Then a page has what nobody has claimed, from the first question
        on: what a dead process had in hand comes back anywhere."""
        return self._ledger.store.shares

    async def _others_may_leave_some(self) -> bool:
        """Waits a moment and returns True if other processes have questions in hand, which come back if they die."""
        if not self._shares or self._counters.stopping or not await self._ledger.do(Store.others_claim, self._run.id):
            return False
        await asyncio.sleep(OTHERS_S)
        return not self._counters.stopping

    async def _most_promising(self, yields: ExpectedYield) -> AsyncIterator[OpenQuestion]:
        """Gives every open question once: first those without a wrong answer, then those with one wrong answer, and so
        on."""
        turn = -1
        while groups := [g for g in await self._ledger.do(Store.open_strata, self._run.id) if g[0] > turn]:
            turn = min(g[0] for g in groups)
            after = {stratum: 0 for t, stratum, _ in groups if t == turn}
            while after:
                stratum = yields.best(after)
                page = await self._ledger.do(
                    Store.open_in_stratum,
                    self._run.id,
                    turn,
                    stratum,
                    after[stratum],
                    FEW if self._shares else FEW + len(self.in_hand),
                )
                few = [q for q in page if q.id not in self.in_hand][:FEW]
                if few:
                    after[stratum] = few[-1].id
                elif page:
                    after[stratum] = page[-1].id
                else:
                    del after[stratum]
                for question in few:
                    yield question

    async def _what_is_known(self) -> ExpectedYield:
        strata = await self._ledger.do(Store.strata, self._run.id)
        yields = ExpectedYield(strata, {s: self._prior_cost(s) for s in strata})
        for r in await self._ledger.do(Store.stratum_outcomes, self._run.id):
            if r.teacher == STUDENT:
                yields.student_said(r.stratum, r.accepted, r.answers)
            else:
                cost = r.cost_pusd if self._is_priced else r.output_tokens
                yields.answered(r.stratum, r.accepted, float(cost), r.answers)
        return yields

    def _cap_binds(self) -> bool:
        """Whether the rest of the cap is too small for the rest of the questions, judged by what questions have cost so
        far."""
        counters, cap = self._counters, self._counters.cap
        asked = counters.ended - counters.by_public
        if cap.usd is None or asked < EVIDENCE:
            return False
        to_come = (counters.questions - counters.ended) * cap.spent_pusd // asked
        return to_come > pusd(cap.usd) - cap.spent_pusd

    async def _cap_binds_for_all(self) -> bool:
        """Whether the cap binds, with what other processes have done counted too."""
        if self._shares:
            statuses = await self._ledger.do(Store.question_statuses, self._run.id)
            money = await self._ledger.do(Store.money, self._run.id)
            self._counters.ended = sum(statuses.values()) - statuses.get("open", 0)
            self._counters.by_public = sum(
                f.questions for f in await self._ledger.do(Store.public_figures, self._run.id)
            )
            self._counters.cap.spent_pusd = money.spent
        return self._cap_binds()

    @property
    def _is_priced(self) -> bool:
        return self._tariff is not None and not self._tariff.at(datetime.now(UTC), 0).is_free

    def _effort(self, reply: Reply) -> float | None:
        """Returns what an answer costs in picodollars. If it costs nothing or nobody knows the price, returns its
        output tokens instead. None if the cost or the number of tokens is unknown."""
        if not self._is_priced or self._tariff is None:
            tokens = reply.usage.output_tokens
            return None if tokens is None else float(tokens)
        price = self._tariff.at(datetime.now(UTC), reply.usage.input_tokens or 0, tier_of(reply))
        cost, _ = cost_of(reply.usage, price)
        return None if cost is None else float(cost)

    def _prior_cost(self, stratum: str) -> float:
        """Returns what an answer is expected to cost, from the question's length and a quarter of the limit for the
        answer. The unit is the one of `_effort`."""
        tokens_in = typical_characters(stratum) / CHARACTERS_A_TOKEN
        tokens_out = self._first_teacher.sampling.max_tokens / 4
        if not self._is_priced or self._tariff is None:
            return tokens_out
        price = self._tariff.at(datetime.now(UTC), int(tokens_in))
        return float(price.input) * tokens_in + float(price.output) * tokens_out
