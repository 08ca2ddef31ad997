"""Shows other processes that this one is alive, and finds out for whom it waits on a server. A process that keeps
others waiting and stands still, e.g. since its machine is frozen, loses its connection.

What a process holds on the server (the lock of a work, the row of a run) belongs to its main connection. That may send
nothing for minutes while the process works. So the process sends something every few seconds over a second connection,
whose name says which main connection it speaks for.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta

from harvest.core.errors import StoreUnusable
from harvest.store.databases.postgresql import Server, opened
from harvest.store.databases.postgresql_address import NAMED

LEASE_S, BEAT_S = 30, 5
"""A process that sends nothing for LEASE_S seconds counts as dead. One that lives sends something every BEAT_S
seconds."""
FIRST_LOOK_S = 2.0
"""A process that waits looks for whom, the first time, after so many seconds."""
BLOCKER = """
    WITH RECURSIVE blocker (pid) AS (
      SELECT unnest(pg_blocking_pids(CAST(? AS INTEGER)))
      UNION SELECT unnest(pg_blocking_pids(blocker.pid)) FROM blocker
    )
    SELECT main.pid, main.application_name,
      extract(epoch FROM clock_timestamp() - coalesce(main.xact_start, beats.backend_start)) AS held_s,
      CASE WHEN beats.pid IS NOT NULL THEN
        extract(epoch FROM clock_timestamp() - greatest(main.state_change, beats.state_change)) END AS silent_s
    FROM blocker JOIN pg_stat_activity AS main ON main.pid = blocker.pid
    LEFT JOIN pg_stat_activity AS beats ON beats.application_name = ? || main.pid
    WHERE cardinality(pg_blocking_pids(main.pid)) = 0 ORDER BY held_s DESC NULLS LAST LIMIT 1
"""
"""Who keeps a connection waiting, and itself waits for nobody: for how long it has held what it holds, and for how long
it has sent nothing (NULL: it has no second connection, so nobody can tell)."""
BEATS_FOR = f"{NAMED}beats for "


class Liveness:
    """The second connection of a process: what it sends shows that the process is alive."""

    def __init__(self, db: Server, main: Server) -> None:
        self._db, self._main = db, main
        self._speaks_for = self._suspected = self._said = 0

    def look(self) -> str | None:
        """Shows that this process is alive, and looks for whom its main connection waits. Returns a line for the user
        about another process that it waits for, once for each.

        A process that is found silent for LEASE_S seconds, twice in a row, loses its connection. Raises StoreUnusable
        when there is no connection.
        """
        if (pid := self._main.pid) != self._speaks_for:
            self._db.execute(f"SET application_name = '{BEATS_FOR}{pid:d}'")
            self._speaks_for = pid
        row = self._db.execute(BLOCKER, (pid, BEATS_FOR)).fetchone()
        if row is None:
            self._suspected = 0
            return None
        other, who = int(row["pid"]), (row["application_name"] or "").removeprefix(NAMED)
        who = f"another process ({who})" if who else "another process"
        is_silent = (row["silent_s"] or 0) > LEASE_S
        if is_silent and self._suspected == other:
            with suppress(*self._db.errors, StoreUnusable):  # another user's connection, which we may not end
                self._db.execute("SELECT pg_terminate_backend(CAST(? AS INTEGER))", (other,))
            return f"{who} has sent nothing for {row['silent_s']:.0f} s: this process goes on without it"
        self._suspected = other if is_silent else 0
        if self._said == other:
            return None
        self._said = other
        since = datetime.now().astimezone() - timedelta(seconds=float(row["held_s"] or 0))
        return f"waiting for {who}, which has held the run since {since:%H:%M:%S}"


@contextmanager
def shown_alive(main: Server, say: Callable[[str], None]) -> Iterator[None]:
    """Shows that this process is alive while the block runs, and tells the user whom it waits for."""
    is_over = threading.Event()
    with closing(opened(main.url, write=False)) as db:
        liveness = Liveness(db, main)

        def look_again_and_again() -> None:
            wait_s = FIRST_LOOK_S
            while not is_over.wait(wait_s):
                wait_s = BEAT_S
                with suppress(*db.errors, StoreUnusable):  # the next look opens the connection anew
                    if words := liveness.look():
                        say(words)

        liveness.look()
        thread = threading.Thread(target=look_again_and_again, name="liveness", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
