"""Packs replies to write them, and reads them as the same values."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import zstandard

from harvest.core.money import Usage
from harvest.core.nouns import Reply, TokenLogprobs, content_hash, joined
from harvest.store.databases.database import Database, Row
from harvest.store.leases import Leases
from harvest.store.token_logprobs import packed, unpacked

SERVED = ("finish_reason", "served_model", "served_by", "system_fingerprint", "response_id")
"""The parts of a reply that are columns of `try`, beside its usage."""
USAGE = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "cost")
CUT_TRY = (
    "(SELECT half.answer_try FROM attempt AS this JOIN attempt AS half ON half.id = this.continues"
    " WHERE this.id = try.attempt_id AND try.state = 'answered') AS cut_try"
)
"""The try whose cut answer goes on in this try's reply; NULL if it goes on with none."""
REPLY_COLUMNS = ", ".join(("reply.body", *SERVED, *(f"try.{name}" for name in USAGE), CUT_TRY))
"""The columns that a statement on `try` and `reply` must select for `read_reply`."""
IS_WHOLE = (
    "NOT EXISTS (SELECT 1 FROM attempt AS next WHERE next.continues = attempt.id AND next.answer_try IS NOT NULL)"
)
"""The condition that an attempt's answer is not the first half of another attempt's."""


def of_both_halves(column: str) -> str:
    """Returns a count of `try` as an expression for the whole answer: for a continued one, the sum of both halves."""
    return (
        f"CASE WHEN attempt.continues IS NULL THEN try.{column} ELSE try.{column} + (SELECT first.{column} FROM"  # noqa: S608 - ours
        " attempt AS half JOIN try AS first ON first.id = half.answer_try WHERE half.id = attempt.continues) END"
    )


PACKED = ("answer", "reasoning", "reasoning_kind", "raw_usage", "tool_calls", "extra")
"""The parts of a reply that have no column of their own in `try`. They are packed into `reply.body`."""


def row_id(key: str, question_id: str) -> str:
    """Returns the id, in an export, of the row of the attempt with this key at this question."""
    return content_hash([key, question_id]).removeprefix("sha256:")[:32]


class Replies(Leases):
    """The SQL statements on replies."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self._packer, self._unpacker = zstandard.ZstdCompressor(level=3), zstandard.ZstdDecompressor()

    def _put_reply(self, try_id: int, reply: Reply) -> None:
        """Writes the packed parts of a reply; empty parts are left out."""
        filled = {k: v for k in PACKED if (v := getattr(reply, k)) not in (None, (), {})}
        text = json.dumps(filled, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        self.db.execute(
            "INSERT INTO reply (try_id, body) VALUES (?, ?) ON CONFLICT (try_id) DO UPDATE SET body = excluded.body",
            (try_id, self._packer.compress(text)),
        )
        if reply.logprobs is not None:
            self.db.execute(
                "INSERT INTO token_logprobs (try_id, body) VALUES (?, ?)"
                " ON CONFLICT (try_id) DO UPDATE SET body = excluded.body",
                (try_id, packed(reply.logprobs)),
            )

    def token_logprobs(self, attempt_id: int) -> list[TokenLogprobs]:
        """Returns the log-probabilities of an attempt's answer, or [] where the endpoint sent none.

        An answer that was cut and continued has two, in their order; [] when one of its halves has none.
        """
        halves = [
            self._row("SELECT body FROM token_logprobs WHERE try_id = ?", half["answer_try"])
            for half in self._each(
                "SELECT answer_try FROM attempt WHERE id = :id OR id = (SELECT continues FROM attempt WHERE id = :id)"
                " ORDER BY id = :id",
                {"id": attempt_id},
            )
        ]
        return [unpacked(half["body"]) for half in halves if half is not None] if all(halves) else []

    def logprobs_held(self, run_id: int) -> tuple[int, int]:
        """Returns (how many answers of a run have log-probabilities, their bytes in the store)."""
        row = self._row(
            "SELECT count(*) AS answers, coalesce(sum(length(body)), 0) AS bytes FROM attempt"
            " JOIN token_logprobs ON try_id = answer_try WHERE run_id = ?",
            run_id,
        )
        assert row is not None
        return row["answers"], row["bytes"]

    def find_reply(self, try_id: int) -> Reply | None:
        """Returns the reply, whole or in part, that one try brought; None if nothing came."""
        row = self._row(f"SELECT {REPLY_COLUMNS} FROM try JOIN reply ON reply.try_id = try.id WHERE id = ?", try_id)  # noqa: S608 - ours
        return None if row is None else self.read_reply(row)

    def reply(self, try_id: int) -> Reply:
        """Returns the reply that one try brought. Raises LookupError when the try brought none."""
        found = self.find_reply(try_id)
        if found is None:
            raise LookupError(f"try {try_id} has no reply")
        return found

    def answer_of(self, attempt_id: int) -> Reply | None:
        """Returns the reply that is an attempt's answer; None if it has none."""
        row = self._row("SELECT answer_try FROM attempt WHERE id = ?", attempt_id)
        return None if row is None or row["answer_try"] is None else self.find_reply(row["answer_try"])

    def answers_of(self, question_id: int) -> Iterator[tuple[int, Reply]]:
        """Gives (id, reply) of each teacher's answered attempt at one question. A reply is read when the caller takes
        it."""
        for r in self._all(
            "SELECT id, answer_try FROM attempt WHERE question_id = ? AND state = 'answered' AND kind = 'teacher'"
            " ORDER BY teacher, sample, max_tokens",
            question_id,
        ):
            yield r["id"], self.reply(r["answer_try"])

    def rewritings(self, attempt_ids: Iterable[int], *, kept: bool) -> dict[int, Reply]:
        """Maps the id of each of these attempts that a model rewrote to its newest rewriting. `kept`: only rewritings
        that the newest verdict on them keeps."""
        return {
            r["about"]: self.read_reply(r)
            for r in self._each(
                f"SELECT about, {REPLY_COLUMNS} FROM attempt JOIN try ON try.id = answer_try"  # noqa: S608 - ours
                " JOIN reply ON reply.try_id = try.id WHERE attempt.kind = 'rewriter'"
                " AND about IN (SELECT CAST(value AS BIGINT) FROM json_each(:ids)) AND (NOT :kept OR 'right' ="
                " (SELECT outcome FROM verdict WHERE attempt_id = about AND check_name = 'rewriting'"
                " ORDER BY id DESC LIMIT 1))"
                " ORDER BY attempt.id",
                {"ids": json.dumps(list(attempt_ids)), "kept": kept},
            )
        }

    def read_reply(self, row: Row) -> Reply:
        """Returns the reply that a row with REPLY_COLUMNS holds. If it goes on with a cut answer, both are joined."""
        body: dict[str, Any] = json.loads(self._unpacker.decompress(row["body"]))
        parts: dict[str, Any] = {"answer": "", "usage": Usage(*(row[k] for k in USAGE))}
        parts |= {k: row[k] for k in SERVED}
        parts |= {k: tuple(v) if isinstance(v, list) else v for k, v in body.items() if k in PACKED}
        reply = Reply(**parts)
        return reply if row["cut_try"] is None else joined(self.reply(row["cut_try"]), reply)
