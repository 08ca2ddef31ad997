"""Turns one row into a Question. The row has our layout or a known foreign one. Pure.

What the checks say about a row is passed in as RowRules, because checks stand above this room.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from harvest.core.nouns import Question, content_hash
from harvest.questions.foreign_rows import BadLayout, own_layout

FIELDS = tuple(Question.model_fields)
OTHER_NAMES = {
    "question": ("question", "problem", "instruction", "prompt", "query", "input", "text"),
    "answer": ("answer", "final_answer", "gold", "target", "solution", "output", "response", "label"),
}
"""What other sets call a field, in small letters, the likeliest name first."""
CONVERSATIONS = ("messages", "conversations", "conversation")
"""The columns in which datasets of answers hold whole conversations."""
WITHOUT_GOLD = '. To judge without gold answers: checks.without_gold = "majority", with sampling.samples = 4 or more'
NO_COLUMNS: Mapping[str, str] = MappingProxyType({})
MAJORITY = "majority"
"""The check that judges a question without a gold answer, by comparing its answers with each other."""


class BadRow(ValueError):
    """The row is not a question. The message begins with the field; the code that reads the file adds file and line."""


class MissingQuestion(BadRow):
    """The row has no field `question`."""


class MissingAnswer(BadRow):
    """The row has no field `answer`, and its check needs one."""


class NotAnObject(BadRow):
    """The record is JSON, but no object with fields."""

    def __init__(self, value: object) -> None:
        kind = "a text" if isinstance(value, str) else "a list" if isinstance(value, list) else "a single value"
        super().__init__(f"not a JSON object but {kind}")


@dataclass(frozen=True, slots=True)
class RowRules:
    """Holds what the checks say about a row. Commands pass in `harvest.checks.ROW_RULES`."""

    check_of: Callable[[Mapping[str, Any]], str]
    """Returns the name of the check that applies to a row."""
    fault: Callable[[Question, bool], str | None]
    """Returns what a question lacks for its check, or None when its check can judge an answer.

    The returned text begins with the name of the faulty field. If the second argument is False, missing gold answers or
    tests are allowed.
    """


def question_of(
    row: Mapping[str, Any], rules: RowRules, *, needs_gold: bool = True, by_majority: bool = False,
    columns: Mapping[str, str] = NO_COLUMNS,
) -> Question:  # fmt: skip
    """Returns the row as a Question. Raises BadRow, which names the field. `columns` is the setting
    `questions_columns`: which columns hold our fields.

    If `needs_gold`, a row is bad when it lacks the gold answer that its check needs. If `by_majority`, a row without a
    gold answer is not bad: its question is judged by what most of its answers agree on. This does not hold for rows
    with the check `code`.
    """
    given, row = row, _named(row, columns)
    try:
        data = {k: v for k, v in own_layout(row).items() if k in FIELDS and v is not None}
    except BadLayout as e:
        raise BadRow(str(e)) from None
    text = data.get("question")
    if text is None:
        raise MissingQuestion(f"question: missing{_nearest('question', given, columns)}{_conversation(given)}")
    if not isinstance(text, str) or not text.strip():
        raise BadRow("question: not a text, or empty")
    question = _validated(data, rules)
    if by_majority and question.check != "code" and not has_gold(question):
        question = question.model_copy(update={"check": MAJORITY})
    if fault := rules.fault(question, needs_gold):
        if fault.startswith("answer: missing") and row.get("answer") is None:
            raise MissingAnswer(fault + _nearest("answer", given, columns))
        raise BadRow(fault)
    return question


def _named(row: Mapping[str, Any], columns: Mapping[str, str]) -> Mapping[str, Any]:
    """Returns the row with the fields that the setting `questions_columns` takes from other columns (field → column).
    Where a row has no such column, its field stays as it is."""
    return {**row, **{name: row[column] for name, column in columns.items() if column in row}}


def _nearest(name: str, row: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """Returns in words which column of a row may hold a missing field, and how to name it."""
    if name in columns:
        close = difflib.get_close_matches(columns[name], map(str, row), 1, 0.6)
        nearest = f"; the nearest is {close[0]!r}" if close else ""
        return f": no column {columns[name]!r}, which questions_columns names (there are: {_listed(row)}){nearest}"
    there = {str(key).casefold(): str(key) for key in row}
    column = _likely_column(name, there)
    if column is None:
        return f" (there are: {_listed(row)})" + (WITHOUT_GOLD if name == "answer" else "")
    setting = f'{name} = "{there[column]}"'
    if name == "question" and "answer" not in there and (also := _likely_column("answer", there, column)):
        setting += f', answer = "{there[also]}"'
    return (
        f": the nearest column is {there[column]!r}. Set questions_columns = {{ {setting} }} in RUN.toml, or rename"
        " the column"
    )


def _likely_column(name: str, there: Mapping[str, str], but: str = "") -> str | None:
    """Returns the column, in small letters, that is likeliest to hold a field; None if there is none."""
    close = [key for key in OTHER_NAMES[name] if key in there]
    return next((key for key in [*close, *difflib.get_close_matches(name, there, 1, 0.6)] if key != but), None)


def _conversation(row: Mapping[str, Any]) -> str:
    """Returns what to do with a row that holds a question with an answer that was bought already."""
    if not any(row.get(column) for column in CONVERSATIONS):
        return ""
    return ". Its rows are conversations, answers and all: `python -m harvest import FILE --name RUN` judges them"


def _listed(row: Mapping[str, Any]) -> str:
    return ", ".join(str(key)[:60] for key in list(row)[:20]) or "no columns"


def _validated(data: dict[str, Any], rules: RowRules) -> Question:
    """Returns the fields as a Question, with its check and its id. Raises BadRow."""
    for key in ("id", "answer", "domain", "source", "licence", "difficulty"):
        value = data.get(key)
        if isinstance(value, bool | int | float):
            data[key] = str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(aliases := data.get("aliases"), list | tuple):
        data["aliases"] = [str(alias) for alias in aliases if isinstance(alias, str | int | float)]
    if data.get("aliases") in ((), []):
        del data["aliases"]
    given_id = data.pop("id", None)
    if given_id == "":
        raise BadRow("id: empty")
    try:
        data["check"] = data.get("check") or rules.check_of(data)
        data["id"] = given_id if given_id is not None else "q-" + content_hash(data).removeprefix("sha256:")[:16]
        question = Question.model_validate(data)
        question.model_dump_json().encode()
    except UnicodeEncodeError:
        raise BadRow("half a surrogate pair stands in it, which is no text: write the character itself") from None
    except ValidationError as e:
        fault = e.errors(include_url=False)[0]
        raise BadRow(f"{'.'.join(str(p) for p in fault['loc'])}: {fault['msg']}") from None
    except (ValueError, TypeError) as e:
        raise BadRow(str(e)) from None
    return question


def judged_together(question: Question) -> bool:
    """Returns whether the question's answers are judged together, after all of them have come."""
    return question.check == MAJORITY


def has_gold(question: Question) -> bool:
    """Returns whether there is anything to judge an answer by: a gold answer, tests, or the question's other
    answers."""
    gold = question.answer is not None and question.answer.strip()
    return bool(gold or judged_together(question) or question.reasoning_gym or question.tests or question.cases)
