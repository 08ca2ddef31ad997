"""Says what a try at one endpoint may cost at most, and what is booked for its reply. Live tries and rows of batches
are priced here alike."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Any

from harvest.asking.planning.run import Run
from harvest.core.claims import Bill, bill_of, tier_of
from harvest.core.money import Price, input_bound_tokens, worst_case
from harvest.core.nouns import Reply
from harvest.endpoint import Tariff, dearest, half_hour, within_price

PRICES_KEPT = 4096
"""So many prices are remembered, each for a half hour and a count of input tokens."""


class Pricing:
    """Prices the tries of one run at one endpoint."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._prices = None if run.tariff is None else _Prices(run.tariff, run.config.sampling.extra, run.is_routed)

    def worst_pusd(self, body: Mapping[str, Any], within_s: float) -> int:
        """Returns the most that a request with this body can cost if it ends within so many seconds from now."""
        if self._prices is None:
            return 0
        tokens = self.input_bound_tokens(body)
        price = self._prices.dearest(datetime.now(UTC), within_s, tokens)
        return worst_case(tokens, body["max_tokens"] + self.run.config.teacher.thinking_tokens, price)

    def input_bound_tokens(self, body: Mapping[str, Any]) -> int:
        return input_bound_tokens(body["messages"], self.run.config.sampling.extra)

    def bounded(self, body: dict[str, Any], started: datetime, within_s: float) -> dict[str, Any]:
        """Returns the body, which lets OpenRouter choose no provider above the price that is reserved. That is not in
        the attempt's key: the price moves, and the teacher's answer is the same."""
        if self._prices is None or not self._prices.routed:
            return body
        return within_price(body, self._prices.dearest(started, within_s, self.input_bound_tokens(body)))

    def bill(self, reply: Reply, started: datetime, max_tokens: int) -> Bill:
        """Returns what is booked for a reply: at the highest price from when the try was asked until now, since nobody
        says which one holds."""
        if self._prices is None:
            return bill_of(reply, ())
        prices = self._prices.since(started, reply.usage.input_tokens or 0, tier_of(reply))
        return bill_of(reply, prices, self._prices.tariff.asked_tier, max_tokens)

    def most_pusd(self, input_tokens: int, output_tokens: int, started: datetime) -> int | None:
        """Returns the most that so many tokens can have cost since `started`; None: nobody knows the price."""
        if self._prices is None:
            return None
        return max(
            worst_case(input_tokens, output_tokens, price) for price in self._prices.since(started, input_tokens, None)
        )

    def is_over(self, bill: Bill, reserved_pusd: int) -> bool:
        """Whether a try cost more than was reserved for it, or may have cost more."""
        return self.run.tariff is not None and (bill.is_unbounded or (bill.cost_pusd or 0) > reserved_pusd)


class _Prices:
    """The prices of one teacher, for each try and each reply. A price is worked out once in a half hour, in which it
    does not change."""

    def __init__(self, tariff: Tariff, extra: Mapping[str, Any], routed: bool) -> None:
        """`extra` is [sampling] extra. `routed` says that the endpoint is OpenRouter."""
        self.tariff, self.routed = tariff, routed
        self._between = lru_cache(PRICES_KEPT)(tariff.between)
        self._dearest = lru_cache(PRICES_KEPT)(partial(dearest, tariff, extra=extra, routed=routed))

    def dearest(self, start: datetime, within_s: float, input_tokens: int) -> Price:
        """Returns the highest price that may hold for so many input tokens in so many seconds from a moment."""
        end = start + timedelta(seconds=within_s)
        return self._dearest(half_hour(start), half_hour(end), input_tokens)

    def since(self, start: datetime, input_tokens: int, tier: str | None) -> list[Price]:
        """Returns the prices that held at some time since `start`."""
        return self._between(half_hour(start), half_hour(datetime.now(UTC)), input_tokens, tier)
