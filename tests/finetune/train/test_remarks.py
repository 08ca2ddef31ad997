"""What a user hears in one line: settings that train little, a loss that went up, questions that were trained on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Place, sums
from scripted_endpoint import Endpoint
from trainings import OTHERS_WARN, Make, make, run, student

from finetune.recipe import Recipe
from finetune.run import Run
from finetune.train.remarks import after_training, before_training
from harvest.core.nouns import Question

pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("trl", reason="needs the extra `train`")

__all__ = ["make", "student"]  # fixtures

pytestmark = OTHERS_WARN


def recipe(method: str = "full", **train: Any) -> Recipe:
    return Recipe.model_validate({"student": "s", "data": "d", "output": "o", "method": method, "train": train})


@pytest.mark.parametrize(
    ("given", "rows", "words"),
    [
        (recipe("lora", learning_rate=1e-5), 5000, ["--train.learning_rate 1e-04"]),
        (recipe("qlora", learning_rate=1e-5), 5000, ["qlora wants about ten times as much"]),
        (recipe("lora", learning_rate=1e-4), 5000, []),
        (recipe("full", learning_rate=1e-5), 5000, []),
        (recipe(epochs=1), 30, ["30 rows in steps of 96 are 1 step in all", "--train.traces_per_step 1"]),
        (recipe(epochs=3), 30, ["30 rows in steps of 96 are 3 steps in all", "--train.traces_per_step 4"]),
        (recipe(epochs=3, traces_per_step=4), 30, []),
        (recipe(epochs=3), 324, []),
    ],
)
def test_settings_that_train_little_are_said_with_what_would_help(given: Recipe, rows: int, words: list[str]) -> None:
    said = list(before_training(given, rows))
    assert len(said) == bool(words)
    for word in words:
        assert word in said[0]


@pytest.mark.parametrize("rows", [2, 5, 12, 30, 90, 200])
@pytest.mark.parametrize("epochs", [0.5, 1, 3, 9])
def test_what_it_proposes_is_enough_and_is_not_remarked_again(rows: int, epochs: float) -> None:
    import re

    for said in before_training(recipe(epochs=epochs), rows):
        found = re.search(r"traces_per_step (\d+)", said)
        assert found
        assert int(found[1]) < 96
        again = list(before_training(recipe(epochs=epochs, traces_per_step=int(found[1])), rows))
        assert again == [] or int(found[1]) == 1


@pytest.mark.parametrize(
    ("first", "last", "says"), [(1.0, 0.5, False), (1.0, 1.01, False), (1.0, 1.5, True), (None, None, False)]
)
def test_a_loss_that_went_up_is_said(first: float | None, last: float | None, says: bool) -> None:
    said = after_training({"loss_first": first, "loss_last": last, "learning_rate": 1e-3})
    assert (said is not None) == says
    assert said is None or "from 1.000 to 1.500" in said


def test_a_training_says_them_before_its_first_step_and_a_dry_run_too(make: Make) -> None:
    words = "40 rows in steps of 96 are 2 steps in all"
    path, few = make(), ("--train.traces_per_step", "96", "--train.epochs", "2")
    code, _, err = run(path, "--dry-run", *few)
    assert code == 0, err
    assert words in err
    code, _, err = run(path, *few)
    assert code == 0, err
    assert words in err


def test_an_evaluation_on_questions_that_the_run_has_traces_of_counts_them(
    endpoint: Callable[..., Endpoint], place: Callable[..., Place], tmp_path: Path
) -> None:
    p = place(endpoint().url, 5)
    assert p.collect()[0] == 0
    asked = [Question.model_validate(row | {"check": "math"}) for row in sums(4, 3)]
    shouted = asked[0].model_copy(update={"question": "  WHAT IS 3 +  4?"})
    assert Run("r", p.url).trains_on(asked) == 2
    assert Run("r", p.url).trains_on([shouted]) == 1
    assert Run("r", p.url).trains_on(asked[2:]) == 0
    assert json.loads((p.run_folder / "report.json").read_text())["traces"]["accepted"] == 5
