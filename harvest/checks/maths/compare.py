"""Compares a stated value with the gold value: numbers exactly and at once, all other forms part by part.

Nothing is evaluated here. If the comparison of two parts needs algebra, the caller's `Algebra` decides. AtSight raises
Undecided. Workers use Symbolic (symbolic.py), which evaluates both parts.
"""

import re
from functools import lru_cache

from harvest.answers.notation import squeezed
from harvest.answers.quantities import Number, based_numeral, parse_number
from harvest.answers.stated import unwrapped
from harvest.answers.units import split_unit
from harvest.answers.words import is_words, plain_words, signed_words
from harvest.checks.maths.equality import Algebra, same
from harvest.checks.maths.form_reader import read
from harvest.checks.maths.forms import Form, Named
from harvest.checks.maths.number_equality import same_number

MOST_NESTING = 60
"""Brackets may be nested at most this deep. Deeper brackets take parsers exponential time or deep recursion."""


class Undecided(Exception):
    """Raised when only algebra can decide whether two parts are equal."""


class AtSight:
    """The `Algebra` of the main process, which must not evaluate what a model wrote.

    Its methods raise Undecided when a comparison takes algebra.
    """

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
    """Whether two parts are equal; None if that takes algebra."""
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
    """Whether a stated value equals the gold value. Raises what `algebra` raises."""
    number, given = _plain(gold), _plain(value)
    if number and given:
        other = _names_another(given.name, question) or _names_a_part(given.name, gold, question)
        return same_number(number, given, question) and not other
    if squeezed(gold) == squeezed(value) and not (number and re.search(r",\s", value)):
        return True
    if number and (given := _decimal_comma(number, value)):
        return same_number(number, given, question)
    if repeats_question(gold, value, question):
        return False
    found = read(value, question)
    if isinstance(found, Named) and (_names_a_part(found.name, gold, question) or _names_another(found.name, question)):
        return False
    return same(_gold_form(gold, question), found, algebra, ordered=bool(_ORDER.search(question)))


def _names_a_part(name: str, gold: str, question: str) -> bool:
    """Whether a name is one letter of the formula that the question asks for.

    For example, "a = 5" does not answer a question for a+b.
    """
    if len(name) != 1:
        return False
    asked = _ASKED_FORMULA.findall(question[-1000:])
    formula = re.sub(r"\\[A-Za-z]+", "", squeezed(asked[-1])) if asked and "=" not in gold else ""
    return bool(re.search(r"[-+*/^]|[a-z][a-z]", formula)) and name in formula and "=" not in formula


_ASKED_NAME = re.compile(r"\b(?:find|value of|what is) \$?([a-z](?:\(\d+\))?)\$?\s*[.?]", re.IGNORECASE)


def _names_another(name: str, question: str) -> bool:
    """Whether a name differs from the name that the question asks for.

    Examples are "y = 5" when the question asks for x, and "f(2) = 5" when it asks for f(3).
    """
    if not name:
        return False
    asked = _ASKED_NAME.findall(question[-1000:])
    name = squeezed(name).lower()
    if not asked or not re.fullmatch(r"[a-z]|[a-z]\(\d+\)", name):
        return False
    return len(name) == len(asked[-1]) and name != asked[-1].lower()


def _decimal_comma(gold: Number, value: str) -> Number | None:
    """Returns the number that `value` states with a decimal comma (1000,99).

    Returns None when the gold number is whole, when `value` is no such number, and for 1,234 (its comma groups digits).
    """
    comma = re.fullmatch(r"(\D{0,4})(\d+),(\d+)(\D{0,20})", unwrapped(value))
    if gold.value.denominator == 1 or comma is None or (len(comma[3]) == 3 and comma[2] != "0" and len(comma[2]) < 4):
        return None
    return parse_number(f"{comma[1]}{comma[2]}.{comma[3]}{comma[4]}")


def repeats_question(gold: str, value: str, question: str) -> str:
    """Returns a verdict's reason if a value only repeats the expression of the question; else ""."""
    bare = squeezed(value)
    if len(bare) < 4 or parse_number(value) or not re.search(r"[-+*/^!(]|\\(?:sqrt|frac|cdot|times)", bare):
        return ""
    if bare == squeezed(gold) or not any(
        _timed(bare) in _timed(squeezed(span[0])) for span in _IMPERATIVE.finditer(question[:4000])
    ):
        return ""
    return " (it repeats the question's own expression)"


def _timed(squeezed: str) -> str:
    """Returns the text with the same sign, \\times, for every product."""
    return re.sub(r"\\cdot|\*", r"\\times", squeezed)


def _plain(text: str) -> Number | None:
    """Returns the number that a text states, or that its chain of equations ends with (9 · 2 = 9 + 9 = 18); else
    None."""
    text = unwrapped(text)
    number = parse_number(text)
    if number is None and text.count("=") > 1 and len(text) < 400 and "," not in text:
        return parse_number(text.rpartition("=")[2])
    return number


def nesting(text: str) -> int:
    """Returns how deep the brackets of a text are nested: 0 without brackets, 2 for "((x))"."""
    deepest = depth = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
    return deepest
