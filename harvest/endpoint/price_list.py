"""Reads the list of known prices, genai-prices. No other file knows its form."""

import difflib
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from harvest.core.money import Price

GENAI_PRICES = "genai-prices"
BATCH = "batch"
"""The tier of requests that are sent in a batch."""
PARTS = (
    "input_mtok", "cache_read_mtok", "output_mtok", "output_reasoning_mtok", "cache_write_mtok", "cache_write_1h_mtok",
)  # fmt: skip
"""The parts of a listed price that are read."""
Parts = tuple[Any, ...]
"""Holds the values of PARTS: None, a Decimal, or prices that depend on the number of input tokens."""


class ListedModel:
    """Holds a model of the list. Moments are on the half hour, since prices change only then."""

    def __init__(self, model: Any, *, is_own: bool) -> None:
        self.is_own = is_own
        """Whether the model is listed under its provider. Else the provider serves the model of another one."""
        self._variants = [variant for variant in model.price_variants or () if variant.prices.__dict__]
        self.tiers = tuple(sorted({tier for v in self._variants if (tier := v.when.get("service_tier"))}))
        """The service tiers that have prices of their own."""
        self._prices_at = lru_cache(maxsize=256)(lambda moment: _parts(model.get_prices(moment)))
        self._variant_at = lru_cache(maxsize=256)(lambda moment, tier: self._variant(model, moment, tier))

    def price(self, moment: datetime, input_tokens: int) -> Price:
        """Returns the model's price at this moment, outside of every service tier, for so many input tokens."""
        return _price(self._prices_at(moment), input_tokens)

    def price_of_tier(self, moment: datetime, input_tokens: int, tier: str) -> Price | None:
        """Returns the price in a tier; None if the list has no price for it."""
        parts = self._variant_at(moment, tier)
        return None if parts is None else _price(parts, input_tokens)

    def _variant(self, model: Any, moment: datetime, tier: str) -> Parts | None:
        context = {"processing": BATCH} if tier == BATCH else {"service_tier": tier}
        matching = (v for v in self._variants if v.when == context)
        holds = any(v.constraint is None or v.constraint.active(moment) for v in matching)
        return _parts(model.get_prices(moment, context)) if holds else None


def find(base_url: str, model_name: str) -> ListedModel | None:
    """Returns the model that the endpoint at this address calls by this name; None if the list does not have it, or if
    its price is not one for input and output tokens alone."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        provider, model = get_snapshot().find_provider_model(model_name, None, None, base_url)
    except LookupError:
        return None
    prices = model.get_prices(datetime.now(UTC))
    if prices.input_mtok is None or prices.output_mtok is None or prices.requests_kcount is not None:
        return None
    return ListedModel(model, is_own=any(model is own for own in provider.models))


def _parts(listed: Any) -> Parts:
    return tuple(getattr(listed, name) for name in PARTS)


def _price(parts: Parts, input_tokens: int) -> Price:
    """Returns one entry of the list as a Price. Two models charge more for reasoning than for other output; all of
    their output counts as reasoning."""

    def at(part: Any) -> Decimal | None:
        if part is None or isinstance(part, Decimal):
            return part
        reached = [tier.price for tier in part.tiers if input_tokens > tier.start]
        return Decimal(reached[-1] if reached else part.base)

    per_input, cached, per_output, reasoning, cache_write, hour_cache_write = map(at, parts)
    per_input, per_output = per_input or Decimal(0), per_output or Decimal(0)
    if reasoning is not None:
        per_output = max(per_output, reasoning)
    return Price(
        per_input, per_input if cached is None else cached, per_output, GENAI_PRICES, cache_write, hour_cache_write
    )


def nearest_names(base_url: str, model_name: str) -> list[str]:
    """Returns the listed models of the provider at this address whose names are most like this one, at most three."""
    from genai_prices.data_snapshot import get_snapshot

    try:
        provider = get_snapshot().find_provider(None, None, base_url)
    except LookupError:
        return []
    return difflib.get_close_matches(model_name, [model.id for model in provider.models], 3, 0.5)


def installed_list() -> str:
    """Returns which list is installed: its version, and the newest day on which one of its prices came into force."""
    import genai_prices
    from genai_prices.data_snapshot import get_snapshot

    today = datetime.now(UTC).date()
    days: list[date] = []
    for model in (model for provider in get_snapshot().providers for model in provider.models):
        for one in (*(model.prices if isinstance(model.prices, list) else ()), *(model.price_variants or ())):
            day = getattr(one.constraint, "start_date", None)
            days += [day] if day is not None and day <= today else []
    newest = f", newest price of {max(days)}" if days else ""
    return f"{GENAI_PRICES} {genai_prices.__version__}{newest}"
