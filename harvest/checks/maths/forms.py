r"""Defines the forms of a mathematical answer (value, several values, tuple, interval, matrix …), and combines forms.

Different forms are different answers: (1,2) is not [1,2] and not {1,2}. Notations with the same meaning have the same
form: "x > 2" and (2,\infty), "x = 1 or x = 2" and {1,2}, a column vector and a tuple.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Value:
    text: str


@dataclass(frozen=True, slots=True)
class Words:
    text: str


@dataclass(frozen=True, slots=True)
class Approximate:
    """The form "`exact` ≈ `shown`": an exact value and its rounded decimal."""

    exact: "Form"
    shown: "Form"


@dataclass(frozen=True, slots=True)
class Several:
    """Several values in any order. `braced` says that they are a set, in which no value counts twice."""

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
    """A union of intervals.

    `loose`: the intervals are joined by "and" or a comma, which may also mean that all conditions must hold.
    """

    parts: tuple["Form", ...]
    loose: bool = False


@dataclass(frozen=True, slots=True)
class Without:
    """All numbers of the interval `within`, except the numbers in `items`."""

    items: tuple["Form", ...]
    within: "Form | None" = None
    """None means that the interval is all real numbers."""


@dataclass(frozen=True, slots=True)
class Grid:
    rows: tuple[tuple["Form", ...], ...]
    text: str


@dataclass(frozen=True, slots=True)
class Ratio:
    terms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """Says that `name` equals `form`, or that `name` is in `form`.

    `relation` keeps both sides if the form was written as an equation or inequality; else it is None.
    """

    name: str
    form: "Form"
    relation: "Relation | None" = None


@dataclass(frozen=True, slots=True)
class Assigned:
    """Gives a value to each of several different names."""

    pairs: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Modular:
    """A residue with its modulus."""

    form: "Form"
    modulus: str


@dataclass(frozen=True, slots=True)
class Relation:
    sides: tuple[str, ...]
    signs: tuple[str, ...]


Form = (
    Value | Words | Approximate | Several | Ordered | Range | Union | Without | Grid | Ratio | Named | Assigned
    | Modular | Relation
)  # fmt: skip

REALS = Range("(", Value(r"-\infty"), Value(r"\infty"), ")")
NOTHING = Several((), braced=True)

FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", "=": "=", r"\ne": r"\ne"}
"""Maps each sign of a relation to its sign after the two sides are swapped."""


def items_of(form: Form) -> tuple[Form, ...]:
    """Returns the items of a form with several values, or a tuple of the form alone if it is of another kind."""
    return form.items if isinstance(form, Several) else (form,)


def bare_text(form: Form) -> str:
    return re.sub(r"\s+", "", form.text) if isinstance(form, Value) else ""


def by_name(pairs: Sequence[Named]) -> tuple[Form, ...]:
    """Returns the values without their names: sorted by name if all names are letters, with or without an index; else
    in the given order."""
    if all(len(pair.name) == 1 or re.fullmatch(r"[a-z]_\{?\d+\}?", pair.name) for pair in pairs):
        pairs = tuple(sorted(pairs, key=lambda pair: pair.name))
    return tuple(pair.form for pair in pairs)


# ---- several forms put together


def as_tuple(form: Form) -> Form:
    if isinstance(form, Assigned):
        return Ordered(by_name(form.pairs))
    if isinstance(form, Several):
        return Ordered(form.items)
    return form


def gathered(items: tuple[Form, ...], loose: bool) -> Form:
    """Returns one form that holds several items.

    The form is one name with several values or a union, several names with a value each, or just several values.
    """
    named = [item for item in items if isinstance(item, Named) and item.name]
    names = [item.name for item in named]
    if named and len(set(names)) == 1 and isinstance(items[0], Named):
        forms = [item.form if isinstance(item, Named) else item for item in items]
        forms = [form for form in forms if form != REALS] or [REALS]
        if len(forms) > 1 and all(isinstance(form, Range) for form in forms):
            return Named(names[0], without_holes(forms) or Union(tuple(forms), loose))
        if all(isinstance(form, Without) for form in forms):
            return Named(names[0], Without(tuple(x for form in forms if isinstance(form, Without) for x in form.items)))
        if len(forms) == 1:
            return Named(names[0], forms[0])
        whole = next((form for form in forms if isinstance(form, Range)), None)
        if whole and len(forms) == 2 and (rest := [form for form in forms if isinstance(form, Without)]) and loose:
            return Named(names[0], Without(rest[0].items, whole))
        if isinstance(forms[0], Without) and len(named) == 1:
            return Named(names[0], Without((*forms[0].items, *forms[1:])))
        return Named(names[0], Several(tuple(part for form in forms for part in items_of(form))))
    if len(named) == len(items) and len(set(names)) == len(names):
        return Assigned(tuple(named))
    return Several(tuple(part for item in items for part in _unpacked(item)))


def _unpacked(form: Form) -> tuple[Form, ...]:
    return form.items if isinstance(form, Several) and not form.braced else (form,)


def without_holes(parts: Sequence[Form]) -> Form | None:
    """Joins the intervals of a union that leaves out only single numbers.

    (-∞,a)∪(a,b)∪(b,∞) becomes "all numbers except a and b".

    Returns None if the intervals do not meet at open ends.
    """
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


def of_size(span: Range) -> Form:
    """Returns the form of all numbers whose absolute value is in the interval `span`."""
    low, high = bare_text(span.low), bare_text(span.high)
    mirrored = {"(": ")", "[": "]", ")": "(", "]": "["}
    if low == r"-\infty":
        return Range(mirrored[span.right], Value(f"-({high})"), span.high, span.right)
    below = Value(r"-\infty" if high == r"\infty" else f"-({high})")
    return Union((Range(mirrored[span.right], below, Value(f"-({low})"), mirrored[span.left]), span))
