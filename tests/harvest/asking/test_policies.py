"""benchmarks/policies.py: what a policy buys, compared with figures computed by hand."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from policies import Answer, Recorded, Yield, figures, in_every_order, interval, policies, tables, walk

from harvest.asking.planning.plan import Rules
from harvest.core.teachers import Sampling

RIGHT, WRONG, CUT = Answer("right", 10), Answer("wrong", 3), Answer("truncated", 100)
ONE, STOP = Sampling(samples=1), Sampling(samples=4)


@pytest.mark.parametrize(
    ("rules", "answers", "bought"),
    [
        (Rules((ONE,)), [[WRONG, RIGHT, RIGHT, RIGHT]], (3, 1, 0)),
        (Rules((Sampling(samples=4, stop_after_accepted=4),)), [[WRONG, RIGHT, RIGHT, WRONG]], (26, 4, 2)),
        (Rules((STOP,)), [[WRONG, RIGHT, RIGHT, RIGHT]], (13, 2, 1)),
        (Rules((STOP,)), [[WRONG, WRONG, WRONG, WRONG]], (12, 4, 0)),
        (Rules((Sampling(samples=4, give_up_after=2),)), [[WRONG, WRONG, RIGHT, RIGHT]], (6, 2, 0)),
        (Rules((STOP,)), [[CUT, RIGHT, RIGHT, RIGHT]], (100, 1, 0)),  # the same limit is not paid twice
        (Rules((ONE, STOP)), [[WRONG], [WRONG, RIGHT, RIGHT, RIGHT]], (16, 3, 1)),
        (Rules((ONE, STOP)), [[RIGHT], [WRONG, RIGHT, RIGHT, RIGHT]], (10, 1, 1)),
        (Rules((ONE, STOP)), [[CUT], [RIGHT, RIGHT, RIGHT, RIGHT]], (110, 2, 1)),  # in a cascade the next is asked
    ],
)
def test_a_policy_buys_what_a_hand_reckons(
    rules: Rules, answers: list[list[Answer]], bought: tuple[int, int, int]
) -> None:
    assert walk(rules, answers) == bought


def test_all_orders_of_one_right_sample_in_four() -> None:
    recorded = Recorded("q", "s", ((RIGHT, WRONG, WRONG, WRONG),))
    # Right comes first, second, third or last, equally often: 0, 1, 2 or 3 wrong ones before it.
    assert in_every_order(Rules((STOP,)), recorded) == Yield(10 + 3 * 1.5, 2.5, 1.0, 1.0)
    # Given up after two wrong ones: half of the orders find it, for 10 or 13; the others pay 6.
    given_up = in_every_order(Rules((Sampling(samples=4, give_up_after=2),)), recorded)
    assert given_up == Yield((10 + 13 + 6 + 6) / 4, (1 + 2 + 2 + 2) / 4, 0.5, 0.5)
    assert in_every_order(Rules((ONE,)), recorded) == Yield((10 + 3 * 3) / 4, 1.0, 0.25, 0.25)


def test_a_cascade_over_all_orders_of_both() -> None:
    recorded = Recorded("q", "s", ((RIGHT, WRONG), (Answer("right", 50), Answer("wrong", 40))))
    # The cheap one is right in half the orders (10); else 3, and the dear one: 50, or 40 and then 50.
    rules = Rules((ONE, Sampling(samples=2)))
    assert in_every_order(rules, recorded) == Yield((10 + (3 + 50 + 3 + 90) / 2) / 2, (1 + (2 + 3) / 2) / 2, 1.0, 1.0)


def test_figures_are_ratios_of_sums_and_nothing_accepted_has_no_price() -> None:
    found = figures([Yield(2e9, 1, 1, 1), Yield(4e9, 3, 0, 0)])
    assert (found.usd, found.usd_per_100) == (pytest.approx(6.0), pytest.approx(0.3))
    assert (found.answers, found.traces_per_100, found.coverage) == (2, 50, 0.5)
    assert figures([Yield(4e9, 3, 0, 0)]).usd is None


def test_an_interval_is_over_questions_within_their_stratum() -> None:
    easy, hard = [Yield(1, 1, 1, 1)] * 5, [Yield(1, 1, 0, 0)] * 5
    assert interval([easy, hard], lambda drawn: figures(drawn).coverage) == (0.5, 0.5)
    low, high = interval([easy + hard], lambda drawn: figures(drawn).coverage) or (0, 0)
    assert low < 0.5 < high


def test_the_tables_read_recorded_rows() -> None:
    cheap, dear = "Qwen2.5-Coder-0.5B-Instruct", "Qwen2.5-Coder-1.5B-Instruct"
    rows = [
        {"question": f"q{q}", "stratum": "s", "teacher": teacher, "sample": n, "outcome": "right" if n else "wrong"}
        | {"input_tokens": 100, "output_tokens": 100}
        for q in range(2) for teacher in (cheap, dear) for n in range(4)
    ]  # fmt: skip
    lines = list(tables(rows, policies(cheap, dear)))
    # 100 tokens in and out of the stand-in for the cheap one: 0.00015 USD an answer, three right in four.
    assert f"| four samples ({cheap}) | 4.00 | 300 | 100% (100%–100%) | 0.200 (0.200–0.200) |" in lines
