"""The check "text": an answer must state the words of the gold answer.

If the gold answer is yes, no, true or false, the answer must state the same truth value.
"""

import re
from collections.abc import Sequence

from harvest.answers.boxes import MOST_CHARACTERS
from harvest.answers.notation import TEXT_COMMAND
from harvest.answers.restated import agrees, restates
from harvest.answers.stated import find_stated
from harvest.answers.words import hedges, plain_words, predicate
from harvest.checks.check import Check, Finding, no_answer, right_or_wrong, shown, two_answers
from harvest.core.nouns import Outcome, Question

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
_CONCLUDES = re.compile(
    r"(?:^|[,;]\s)\W*(?:so|therefore|thus|hence|then|in short),?\s+[*_\"“]*(yes|no|true|false)\b[*_\"”]*[,;:]",
    re.IGNORECASE,
)
_BOTH = re.compile(
    r"\byes\b.*\bno\b(?!\s+\w)|\bno\b.*\byes\b|\btrue\s*(?:/|or|and|,)\s*false\b|\bfalse\s*(?:/|or|and|,)\s*true\b"
)


class Text(Check):
    """The check "text"."""

    name = "text"
    version = "6"

    def quick(self, question: Question, answer: str) -> Finding:
        gold = question.answer or ""
        expected = _TRUTH.get(plain_words(gold))
        if expected is not None:
            return _yes_or_no(gold, expected, answer)
        if not plain_words(gold):
            return _same_marks(gold, answer)
        stated = find_stated(answer)
        if stated.value is None:
            return no_answer(stated.why)
        described = f"{stated.how} {shown(stated.value)}, gold {shown(gold)}"
        if (time := _minutes(gold)) is not None and len(times := set(_TIME.findall(stated.value))) == 1:
            right = _minutes("".join(times.pop())) == time and not hedges(stated.value) and not stated.also
            return right_or_wrong(right, described)
        last = re.split(r"(?<=[.!?])\s+", stated.value)[-1]
        said = [stated.value.removeprefix("> "), re.sub(r"\s+\([^()]*\)$", "", stated.value)]
        if stated.how != "boxed":
            said += [predicate(last) or "", _subject(last, question.question)]
        if _is_said(gold, said, question.question):
            also = stated.also and [stated.also, predicate(stated.also) or ""]
            agreed = also and (_is_said(gold, also, question.question) or agrees(gold, stated.value, also[0]))
            if also and not agreed:
                return two_answers(f"{described}, also {shown(stated.also or '')}")
            return Outcome.RIGHT, described
        named = f" {plain_words(gold)} " in f" {plain_words(stated.value)} "
        if stated.how == "last line" and (named or len(stated.value) > 3 * len(gold) + 20):
            return no_answer(f"the last line is “{shown(stated.value)}”")
        return Outcome.WRONG, described

    def own_answer(self, question: Question) -> str | None:
        gold = question.answer
        return super().own_answer(question) if gold is None or plain_words(gold) else gold


def _is_said(gold: str, texts: Sequence[str], question: str) -> bool:
    """Whether one of the texts is the gold answer, or restates it."""
    return plain_words(gold) in map(plain_words, texts) or any(restates(gold, text, question) for text in texts)


def _same_marks(gold: str, answer: str) -> Finding:
    """Compares a gold answer of only marks, such as brackets, with the marks at the end of the last line."""
    line = (answer.strip().split("\n") or [""])[-1][-MOST_CHARACTERS:]
    box = line.rfind("\\boxed{")
    marks = line[box + 7 :].strip(" $.").removesuffix("}") if box >= 0 else re.split(r"[A-Za-z0-9]", line)[-1]
    given = re.sub(r"\\(?=[{}])|[\s:.*`$\"]", "", marks)
    if not given:
        return no_answer(f"the last line is “{shown(line)}”")
    right = given == re.sub(r"\s", "", gold)
    return right_or_wrong(right, f"last line {shown(given)}, gold {shown(gold)}")


_TIME = re.compile(r"(?<![\d:])(\d{1,2}:[0-5]\d)(?![\d:])\s*(?:\\text\s*\{\s*)?(?:([ap])\.?\s?m\b)?", re.IGNORECASE)


def _minutes(text: str) -> int | None:
    """Returns the minutes from midnight to a clock time such as 3:30 PM or 15:30; None if the text is no clock time."""
    time = re.fullmatch(r"\s*(\d{1,2}):([0-5]\d)\s*(?:([ap])(?:\.?\s?m\.?)?)?\s*", text, re.IGNORECASE)
    if time is None or int(time[1]) > (12 if time[3] else 24):
        return None
    hour = int(time[1])
    if time[3]:
        hour = hour % 12 + (12 if time[3].lower() == "p" else 0)
    return hour * 60 + int(time[2])


def _subject(sentence: str, question: str) -> str:
    """Returns the subject, in plain words, of a sentence that answers in the question's words; "" if there is none.

    The subject is "ana" for "Ana is first." after "Who is first?".
    """
    asked = re.search(r"\b(?:who|which (\w+)) ([^?]{3,200})\?\s*$", question, re.IGNORECASE)
    if asked is None or hedges(sentence):
        return ""
    told, words = plain_words(sentence), plain_words(asked[2])
    if not told.endswith(" " + words):
        return ""
    subject = told.removesuffix(words).strip()
    return subject.removeprefix((asked[1] or "").lower()).strip() or subject


def _yes_or_no(gold: str, expected: bool, answer: str) -> Finding:
    stated = find_stated(answer)
    said = None if stated.value is None else truth_said(stated.value)
    if said is None and stated.how == "last line" and stated.value is not None:
        said = truth_said(answer[:200].strip().split("\n")[0])
    if said is None:
        why = stated.why or f"“{shown(stated.value or '')}” is neither yes nor no"
        return no_answer(why)
    if stated.also and stated.how == "boxed" and truth_said(stated.also) not in (None, said):
        return two_answers(f"boxed {said}, then stated {shown(stated.also)}")
    return right_or_wrong(_TRUTH[said] is expected, f"stated {said}, gold {gold}")


def truth_said(words: str) -> str | None:
    """Returns the "yes", "no", "true" or "false" that a line begins or ends with.

    Returns None if the line says none of them, or says both sides ("yes or no").
    """
    words = TEXT_COMMAND.sub(r"\1", words)
    if _BOTH.search(words.lower()):
        return None
    last = re.split(r"(?<=[.!?])\s+", words.strip())[-1]
    said = _SAYS.match(words) or _SAYS.match(last) or _CONCLUDES.search(last)
    if said is None and not re.search(r"\b(?:not\W+\w+|some|may|might|could)\b|n't\b", last.rpartition(",")[2]):
        said = _ENDS.search(last)
    return said[1].lower() if said else None
