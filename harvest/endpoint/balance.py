"""Knows which providers tell what a request cost or what is left of a balance, and reads their answers. Pure.

To add a provider: an entry in PROVIDERS with the pages that say what it answers, and a test.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal
from urllib.parse import urlsplit

from harvest.core.foreign_json import Json, as_dict, as_list, count
from harvest.core.money import MOST_USD, pusd

NUMBER = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,12})?")


@dataclass(frozen=True, slots=True)
class Balance:
    """Holds one reading of an account: what is `left` of it, or what is `used` of it."""

    kind: Literal["left", "used"]
    amount: Decimal
    currency: str
    rounding: Decimal
    """How far the amount may be from the account's exact state, since it is rounded."""

    def fall_to(self, later: "Balance") -> Decimal | None:
        """Returns by how much the account fell until the reading `later`; None if the two readings cannot be
        compared."""
        if (self.kind, self.currency) != (later.kind, later.currency):
            return None
        return (later.amount - self.amount) * (1 if self.kind == "used" else -1)


@dataclass(frozen=True, slots=True, eq=False)
class Provider:
    """Says what one provider can be asked, at which paths of its host."""

    host: str
    balances: Mapping[str, Callable[[Json], Balance | None]]
    """Maps each path that gives a balance to the function that reads it, the narrower account first."""
    generation: str | None = None
    """The path, before the answer's id, that gives the cost of one answer. None: the provider gives no cost."""


def _deepseek(answer: Json) -> Balance | None:
    """Reads `{"balance_infos": [{"currency": "CNY" | "USD", "total_balance": "110.00", …}]}`, USD first.
    https://api-docs.deepseek.com/api/get-user-balance"""
    infos = [as_dict(info) for info in as_list(answer.get("balance_infos"))]
    for info in sorted(infos, key=lambda info: str(info.get("currency")) != "USD"):
        amount, currency = _decimal(info.get("total_balance")), info.get("currency")
        if amount is not None and currency in ("USD", "CNY"):
            return Balance("left", amount, currency, Decimal("0.01"))
    return None


def _openrouter_key(answer: Json) -> Balance | None:
    """Reads `{"data": {"usage": 25.5, …}}`: what this key has used, in USD.
    https://openrouter.ai/docs/api/api-reference/api-keys/get-current-key"""
    used = _decimal(as_dict(answer.get("data")).get("usage"))
    return None if used is None else Balance("used", used, "USD", OPENROUTER_ROUNDING)


def _openrouter_credits(answer: Json) -> Balance | None:
    """Reads `{"data": {"total_credits": 100.5, "total_usage": 25.75}}` of the whole account, in USD.
    https://openrouter.ai/docs/api/api-reference/credits/get-credits"""
    data = as_dict(answer.get("data"))
    bought, used = _decimal(data.get("total_credits")), _decimal(data.get("total_usage"))
    return None if bought is None or used is None else Balance("left", bought - used, "USD", OPENROUTER_ROUNDING)


OPENROUTER_ROUNDING = Decimal("0.000001")

PROVIDERS = (
    Provider("api.deepseek.com", {"/user/balance": _deepseek}),
    Provider(
        "openrouter.ai",
        {"/api/v1/key": _openrouter_key, "/api/v1/credits": _openrouter_credits},
        generation="/api/v1/generation?id=",
    ),
)


def provider_of(base_url: str | None) -> Provider | None:
    """Returns the provider at this address; None if PROVIDERS does not have it."""
    host = urlsplit(base_url or "").hostname
    return next((provider for provider in PROVIDERS if provider.host == host), None)


def generation_cost_pusd(answer: Json, held_pusd: int) -> int | None:
    """Returns the cost of one answer by OpenRouter's word, in picodollars; None if the word is missing or cannot be
    right.

    It is `{"data": {"total_cost": 0.0015, "is_byok": false, "upstream_inference_cost": …, …}}`. With an own key at the
    provider (`is_byok`), the provider's part comes to it. A cost of nothing for an answer that has tokens is not
    believed where something was held for it.
    https://openrouter.ai/docs/api/api-reference/generations/get-generation
    """
    data = as_dict(answer.get("data"))
    cost = _decimal(data.get("total_cost"))
    if data.get("is_byok") is True:
        upstream = _decimal(data.get("upstream_inference_cost"))
        cost = None if cost is None or upstream is None else cost + upstream
    if cost is None or not 0 <= cost <= MOST_USD:
        return None
    has_tokens = bool(count(data.get("native_tokens_completion")) or count(data.get("tokens_completion")))
    return None if cost == 0 and has_tokens and held_pusd else pusd(cost)


def _decimal(value: object) -> Decimal | None:
    """Returns an amount that is a number or a text; None if it is neither."""
    if isinstance(value, str):
        return Decimal(value) if NUMBER.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not -(10**12) < value < 10**12:
        return None
    return Decimal(value)
