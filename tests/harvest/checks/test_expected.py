"""What a program printed or returned, compared with what is expected."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvest.checks.expected import print_differs, value_differs
from harvest.sandbox import wire


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("1 2\n3\n", "1 2\n3", True),
        ("1  2 \n\n3", "1 2\n3\n", True),
        ("1\n2\n3", "1 2\n3", False),
        ("2", "2.0", True),
        ("2.0", "2", True),
        ("1000000", "1000001", False),
        ("0.333333", "0.3333333333", True),
        ("0.3334", "0.3333333333", False),
        ("1e-9", "0.0", True),
        ("nan", "0.5", False),
        ("inf", "1e300", False),
        ("YES", "Yes", False),
        ("0x10", "16", False),
        ("1_000", "1000", False),
        ("1,5", "1.5", False),
        ("９", "9", False),
        ("", "", True),
        ("\n\n", "", True),
        ("x", "", False),
        ("1e999", "1e998", False),
        ("a 0.50 b", "a 0.5 b", True),
    ],
)
def test_what_is_printed_is_compared_as_these_sets_do(printed: str, expected: str, same: bool) -> None:
    assert (print_differs(printed, expected) is None) is same


@given(st.text(), st.text())
def test_any_two_texts_can_be_compared_and_each_equals_itself(a: str, b: str) -> None:
    assert print_differs(a, a) is None
    print_differs(a, b)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values)
def test_a_value_equals_itself_across_the_wire(value: Any) -> None:
    assert value_differs(wire.encode(value), value) is None


@pytest.mark.parametrize(
    ("got", "expected", "same"),
    [
        ((1, 2), [1, 2], True),
        ([1, (2, 3)], [1, [2, 3]], True),
        (True, 1, False),
        (1, True, False),
        (2.0, 2, False),
        (2, 2.0, True),
        ("2", 2, False),
        (None, [], False),
        ({1, 2}, [1, 2], False),
        ([1], [1, 1], False),
        ({"a": 1}, {"a": 1}, True),
        (Counter("aab"), {"a": 2, "b": 1}, True),
        ({1: 1}, {1: 1}, True),
        ({True: 1}, {1: 1}, False),
        ({1: 1}, {"1": 1}, False),
        (10**30, 10**30, True),
        (b"a", "a", False),
    ],
)
def test_returned_values_agree_by_exact_type_and_count(got: Any, expected: Any, same: bool) -> None:
    assert (value_differs(wire.encode(got), expected) is None) is same


@given(st.recursive(st.none() | st.integers() | st.text() | st.sampled_from("ltdh"), st.lists), json_values)
def test_whatever_comes_back_can_be_compared(got: Any, expected: Any) -> None:
    value_differs(got, expected)
