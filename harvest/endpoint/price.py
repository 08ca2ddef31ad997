"""Finds the price of a teacher's tokens at a moment: the user's figure, else that of genai-prices, else unknown.

If an endpoint itself says what a call cost, that is taken instead. It is read with the reply (reply.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from harvest.core.config import RunConfig
from harvest.core.money import FREE, Price
from harvest.core.teachers import Student

DEEPSEEK_PEAKS = ((time(1), time(4)), (time(6), time(10)))
"""At these times of day (UTC), from Monday to Friday, DeepSeek charges twice the price. DeepSeek makes an exception of
Chinese holidays and we do not, so on these days we reserve too much, never too little. Source: DeepSeek's page "Models
& Pricing"."""

GENAI_PRICES = "genai-prices"


@dataclass(frozen=True, slots=True)
class Tariff:
    """Holds a teacher's prices, and says where they are from."""

    source: str
    at: Callable[[datetime, int], Price]
    """Returns the price at a moment for this many input tokens. (Some providers have tiers.)"""


def tariff_of(config: RunConfig) -> Tariff | None:
    """Returns the tariff of this run's teacher, or None when its price is not known."""
    teacher = config.teacher
    if teacher.local is not None:
        return Tariff(FREE.source, lambda *_: FREE)
    if isinstance(teacher, Student) and teacher.free:
        return Tariff("config", lambda *_: replace(FREE, source="config"))
    if own := teacher.price_usd_per_mtok:
        fixed = Price(own.input, own.input if own.cached_input is None else own.cached_input, own.output, "config")
        return Tariff("config", lambda *_: fixed)
    from genai_prices.data_snapshot import get_snapshot

    try:
        provider, model = get_snapshot().find_provider_model(teacher.model or "", None, None, teacher.base_url)
    except LookupError:
        return None
    prices = model.get_prices(datetime.now(UTC))
    if prices.input_mtok is None or prices.output_mtok is None or prices.requests_kcount is not None:
        return None  # a price for each request, besides its tokens, cannot be computed here
    return Tariff(GENAI_PRICES, lambda moment, input_tokens: _listed(model, provider.id, moment, input_tokens))


def _listed(model: Any, provider_id: str, moment: datetime, input_tokens: int) -> Price:
    """Returns the price of a model in genai-prices, doubled in DeepSeek's peaks, which the data of genai-prices
    lacks."""
    listed, utc = model.get_prices(moment), moment.astimezone(UTC)
    per_input = _tier(listed.input_mtok, input_tokens)
    per_output = _tier(listed.output_mtok, input_tokens)
    per_cached = per_input if listed.cache_read_mtok is None else _tier(listed.cache_read_mtok, input_tokens)
    is_peak = utc.weekday() < 5 and any(a <= utc.time() < b for a, b in DEEPSEEK_PEAKS)
    times = 2 if provider_id == "deepseek" and is_peak else 1
    return Price(per_input * times, per_cached * times, per_output * times, GENAI_PRICES)


def _tier(price: Any, input_tokens: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    if price is None:
        return Decimal(0)
    reached = [t.price for t in price.tiers if input_tokens > t.start]
    return Decimal(reached[-1] if reached else price.base)


def dearest(
    tariff: Tariff, start: datetime, end: datetime, input_tokens: int, extra: Mapping[str, Any], *, routed: bool
) -> Price:
    """Returns the highest price between two moments, for input and for output. Money is reserved at this price.

    Prices change on the half hour, so the prices at both ends and at each half hour between them are compared. `routed`
    says that the endpoint is OpenRouter. If it is, and the request's `extra` sets `provider.max_price` (USD for a
    million tokens), that is the price, since OpenRouter chooses no provider above it. Source: openrouter.ai/docs,
    "Provider Routing", Max Price.
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
