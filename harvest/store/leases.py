"""Lets many processes collect one run in PostgreSQL: each has a lease, and claims the questions that it asks.

A lease holds by the server's clock, and its process prolongs it. When a process dies, its lease runs out; then any
other one ends it: what the dead process had in flight is in doubt, and its questions may be claimed again. As all
writing, claims are made, given back and looked at under the lock of the run's row
(harvest/store/databases/postgresql.py).

A store in a file is written by one process, which claims nothing.
"""

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from harvest.core.errors import StoreUnusable
from harvest.store.connection import Connection
from harvest.store.databases.database import Database
from harvest.store.databases.postgresql import Server
from harvest.store.databases.postgresql_liveness import BEAT_S, LEASE_S, Liveness, shown_alive

__all__ = ["BEAT_S", "Beat", "Heartbeat", "Leases"]
MOST_CLAIMED = 64
"""How many questions a process claims at a time: so many may be in doubt when it dies before the next claim."""
WITHOUT_LEASE = "AND NOT EXISTS (SELECT 1 FROM lease WHERE lease.session_id = {})"
"""The condition that a session, which the column in the braces names, has no lease."""
IS_OVER = (
    "until < clock_timestamp() AND session_id != ? AND pg_postmaster_start_time() < clock_timestamp() - interval '15 s'"
)
"""The condition that another process's lease has run out. Nobody could prolong a lease while the server was down."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What a process learns when it prolongs its lease."""

    is_lost: bool
    """Whether the lease had run out and another process has ended it."""
    others_ended: bool
    """Whether the lease of another process has run out."""
    waits: str | None
    """A line for the user about a process that keeps this one waiting, or was ended since it did; None: nothing new."""
    paces: Sequence[Mapping[str, Any]]
    """What other processes found of the pace of endpoints, each by the endpoint's place; `age_s` says how long ago."""


