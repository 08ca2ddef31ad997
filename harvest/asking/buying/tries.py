"""Makes one paid try: its worst case is reserved, the request is sent, and what came is settled. There is no other way
to an endpoint."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from harvest.asking.buying.pricing import Pricing
from harvest.asking.planning.run import Run
from harvest.core.clock import now
from harvest.core.config import RunConfig
from harvest.core.errors import AttemptFailed, Cut, Late, Overbilled
from harvest.core.nouns import Ask, Claim, Continuation, Reply
from harvest.endpoint.client import Arriving, Teacher, body_limit_bytes
from harvest.store import ClaimLost, InBatch, InHand, Money, Reused, Sent, SettledBy, Settlement, Store, Writer

LINGER = 0.5
"""How long a reply is still waited for after the deadline, as a share of timeout_s. A reply that comes in this time
ends the doubt about its cost."""
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
    """The run's money after the settlement; None while the store cannot be written, and where others collect the run
    too."""
    overbilled: bool
    """Whether the try cost more than had been reserved for it."""
    claims: tuple[Claim, ...] = ()
    """What the endpoint said of the reply and is not booked as it was said."""


class Tries:
    """Makes the tries of one run at one endpoint. `on_settled` is called after each settlement. A try whose reply comes
    after the deadline is settled twice: first as late, then with the reply."""

    def __init__(
        self, run: Run, ledger: Writer, teacher: Teacher, on_settled: Callable[[Settled], None],
        replica: str | None = None,
    ) -> None:  # fmt: skip
        """`replica` is the address that `teacher` asks, if it is another than the base_url of the run's teacher."""
        self._replica = replica
        self.run, self.ledger, self.teacher, self._on_settled = run, ledger, teacher, on_settled
        self._pricing = Pricing(run)

    def deadline_s(self, ask: Ask) -> float:
        """Returns how long a whole answer may take: more than before if it was late."""
        timeout_s = self.run.config.teacher.timeout_s
        return timeout_s if ask.waited_s < timeout_s else longest_deadline_s(self.run.config)

    async def reserve(
        self, question_id: int, ask: Ask, body: dict[str, Any], key: str
    ) -> Sent | Reused | InBatch | InHand | ClaimLost | None:
        """Returns a try whose worst case is reserved, or why nothing is sent (`Store.reserve`); None when the cap has
        no room for the try now. `key` is the hash of the content (`Run.key`)."""
        worst = self._pricing.worst_pusd(body, self.deadline_s(ask) * (1 + LINGER))
        return await self.ledger.do(
            Store.reserve,
            self.run.id,
            question_id,
            ask,
            key,
            worst,
            now(),
            free=self.run.is_free,
            replica=self._replica,
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
        body = self._pricing.bounded(body, started, deadline_s * (1 + LINGER))
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
        bill = self._pricing.bill(reply, started, max_tokens)
        over = self._pricing.is_over(bill, sent.reserved_pusd)
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
        bill = self._pricing.bill(failure.reply, started, max_tokens)
        money = await self._booked(
            "settle_failure", sent.try_id, failure, bill.reply, bill.cost_pusd, bill.source, now()
        )
        self._on_settled(Settled(failure, money, self._pricing.is_over(bill, sent.reserved_pusd), bill.reply.claims))

    async def _booked(self, method: SettledBy, try_id: int, *more: Any) -> Money | None:
        """Settles a try in the store, and returns the run's money after that. Returns None when the store cannot be
        written now (then the settlement is kept in a file), and where others collect the run too (among_others.py)."""

        def book(store: Store) -> Money | None:
            getattr(store, method)(try_id, *more)
            return None if store.shares else store.money(self.run.id)

        return await self.ledger.settle(Settlement(method, try_id, more), book)

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
            bill = self._pricing.bill(late.reply, started, max_tokens)
            await self._booked("settle_failure", sent.try_id, late, bill.reply, bill.cost_pusd, bill.source, now())


def overbilled(settled: Settled) -> Overbilled:
    """Returns the error that a try was billed more than was reserved, or may have been."""
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
