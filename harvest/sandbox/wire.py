"""Writes values as JSON, with their exact types, to send them between a jail and the judge. It never uses pickle.

JSON's own null, true, false, numbers and strings stand for themselves. Everything else is a list that begins with a
tag: `["t", 1, 2]` is the tuple (1, 2). An object that is no plain data (an instance of the program's own class, a
subclass of int) is sent as a handle `["h", number, type name]`. The other side can send the handle back, and knows
nothing else of the object.

This file runs outside and inside the jail, so it imports nothing else of winnow. What comes out of a jail is hostile:
`loads` and `decode` raise BadWire for whatever they cannot read.
"""

import json
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

MOST_BYTES = 4 << 20
"""The most bytes that a message may have, in either direction."""
MOST_DEPTH = 100
ITERATOR = "iterator"
"""The type name in a handle whose object is an iterator, which can be asked for its next value."""

_SEQUENCES: dict[type, str] = {list: "l", tuple: "t", set: "s", frozenset: "f"}
_MAPPINGS: dict[type, str] = {dict: "d", Counter: "C", OrderedDict: "O", defaultdict: "D"}
_MAKE_SEQUENCE: dict[str, Callable[[Any], Any]] = {tag: kind for kind, tag in _SEQUENCES.items()}
_MAKE_MAPPING: dict[str, Callable[[Any], Any]] = {
    "d": dict,
    "C": Counter,
    "O": OrderedDict,
    "D": lambda pairs: defaultdict(None, pairs),
}
_TYPES: dict[str, type] = {"NoneType": type(None)} | {
    kind.__name__: kind
    for kind in (int, float, str, bool, bytes, bytearray, complex, list, tuple, set, frozenset, dict, object, range)
}


class BadWire(ValueError):
    """Is raised when a received message cannot be decoded, or when a value cannot be sent.

    A value cannot be sent if it is too large, is nested too deep, or is an object where only plain data is allowed.
    """


def encode(value: Any, keep: Callable[[Any], int] | None = None, depth: int = 0) -> Any:
    """Returns a value as a tree of JSON's types.

    `keep` stores an object that is no plain data, and returns the number for its handle. Raises BadWire when the value
    is nested too deep, or when it is no plain data and `keep` is None.
    """
    kind = type(value)
    if value is None or kind in (bool, float, str):
        return value
    if kind is int:
        # JSON readers limit the digits of a number, and hexadecimal takes linear time
        return value if -(2**63) <= value < 2**63 else ["i", hex(value)]
    if depth > MOST_DEPTH:
        raise BadWire(f"nested deeper than {MOST_DEPTH}")
    if (tag := _SEQUENCES.get(kind)) is not None:
        return [tag, *[encode(item, keep, depth + 1) for item in value]]
    if (tag := _MAPPINGS.get(kind)) is not None:
        return [tag, *[encode(part, keep, depth + 1) for pair in value.items() for part in pair]]
    if kind is bytes or kind is bytearray:
        return ["b" if kind is bytes else "B", value.decode("latin-1")]
    if kind is complex:
        return ["c", value.real, value.imag]
    if kind is range:
        return ["r", *[encode(end) for end in (value.start, value.stop, value.step)]]
    if kind is deque:
        return ["q", value.maxlen, *[encode(item, keep, depth + 1) for item in value]]
    if isinstance(value, type) and value is _TYPES.get(value.__name__):
        return ["T", value.__name__]
    if keep is None:
        raise BadWire(f"a {kind.__name__} is no plain data")
    return ["h", keep(value), ITERATOR if hasattr(kind, "__next__") else str(kind.__name__)[:80]]


def decode(tree: Any, held: Callable[[int, str], Any] | None = None) -> Any:
    """Returns the value that a tree of JSON's types stands for.

    `held` takes the number and the type name of a handle, and returns its object. Raises BadWire when the tree stands
    for no value, or when it has a handle and `held` is None.
    """
    try:
        return _decode(tree, held)
    except (TypeError, ValueError, IndexError, KeyError, RecursionError, OverflowError) as error:
        raise BadWire(f"not a value: {type(error).__name__}") from None


def _decode(tree: Any, held: Callable[[int, str], Any] | None) -> Any:
    if not isinstance(tree, list):
        if isinstance(tree, dict):
            raise BadWire("not a value: an object")
        return tree
    tag, rest = tree[0], tree[1:]
    if tag in _MAKE_SEQUENCE:
        return _MAKE_SEQUENCE[tag]([_decode(item, held) for item in rest])
    if tag in _MAKE_MAPPING:
        parts = [_decode(item, held) for item in rest]
        return _MAKE_MAPPING[tag](dict(zip(parts[::2], parts[1::2], strict=True)))
    if tag == "i":
        return int(rest[0], 16)
    if tag in ("b", "B"):
        return (bytes if tag == "b" else bytearray)(str.encode(rest[0], "latin-1"))
    if tag == "c":
        return complex(float(rest[0]), float(rest[1]))
    if tag == "r":
        return range(*[_decode(end, None) for end in rest])
    if tag == "q":
        return deque([_decode(item, held) for item in rest[1:]], rest[0])
    if tag == "T":
        return _TYPES[rest[0]]
    if tag == "h" and held is not None:
        return held(int(rest[0]), str(rest[1]))
    raise BadWire(f"not a value: tag {str(tag)[:20]!r}")


def dumps(message: Any) -> bytes:
    """Returns the bytes of a message with their length in front. Raises BadWire when the message is too long."""
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    if len(body) > MOST_BYTES:
        raise BadWire(f"{len(body):,} bytes, more than {MOST_BYTES:,}")
    return len(body).to_bytes(4, "big") + body


def loads(body: bytes) -> Any:
    """Returns what the JSON of one message says. Raises BadWire when the message is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadWire(f"not JSON: {type(error).__name__}") from None
