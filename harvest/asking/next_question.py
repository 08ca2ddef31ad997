"""Which question is taken in hand next: as they are given, or by what each promises for its money (promise.py).

The store holds the questions and whose turn it is; here is one page at a time, and the names of what is in hand.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

from harvest.asking.counters import Counters
from harvest.asking.promise import SMALLEST_CHARACTERS, Promise
from harvest.asking.run import Run
from harvest.core.config import configs
from harvest.core.money import cost_of, pusd
from harvest.core.nouns import STUDENT, Reply
from harvest.endpoint.price import tariff_of
from harvest.store import OpenQuestion, Store, Writer

PAGE = 256
FEW = 16
"""Questions of one stratum that are taken before it is asked again which one promises most."""
EVIDENCE = 32
"""So many questions must have ended before it is reckoned whether the cap will reach all."""
CHARACTERS_A_TOKEN = 4


class Feed:
    """The questions of one start, each once, and again after a wrong answer where they go by promise."""

    def __init__(self, run: Run, ledger: Writer, counters: Counters) -> None:
        self._run, self._ledger, self._counters = run, ledger, counters
        self._order = run.config.plan.order
        self._first_teacher = configs(run.config)[0]
        self._tariff = tariff_of(self._first_teacher)
        self._in_hand: dict[int, str] = {}  # with their strata
        self._promise: Promise | None = None
        self._put_back = 0

    @property
    def by_promise(self) -> bool:
        return self._promise is not None

    @property
    def is_learning(self) -> bool:
        """Whether what comes of a question may change which one is next."""
        auto = self._order == "auto" and self._run.config.budget.usd is not None
        return self.by_promise or auto or self._order == "promising"

    async def questions(self, settled: Callable[[], Awaitable[None]]) -> AsyncIterator[OpenQuestion]:
        """`settled` waits for all that is in hand."""
        if self._order != "promising":
            after = 0
            while page := await self._ledger.do(Store.open_questions, self._run.id, after, PAGE):
                for question in page:
                    yield question
                    after = question.id
                    if self._order == "auto" and self._cap_binds():
                        break
                if self._order == "auto" and self._cap_binds():
                    break
            else:
                return
        promise = await self._what_is_known()
        for stratum in self._in_hand.values():  # taken in the file's order: `left` will say that they have ended
            promise.begun(stratum)
        self._promise = promise
        await self._ledger.do(Store.count_turns, self._run.id)
        while True:
            before = self._put_back
            async for question in self._by_promise(promise):
                yield question
            await settled()
            if self._put_back == before:
                return

    def taken(self, question: OpenQuestion) -> None:
        self._in_hand[question.id] = question.stratum
        if self._promise is not None:
            self._promise.begun(question.stratum)

    def left(self, question: OpenQuestion) -> None:
        self._in_hand.pop(question.id, None)
        if self._promise is not None:
            self._promise.ended(question.stratum)

    def put_back(self, question: OpenQuestion) -> None:
        """It waits for its next turn, after all that have had fewer."""
        self._put_back += 1
        self._ledger.post(Store.put_back, question.id)

    def learned(self, question: OpenQuestion, place: int, right: bool, reply: Reply | None) -> None:
        """What one answer to a question was worth."""
        if self._promise is None:
            return
        if place == STUDENT:
            self._promise.student_said(question.stratum, int(right))
        else:
            self._promise.answered(question.stratum, int(right), None if reply is None else self._effort(reply))

    async def _by_promise(self, promise: Promise) -> AsyncIterator[OpenQuestion]:
        """Every open question once: those without a wrong answer first, then those with one, and so on."""
        turn = -1
        while groups := [g for g in await self._ledger.do(Store.open_strata, self._run.id) if g[0] > turn]:
            turn = min(g[0] for g in groups)
            after = {stratum: 0 for t, stratum, _ in groups if t == turn}
            while after:
                stratum = promise.best(after)
                page = await self._ledger.do(
                    Store.open_in_stratum, self._run.id, turn, stratum, after[stratum], FEW + len(self._in_hand)
                )
                few = [q for q in page if q.id not in self._in_hand][:FEW]
                if few:
                    after[stratum] = few[-1].id
                elif page:
                    after[stratum] = page[-1].id
                else:
                    del after[stratum]
                for question in few:
                    yield question

    async def _what_is_known(self) -> Promise:
        strata = await self._ledger.do(Store.strata, self._run.id)
        promise = Promise(strata, {s: self._prior_cost(s) for s in strata})
        for r in await self._ledger.do(Store.stratum_outcomes, self._run.id):
            if r.teacher == STUDENT:
                promise.student_said(r.stratum, r.accepted, r.answers)
            else:
                cost = r.cost_pusd if self._is_priced else r.output_tokens
                promise.answered(r.stratum, r.accepted, float(cost), r.answers)
        return promise

    def _cap_binds(self) -> bool:
        """Whether what is left of the cap will not reach what is left of the questions, as they have cost so far."""
        cap, counters = self._run.config.budget.usd, self._counters
        if cap is None or counters.ended < EVIDENCE:
            return False
        to_come = (counters.questions - counters.ended) * counters.spent_pusd // counters.ended
        return to_come > pusd(cap) - counters.spent_pusd

    @property
    def _is_priced(self) -> bool:
        return self._tariff is not None and not self._tariff.at(datetime.now(UTC), 0).is_free

    def _effort(self, reply: Reply) -> float | None:
        """What an answer costs, in picodollars, or in tokens where it costs nothing or nobody knows."""
        if not self._is_priced or self._tariff is None:
            tokens = reply.usage.output_tokens
            return None if tokens is None else float(tokens)
        cost, _ = cost_of(reply.usage, self._tariff.at(datetime.now(UTC), reply.usage.input_tokens or 0))
        return None if cost is None else float(cost)

    def _prior_cost(self, stratum: str) -> float:
        """By the question's length, and a quarter of the limit for the answer."""
        size = stratum.rpartition("|")[2]
        tokens_in = SMALLEST_CHARACTERS * 2.0 ** (int(size) if size.isdecimal() else 1) / CHARACTERS_A_TOKEN
        tokens_out = self._first_teacher.sampling.max_tokens / 4
        if not self._is_priced or self._tariff is None:
            return tokens_out
        price = self._tariff.at(datetime.now(UTC), int(tokens_in))
        return float(price.input) * tokens_in + float(price.output) * tokens_out
