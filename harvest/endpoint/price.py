"""What a teacher's tokens cost at a moment: by the user's figure, else by genai-prices, else unknown.

What an endpoint itself says that a call cost goes before all of these. It is read with the reply (reply.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Protocol

from harvest.core.config import RunConfig
from harvest.core.money import FREE, Price
from harvest.core.teachers import Student

DEEPSEEK_PEAKS = ((time(1), time(4)), (time(6), time(10)))
"""The times of day, in UTC, at which DeepSeek charges twice the price from Monday to Friday. Chinese holidays are
exceptions there, not here: too much is reserved on them, never too little. Source: DeepSeek's page "Models & Pricing".
"""


class Tariff(Protocol):
    """Gives the price at a moment and, where a provider has tiers, for a length of the input."""

    @property
    def source(self) -> str: ...

    def at(self, moment: datetime, input_tokens: int) -> Price: ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """A tariff of one price, whatever the moment and the input."""

    price: Price

    @property
    def source(self) -> str:
        return self.price.source

    def at(self, moment: datetime, input_tokens: int) -> Price:
        return self.price


@dataclass(frozen=True, slots=True)
class Listed:
    """The tariff of a model in genai-prices, with a rule of ours for what its data cannot say: DeepSeek's peaks."""

    model: Any
    provider_id: str
    source: str = "genai-prices"

    def at(self, moment: datetime, input_tokens: int) -> Price:
        listed = self.model.get_prices(moment)
        per_input = _tier(listed.input_mtok, input_tokens)
        per_output = _tier(listed.output_mtok, input_tokens)
        per_cached = per_input if listed.cache_read_mtok is None else _tier(listed.cache_read_mtok, input_tokens)
        times = 2 if self.provider_id == "deepseek" and is_deepseek_peak(moment) else 1
        return Price(per_input * times, per_cached * times, per_output * times, self.source)


def is_deepseek_peak(moment: datetime) -> bool:
    """Whether DeepSeek charges double at this moment (UTC, weekdays, `DEEPSEEK_PEAKS`)."""
    utc = moment.astimezone(UTC)
    return utc.weekday() < 5 and any(a <= utc.time() < b for a, b in DEEPSEEK_PEAKS)


def tariff_of(config: RunConfig) -> Tariff | None:
    """The tariff of this run's teacher. None where its price is not known."""
    teacher = config.teacher
    if teacher.local is not None:
        return Fixed(FREE)
    if isinstance(teacher, Student) and teacher.free:
        return Fixed(replace(FREE, source="config"))
    if own := teacher.price_usd_per_mtok:
        cached = own.input if own.cached_input is None else own.cached_input
        return Fixed(Price(own.input, cached, own.output, "config"))
    from genai_prices.data_snapshot import get_snapshot

    try:
        provider, model = get_snapshot().find_provider_model(teacher.model or "", None, None, teacher.base_url)
    except LookupError:
        return None
    prices = model.get_prices(datetime.now(UTC))
    if prices.input_mtok is None or prices.output_mtok is None or prices.requests_kcount is not None:
        return None  # a price for each request, besides its tokens, cannot be computed here
    return Listed(model, provider.id)


def dearest(
    tariff: Tariff, start: datetime, end: datetime, input_tokens: int, extra: Mapping[str, Any], *, routed: bool
) -> Price:
    """The highest price, part by part, that may hold between two moments. It is what a reservation is made at.

    Prices change on the half hour, so both ends and each half hour between them are looked at. Where the request's
    `extra` sets OpenRouter's `provider.max_price` (USD for a million tokens), that is taken, since OpenRouter chooses
    no provider above it. `routed` says that the endpoint is OpenRouter: no other endpoint knows the setting.
    Source: openrouter.ai/docs, "Provider Routing", Max Price.
    """
    moments = [start, end]
    step = start.replace(minute=0, second=0, microsecond=0)
    while step < end:
        step += timedelta(minutes=30)
        moments.append(min(step, end))
    prices = [tariff.at(m, input_tokens) for m in moments]
    per_input = max(max(p.input, p.cached_input) for p in prices)
    per_output = max(p.output for p in prices)
    provider = extra.get("provider")
    bound = provider.get("max_price") if routed and isinstance(provider, dict) else None
    if isinstance(bound, dict):
        per_input = Decimal(str(bound.get("prompt", per_input)))
        per_output = Decimal(str(bound.get("completion", per_output)))
    return Price(per_input, per_input, per_output, tariff.source)


def _tier(price: Any, input_tokens: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    if price is None:
        return Decimal(0)
    reached = [t.price for t in price.tiers if input_tokens > t.start]
    return Decimal(reached[-1] if reached else price.base)
