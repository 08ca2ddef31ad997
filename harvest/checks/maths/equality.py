"""Tells whether two forms mean the same: their kinds must fit, and `Algebra` must say that their parts are equal."""

import re
from collections.abc import Callable, Sequence
from typing import Protocol

from harvest.answers.quantities import parse_number
from harvest.answers.words import plain_words, signed_words
from harvest.checks.maths.forms import (
    FLIPPED,
    REALS,
    Approximate,
    Assigned,
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
    bare_text,
    by_name,
)


class Algebra(Protocol):
    """Decides whether parts of two answers are equal. The gold answer's part is always the first argument."""

    def equal(self, gold: str, given: str) -> bool: ...

    def proportional(self, gold: tuple[str, str], given: tuple[str, str], positive: bool) -> bool:
        """Whether two equations or inequalities differ only by a constant factor.

        An equation or inequality is given as (left side, right side). `positive` says that they are inequalities: then
        the factor must be positive.
        """
        ...

    def rounds_to(self, exact: str, shown: str) -> bool: ...


def same(gold: Form, given: Form, algebra: Algebra, ordered: bool = False) -> bool:
    """Whether two forms mean the same. `ordered` says that the question asks for a list in a certain order."""
    for compare in (_qualified, _named, _values, _lists, _ranges, _tables, _ratios):
        found = compare(gold, given, algebra, ordered)
        if found is not None:
            return found
    match gold, given:
        case Relation(), Relation():
            return _same_relation(gold, given, algebra)
        case Value(a) | Words(a), Value(b) | Words(b):
            return bool(plain_words(a)) and signed_words(a) == signed_words(b)
        case _:
            return False


# Each of these compares one kind of forms. None: neither form is of this kind, or the two do not meet here.


def _alike(algebra: Algebra) -> Callable[[Form, Form], bool]:
    return lambda a, b: same(a, b, algebra)


def _qualified(gold: Form, given: Form, algebra: Algebra, ordered: bool) -> bool | None:
    """Whether two forms mean the same, if one of them has an approximation or a modulus; None if neither has one."""
    alike = _alike(algebra)
    match gold, given:
        case _, Approximate(exact, shown):
            if not (isinstance(exact, Value | Named) and isinstance(shown, Value)):
                return alike(gold, exact)
            value = exact.form if isinstance(exact, Named) else exact
            if not isinstance(value, Value) or not algebra.rounds_to(value.text, shown.text):
                return False
            return alike(gold, exact) or alike(gold, shown)
        case Approximate(exact, shown), _:
            return alike(exact, given) or alike(shown, given)
        case Modular(form, modulus), Modular(other, another):
            return modulus == another and alike(form, other)
        case Modular(form), _:
            return alike(form, given)
        case _, Modular(form):
            return alike(gold, form)
    return None


def _named(gold: Form, given: Form, algebra: Algebra, ordered: bool) -> bool | None:
    """Whether two forms mean the same, if one of them has names ("x = 5", "x = 1 and y = 2").

    Returns None if neither form has names, or if this function cannot compare the two forms.
    """
    alike = _alike(algebra)
    match gold, given:
        case Named(), Named():
            return _same_named(gold, given, algebra, ordered)
        case Named(_, _, Relation() as relation), Relation():
            return _same_relation(relation, given, algebra)
        case Relation(), Named(_, _, Relation() as relation):
            return _same_relation(gold, relation, algebra)
        case Named(name, form), Assigned(pairs):
            if name.startswith("(") and isinstance(form, Ordered) and len(form.items) == len(pairs):
                return alike(form, given)
            return False
        case Assigned(), Named(name, Ordered() as form) if name.startswith("("):
            return alike(gold, form)
        case Named(_, form), _:
            return same(form, given, algebra, ordered)
        case _, Named(_, form):
            return same(gold, form, algebra, ordered)
        case Assigned(), Assigned():
            return _same_assigned(gold, given, alike)
        case Assigned(pairs), Ordered(items) | Several(items, False):
            return _in_order(by_name(pairs), items, alike) or _in_order([p.form for p in pairs], items, alike)
        case (Ordered(items, "()"), Assigned(pairs)) | (Several(items, False), Assigned(pairs)):
            return _in_order(items, by_name(pairs), alike)
    return None


def _values(gold: Form, given: Form, algebra: Algebra, ordered: bool) -> bool | None:
    """Whether two single values, or two answers in words, mean the same; None for other forms."""
    match gold, given:
        case Value(a), Value(b):
            return algebra.equal(a, b)
        case Words(a), Words(b):
            return bool(a) and (a == b or _same_time(a, b))
    return None


