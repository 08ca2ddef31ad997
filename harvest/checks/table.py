"""Holds the table of all checks, and the rule that says which check applies to a row of questions."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from harvest.answers.quantities import parse_number
from harvest.answers.words import is_words, plain_words
from harvest.checks.check import Check
from harvest.checks.choice import Choice, lettered, options
from harvest.checks.majority import Majority
from harvest.checks.maths.maths import Maths
from harvest.checks.programs import Code, code_fault
from harvest.checks.reasoning_gym import ReasoningGym
from harvest.checks.text import Text
from harvest.core.nouns import Question
from harvest.questions.rows import RowRules

_ALL: tuple[Check, ...] = (Maths(), Choice(), Text(), ReasoningGym(), Code(), Majority())
CHECKS: Mapping[str, Check] = MappingProxyType({check.name: check for check in _ALL})

_OTHER_NAMES = {
    "maths": "math",
    "reasoning-gym": "reasoning_gym",
    "multiple_choice": "choice",
    "yes_no": "text",
}
_DATE = re.compile(r"\d{1,4}[/.-]\d{1,2}[/.-]\d{1,4}|\d{1,2}:\d{2}.*")
_LETTERS = re.compile(r"-?[a-z]|-[A-Za-z]{1,3}|-?(?:[b-df-hj-np-tv-z]){2,3}")
"""Matches a variable, with or without a sign, or a product of consonants. Two letters with a vowel may be a word."""


def check_name_for(row: Mapping[str, Any]) -> str:
    """Returns the name of a row's check.

    The check is the one that the row names, else the first one whose needs the row meets. The contract's part on
    questions has the order of the checks.
    """
    named = row.get("check")
    if named:
        return _OTHER_NAMES.get(str(named), str(named))
    if row.get("tests") or row.get("cases"):
        return "code"
    answer = "" if row.get("answer") is None else str(row["answer"]).strip()
    if row.get("choices") or (lettered(answer) and options(str(row.get("question", "")), None)):
        return "choice"
    if row.get("reasoning_gym"):
        return "reasoning_gym"
    return "math" if reads_as_maths(answer) else "text"


def question_fault(question: Question, needs_gold: bool) -> str | None:
    """Returns what a question lacks for its check, after the field's name; None if its answers can be checked."""
    if question.check not in CHECKS:
        return f"check: no check {question.check!r}; there are {', '.join(sorted(CHECKS))}"
    if not needs_gold or question.check in (ReasoningGym.name, Majority.name):
        return None
    if question.check == Code.name:
        return code_fault(question)
    has_answer = question.answer is not None and question.answer.strip()
    return None if has_answer else "answer: missing, and the check needs one"


ROW_RULES = RowRules(check_name_for, question_fault)
"""What the reader of a row must know about checks.

The room `questions` must not import this room, so it gets these rules as an argument."""


def reads_as_maths(answer: str) -> bool:
    """Whether a gold answer is maths. Numbers, formulas and sets are; words, dates and times are not."""
    if answer.isascii() and answer.isdigit():
        return True
    if not answer or _DATE.fullmatch(answer):
        return False
    if plain_words(answer) in ("yes", "no", "true", "false"):
        return False
    if _LETTERS.fullmatch(answer):
        return True
    if re.search(r"\\[a-zA-Z{]", answer) or parse_number(answer):
        return True
    if is_words(answer) or re.search(r"[A-Za-z]{2,}\s+[A-Za-z]{2,}", answer):
        return False
    return bool(re.search(r"\d|[=+^<>π∞√]|^[a-z]\s*[-*/]\s*[a-z]$", answer)) and not re.search(
        r"[#@&]|:\d\d|\n", answer
    )
