"""Intervals are compared with published figures, and with many simulated measurements."""

import random
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvest.core.intervals import accuracy_interval, paired_gain, pass_at_k, student_quantile

SHARES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=60)


def test_the_accuracy_of_nothing_is_unknown() -> None:
    assert accuracy_interval([]) == (None, None, None)
    assert paired_gain({}, {"a": 1.0}) == (None, None, None)


def test_one_sample_a_question_is_wilsons_interval() -> None:
    # As statsmodels gives it: proportion_confint of 3 in 20, method wilson.
    assert accuracy_interval([1.0] * 3 + [0.0] * 17) == pytest.approx((0.15, 0.05237, 0.36042), abs=1e-4)


def test_all_right_is_not_certain() -> None:
    _, low, high = accuracy_interval([1.0] * 20)
    assert low is not None
    assert 0.8 < low < 0.9
    assert high == 1.0


def test_samples_of_one_question_do_not_count_as_questions() -> None:
    by_question = accuracy_interval([1.0, 0.0] * 10)
    as_if_independent = accuracy_interval([1.0, 0.0] * 40)
    assert by_question[1] < as_if_independent[1]  # type: ignore[operator]


def test_shares_that_agree_more_are_surer_than_right_or_wrong() -> None:
    mixed, sharp = accuracy_interval([0.25, 0.75] * 20, 160), accuracy_interval([0.0, 1.0] * 20, 160)
    assert mixed[0] == sharp[0]
    assert sharp[1] < mixed[1] < mixed[2] < sharp[2]  # type: ignore[operator]


def test_questions_that_happen_to_agree_are_no_surer_than_all_their_answers() -> None:
    shares, p, n = [0.5, 0.5, 0.5, 0.25, 0.5], 0.45, 20
    _, low, high = accuracy_interval(shares, n)
    assert high - low > accuracy_interval([1.0] * 9 + [0.0] * 11)[2] - accuracy_interval([1.0] * 9 + [0.0] * 11)[1]  # type: ignore[operator]
    assert low < p < high  # type: ignore[operator]
    assert accuracy_interval(shares)[1] < low  # type: ignore[operator]  # unsaid how many: as many as questions


@pytest.mark.parametrize(("freedom", "known"), [(3, 3.1824), (4, 2.7764), (9, 2.2622), (59, 2.0010)])
def test_students_quantile_is_that_of_the_tables(freedom: int, known: float) -> None:
    assert student_quantile(freedom) == pytest.approx(known, rel=0.01)


@pytest.mark.parametrize(("n", "k"), [(5, 8), (10, 2), (20, 8)])
def test_few_questions_with_several_samples_hold_the_truth_too(n: int, k: int) -> None:
    rng, held, trials = random.Random(n), 0, 1500
    for _ in range(trials):
        shares = [sum(rng.random() < s for _ in range(k)) / k for s in (rng.betavariate(1, 2) for _ in range(n))]
        _, low, high = accuracy_interval(shares, n * k)
        held += low <= 1 / 3 <= high  # type: ignore[operator]
    assert held / trials >= 0.94


@given(SHARES)
def test_an_interval_holds_its_estimate_and_stays_in_range(shares: list[float]) -> None:
    mean, low, high = accuracy_interval(shares)
    assert 0 <= low <= mean <= high <= 1  # type: ignore[operator]


def test_a_gain_is_paired_by_question_whatever_the_order() -> None:
    before = {f"q{i}": 0.0 for i in range(50)}
    after = {f"q{i}": float(i < 20) for i in reversed(range(50))}
    points, low, high = paired_gain(before, after | {"another": 1.0})
    assert points == 40
    assert 24 < low < 30  # type: ignore[operator]
    assert 50 < high < 55  # type: ignore[operator]


def test_no_change_in_few_questions_is_no_proof_of_no_gain() -> None:
    points, low, high = paired_gain({"a": 1.0, "b": 0.0}, {"a": 1.0, "b": 0.0})
    assert points == 0
    assert low < -50  # type: ignore[operator]
    assert high > 50  # type: ignore[operator]


