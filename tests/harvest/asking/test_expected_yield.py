"""What a stratum is expected to bring, in figures that were reckoned by hand from the rules of the file."""

import pytest

from harvest.asking.planning.expected_yield import ExpectedYield

ROOM = 0.75 / 2
"""What is added to a share of which nothing is known: 0.75 over the root of the first guess's weight of 4."""


@pytest.mark.parametrize(
    ("stratum", "guess"),
    [("m|easy|0", 0.64), ("m|hard|0", 0.36), ("m||0", 0.5), ("m|olympiad|0", 0.3), ("m|trivial|0", 0.7)],
)
def test_the_first_guess_goes_by_the_difficulty_in_words(stratum: str, guess: float) -> None:
    assert ExpectedYield([stratum]).share(stratum) == pytest.approx(guess + ROOM)


def test_numbers_of_difficulty_are_ranked_from_easy_to_hard() -> None:
    found = ExpectedYield(["m|1|0", "m|3|0", "m|5|0"])
    assert [found.share(f"m|{n}|0") for n in (1, 3, 5)] == pytest.approx([0.7 + ROOM, 0.5 + ROOM, 0.3 + ROOM])


def test_answers_move_a_stratum_and_a_little_those_of_its_kind() -> None:
    found = ExpectedYield(["m||0", "m||1", "n||0"])
    found.answered("m||0", 4, 8.0, answers=4)
    # All: (4 + 4·0.5) over (4·0.5 + 4·0.5), so answers are 1.5 times as good as guessed: 0.75.
    assert found.share("n||0") == pytest.approx(0.75 + ROOM)
    assert found.share("m||1") == pytest.approx((4 + 4 * 0.75) / 8 + ROOM)
    assert found.share("m||0") == pytest.approx((4 + 4 * 0.875) / 8 + 0.75 / 8**0.5)
    assert found.cost("m||0") == pytest.approx(2.0)
    assert found.cost("n||0") == pytest.approx(2.0)


def test_what_is_being_asked_counts_as_half_a_rejected_answer_until_it_ends() -> None:
    found = ExpectedYield(["m||0"])
    found.begun("m||0")
    assert found.share("m||0") == pytest.approx(2 / 4.5 + 0.75 / 4.5**0.5)
    found.ended("m||0")
    assert found.share("m||0") == pytest.approx(0.5 + ROOM)


def test_what_the_student_can_do_is_easier_than_the_rest() -> None:
    found = ExpectedYield(["m|a|0", "m|b|0"])
    found.student_said("m|a|0", 3, answers=4)
    found.student_said("m|b|0", 0, answers=2)
    # Of all 4/8; of a 4/6, of b 1/4.
    assert found.share("m|a|0") == pytest.approx(0.5 + 0.4 * (4 / 6 - 4 / 8) + ROOM)
    assert found.share("m|b|0") == pytest.approx(0.5 + 0.4 * (1 / 4 - 4 / 8) + ROOM)


def test_a_dear_stratum_must_bring_more_and_a_cost_that_nobody_knows_moves_none() -> None:
    found = ExpectedYield(["m||0", "m||1"], {"m||0": 1.0, "m||1": 3.0})
    assert found.best(["m||1", "m||0"]) == "m||0"
    found.answered("m||0", 1, None)
    assert found.cost("m||0") == pytest.approx(1.0)
    found.answered("m||1", 1, 6.0)
    assert found.cost("m||1") == pytest.approx((6.0 + 4 * 2.0 * 3.0) / 5), "twice as dear as was guessed"
    assert found.cost("m||0") == pytest.approx((4 * 2.0 * 1.0) / 4)
