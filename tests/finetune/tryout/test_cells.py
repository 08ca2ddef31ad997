"""Cells: what decides a result is in its key, none is measured twice, and a gain is what came after less what was."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from students import tiny_student
from test_import import Imports, imports
from test_scoring import answers

pytest.importorskip("torch", reason="needs the extra `train`")

from finetune.commands.tryout import _trained
from finetune.run import Run, ScoredAnswer
from finetune.tryout.cells import Bench, Cell, base_recipe
from finetune.tryout.comparison import TriedAnswer, compare
from harvest.store import StudentScore

__all__ = ["imports"]  # the fixture


class Processes:
    """Stands for the processes that train and evaluate. A trained student has three of four questions right."""

    def __init__(self, student: Path) -> None:
        self.student, self.code, self.trained = student, 0, 0

    def __call__(self, words: Sequence[str]) -> int:
        if words[2] == "sft":
            self.trained += 1
        else:
            right = 1 if words[3] == str(self.student) else 3
            ended = {"sample": 0, "finish_reason": "stop"}
            rows = [ended | {"question_id": f"q{n}", "outcome": "right" if n < right else "wrong"} for n in range(4)]
            Path(words[words.index("--details") + 1]).write_text("".join(json.dumps(r) + "\n" for r in rows))
        return self.code


@pytest.fixture
def bench(imports: Imports, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("WINNOW_RUNS", str(imports.folder / "runs"))
    imports.take(imports.file("a.jsonl", answers(4)))
    student = tiny_student(imports.folder / "student")
    recipe = base_recipe({"student": str(student)}, "recipe.toml", [])
    return Bench(Run("r", f"sqlite:///{imports.store}"), recipe, "held-out.jsonl", Processes(student))


def test_a_cell_is_measured_once_for_each_of_what_decides_its_result(bench: Bench, imports: Imports) -> None:
    start = bench.start
    assert isinstance(start, Processes)
    for _ in range(2):
        bench.result(Cell((1, 2)))
        assert start.trained == 1
    for n, cell in enumerate((Cell((1, 3)), Cell((1, 2), 2), Cell((1, 2), seed=1)), 2):
        bench.result(cell)
        assert start.trained == n
    other = tiny_student(imports.folder / "other", seed=2)
    named = bench.recipe.model_copy(update={"student": str(other)})
    for n, changed in enumerate(
        (replace(bench, recipe=named), replace(bench, questions="others.jsonl"), replace(bench, max_tokens=9)), 5
    ):
        changed.result(Cell((1, 2)))
        assert start.trained == n


def test_held_out_questions_that_were_edited_are_asked_anew_and_the_recipes_own_epochs_decide_nothing(
    bench: Bench, tmp_path: Path
) -> None:
    start, file = bench.start, tmp_path / "held-out.jsonl"
    assert isinstance(start, Processes)
    file.write_text("{}\n")
    bench = replace(bench, questions=str(file))
    bench.result(Cell((1,)))
    train = bench.recipe.train.model_copy(update={"epochs": 9.0, "seed": 9})
    replace(bench, recipe=bench.recipe.model_copy(update={"train": train})).result(Cell((1,)))
    assert start.trained == 1
    file.write_text("{} \n")
    bench.result(Cell((1,)))
    assert start.trained == 2


def test_a_teacher_that_cannot_be_trained_on_is_named(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    scored = [ScoredAnswer(n, n, n - 1, True, StudentScore("s", "w", n * 5, 5.0, 9)) for n in (1, 2)]
    tried = [TriedAnswer(a.question, a.teacher, True, 10**12, a.score.means, 5) for a in scored]
    found = _trained(bench, scored, compare(tried, 2), ["one", "two"])
    assert not isinstance(found, int)
    assert list(found) == [0]
    assert "two is not trained on: its first trace is longer" in capsys.readouterr().err


def test_the_held_out_loss_is_a_mean_and_part_of_the_key(bench: Bench) -> None:
    without, found = bench.result(Cell()), replace(bench, held_out=(3, 4)).result(Cell())
    assert not isinstance(without, int)
    assert not isinstance(found, int)
    assert without.loss is None
    assert found.loss == pytest.approx(math.log(49152), rel=0.1)  # its weights are random


def test_a_process_that_failed_leaves_no_result(bench: Bench) -> None:
    start = bench.start
    assert isinstance(start, Processes)
    start.code = 7
    assert bench.result(Cell((1,))) == 7
    start.code = 0
    assert not isinstance(bench.result(Cell((1,))), int)
    assert start.trained == 2


def test_points_are_what_came_after_less_what_was_before(bench: Bench) -> None:
    scored = [ScoredAnswer(n, n, (n - 1) // 2, True, StudentScore("s", "w", 5, 5.0, 9)) for n in (1, 2, 3, 4)]
    tried = [TriedAnswer(a.question, a.teacher, True, 10**12, a.score.means, 5) for a in scored]
    found = _trained(bench, scored, compare(tried, 2), ["one", "two"])
    assert not isinstance(found, int)
    assert [(t.traces, t.tokens, t.usd, t.points[0]) for t in found.values()] == [(2, 10, 2.0, 50.0)] * 2
