"""Reads the form of a mathematical answer from its text. It evaluates nothing.

The time is linear in the length of the text, because the nesting is limited.
"""

import re
from collections.abc import Callable

from harvest.answers.notation import squeezed, tidied
from harvest.answers.quantities import based_numeral, parse_number
from harvest.answers.words import is_words, plain_words, signed_words
from harvest.checks.maths.forms import (
    FLIPPED,
    NOTHING,
    REALS,
    Approximate,
    Form,
    Grid,
    Modular,
    Named,
    Ordered,
    Range,
    Ratio,
    Relation,
    Several,
    Union,
    Value,
    Without,
    Words,
    as_tuple,
    gathered,
    items_of,
    of_size,
    without_holes,
)

MOST_ITEMS = 200
"""A list with more items than this is not read, since the time to match unordered lists grows with the square of their
length."""

MOST_DEPTH = 12
"""Forms may be nested at most this deep. A list of tuples of fractions is nested three deep."""
_BRACKET = r"\\begin(?![a-z])|\\end(?![a-z])|\\[{}]|[][(){}]"
_CLOSING = frozenset((r"\end", r"\}", ")", "]", "}"))


def pieces(text: str, separator: str) -> tuple[list[str], list[str]]:
    """Splits a text at the separators outside of all brackets. Returns (the parts, the separators between them)."""
    parts, marks, depth, start = [], [], 0, 0
    for token in re.finditer(rf"{_BRACKET}|(?P<separator>{separator})", text):
        if token["separator"] is not None:
            if depth == 0:
                parts.append(text[start : token.start()].strip())
                marks.append(token["separator"].strip())
                start = token.end()
        elif token[0] in _CLOSING:
            depth = max(0, depth - 1)
        else:
            depth += 1
    parts.append(text[start:].strip())
    return parts, marks


def _enclosed(text: str) -> tuple[str, str, str] | None:
    """Returns (left bracket, text inside, right bracket) if one pair of brackets encloses the whole text; else None."""
    left = re.match(r"\\\{|[\[({]", text)
    right = re.search(r"(?:\\\}|[\])}])$", text)
    if left is None or right is None or left.end() > right.start():
        return None
    depth = 0
    for token in re.finditer(_BRACKET, text):
        depth += -1 if token[0] in _CLOSING else 1
        if depth == 0:
            if token.end() != len(text):
                return None
            return left[0], text[left.end() : right.start()].strip(), right[0]
    return None


_COMMA = r",|;|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|\\text\s*\{\s*,?\s*(?:and|or)\s*\}"
_SPACED_COMMA = r",(?!\d{3}(?!\d))|;|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])"
_SIGN = r"\\(?:le|ge|ne|in|approx|sim|equiv|to)(?![A-Za-z])\s*|:=|[=<>≡]"
_NAME = re.compile(
    r"""(?x)
    (?: [A-Za-z] | \\[a-z]+ ) (?:_(?:\w|\{[\w,\s]*\}))? '* (?:\^\{?-1\}?)?                 # x, a_{1}, \theta, f'
      (?:\s*\([\w\s,.^+*/\\{}|-]*\))?                                          # f(x), P(A)
    | \|?\s*[A-Z]{1,4}'?\s*\|?                                                # AB, |AB|
    | \|\s*[a-z]\s*\|
    | \\(?:angle|overline|overrightarrow|vec|triangle|arg|operatorname|det|max|min|gcd)\s*\{?[A-Za-z\s]+\}?
    | (?:\\text\s*\{[^{}\d]*\}\s*+|[A-Za-z][A-Za-z.'\s]*+)++(?:\([A-Za-z\s]*\))?   # total cost
    | [a-z]{2,3}
    | [A-Z](?:_\{?\w+\}?)?\s*:\s*[A-Z](?:_\{?\w+\}?)?                         # S_{ABC}:S
    | \\frac\s*\{[A-Z]{1,3}\}\s*\{[A-Z]{1,3}\}
    | \\frac\s*\{d[a-z]?\}\s*\{d[a-z]\}(?:\s*\(?[a-z]\)?)?                      # dy/dx
    | [A-Z]{1,2}\s*:\s*[A-Z]{1,2}
    | \(\s*[A-Za-z](?:_\{?\w\}?)?(?:\s*,\s*[A-Za-z](?:_\{?\w\}?)?)+\s*\)       # (x, y)
    """
)
_LABEL = re.compile(r"^(?:\\text\s*\{\s*)?([A-Za-z][A-Za-z ]{2,40}):\s*\}?\s*(?=\S)")
_TIME = re.compile(r"(\d{1,2})\s*:\s*(\d\d)\s*(?:\\text\s*\{\s*)?(?:([ap])\.?\s*m\.?)?\s*\}?", re.IGNORECASE)
_EXCEPT = re.compile(
    r"(?:\\text\s*\{)?\s*all real(?:s| numbers| values)?(?: of)?(?:\s*[a-z])?\s+except(?: for)?\s*\}?\s*(.+)",
    re.IGNORECASE,
)
_FAMILY = re.compile(
    r"(?P<form>[^,;]+?)[,;]?\s*(?:\\text\s*\{\s*,?\s*(?:for|where|with)[a-z\s]*\}|for|where|with)?\s*\(?(?P<letter>[a-z])\s*"
    r"(?:\\in\s*\\mathbb\s*\{?\s*[ZN]\s*\}?|(?:\\text\s*\{)?\s*(?:is )?an[y]? integer\s*\}?)\)?"
)
_FOR_ALL = re.compile(r",?\s*(?:\\forall|(?:\\text\s*\{\s*)?for (?:all|any|every)\b)[^=<>,]{0,40}$")
_SYNONYMS: dict[str, Form] = {
    "all real numbers": REALS, "all reals": REALS, "all real": REALS, "real numbers": REALS, "mathbb r": REALS,
    "no solution": NOTHING, "no solutions": NOTHING, "no real solution": NOTHING, "no real solutions": NOTHING,
    "empty set": NOTHING, "there is no solution": NOTHING, "there are no solutions": NOTHING, "emptyset": NOTHING,
}  # fmt: skip