def _lists(gold: Form, given: Form, algebra: Algebra, ordered: bool) -> bool | None:
    """Whether two forms mean the same, if one of them has several values or both are tuples.

    Returns None for all other forms.
    """
    alike = _alike(algebra)
    match gold, given:
        case Several(), Several():
            return _in_order(gold.items, given.items, alike) if ordered else _in_any_order(gold, given, alike)
        case Several(items), Ordered(others, "[]") if len(items) > 2 and not ordered:
            return _in_any_order(gold, Several(others), alike)
        case Several(items, False), Ordered(others):
            return _in_order(items, others, alike)
        case Ordered(items, "()"), Several(others, False):
            return _in_order(items, others, alike)
        case Several((item,)), _:
            return alike(item, given)
        case _, Several(items, braced):
            return bool(items) and (len(items) == 1 or not braced) and all(alike(gold, item) for item in items)
        case Ordered(items, brackets), Ordered(others, others_brackets):
            listed = len(items) > 2 and {brackets, others_brackets} <= {"()", "[]"}
            return (brackets == others_brackets or listed) and _in_order(items, others, alike)
    return None


def _ranges(gold: Form, given: Form, algebra: Algebra, ordered: bool) -> bool | None:
    """Whether two forms mean the same, if they are intervals, unions of intervals, or all numbers except a few.

    Returns None for all other forms.
    """
    alike = _alike(algebra)
    match gold, given:
        case Range(), Range():
            return (gold.left, gold.right) == (given.left, given.right) and (
                alike(gold.low, given.low) and alike(gold.high, given.high)
            )
        case Ordered((low, high), "()"), Range():
            return alike(Range("(", low, high, ")"), given)
        case Range(), Ordered((low, high), "()"):
            return alike(gold, Range("(", low, high, ")"))
        case ((Range() | Ordered()), Relation((_, _))):
            half = _half_line(gold, given)
            return half is not None and _same_relation(half, given, algebra)
        case Range() | Ordered(), Union((Range() as one, Range() as two), True):
            return alike(gold, _both(one, two))
        case Union(parts), Union(others):
            return _in_any_order(Several(parts), Several(others), alike)
        case Union(), Without(items) if len(gold.parts) == len(items) + 1:
            return False
        case Without(items, within), Without(others, another):
            same_whole = within is another or (within is not None and another is not None and alike(within, another))
            return same_whole and _in_any_order(Several(items, True), Several(others, True), alike)
    return None


def _tables(gold: Form, given: Form, algebra: Algebra, ordered: bool) -> bool | None:
    """Whether two forms mean the same, if one of them is a matrix.

    A matrix is compared with a matrix, with a single value, or with a tuple. To equal a tuple, the matrix must have one
    row or one column. Returns None for all other forms.
    """
    alike = _alike(algebra)
    match gold, given:
        case Grid(rows), Grid(others):
            return list(map(len, rows)) == list(map(len, others)) and _in_order(
                [cell for row in rows for cell in row], [cell for row in others for cell in row], alike
            )
        case (Grid(_, text), Value(other)):
            return algebra.equal(text, other)
        case (Value(other), Grid(_, text)):
            return algebra.equal(other, text)
        case (Grid(), Ordered()) | (Ordered(), Grid()):
            wanted, found = _cells(gold), _cells(given)
            return wanted is not None and found is not None and _in_order(wanted, found, alike)
    return None


def _ratios(gold: Form, given: Form, algebra: Algebra, ordered: bool) -> bool | None:
    """Whether two forms mean the same, if one of them is a ratio; None for all other forms.

    A ratio of two terms may equal a fraction.
    """
    match gold, given:
        case Ratio(terms), Ratio(others):
            return _same_ratio(terms, others, algebra)
        case Ratio(terms), Words(text):
            return ":".join(terms) == text
        case Ratio((a, b)), Value(text):
            return algebra.equal(rf"\frac{{{a}}}{{{b}}}", text)
        case Value(text), Ratio((a, b)) if re.search(r"/|\\frac", text):
            return algebra.equal(text, rf"\frac{{{a}}}{{{b}}}")
    return None


def _names_agree(gold: str, given: str) -> bool:
    """Whether two names may mean the same. Names of one letter must be equal.

    A name in words agrees with every name. The argument in f(x) does not count, and y agrees with f, g and h.
    """

    def bare(name: str) -> str:
        name = re.sub(r"[{}\s]|\\text|\\left|\\right", "", name)
        return re.sub(r"^([A-Za-z]\w*'*)\([a-z]\)$", r"\1", name)

    gold, given = bare(gold), bare(given)
    if not gold or not given or gold == given:
        return True
    functions = {"y", "f", "g", "h"}
    if gold in functions and given in functions:
        return "y" in (gold, given)
    return bool(re.fullmatch(r"[A-Za-z]{3,}", gold) or re.fullmatch(r"[A-Za-z]{3,}", given))


