"""Removes the key of an endpoint from whatever the endpoint sends back. Pure.

Endpoints echo keys in errors, headers, answers and identifiers, sometimes split over pieces or escaped. So bytes are
cleaned as they arrive, and texts are cleaned once more after their JSON was read.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from harvest.core.nouns import Reply

SHORTEST_SECRET = 12
"""A key with fewer characters is no secret: honest answers may hold it. Servers without keys are given such a key, e.g.
the word "EMPTY"."""

REDACTED = tuple(field.name for field in fields(Reply) if field.name not in ("usage", "reasoning_kind"))
"""These fields of a reply hold what the endpoint wrote."""


class Redaction:
    """Replaces one key by `[key]`. Changes nothing when there is no key, or when the key is no secret."""

    def __init__(self, key: str | None) -> None:
        self._secret = key if key and len(key) >= SHORTEST_SECRET else ""
        self._secret_bytes = self._secret.encode()

    def text(self, text: str) -> str:
        return text.replace(self._secret, "[key]") if self._secret else text

    def data(self, data: bytes) -> bytes:
        return data.replace(self._secret_bytes, b"[key]") if self._secret else data

    def reply(self, reply: Reply) -> Reply:
        """Returns the reply without the key in any of its texts."""
        if not self._secret:
            return reply
        return replace(reply, **{name: self._value(getattr(reply, name)) for name in REDACTED})

    def begun_at_end(self, data: bytes) -> int:
        """Returns how many bytes at the end of `data` may be the beginning of the key."""
        lengths = range(len(self._secret_bytes) - 1, 0, -1)
        return next((n for n in lengths if data.endswith(self._secret_bytes[:n])), 0)

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(k)): self._value(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._value(v) for v in value)
        return value
