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


class ListedModel:
    """Holds a model of the list. Moments are on the half hour, since prices change only then."""

    def __init__(self, model: Any, *, is_own: bool) -> None:
        self.is_own = is_own
        """Whether the model is listed under its provider. Else the provider serves the model of another one."""
        self._variants = [variant for variant in model.price_variants or () if variant.prices.__dict__]
        self.tiers = tuple(sorted({tier for v in self._variants if (tier := v.when.get("service_tier"))}))
        """The service tiers that have prices of their own."""
        self._prices_at = lru_cache(maxsize=256)(model.get_prices)
        self._variant_at = lru_cache(maxsize=256)(lambda moment, tier: self._variant(model, moment, tier))

    def price(self, moment: datetime, input_tokens: int) -> Price:
        """Returns the standard price."""
        return _price(self._prices_at(moment), input_tokens)

    def price_of_tier(self, moment: datetime, input_tokens: int, tier: str) -> Price | None:
        """Returns the price in a tier; None if the list has no price for it."""
        listed = self._variant_at(moment, tier)
        return None if listed is None else _price(listed, input_tokens)

    def _variant(self, model: Any, moment: datetime, tier: str) -> Any | None:
        context = {"processing": BATCH} if tier == BATCH else {"service_tier": tier}
        matching = (v for v in self._variants if v.when == context)
        holds = any(v.constraint is None or v.constraint.active(moment) for v in matching)
        return model.get_prices(moment, context) if holds else None


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


def _price(listed: Any, input_tokens: int) -> Price:
    """Returns one entry of the list as a Price. Two models charge more for reasoning than for other output; all of
    their output counts as reasoning."""

    def per_mtok(name: str) -> Decimal | None:
        found = getattr(listed, name)
        if found is None or isinstance(found, Decimal):
            return found
        reached = [tier.price for tier in found.tiers if input_tokens > tier.start]
        return Decimal(reached[-1] if reached else found.base)

    per_input, per_cached = per_mtok("input_mtok") or Decimal(0), per_mtok("cache_read_mtok")
    return Price(
        per_input,
        per_input if per_cached is None else per_cached,
        max(per_mtok("output_mtok") or Decimal(0), per_mtok("output_reasoning_mtok") or Decimal(0)),
        GENAI_PRICES,
        per_mtok("cache_write_mtok"),
        per_mtok("cache_write_1h_mtok"),
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
