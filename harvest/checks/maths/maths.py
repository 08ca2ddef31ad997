r"""Maths: numbers exactly and at once, everything else part by part, with algebra in a worker.

Stricter than the checks that it follows where those are known to err: an unclosed box, two different
answers, 0.5 for 50, a value close to an exact one, a variable taken for a unit are not right. Wider where
they miss: answers stated without a box, mixed numbers, magnitudes, digit separators, words.
"""

import re
from functools import lru_cache

from harvest.answers.boxes import MOST_CHARACTERS
from harvest.answers.notation import squeezed
from harvest.answers.quantities import Number, based_numeral, parse_number, same_number, split_unit
from harvest.answers.stated import Stated, final_answer, unwrapped
from harvest.answers.words import plain_words
from harvest.checks.check import Finding, Work, shown
from harvest.checks.maths.answer_form import Form, Named, is_words, read, signed_words
from harvest.checks.maths.conclusion import stated_value
from harvest.checks.maths.equality import Algebra, same
from harvest.core.nouns import Outcome, Question

MOST_NESTING = 60
"""Deeper braces or brackets are no answer; parsers of grammars are exponential or recursive in them."""


class Maths:
    """The check "math"."""

    name = "math"
    version = "3"

    def quick(self, question: Question, answer: str) -> Finding | Work:
        gold = question.answer or ""
        if "\\boxed" in gold:
            gold = final_answer(gold) or gold
        stated = stated_value(answer, gold)
        if stated.value is None:
            return Outcome.NO_ANSWER, f"no final answer found: {stated.why}"
        if len(stated.value) > MOST_CHARACTERS:
            return Outcome.ERROR, f"the {stated.how} answer is longer than {MOST_CHARACTERS:,} characters"
        described = _described(stated, gold)
        values = [value for value in (stated.value, stated.also) if value]
        if any(nesting(value) > MOST_NESTING for value in (gold, *values)):
            return Outcome.ERROR, f"nested too deeply to read: {described}"
        open_values = []
        for value in values:
            try:
                right = compare(gold, value, question.question, AtSight(question.question))
            except Undecided:
                open_values.append(value)
                continue
            if not right:
                two = "two different answers: " if len(values) > 1 else ""
                return Outcome.WRONG, two + described + _reason(gold, value, question.question)
        if not open_values:
            return Outcome.RIGHT, described
        return {"gold": gold, "values": open_values, "question": question.question, "described": described}

    def work(self, work: Work) -> Finding:
        from harvest.checks.maths import symbolic

        described = str(work["described"])
        try:
            for value in work["values"]:
                if not compare(work["gold"], value, work["question"], symbolic.Symbolic(work["question"])):
                    return Outcome.WRONG, described
        except symbolic.Unreadable as unreadable:
            return Outcome.WRONG, f"{described} (cannot be read as maths: {shown(str(unreadable), 40)})"
        except (RecursionError, MemoryError, OverflowError, ValueError) as error:
            return Outcome.ERROR, f"{described} (cannot be evaluated: {type(error).__name__} {shown(str(error))})"
        return Outcome.RIGHT, described

    def prepare(self) -> None:
        from harvest.checks.maths import symbolic

        symbolic.Symbolic("").equal(r"\sqrt{2}", r"\frac{2}{\sqrt{2}}")

    def own_answer(self, question: Question) -> str | None:
        return None if question.answer is None else f"\\boxed{{{question.answer}}}"


# ---- comparing


class Undecided(Exception):
    """Takes algebra to say."""


class AtSight:
    """The `Algebra` of the process that must not evaluate what a model wrote."""

    def __init__(self, question: str) -> None:
        self._question = question

    def equal(self, gold: str, given: str) -> bool:
        settled = equal_at_sight(gold, given, self._question)
        if settled is None:
            raise Undecided
        return settled

    def proportional(self, gold: tuple[str, str], given: tuple[str, str], positive: bool) -> bool:
        if [squeezed(side) for side in gold] == [squeezed(side) for side in given]:
            return True
        raise Undecided

    def rounds_to(self, exact: str, shown: str) -> bool:
        one, other = parse_number(exact), parse_number(shown)
        if one is None or other is None:
            raise Undecided
        return same_number(other, one, "rounded")


def equal_at_sight(gold: str, given: str, question: str) -> bool | None:
    """Whether two parts are equal, where that needs no algebra; else None."""
    number, found = parse_number(gold), parse_number(given)
    if number and found:
        return same_number(number, found, question)
    one, other = squeezed(gold), squeezed(given)
    if one == other:
        return True
    numeral, another = based_numeral(one), based_numeral(other)
    if numeral:
        # math-verify leaves the base out: to it 40_9 is 40_8.
        return another == numeral or other.upper() == numeral[0]
    if another:
        return another == (one.upper(), "10")
    if is_words(gold) or is_words(given):
        bare, unit = split_unit(given)
        if unit or bare == given or is_words(bare) or is_words(gold):
            return signed_words(gold) == signed_words(given) and bool(plain_words(gold))
    units = split_unit(gold)[1], split_unit(given)[1]
    if all(units) and units[0] != units[1]:
        return False
    return None


