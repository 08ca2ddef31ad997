"""Reads JSON from outside, whose types nobody can trust. Pure.

A field that is missing, null, or of another type than expected counts as missing. What is stored of it is bounded in
size, and has only values that every store takes.
"""

import json
import math
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any

from harvest.core.errors import Cut
from harvest.core.printable import one_line

Json = dict[str, Any]

KEPT_CHARACTERS = 16_384
KEPT_FIELDS = 64
KEPT_DEPTH = 16
"""The most that is stored of fields that nobody reads: characters of one, their number, and how deep they nest."""


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        return None


DECODER = json.JSONDecoder(parse_float=_number, parse_constant=lambda _: None)
"""Reads fractions as Decimal, so that money stays exact, and NaN and Infinity as None."""


def parse(data: bytes) -> Any:
    """The value of a JSON text in bytes. Raises Cut where they are no such text."""
    try:
        return DECODER.decode(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Cut("the reply is not UTF-8") from None
    except (ValueError, RecursionError):
        raise Cut(f"the reply is no JSON but {one_line(data) or 'empty'}") from None


def as_dict(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Text as it is, or the texts of a list of parts."""
    if isinstance(value, list):
        return joined(part.get("text") if isinstance(part, dict) else part for part in value)
    return value if isinstance(value, str) else ""


def joined(values: Iterable[object]) -> str:
    return "".join(value for value in values if isinstance(value, str))


def clean(text: str) -> str:
    """The text with the halves of surrogate pairs joined, which some servers send apart. A lone half is replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def count(value: object) -> int | None:
    """A number of things; None for a boolean, a fraction, a text, and a number that no reply can hold."""
    return value if type(value) is int and 0 <= value <= 1_000_000_000 else None


def label(value: object) -> str | None:
    """A short name, or None."""
    return one_line(value, 200) or None if isinstance(value, str) else None


def unread(fields: Json, known: frozenset[str]) -> Json:
    """The fields that are not `known`, bounded in number and size. Empty ones are left out."""
    empty: tuple[object, ...] = (None, "", [], {})
    unread = ((key, value) for key, value in fields.items() if key not in known and value not in empty)
    return {one_line(key, 200): kept(value) for key, value in islice(unread, KEPT_FIELDS)}


def kept(value: object) -> Any:
    """The value, or a note of its size where it is larger than anyone should store."""
    if isinstance(value, str) and len(value) > KEPT_CHARACTERS:
        return f"left out: {len(value)} characters"
    short = plain(value)
    if isinstance(short, dict | list) and (size := len(json.dumps(short))) > KEPT_CHARACTERS:
        return f"left out: {size} characters of JSON"
    return short


def plain(value: object, depth: int = 0) -> Any:
    """The value as JSON that every store takes: no Decimal, no half surrogate, nothing too deep.

    A decimal that a float does not hold to the last digit becomes a string.
    """
    if isinstance(value, Decimal):
        short = float(value)
        return short if math.isfinite(short) and Decimal(repr(short)) == value else str(value)
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict | list) and depth >= KEPT_DEPTH:
        return "left out: too deep"
    if isinstance(value, dict):
        return {clean(key): plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner, depth + 1) for inner in value]
    return value