@given(SHARES, st.randoms(use_true_random=False))
def test_a_gain_turned_round_is_the_same_loss(shares: list[float], rng: random.Random) -> None:
    before = {str(i): s for i, s in enumerate(shares)}
    after = {q: rng.choice(shares) for q in before}
    there, back = paired_gain(before, after), paired_gain(after, before)
    assert there == pytest.approx((-back[0], -back[2], -back[1]))  # type: ignore[operator]


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng, n, trials = random.Random(7), 60, 1500
    held_accuracy = held_gain = 0
    for _ in range(trials):
        skill = [rng.betavariate(1, 2) for _ in range(n)]  # questions differ: mean 1/3
        shares = [sum(rng.random() < s for _ in range(4)) / 4 for s in skill]
        _, low, high = accuracy_interval(shares, 4 * n)
        held_accuracy += low <= 1 / 3 <= high  # type: ignore[operator]
        before = {str(i): float(rng.random() < 0.2) for i in range(n)}
        after = {q: float(rng.random() < (0.6 if b == 0 else 0.9)) for q, b in before.items()}
        _, low, high = paired_gain(before, after)
        held_gain += low <= 100 * (0.8 * 0.6 + 0.2 * 0.9 - 0.2) <= high  # type: ignore[operator]
    assert 0.93 < held_accuracy / trials < 0.975
    assert 0.93 < held_gain / trials < 0.985


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.data())
def test_pass_at_k_is_the_share_of_all_choices_of_k_that_hold_a_right_one(
    right: list[bool], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(right)))
    chosen = [any(c) for c in combinations(right, k)]
    assert pass_at_k(len(right), sum(right), k) == pytest.approx(sum(chosen) / len(chosen))


def test_pass_at_k_of_few_samples_is_right_on_average() -> None:
    rng, skill, n, k = random.Random(5), 0.3, 6, 3
    found = [pass_at_k(n, sum(rng.random() < skill for _ in range(n)), k) for _ in range(20_000)]
    assert sum(found) / len(found) == pytest.approx(1 - (1 - skill) ** k, abs=0.008)


@pytest.mark.parametrize(("n", "k", "change"), [(20, 8, 0.0), (40, 4, 0.15), (100, 4, -0.1)])
def test_gains_of_several_samples_hold_the_truth_as_often_as_they_say(n: int, k: int, change: float) -> None:
    """Questions differ in how hard they are and in what training does to them; both sides are sampled."""
    rng, held, trials = random.Random(n), 0, 1200
    for _ in range(trials):
        before, after, truth = dict[str, float](), dict[str, float](), 0.0
        for i in range(n):
            was = 0.2 + 0.6 * rng.random()
            now = min(1.0, max(0.0, was + change + rng.uniform(-0.15, 0.15)))
            before[str(i)] = sum(rng.random() < was for _ in range(k)) / k
            after[str(i)] = sum(rng.random() < now for _ in range(k)) / k
            truth += change
        _, low, high = paired_gain(before, after)
        held += low <= 100 * truth / n <= high  # type: ignore[operator]
    assert held / trials >= 0.94


def noisy(n: int, k: int, skills: Callable[[random.Random], tuple[float, float]], rng: random.Random) -> Any:
    """The gain of one measurement of n questions, k samples each, as paired_gain has it."""
    pairs = [skills(rng) for _ in range(n)]
    before, after = (
        {str(i): sum(rng.random() < p[side] for _ in range(k)) / k for i, p in enumerate(pairs)} for side in (0, 1)
    )
    return paired_gain(before, after)


def test_few_questions_that_changed_for_good_are_not_hidden_by_many_that_did_not() -> None:
    def skills(rng: random.Random) -> tuple[float, float]:
        skill = rng.random() * 0.2
        return (0.0, 1.0) if rng.random() < 0.05 else (skill, skill)

    rng = random.Random(3)
    intervals = [noisy(30, 16, skills, rng) for _ in range(800)]
    assert sum(low <= 5 <= high for _, low, high in intervals) / 800 >= 0.95


def test_a_student_that_got_ten_points_worse_is_seen_in_half_of_the_measurements_of_thirty_questions() -> None:
    def skills(rng: random.Random) -> tuple[float, float]:
        skill = rng.random() * 0.5 + 0.3
        return skill, skill - 0.1 + rng.uniform(-0.1, 0.1)

    rng = random.Random(4)
    assert sum(noisy(30, 16, skills, rng)[2] < 0 for _ in range(600)) / 600 > 0.48


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60), st.integers(1, 64))
def test_samples_that_agree_within_their_question_make_it_no_surer(right: list[float], samples: int) -> None:
    assert accuracy_interval(right, samples * len(right)) == accuracy_interval(right)
