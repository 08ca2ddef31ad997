"""Money and tokens, exactly: whole picodollars inside, decimal strings outside, unknown is None.

A cached token can cost $1.4e-8, so a picodollar ($1e-12) is the smallest unit that loses nothing; whatever
does not fit one is rounded up, against the user's budget.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal, localcontext
from typing import Any

PICO = 1_000_000_000_000
EXACT = Context(prec=100, rounding=ROUND_CEILING)
"""Wide enough that no price times tokens is rounded; a figure with still more digits, from outside, goes up."""

MOST_USD = 10_000
"""No reply costs so much. A larger figure is no cost."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply, inclusive: cached is part of input, reasoning is part of output.

    None is a count that the endpoint did not send. `cost_pusd` is what the endpoint says the call cost.
    """

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_pusd: int | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a million tokens, and where the figure is from: config, genai-prices or local."""

    input: Decimal
    cached_input: Decimal
    output: Decimal
    source: str

    @property
    def is_free(self) -> bool:
        return not (self.input or self.cached_input or self.output)


FREE = Price(Decimal(0), Decimal(0), Decimal(0), "local")


def pusd(usd: Decimal) -> int:
    """USD as whole picodollars, rounded up."""
    return int(EXACT.multiply(usd, PICO).to_integral_value(ROUND_CEILING))


def usd(amount_pusd: int) -> str:
    """Picodollars as a plain decimal string, at least two places, no trailing zeros past them."""
    sign, whole = "-" if amount_pusd < 0 else "", abs(amount_pusd)
    dollars, rest = divmod(whole, PICO)
    return f"{sign}{dollars}.{f'{rest:012d}'.rstrip('0').ljust(2, '0')}"


def cost_of(usage: Usage, price: Price | None) -> tuple[int | None, str]:
    """(picodollars, source) of a reply; (None, "none") where neither the endpoint nor a price says.

    The endpoint's own figure comes first, then the price. A missing cached count is no discount; with a
    price but without both token counts, the cost is unknown.
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


TOKENS_A_MESSAGE = 16
"""Room for what a chat template writes around one message."""
TOKENS_A_REQUEST = 64
"""Room for what it writes once: a start, a system message of its own, the head of the answer."""


def input_bound_tokens(messages: Sequence[Mapping[str, str]], extra: Mapping[str, Any] | None = None) -> int:
    """At least as many tokens as any byte-level tokenizer makes of these messages.

    A token holds at least one byte; some tokenizers normalise first, which can lengthen the text, so the
    longest of the text, its NFC and its NFKC counts. `extra` is what else the request holds (a schema, tools),
    which a template may write out. Source: field notes §5.
    """
    total = TOKENS_A_REQUEST + (len(json.dumps(extra)) if extra else 0)
    for message in messages:
        total += TOKENS_A_MESSAGE
        for text in message.values():
            forms = (text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFKC") if not text.isascii()))
            total += max(len(form.encode("utf-8", "surrogatepass")) for form in forms)
    return total


def worst_case(input_tokens: int, max_tokens: int, price: Price) -> int:
    """Picodollars that one try can cost at most: all input uncached, all of max_tokens used, at this price."""
    with localcontext(EXACT):
        total = max(price.input, price.cached_input) * input_tokens + price.output * max_tokens
        return pusd(total / 1_000_000)
