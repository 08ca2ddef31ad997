"""Symbolic comparison by math-verify. Imported by worker processes alone: sympy is slow to load, and what it
does with a hostile expression has no bound.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Any

from antlr4.atn.PredictionMode import PredictionMode  # type: ignore[import-untyped]
from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy
from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex
from math_verify import verify
from math_verify.grader import should_treat_as_complex
from sympy import Basic, Expr, Integer, MatrixBase, N, Rational

from harvest.checks.numbers import half_step, parse_number
from harvest.trace import Outcome

_NORMAL = NormalizationConfig(
    basic_latex=True,
    units=False,  # takes 5t for 5
    malformed_operators=True,
    nits=True,
    boxed="none",
)
_NAMES = {
    "GREEK SMALL LETTER PI": r"\pi ", "INFINITY": r"\infty ", "SQUARE ROOT": r"\sqrt", "DIVISION SIGN": "/",
    "MULTIPLICATION SIGN": r"\times ", "MIDDLE DOT": r"\cdot ", "DOT OPERATOR": r"\cdot ", "EN DASH": "-",
    "MINUS SIGN": "-", "LESS-THAN OR EQUAL TO": r"\le ", "GREATER-THAN OR EQUAL TO": r"\ge ",
    "NOT EQUAL TO": r"\ne ", "UNION": r"\cup ", "INTERSECTION": r"\cap ", "PLUS-MINUS SIGN": r"\pm ",
    "GREEK SMALL LETTER THETA": r"\theta ",
    "EMPTY SET": r"\emptyset ", "DEGREE SIGN": "", "ELEMENT OF": r"\in ",
    "SUPERSCRIPT ONE": "^1", "SUPERSCRIPT TWO": "^2", "SUPERSCRIPT THREE": "^3", "SUPERSCRIPT FOUR": "^4",
    "VULGAR FRACTION ONE HALF": r"\frac{1}{2}",
}  # fmt: skip
_SYMBOLS = {unicodedata.lookup(name): latex for name, latex in _NAMES.items()}
_UNIT = re.compile(
    r"\\(?:text(?:rm|bf|normal)?|mbox|mathrm)\s*\{\s*(?!(?:and|or)\b)[^{}]*\}(?:\^\{?[123]\}?)?\s*\.?\s*$"
)
_CONJUNCTION = re.compile(r",?\s*(?:\\text\s*\{\s*,?\s*(?:and|or)\s*\}|(?<=[\s,}\d])(?:and|or)(?=\s))\s*")
_EXHAUSTED = (RecursionError, MemoryError, OverflowError)

Parsed = Any
"""A sympy expression or matrix; sympy has no types."""


def _prepared(text: str) -> str:
    for symbol, latex in _SYMBOLS.items():
        text = text.replace(symbol, latex)
    text = text.strip().strip("$").strip().rstrip(".,;")
    for written, latex in (("<=", r"\le "), (">=", r"\ge "), ("!=", r"\ne "), (r"\gt", ">"), (r"\lt", "<")):
        text = text.replace(written, latex)
    without_unit = _UNIT.sub("", text).strip()
    text = without_unit or text
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", "", text)
    text = re.sub(r"\\(begin|end)\{array\}(?:\{[a-z|]*\})?", r"\\\1{matrix}", text)
    text = re.sub(r"\\(?:begin|end)\{(?:align|equation|gather)\*?\}", "", text)
    text = re.sub(r"\^\w+(?:\^\w+)+", _right_to_left, text.replace("**", "^"))
    text = text.replace(r"\{,}", ",").replace("{,}", ",")
    text = re.sub(r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"(?<![\\A-Za-z])(pi|sqrt|infty|infinity|sin|cos|tan|ln|log|theta)(?![A-Za-z])", r"\\\1 ", text)
    text = re.sub(r"\\sqrt\s+", r"\\sqrt", text).replace(r"\infinity", r"\infty")
    text = re.sub(r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    return _CONJUNCTION.sub(", ", text)


def _right_to_left(powers: re.Match[str]) -> str:
    """a^b^c is a^{b^{c}}; the grammar reads it from the left."""
    nested = ""
    for power in reversed(powers[0].split("^")[1:]):
        nested = f"^{{{power}{nested}}}"
    return nested


class _TwoStage(_Latex2Sympy):  # type: ignore[misc]
    """The parser of latex2sympy, at first without full context: SLL, which parses alike where it parses at all
    (Parr, Harwell, Fisher, Adaptive LL(*) parsing, 2014) and costs about half. Its private name is the price.
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
def _parse(text: str, complex_numbers: bool) -> Parsed | None:
    """None where it is no maths that anyone reads; raises where reading it exhausts memory or the stack."""
    readings = [text]
    if text.count("=") > 1 and not re.search(r"[,;]", text):
        readings.append(text.rpartition("=")[2])
    for reading in readings:
        try:
            parsed = _TwoStage(is_real=not complex_numbers).read(normalize_latex(reading, _NORMAL))
        except _EXHAUSTED:
            raise
        except ValueError as error:
            if "Exceeds the limit" in str(error):  # CPython's bound on the digits of an integer
                raise
            continue
        # As in the parser above: whatever it raises, this reading is none, and the next is tried.
        except Exception:  # noqa: BLE001
            continue
        if isinstance(parsed, (Basic, MatrixBase)):
            return parsed
    return None


