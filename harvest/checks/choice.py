"""Choice: the letter of one option, or its words. Two letters are no choice."""

import re
import string
from collections.abc import Sequence

from harvest.checks.answer import Stated, find_stated
from harvest.checks.check import Finding, Work, plain_words, shown
from harvest.trace import Outcome, Question

_LISTED = re.compile(r"^[ \t]*(?:\(([A-Z])\)|([A-Z])[.):])[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_LETTER = re.compile(r"\(?([A-Za-z])\)?[.:]?")
_PICK = re.compile(
    r"^(?:(?:option|choice|answer|letter)\s*:?\s*)?(?:\(([A-Za-z])\)|([A-Za-z])(?=[).:,\s]|$))[.):,]?\s*(.*)$",
    re.IGNORECASE | re.DOTALL,
)
_BRACKETED = re.compile(r"\(([A-Z])\)")
_UNTEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|textrm)\s*\{([^{}]*)\}")


def options(question: str, choices: Sequence[str] | None) -> dict[str, str]:
    """Letter to words: the row's `choices`, else those that the question lists as "(A) …" or "A. …"."""
    if choices:
        unlettered = [
            re.sub(rf"^\(?{letter}[.):]\s*", "", c) for letter, c in zip(string.ascii_uppercase, choices, strict=False)
        ]
        return dict(zip(string.ascii_uppercase, unlettered, strict=False))
    listed: dict[str, str] = {}
    for match in _LISTED.finditer(question):
        letter = match[1] or match[2]
        if letter == string.ascii_uppercase[len(listed) % 26]:
            listed[letter] = match[3]
    return listed if len(listed) > 1 else {}


def lettered(text: str) -> bool:
    """Whether it is a letter as options have it: "(A)", not "A"."""
    return bool(_BRACKETED.fullmatch(text.strip()))


def gold_letter(gold: str, listed: dict[str, str]) -> str | None:
    """The option that the gold answer names, by its words or by its letter."""
    wanted = plain_words(gold)
    by_words = [letter for letter, words in listed.items() if plain_words(words) == wanted]
    if len(by_words) == 1:
        return by_words[0]
    single = _LETTER.fullmatch(gold.strip())
    if single and (single[1].upper() in listed or not listed):
        return single[1].upper()
    picked = _PICK.match(gold.strip())
    if picked and (letter := (picked[1] or picked[2]).upper()) in listed:
        return letter if plain_words(listed[letter]) == plain_words(picked[3]) else None
    return None


class Choice:
    """The check "choice"."""

    name = "choice"
    version = "1"

    def quick(self, question: Question, answer: str) -> Finding | Work:
        listed = options(question.question, question.choices)
        gold = gold_letter(question.answer or "", listed)
        if gold is None:
            return Outcome.ERROR, f"the gold answer {shown(question.answer or '')} names none of the options"
        stated = find_stated(answer)
        if stated.value is None:
            return Outcome.NO_ANSWER, f"no final answer found: {stated.why}"
        picked = _picked(stated, listed)
        if isinstance(picked, str):
            right = picked == gold
            return (Outcome.RIGHT if right else Outcome.WRONG), f"chose {picked}, gold {gold}"
        return picked

    def work(self, work: Work) -> Finding:
        raise NotImplementedError("every choice is judged at once")

    def prepare(self) -> None:
        return None

    def own_answer(self, question: Question) -> str | None:
        return None if question.answer is None else f"\\boxed{{{question.answer}}}"


def _picked(stated: Stated, listed: dict[str, str]) -> str | Finding:
    value = _UNTEXT.sub(r"\1", stated.value or "").replace("\\", "").strip(" *_$.{}")
    words = plain_words(value)
    by_words = [letter for letter, text in listed.items() if plain_words(text) == words]
    if len(by_words) == 1:
        return by_words[0]
    known = set(listed) or set(string.ascii_uppercase)
    bracketed = {letter for letter in _BRACKETED.findall(value) if letter in known}
    if len(bracketed) > 1:
        return Outcome.WRONG, f"two different answers: {shown(value)}"
    pick: re.Match[str] | None = _PICK.match(value)
    if pick and (letter := (pick[1] or pick[2]).upper()) in known:
        rest = plain_words(pick[3])
        # "A dog" is an article, "I think" a pronoun: a bare letter needs a mark, an end, or its own words.
        marked = (
            bool(pick[1])
            or re.match(r"(?:option|choice|answer|letter)\b", value, re.I)
            or re.match(r"[A-Za-z][).:,]", value)
        )
        if not rest or rest == plain_words(listed.get(letter, "")):
            return str(letter)
        others = [other for other, text in listed.items() if other != letter and plain_words(text) == rest]
        letters = all(word.upper() in known for word in re.sub(r"\b(?:or|and)\b", "", rest).split())
        if others or letters or re.match(r"(?:or|and)\b", rest):
            return Outcome.WRONG, f"two different answers: {shown(value)}"
        if marked:
            return str(letter)
    if len(bracketed) == 1:
        if re.search(r"\b(?:not|isn't|wrong|incorrect|unless)\b", value, re.IGNORECASE):
            return Outcome.NO_ANSWER, f"no final answer found: “{shown(value)}”"
        return str(bracketed.pop())
    if stated.how == "last line":
        return Outcome.NO_ANSWER, f"no final answer found: the last line names no option: “{shown(value)}”"
    return Outcome.WRONG, f"{stated.how} {shown(value)}, which is none of the options"
