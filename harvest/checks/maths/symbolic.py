r"""Compares a part of the gold answer with a part of an answer by evaluating both.

Only worker processes import this file: sympy is slow to load, and nothing here limits a hostile expression.

latex2sympy, the parser of math-verify, reads both parts. If both parts are rational, they are compared exactly. Else
their values are compared to fifty digits at several points. If a part has no value (an unknown function, a sum with a
symbolic bound), both parts go to `verify` of math-verify.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import sympy
from antlr4.atn.PredictionMode import PredictionMode  # type: ignore[import-untyped]
from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy
from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex
from math_verify import verify
from math_verify.grader import should_treat_as_complex
from sympy import Basic, Expr, Float, I, Integer, MatrixBase, N, Pow, Rational, nan, oo, zoo

from harvest.answers.notation import tidied
from harvest.answers.quantities import Number, parse_number
from harvest.answers.units import split_unit
from harvest.checks.maths.compare import equal_at_sight
from harvest.checks.maths.number_equality import half_step, is_rounded, looks_rounded

_NORMAL = NormalizationConfig(
    basic_latex=True,
    units=False,  # takes 5t for 5
    malformed_operators=True,
    nits=True,
    boxed="none",
)
_EXHAUSTED = (RecursionError, MemoryError, OverflowError)
MOST_POWER = 10**6
MOST_FACTORIAL = 10**4
"""An exponent above MOST_POWER, and a factorial of a number above MOST_FACTORIAL, are not computed."""
_DIGITS = 50
_AGREE = Rational(1, 10**30)
_POINTS = (
    (Rational(17, 13), Rational(31, 11), Rational(41, 29), Rational(59, 37), Rational(7, 5), Rational(23, 19)),
    (Rational(5, 7), Rational(13, 3), Rational(29, 17), Rational(8, 9), Rational(37, 12), Rational(3, 11)),
    (Rational(43, 10), Rational(2, 9), Rational(19, 6), Rational(11, 4), Rational(1, 8), Rational(53, 15)),
    (Rational(-17, 13), Rational(-9, 11), Rational(-41, 29), Rational(-5, 37), Rational(-7, 5), Rational(-2, 3)),
    (Rational(-14, 5), Rational(21, 8), Rational(-3, 10), Rational(16, 7), Rational(-25, 6), Rational(9, 2)),
)
"""Expressions are compared at these five points. A point gives values to up to six symbols. The first three points are
positive, and both expressions must agree there. At the last two points, roots and logarithms may have no real value."""

Parsed = Any
"""A sympy expression or matrix. (sympy has no types.)"""


class Unreadable(Exception):
    """Raised when the parser cannot read one of the two parts as mathematics."""


_FUNCTION = r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?(?![a-z])|\\ln(?![a-z])"
_IMAGINARY = re.compile(r"(?<![A-Za-z\\_{])i(?![A-Za-z=])")


_MISREAD = re.compile(r"(?<![_^])\d\s+\d|\d\s*_|\\ldots|!\s*!|(?<![\\A-Za-z])mod(?![A-Za-z])|\d\s*['\"]|\.\.")
"""Matches notation that the parser misreads: it reads 1 2 as 1 + 2, 5_3 as 5, 5!! as (5!)!, and drops dots in a sum."""


def _prepared(text: str) -> str:
    text = split_unit(tidied(text))[0]
    if _MISREAD.search(text):
        raise Unreadable(text)
    text = re.sub(r"([A-Za-z])('+)", lambda primed: f"{primed[1]}_{{{'p' * len(primed[2])}}}", text)
    text = re.sub(r"(?<![\d.^_])(\d+)\s*/\s*(\d+)(?![\d.!^])", r"\\frac{\1}{\2}", text)
    if re.search(_FUNCTION, text):
        text = re.sub(r"(\d+(?:\.\d+)?)\s*\^\\circ", r"{(\1 \\cdot \\frac{\\pi}{180})}", text)
        text = re.sub(rf"({_FUNCTION})((?:\s*\^\s*\{{?-?\d\}}?)?)\s*\{{([^{{}}]*)\}}", r"\1\2(\3)", text)
        text = re.sub(
            rf"({_FUNCTION})((?:\s*\^\s*\{{?-?\d\}}?)?)\s*([a-z]|\\[a-z]+)\s*(?=\\cdot|\*)", r"\1\2(\3)", text
        )
    text = text.replace(r"^\circ", "")
    text = re.sub(r"\^(\w+)((?:\^\w+)+)", _right_to_left, text)
    text = re.sub(r"(?<=\d)(?<![_^]\d)\s*\((?=[\d.\s]+\))", r" \\cdot (", text)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"(\d*\.\d*)\\overline\s*\{(\d+)\}", _repeating, text)
    return re.sub(r"(?<![\d.])(\d*)\.(\d+)(?![\d.])", _exact, text)


def _exact(decimal: re.Match[str]) -> str:
    """Returns a decimal as an exact fraction, because comparisons of sympy's floats are not exact."""
    return (
        rf"{{\frac{{{int(decimal[1] + decimal[2])}}}{{{10 ** len(decimal[2])}}}}}"
        if len(decimal[0]) < 100
        else decimal[0]
    )


