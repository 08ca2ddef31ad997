"""Replies: packed as they are written, and read as the values that they were."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import zstandard

from harvest.core.money import Usage
from harvest.core.nouns import Reply
from harvest.store.sqlite import Connection, Row

REPLY_COLUMNS = (
    "reply.body, finish_reason, served_model, served_by, system_fingerprint, response_id, input_tokens,"
    " cached_input_tokens, output_tokens, reasoning_tokens, cost"
)
"""What a statement on `try` and `reply` selects for `read_reply`."""


class Replies(Connection):
    """Statements on replies."""

    def __init__(self, db: sqlite3.Connection, path: Path, lock: int | None) -> None:
        super().__init__(db, path, lock)
        self._packer, self._unpacker = zstandard.ZstdCompressor(level=3), zstandard.ZstdDecompressor()

    def _put_reply(self, try_id: int, reply: Reply) -> None:
        """Writes what has no column of its own in `try`, packed, without empty parts."""
        parts = {
            "answer": reply.answer,
            "reasoning": reply.reasoning,
            "reasoning_kind": reply.reasoning_kind,
            "raw_usage": reply.raw_usage,
            "logprobs": reply.logprobs,
            "tool_calls": reply.tool_calls,
            "extra": reply.extra,
        }
        filled = {k: v for k, v in parts.items() if v not in (None, (), {})}
        text = json.dumps(filled, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        self.db.execute(
            "INSERT OR REPLACE INTO reply (try_id, body) VALUES (?, ?)", (try_id, self._packer.compress(text))
        )

    def reply(self, try_id: int) -> Reply:
        """The reply that one try brought. Raises LookupError where it brought none."""
        found = self.find_reply(try_id)
        if found is None:
            raise LookupError(f"try {try_id} has no reply")
        return found

    def find_reply(self, try_id: int) -> Reply | None:
        """The reply that one try brought, or what came of it; None where nothing came."""
        row = self.db.execute(
            f"SELECT {REPLY_COLUMNS} FROM try JOIN reply ON reply.try_id = try.id WHERE try.id = ?",  # noqa: S608 - ours
            (try_id,),
        ).fetchone()
        return None if row is None else self.read_reply(row)

    def answers_of(self, question_id: int) -> Iterator[tuple[int, Reply]]:
        """(attempt, its reply) of the teachers' answered attempts at one question. Each is read when it is taken."""
        for r in self._all(
            "SELECT id, answer_try FROM attempt WHERE question_id = ? AND state = 'answered' AND kind = 'teacher'"
            " ORDER BY teacher, sample, max_tokens",
            question_id,
        ):
            yield r["id"], self.reply(r["answer_try"])

    def read_reply(self, row: Row) -> Reply:
        """A reply from a row with REPLY_COLUMNS."""
        body = json.loads(self._unpacker.decompress(row["body"]))
        usage = Usage(
            row["input_tokens"], row["cached_input_tokens"], row["output_tokens"], row["reasoning_tokens"], row["cost"]
        )
        return Reply(
            answer=body.get("answer", ""),
            reasoning=body.get("reasoning"),
            reasoning_kind=body.get("reasoning_kind"),
            finish_reason=row["finish_reason"],
            usage=usage,
            raw_usage=body.get("raw_usage"),
            logprobs=tuple(body["logprobs"]) if body.get("logprobs") else None,
            tool_calls=tuple(body.get("tool_calls", ())),
            served_model=row["served_model"],
            served_by=row["served_by"],
            system_fingerprint=row["system_fingerprint"],
            response_id=row["response_id"],
            extra=body.get("extra", {}),
        )
