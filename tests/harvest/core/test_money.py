"""Money is exact, or rounded up by less than a picodollar; no real cost is above its worst case."""

import unicodedata
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from harvest.core.money import FREE, PICO, Price, Usage, cost_of, input_bound_tokens, pusd, usd, worst_case

# as RUN.toml allows them: 18 digits, the point anywhere
decimals = st.builds(
    lambda digits, places: Decimal(digits).scaleb(-places),
    st.integers(0, 10**18 - 1) | st.integers(0, 10**4),
    st.integers(0, 18),
)
prices = st.builds(Price, decimals, decimals, decimals, st.just("config"))
counts = st.integers(0, 1_000_000_000) | st.integers(0, 20_000)


def exact_pusd(usage: Usage, price: Price) -> Fraction:
    """The cost as a rational number, by the price list's own definition."""
    assert usage.input_tokens is not None
    assert usage.output_tokens is not None
    cached = min(usage.cached_input_tokens or 0, usage.input_tokens)
    usd_per_mtok = (
        Fraction(price.input) * (usage.input_tokens - cached)
        + Fraction(price.cached_input) * cached
        + Fraction(price.output) * usage.output_tokens
    )
    return usd_per_mtok / 10**6 * PICO


@given(st.integers(-(10**30), 10**30) | st.integers(-(10**6), 10**6))
@example(0)
@example(1)
@example(-1)
@example(10**12)
def test_picodollars_come_back_from_their_decimal_string(amount: int) -> None:
    text = usd(amount)
    whole, _, places = text.lstrip("-").partition(".")
    assert whole.isdigit()
    assert len(places) >= 2
    assert len(places) == 2 or not places.endswith("0")
    assert Fraction(text) * PICO == amount


@given(st.integers(0, 10**15), st.integers(0, 12))
def test_a_decimal_string_comes_back_from_picodollars(digits: int, places: int) -> None:
    amount = Decimal(digits).scaleb(-places)
    assert Fraction(usd(pusd(amount))) == Fraction(amount)


@settings(max_examples=300)
@given(decimals | st.decimals(0, 10_000, allow_nan=False, places=40))
@example(Decimal("0.0000000000010000000000000000000000000000001"))
def test_a_part_of_a_picodollar_is_rounded_up(amount: Decimal) -> None:
    assert 0 <= pusd(amount) - Fraction(amount) * PICO < 1


@settings(max_examples=400)
@given(prices, counts, st.none() | counts, counts)
@example(Price(Decimal("0.014"), Decimal("0.014"), Decimal("0.28"), "config"), 1, 1, 1)
def test_a_cost_is_never_below_the_exact_one_nor_a_picodollar_above(
    price: Price, sent: int, cached: int | None, out: int
) -> None:
    usage = Usage(sent, cached, out)
    cost, source = cost_of(usage, price)
    assert source == "config"
    assert cost is not None
    assert 0 <= cost - exact_pusd(usage, price) < 1


@settings(max_examples=400)
@given(prices, counts, st.integers(1, 1_000_000), st.data())
def test_no_reply_within_its_limits_costs_more_than_the_worst_case(
    price: Price, bound: int, max_tokens: int, data: Any
) -> None:
    worst = worst_case(bound, max_tokens, price)
    sent = data.draw(st.integers(0, bound) | st.just(bound))
    out = data.draw(st.integers(0, max_tokens) | st.just(max_tokens))
    cached = data.draw(st.none() | st.integers(0, sent) | st.just(sent))
    cost, _ = cost_of(Usage(sent, cached, out), price)
    assert cost is not None
    assert cost <= worst


@given(st.none() | counts, st.none() | counts, st.none() | counts, st.none() | prices, st.integers(0, 10**16))
def test_what_the_endpoint_says_stands_above_any_price(
    sent: int | None, cached: int | None, out: int | None, price: Price | None, cost: int
) -> None:
    assert cost_of(Usage(sent, cached, out, None, cost), price) == (cost, "usage.cost")


def test_an_unknown_price_or_count_is_unknown_and_never_zero() -> None:
    price = Price(Decimal(1), Decimal(1), Decimal(1), "config")
    assert cost_of(Usage(10, None, 10), None) == (None, "none")
    assert cost_of(Usage(None, None, 10), price) == (None, "config")
    assert cost_of(Usage(10, None, None), price) == (None, "config")
    assert cost_of(Usage(), FREE) == (0, "local")


def test_a_missing_cached_count_is_no_discount() -> None:
    price = Price(Decimal(10), Decimal(1), Decimal(0), "config")
    assert cost_of(Usage(100, None, 0), price) == cost_of(Usage(100, 0, 0), price)
    assert cost_of(Usage(100, 200, 0), price) == cost_of(Usage(100, 100, 0), price)


texts = st.text() | st.text(st.sampled_from("ﷺ\ufdfa\u0344\u1e9b\u0323ﬁ①½가각\ud800\U0001d15e a\n")) | st.text("ab \n")


@settings(max_examples=300)
@given(st.lists(st.fixed_dictionaries({"role": texts, "content": texts})))
@example([{"role": "user", "content": "\ufdfa" * 100}])
@example([{"role": "user", "content": "\U0001d160" * 100}])
def test_no_byte_level_tokenizer_makes_more_tokens_than_the_bound(messages: list[dict[str, str]]) -> None:
    bound = input_bound_tokens(messages)
    for form in (None, "NFC", "NFKC"):
        length = 0
        for text in (t for m in messages for t in m.values()):
            shown = unicodedata.normalize(form, text) if form else text
            length += len(shown.encode("utf-8", "surrogatepass"))
        assert bound >= length
