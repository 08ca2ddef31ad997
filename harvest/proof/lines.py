"""Writes a row as one line of JSON, and makes the hash of a row. Pure."""

import hashlib
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from harvest.core.foreign_json import plain

SEPARATORS = {c.encode(): b"\\u%04x" % ord(c) for c in "\x85\u2028\u2029"}
"""Maps each character that Python's `splitlines` or JavaScript, unlike JSON, takes for a line break to its escape in
JSON."""


def line_of(row: Any) -> bytes:
    """Returns the value as JSON and a line feed. No reader finds a second line break in this line.

    A half of a surrogate pair, which no text file can hold, becomes U+FFFD.
    """
    try:
        line = to_json(row)  # a third of the time that `json.dumps` takes
    except PydanticSerializationError:
        return line_of(plain(row))
    for separator, escaped in SEPARATORS.items():
        if separator[-1] in line:  # one byte is found ten times as fast as two or three
            line = line.replace(separator, escaped)
    return line + b"\n"


def sha256(value: Any) -> str:
    """Returns the SHA-256 of a value's line without its line feed, as hex digits.

    For a row of an export in JSON lines, it is the hash of the line as it stands in the file.
    """
    return hashlib.sha256(line_of(value)[:-1]).hexdigest()
