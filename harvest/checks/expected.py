"""Compares what a program printed or returned with what is expected, as APPS, TACO and LiveCodeBench do.

The comparison runs outside the jail, in linear time. It executes nothing that a program chose, and never calls a
program's own `__eq__` or `__hash__`.
"""

import re
from decimal import Decimal, InvalidOperation
from typing import Any

from harvest.checks.check import shown

_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_MOST_DIGITS = 1000
ABSOLUTE, RELATIVE = Decimal("1e-8"), Decimal("1e-5")
"""The tolerances of numpy.allclose, as in APPS. They apply only if the expected value has a decimal point or an
exponent."""


def print_differs(printed: str, expected: str) -> str | None:
    """Returns the first difference between two outputs, in words; None if they agree.

    Empty lines do not count. Space at the ends of a line, and the amount of space between two words, make no
    difference. An expected integer must be printed exactly. An expected decimal may be off by ABSOLUTE plus RELATIVE
    times its size.
    """
    ours, theirs = _lines(expected), _lines(printed)
    for number, (want, got) in enumerate(zip(ours, theirs, strict=False), 1):
        if want == got:
            continue
        wanted, given = want.split(), got.split()
        if len(wanted) != len(given) or not all(map(_same_word, wanted, given)):
            return f"line {number}: printed “{shown(got)}”, expected “{shown(want)}”"
    if len(ours) != len(theirs):
        return f"printed {len(theirs)} lines, expected {len(ours)}"
    return None


def _lines(text: str) -> list[str]:
    return [line for line in (raw.strip() for raw in text.split("\n")) if line]


def _same_word(want: str, got: str) -> bool:
    if want == got:
        return True
    if not all(len(word) <= _MOST_DIGITS and _NUMBER.fullmatch(word) for word in (want, got)):
        return False
    try:
        wanted, given = Decimal(want), Decimal(got)
    except InvalidOperation:
        return False
    if wanted == given:
        return True
    inexact = "." in want or "e" in want.lower()
    return inexact and abs(wanted - given) <= ABSOLUTE + RELATIVE * abs(wanted)


def value_differs(got: Any, expected: Any) -> str | None:
    """Returns how a returned value differs from an expected JSON value, in words; None if they agree.

    `got` is encoded as in harvest/sandbox/wire.py. Types must be equal: True is not 1, and a returned 2.0 is not the
    expected 2. There are two exceptions. A returned tuple agrees with a list, because JSON has no tuples. A returned
    int agrees with an equal expected float, as in annotations (PEP 484).
    """
    return None if _agrees(got, expected) else f"returned {described(got)}, expected {shown(repr(expected))}"


def _agrees(got: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return _agrees_mapping(got, expected)
    if isinstance(expected, list):
        return (
            isinstance(got, list)
            and got[:1] in (["l"], ["t"])
            and len(got) == len(expected) + 1
            and all(map(_agrees, got[1:], expected))
        )
    if isinstance(got, list):
        return got[:1] == ["i"] and type(expected) is int and len(got) == 2 and got[1] == hex(expected)
    if type(expected) is float and type(got) is int:
        return got == expected
    return type(got) is type(expected) and bool(got == expected or (got != got and expected != expected))


def _agrees_mapping(got: Any, expected: dict[Any, Any]) -> bool:
    if not (isinstance(got, list) and got[:1] in (["d"], ["O"], ["D"], ["C"]) and len(got) == 2 * len(expected) + 1):
        return False
    keys, values = got[1::2], got[2::2]
    if not all(type(key) in (str, int) for key in keys):
        return False
    given = dict(zip(keys, values, strict=True))
    return given.keys() == expected.keys() and all(_agrees(given[key], value) for key, value in expected.items())


_SHOWN = {"l": "[", "t": "(", "s": "set of ", "f": "frozenset of ", "d": "dict of "}


def described(got: Any) -> str:
    """Returns an encoded value as a short text for people."""
    if not isinstance(got, list):
        return shown(repr(got[:200] if isinstance(got, str) else got))
    tag, rest = (str(got[0]), got[1:21]) if got else ("?", [])
    if tag == "h":
        return f"an object of class {shown(str(got[-1]))}"
    if tag in ("i", "b", "B", "c", "T"):
        return shown(f"{tag}:{rest}")
    some = ", ".join(shown(repr(item)[:40], 20) if isinstance(item, list) else described(item) for item in rest[:8])
    return shown(_SHOWN.get(tag, tag + " of ") + some + {"l": "]", "t": ")"}.get(tag, ""))