def _right_to_left(powers: re.Match[str]) -> str:
    """Returns the powers of a^b^c as ^{b^{c}}, since the parser would read a^b^c from the left."""
    nested = ""
    for power in reversed(powers[0].split("^")[1:]):
        nested = f"^{{{power}{nested}}}"
    return nested


def _repeating(decimal: re.Match[str]) -> str:
    """Returns a repeating decimal such as 0.1\\overline{6} as a fraction."""
    whole, _, places = decimal[1].partition(".")
    period = decimal[2]
    top = int((whole or "0") + places + period) - int((whole or "0") + places)
    return rf"\frac{{{top}}}{{{'9' * len(period)}{'0' * len(places)}}}"


class _TwoStage(_Latex2Sympy):  # type: ignore[misc]
    """latex2sympy's parser. It parses in SLL mode first, and in LL mode if SLL mode fails.

    If SLL mode can parse a text, the result equals that of LL mode and takes about half the time (Parr, Harwell,
    Fisher, Adaptive LL(*) parsing, 2014). latex2sympy has no public name for the class that is needed to set the mode.
    """

    mode = PredictionMode.SLL

    def create_parser(self, latex_str: str) -> Any:
        parser = super().create_parser(latex_str)
        parser._interp.predictionMode = self.mode
        return parser

    def read(self, latex: str) -> Any:
        try:
            return self.parse(latex)
        except _EXHAUSTED:
            raise
        # The parser has no error of its own: whatever it raises means that this is not its grammar.
        except Exception:  # noqa: BLE001
            self.mode = PredictionMode.LL
            return self.parse(latex)


@lru_cache(maxsize=512)
def _parse(text: str, complex_numbers: bool) -> Parsed:
    """Returns the sympy expression or matrix of a text.

    Raises Unreadable when the text is no mathematics, and ValueError or an error of _EXHAUSTED when it is too large.
    """
    try:
        parsed = _TwoStage(is_real=not complex_numbers).read(normalize_latex(text, _NORMAL))
    except _EXHAUSTED:
        raise
    except ValueError as error:
        if "Exceeds the limit" in str(error):  # CPython's bound on the digits of an integer
            raise
        raise Unreadable(text) from error
    # As in the parser above: whatever it raises, this is no maths.
    except Exception as error:
        raise Unreadable(text) from error
    if not isinstance(parsed, (Basic, MatrixBase)):
        raise Unreadable(text)
    for part in sympy.postorder_traversal(parsed):
        power = isinstance(part, Pow) and _exceeds(part.exp, MOST_POWER)
        if power or (isinstance(part, sympy.factorial) and _exceeds(part.args[0], MOST_FACTORIAL)):
            raise OverflowError("a number of too many digits")
    imaginary = {symbol: I for symbol in parsed.free_symbols if complex_numbers and symbol.name == "i"}
    return parsed.subs(imaginary) if imaginary else parsed


def _exceeds(number: Expr, most: int) -> bool:
    if number.free_symbols:
        return False
    size = abs(N(number, 5))
    return bool(size.is_comparable and size > most)


def _pair(gold: str, given: str) -> tuple[Parsed, Parsed]:
    gold, given = _prepared(gold), _prepared(given)
    complex_numbers = any(should_treat_as_complex(side) or _IMAGINARY.search(side) for side in (gold, given))
    return _parse(gold, complex_numbers), _parse(given, complex_numbers)


