"""What is said of a balance that fell while a run asked."""

from decimal import Decimal

import pytest

from harvest.asking.accounts import Fall, Told
from harvest.endpoint.balance import Balance

LEFT = Balance("left", Decimal("9.50"), "USD", Decimal("0.01"))


@pytest.mark.parametrize(
    ("fell", "currency", "booked_usd", "is_beyond"),
    [("0.50", "USD", "0.50", False), ("0.52", "USD", "0.50", False), ("0.53", "USD", "0.50", True),
     ("5", "CNY", "0.50", False), (None, "USD", "0", False)],
)  # fmt: skip
def test_a_balance_that_fell_further_than_what_is_booked_and_its_rounding_is_said(
    fell: str | None, currency: str, booked_usd: str, is_beyond: bool
) -> None:
    balance = Balance("left", Decimal("9.50"), currency, Decimal("0.01"))
    found = Fall("api.example", balance, None if fell is None else Decimal(fell), int(Decimal(booked_usd) * 10**12))
    assert found.is_beyond_booked == is_beyond
    assert ("another program uses the account" in str(found)) == is_beyond
    if fell is None:
        assert str(found) == "9.50 USD of the account at api.example is left"
    else:
        assert f"fell by {fell} {currency} while the run asked" in str(found)


def test_readings_of_two_kinds_are_not_compared() -> None:
    used = Balance("used", Decimal("1.00"), "USD", Decimal("0.01"))
    assert LEFT.fall_to(Balance("left", Decimal("9.00"), "USD", Decimal("0.01"))) == Decimal("0.50")
    assert used.fall_to(Balance("used", Decimal("1.25"), "USD", Decimal("0.01"))) == Decimal("0.25")
    assert LEFT.fall_to(used) is None


def test_what_a_provider_told_of_tries_names_the_first_reason_for_the_rest() -> None:
    told = Told("api.example", 3)
    told.costs[1] = 20_000_000_000
    assert str(told) == "api.example told what 1 of 3 tries in doubt cost: 0.02 USD"
    told.untold.extend(("first", "second"))
    assert str(told).endswith(". The others stay in doubt: first")
