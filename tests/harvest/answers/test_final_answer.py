"""Reading an answer: plain numbers, the final answer, and the chain before its box."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvest.answers.boxes import split_at_final_box
from harvest.answers.quantities import parse_number
from harvest.answers.stated import final_answer


@given(top=st.integers(-(10**12), 10**12), bottom=st.integers(1, 10**6))
def test_a_fraction_is_read_exactly(top: int, bottom: int) -> None:
    for form in (f"{top}/{bottom}", f"\\frac{{{top}}}{{{bottom}}}"):
        number = parse_number(form)
        assert number is not None
        assert number.value * bottom == top


@pytest.mark.parametrize("text", ["1e999999999", "9" * 5000, "1e-999999999", "1/0", "1,2", "5x", "3 - 4", "", "1 5/2"])
def test_what_is_no_plain_number_is_left_to_others(text: str) -> None:
    assert parse_number(text) is None


# ---- where the answer stands


def test_the_final_answer_is_the_last_finished_box_or_what_is_stated() -> None:
    assert final_answer(r"\boxed{1} so $\boxed{\frac{1}{2}}$") == r"\frac{1}{2}"
    assert final_answer(r"\boxed{\{1, 2\}}") == r"\{1, 2\}"
    assert final_answer("The answer is **18**.") == "18"
    assert final_answer(r"\boxed{1") is None
    assert final_answer("") is None


@given(before=st.text(max_size=80), after=st.text(alphabet=st.characters(exclude_characters="\\"), max_size=40))
def test_splitting_at_the_box_loses_nothing(before: str, after: str) -> None:
    text = before + "\nSo it is \\boxed{18}." + after
    parts = split_at_final_box(text)
    if parts is not None:
        assert "".join(parts) == text
        assert "\\boxed{18}" in parts[1]
        assert parts[0].strip()


@pytest.mark.parametrize(
    ("text", "chain"),
    [
        ("3 + 4 = 7\n7 + 2 = 9\n\\boxed{9}", "3 + 4 = 7\n7 + 2 = 9\n"),
        ("3 + 4 = 7\n\\[\n\\boxed{7}\n\\]", "3 + 4 = 7\n"),
        ("3 + 4 = 7. So it is \\boxed{7}.", "3 + 4 = 7. "),
    ],
)
def test_the_chain_stands_before_the_box(text: str, chain: str) -> None:
    parts = split_at_final_box(text)
    assert parts is not None
    assert parts[0] == chain


@pytest.mark.parametrize("text", ["\\boxed{7}", "no box", "chain\n\\boxed{7", "So \\boxed{7}"])
def test_without_a_chain_or_a_finished_box_there_is_no_split(text: str) -> None:
    assert split_at_final_box(text) is None
