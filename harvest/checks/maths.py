r"""Maths: numbers exactly and at once, everything else by math-verify in a worker.

Stricter than the checks that it follows where those are known to err: an unclosed box, two different
answers, 0.5 for 50, a value close to an exact one, a variable taken for a unit are not right. Wider where
they miss: answers stated without a box, mixed numbers, magnitudes, digit separators, words.
"""

import re
from collections.abc import Iterator

from harvest.checks.answer import Stated, final_answer, find_stated, unwrapped
from harvest.checks.check import MOST_CHARACTERS, Finding, Work, plain_words, shown
from harvest.checks.numbers import Number, is_rounded, parse_number, same_number
from harvest.trace import Outcome, Question

MOST_NESTING = 60
"""Deeper braces or brackets are no answer; parsers of grammars are exponential or recursive in them."""

_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_FUNCTION_NAMES = """
    sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log exp sqrt max min gcd lcm det mod pi infty
    infinity inf and abs floor ceil union theta alpha beta gamma lambda deg text frac
"""
_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
_CONCLUDES = re.compile(
    r"^\W*(?:so|thus|hence|therefore|then|in total|in conclusion|finally|this means|that means)\b", re.I
)
_UNSURE = re.compile(
    r"\b(?:or|either|maybe|perhaps|possibly|probably|not|cannot|can't|between|at least|at most|unless|if|need"
    r"|more than|less than|guess|unclear|unsure)\b|\?|n't\b",
    re.IGNORECASE,
)
_FIGURE = re.compile("[-\N{MINUS SIGN}]?" r"[$€£]?\d[\d,]*(?:\.\d+)?(?:/\d+)?(?:\s?\\?%)?")


class Maths:
    """The check "math"."""

    name = "math"
    version = "1"

    def quick(self, question: Question, answer: str) -> Finding | Work:
        gold = question.answer or ""
        if "\\boxed" in gold:
            gold = final_answer(gold) or gold
        stated = _stated_value(answer, gold)
        if stated.value is None:
            return Outcome.NO_ANSWER, f"no final answer found: {stated.why}"
        if len(stated.value) > MOST_CHARACTERS:
            return Outcome.ERROR, f"the {stated.how} answer is longer than {MOST_CHARACTERS:,} characters"
        found = [self._compare(question, gold, value) for value in (stated.value, stated.also) if value]
        described = _described(stated, gold)
        rest = [work for work in found if isinstance(work, dict)]
        if any(finding is Outcome.WRONG for finding in found):
            if stated.also and any(f is not Outcome.WRONG for f in found):
                return Outcome.WRONG, f"two different answers: {described}"
            return Outcome.WRONG, described
        if Outcome.ERROR in found:
            return Outcome.ERROR, f"nested too deeply to read: {described}"
        if not rest:
            return Outcome.RIGHT, described
        return {**rest[0], "described": described, "more": rest[1:]}

    def _compare(self, question: Question, gold: str, value: str) -> Outcome | dict[str, object]:
        number, given = _plain(gold), _plain(value)
        if number and given:
            return Outcome.RIGHT if same_number(number, given, question.question) else Outcome.WRONG
        if _squeezed(gold) == _squeezed(value):
            return Outcome.RIGHT
        numeral = _BASED.fullmatch(_squeezed(gold))
        if numeral:
            # math-verify leaves the base out: to it 40_9 is 40_8.
            return Outcome.RIGHT if _squeezed(value).upper() == numeral[1].upper() else Outcome.WRONG
        if _BASED.fullmatch(_squeezed(value)):
            return Outcome.WRONG
        if _nesting(value) > MOST_NESTING:
            return Outcome.ERROR
        if is_words(gold) or is_words(value):
            same = plain_words(gold) == plain_words(value) and bool(plain_words(gold))
            return Outcome.RIGHT if same else Outcome.WRONG
        return {
            "gold": gold,
            "value": value,
            "rounded": bool(number and is_rounded(number, question.question)),
        }

    def work(self, work: Work) -> Finding:
        from harvest.checks import symbolic

        outcome, note = Outcome.RIGHT, ""
        for pair in (work, *work["more"]):
            outcome, note = symbolic.compare(pair["gold"], pair["value"], pair["rounded"])
            if outcome is not Outcome.RIGHT:
                break
        return outcome, work["described"] + (f" ({note})" if note else "")

    def prepare(self) -> None:
        from harvest.checks import symbolic

        symbolic.compare(r"\sqrt{2}", r"\frac{2}{\sqrt{2}}", rounded=False)

    def own_answer(self, question: Question) -> str | None:
        return None if question.answer is None else f"\\boxed{{{question.answer}}}"


def _plain(text: str) -> Number | None:
    """A plain number, or the value of a chain of equations that ends in one (9 · 2 = 18)."""
    text = unwrapped(text)
    number = parse_number(text)
    if number is None and text.count("=") > 1 and len(text) < 400 and "," not in text:
        return parse_number(text.rpartition("=")[2])
    return number


