"""Prices are those of genai-prices, whatever its version; what is reserved is the dearest that may hold."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from harvest.core.config import RunConfig
from harvest.core.money import Price, Usage, cost_of, pusd
from harvest.endpoint.price import DEARER_TIMES, Tariff, dearest, tariff_of, within_price
from harvest.endpoint.price_list import BATCH, ListedModel, installed_list, nearest_names

NOW = datetime.now(UTC)
MONDAY = datetime(2027, 3, 1, tzinfo=UTC)
MOMENTS = (
    *(MONDAY + timedelta(hours=hour, minutes=17) for hour in range(24)),
    *(MONDAY + timedelta(days=5, hours=hour) for hour in (2, 7, 12)),
    NOW,
)
USAGES = (
    Usage(1000, None, 500),
    Usage(500_000, 300_000, 9, None, None, 100_000, 40_000),
    Usage(7, 0, 3, None, None, 7),
)


def priced(**teacher: Any) -> RunConfig:
    extra = teacher.pop("extra", {})
    return RunConfig.model_validate(
        {"name": "r", "questions": "q.jsonl", "teacher": teacher, "sampling": {"extra": extra}, "budget": {"usd": "1"}}
    )


def by_the_list(provider: Any, model: Any, usage: Usage, moment: datetime, tier: str | None) -> int:
    """The cost in picodollars by genai-prices' own `calc_price`."""
    context = {"processing": BATCH} if tier == BATCH else {"service_tier": tier} if tier else None
    counts = genai_prices.Usage(
        input_tokens=usage.input_tokens, cache_read_tokens=usage.cached_input_tokens or 0,
        cache_write_tokens=usage.cache_write_tokens or 0, cache_write_1h_tokens=usage.hour_cache_write_tokens or 0,
        output_tokens=usage.output_tokens,
    )  # fmt: skip
    found = model.calc_price(counts, provider, genai_request_timestamp=moment, price_context=context)
    return pusd(found.total_price)


def conditional(model: Any) -> list[Any]:
    return model.prices if isinstance(model.prices, list) else []


def models() -> list[tuple[Any, Any]]:
    """All models of the list that have prices for input and output tokens, with their providers."""
    return [
        (provider, model)
        for provider in get_snapshot().providers
        for model in provider.models
        if (prices := model.get_prices(NOW)).input_mtok is not None
        and prices.output_mtok is not None
        and prices.requests_kcount is None
        and prices.output_reasoning_mtok is None
    ]


