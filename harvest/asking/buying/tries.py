"""Makes one paid try: its worst case is reserved, the request is sent, and what came is settled. There is no other way
to an endpoint."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Any

from harvest.asking.planning.run import Run
from harvest.core.claims import Bill, bill_of, tier_of
from harvest.core.clock import now
from harvest.core.config import RunConfig
from harvest.core.errors import AttemptFailed, Cut, Late
from harvest.core.money import Price, input_bound_tokens, worst_case
from harvest.core.nouns import Ask, Claim, Continuation, Reply
from harvest.endpoint import Tariff, dearest, half_hour, within_price
from harvest.endpoint.client import Arriving, Teacher, body_limit_bytes
from harvest.store import Money, Reused, Sent, SettledBy, Settlement, Store, Writer

LINGER = 0.5
"""How long a reply is still waited for after the deadline, as a share of timeout_s. A reply that comes in this time
ends the doubt about its cost."""

PRICES_KEPT = 4096
"""So many prices are remembered, each for a half hour and a count of input tokens."""
MORE_TIME = 2
"""How many times timeout_s an answer may take when it is asked for again because it was late."""


def longest_deadline_s(config: RunConfig) -> float:
    """Returns the longest time that an answer may take, after it was late once."""
    return MORE_TIME * config.teacher.timeout_s


@dataclass(frozen=True, slots=True)
class Settled:
    """Says how one try ended, as the store has it."""

    outcome: Reply | AttemptFailed
    money: Money | None
    """The run's money after the settlement; None while the store cannot be written."""
    overbilled: bool
    """Whether the try cost more than had been reserved for it."""
    claims: tuple[Claim, ...] = ()
    """What the endpoint said of the reply and is not booked as it was said."""


