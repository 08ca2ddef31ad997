"""Text: the stated answer in the same words; yes and no, true and false as such."""

import re

from harvest.checks.answer import find_stated
from harvest.checks.check import Finding, Work, plain_words, shown
from harvest.trace import Outcome, Question

_TRUTH = {"yes": True, "true": True, "no": False, "false": False}
_SAYS = re.compile(r"^\W*(yes|no|true|false)\b(?!\s*(?:or|and|/)\s*(?:yes|no|true|false))", re.IGNORECASE)
_LEADS = re.compile(r"^\s*[*_\"“]*(yes|no|true|false)[*_\"”]*(?:[.,;:!—-]|\s+[—-]|\s*$)", re.IGNORECASE)


class Text:
    """The check "text"."""

    name = "text"
    version = "1"

    def quick(self, question: Question, answer: str) -> Finding | Work:
        gold = question.answer or ""
        expected = _TRUTH.get(plain_words(gold))
        if expected is not None:
            return _yes_or_no(gold, expected, answer)
        stated = find_stated(answer)
        if stated.value is None:
            return Outcome.NO_ANSWER, f"no final answer found: {stated.why}"
        described = f"{stated.how} {shown(stated.value)}, gold {shown(gold)}"
        if plain_words(stated.value) == plain_words(gold) and plain_words(gold):
            if stated.also and plain_words(stated.also) != plain_words(gold) and stated.how == "stated":
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
        words = re.sub(r"\\(?:text|textbf|mathrm|mbox)\s*\{([^{}]*)\}", r"\1", stated.value)
        said = _SAYS.match(words)
    if said is None and (stated.value is None or stated.how == "last line"):
        said = _LEADS.match(answer[:200])
    if said is None:
        why = stated.why or f"“{shown(stated.value or '')}” is neither yes nor no"
        return Outcome.NO_ANSWER, f"no final answer found: {why}"
    right = _TRUTH[said[1].lower()] is expected
    return (Outcome.RIGHT if right else Outcome.WRONG), f"stated {said[1]}, gold {gold}"