@pytest.mark.parametrize("provider_id", sorted({provider.id for provider, _ in models()}))
def test_a_cost_is_that_of_calc_price(provider_id: str) -> None:
    """Every model, at every hour, long inputs and short ones, with caches, in every tier and in a batch."""
    chance = random.Random(provider_id)
    for provider, model in (found for found in models() if found[0].id == provider_id):
        listed = ListedModel(model, is_own=True)
        by_hour = any(hasattr(p.constraint, "start_time") for p in conditional(model))
        for moment in MOMENTS if by_hour else chance.sample(MOMENTS, 3):
            half_hour = moment.replace(minute=moment.minute // 30 * 30, second=0, microsecond=0)
            for tier in (None, BATCH, "nothing", *listed.tiers):
                for usage in USAGES:
                    price = listed.price(half_hour, usage.input_tokens or 0)
                    if tier is not None:
                        price = listed.price_of_tier(half_hour, usage.input_tokens or 0, tier) or price
                    where = f"{model.id} at {moment} in tier {tier}: {usage}"
                    assert cost_of(usage, price)[0] == by_the_list(provider, model, usage, moment, tier), where


def test_a_teachers_price_is_that_of_its_address() -> None:
    """Through the settings: a peak of DeepSeek's is charged once, not twice over."""
    for address, name in (("https://api.deepseek.com/v1", "deepseek-reasoner"), ("https://api.openai.com/v1", "gpt-5")):
        tariff = tariff_of(priced(base_url=address, model=name))
        assert tariff is not None
        provider, model = get_snapshot().find_provider_model(name, None, None, address)
        for moment in MOMENTS:
            cost, source = cost_of(USAGES[0], tariff.at(moment, 1000))
            assert source == "genai-prices"
            assert cost == by_the_list(provider, model, USAGES[0], moment, None)


def test_the_list_is_the_only_one_of_its_form_that_we_know() -> None:
    """Every price changes on the half hour, as `Tariff.at` takes for granted."""
    for _, model in models():
        for one in conditional(model):
            for edge in ("start_time", "end_time"):
                time = getattr(one.constraint, edge, None)
                assert time is None or (time.minute in (0, 30) and not time.second), model.id


def per_hour(by_hour: dict[int, str], tiers: dict[str, str] | None = None, asked: str | None = None) -> Tariff:
    """A tariff whose output costs this many USD from these hours on, and whose tiers cost their own price."""
    known = tiers or {}

    def price(moment: datetime, _input: int, tier: str | None) -> Price:
        standard = [usd for hour, usd in by_hour.items() if hour <= moment.hour][-1]
        return Price(
            Decimal(1), Decimal(1), Decimal(known.get(tier or "", standard)), "test", Decimal("1.25"), Decimal("1.1")
        )

    return Tariff("test", price, asked, tuple(known))


@settings(max_examples=200)
@given(st.integers(0, 86_399), st.integers(0, 20_000), st.floats(0, 1))
def test_no_price_until_the_deadline_is_above_what_is_reserved(start_s: int, lasts_s: int, at: float) -> None:
    tariff = per_hour({0: "1", 1: "9", 4: "2", 6: "8", 10: "3"})
    start = MONDAY + timedelta(seconds=start_s)
    end = start + timedelta(seconds=lasts_s)
    reserved = dearest(tariff, start, end, 10, {}, routed=False)
    assert tariff.at(start + (end - start) * at, 10).output <= reserved.output
    assert reserved.dearest_input == Decimal("1.25")


@pytest.mark.parametrize(
    ("asked", "output"), [(None, "7"), ("default", "1"), ("flex", "1"), ("priority", "7"), ("platinum", "1")]
)
def test_the_dearest_tier_that_may_hold_is_reserved(asked: str | None, output: str) -> None:
    tariff = per_hour({0: "1"}, {"flex": "0.5", "priority": "7"}, asked)
    assert dearest(tariff, MONDAY, MONDAY, 10, {}, routed=False).output == Decimal(output)


@pytest.mark.parametrize(
    ("asked", "told", "times"),
    [
        (None, None, 1), (None, "priority", 2), ("priority", "priority", 1), ("priority", "default", 1),
        ("auto", "fast", 2),
    ],
)  # fmt: skip
def test_the_users_price_is_that_of_the_tier_that_was_asked_for(
    asked: str | None, told: str | None, times: int
) -> None:
    extra = {"service_tier": asked} if asked else {}
    own = {"input": "1", "output": "2", "cache_write": "1.5"}
    tariff = tariff_of(priced(base_url="http://h/v1", model="m", price_usd_per_mtok=own, extra=extra))
    assert tariff is not None
    assert tariff.at(NOW, 5, told).output == 2 * times
    assert tariff.at(NOW, 5, told).dearest_input == Decimal("1.5") * times


def test_a_tier_of_another_providers_model_is_never_booked_below_the_standard_price() -> None:
    """Azure serves OpenAI's models, whose tiers the list does not take over."""
    tariff = tariff_of(priced(base_url="https://x.openai.azure.com/v1", model="gpt-5"))
    assert tariff is not None
    standard = tariff.at(NOW, 5)
    assert tariff.at(NOW, 5, "flex").output == standard.output
    assert tariff.at(NOW, 5, "priority").output >= Decimal("1.5") * standard.output


def test_a_dearer_tier_that_no_table_knows_costs_twice_as_much() -> None:
    tariff = tariff_of(priced(base_url="https://api.deepseek.com/v1", model="deepseek-reasoner"))
    assert tariff is not None
    assert tariff.at(NOW, 5, "priority").output == DEARER_TIMES * tariff.at(NOW, 5).output


def test_openrouter_is_told_the_price_that_is_reserved() -> None:
    body = {"model": "m", "provider": {"only": ["a"], "max_price": {"prompt": 0.5}}}
    price = dearest(per_hour({0: "3"}), NOW, NOW, 10, {"provider": body["provider"]}, routed=True)
    sent = within_price(body, price)
    assert sent["provider"] == {"only": ["a"], "max_price": {"prompt": 0.5, "completion": 3.0}}
    assert within_price({"model": "m"}, price)["provider"]["max_price"] == {"prompt": 0.5, "completion": 3.0}
    assert price.dearest_input == Decimal("0.625"), "what is written to a cache costs as much more as before"
    assert body["provider"] == {"only": ["a"], "max_price": {"prompt": 0.5}}


def test_a_model_that_the_list_does_not_know_has_its_nearest_names() -> None:
    assert "deepseek-reasoner" in nearest_names("https://api.deepseek.com/v1", "deepseek-resoner")
    assert nearest_names("http://127.0.0.1:8000/v1", "deepseek-reasoner") == []


def test_the_list_has_a_version_and_a_date() -> None:
    words = installed_list()
    assert genai_prices.__version__ in words
    day = datetime.strptime(words.rsplit(" ", 1)[-1], "%Y-%m-%d").replace(tzinfo=UTC)
    assert day <= NOW


def test_a_price_of_ones_own_is_the_live_one_and_a_batch_takes_its_discount_off_it() -> None:
    own = {"input": "5", "output": "10", "cached_input": "1"}
    endpoint = {"base_url": "https://api.openai.com/v1", "model": "gpt-4.1", "price_usd_per_mtok": own}
    for discount, output in (("0", "10"), ("0.5", "5")):
        tariff = tariff_of(priced(**endpoint, mode="batch", batch_discount=discount))
        assert tariff is not None
        found = tariff.at(NOW, 0)
        assert (found.output, found.input) == (Decimal(output), Decimal(output) / 2)
        assert found.source == "config (batch)"
    listed = tariff_of(
        priced(base_url=endpoint["base_url"], model=endpoint["model"], mode="batch", batch_discount="0.5")
    )
    assert listed is not None
    assert listed.at(NOW, 0).output != Decimal(5), "that of the list"
