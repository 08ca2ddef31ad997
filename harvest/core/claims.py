"""Decides what winnow books for a reply. What the endpoint says of usage and cost is a claim; a claim that cannot be
true is not believed. Pure.

Source of the rules: field.md §2, "Claims of cost that are none" and "Price".
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harvest.core.foreign_json import as_dict, count, label
from harvest.core.money import Price, Usage, cost_of
from harvest.core.nouns import Claim, Reply

BYTES_A_TOKEN = 16
"""Every tokenizer makes at least one token of this many bytes of text, if a run of one character counts once."""
DEARER_TIERS = frozenset({"priority", "fast"})
"""Service tiers that cost more than the standard one."""
OTHER_TIERS = frozenset({"default", "standard", "standard_only", "auto", "on_demand", "flex", "batch", "scale"})
"""Service tiers that cost no more than the standard one."""
UNPRICED_PARTS = (
    "audio_tokens", "image_tokens", "video_tokens", "citation_tokens", "num_search_queries", "web_search_requests",
    "num_sources_used",
)  # fmt: skip
"""Counts of a usage that a price for input and output tokens does not cover."""
_RUN = re.compile(r"(.)\1+", re.S)


@dataclass(frozen=True, slots=True)
class Bill:
    """Holds what is booked for one reply."""

    reply: Reply
    """The reply with the usage that is believed, and with the claims that are not booked as the endpoint made them."""
    cost_pusd: int | None
    """The cost in picodollars; None: nobody knows it."""
    source: str
    """Where the cost comes from, as `cost_of` says it."""

    @property
    def is_unbounded(self) -> bool:
        """Whether the reply may have cost more than the worst case that was reserved for it."""
        return any(claim.kind == "limit" for claim in self.reply.claims)


def bill_of(
    reply: Reply, prices: Sequence[Price], asked_tier: str | None = None, max_tokens: int | None = None
) -> Bill:
    """Returns what is booked for a reply.

    `prices` are those that may apply in the reply's tier (`tier_of`); the dearest is booked. Without any, the price is
    unknown. `asked_tier` and `max_tokens` are the service tier and the limit in the request. A free endpoint's claims
    are left as they are, since nothing is booked.
    """
    usage, claims = reply.usage, list[Claim]()
    if prices and all(price.is_free for price in prices):
        return Bill(reply, *cost_of(usage, prices[0]))
    if (untrue := _untrue(reply)) is not None:
        claims = [Claim("usage", untrue), *_beyond_limit(reply, max_tokens)]
        return Bill(replace(reply, usage=Usage(), claims=tuple(claims)), None, prices[0].source if prices else "none")
    brought_nothing = usage.output_tokens == 0 and not (reply.answer or reply.reasoning)
    if usage.cost_pusd == 0 and prices and not brought_nothing:
        usage = replace(usage, cost_pusd=None)
        claims.append(Claim("cost", f"a cost of 0 beside {_tokens(usage)}"))
    if usage.cost_pusd is None and prices:
        claims += _without_price(reply, asked_tier)
    found = [cost_of(usage, price) for price in prices or (None,)]
    cost, source = max(found, key=lambda one: one[0] or 0)
    if cost is None:
        claims += _beyond_limit(reply, max_tokens)
    return Bill(replace(reply, usage=usage, claims=tuple(claims)) if claims else reply, cost, source)


def tier_of(reply: Reply) -> str | None:
    """Returns the service tier that the reply names, in lower case; None if it names none."""
    told = label(reply.extra.get("service_tier")) or label((reply.raw_usage or {}).get("service_tier"))
    return told.lower() if told else None


def _untrue(reply: Reply) -> str | None:
    """Returns in words why the token counts cannot be those of the reply's text; None if they can."""
    usage = reply.usage
    if usage.input_tokens == 0 and (reply.answer or reply.reasoning):
        return f"0 input tokens and {_tokens(usage)} for a prompt and an answer"
    if usage.output_tokens is None or (size_bytes := _bytes_beyond(reply, usage.output_tokens)) is None:
        return None
    return f"{_tokens(usage)} for a text of {size_bytes:,} bytes"


def _beyond_limit(reply: Reply, max_tokens: int | None) -> list[Claim]:
    """Returns a claim if the text is too long to have kept to `max_tokens`; else an empty list."""
    if max_tokens is None or (size_bytes := _bytes_beyond(reply, max_tokens)) is None:
        return []
    return [Claim("limit", f"a text of {size_bytes:,} bytes, asked for with max_tokens = {max_tokens}")]


def _bytes_beyond(reply: Reply, tokens: int) -> int | None:
    """Returns the text's bytes, with runs of one character counted once, if they are too many for `tokens` tokens; else
    None."""
    text, most_bytes = f"{reply.reasoning or ''}{reply.answer}", tokens * BYTES_A_TOKEN
    if len(text.encode("utf-8", "surrogatepass")) <= most_bytes:
        return None
    size_bytes = len(_RUN.sub(r"\1", text).encode("utf-8", "surrogatepass"))
    return size_bytes if size_bytes > most_bytes else None


def _tokens(usage: Usage) -> str:
    return "no count of output tokens" if usage.output_tokens is None else f"{usage.output_tokens:,} output tokens"


def _without_price(reply: Reply, asked_tier: str | None) -> list[Claim]:
    """Returns claims of a service tier or of parts of the usage that the price does not cover."""
    found, told = list[Claim](), tier_of(reply)
    if told in DEARER_TIERS and asked_tier not in DEARER_TIERS:
        found.append(Claim("tier", f"service tier {told!r}, which was not asked for: booked at that tier's price"))
    elif told not in {None, asked_tier} | DEARER_TIERS | OTHER_TIERS:
        found.append(Claim("tier", f"service tier {told!r}, whose price is unknown: booked at the standard price"))
    parts = sorted(set(_parts(reply.raw_usage or {})))
    return [*found, *([Claim("part", ", ".join(parts))] if parts else [])]


def _parts(raw_usage: Mapping[str, Any]) -> list[str]:
    places = (raw_usage, *(as_dict(value) for value in raw_usage.values()))
    return [name for place in places for name in UNPRICED_PARTS if count(place.get(name))]
