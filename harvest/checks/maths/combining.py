"""Several forms put together: one name with several values, several names, a union of intervals. Pure."""

from collections.abc import Sequence

from harvest.checks.maths.forms import (
    REALS,
    Assigned,
    Form,
    Named,
    Ordered,
    Range,
    Several,
    Union,
    Value,
    Without,
    bare_text,
    by_name,
    items_of,
)


def as_tuple(form: Form) -> Form:
    if isinstance(form, Assigned):
        return Ordered(by_name(form.pairs))
    if isinstance(form, Several):
        return Ordered(form.items)
    return form


def set_of(form: Form) -> Form:
    return form.form if isinstance(form, Named) else form


def gathered(items: tuple[Form, ...], loose: bool) -> Form:
    """What several items make together: one name with several values, several names, a union, or just several."""
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


def of_size(span: Range) -> Form:
    """The numbers whose absolute value is in an interval."""
    low, high = bare_text(span.low), bare_text(span.high)
    mirrored = {"(": ")", "[": "]", ")": "(", "]": "["}
    if low == r"-\infty":
        return Range(mirrored[span.right], Value(f"-({high})"), span.high, span.right)
    below = Value(r"-\infty" if high == r"\infty" else f"-({high})")
    return Union((Range(mirrored[span.right], below, Value(f"-({low})"), mirrored[span.left]), span))