class Tries:
    """Makes the tries of one run at one endpoint. `on_settled` is called after each settlement, also after a late
    one."""

    def __init__(self, run: Run, ledger: Writer, teacher: Teacher, on_settled: Callable[[Settled], None]) -> None:
        self.run, self.ledger, self.teacher, self._on_settled = run, ledger, teacher, on_settled
        self._prices = None if run.tariff is None else _Prices(run.tariff, run.config.sampling.extra, run.is_routed)

    def deadline_s(self, ask: Ask) -> float:
        """Returns how long a whole answer may take: more than before if it was late."""
        timeout_s = self.run.config.teacher.timeout_s
        return timeout_s if ask.waited_s < timeout_s else longest_deadline_s(self.run.config)

    async def reserve(self, question_id: int, ask: Ask, body: dict[str, Any], key: str) -> Sent | Reused | None:
        """Returns a try whose worst case is reserved, or the answer that the store has already; None when the cap has
        no room for the try now. `key` is the hash of the content (`Run.key`)."""
        worst = self._worst_pusd(body, ask)
        return await self.ledger.do(
            Store.reserve, self.run.id, question_id, ask, key, worst, now(), free=self.run.is_free
        )

    async def send(
        self,
        sent: Sent,
        body: dict[str, Any],
        ask: Ask,
        arriving: Arriving,
        on_answer: Callable[[], None] = lambda: None,
        going_on: Continuation | None = None,
    ) -> Reply | AttemptFailed:
        """Sends one request and settles it. `on_answer` is called between the two, if a reply came and cost no more
        than was reserved.

        After the deadline the try is booked as late, with its cost in doubt. If a reply still comes in the LINGER time,
        it is settled instead of the doubt, and is the outcome. What a stream brought is kept with the try, however the
        try ended.

        With `going_on`, the body ends with a cut answer, and what is settled and returned is its rest alone.
        """
        cfg = self.run.config
        deadline_s, max_tokens = self.deadline_s(ask), body["max_tokens"]
        late: Late | None = None
        booking = False
        started = datetime.now(UTC)
        if self._prices is not None and self._prices.routed:
            # Not in the attempt's key: the price moves, and the teacher's answer is the same.
            body = within_price(body, self._prices.dearest(started, deadline_s, self._input_bound_tokens(body)))
        most = max_tokens + cfg.teacher.thinking_tokens
        limit = body_limit_bytes(most, cfg.sampling.top_logprobs, cfg.teacher.stream)
        asking = asyncio.create_task(self.teacher.ask(body, limit, arriving, going_on))
        try:
            done, _ = await asyncio.wait({asking}, timeout=deadline_s)
            if not done:
                twice = f", nor within {deadline_s:g} s" if deadline_s > cfg.teacher.timeout_s else ""
                words = f"no whole answer within timeout_s = {cfg.teacher.timeout_s:g}{twice}"
                late = Late(words, None, arriving.reply())
                await self._settle_failure(sent, late, started, max_tokens)
                done, _ = await asyncio.wait({asking}, timeout=deadline_s * LINGER)
                if not done or asking.exception() is not None:
                    late = Late(words, None, arriving.reply())
                    booking = True
                    await self._keep_text(sent, late, started, max_tokens)
                    return late
            booking = True
            return await self._settle(sent, asking.result(), started, max_tokens, on_answer)
        except AttemptFailed as failure:
            booking = True
            await self._settle_failure(sent, failure, started, max_tokens)
            return failure
        except asyncio.CancelledError:
            # The user abandons it: what has come is booked, unless that is under way.
            if not booking:
                await self._settle_what_came(sent, asking, arriving, late, started, max_tokens)
            raise
        finally:
            asking.cancel()

    async def _settle(
        self, sent: Sent, reply: Reply, started: datetime, max_tokens: int, on_answer: Callable[[], None]
    ) -> Reply:
        bill = self._bill(reply, started, max_tokens)
        over = self._is_over(bill, sent)
        if not over:  # an overbilled try keeps its place in flight: nothing may follow it
            on_answer()
        money = await self._booked("settle", sent.try_id, bill.reply, bill.cost_pusd, bill.source, now())
        self._on_settled(Settled(bill.reply, money, over, bill.reply.claims))
        return bill.reply

    async def _settle_failure(self, sent: Sent, failure: AttemptFailed, started: datetime, max_tokens: int) -> None:
        if not isinstance(failure.reply, Reply):
            cost = 0 if self.run.is_free else None
            money = await self._booked("settle_failure", sent.try_id, failure, None, cost, "none", now())
            self._on_settled(Settled(failure, money, overbilled=False))
            return
        bill = self._bill(failure.reply, started, max_tokens)
        money = await self._booked(
            "settle_failure", sent.try_id, failure, bill.reply, bill.cost_pusd, bill.source, now()
        )
        self._on_settled(Settled(failure, money, self._is_over(bill, sent), bill.reply.claims))

    async def _booked(self, method: SettledBy, try_id: int, *more: Any) -> Money | None:
        """Settles a try in the store, and returns the run's money after that. Returns None when the store cannot be
        written now: then the settlement is kept in a file."""

        def book(store: Store) -> Money:
            getattr(store, method)(try_id, *more)
            return store.money(self.run.id)

        return await self.ledger.settle(Settlement(method, try_id, more), book)

    def _is_over(self, bill: Bill, sent: Sent) -> bool:
        """Whether a try cost more than was reserved for it, or may have cost more."""
        return self.run.tariff is not None and (bill.is_unbounded or (bill.cost_pusd or 0) > sent.reserved_pusd)

    async def _settle_what_came(
        self, sent: Sent, asking: "asyncio.Task[Reply]", arriving: Arriving, late: Late | None, started: datetime,
        max_tokens: int,
    ) -> None:  # fmt: skip
        if asking.done() and not asking.cancelled():
            failure = asking.exception()
            if failure is None:
                await self._settle(sent, asking.result(), started, max_tokens, lambda: None)
            elif isinstance(failure, AttemptFailed) and late is None:
                await self._settle_failure(sent, failure, started, max_tokens)
        elif (came := arriving.reply()) is not None:
            if late is None:
                cut = Cut("winnow ended before the whole reply came", None, came)
                await self._settle_failure(sent, cut, started, max_tokens)
            else:
                await self._keep_text(sent, Late(late.message, None, came), started, max_tokens)

    async def _keep_text(self, sent: Sent, late: Late, started: datetime, max_tokens: int) -> None:
        """Stores the part of a reply that came after the deadline and never became whole. The try is settled as late
        already."""
        if isinstance(late.reply, Reply):
            bill = self._bill(late.reply, started, max_tokens)
            await self._booked("settle_failure", sent.try_id, late, bill.reply, bill.cost_pusd, bill.source, now())

    def _worst_pusd(self, body: dict[str, Any], ask: Ask) -> int:
        if self._prices is None:
            return 0
        tokens = self._input_bound_tokens(body)
        price = self._prices.dearest(datetime.now(UTC), self.deadline_s(ask), tokens)
        most = body["max_tokens"] + self.run.config.teacher.thinking_tokens
        return worst_case(tokens, most, price)

    def _input_bound_tokens(self, body: dict[str, Any]) -> int:
        return input_bound_tokens(body["messages"], self.run.config.sampling.extra)

    def _bill(self, reply: Reply, started: datetime, max_tokens: int) -> Bill:
        """Returns what is booked for a reply: at the highest price from when the try was asked until now, since nobody
        says which one holds."""
        if self._prices is None:
            return bill_of(reply, ())
        prices = self._prices.since(started, reply.usage.input_tokens or 0, tier_of(reply))
        return bill_of(reply, prices, self._prices.tariff.asked_tier, max_tokens)


class _Prices:
    """The prices of one teacher, for each try and each reply. A price is worked out once in a half hour, in which it
    does not change."""

    def __init__(self, tariff: Tariff, extra: Mapping[str, Any], routed: bool) -> None:
        """`extra` is [sampling] extra. `routed` says that the endpoint is OpenRouter."""
        self.tariff, self.routed = tariff, routed
        self._between = lru_cache(PRICES_KEPT)(tariff.between)
        self._dearest = lru_cache(PRICES_KEPT)(partial(dearest, tariff, extra=extra, routed=routed))

    def dearest(self, start: datetime, deadline_s: float, input_tokens: int) -> Price:
        """Returns the highest price that may hold for so many input tokens until a try that starts now has ended."""
        end = start + timedelta(seconds=deadline_s * (1 + LINGER))
        return self._dearest(half_hour(start), half_hour(end), input_tokens)

    def since(self, start: datetime, input_tokens: int, tier: str | None) -> list[Price]:
        """Returns the prices that held at some time since `start`."""
        return self._between(half_hour(start), half_hour(datetime.now(UTC)), input_tokens, tier)
