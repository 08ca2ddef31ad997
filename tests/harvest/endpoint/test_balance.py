"""What providers tell of balances and of the cost of an answer, in the forms of their pages."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvest.core.foreign_json import as_dict, parse
from harvest.core.money import MOST_USD, pusd
from harvest.endpoint.balance import Balance, generation_cost_pusd, provider_of

HELD = 10**9


def read(base_url: str, path: str, answer: Any) -> Balance | None:
    provider = provider_of(base_url)
    assert provider is not None
    return provider.balances[path](as_dict(parse(json.dumps(answer).encode())))


def cost(answer: Any, held: int = HELD) -> int | None:
    return generation_cost_pusd(as_dict(parse(json.dumps(answer).encode())), held)


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("https://openrouter.ai/api/v1", "openrouter.ai"),
        ("https://OpenRouter.ai/api/v1/", "openrouter.ai"),
        ("https://api.deepseek.com", "api.deepseek.com"),
        ("https://api.deepseek.com/beta", "api.deepseek.com"),
        ("https://notopenrouter.ai/api/v1", None),
        ("https://openrouter.ai.example.com/api/v1", None),
        ("http://127.0.0.1:8000/v1", None),
        (None, None),
    ],
)
def test_a_provider_is_known_by_its_host_alone(base_url: str | None, host: str | None) -> None:
    found = provider_of(base_url)
    assert (found.host if found else None) == host


def info(currency: str, total: str) -> dict[str, str]:
    return {"currency": currency, "total_balance": total, "granted_balance": "0.00", "topped_up_balance": total}


@pytest.mark.parametrize(
    ("infos", "amount", "currency"),
    [
        ([info("CNY", "110.00")], "110.00", "CNY"),
        ([info("CNY", "110.00"), info("USD", "5.25")], "5.25", "USD"),
        ([info("USD", "-0.12")], "-0.12", "USD"),
    ],
)
def test_deepseeks_balance_in_usd_where_it_has_one(infos: list[Any], amount: str, currency: str) -> None:
    found = read("https://api.deepseek.com", "/user/balance", {"is_available": True, "balance_infos": infos})
    assert found is not None
    assert (found.amount, found.currency, found.kind) == (Decimal(amount), currency, "left")


@pytest.mark.parametrize("infos", [None, [], [None], [info("EUR", "1.00")], [info("USD", "1e5")], [info("USD", "")]])
def test_a_balance_that_cannot_be_read_is_none(infos: Any) -> None:
    assert read("https://api.deepseek.com", "/user/balance", {"balance_infos": infos}) is None


def test_openrouters_key_and_account() -> None:
    of_key = read("https://openrouter.ai/api/v1", "/api/v1/key", {"data": {"usage": 25.5, "limit": None}})
    of_account = read(
        "https://openrouter.ai/api/v1", "/api/v1/credits", {"data": {"total_credits": 100.5, "total_usage": 25.75}}
    )
    assert of_key is not None
    assert (of_key.kind, of_key.amount) == ("used", Decimal("25.5"))
    assert of_account is not None
    assert (of_account.kind, of_account.amount) == ("left", Decimal("74.75"))
    assert of_key.fall_to(of_account) is None
    later = read("https://openrouter.ai/api/v1", "/api/v1/key", {"data": {"usage": 26}})
    assert later is not None
    assert of_key.fall_to(later) == Decimal("0.5")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"total_cost": 0.0015, "native_tokens_completion": 25}, pusd(Decimal("0.0015"))),
        ({"total_cost": "0.0015"}, pusd(Decimal("0.0015"))),
        ({"total_cost": 0.0001, "is_byok": True, "upstream_inference_cost": 0.002}, pusd(Decimal("0.0021"))),
        ({"total_cost": 0.0001, "is_byok": True, "upstream_inference_cost": None}, None),
        ({"total_cost": 0, "native_tokens_completion": 0}, 0),
        ({"total_cost": 0, "native_tokens_completion": 25}, None),
        ({"total_cost": 0, "native_tokens_completion": None, "tokens_completion": 9}, None),
        ({"total_cost": -1}, None),
        ({"total_cost": True}, None),
        ({"total_cost": MOST_USD + 1}, None),
        ({"total_cost": None}, None),
        ({}, None),
    ],
)
def test_what_an_answer_cost(data: dict[str, Any], expected: int | None) -> None:
    assert cost({"data": data}) == expected


def test_nothing_is_believed_where_nothing_was_held() -> None:
    assert cost({"data": {"total_cost": 0, "native_tokens_completion": 25}}, held=0) == 0


@given(st.integers(1, MOST_USD * 10**12))
def test_every_picodollar_that_is_told_is_booked(amount_pusd: int) -> None:
    told = f"{amount_pusd // 10**12}.{amount_pusd % 10**12:012d}"
    assert generation_cost_pusd(as_dict(parse(f'{{"data": {{"total_cost": {told}}}}}'.encode())), HELD) == amount_pusd


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda s: st.lists(s)))
def test_no_answer_is_too_strange(value: Any) -> None:
    names = ("total_cost", "is_byok", "upstream_inference_cost", "usage", "total_credits", "total_usage")
    for answer in ({"data": value}, {"data": dict.fromkeys(names, value)}, {"balance_infos": value}):
        cost(answer)
        read("https://openrouter.ai/api/v1", "/api/v1/key", answer)
        read("https://openrouter.ai/api/v1", "/api/v1/credits", answer)
        read("https://api.deepseek.com", "/user/balance", answer)
