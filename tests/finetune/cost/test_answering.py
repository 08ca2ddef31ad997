"""Hours of an evaluation: vLLM's minutes, transformers' hours, and how a model is spread over GPUs."""

import pytest

from finetune.cost.answering import Evaluating, Spread, answering_hours, spread_of
from finetune.cost.shape import shape_of_size
from finetune.cost.work import Launching, work_of_mean

WORK = work_of_mean(1_000, 4_500, 32_768, 3, 96)
H100 = Launching("single", "H100", 1)


def hours(billions: float, evaluating: Evaluating, launching: Launching = H100) -> tuple[float, float, float]:
    """Of one evaluation of the two: low, mid and high."""
    low, mid, high = answering_hours(shape_of_size(billions * 1e9), WORK, launching, evaluating)
    return low / 2, mid / 2, high / 2


def test_math_500_in_static_batches_takes_a_7b_hours_and_a_32b_days() -> None:
    """5 to 7 hours a pass of a 7B at 32K tokens, and days of a 32B, as read in the loop; nobody has measured it."""
    static = Evaluating(500, 1, 4_000, 32_768, "transformers")
    low, mid, high = hours(7.6, static)
    assert low < 4 < mid < 7 < high
    assert hours(32.8, static)[1] > 24


def test_math_500_four_times_with_vllm_takes_a_7b_minutes() -> None:
    four = Evaluating(500, 4, 4_000, 32_768)
    low, mid, high = hours(7.6, four)
    assert 5 / 60 < low < mid < high < 1
    eight = hours(7.6, four, Launching("ddp", "H100", 8))[1] / 8
    assert eight < mid / 2, "eight copies take less time by the clock"


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_more_answers_longer_answers_and_slower_gpus_take_longer(engine: str) -> None:
    one = hours(7.6, Evaluating(500, 1, 2_000, 8_192, engine))[1]
    assert hours(7.6, Evaluating(500, 8, 2_000, 8_192, engine))[1] > 2 * one
    assert hours(7.6, Evaluating(500, 1, 2_000, 32_768, engine))[1] > one
    assert hours(7.6, Evaluating(500, 1, 2_000, 8_192, engine), Launching("single", "A10", 1))[1] > one


def test_a_model_takes_as_few_gpus_as_leave_room_for_answers() -> None:
    eight = [79.6] * 8
    assert spread_of(7.6e9, 28, eight) == Spread(1, 8)
    assert spread_of(32.8e9, 40, eight) == Spread(2, 4)
    assert spread_of(72.7e9, 64, eight) == Spread(4, 2)
    assert spread_of(7.6e9, 28, [23.5] * 3) == Spread(2, 1)
    assert spread_of(32.8e9, 40, eight, tensor=8) == Spread(8, 1)
    assert spread_of(7.6e9, 28, eight, data=4) == Spread(1, 4)
    assert spread_of(7.6e9, 28, []) == Spread(1, 1)