def _same_named(gold: Named, given: Named, algebra: Algebra, ordered: bool) -> bool:
    if _names_agree(gold.name, given.name):
        return same(gold.form, given.form, algebra, ordered)
    if gold.relation is None or given.relation is None:
        return False
    # "y = 2x" and "x = y/2" name different letters of one equation.
    shared = _letters(gold.relation) == _letters(given.relation)
    return shared and _same_relation(gold.relation, given.relation, algebra)


def _letters(relation: Relation) -> set[str]:
    return set(re.findall(r"(?<![\\A-Za-z])[A-Za-z](?![A-Za-z])", " ".join(relation.sides)))


def _same_assigned(gold: Assigned, given: Assigned, alike: Callable[[Form, Form], bool]) -> bool:
    if len(gold.pairs) != len(given.pairs):
        return False
    by_name = {pair.name: pair.form for pair in given.pairs}
    return all(pair.name in by_name and alike(pair.form, by_name[pair.name]) for pair in gold.pairs)


def _same_time(gold: str, given: str) -> bool:
    """Whether the given time is the gold time with "am" or "pm" after it. The gold time has neither."""
    return bool(re.fullmatch(r"\d+:\d\d", gold)) and given.startswith(gold + " ")


def _in_order(gold: Sequence[Form], given: Sequence[Form], alike: Callable[[Form, Form], bool]) -> bool:
    return len(gold) == len(given) and all(alike(a, b) for a, b in zip(gold, given, strict=True))


def _in_any_order(gold: Several, given: Several, alike: Callable[[Form, Form], bool]) -> bool:
    """Whether both lists have the same items. A repeated item counts once, unless the gold answer repeats items.

    In a set, a repeated item always counts once.
    """
    wanted, others = list(gold.items), list(given.items)
    if gold.braced or given.braced or len(set(wanted)) == len(wanted):
        wanted, others = list(dict.fromkeys(wanted)), list(dict.fromkeys(others))
    if len(wanted) != len(others):
        return False
    for item in [item for item in wanted if item in others]:
        if item in others:
            wanted.remove(item)
            others.remove(item)
    for item in wanted:
        found = next((place for place, other in enumerate(others) if alike(item, other)), None)
        if found is None:
            return False
        others.pop(found)
    return True


def _both(one: Range, two: Range) -> Form:
    """Returns the interval that two half-lines have in common."""
    if bare_text(one.low) == r"-\infty":
        one, two = two, one
    return Range(one.left, one.low, two.high, two.right)


def _half_line(form: Form, like: Relation) -> Relation | None:
    """Returns an infinite interval as an inequality in the only letter of `like`.

    Returns None if the form is no infinite interval, or if `like` does not have exactly one letter.
    """
    letters = _letters(like)
    if not isinstance(form, Range) or len(letters) != 1:
        return None
    letter = letters.pop()
    if form.low == REALS.low and isinstance(form.high, Value):
        return Relation((letter, form.high.text), ("<" if form.right == ")" else r"\le",))
    if form.high == REALS.high and isinstance(form.low, Value):
        return Relation((form.low.text, letter), ("<" if form.left == "(" else r"\le",))
    return None


def _cells(form: Form) -> Sequence[Form] | None:
    """Returns the items of a tuple, or of a matrix with one row or one column; None for other forms."""
    if isinstance(form, Grid) and (len(form.rows) == 1 or all(len(row) == 1 for row in form.rows)):
        return [cell for row in form.rows for cell in row]
    return form.items if isinstance(form, Ordered) else None


def _same_ratio(gold: Sequence[str], given: Sequence[str], algebra: Algebra) -> bool:
    if len(gold) != len(given):
        return False
    numbers = [parse_number(term) for term in (*gold, *given)]
    if all(numbers):
        values = [number.value for number in numbers if number]
        first, other = values[: len(gold)], values[len(gold) :]
        return bool(first[0] and other[0]) and all(
            a * other[0] == b * first[0] for a, b in zip(first, other, strict=True)
        )
    return all(algebra.equal(a, b) for a, b in zip(gold, given, strict=True))


def _same_relation(gold: Relation, given: Relation, algebra: Algebra) -> bool:
    if len(gold.sides) != len(given.sides):
        return False
    flipped = Relation(given.sides[::-1], tuple(FLIPPED.get(sign, sign) for sign in given.signs[::-1]))
    for other in (given, flipped):
        if gold.signs == other.signs:
            if len(gold.sides) == 2 and gold.signs[0] != r"\in":
                left, right = gold.sides
                a, b = other.sides
                positive = gold.signs[0] not in ("=", r"\ne")
                if algebra.proportional((left, right), (a, b), positive):
                    return True
            elif all(algebra.equal(a, b) for a, b in zip(gold.sides, other.sides, strict=True)):
                return True
    return False
