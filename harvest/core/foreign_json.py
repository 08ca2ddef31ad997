"""Reads JSON from outside, whose types nobody can trust. Pure.

A field counts as missing when it is absent, null, or not of the expected type. What is stored of foreign JSON is
bounded in size and holds only values that every store takes.
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
"""Limits of what is stored of fields that nobody reads: at most KEPT_FIELDS fields, KEPT_CHARACTERS in each, KEPT_DEPTH
levels deep."""


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        return None


DECODER = json.JSONDecoder(parse_float=_number, parse_constant=lambda _: None)
"""Reads fractions as Decimal, so that money stays exact, and NaN and Infinity as None."""
LENIENT = json.JSONDecoder(parse_float=_number, parse_constant=lambda _: None, strict=False)
"""Also takes raw control characters inside strings, e.g. a tab, which some gateways do not escape."""


def parse(data: bytes, *, ignore_rest: bool = False) -> Any:
    """Parses JSON that was paid for, and returns the value. Raises Cut when there is no whole JSON value in the bytes.

    The bytes are in UTF-8, UTF-16 or UTF-32, with a byte order mark or without. Bytes that are no character are
    replaced, since an answer is still worth its money. If `ignore_rest`, anything may follow the value.
    """
    try:
        text = data.decode(json.detect_encoding(data), "replace")
        return LENIENT.raw_decode(text.lstrip())[0] if ignore_rest else LENIENT.decode(text)
    except (ValueError, RecursionError):
        raise Cut(f"the reply is no JSON but {one_line(data) or 'empty'}") from None


def as_dict(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Returns a text as it is, or joins the texts of a list of parts. Returns "" for any other value."""
    if isinstance(value, list):
        return joined(part.get("text") if isinstance(part, dict) else part for part in value)
    return value if isinstance(value, str) else ""


def joined(values: Iterable[object]) -> str:
    return "".join(value for value in values if isinstance(value, str))


def clean(text: str) -> str:
    """Returns the text with each surrogate pair joined, since some servers send the two halves apart.

    A half without its other half is replaced.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def count(value: object) -> int | None:
    """Returns `value` if it is a whole number that a reply can hold (0 to 1,000,000,000), else None.

    None is returned for booleans, fractions and texts too.
    """
    return value if type(value) is int and 0 <= value <= 1_000_000_000 else None


def label(value: object) -> str | None:
    """Returns a text as a short name on one line. Returns None when the value is no text or is empty."""
    return one_line(value, 200) or None if isinstance(value, str) else None


def unread(fields: Json, known: frozenset[str]) -> Json:
    """Returns the fields whose names are not in `known`, except empty fields. Their number and size are bounded."""
    empty: tuple[object, ...] = (None, "", [], {})
    unread = ((key, value) for key, value in fields.items() if key not in known and value not in empty)
    return {one_line(key, 200): kept(value) for key, value in islice(unread, KEPT_FIELDS)}


def kept(value: object) -> Any:
    """Returns the value as it can be stored, or a note of its size if it is too large to store."""
    if isinstance(value, str) and len(value) > KEPT_CHARACTERS:
        return f"left out: {len(value)} characters"
    short = plain(value)
    if isinstance(short, dict | list) and (size := len(json.dumps(short))) > KEPT_CHARACTERS:
        return f"left out: {size} characters of JSON"
    return short


def plain(value: object, depth: int = 0) -> Any:
    """Returns the value as JSON that every store takes: no Decimal, no half surrogate, not nested too deep.

    A decimal number that a float cannot hold to the last digit becomes a string.
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