class Symbolic:
    """The `Algebra` of a worker. `question` is needed to tell whether a gold decimal is rounded."""

    def __init__(self, question: str) -> None:
        self._question = question

    def equal(self, gold: str, given: str) -> bool:
        settled = equal_at_sight(gold, given, self._question)
        if settled is not None:
            return settled
        expected, found = _pair(gold, given)
        number = parse_number(gold)
        if number is not None and self._rounded(number, found):
            return True
        if isinstance(expected, MatrixBase) or isinstance(found, MatrixBase):
            return bool(verify(expected, found, float_rounding=12, timeout_seconds=None))
        return _equal(expected, found)

    def proportional(self, gold: tuple[str, str], given: tuple[str, str], positive: bool) -> bool:
        left, a = _pair(gold[0], given[0])
        right, b = _pair(gold[1], given[1])
        if not all(isinstance(side, Expr) for side in (left, right, a, b)):
            return False
        ratios = []
        for first, second in _values(left - right, a - b):
            if not first or not second:
                if bool(first) != bool(second):
                    return False
                continue
            ratios.append(first / second)
        if len(ratios) < 2 or not all(_near(ratio, ratios[0]) for ratio in ratios):
            return False
        return not positive or bool(ratios[0].is_real and ratios[0] > 0)

    def rounds_to(self, exact: str, shown: str) -> bool:
        number = parse_number(shown)
        return number is None or bool(_within(number, _parse(_prepared(exact), False)))

    def _rounded(self, gold: Number, found: Parsed) -> bool:
        if not isinstance(found, Expr) or found.free_symbols:
            return False
        irrational = not found.is_rational and looks_rounded(gold)
        return (irrational or is_rounded(gold, self._question)) and _within(gold, found)


def _equal(expected: Parsed, found: Parsed) -> bool:
    if not (isinstance(expected, Expr) and isinstance(found, Expr)):
        return bool(verify(expected, found, float_rounding=12, allow_set_relation_comp=True, timeout_seconds=None))
    if expected == found:
        return True
    expected, found = (
        side.doit() if side.has(sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit) else side
        for side in (expected, found)
    )
    if expected.has(oo, -oo, zoo, nan) or found.has(oo, -oo, zoo, nan):
        return False
    if not expected.free_symbols and not found.free_symbols:
        difference = (expected - found).doit()
        if difference.is_Rational or (difference := difference.expand()).is_Rational:
            return bool(difference == 0)
    agreed = 0
    for place, (first, second) in enumerate(_values(expected, found)):
        if _near(first, second):
            agreed += 1
        elif place < 3 or (first.is_real and second.is_real):
            return False
    if agreed >= 2 or (agreed and not expected.free_symbols and not found.free_symbols):
        return True
    return bool(verify(expected, found, float_rounding=12, timeout_seconds=None))


def _values(one: Expr, two: Expr) -> Iterator[tuple[Expr, Expr]]:
    """Yields (value of `one`, value of `two`) for each point at which both expressions have a value.

    Two constants are evaluated only once.
    """
    symbols = sorted(one.free_symbols | two.free_symbols, key=str)
    if len(symbols) > len(_POINTS[0]):
        return
    for points in _POINTS if symbols else _POINTS[:1]:
        point = dict(zip(symbols, points, strict=False))
        try:
            first, second = _value(one.subs(point)), _value(two.subs(point))
        except (TypeError, ValueError, ArithmeticError, AttributeError):
            return
        if not (first.is_number and second.is_number) or first.has(nan, zoo) or second.has(nan, zoo):
            continue
        if not (first.is_comparable or first.as_real_imag()[0].is_comparable):
            continue
        yield first, second


def _value(number: Expr) -> Expr:
    """Returns the value to fifty digits; 0 if only one bit of the result is exact (no significant digit)."""
    value = N(number, _DIGITS)
    return Integer(0) if isinstance(value, Float) and value._prec == 1 else value


def _near(one: Expr, two: Expr) -> bool:
    return bool(abs(one - two) <= _AGREE * max(abs(one), abs(two)))


def _within(number: Number, found: Parsed) -> bool:
    """Whether the value of the expression `found` rounds to the decimal `number`."""
    if not isinstance(found, Expr) or found.free_symbols:
        return False
    exact = N(found, 30)
    if not exact.is_real:
        return False
    limit = Rational(half_step(number)) + Rational(1, 10**25)
    return bool(abs(exact - Rational(number.value)) <= limit)