def is_words(text: str) -> bool:
    r"""Whether it is words rather than maths: "Tuesday", "\text{no solution}", not "2x" or "\pi"."""
    bare = re.sub(r"\\(?:text|mbox|textbf|textrm|mathrm|textnormal)\s*\{([^{}]*)\}", r" \1 ", text)
    if re.search(r"\\[a-zA-Z]|[=^_<>+]|\d", bare):
        return bool(_foreign_words(bare)) and not re.search(r"\\[a-zA-Z]", bare)
    return bool(_foreign_words(bare)) or "\\text" in text


def _foreign_words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text) if word.lower() not in _FUNCTIONS]


def _nesting(text: str) -> int:
    deepest = depth = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
    return deepest


_BASED = re.compile(r"([0-9A-Fa-f]+)_\d+")
_SPACING = re.compile(r"\\[,;:! ]|\\(?:left|right|displaystyle|q?quad)(?![A-Za-z])|\s+|\$")


def _squeezed(text: str) -> str:
    """LaTeX without what only moves ink about."""
    text = _SPACING.sub("", unwrapped(text))
    text = re.sub(r"_\{(\d+)\}", r"_\1", re.sub(r"\\[dtc]frac(?![a-z])", r"\\frac", text))
    text = re.sub(r"\\(?:text(?:bf|rm|normal)?|mbox|mathrm)\{([^{}]*)\}", r"\\text{\1}", text)
    return re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text)


def _described(stated: Stated, gold: str) -> str:
    words = f"{stated.how} {shown(stated.value or '')}"
    if stated.also:
        words += f", then stated {shown(stated.also)}"
    return f"{words}, gold {shown(gold)}"


def _stated_value(answer: str, gold: str) -> Stated:
    """What is stated, as maths reads it: prose is not a value, a concluding sentence with one figure is."""
    stated = find_stated(answer)
    if stated.value is None:
        return stated
    also = stated.also if stated.also and parse_number(stated.also) else None
    if stated.how == "boxed":
        return Stated(stated.value, "boxed", also)
    if stated.how == "stated":
        value = next(_readings(stated.value), None)
        if value is not None:
            return Stated(value, "stated", also)
        return Stated(None, why=f"“{shown(stated.value)}” is no value")
    line = stated.value
    if _is_value(line) or (is_words(gold) and plain_words(line) == plain_words(gold)):
        return stated
    value = _conclusion(line)
    if value is not None:
        return Stated(value, "last line")
    return Stated(None, why=f"the last line is no value: “{shown(line)}”")


def _readings(value: str) -> Iterator[str]:
    """A stated value as it is, or the one value that its sentence holds."""
    if _is_value(value) or (is_words(value) and len(value.split()) <= 4 and not _FIGURE.search(value)):
        yield value
    concluded = _conclusion(value, announced=True)
    if concluded is not None:
        yield concluded


_SPAN = re.compile(r"(?<!\\)\$((?:[^$\\]|\\.)+)\$|\\\((.+?)\\\)|\*\*(.+?)\*\*")
_LEADS_TO = re.compile(r"(?:\b(?:is|are|equals|get|gets|that|have|obtain|find|conclude)|[:=])\s*$", re.IGNORECASE)


def _conclusion(line: str, announced: bool = False) -> str | None:
    """The one value in a sentence that concludes: "So she makes **$18** every day", "Thus $x > 2$".

    An unsure sentence says nothing. `announced`: words before it have called it the answer.
    """
    sentence = re.split(r"(?<=[.!?])\s+", line[-600:].strip())[-1].rstrip(".")
    if _UNSURE.search(sentence) or len(sentence) > 300:
        return None
    concludes = announced or bool(_CONCLUDES.match(sentence))
    tail = re.search(r"(?:\b(?:is|are|equals)\s|=)\s*([^=]+)$", sentence)
    if tail and (concludes or "=" in tail[0]) and parse_number(unwrapped(tail[1])):
        return unwrapped(tail[1])
    spans = list(_SPAN.finditer(sentence))
    values = [unwrapped(next(part for part in span.groups() if part)) for span in spans]
    told = [(span, v) for span, v in zip(spans, values, strict=True) if not re.fullmatch(r"[A-Za-z]|\W*", v)]
    if len(told) == 1 and not _FIGURE.search(sentence.replace(told[0][0][0], " ")):
        span, value = told[0]
        number = parse_number(value)
        bold = span[3] is not None and number is not None
        if concludes or bold or (span.end() == len(sentence) and _LEADS_TO.search(sentence[: span.start()])):
            return value if number or _is_value(value) else None
    figures = _FIGURE.findall(sentence)
    return str(figures[0]) if len(figures) == 1 and concludes and not told else None


def _is_value(text: str) -> bool:
    if parse_number(text):
        return True
    bare = re.sub(r"\\(?:begin|end)\{[a-z]+\*?\}(?:\{[a-z|]*\})?|\\text\s*\{[^{}]*\}|\\[a-zA-Z]+", " ", text)
    bare = bare.replace(" and ", ",").replace(" or ", ",")
    return not _foreign_words(bare) and not re.search(r"[A-Za-z]{2,} [A-Za-z]{2,}|\?$", bare)
