r"""The forms that a mathematical answer has: a value, several, a tuple, an interval, a union, a matrix, an equation.

Forms that do not fit are different answers: (1,2) is not [1,2] and not {1,2}. What two writers would both mean is one
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

FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", "=": "=", r"\ne": r"\ne"}
"""Each sign of a relation, and the sign when its two sides change places."""


def items_of(form: Form) -> tuple[Form, ...]:
    """The items of several values, or the one form itself."""
    return form.items if isinstance(form, Several) else (form,)


def bare_text(form: Form) -> str:
    return re.sub(r"\s+", "", form.text) if isinstance(form, Value) else ""


def by_name(pairs: Sequence[Named]) -> tuple[Form, ...]:
    """The values in the order that a tuple of them has: by letter, or as they stand where names are words."""
    if all(len(pair.name) == 1 or re.fullmatch(r"[a-z]_\{?\d+\}?", pair.name) for pair in pairs):
        pairs = tuple(sorted(pairs, key=lambda pair: pair.name))
    return tuple(pair.form for pair in pairs)