_ORDER = re.compile(
    r"\b(?:in|into) (?:strictly )?(?:increasing|decreasing|ascending|descending|alphabetical|numerical|chronological"
    r"|size) order|\b(?:(?:small|low|short|great|large|high|long|young|old|light|heavi)est|least) to (?:the )?"
    r"(?:[a-z]+est|least)\b",
    re.IGNORECASE,
)
_IMPERATIVE = re.compile(
    r"\b(?:simplify|factor|expand|compute|evaluate|calculate|rationalize|multiply|convert|what is)\b[^?]{0,300}",
    re.IGNORECASE,
)


_ASKED_FORMULA = re.compile(
    r"\b(?:find|compute|determine|calculate|what is)\b(?: the value of)? \$([^$]{2,80})\$", re.I
)


@lru_cache(maxsize=256)
def _gold_form(gold: str, question: str) -> Form:
    return read(gold, question)


def compare(gold: str, value: str, question: str, algebra: Algebra) -> bool:
    """Whether a stated value is the gold one. Raises what `algebra` raises."""
    number, given = _plain(gold), _plain(value)
    if number and given:
        other = _names_another(given.name, question) or _names_a_part(given.name, gold, question)
        return same_number(number, given, question) and not other
    if squeezed(gold) == squeezed(value) and not (number and re.search(r",\s", value)):
        return True
    if number and (given := _decimal_comma(number, value)):
        return same_number(number, given, question)
    if _reason(gold, value, question):
        return False
    found = read(value, question)
    if isinstance(found, Named) and (_names_a_part(found.name, gold, question) or _names_another(found.name, question)):
        return False
    return same(_gold_form(gold, question), found, algebra, ordered=bool(_ORDER.search(question)))


def _names_a_part(name: str, gold: str, question: str) -> bool:
    """Whether "a = 5" answers a question for a+b: the value of one letter of what was asked."""
    if len(name) != 1:
        return False
    asked = _ASKED_FORMULA.findall(question[-1000:])
    formula = re.sub(r"\\[A-Za-z]+", "", squeezed(asked[-1])) if asked and "=" not in gold else ""
    return bool(re.search(r"[-+*/^]|[a-z][a-z]", formula)) and name in formula and "=" not in formula


_ASKED_NAME = re.compile(r"\b(?:find|value of|what is) \$?([a-z](?:\(\d+\))?)\$?\s*[.?]", re.IGNORECASE)


def _names_another(name: str, question: str) -> bool:
    """Whether "y = 5" or "f(2) = 5" gives a value to another name than the one asked for, x or f(3)."""
    if not name:
        return False
    asked = _ASKED_NAME.findall(question[-1000:])
    name = squeezed(name).lower()
    return (
        bool(asked)
        and bool(re.fullmatch(r"[a-z]|[a-z]\(\d+\)", name))
        and (len(name) == len(asked[-1]) and name != asked[-1].lower())
    )


def _decimal_comma(gold: Number, value: str) -> Number | None:
    """1000,99 and 0,111 where the gold answer is no whole number; 1,234 is a thousand and something."""
    comma = re.fullmatch(r"(\D{0,4})(\d+),(\d+)(\D{0,20})", unwrapped(value))
    if gold.value.denominator == 1 or comma is None or (len(comma[3]) == 3 and comma[2] != "0" and len(comma[2]) < 4):
        return None
    return parse_number(f"{comma[1]}{comma[2]}.{comma[3]}{comma[4]}")


def _reason(gold: str, value: str, question: str) -> str:
    """Why a value that may be equal to the gold one is no answer: it only repeats what was asked."""
    bare = squeezed(value)
    if len(bare) < 4 or parse_number(value) or not re.search(r"[-+*/^!(]|\\(?:sqrt|frac|cdot|times)", bare):
        return ""
    if bare == squeezed(gold) or not any(
        _timed(bare) in _timed(squeezed(span[0])) for span in _IMPERATIVE.finditer(question[:4000])
    ):
        return ""
    return " (it repeats the question's own expression)"


def _timed(squeezed: str) -> str:
    """One sign for every product."""
    return re.sub(r"\\cdot|\*", r"\\times", squeezed)


def _plain(text: str) -> Number | None:
    """A plain number, or the value of a chain of equations that ends in one (9 · 2 = 18)."""
    text = unwrapped(text)
    number = parse_number(text)
    if number is None and text.count("=") > 1 and len(text) < 400 and "," not in text:
        return parse_number(text.rpartition("=")[2])
    return number


def nesting(text: str) -> int:
    """How deep its brackets stand in each other."""
    deepest = depth = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
    return deepest


def _described(stated: Stated, gold: str) -> str:
    words = f"{stated.how} {shown(stated.value or '')}"
    if stated.also:
        words += f", then stated {shown(stated.also)}"
    return f"{words}, gold {shown(gold)}"
