"""Finds the price of a teacher's tokens at a moment: the user's figure, else that of genai-prices, else unknown.

If an endpoint itself says what a call cost, that is taken instead. It is read with the reply (reply.py).

What a request can cost at most is computed from the price in harvest/asking/buying/pricing.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

from harvest.core.claims import DEARER_TIERS
from harvest.core.config import RunConfig
from harvest.core.money import EXACT, FREE, Price
from harvest.core.teachers import Student
from harvest.endpoint.price_list import BATCH, GENAI_PRICES, find

STEP = timedelta(minutes=30)
"""Prices change on the half hour only (UTC)."""
DEARER_TIMES = 2
"""A dearer tier whose price nobody knows is taken to cost this many times the standard price. The known ones cost 1.75
to 2 times as much."""


@dataclass(frozen=True, slots=True)
class Tariff:
    """Holds a teacher's prices, and says where they are from."""

    source: str
    prices: Callable[[datetime, int, str | None], Price]
    """Returns the price at a moment (UTC, on the half hour) for this many input tokens in this tier."""
    asked_tier: str | None = None
    """The service tier that the requests name; None: they name none, so the provider chooses."""
    tiers: tuple[str, ...] = ()
    """The service tiers that are known to have prices of their own."""

    def at(self, moment: datetime, input_tokens: int, tier: str | None = None) -> Price:
        """Returns the price at a moment for this many input tokens, since some providers charge more for long inputs.
        `tier` is the service tier; None: the standard one."""
        return self.prices(half_hour(moment), input_tokens, tier)

    def between(self, start: datetime, end: datetime, input_tokens: int, tier: str | None = None) -> list[Price]:
        """Returns the prices that hold at some time from `start` to `end`, the first one first."""
        moments = [half_hour(start)]
        while moments[-1] + STEP <= end:
            moments.append(moments[-1] + STEP)
        return [self.prices(moment, input_tokens, tier) for moment in moments]


def half_hour(moment: datetime) -> datetime:
    """Returns the beginning (UTC) of the half hour of a moment. Prices are the same in all of it."""
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return utc.replace(minute=utc.minute // 30 * 30, second=0, microsecond=0)


def tariff_of(config: RunConfig) -> Tariff | None:
    """Returns the tariff of this run's teacher, or None when its price is not known. A teacher that is asked in batches
    has the batch price: the listed one, else `batch_discount` off the other."""
    live = _live_tariff_of(config)
    return live if live is None or config.teacher.mode == "live" else _batch_tariff_of(config, live)


def _batch_tariff_of(config: RunConfig, live: Tariff) -> Tariff:
    teacher = config.teacher
    listed = None if teacher.price_usd_per_mtok else find(teacher.base_url or "", teacher.model or "")
    source = f"{live.source} ({BATCH})"

    def prices(moment: datetime, input_tokens: int, tier: str | None) -> Price:
        # A batch has no tiers of its own: where a reply names a dearer one, the live price of that is the safe one.
        standard = live.prices(moment, input_tokens, tier if tier in DEARER_TIERS else None)
        known = listed.price_of_tier(moment, input_tokens, BATCH) if listed is not None and listed.is_own else None
        if tier in DEARER_TIERS:
            return replace(standard, source=source)
        return replace(_times(standard, 1 - teacher.batch_discount) if known is None else known, source=source)

    return Tariff(source, prices, live.asked_tier)


def _live_tariff_of(config: RunConfig) -> Tariff | None:
    teacher = config.teacher
    if teacher.local is not None:
        return Tariff(FREE.source, lambda *_: FREE)
    if isinstance(teacher, Student) and teacher.free:
        return Tariff("config", lambda *_: replace(FREE, source="config"))
    named = config.sampling.extra.get("service_tier")
    asked = named.lower() if isinstance(named, str) and named.lower() != "auto" else None
    if own := teacher.price_usd_per_mtok:
        cached = own.input if own.cached_input is None else own.cached_input
        fixed = Price(own.input, cached, own.output, "config", own.cache_write)
        # The user's price is that of the tier which the requests name.
        dear = fixed if asked in DEARER_TIERS else _times(fixed, DEARER_TIMES)
        return Tariff("config", lambda _moment, _tokens, tier: dear if tier in DEARER_TIERS else fixed, asked)
    listed = find(teacher.base_url or "", teacher.model or "")
    if listed is None:
        return None

    def prices(moment: datetime, input_tokens: int, tier: str | None) -> Price:
        standard = listed.price(moment, input_tokens)
        special = listed.price_of_tier(moment, input_tokens, tier) if tier is not None else None
        if special is None:
            return _times(standard, DEARER_TIMES) if tier in DEARER_TIERS else standard
        # The list takes no tiers of another provider over, so such tiers count only where they are dearer.
        return special if listed.is_own else _dearest_of([standard, special])

    return Tariff(GENAI_PRICES, prices, asked, listed.tiers)


def _times(price: Price, times: Decimal | int) -> Price:
    short, hour = price.cache_writes
    return Price(
        price.input * times, price.cached_input * times, price.output * times, price.source, short * times, hour * times
    )


def _dearest_of(prices: list[Price]) -> Price:
    """Returns the price whose every part is the highest among these prices."""
    return Price(
        max(p.input for p in prices),
        max(p.cached_input for p in prices),
        max(p.output for p in prices),
        prices[0].source,
        max(p.cache_writes[0] for p in prices),
        max(p.cache_writes[1] for p in prices),
    )


def dearest(
    tariff: Tariff, start: datetime, end: datetime, input_tokens: int, extra: Mapping[str, Any], *, routed: bool
) -> Price:
    """Returns the highest price between two moments, for input and for output. Money is reserved at this price.

    The standard tier may apply, and the tier that the requests name. If they name none, all known tiers may apply,
    since a project at the provider may have another default. `routed` says that the endpoint is OpenRouter. The price
    is then `provider.max_price` (USD for a million tokens) if `extra` sets it, since OpenRouter chooses no provider
    above it. Source: openrouter.ai/docs, "Provider Routing", Max Price.
    """
    tiers = {None, tariff.asked_tier} if tariff.asked_tier else {None, *tariff.tiers}
    price = _dearest_of([price for tier in tiers for price in tariff.between(start, end, input_tokens, tier)])
    bound = _max_price(extra) if routed else {}
    if "prompt" in bound:
        price = _with_input_price(price, Decimal(str(bound["prompt"])))
    return replace(price, output=Decimal(str(bound.get("completion", price.output))))


def _with_input_price(price: Price, per_input: Decimal) -> Price:
    """Returns the price with another price of input. The prices of cache writes change by the same factor."""
    with localcontext(EXACT):
        writes = [part * per_input / price.input if price.input else per_input for part in price.cache_writes]
    return replace(price, input=per_input, cached_input=per_input, cache_write=writes[0], hour_cache_write=writes[1])


def _max_price(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the prices above which OpenRouter may choose no provider, by their names; {} when there are none."""
    provider = fields.get("provider")
    bound = provider.get("max_price") if isinstance(provider, dict) else None
    return bound if isinstance(bound, dict) else {}


def within_price(body: Mapping[str, Any], price: Price) -> dict[str, Any]:
    """Returns a request to OpenRouter that lets it choose no provider above this price. What the user set as
    `provider.max_price` stays."""
    provider = body.get("provider")
    bound = {"prompt": float(price.input), "completion": float(price.output), **_max_price(body)}
    return {**body, "provider": {**(provider if isinstance(provider, dict) else {}), "max_price": bound}}
