"""Tells whether an answer's number equals the gold number. It knows percent, units and rounding."""

import re
from fractions import Fraction

from harvest.answers.quantities import Number
from harvest.answers.units import SIZES, asked_unit, foreign_unit

_ROUNDS = re.compile(
    r"\bround|\bnearest\b|decimal place|\bapproximat|significant (?:figure|digit)|≈|\\approx", re.IGNORECASE
)
EXACT_DIGITS = 3
"""An exact decimal usually has at most this many significant digits, and at most this many decimal places."""


def is_rounded(gold: Number, question: str) -> bool:
    """Whether the gold answer is a rounded decimal.

    It is, if the question says so, or if it has more than EXACT_DIGITS decimal places and significant digits.
    """
    if not gold.places:
        return False
    return (gold.places > EXACT_DIGITS and _digits(gold) > EXACT_DIGITS) or bool(_ROUNDS.search(question))


def looks_rounded(gold: Number) -> bool:
    """Whether a gold decimal may stand for an exact value with endless decimals that rounds to it (1/3, \\sqrt{2}).

    It may, if it has at least EXACT_DIGITS decimal places and significant digits. A match is then no accident.
    """
    return (gold.places or 0) >= EXACT_DIGITS and _digits(gold) >= EXACT_DIGITS


def _digits(decimal: Number) -> int:
    """Returns the number of significant digits of a decimal: 2 for 0.0045."""
    return len(str(abs(int(decimal.value * 10 ** (decimal.places or 0)))))


def half_step(gold: Number) -> Fraction:
    """Returns half a unit in the last decimal place of the gold number: 1/200 for 0.25."""
    return Fraction(1, 2 * 10 ** (gold.places or 0))


def rounds(value: Fraction, gold: Number) -> bool:
    """Whether a value rounds to the gold decimal. A half is rounded away from zero."""
    below = abs(gold.value) - (value if gold.value >= 0 else -value)
    return -half_step(gold) < below <= half_step(gold)


def _endless(value: Fraction) -> bool:
    """Whether a fraction has endless decimals, as 1/3 has."""
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below > 1


def same_number(gold: Number, given: Number, question: str = "") -> bool:
    """Whether the answer's number equals the gold number.

    50% equals 0.5, and 0.5 never equals 50. The answer may omit the gold number's percent sign. The answer may have a
    percent sign that the gold number lacks in two cases: the question asks for a percentage; or the gold number is
    above 1 or below -1, and the question contains "percent" or "%" or has fewer than three words. Two known units must
    give the same quantity (18 dollars, 1800 cents), and one of the two units may be omitted. A value that rounds to the
    gold number is right if the gold number is a rounded decimal.
    """
    if len(gold.name) == len(given.name) == 1 and gold.name != given.name:
        return False
    wanted = gold.unit or (asked_unit(question) if given.unit else "")
    if "%" in (wanted, given.unit):
        return _same_percent(gold, given, wanted, question)
    value = given.value
    if given.unit == "deg" and wanted in ("°C", "°F"):
        wanted = "deg"
    if wanted and given.unit and wanted != given.unit:
        one, other = SIZES.get(wanted, ("gold", 1)), SIZES.get(given.unit, ("given", 1))
        if one[0] != other[0]:
            return False
        value = value * other[1] / one[1]
    elif not wanted and given.unit and foreign_unit(given.unit, question):
        return False
    if gold.value == value:
        return True
    return _rounds_to(gold, given, value, question)


def _same_percent(gold: Number, given: Number, wanted: str, question: str) -> bool:
    if wanted and given.unit and wanted != given.unit:
        return False
    if wanted == given.unit == "%":
        return gold.value == given.value or _rounds_to(gold, given, given.value, question)
    if gold.true_value == given.true_value:
        return True
    if gold.value == given.value:
        asks_nothing = len(question.split()) < 3
        return wanted == "%" or (abs(gold.value) > 1 and (asks_nothing or bool(re.search(r"percent|%", question))))
    return _rounds_to(gold, given, given.value, question)


def _rounds_to(gold: Number, given: Number, value: Fraction, question: str) -> bool:
    finer = given.places is None or given.places > (gold.places or 0)
    rounded = is_rounded(gold, question) or (looks_rounded(gold) and given.places is None and _endless(value))
    return finer and rounded and rounds(value, gold)