def _brackets(text: str) -> str:
    text = re.sub(r"\\(?:left|right)(?![A-Za-z])|\s", "", text)
    if re.fullmatch(r"\\\{.*\\\}", text, re.DOTALL):
        return "{}"
    kind = text[:1] + text[-1:]
    inner = text[1:-1]
    if kind in ("()", "[]", "(]", "[)") and "," in inner and not re.search(r"\)[^(]*\(", inner):
        return kind
    return ""


def compare(gold: str, value: str, rounded: bool) -> tuple[Outcome, str]:
    """Whether two expressions mean the same. `rounded`: the gold one is a rounded decimal, so half a unit of
    its last place is close enough. The note is empty, or says what went wrong."""
    gold, value = _prepared(gold), _prepared(value)
    brackets = _brackets(gold), _brackets(value)
    if all(brackets) and brackets[0] != brackets[1]:
        return Outcome.WRONG, f"{brackets[1]} is not {brackets[0]}"
    complex_numbers = should_treat_as_complex(gold) or should_treat_as_complex(value)
    try:
        expected = _parse(gold, complex_numbers)
        if expected is None:
            return (
                Outcome.WRONG,
                "the gold answer cannot be read as maths, and the answer is not the same text",
            )
        given = _parse(value, complex_numbers)
        if given is None:
            return Outcome.WRONG, "cannot be read as maths"
        if rounded and _close(gold, given):
            return Outcome.RIGHT, "within rounding"
        if not _COSTLY.search(gold + value) and _far_apart(expected, given):
            return Outcome.WRONG, ""
        if verify(expected, given, float_rounding=12, allow_set_relation_comp=True, timeout_seconds=None):
            return Outcome.RIGHT, ""
        _evaluate(given)
    except _EXHAUSTED as error:
        return Outcome.ERROR, f"cannot be evaluated: {type(error).__name__}"
    except ValueError as error:
        return Outcome.ERROR, f"cannot be evaluated: {str(error)[:80]}"
    return Outcome.WRONG, ""


_COSTLY = re.compile(r"[!%]|\^.*\^|\^\s*\{?-?\d{3}|\\(?:binom|sum|prod|int|lim|gcd|lcm|text|mod)")
_POINTS = (
    Rational(17, 13),
    Rational(31, 11),
    Rational(41, 29),
    Rational(59, 37),
    Rational(7, 5),
    Rational(23, 19),
)


def _far_apart(expected: Parsed, given: Parsed) -> bool:
    """Whether two expressions in the same symbols differ at one point: the cheap end of most wrong answers,
    which would else be simplified at length. Only where evaluating is known to be cheap (`_COSTLY`).
    """
    if not (isinstance(expected, Expr) and isinstance(given, Expr)):
        return False
    symbols = sorted(expected.free_symbols, key=str)
    if expected.free_symbols != given.free_symbols or len(symbols) > len(_POINTS):
        return False
    point = dict(zip(symbols, _POINTS, strict=False))
    try:
        difference = abs(complex(N((expected - given).subs(point), 20)))
    except (TypeError, ValueError, ArithmeticError, AttributeError):
        return False
    return difference > 1e-6


def _evaluate(given: Parsed) -> None:
    """math-verify answers False for what it could not evaluate; that is an error, not a wrong answer."""
    try:
        given.doit()
    except (TypeError, AttributeError, NotImplementedError, ArithmeticError):
        return


def _close(gold: str, given: Parsed) -> bool:
    number = parse_number(gold)
    if number is None or not isinstance(given, Basic) or given.free_symbols:
        return False
    exact = N(given, 30)
    if not exact.is_real:
        return False
    limit = half_step(number)
    return bool(
        abs(exact - Rational(number.value.numerator, number.value.denominator))
        <= Rational(limit.numerator, limit.denominator) + Rational(Integer(1), Integer(10) ** 25)
    )
