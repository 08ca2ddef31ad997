r"""The form of a mathematical answer: a value, several of them, a tuple, an interval, a union, a matrix, an
equation. Two answers are the same where their forms fit and their parts are equal; what "equal" means for parts
is asked elsewhere (same.py). Nothing here evaluates anything, and all of it is linear in the text for a bounded
nesting.

Forms that do not fit are different answers: (1,2) is not [1,2] and not {1,2}. What two writers would both mean
is one form: "x > 2" and (2,\infty), "x = 1 or x = 2" and {1,2}, a column vector and a tuple.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harvest.answers.notation import squeezed, tidied
from harvest.answers.quantities import based_numeral, parse_number
from harvest.answers.words import plain_words

MOST_ITEMS = 200
"""Longer lists are no answer that anyone reads; matching them in any order costs the square of it."""

MOST_DEPTH = 12
"""How many forms may stand within each other: a list of tuples of fractions is three."""


@dataclass(frozen=True, slots=True)
class Value:
    text: str


@dataclass(frozen=True, slots=True)
class Words:
    text: str


@dataclass(frozen=True, slots=True)
class Approximate:
    """`exact` ≈ `shown`."""

    exact: "Form"
    shown: "Form"


@dataclass(frozen=True, slots=True)
class Several:
    """Values in any order; `braced`: a set, in which none counts twice."""

    items: tuple["Form", ...]
    braced: bool = False


@dataclass(frozen=True, slots=True)
class Ordered:
    items: tuple["Form", ...]
    brackets: str = "()"


@dataclass(frozen=True, slots=True)
class Range:
    left: str
    low: "Form"
    high: "Form"
    right: str


@dataclass(frozen=True, slots=True)
class Union:
    """`loose`: joined by "and" or a comma, which people also write where all of it must hold."""

    parts: tuple["Form", ...]
    loose: bool = False


@dataclass(frozen=True, slots=True)
class Without:
    """All numbers of an interval but these."""

    items: tuple["Form", ...]
    within: "Form | None" = None
    """None: all real numbers."""


@dataclass(frozen=True, slots=True)
class Grid:
    rows: tuple[tuple["Form", ...], ...]
    text: str


@dataclass(frozen=True, slots=True)
class Ratio:
    terms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """`name` = `form`, or `name` in `form`. What was written with two sides keeps them."""

    name: str
    form: "Form"
    relation: "Relation | None" = None


@dataclass(frozen=True, slots=True)
class Assigned:
    """Different names, each with its value."""

    pairs: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Modular:
    """A residue and what it is taken by."""

    form: "Form"
    modulus: str


@dataclass(frozen=True, slots=True)
class Relation:
    sides: tuple[str, ...]
    signs: tuple[str, ...]


Form = (
    Value
    | Words
    | Approximate
    | Several
    | Ordered
    | Range
    | Union
    | Without
    | Grid
    | Ratio
    | Named
    | Assigned
    | Modular
    | Relation
)

REALS = Range("(", Value(r"-\infty"), Value(r"\infty"), ")")
NOTHING = Several((), braced=True)

_BRACKET = r"\\begin(?![a-z])|\\end(?![a-z])|\\[{}]|[][(){}]"
_CLOSING = frozenset((r"\end", r"\}", ")", "]", "}"))


def pieces(text: str, separator: str) -> tuple[list[str], list[str]]:
    """What stands between the separators outside of all brackets, and those separators."""
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
    """Left bracket, inside and right bracket, where one pair of them holds the whole text."""
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
FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", "=": "=", r"\ne": r"\ne"}
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
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_KNOWN_WORDS = """
    sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log exp sqrt max min gcd lcm det mod pi infty
    abs floor ceil union theta alpha beta gamma lambda deg text frac and matrix begin end mathbb emptyset
