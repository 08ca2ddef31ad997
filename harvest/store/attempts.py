"""Writes and reads attempts and their tries, and books the money that they cost.

Money is counted in whole picodollars. Each statement that moves money is in the same transaction as the row that says
why: the worst case is reserved together with the try, and is settled, freed or held in doubt together with its reply.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harvest.core.errors import AttemptFailed
from harvest.core.foreign_json import clean
from harvest.core.money import Usage
from harvest.core.nouns import Ask, Attempt, Kind, Reply
from harvest.store.databases.database import Row
from harvest.store.leases import WITHOUT_LEASE
from harvest.store.replies import Replies
from harvest.store.writing.unwritten import Settlement

LONGEST_MESSAGE = 2000
"""How many characters of a failure's message are kept."""


@dataclass(frozen=True, slots=True)
class Sent:
    """Says that the worst case of a try is reserved, so its request may be sent now."""

    attempt_id: int
    try_id: int
    reserved_pusd: int


@dataclass(frozen=True, slots=True)
class Reused:
    """Says that another attempt with the same key bought the answer already. Nothing is sent."""

    attempt_id: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class InBatch:
    """Says that an open batch asks for the answer already. Nothing is sent."""

    run: str
    """The name of the run that made the batch."""


@dataclass(frozen=True, slots=True)
class InHand:
    """Says that another process is buying the same answer now. Nothing is sent."""


@dataclass(frozen=True, slots=True)
class ClaimLost:
    """Says that the question is no longer this process's to ask. Nothing is sent."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Holds a try whose cost nobody knows yet. The most that it may have cost is held under the cap."""

    try_id: int
    question: str
    asked: Kind
    teacher: int
    """Who was asked: the index of a teacher, or STUDENT. It has no meaning for the judging model."""
    state: str
    """`answered` if a whole reply came without its cost; else `in_doubt` or `sent`."""
    failure: str | None
    """The class of the try's failure; None if a whole reply came, or if winnow ended before."""
    message: str | None
    held_pusd: int
    response_id: str | None
    sent_at: str
    ended_at: str | None


THIS_ATTEMPT = (
    "FROM attempt WHERE run_id = :run AND question_id = :question AND teacher = :teacher AND sample = :sample"
    " AND max_tokens = :max_tokens AND kind = :kind AND coalesce(about, 0) = :about AND (about IS NULL OR key = :key)"
    " AND coalesce(continues, 0) = :continues"
)
"""The part of a statement, after SELECT …, that names the attempt which an Ask asks for."""
BOUGHT = "SELECT answer_try FROM attempt WHERE key = :key AND answer_try IS NOT NULL ORDER BY +id LIMIT 1"
"""Who has bought the same. (The plus keeps the planner to the key's index.)"""
IN_OPEN_BATCH = (
    "FROM attempt CROSS JOIN try CROSS JOIN batch CROSS JOIN run WHERE try.attempt_id = attempt.id"
    " AND batch.id = try.batch_id AND run.id = batch.run_id AND batch.state != 'settled'"
)
"""The part of a statement, after SELECT …, that names the attempts which an open batch asks for."""
LOOK = (
    f"({BOUGHT}) AS bought, (SELECT run.name {IN_OPEN_BATCH} AND attempt.key = :key LIMIT 1) AS in_batch,"
    f" (SELECT id {THIS_ATTEMPT}) AS attempt"
)
"""What is looked at before a try: who has bought the same, or asks for it in a batch, and whether there was an earlier
try."""
LOOK_AMONG_OTHERS = (
    "EXISTS (SELECT 1 FROM claim WHERE question_id = :question AND session_id = :session) AS is_mine,"
    " EXISTS (SELECT 1 FROM attempt JOIN try ON try.attempt_id = attempt.id JOIN lease ON lease.session_id ="
    "  try.session_id WHERE attempt.key = :key AND try.state = 'sent' AND try.session_id != :session) AS in_hand"
)
"""What is looked at too where other processes collect the run: whose the question is, and whether one of them asks."""