class Leases(Connection):
    """The SQL statements on leases and claims."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self.session_id: int | None = None
        """The session that this process began; None: none yet."""
        self.shares = False
        """Whether other processes may collect the same run at the same time."""

    def join(self, run: str, *, alone: bool) -> None:
        """Says which run this process works on, and whether it lets others collect it meanwhile. Raises StoreUnusable
        when others hold the run in another way. (A file is held as a whole.)"""
        if isinstance(self.db, Server):
            self.db.join(run, alone=alone)
            self.shares = not alone

    @contextmanager
    def one_at_a_time(self, work: str, say: Callable[[str], None]) -> Iterator[None]:
        """Waits until no other process does this work on the run, and keeps others from it while the block runs. `say`
        tells the user whom it waits for. A process that stands still is not waited for longer than a lease."""
        if not isinstance(self.db, Server):
            yield
            return
        with shown_alive(self.db, say):
            self.db.one_at_a_time(work)
            try:
                yield
            finally:
                with suppress(*self.db.errors):  # without a connection it is over anyway
                    self.db.done(work)

    def begin_lease(self, run_id: int) -> None:
        """Begins this session's lease."""
        self.db.execute(
            "INSERT INTO lease (session_id, run_id, until, beat_at, who)"
            " VALUES (?, ?, clock_timestamp() + ? * interval '1 s', clock_timestamp(), ?)",
            (self.session_id, run_id, LEASE_S, f"{socket.gethostname()}:{os.getpid()}"),
        )

    def rise_again(self, run_id: int) -> None:
        """Goes on with this session after another process took it for dead and ended its lease. What was claimed under
        that is lost."""
        self.db.execute("DELETE FROM lease WHERE session_id = ?", (self.session_id,))
        self.db.execute("UPDATE session SET ended_at = NULL, status = NULL WHERE id = ?", (self.session_id,))
        self.begin_lease(run_id)

    def end_leases(self, run_id: int, *, mine: bool = False) -> None:
        """Ends the leases that have run out, and this process's own if `mine`; all of them if this process is alone
        with the run. Their claims are given back."""
        if not self.db.is_server:
            return
        if not self.shares:
            self.db.execute("DELETE FROM lease WHERE run_id = ?", (run_id,))
        elif mine:
            self.db.execute("DELETE FROM lease WHERE session_id = ?", (self.session_id,))
        self.db.execute(f"DELETE FROM lease WHERE run_id = ? AND {IS_OVER}", (run_id, self.session_id or 0))  # noqa: S608 - ours
        self.db.execute(f"DELETE FROM claim WHERE run_id = ? {WITHOUT_LEASE.format('claim.session_id')}", (run_id,))  # noqa: S608 - ours

    def others_alive(self, run_id: int) -> bool:
        """Whether another process collects the run now: its lease holds, and so does its connection."""
        if not isinstance(self.db, Server) or not self.shares:
            return False
        rows = self._all(
            "SELECT session_id FROM lease WHERE run_id = ? AND session_id != ? AND until > clock_timestamp()",
            run_id, self.session_id or 0,
        )  # fmt: skip
        return any(self.db.is_held(f"session {row['session_id']}") for row in rows)

    def others_claim(self, run_id: int) -> bool:
        """Whether another process has questions of the run in hand, or had when it died."""
        statement = "SELECT 1 FROM claim WHERE run_id = ? AND session_id != ? AND in_hand = 1 LIMIT 1"
        return self.shares and self._row(statement, run_id, self.session_id) is not None

    def others_reserve(self, run_id: int) -> bool:
        """Whether money is reserved under the run's cap, which may become free again."""
        return self.shares and bool(
            self._one(
                "SELECT coalesce(sum(one.reserved), 0) > 0 FROM run JOIN run AS one"
                " ON one.name IN (run.name, run.under) OR one.under IN (run.name, run.under) WHERE run.id = ?",
                run_id,
            )
        )

    def claim_questions(self, run_id: int, question_ids: Sequence[int]) -> None:
        """Claims questions, which nobody has claimed."""
        self.db.execute(
            "INSERT INTO claim (question_id, run_id, session_id) SELECT CAST(value AS BIGINT), ?, ? FROM json_each(?)",
            (run_id, self.session_id, json.dumps(question_ids)),
        )

    def set_aside(self, question_id: int) -> None:
        """Notes that this process asks a question no more that it claimed, and gives it back only when it ends."""
        self.db.execute(
            "UPDATE claim SET in_hand = 0 WHERE question_id = ? AND session_id = ?", (question_id, self.session_id)
        )

    def give_back(self, question_id: int) -> None:
        """Lets a question that this process claimed be claimed again, by anybody."""
        if self.shares:
            mine = "DELETE FROM claim WHERE question_id = ? AND session_id = ?"
            self.db.execute(mine, (question_id, self.session_id))


class Heartbeat:
    """Prolongs a session's lease, over a connection of its own: so nothing that is being written holds it up."""

    def __init__(self, db: Database, main: Database, run_id: int, session_id: int) -> None:
        """`main` is the connection that writes."""
        assert isinstance(db, Server)
        assert isinstance(main, Server)
        self.db, self._run_id, self._session_id = db, run_id, session_id
        self._liveness = Liveness(db, main)

    def beat(self, pace: Mapping[str, Any]) -> Beat | None:
        """Prolongs the lease, and tells others what was found of the `pace` of endpoints. Returns what is new; None if
        the server cannot be reached now. Raises one of `db.errors` when the lease cannot be prolonged for another
        reason."""
        mine = {"run": self._run_id, "session": self._session_id, "pace": json.dumps(pace), "seconds": LEASE_S}
        try:
            kept = self.db.changed(
                "UPDATE lease SET until = clock_timestamp() + :seconds * interval '1 s', beat_at = clock_timestamp(),"
                " pace = :pace WHERE session_id = :session",
                mine,
            )
            rows = self.db.execute(
                f"SELECT session_id, {IS_OVER} AS is_over, pace,"  # noqa: S608 - ours
                " CAST(extract(epoch FROM clock_timestamp() - beat_at) AS DOUBLE PRECISION) AS age_s"
                " FROM lease WHERE run_id = ? AND session_id != ?",
                (self._session_id, self._run_id, self._session_id),
            ).fetchall()
            waits = self._liveness.look()
        except StoreUnusable:
            return None
        found = [{**json.loads(row["pace"]), "age_s": row["age_s"]} for row in rows if not row["is_over"]]
        return Beat(not kept, any(row["is_over"] for row in rows), waits, found)