"""
_KNOWN = frozenset(_KNOWN_WORDS.split())


def foreign_words(text: str) -> list[str]:
    """The words in it that are no names of functions."""
    return [word for word in _WORD.findall(text) if word.lower() not in _KNOWN]


def is_words(text: str) -> bool:
    r"""Whether it is words rather than maths: "Tuesday", "\text{no solution}", not "2x" or "\pi"."""
    bare = re.sub(r"\\(?:text|mbox|textbf|textrm|mathrm|textnormal)\s*\{([^{}]*)\}", r" \1 ", text)
    if re.search(r"\\[a-zA-Z]|[=^_<>+]|\d", bare):
        return bool(foreign_words(bare)) and not re.search(r"\\[a-zA-Z]", bare)
    return bool(foreign_words(bare)) or "\\text" in text


def signed_words(text: str) -> str:
    """Plain words that keep a minus before all of them."""
    return ("minus " if re.match(r"\s*-\s*[^\d\s]", text) else "") + plain_words(text).removeprefix("-")


def read(text: str, question: str = "") -> Form:
    """The form of a stated value. `question` tells which expressions are names there: where it asks for a+b,
    "a+b = 5" states 5."""
    return _Reader(question).form(tidied(text))


class _Reader:
    def __init__(self, question: str) -> None:
        self._question = question
        self._asked: str | None = None
        self._depth = 0

    def form(self, text: str) -> Form:
        """What is nested too deeply stays as it is written."""
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
            return Without(_items(self.form(without[1])))
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
        joined = _holes(ranges) or Union(ranges)
        return Named(squeezed(name), joined) if name else joined

    def _list(self, text: str) -> Form | None:
        separator = _SPACED_COMMA if ", " in text or "; " in text else _COMMA
        parts, marks = pieces(text, separator)
        if len(parts) < 2:
            return None
        if ";" in marks and "," in marks:
            groups, _ = pieces(text, ";")
            return Several(tuple(_as_tuple(self.form(group)) for group in groups if group))
        parts = [part for part in parts if part]
        if len(parts) < 2:
            return self.form(parts[0]) if parts else None
        if len(parts) > MOST_ITEMS:
            return Value(text)
        items = tuple(self.form(re.sub(r"^(?:and|or)\s+", "", part)) for part in parts)
        return _gathered(items, loose=any(mark not in ("or", r"\text{or}") for mark in marks))

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
            return Named(size[1], _of_size(span), relation)
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
                return _set_of(self.form(condition[1]))
            if left == "{" and not pieces(inside, _COMMA)[1]:
                return self.form(inside)
            items = _items(self._list(inside) or self.form(inside))
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
    """The cells of a row of [[1,2],[3,4]]."""
    if isinstance(form, Ordered) and form.brackets == "[]":
        return form.items
    return (form.low, form.high) if isinstance(form, Range) and form.left + form.right == "[]" else None


def _items(form: Form) -> tuple[Form, ...]:
    return form.items if isinstance(form, Several) else (form,)


def _as_tuple(form: Form) -> Form:
    if isinstance(form, Assigned):
        return Ordered(by_name(form.pairs))
    if isinstance(form, Several):
        return Ordered(form.items)
    return form


def _set_of(form: Form) -> Form:
    return form.form if isinstance(form, Named) else form


def _gathered(items: tuple[Form, ...], loose: bool) -> Form:
    """What several items make together: one name with several values, several names, a union, or just several."""
    named = [item for item in items if isinstance(item, Named) and item.name]
    names = [item.name for item in named]
    if named and len(set(names)) == 1 and isinstance(items[0], Named):
        forms = [item.form if isinstance(item, Named) else item for item in items]
        forms = [form for form in forms if form != REALS] or [REALS]
        if len(forms) > 1 and all(isinstance(form, Range) for form in forms):
            return Named(names[0], _holes(forms) or Union(tuple(forms), loose))
        if all(isinstance(form, Without) for form in forms):
            return Named(names[0], Without(tuple(x for form in forms if isinstance(form, Without) for x in form.items)))
        if len(forms) == 1:
            return Named(names[0], forms[0])
        whole = next((form for form in forms if isinstance(form, Range)), None)
        if whole and len(forms) == 2 and (rest := [form for form in forms if isinstance(form, Without)]) and loose:
            return Named(names[0], Without(rest[0].items, whole))
        if isinstance(forms[0], Without) and len(named) == 1:
            return Named(names[0], Without((*forms[0].items, *forms[1:])))
        return Named(names[0], Several(tuple(part for form in forms for part in _items(form))))
    if len(named) == len(items) and len(set(names)) == len(names):
        return Assigned(tuple(named))
    return Several(tuple(part for item in items for part in _unpacked(item)))


def _unpacked(form: Form) -> tuple[Form, ...]:
    return form.items if isinstance(form, Several) and not form.braced else (form,)


def _holes(parts: Sequence[Form]) -> Form | None:
    """(-∞,a)∪(a,b)∪(b,∞) as all numbers but a and b; None where the intervals do not meet in open ends."""
    ranges = [
        Range("(", part.items[0], part.items[1], ")")
        if isinstance(part, Ordered) and part.brackets == "()" and len(part.items) == 2
        else part
        for part in parts
    ]
    spans = [part for part in ranges if isinstance(part, Range)]
    by_low = {bare_text(span.low): span for span in spans}
    starts = [span for span in spans if bare_text(span.low) not in {bare_text(other.high) for other in spans}]
    if len(spans) != len(parts) or len(by_low) != len(spans) or len(starts) != 1 or len(spans) < 2:
        return None
    first = last = by_low.pop(bare_text(starts[0].low))
    holes = []
    while (following := by_low.pop(bare_text(last.high), None)) is not None:
        if last.right != ")" or following.left != "(":
            return None
        holes.append(last.high)
        last = following
    within = Range(first.left, first.low, last.high, last.right)
    return None if by_low else Without(tuple(holes), None if within == REALS else within)


def _of_size(span: Range) -> Form:
    """The numbers whose absolute value is in an interval."""
    low, high = bare_text(span.low), bare_text(span.high)
    mirrored = {"(": ")", "[": "]", ")": "(", "]": "["}
    if low == r"-\infty":
        return Range(mirrored[span.right], Value(f"-({high})"), span.high, span.right)
    below = Value(r"-\infty" if high == r"\infty" else f"-({high})")
    return Union((Range(mirrored[span.right], below, Value(f"-({low})"), mirrored[span.left]), span))


def bare_text(form: Form) -> str:
    return re.sub(r"\s+", "", form.text) if isinstance(form, Value) else ""


def by_name(pairs: Sequence[Named]) -> tuple[Form, ...]:
    """The values in the order that a tuple of them has: by letter, or as they stand where names are words."""
    if all(len(pair.name) == 1 or re.fullmatch(r"[a-z]_\{?\d+\}?", pair.name) for pair in pairs):
        pairs = tuple(sorted(pairs, key=lambda pair: pair.name))
    return tuple(pair.form for pair in pairs)