class Attempts(Replies):
    """The SQL statements on attempts and tries."""

    def reserve(
        self, run_id: int, question_id: int, ask: Ask, key: str, worst_pusd: int, now: str, *, free: bool = False,
        replica: str | None = None,
    ) -> Sent | Reused | InBatch | InHand | ClaimLost | None:  # fmt: skip
        """Adds a try to an attempt, and reserves its worst case under the cap. `free` says that the try costs nothing.
        `replica` is the address that is asked, if it is another than the teacher's base_url.

        Returns Sent; Reused when the store has the answer already; InBatch when an open batch of any run asks for it;
        if others collect the run too, InHand when one of them asks for it, and ClaimLost when one may ask the question.

        Returns None, and writes nothing, when the cap has no room for the try now: the run's own, or that of the run
        under which it spends. One statement both compares with the caps and reserves, so two tries cannot both take the
        last room.
        """
        if self.shares:  # so that no process begins to buy the same in another run before this transaction ends
            lock = self.db.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(?, 0)) AS is_free", (key,))
        found = self._row(
            f"SELECT {LOOK}, {LOOK_AMONG_OTHERS}" if self.shares else f"SELECT {LOOK}",
            {"key": key, "question": question_id, "session": self.session_id, **_named(run_id, ask)},
        )
        assert found is not None
        if found["bought"] is not None:
            return self._reused(run_id, question_id, ask, key, found["bought"])
        if found["in_batch"] is not None:
            return InBatch(found["in_batch"])
        if self.shares and not found["is_mine"]:
            return ClaimLost()
        if self.shares and (found["in_hand"] or not lock.fetchone()["is_free"]):
            return InHand()
        fits = self.db.changed(
            "UPDATE run SET reserved = reserved + :x"
            " WHERE id = :run AND NOT EXISTS (SELECT 1 FROM run AS head WHERE head.name IN (run.name, run.under)"
            " AND head.cap < :x + (SELECT sum(spent + in_doubt + reserved) FROM run AS one"
            "   WHERE one.name = head.name OR one.under = head.name))",
            {"x": worst_pusd, "run": run_id},
        )
        if not fits:
            return None
        attempt_id = found["attempt"] or self._new_attempt(run_id, question_id, ask, key)
        try_id = self._insert(
            "INSERT INTO try (attempt_id, run_id, reserved, sent_at, cost_source, session_id, replica)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            attempt_id, run_id, worst_pusd, now, "free" if free else None, self.session_id, replica,
        )  # fmt: skip
        return Sent(attempt_id, try_id, worst_pusd)

    def reuse(self, run_id: int, question_id: int, ask: Ask, key: str) -> Reused | None:
        """Makes an answer that the store has the answer of this attempt. Returns None when the store has none."""
        bought = self._row(BOUGHT, {"key": key})
        return None if bought is None else self._reused(run_id, question_id, ask, key, bought["answer_try"])

    def _reused(self, run_id: int, question_id: int, ask: Ask, key: str, try_id: int) -> Reused:
        attempt_id = self._attempt(run_id, question_id, ask, key)
        self.db.execute(
            "UPDATE attempt SET state = 'answered', answer_try = :try,"
            " reused = CASE WHEN coalesce(answer_try, 0) = :try THEN 0 ELSE 1 END WHERE id = :id",
            {"try": try_id, "id": attempt_id},
        )
        return Reused(attempt_id, self.reply(try_id))

    def in_batches(self, keys: Sequence[str]) -> dict[str, str]:
        """Maps those of these keys that an open batch asks for to the name of the run that made the batch."""
        return self._pairs(  # type: ignore[return-value]
            f"SELECT attempt.key, run.name {IN_OPEN_BATCH} AND attempt.key IN (SELECT value FROM json_each(?))",  # noqa: S608 - ours
            json.dumps(keys),
        )

    def _attempt(self, run_id: int, question_id: int, ask: Ask, key: str) -> int:
        """Returns the id of an attempt, which is made if it is not there yet."""
        values = {"key": key, "question": question_id, **_named(run_id, ask)}
        row = self._row(f"SELECT id {THIS_ATTEMPT}", values)
        return self._new_attempt(run_id, question_id, ask, key) if row is None else int(row["id"])

    def _new_attempt(self, run_id: int, question_id: int, ask: Ask, key: str) -> int:
        return self._insert(
            "INSERT INTO attempt (run_id, question_id, kind, about, teacher, sample, max_tokens, key, continues)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            run_id, question_id, ask.kind, ask.about, ask.teacher, ask.sample, ask.max_tokens, key, ask.continues,
        )  # fmt: skip

    def settle(self, try_id: int, reply: Reply, cost_pusd: int | None, source: str, now: str) -> bool:
        """Writes a whole reply with its tokens and its cost. Its try may be in doubt already. Returns whether the try
        cost more than was reserved.

        If the cost is unknown (None) and there is a price, the worst case is held in doubt. If there is no price
        (`source` is "none"), the try stays unpriced.
        """
        row = self._held(try_id)
        held = int(row["reserved"])
        doubt = held if cost_pusd is None and source != "none" else None
        self._book(row, cost_pusd or 0, doubt or 0)
        self._end_try(try_id, "answered", None, reply, cost_pusd, source, doubt, now)
        self.db.execute(
            "UPDATE attempt SET state = 'answered', reason = NULL, answer_try = coalesce(answer_try, ?)"
            " WHERE id = (SELECT attempt_id FROM try WHERE id = ?)",
            (try_id, try_id),
        )
        return cost_pusd is not None and cost_pusd > held

    def settle_failure(
        self, try_id: int, failure: AttemptFailed, reply: Reply | None, cost_pusd: int | None, source: str, now: str
    ) -> bool:
        """Writes how a try failed, with the part of its reply that came. Returns whether the try cost more than was
        reserved.

        A known cost is booked. The worst case of an unknown cost is held in doubt if the try may have been billed (its
        failure's class says so, or the endpoint's usage is not believed); else the reserved money is free again.
        """
        row = self._held(try_id)
        held = int(row["reserved"])
        may_be_billed = failure.in_doubt or (reply is not None and any(kind == "usage" for kind, _ in reply.claims))
        doubt = held if cost_pusd is None and may_be_billed else None
        self._book(row, cost_pusd or 0, doubt or 0)
        self._end_try(try_id, "failed" if doubt is None else "in_doubt", failure, reply, cost_pusd, source, doubt, now)
        return cost_pusd is not None and cost_pusd > held

    def settle_later(self, settlement: Settlement) -> bool:
        """Settles a try as it should have been settled when its reply came. Returns False, and writes nothing, if it is
        settled. Raises LookupError when the store has no such try, or when the settlement means nothing."""
        row = self._row("SELECT state, sent_at, ended_at FROM try WHERE id = ?", settlement.try_id)
        if row is None or settlement.sent_at not in (None, row["sent_at"]) or not settlement.more:
            raise LookupError(f"no try {settlement.try_id} that was sent at {settlement.sent_at}")
        if row["state"] == "answered" or row["ended_at"] == settlement.more[-1]:
            return False
        getattr(self, settlement.method)(settlement.try_id, *settlement.more)
        return True

    def sent_at(self, try_id: int) -> str | None:
        """Returns when a try was sent; None if there is no such try."""
        row = self._row("SELECT sent_at FROM try WHERE id = ?", try_id)
        return None if row is None else str(row["sent_at"])

    def doubts(self, run_id: int, *, unsettled_too: bool = False) -> list[Doubt]:
        """Returns the tries in doubt, the oldest first. `unsettled_too` adds the tries that were sent and not settled,
        which are in doubt too if no process is asking (`hold_unsettled`)."""
        return self._as(
            Doubt,
            "SELECT try.id AS try_id, question.name AS question, attempt.kind AS asked, teacher, try.state AS state,"
            " try.kind AS failure, message, coalesce(doubt, try.reserved) AS held_pusd, response_id, sent_at, ended_at"
            " FROM try JOIN attempt ON attempt.id = attempt_id JOIN question ON question.id = question_id"
            " WHERE try.id IN (SELECT id FROM try WHERE run_id = :run AND doubt IS NOT NULL UNION ALL"
            "  SELECT id FROM try WHERE run_id = :run AND state = 'sent' AND coalesce(cost_source, '') != 'free'"
            "  AND :unsettled)"
            " ORDER BY try.id",
            {"run": run_id, "unsettled": unsettled_too},
        )

    def booked_by_asked(self, run_id: int) -> dict[tuple[Kind, int], int]:
        """Maps (kind of attempt, index of the teacher or STUDENT) to what is booked for its tries, spent and in doubt
        together."""
        rows = self.db.execute(
            "SELECT attempt.kind, teacher, sum(coalesce(cost, 0) + coalesce(doubt, 0)) FROM try"
            " JOIN attempt ON attempt.id = attempt_id WHERE try.run_id = ? GROUP BY 1, 2 ORDER BY 1, 2",
            (run_id,),
        )
        return {(kind, place): booked for kind, place, booked in rows}

    def has_try(self, run_id: int, try_id: int) -> bool:
        return self._row("SELECT 1 FROM try WHERE id = ? AND run_id = ?", try_id, run_id) is not None

    def settle_doubt(self, try_id: int, cost_pusd: int, by: str, now: str) -> bool:
        """Books what a try in doubt cost, and frees what was held for it. `by` says who told the cost: `provider` or
        `user`. Returns False, and writes nothing, when the try is not in doubt."""
        row = self._row("SELECT run_id, doubt FROM try WHERE id = ? AND doubt IS NOT NULL", try_id)
        if row is None:
            return False
        self._spend(try_id, cost_pusd, -row["doubt"])
        self.db.execute(
            "UPDATE try SET state = CASE state WHEN 'in_doubt' THEN 'failed' ELSE state END, cost = ?, doubt = NULL,"
            " settled_by = ?, settled_at = ? WHERE id = ?",
            (cost_pusd, by, now, try_id),
        )
        return True

    def was_late(self, attempt_id: int, deadline_s: float) -> None:
        """Notes that a try of an attempt was late at this deadline."""
        self.db.execute(
            "UPDATE attempt SET waited_s = ? WHERE id = ? AND waited_s < ?", (deadline_s, attempt_id, deadline_s)
        )

    def fail_attempt(self, attempt_id: int, reason: str) -> None:
        """Marks an attempt as failed: it gets no more tries in this start. `reason` is the class of its last
        failure."""
        self.db.execute(
            "UPDATE attempt SET state = 'failed', reason = ? WHERE id = ? AND answer_try IS NULL", (reason, attempt_id)
        )

    def hold_unsettled(self, run_id: int, now: str) -> None:
        """Ends the tries that are not settled when asking ends. Free tries fail with the class `cut`; the worst case of
        each other one is held in doubt. What other processes that are alive have sent stays as it is."""
        self.end_leases(run_id)
        theirs = WITHOUT_LEASE.format("try.session_id") if self.db.is_server else ""
        held = self._one(
            f"SELECT coalesce(sum(reserved), 0) FROM try WHERE run_id = ? AND state = 'sent' {theirs}",  # noqa: S608 - ours
            run_id,
        )
        self.db.execute(
            "UPDATE run SET reserved = reserved - ?, in_doubt = in_doubt + ? WHERE id = ?", (held, held, run_id)
        )
        self.db.execute(
            "UPDATE try SET state = 'failed', kind = 'cut', cost = 0, ended_at = ?,"  # noqa: S608 - ours
            " message = 'winnow ended before the reply came' WHERE run_id = ? AND state = 'sent'"
            f" AND cost_source = 'free' {theirs}",
            (now, run_id),
        )
        self.db.execute(
            "UPDATE try SET state = 'in_doubt', doubt = reserved, ended_at = ?,"  # noqa: S608 - ours
            f" message = 'winnow ended before the reply came' WHERE run_id = ? AND state = 'sent' {theirs}",
            (now, run_id),
        )

    def _held(self, try_id: int) -> Row:
        """Returns a try's row with what is held for it. Raises LookupError when there is no such try."""
        row = self._row("SELECT run_id, state, reserved, doubt, cost FROM try WHERE id = ?", try_id)
        if row is None:
            raise LookupError(f"no try {try_id}")
        return row

    def _book(self, row: Row, cost_pusd: int, doubt_pusd: int) -> None:
        """Takes what is held for a try (reserved, in doubt or spent) off the run's books, and books what it cost and
        what is in doubt instead."""
        held = (row["reserved"], 0, 0) if row["state"] == "sent" else (0, row["doubt"] or 0, row["cost"] or 0)
        self.db.execute(
            "UPDATE run SET reserved = reserved - ?, in_doubt = in_doubt - ? + ?, spent = spent - ? + ? WHERE id = ?",
            (held[0], held[1], doubt_pusd, held[2], cost_pusd, row["run_id"]),
        )

    def _spend(self, try_id: int, cost_pusd: int, doubt_pusd: int) -> None:
        self.db.execute(
            "UPDATE run SET spent = spent + ?, in_doubt = in_doubt + ?"
            " WHERE id = (SELECT run_id FROM try WHERE id = ?)",
            (cost_pusd, doubt_pusd, try_id),
        )

    def _end_try(
        self, try_id: int, state: str, failure: AttemptFailed | None, reply: Reply | None, cost_pusd: int | None,
        source: str, doubt_pusd: int | None, now: str,
    ) -> None:  # fmt: skip
        """Writes how a try ended, and its reply if one came."""
        kind, message = (failure.kind, clean(str(failure)[:LONGEST_MESSAGE])) if failure else (None, None)
        usage = reply.usage if reply else Usage()
        served = reply or Reply("")
        self.db.execute(
            "UPDATE try SET state = ?, kind = ?, message = ?, cost = ?, cost_source = ?, doubt = ?, input_tokens = ?,"
            " cached_input_tokens = ?, output_tokens = ?, reasoning_tokens = ?, finish_reason = ?, served_model = ?,"
            " served_by = ?, system_fingerprint = ?, response_id = ?, ended_at = ? WHERE id = ?",
            (
                state, kind, message or None, cost_pusd, source, doubt_pusd, usage.input_tokens,
                usage.cached_input_tokens, usage.output_tokens, usage.reasoning_tokens, served.finish_reason,
                served.served_model, served.served_by, served.system_fingerprint, served.response_id, now, try_id,
            ),
        )  # fmt: skip
        if reply is not None:
            self._put_reply(try_id, reply)
            self.db.executemany(
                "INSERT INTO endpoint_claim (try_id, kind, words) VALUES (?, ?, ?)"
                " ON CONFLICT (try_id, kind) DO UPDATE SET words = excluded.words",
                [(try_id, kind, words) for kind, words in reply.claims],
            )

    def attempts_of(self, question_id: int) -> tuple[Attempt, ...]:
        """Returns the teachers' and the student's attempts at one question, in the order in which they were made."""
        return self.attempts_of_all([question_id])[question_id]

    def attempts_of_all(self, question_ids: Sequence[int]) -> dict[int, tuple[Attempt, ...]]:
        """Maps questions to the teachers' and the student's attempts at them, in the order in which they were made."""
        found: dict[int, tuple[Attempt, ...]] = dict.fromkeys(question_ids, ())
        rows = self.db.execute(
            "SELECT id, sample, max_tokens, state, accepted, reason, teacher, waited_s, continues, question_id"
            " FROM attempt WHERE question_id IN (SELECT CAST(value AS BIGINT) FROM json_each(?)) AND about IS NULL"
            " ORDER BY id",
            (json.dumps(question_ids),),
        )
        for row in rows:
            found[row["question_id"]] += (read_attempt(row),)
        return found


def _named(run_id: int, ask: Ask) -> dict[str, Any]:
    """Returns the values for THIS_ATTEMPT, without the question and the key."""
    values: dict[str, Any] = {"run": run_id, "about": ask.about or 0, "continues": ask.continues or 0}
    return values | {name: getattr(ask, name) for name in ("teacher", "sample", "max_tokens", "kind")}


def read_attempt(row: Row) -> Attempt:
    """Returns the attempt that a row with these columns holds."""
    accepted = None if row["accepted"] is None else bool(row["accepted"])
    names = ("id", "sample", "max_tokens", "state", "reason", "teacher", "waited_s", "continues")
    return Attempt(accepted=accepted, **{name: row[name] for name in names})
