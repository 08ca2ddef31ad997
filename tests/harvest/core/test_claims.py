"""What an endpoint says of usage and cost is booked only where it can be true."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvest.core.claims import BYTES_A_TOKEN, Bill, bill_of
from harvest.core.money import FREE, Price, Usage, cost_of
from harvest.core.nouns import Reply

PRICE = Price(Decimal(1), Decimal("0.1"), Decimal(10), "config")
DEARER = replace(PRICE, output=Decimal(20))


def said(answer: str = "a" * 30 + "b" * 30, usage: Usage | None = None, **more: Any) -> Reply:
    return Reply(answer=answer, usage=usage or Usage(40, None, 30), **more)


def kinds(bill: Bill) -> list[str]:
    return [claim.kind for claim in bill.reply.claims]


@pytest.mark.parametrize(
    "usage",
    [
        Usage(0, 0, 0), Usage(0, 0, 0, 0, 0), Usage(50, None, 0), Usage(0, None, 500), Usage(50, None, 124),
        Usage(50, 0, 9, 9, 7),
    ],
    ids=str,
)  # fmt: skip
def test_tokens_that_the_text_cannot_have_are_no_usage(usage: Usage) -> None:
    bill = bill_of(said("So it is. " * 200, usage), [PRICE])
    assert (bill.reply.usage, bill.cost_pusd, bill.source) == (Usage(), None, "config")
    assert kinds(bill) == ["usage"]
    assert "tokens" in bill.reply.claims[0].words


def test_the_chain_is_text_too() -> None:
    chain = "first I add. " * 100
    assert kinds(bill_of(said("4", Usage(40, None, 5), reasoning=chain), [PRICE])) == ["usage"]
    assert kinds(bill_of(said("4", Usage(40, None, 100), reasoning=chain), [PRICE])) == []


def test_a_run_of_one_character_counts_once() -> None:
    """One token may be a run of many spaces, dashes or zeros."""
    table = "|" + "-" * 3000 + "|\n" + " " * 3000 + "0" * 3000
    assert kinds(bill_of(said(table, Usage(40, None, 5)), [PRICE])) == []


def test_bytes_count_and_not_characters() -> None:
    assert kinds(bill_of(said("数学" * 100, Usage(40, None, 37)), [PRICE])) == ["usage"]
    assert kinds(bill_of(said("数学" * 100, Usage(40, None, 38)), [PRICE])) == []


def test_a_reply_without_a_text_may_have_no_tokens() -> None:
    for usage in (Usage(0, 0, 0), Usage(50, None, 0, None, 0)):
        bill = bill_of(said("", usage), [PRICE])
        assert bill.reply.claims == ()
        assert bill.cost_pusd == cost_of(usage, PRICE)[0]


def test_a_cost_of_nothing_at_a_known_price_is_the_counts_at_that_price() -> None:
    bill = bill_of(said(usage=Usage(40, None, 30, None, 0)), [PRICE])
    assert (bill.cost_pusd, bill.source) == (340_000_000, "config")
    assert bill.reply.usage.cost_pusd is None
    assert kinds(bill) == ["cost"]
    without_counts = bill_of(said(usage=Usage(None, None, None, None, 0)), [PRICE])
    assert (without_counts.cost_pusd, kinds(without_counts)) == (None, ["cost"])


def test_a_cost_of_nothing_at_an_unknown_price_is_believed() -> None:
    reply = said(usage=Usage(40, None, 30, None, 0))
    assert bill_of(reply, []) == Bill(reply, 0, "usage.cost")


@pytest.mark.parametrize("usage", [Usage(0, 0, 0), Usage(0, 0, 0, 0, 0), Usage()], ids=str)
def test_nothing_is_claimed_of_an_endpoint_that_is_free(usage: Usage) -> None:
    bill = bill_of(said("So it is. " * 200, usage), [FREE])
    assert (bill.cost_pusd, bill.reply.claims, bill.reply.usage) == (0, (), usage)


def test_the_dearer_of_two_prices_is_booked() -> None:
    assert bill_of(said(), [PRICE, DEARER]).cost_pusd == bill_of(said(), [DEARER]).cost_pusd == 640_000_000


@pytest.mark.parametrize(
    ("told", "asked", "claimed"),
    [
        (None, None, []), ("default", None, []), ("flex", None, []), ("priority", "priority", []),
        ("Priority", None, ["tier"]), ("priority", "flex", ["tier"]), ("fast", "priority", []),
        ("platinum", None, ["tier"]), ("platinum", "platinum", []),
    ],
)  # fmt: skip
def test_a_tier_that_nobody_asked_for_is_named(told: str | None, asked: str | None, claimed: list[str]) -> None:
    assert kinds(bill_of(said(extra={"service_tier": told}), [PRICE], asked)) == claimed
    assert kinds(bill_of(said(raw_usage={"service_tier": told}), [PRICE], asked)) == claimed


def test_parts_of_a_usage_without_a_price_are_named() -> None:
    raw = {"num_search_queries": 2, "prompt_tokens_details": {"audio_tokens": 3, "cached_tokens": 1}, "image_tokens": 0}
    bill = bill_of(said(raw_usage=raw), [PRICE])
    assert [(c.kind, c.words) for c in bill.reply.claims] == [("part", "audio_tokens, num_search_queries")]
    assert bill.cost_pusd == 340_000_000
    told = bill_of(said(usage=Usage(40, None, 30, None, 5), raw_usage=raw), [PRICE])
    assert (told.cost_pusd, told.reply.claims) == (5, ())


counts = st.none() | st.integers(0, 3_000)


@settings(max_examples=300)
@given(st.text(max_size=300), st.none() | st.text(max_size=300), counts, counts, counts, st.none() | st.integers(0, 9))
def test_what_is_booked_at_a_price_is_never_nothing_for_a_text(
    answer: str, chain: str | None, sent: int | None, cached: int | None, out: int | None, cost: int | None
) -> None:
    usage = Usage(sent, cached, out, None, cost)
    bill = bill_of(said(answer, usage, reasoning=chain), [PRICE])
    if answer or chain:
        assert bill.cost_pusd is None or bill.cost_pusd > 0
    if bill.reply.usage.output_tokens is not None and len(set(answer)) == len(answer) and not chain:
        assert bill.reply.usage.output_tokens * BYTES_A_TOKEN >= len(answer.encode("utf-8", "surrogatepass"))
    if not bill.reply.claims:
        assert bill.reply.usage == usage
        assert (bill.cost_pusd, bill.source) == cost_of(usage, PRICE)


def test_a_text_that_max_tokens_cannot_make_is_said_where_the_cost_is_not_known() -> None:
    text = "So it is. " * 200
    for usage in (Usage(), Usage(50, None, 3), Usage(None, None, 600, None, 0)):
        assert bill_of(said(text, usage), [PRICE], None, 124).is_unbounded
        assert not bill_of(said(text, usage), [PRICE], None, 125).is_unbounded
    assert not bill_of(said(text, Usage(50, None, 600)), [PRICE], None, 124).is_unbounded, "its cost says it"
    assert not bill_of(said(text), [FREE], None, 1).is_unbounded
