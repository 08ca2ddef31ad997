"""Brings a question's text to one spelling, and finds its tokens, sentences, numbers and formulas. Pure.

Two spellings of one question give the same tokens, if they differ only in case, Unicode signs, LaTeX, spelled-out
numbers, and the question's own number on an exam sheet.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

_UNITS = (
    "zero . two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty"
)
_SPELLED = {word: str(n) for n, word in enumerate(_UNITS.split()) if word != "."} | {
    word: str(10 * n) for n, word in enumerate(["thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 3)
}
"""Maps spelled-out numbers to digits. "one" is left out, because it is a pronoun as often as a number."""
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_SIGNS = str.maketrans({
    "−": "-", "–": "-", "—": " ", "×": "*", "·": "*", "⋅": "*", "÷": "/", "∕": "/", "≤": "<=", "≥": ">=", "≠": "!=",
    "“": " ", "”": " ", '"': " ", "’": "'", "‘": " ", "°": " degrees ", "{": "(", "}": ")", "[": "(", "]": ")",
    "π": "pi", "√": "sqrt", "∞": "infty",
})  # fmt: skip
_LATEX = tuple(
    (re.compile(pattern), put)
    for pattern, put in (
        (r"\\[dtc]frac(?![a-z])", r"\\frac"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\(?:left|right|bigg?|displaystyle|limits|quad|qquad)(?![a-z])|\\[,;:! ]|~|\\\\", " "),
        (r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname|emph)(?![a-z])", " "),
        (r"\\(?:cdot|times)(?![a-z])|(?<=[\w)])\s*\*\*\s*(?=[\w(])", lambda m: "^" if "*" in m[0] else "*"),
        (r"\\div(?![a-z])", "/"),
        (r"\\leq?(?![a-z])", "<="),
        (r"\\geq?(?![a-z])", ">="),
        (r"\\neq?(?![a-z])", "!="),
        (r"\^\s*\{?\s*\\circ\s*\}?", " degrees "),
        (r"\\[()\[\]]|\$|\\(?=[$%])", " "),
    )
)
_FRACTION = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_GROUP = re.compile(r"(\^|_|sqrt|\\[a-z]+(?<!frac)| )\s*\{([^{}]*)\}")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?!\d)")
_TOKEN = re.compile(r"\d+(?:\.\d+)?|\.\d+|[^\W\d_]+(?:'[^\W\d_]+)?|<=|>=|!=|[-+*/=^<>!(),]|[.?:;]+(?=\s|$)|\n(?=\s*\n)")
_OPERATORS = frozenset(["+", "-", "*", "/", "=", "^", "<", ">", "<=", ">=", "!=", "!"])
_JOINS = _OPERATORS | {","}
_MARKS = r"[(\[]\s*\d{1,3}\s*(?:points?|pts?|marks?)\.?\s*[)\]]"
_SHEET_NUMBERS = (
    re.compile(rf"^\s*{_MARKS}\s*[.:]?\s*(?=\S)", re.I),
    re.compile(
        r"^[\s#*]*(?:(?:problem|question|exercise|example|task|puzzle|item|q|no|nr)[\s.#]*)?"
        r"[(\[]?\d{1,4}(?:\.\d{1,3})*[.):\]]+[\s*]+(?=\S)",
        re.I,
    ),
    re.compile(rf"(?<=\S)\s*(?:{_MARKS}|(?<=[.?!)])\s\d{{1,3}} (?:points?|marks?))\.?\s*$", re.I),
)
MOST_NESTED = 8
"""The number of levels of nested braces that are unfolded."""
_REMARK = re.compile(r"(?<==)\s*(?=\(?[^\W\d]{2})|(?=\(\s*\d+\s+[^\W\d]{3})|(?<=\\\])")
"""Finds where words follow a sum, a bracket or a formula without a full stop, as in `98 - 93 = (2 points)`."""
_LONE = re.compile(r"\(([^(),+\-*/=^<>!]*)\)")


def plain(text: str) -> str:
    """Returns the text in small letters, with one spelling for each sign, number and formula."""
    text = text.casefold()
    if not text.isascii():
        text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda m: "^" + m[0].translate(_SUPERSCRIPTS), text)
        text = unicodedata.normalize("NFKC", text.translate(_SIGNS))
    text = _REMARK.sub(" . ", text)
    text = _THOUSANDS.sub(lambda m: re.sub(r"\D", "", m[0]), text)
    if "\\" in text or "$" in text or "**" in text:
        for pattern, put in _LATEX:
            text = pattern.sub(put, text)
        for _ in range(MOST_NESTED):
            before, text = text, _GROUP.sub(r"\1(\2)", _FRACTION.sub(r"(\1)/(\2)", text))
            if text == before:
                break
    return text.translate(_SIGNS)


def tokens(text: str) -> list[str]:
    """Returns the tokens of a text: its words, numbers, signs and ends of sentences, each in one spelling."""
    found = []
    for token in _TOKEN.findall(plain(text)):
        if "." in token and token[-1].isdigit():
            token = f"0{token}" if token[0] == "." else token
            token = token.rstrip("0").rstrip(".")
        found.append(_SPELLED.get(token, token))
    return found


def sentences(found: Iterable[str]) -> list[list[str]]:
    """Returns the tokens of each sentence. A colon or an empty line also ends a sentence."""
    parts: list[list[str]] = [[]]
    for token in found:
        if token == "\n" or token[0] in ".?:;":
            parts.append([])
        else:
            parts[-1].append(token)
    return [p for p in parts if any(t[0].isalnum() for t in p)]


def unnumbered(text: str) -> str:
    """Returns a question without the number and points that an exam sheet gives it: `Problem 12.`, `7)`, `(5
    points)`."""
    for pattern in _SHEET_NUMBERS:
        text = pattern.sub("", text, count=1)
    return text


def quantities(sentence: Sequence[str]) -> Iterator[str]:
    """Gives the numbers and formulas of a sentence. `98-93+77` is one formula, so the order inside it counts."""
    if not any(t[0].isdigit() or t in _OPERATORS for t in sentence):
        return
    run: list[str] = []
    for token, following in zip(sentence, [*sentence[1:], ""], strict=True):
        operand = token[0].isdigit() or (len(token) == 1 and token.isalpha())
        if not operand and token not in _JOINS and token not in "()":
            yield from _formulas(run)
            run = []
            continue
        if operand and run and (run[-1][0].isalnum() and not _is_factor(run[-1], token, following)):
            yield from _formulas(run)
            run = []
        run.append(token)
    yield from _formulas(run)


def _is_factor(number: str, letter: str, following: str) -> bool:
    """Whether a letter right after a number is a factor, as in `2x + 1`."""
    return number[0].isdigit() and letter.isalpha() and (following in _JOINS or following == ")")


def _formulas(run: list[str]) -> Iterator[str]:
    """Gives the formulas in a sequence of numbers, letters and signs.

    Signs at the two ends of the sequence are left out.
    """
    while run and (run[0] in _JOINS or run[0] == ")"):
        run = run[1:]
    while run and (run[-1] in _JOINS - {"!"} or run[-1] == "("):
        run = run[:-1]
    if not any(t[0].isdigit() or t in _OPERATORS for t in run):
        return
    depth = 0
    for i in range(len(run) - 1, -1, -1):
        depth += (run[i] == ")") - (run[i] == "(")
        if depth < 0:  # a bracket that is never closed: what stands before it is a formula of its own
            yield from _formulas(run[:i])
            yield from _formulas(run[i + 1 :])
            return
    text = "".join(run)
    while (shorter := _LONE.sub(r"\1", text)) != text:
        text = shorter
    yield text
