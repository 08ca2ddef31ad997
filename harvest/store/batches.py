"""Writes and reads batches: many tries that are sent in one file and answered together.

A batch and all its tries are written, and their worst case reserved, in one transaction, before anything is uploaded.
A batch is open until every one of its tries is settled. A try in an open batch is not asked for again.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harvest.core.errors import AttemptFailed
from harvest.core.nouns import Ask, Attempt, Question, Reply
from harvest.store.attempts import Reused, read_attempt
from harvest.store.databases.database import Row
from harvest.store.questions import Questions

RESERVED, UPLOADED, CREATED, SETTLED = "reserved", "uploaded", "created", "settled"
"""The states of a batch: its money is reserved; its file is at the endpoint; the endpoint runs it; all is settled."""

ALL = 2**62
"""As many rows as there are."""
BY_KEY = (
    "SELECT try.id AS try_id, try.reserved, try.sent_at, attempt.*, question.body FROM attempt CROSS JOIN try"
    " CROSS JOIN question WHERE try.attempt_id = attempt.id AND question.id = attempt.question_id AND "
)
IN_ORDER = (
    "SELECT try.id AS try_id, try.reserved, try.sent_at, attempt.*, question.body FROM try CROSS JOIN attempt"
    " CROSS JOIN question WHERE attempt.id = try.attempt_id AND question.id = attempt.question_id AND "
)


@dataclass(frozen=True, slots=True)
class RowToSend:
    """Holds one row of a batch that is to be made."""

    question_id: int
    ask: Ask
    key: str
    worst_pusd: int


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """Holds one batch."""

    id: int
    name: str
    """Our own id of the batch, which the endpoint keeps in the batch's metadata."""
    teacher: int
    rows: int
    state: str
    file_id: str | None
    """The uploaded file's id at the endpoint."""
    batch_id: str | None
    """The batch's id at the endpoint."""
    made_at: str


@dataclass(frozen=True, slots=True)
class BatchTry:
    """Holds one try of a batch whose result has come."""

    try_id: int
    question_id: int
    question: Question
    attempt: Attempt
    key: str
    reserved_pusd: int
    sent_at: str


@dataclass(frozen=True, slots=True)
class RowSettlement:
    """Says how one try of a batch ended."""

    try_id: int
    reply: Reply | None
    failure: AttemptFailed | None
    """None: a whole reply came."""
    cost_pusd: int | None
    source: str


