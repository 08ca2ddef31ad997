"""Text: the stated answer in the same words; yes and no, true and false as such."""

import re

from harvest.checks.answer import find_stated
from harvest.checks.check import Finding, Work, plain_words, shown, told_last
from harvest.trace import Outcome, Question

_TRUTH = {"yes": True, "true": True, "no": False, "false": False}
_SAYS = re.compile(
    r"""^\W*(yes|no|true|false)\b["”*_')\]]*(?:\W*$|\s*[.,;:!(—–-]"""
    r"""|\s+(?:because|since|as|he|she|it|they|we|this|that|the|i|you|there)\b)""",
    re.IGNORECASE,
)
_ENDS = re.compile(
    r"(?:[,:=;]|\b(?:so|therefore|thus|hence|is|be|to|as|answer))[\s*_\"“]*(yes|no|true|false)\W*$",
    re.IGNORECASE,
)
_BOTH = re.compile(
    r"\byes\b.*\bno\b(?!\s+\w)|\bno\b.*\byes\b|\btrue\s*(?:/|or|and|,)\s*false\b|\bfalse\s*(?:/|or|and|,)\s*true\b"
)


class Text:
    """The check "text"."""

    name = "text"
    version = "2"

    def quick(self, question: Question, answer: str) -> Finding | Work:
        gold = question.answer or ""
        expected = _TRUTH.get(plain_words(gold))
        if expected is not None:
            return _yes_or_no(gold, expected, answer)
        stated = find_stated(answer)
        if stated.value is None:
            return Outcome.NO_ANSWER, f"no final answer found: {stated.why}"
        described = f"{stated.how} {shown(stated.value)}, gold {shown(gold)}"
        last = re.split(r"(?<=[.!?])\s+", stated.value)[-1]
        said = [stated.value.removeprefix("> "), re.sub(r"\s*\([^()]*\)$", "", stated.value)]
        if stated.how == "last line":
            said.append(told_last(last) or "")
        if plain_words(gold) and plain_words(gold) in map(plain_words, said):
            if stated.also and plain_words(stated.also) != plain_words(gold):
                return Outcome.WRONG, f"two different answers: {described}, also {shown(stated.also)}"
            return Outcome.RIGHT, described
        if stated.how == "last line" and len(stated.value) > 3 * len(gold) + 20:
            return Outcome.NO_ANSWER, f"no final answer found: the last line is “{shown(stated.value)}”"
        return Outcome.WRONG, described

    def work(self, work: Work) -> Finding:
        raise NotImplementedError("every text is judged at once")

    def prepare(self) -> None:
        return None

    def own_answer(self, question: Question) -> str | None:
        return None if question.answer is None else f"\\boxed{{{question.answer}}}"


def _yes_or_no(gold: str, expected: bool, answer: str) -> Finding:
    stated = find_stated(answer)
    said = None
    if stated.value is not None:
        said = truth_said(stated.value)
    if said is None and stated.how == "last line" and stated.value is not None:
        said = truth_said(answer[:200].strip().split("\n")[0])
    if said is None:
        why = stated.why or f"“{shown(stated.value or '')}” is neither yes nor no"
        return Outcome.NO_ANSWER, f"no final answer found: {why}"
    if stated.also and stated.how == "boxed" and truth_said(stated.also) not in (None, said):
        return Outcome.WRONG, f"two different answers: boxed {said}, then stated {shown(stated.also)}"
    return (Outcome.RIGHT if _TRUTH[said] is expected else Outcome.WRONG), f"stated {said}, gold {gold}"


def truth_said(words: str) -> str | None:
    """The yes, no, true or false that a line begins or ends with; None for both, or neither."""
    words = re.sub(r"\\(?:text(?:bf)?|mathrm|mbox)\s*\{([^{}]*)\}", r"\1", words)
    if _BOTH.search(words.lower()):
        return None
    last = re.split(r"(?<=[.!?])\s+", words.strip())[-1]
    said = _SAYS.match(words) or _SAYS.match(last)
    if said is None and not re.search(r"\b(?:not\W+\w+|some|may|might|could)\b|n't\b", last.rpartition(",")[2]):
        said = _ENDS.search(last)
    return said[1].lower() if said else None
