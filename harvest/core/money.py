"""Money and tokens, exactly: whole picodollars inside, decimal strings outside, unknown is None.

A cached token can cost $1.4e-8, and no known price needs a smaller unit than the picodollar ($1e-12). What is smaller
still is rounded up, so that the budget is kept.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal, localcontext
from typing import Any

PICO = 1_000_000_000_000
EXACT = Context(prec=100, rounding=ROUND_CEILING)
"""100 digits, so that no price times tokens is rounded. A figure from outside with more digits is rounded up."""

MOST_USD = 10_000
"""A larger figure of an endpoint is not taken for the cost of one reply."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one reply. Cached tokens are part of input, reasoning tokens are part of output.

    A count that the endpoint did not send is None. `cost_pusd` is what the endpoint says the call cost.
    """

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_pusd: int | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """A price in USD for a million tokens. `source` says where it is from: config, genai-prices or local."""

    input: Decimal
    cached_input: Decimal
    output: Decimal
    source: str

    @property
    def is_free(self) -> bool:
        return not (self.input or self.cached_input or self.output)


FREE = Price(Decimal(0), Decimal(0), Decimal(0), "local")


def pusd(usd: Decimal) -> int:
    """An amount of USD in whole picodollars, rounded up."""
    return int(EXACT.multiply(usd, PICO).to_integral_value(ROUND_CEILING))


def usd(amount_pusd: int) -> str:
    """An amount of picodollars as USD, in a decimal string: two decimals, or as many more as it needs."""
    sign, whole = "-" if amount_pusd < 0 else "", abs(amount_pusd)
    dollars, rest = divmod(whole, PICO)
    return f"{sign}{dollars}.{f'{rest:012d}'.rstrip('0').ljust(2, '0')}"


def cost_of(usage: Usage, price: Price | None) -> tuple[int | None, str]:
    """(cost in picodollars, where it is from) of a reply; (None, "none") where neither the endpoint nor a price says.

    The endpoint's own figure comes first, then the price. Where the count of cached tokens is missing, all input is
    charged in full. Where a count of input or output tokens is missing, the cost is unknown.
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
    fresh = usage.input_tokens - cached
    with localcontext(EXACT):
        total = price.input * fresh + price.cached_input * cached + price.output * usage.output_tokens
        return pusd(total / 1_000_000), price.source


CHARACTERS_A_TOKEN = 3.8
"""About how many characters one token has, where nobody counted tokens: the median of 329 whole answers of Qwen3 with
their chains, by the endpoint's own count."""
TOKENS_A_MESSAGE = 16
"""The most tokens that a chat template writes around one message."""
TOKENS_A_REQUEST = 64
"""The most tokens that it writes once: a start, a system message of its own, the head of the answer."""


def input_bound_tokens(messages: Sequence[Mapping[str, str]], extra: Mapping[str, Any] | None = None) -> int:
    """An upper bound of the tokens that any byte-level tokenizer makes of these messages.

    A token has at least one byte. Some tokenizers normalise the text first, which can lengthen it, so the longest of
    the text, its NFC and its NFKC form counts. `extra` is what else the request holds (a schema, tools), which a
    template may write out. Source: field notes §5.
    """
    total = TOKENS_A_REQUEST + (len(json.dumps(extra)) if extra else 0)
    for message in messages:
        total += TOKENS_A_MESSAGE
        for text in message.values():
            forms = (text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFKC") if not text.isascii()))
            total += max(len(form.encode("utf-8", "surrogatepass")) for form in forms)
    return total


def worst_case(input_tokens: int, max_tokens: int, price: Price) -> int:
    """The most picodollars that one try can cost at this price: no input is cached, and all of max_tokens is used."""
    with localcontext(EXACT):
        total = max(price.input, price.cached_input) * input_tokens + price.output * max_tokens
        return pusd(total / 1_000_000)