def read(text: str, question: str = "") -> Form:
    """Returns the form of a stated value.

    An expression that `question` contains too counts as a name: "a+b = 5" gives a+b the value 5.
    """
    return _Reader(question).form(tidied(text))


class _Reader:
    def __init__(self, question: str) -> None:
        self._question = question
        self._asked: str | None = None
        self._depth = 0

    def form(self, text: str) -> Form:
        """Returns the form of a part. A part that is nested too deeply is a single value, as it is written."""
        if self._depth > MOST_DEPTH:
            return Value(text)
        self._depth += 1
        try:
            return self._form(text)
        finally:
            self._depth -= 1

    def _form(self, text: str) -> Form:
        text = text.strip().rstrip(".,;").strip()
        if ("=" not in text and parse_number(text) is not None) or based_numeral(re.sub(r"\s", "", text)):
            return Value(text)
        residue = re.fullmatch(r"(.+?)\s*\\pmod\{([^{}]+)\}", text)
        if residue:
            return Modular(self.form(residue[1]), residue[2].strip())
        family = _FAMILY.fullmatch(text)
        if family:
            # One letter for every whole number is as good as another.
            return self.form(re.sub(rf"(?<![A-Za-z\\]){family['letter']}(?![A-Za-z])", "k", family["form"]))
        text = _FOR_ALL.sub("", text)
        french = re.fullmatch(r"([][])([^][()]*,[^][()]*)([][])", text)
        if french and french[1] + french[3] != "[]":
            return self.form({"[": "[", "]": "("}[french[1]] + french[2] + {"]": "]", "[": ")"}[french[3]])
        in_words = re.fullmatch(r"\\text\s*\{([^{}]*)\}", text)
        if in_words:
            return self.form(in_words[1]) if re.search(r",|\band\b", in_words[1]) else self._words(in_words[1])
        label = _LABEL.match(text)
        if label and not re.search(r"[:\d]", label[1]):
            return self.form(text[label.end() :])
        readers: tuple[Callable[[str], Form | None], ...] = (
            self._time, self._synonym, self._union, self._list, self._relation, self._bracketed,
        )  # fmt: skip
        for read in readers:
            form = read(text)
            if form is not None:
                return form
        terms, _ = pieces(text, ":")
        if len(terms) > 1 and all(terms) and not any(is_words(term) for term in terms):
            return Ratio(tuple(terms))
        to = re.fullmatch(r"(\d[\d.,]*)\s*(?:\\text\s*\{\s*to\s*\}|to)\s*(\d[\d.,]*)", text)
        if to:
            return Ratio((to[1], to[2]))
        if is_words(text):
            return self._words(text)
        if re.search(r"\\(?:pm|mp)(?![a-z])", text):
            plus = re.sub(r"\\pm(?![a-z])", "+", re.sub(r"\\mp(?![a-z])", "-", text))
            minus = re.sub(r"\\pm(?![a-z])", "-", re.sub(r"\\mp(?![a-z])", "+", text))
            return Several((Value(plus.strip().removeprefix("+").strip()), Value(minus)))
        return Value(text)

    def _words(self, text: str) -> Form:
        return self._time(text) or self._synonym(text) or Words(signed_words(text))

    def _time(self, text: str) -> Form | None:
        time = _TIME.fullmatch(text)
        if time is None or re.search(r"\bratio\b|\bscale\b", self._question, re.IGNORECASE):
            return None
        half = f" {time[3].lower()}m" if time[3] else ""
        return Words(f"{int(time[1])}:{time[2]}{half}")

    def _synonym(self, text: str) -> Form | None:
        if re.fullmatch(r"\\mathbb\s*\{?\s*R\s*\}?", text):
            return REALS
        if re.fullmatch(r"\\emptyset|\\\{\s*\\\}", text):
            return NOTHING
        without = _EXCEPT.fullmatch(text) or re.fullmatch(
            r"(?:\\mathbb\s*\{?\s*R\s*\}?|\(\s*-\s*\\infty\s*,\s*\+?\s*\\infty\s*\))\s*(?:\\setminus|-|\\)\s*(\\\{.+\\\}|\{.+\})",
            text,
        )
        if without:
            return Without(items_of(self.form(without[1])))
        return _SYNONYMS.get(plain_words(text)) if len(text) < 60 else None

    def _union(self, text: str) -> Form | None:
        parts, _ = pieces(text, r"\\cup(?![a-z])|(?<=[\])])\s*U\s*(?=[\[(])")
        if len(parts) < 2 or not all(parts):
            return None
        name, first = "", parts[0]
        sides, signs = pieces(first, _SIGN)
        if len(sides) == 2 and signs[0] in (r"\in", "="):
            name, first = sides[0], sides[1]
        ranges = tuple(self.form(part) for part in (first, *parts[1:]))
        joined = without_holes(ranges) or Union(ranges)
        return Named(squeezed(name), joined) if name else joined

    def _list(self, text: str) -> Form | None:
        separator = _SPACED_COMMA if ", " in text or "; " in text else _COMMA
        parts, marks = pieces(text, separator)
        if len(parts) < 2:
            return None
        if ";" in marks and "," in marks:
            groups, _ = pieces(text, ";")
            return Several(tuple(as_tuple(self.form(group)) for group in groups if group))
        parts = [part for part in parts if part]
        if len(parts) < 2:
            return self.form(parts[0]) if parts else None
        if len(parts) > MOST_ITEMS:
            return Value(text)
        items = tuple(self.form(re.sub(r"^(?:and|or)\s+", "", part)) for part in parts)
        return gathered(items, loose=any(mark not in ("or", r"\text{or}") for mark in marks))

    def _relation(self, text: str) -> Form | None:
        sides, signs = pieces(text, _SIGN)
        if len(sides) < 2 or not sides[-1]:
            return None
        if len(sides) > 12:
            return Value(text)
        signs = [r"\approx" if sign == r"\sim" else "=" if sign in (":=",) else sign for sign in signs]
        if signs[-1] == r"\approx":
            shown = self.form(sides[-1])
            if len(sides) == 2 and (not sides[0] or self._is_name(sides[0])):
                return Named(squeezed(sides[0]), shown)
            exact = self._relation(text[: text.rindex(r"\approx")].strip()) or self.form(" = ".join(sides[:-1]))
            return Approximate(exact, shown)
        if all(sign == "=" for sign in signs):
            return self._equation(sides)
        if len(sides) == 2 and signs[0] == r"\in" and self._is_name(sides[0]):
            return Named(squeezed(sides[0]), self.form(sides[1]))
        if len(sides) == 2 and signs[0] == r"\ne" and self._is_name(sides[0]):
            return Named(squeezed(sides[0]), Without((self.form(sides[1]),)))
        return self._inequality(sides, signs) or Relation(tuple(sides), tuple(signs))

    def _equation(self, sides: list[str]) -> Form:
        if len(sides) == 2 and self._is_name(sides[1]) and not self._is_name(sides[0]):
            sides = sides[::-1]
        left, right = sides[0], sides[-1]
        names = _enclosed(left)
        if names and "," in names[1] and len(sides) == 2:
            return Named(squeezed(left), self.form(right))
        if ":" in left and len(pieces(right, ":")[0]) > 1:
            return Named(squeezed(left), Ratio(tuple(pieces(right, ":")[0])))
        if not re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", left + right)):
            # A sum that was worked out; the sides stay only where they may be the answer: "a = b".
            return Named("", self.form(right))
        if not self._is_name(left) or not right:
            return Relation(tuple(sides), ("=",) * (len(sides) - 1))
        return Named(squeezed(left), self.form(right), Relation((left, right), ("=",)))

    def _inequality(self, sides: list[str], signs: list[str]) -> Form | None:
        if signs[0] in (">", r"\ge"):
            sides, signs = sides[::-1], [FLIPPED.get(sign, sign) for sign in signs[::-1]]
        if any(sign not in ("<", r"\le") for sign in signs):
            return None
        closed = {"<": "()", r"\le": "[]"}
        left, right = closed[signs[0]][0], closed[signs[-1]][1]
        relation = Relation(tuple(sides), tuple(signs))
        named = [side for side in sides if self._is_name(side)]
        if len(named) != 1 or len(sides) > 3 or (len(sides) == 3 and named[0] != sides[1]):
            return None
        name = named[0]
        if sides[0] == name:
            span = Range("(", REALS.low, self.form(sides[1]), right)
        elif len(sides) == 2:
            span = Range(left, self.form(sides[0]), REALS.high, ")")
        else:
            span = Range(left, self.form(sides[0]), self.form(sides[2]), right)
        size = re.fullmatch(r"\|\s*([a-z])\s*\|", name)
        if size:
            return Named(size[1], of_size(span), relation)
        return Named(squeezed(name), span, relation)

    def _bracketed(self, text: str) -> Form | None:
        grid = re.fullmatch(r"\\begin\{matrix\}(.*)\\end\{matrix\}", text, re.DOTALL)
        if grid and r"\begin" not in grid[1]:
            rows = re.split(r"\\\\(?:\[[^\]]*\])?|\\cr(?![a-z])", grid[1].replace(r"\hline", ""))
            cells = tuple(tuple(self.form(cell) for cell in row.split("&")) for row in rows if row.strip())
            return Grid(cells, text) if sum(map(len, cells)) <= MOST_ITEMS * 2 else Value(text)
        enclosed = _enclosed(text)
        if enclosed is None:
            angled = re.fullmatch(r"<([^<>=]+,[^<>=]+)>", text)
            return self._ordered(angled[1], "()") if angled else None
        left, inside, right = enclosed
        if left in ("{", r"\{") and right in ("}", r"\}"):
            condition, _ = pieces(inside, r"\||:")
            if left == r"\{" and len(condition) == 2 and re.match(r"\(?\s*[a-z]", condition[0]):
                held = self.form(condition[1])
                return held.form if isinstance(held, Named) else held
            if left == "{" and not pieces(inside, _COMMA)[1]:
                return self.form(inside)
            items = items_of(self._list(inside) or self.form(inside))
            return Several(items, braced=True)
        if left + right in ("()", "[]") and not pieces(inside, ",|;")[1]:
            return None if is_words(inside) else self.form(inside)
        return self._ordered(inside, left + right)

    def _ordered(self, inside: str, brackets: str) -> Form:
        text = brackets[0] + inside + brackets[1]
        parts, _ = pieces(inside, _SPACED_COMMA if re.search(r",\s", inside) else ",|;")
        if len(parts) > MOST_ITEMS or not all(parts):
            return Value(text)
        items = tuple(self.form(part) for part in parts)
        if brackets == "[]":
            rows = [_row(item) for item in items]
            if len(items) > 1 and all(rows):
                return Grid(tuple(row for row in rows if row), text)
        if len(items) == 2 and (brackets != "()" or any("infty" in part for part in parts)):
            return Range(brackets[0], items[0], items[1], brackets[1])
        return Ordered(items, brackets)

    def _is_name(self, text: str) -> bool:
        if not text or len(text) > 120 or re.fullmatch(r"\\(?:pi|infty|emptyset)|[ie]", text):
            return False
        if _NAME.fullmatch(text):
            return True
        if self._asked is None:
            self._asked = squeezed(self._question[:4000])
        bare = re.sub(r"\s+", "", text)
        return len(bare) > 2 and bool(re.search(r"[A-Za-z]", bare)) and bare in self._asked


def _row(form: Form) -> tuple[Form, ...] | None:
    """Returns the cells of a form that is a row in square brackets, as [1,2] in [[1,2],[3,4]]; else None."""
    if isinstance(form, Ordered) and form.brackets == "[]":
        return form.items
    return (form.low, form.high) if isinstance(form, Range) and form.left + form.right == "[]" else None