class Batches(Questions):
    """The SQL statements on batches."""

    def room_pusd(self, run_id: int) -> int | None:
        """Returns how much the cap leaves: the run's own, or that of the run under which it spends. None: there is no
        cap."""
        return self._one(  # type: ignore[no-any-return]
            "SELECT min(head.cap - (SELECT sum(spent + in_doubt + reserved) FROM run AS one"
            "   WHERE one.name = head.name OR one.under = head.name))"
            " FROM run JOIN run AS head ON head.name IN (run.name, run.under) AND head.cap IS NOT NULL"
            " WHERE run.id = ?",
            run_id,
        )

    def reuse_all(self, run_id: int, rows: Sequence[RowToSend]) -> list[Reused | None]:
        """Does for each row what `reuse` does."""
        return [self.reuse(run_id, row.question_id, row.ask, row.key) for row in rows]

    def tries_since(self, attempt_ids: Sequence[int], since: str) -> dict[int, int]:
        """Maps attempts to how many tries of a batch that ran were made for them since a moment."""
        return self._pairs(  # type: ignore[return-value]
            "SELECT attempt_id, count(*) FROM try JOIN batch ON batch.id = try.batch_id WHERE attempt_id IN"
            " (SELECT CAST(value AS BIGINT) FROM json_each(?)) AND sent_at >= ? AND batch.batch_id IS NOT NULL"
            " AND batch.refused = 0"
            " GROUP BY 1",
            json.dumps(attempt_ids), since,
        )  # fmt: skip

    def reserve_batch(
        self, run_id: int, teacher: int, name: str, rows: Sequence[RowToSend], now: str
    ) -> StoredBatch | None:
        """Writes a batch with its tries, and reserves the worst case of all of them. Returns None, and writes nothing,
        when the cap has no room for it now."""
        worst, room = sum(row.worst_pusd for row in rows), self.room_pusd(run_id)
        if room is not None and worst > room:
            return None
        self.db.execute("UPDATE run SET reserved = reserved + ? WHERE id = ?", (worst, run_id))
        batch_id = self._insert(
            "INSERT INTO batch (run_id, teacher, name, rows, state, made_at) VALUES (?, ?, ?, ?, ?, ?)",
            run_id, teacher, name, len(rows), RESERVED, now,
        )  # fmt: skip
        self.db.executemany(
            "INSERT INTO try (attempt_id, run_id, reserved, sent_at, batch_id) VALUES (?, ?, ?, ?, ?)",
            (
                (self._attempt(run_id, row.question_id, row.ask, row.key), run_id, row.worst_pusd, now, batch_id)
                for row in rows
            ),
        )
        return StoredBatch(batch_id, name, teacher, len(rows), RESERVED, None, None, now)

    def open_batches(self, run_id: int) -> list[StoredBatch]:
        """Returns the batches that are not settled, the oldest first."""
        return self._as(
            StoredBatch,
            "SELECT id, name, teacher, rows, state, file_id, batch_id, made_at FROM batch"
            " WHERE run_id = ? AND state != 'settled' ORDER BY id",
            run_id,
        )

    def held_in_batches(self, run_id: int) -> tuple[int, int]:
        """Returns (how many tries are in open batches and not settled, the worst case of them in picodollars)."""
        row = self.db.execute(
            "SELECT count(*), coalesce(sum(try.reserved), 0) FROM batch JOIN try ON try.batch_id = batch.id"
            " WHERE batch.run_id = ? AND batch.state != 'settled' AND try.state IN ('sent', 'in_doubt')",
            (run_id,),
        ).fetchone()
        return row[0], row[1]

    def in_open_batches(self, try_ids: Sequence[int]) -> set[int]:
        """Returns those of these tries whose batch is not settled."""
        rows = self.db.execute(
            "SELECT try.id FROM try JOIN batch ON batch.id = try.batch_id WHERE batch.state != 'settled'"
            " AND try.id IN (SELECT CAST(value AS BIGINT) FROM json_each(?))",
            (json.dumps(try_ids),),
        )
        return {try_id for (try_id,) in rows}

    def stored_batch(self, batch: int) -> StoredBatch | None:
        """Returns one batch; None if there is none."""
        found = self._as(
            StoredBatch,
            "SELECT id, name, teacher, rows, state, file_id, batch_id, made_at FROM batch WHERE id = ?",
            batch,
        )
        return found[0] if found else None

    def batch_uploaded(self, batch: int, file_id: str) -> None:
        self.db.execute("UPDATE batch SET state = ?, file_id = ? WHERE id = ?", (UPLOADED, file_id, batch))

    def batch_created(self, batch: int, batch_id: str, now: str) -> None:
        self.db.execute(
            "UPDATE batch SET state = ?, batch_id = ?, created_at = ? WHERE id = ?", (CREATED, batch_id, now, batch)
        )

    def batch_tries(self, batch: int, keys: Iterable[str]) -> dict[str, BatchTry]:
        """Maps keys to the batch's tries for them that are not settled, or settled by what the user said alone."""
        rows = self._each(
            BY_KEY  # noqa: S608 - ours
            + "attempt.key IN (SELECT value FROM json_each(?)) AND +try.batch_id = ?"
            " AND (try.state IN ('sent', 'in_doubt') OR try.settled_by IS NOT NULL)",
            json.dumps(list(keys)), batch,
        )  # fmt: skip
        return {row["key"]: _try_of(row) for row in rows}

    def settle_rows(self, rows: Sequence[RowSettlement], now: str) -> None:
        """Writes how tries of a batch ended, and books what they cost."""
        for row in rows:
            if row.failure is None and row.reply is not None:
                self.settle(row.try_id, row.reply, row.cost_pusd, row.source, now)
            elif row.failure is not None:
                self.settle_failure(row.try_id, row.failure, row.reply, row.cost_pusd, row.source, now)

    def unsettled_ids(self, batch: int) -> list[int]:
        """Returns the ids of a batch's tries that are not settled, in the order of the file's lines."""
        statement = "SELECT id FROM try WHERE batch_id = ? AND state IN ('sent', 'in_doubt') ORDER BY id"
        return [try_id for (try_id,) in self.db.execute(statement, (batch,))]

    def unsettled_tries(self, batch: int, after: int = 0, limit: int = ALL) -> list[BatchTry]:
        """Returns at most `limit` tries of a batch that are not settled, after the try `after`, in the order of the
        file's lines."""
        rows = self._each(
            IN_ORDER + "try.batch_id = ? AND try.id > ? AND try.state IN ('sent', 'in_doubt') ORDER BY try.id LIMIT ?",
            batch, after, limit,
        )  # fmt: skip
        return [_try_of(row) for row in rows]

    def first_try(self, batch: int) -> int:
        """Returns the try of the first line of a batch's file. The others follow it in their order."""
        return int(self._one("SELECT min(id) FROM try WHERE batch_id = ?", batch))

    def lower_reserve(self, try_id: int, to_pusd: int) -> None:
        """Holds less for a try that is not settled, since it cannot have cost more."""
        row = self._held(try_id)
        less = min(int(row["reserved"]), to_pusd)
        if row["state"] == "sent":
            self.db.execute(
                "UPDATE run SET reserved = reserved - ? + ? WHERE id = ?", (row["reserved"], less, row["run_id"])
            )
        else:
            self._book(row, 0, less)
        self.db.execute(
            "UPDATE try SET reserved = ?, doubt = CASE state WHEN 'sent' THEN doubt ELSE ? END WHERE id = ?",
            (less, less, try_id),
        )

    def batch_refused(self, batch: int) -> None:
        """Notes that the endpoint runs nothing of a batch, so that its tries do not count."""
        self.db.execute("UPDATE batch SET refused = 1 WHERE id = ?", (batch,))

    def end_batch(self, batch: int, now: str) -> None:
        """Notes that every try of a batch is settled."""
        self.db.execute("UPDATE batch SET state = ?, ended_at = ? WHERE id = ?", (SETTLED, now, batch))


def _try_of(row: Row) -> BatchTry:
    question = Question.model_validate_json(row["body"])
    attempt = read_attempt(row)
    return BatchTry(row["try_id"], row["question_id"], question, attempt, row["key"], row["reserved"], row["sent_at"])
