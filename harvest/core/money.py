"""Counts money and tokens exactly: inside, money is whole picodollars; outside, decimal strings; None means unknown.

A cached token can cost $1.4e-8, and no known price needs a smaller unit than the picodollar ($1e-12). A smaller amount
is rounded up, so that the budget is kept.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation, localcontext
from typing import Any

PICO = 1_000_000_000_000
EXACT = Context(prec=100, rounding=ROUND_CEILING)
"""Has 100 digits, so that no price times tokens is rounded. A figure from outside with more digits is rounded up."""

MOST_USD = 10_000
"""A larger amount from an endpoint is not believed to be the cost of one reply."""
LONGEST_AMOUNT = 100
"""An amount from outside with more characters is not read."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Holds the token counts of one reply. Input includes cached tokens and tokens that were written to a cache, and
    output includes reasoning tokens.

    A count that the endpoint did not send is None. `cost_pusd` is the cost of the call, in picodollars, as the endpoint
    says it; None: the endpoint does not say. `hour_cache_write_tokens` is the part of `cache_write_tokens` that the
    cache keeps for an hour.
    """

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_pusd: int | None = None
    cache_write_tokens: int | None = None
    hour_cache_write_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """Holds prices in USD for a million tokens. `source` says where they are from: config, genai-prices or local."""

    input: Decimal
    cached_input: Decimal
    output: Decimal
    source: str
    cache_write: Decimal | None = None
    """The price of input that is written to a cache. None: it costs as much as `input`."""
    hour_cache_write: Decimal | None = None
    """The price of input that a cache keeps for an hour. None: it costs as much as `cache_write`."""

    @property
    def is_free(self) -> bool:
        return not (self.input or self.cached_input or self.output)

    @property
    def cache_writes(self) -> tuple[Decimal, Decimal]:
        """Returns the prices of input that a cache keeps for minutes, and for an hour."""
        short = self.input if self.cache_write is None else self.cache_write
        return short, short if self.hour_cache_write is None else self.hour_cache_write

    @property
    def dearest_input(self) -> Decimal:
        return max(self.input, self.cached_input, *self.cache_writes)


FREE = Price(Decimal(0), Decimal(0), Decimal(0), "local")


def pusd(usd: Decimal) -> int:
    """Returns an amount of USD in whole picodollars, rounded up."""
    return int(EXACT.multiply(usd, PICO).to_integral_value(ROUND_CEILING))


def amount(value: object) -> Decimal | None:
    """Returns a number from outside, or a text that is one, as an amount of money. None if it is no such number, or is
    negative."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str) or len(str(value)) > LONGEST_AMOUNT:
        return None
    try:
        found = Decimal(value)
    except InvalidOperation:
        return None
    return found if found.is_finite() and found >= 0 else None


def usd(amount_pusd: int) -> str:
    """Returns an amount of picodollars as a decimal string in USD, with two decimals, or more if the amount needs
    them."""
    sign, whole = "-" if amount_pusd < 0 else "", abs(amount_pusd)
    dollars, rest = divmod(whole, PICO)
    return f"{sign}{dollars}.{f'{rest:012d}'.rstrip('0').ljust(2, '0')}"


def cost_of(usage: Usage, price: Price | None) -> tuple[int | None, str]:
    """Returns (cost of a reply in picodollars, source of that figure).

    The endpoint's own figure is taken first, then the price. The cost is None when there is neither (the source is then
    "none"), and when a price needs a count of input or output tokens that is missing. Input that is not said
    to be cached, nor to be written to a cache, is charged as plain input.
    """
    if usage.cost_pusd is not None:
        return usage.cost_pusd, "usage.cost"
    if price is None:
        return None, "none"
    if price.is_free:
        return 0, price.source
    if usage.input_tokens is None or usage.output_tokens is None:
        return None, price.source
    cached = min(usage.cached_input_tokens or 0, usage.input_tokens)
    written = min(usage.cache_write_tokens or 0, usage.input_tokens - cached)
    for_an_hour = min(usage.hour_cache_write_tokens or 0, written)
    fresh = usage.input_tokens - cached - written
    per_write, per_hour_write = price.cache_writes
    with localcontext(EXACT):
        total = price.input * fresh + price.cached_input * cached + price.output * usage.output_tokens
        total += per_write * (written - for_an_hour) + per_hour_write * for_an_hour
        return pusd(total / 1_000_000), price.source


CHARACTERS_A_TOKEN = 3.8
"""About how many characters one token has, if nobody counted the tokens: the median of 329 whole answers of Qwen3 with
their chains, by the endpoint's own count."""
TOKENS_A_MESSAGE = 16
"""A chat template writes at most this many tokens around one message."""
TOKENS_A_REQUEST = 64
"""A chat template adds at most this many further tokens to a request: a start, a system message of its own, and the
head of the answer."""


def input_bound_tokens(messages: Sequence[Mapping[str, Any]], extra: Mapping[str, Any] | None = None) -> int:
    """Returns an upper bound of the number of tokens in these messages, whichever byte-level tokenizer is used.

    A token has at least one byte. Some tokenizers normalise the text first, which can make it longer. So the longest of
    three forms counts: the text itself, its NFC form, and its NFKC form. `extra` is what else the request holds (a
    schema, tools), which a template may write out. Source: field notes §5.
    """
    total = TOKENS_A_REQUEST + (len(json.dumps(extra)) if extra else 0)
    for message in messages:
        total += TOKENS_A_MESSAGE
        for text in (value for value in message.values() if isinstance(value, str)):
            forms = (text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFKC") if not text.isascii()))
            total += max(len(form.encode("utf-8", "surrogatepass")) for form in forms)
    return total


def worst_case(input_tokens: int, max_tokens: int, price: Price) -> int:
    """Returns the most picodollars that one try can cost at this price, if all input is of the dearest kind and all of
    max_tokens is used."""
    with localcontext(EXACT):
        total = price.dearest_input * input_tokens + price.output * max_tokens
        return pusd(total / 1_000_000)
