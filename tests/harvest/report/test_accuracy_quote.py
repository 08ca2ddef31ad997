"""A quoted accuracy stands beside the one that came: of the same questions, by a student of the same weights."""

from typing import Any

import pytest

from harvest.report.run_report import _accuracy_quote
from harvest.report.sentences import accuracy_quote
from harvest.report.tables import accuracy_quotes

QUOTE = {
    "student": "small", "weights": "sha256:a", "questions": "f.jsonl", "traces": 1200, "epochs": 2, "trainings": 5,
    "accuracy": {"low": 0.4, "mid": 0.5, "high": 0.6}, "quoted_at": "2026-11-29",
}  # fmt: skip


def evaluation(right: int, of: int, questions: str = "f.jsonl", came_from: tuple[str, ...] = ("sha256:a",)) -> Any:
    answers = [
        {"question_id": str(n), "sample": 0, "outcome": "right" if n < right else "wrong", "finish_reason": "stop",
         "output_tokens": 5, "cost_pusd": 0}
        for n in range(of)
    ]  # fmt: skip
    settings = {"model": "out", "questions": questions, "samples": 1, "came_from": list(came_from)}
    return {"key": "k", "settings": settings, "answers": answers}


@pytest.mark.parametrize(("right", "held"), [(4, True), (6, True), (3, False), (7, False)])
def test_the_quote_is_held_against_what_came(right: int, held: bool) -> None:
    found = _accuracy_quote(QUOTE, [evaluation(9, 10), evaluation(right, 10)])
    assert (found["came"], found["held"]) == (right / 10, held)
    (row,) = accuracy_quotes({"accuracy_quotes": [found]}).rows
    assert row == ("small on f.jsonl", "40.0%", "50.0%", "60.0%", f"{10 * right}.0%")


def test_other_questions_and_other_students_are_not_what_came() -> None:
    others = [
        evaluation(1, 2, questions="g.jsonl"),
        evaluation(1, 2, came_from=("sha256:b",)),
        evaluation(1, 2, came_from=()),
    ]
    found = _accuracy_quote(QUOTE, others)
    assert (found["came"], found["held"]) == (None, None)
    assert "50.0% right (40.0% to 60.0%) on f.jsonl" in accuracy_quote(QUOTE)
