"""Removes the key of an endpoint, and a proxy's password, from whatever is sent back. Pure.

Endpoints echo keys in errors, headers, answers and identifiers, sometimes split over pieces or escaped. So bytes are
cleaned as they arrive, and texts are cleaned once more after their JSON was read.
"""

import struct
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from harvest.core.nouns import Reply

SHORTEST_SECRET = 12
"""A key with fewer characters is no secret: honest answers may hold it. Servers without keys are given such a key, e.g.
the word "EMPTY"."""

REDACTED = tuple(field.name for field in fields(Reply) if field.name not in ("usage", "reasoning_kind", "logprobs"))
"""The fields of a reply that hold what the endpoint wrote."""
KEY = "[key]"
"""What stands in place of a secret."""


class Redaction:
    """Replaces each secret by `[key]`. Changes nothing when there is none. A short text is no secret, and neither is
    None. The words of a secret with spaces (`Bearer …`) are secrets too."""

    def __init__(self, *secrets: str | None) -> None:
        found = {part for s in secrets if s for part in (s, *s.split()) if len(part) >= SHORTEST_SECRET}
        self._secrets = tuple(sorted(found, key=len, reverse=True))  # one may be part of another
        self._secret_bytes = tuple(s.encode() for s in self._secrets)

    def and_of(self, *secrets: str | None) -> "Redaction":
        """Returns a redaction of these secrets and more."""
        return Redaction(*self._secrets, *secrets)

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, KEY)
        return text

    def data(self, data: bytes) -> bytes:
        for secret in self._secret_bytes:
            data = data.replace(secret, KEY.encode())
        return data

    def reply(self, reply: Reply) -> Reply:
        """Returns the reply without the secrets in any of its texts."""
        if not self._secrets:
            return reply
        clean = replace(reply, **{name: self._value(getattr(reply, name)) for name in REDACTED})
        return replace(clean, logprobs=None) if self._spelt_in(reply) else clean

    def _spelt_in(self, reply: Reply) -> bool:
        """Whether the tokens of a reply may spell a secret, one piece of it after another."""
        found = reply.logprobs
        if found is None:
            return False
        if KEY in reply.answer or KEY in (reply.reasoning or ""):
            return True
        ids = [i for (i,) in struct.iter_unpack("<i", found.ids or b"")]
        whole = b"".join(found.pieces.get(i, b"") for i in ids)
        return any(s in text for s in self._secret_bytes for text in (whole, *found.pieces.values()))

    def begun_at_end(self, data: bytes) -> int:
        """Returns how many bytes at the end of `data` may be the beginning of a secret."""
        return max((self._begun(secret, data) for secret in self._secret_bytes), default=0)

    @staticmethod
    def _begun(secret: bytes, data: bytes) -> int:
        return next((n for n in range(len(secret) - 1, 0, -1) if data.endswith(secret[:n])), 0)

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(k)): self._value(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._value(v) for v in value)
        return value
