"""Makes one paid try: its worst case is reserved, the request is sent, and what came is settled. There is no other way
to an endpoint."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from harvest.asking.planning.run import Run
from harvest.core.clock import now
from harvest.core.errors import AttemptFailed, Cut, Late
from harvest.core.money import cost_of, input_bound_tokens, worst_case
from harvest.core.nouns import Ask, Reply
from harvest.endpoint import dearest
from harvest.endpoint.client import Arriving, Teacher, body_limit_bytes
from harvest.store import Money, Reused, Sent, SettledBy, Settlement, Store, Writer

LINGER = 0.5
"""How long a reply is still waited for after the deadline, as a share of timeout_s. A reply that comes in this time
ends the doubt about its cost."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Says how one try ended, as the store has it."""

    outcome: Reply | AttemptFailed
    money: Money | None
    """The run's money after the settlement; None while the store cannot be written."""
    overbilled: bool
    """Whether the try cost more than had been reserved for it."""


class Tries:
    """Makes the tries of one run at one endpoint. `on_settled` is called after each settlement, also after a late
    one."""

    def __init__(self, run: Run, ledger: Writer, teacher: Teacher, on_settled: Callable[[Settled], None]) -> None:
        self.run, self.ledger, self.teacher, self._on_settled = run, ledger, teacher, on_settled

    async def reserve(self, question_id: int, ask: Ask, body: dict[str, Any], key: str) -> Sent | Reused | None:
        """Returns a try whose worst case is reserved, or the answer that the store has already; None when the cap has
        no room for the try now. `key` is the hash of the content (`Run.key`)."""
        worst = self._worst_pusd(body, ask.max_tokens)
        return await self.ledger.do(
            Store.reserve, self.run.id, question_id, ask, key, worst, now(), free=self.run.is_free
        )

    async def send(
        self,
        sent: Sent,
        body: dict[str, Any],
        max_tokens: int,
        arriving: Arriving,
        on_answer: Callable[[], None] = lambda: None,
    ) -> Reply | AttemptFailed:
        """Sends one request and settles it. `on_answer` is called between the two, if a reply came and cost no more
        than was reserved.

        After the deadline the try is booked as late, with its cost in doubt. If a reply still comes in the LINGER time,
        it is settled instead of the doubt, and is the outcome. What a stream brought is kept with the try, however the
        try ended.
        """
        cfg = self.run.config
        late: Late | None = None
        booking = False
        started = datetime.now(UTC)
        limit = body_limit_bytes(max_tokens, cfg.sampling.top_logprobs, cfg.teacher.stream)
        asking = asyncio.create_task(self.teacher.ask(body, limit, arriving))
        try:
            done, _ = await asyncio.wait({asking}, timeout=cfg.teacher.timeout_s)
            if not done:
                words = f"no whole answer within timeout_s = {cfg.teacher.timeout_s:g}"
                late = Late(words, None, arriving.reply())
                await self._settle_failure(sent, late, started)
                done, _ = await asyncio.wait({asking}, timeout=cfg.teacher.timeout_s * LINGER)
                if not done or asking.exception() is not None:
                    late = Late(words, None, arriving.reply())
                    booking = True
                    await self._keep_text(sent, late, started)
                    return late
            booking = True
            return await self._settle(sent, asking.result(), started, on_answer)
        except AttemptFailed as failure:
            booking = True
            await self._settle_failure(sent, failure, started)
            return failure
        except asyncio.CancelledError:
            # The user abandons it: what has come is booked, unless that is under way.
            if not booking:
                await self._settle_what_came(sent, asking, arriving, late, started)
            raise
        finally:
            asking.cancel()

    async def _settle(self, sent: Sent, reply: Reply, started: datetime, on_answer: Callable[[], None]) -> Reply:
        cost, source = self._cost(reply, started)
        if (cost or 0) <= sent.reserved_pusd:  # an overbilled try keeps its place in flight: nothing may follow it
            on_answer()
        money = await self._booked("settle", sent.try_id, reply, cost, source, now())
        self._on_settled(Settled(reply, money, self._is_over(cost, sent)))
        return reply

    async def _settle_failure(self, sent: Sent, failure: AttemptFailed, started: datetime) -> None:
        reply = failure.reply if isinstance(failure.reply, Reply) else None
        cost, source = self._cost(reply, started) if reply is not None else (0 if self.run.is_free else None, "none")
        money = await self._booked("settle_failure", sent.try_id, failure, reply, cost, source, now())
        self._on_settled(Settled(failure, money, self._is_over(cost, sent)))

    async def _booked(self, method: SettledBy, try_id: int, *more: Any) -> Money | None:
        """Settles a try in the store, and returns the run's money after that. Returns None when the store cannot be
        written now: then the settlement is kept in a file."""

        def book(store: Store) -> Money:
            getattr(store, method)(try_id, *more)
            return store.money(self.run.id)

        return await self.ledger.settle(Settlement(method, try_id, more), book)

    def _is_over(self, cost_pusd: int | None, sent: Sent) -> bool:
        return self.run.tariff is not None and cost_pusd is not None and cost_pusd > sent.reserved_pusd

    async def _settle_what_came(
        self, sent: Sent, asking: "asyncio.Task[Reply]", arriving: Arriving, late: Late | None, started: datetime
    ) -> None:
        if asking.done() and not asking.cancelled():
            failure = asking.exception()
            if failure is None:
                await self._settle(sent, asking.result(), started, lambda: None)
            elif isinstance(failure, AttemptFailed) and late is None:
                await self._settle_failure(sent, failure, started)
        elif (came := arriving.reply()) is not None:
            if late is None:
                await self._settle_failure(sent, Cut("winnow ended before the whole reply came", None, came), started)
            else:
                await self._keep_text(sent, Late(late.message, None, came), started)

    async def _keep_text(self, sent: Sent, late: Late, started: datetime) -> None:
        """Stores the part of a reply that came after the deadline and never became whole. The try is settled as late
        already."""
        if isinstance(late.reply, Reply):
            cost, source = self._cost(late.reply, started)
            await self._booked("settle_failure", sent.try_id, late, late.reply, cost, source, now())

    def _worst_pusd(self, body: dict[str, Any], max_tokens: int) -> int:
        cfg = self.run.config
        if self.run.tariff is None:
            return 0
        tokens = input_bound_tokens(body["messages"], cfg.sampling.extra)
        start = datetime.now(UTC)
        end = start + timedelta(seconds=cfg.teacher.timeout_s * (1 + LINGER))
        extra, routed = cfg.sampling.extra, self.run.is_routed
        return worst_case(tokens, max_tokens, dearest(self.run.tariff, start, end, tokens, extra, routed=routed))

    def _cost(self, reply: Reply, started: datetime) -> tuple[int | None, str]:
        """Returns (what a try cost in picodollars, or None if nobody knows; where the cost comes from). The cost is at
        the higher of two prices: the one when the try was asked, and the one now. Nobody says which one holds."""
        if self.run.tariff is None:
            return cost_of(reply.usage, None)
        tokens = reply.usage.input_tokens or 0
        found = [cost_of(reply.usage, self.run.tariff.at(t, tokens)) for t in (started, datetime.now(UTC))]
        return max(found, key=lambda f: f[0] or 0)
