"""Connects to a store in PostgreSQL. All that is particular to PostgreSQL is here, in postgresql_schema.py and in
postgresql_address.py.

Any number of processes on any machines may write. Every transaction of a process first locks the row of the run that it
works on, which holds the run's money, so the writers of one run take turns as those of a file do. A lost connection is
opened anew by the next transaction.
"""

import re
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from harvest.core.errors import MissingExtra, NoStoreYet, StoreUnusable
from harvest.store.databases import postgresql_schema as schema
from harvest.store.databases.postgresql_address import files_of, here, in_words, is_unclear, without_password

if TYPE_CHECKING:
    import psycopg

CONNECT_S = 10
"""How many seconds one attempt to connect may take."""
NOTICED = {
    "tcp_keepalives_idle": 10,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""Settings of a connection: within 25 s the server notices that our machine is gone, and drops what the connection had
locked. By default that takes two hours."""
LEAST_LOCK_S = 2.0
"""A statement waits at least so long for a lock. Writers of one run hold it for moments, one after the other."""
LIMBO_S, LOOK_AGAIN_S = 60.0, 0.2
"""For how many seconds we look whether a transaction was written whose connection was lost while it was committed, and
how often."""
MARK = "INSERT INTO committed (writer, n) VALUES (%s, %s) ON CONFLICT (writer) DO UPDATE SET n = excluded.n"
LAST_MARK = (
    "INSERT INTO committed (writer, n) VALUES (%s, 0) ON CONFLICT (writer) DO UPDATE SET n = committed.n RETURNING n"
)
"""The number of a writer's last transaction that was written. It waits for one that is still being written. (An id that
the server gives says nothing: after a crash it gives the same id to another transaction.)"""
OFTEN, IDS_AT_ONCE = frozenset({"attempt", "try"}), 64
"""The tables whose new ids a process takes some at a time, so that it need not wait for each one."""
FEW = 16
"""So many rows at most are written one by one."""
READ_S = 30.0
"""For how many seconds a process that writes opens a lost connection again for what it reads."""
PAGE = 500
"""How many rows come at a time when rows are read one after another."""
PLACEHOLDER = re.compile(r"'(?:[^']|'')*'|(?P<place>\?)|(?<!:):(?P<name>[a-z_]\w*)|%")


class Record:
    """One row: its values by the columns' names, or in order."""

    __slots__ = ("_names", "_values")

    def __init__(self, names: dict[str, int], values: Sequence[Any]) -> None:
        self._names, self._values = names, values

    def __getitem__(self, key: str | int) -> Any:
        return self._values[self._names[key] if isinstance(key, str) else key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def keys(self) -> Iterable[str]:
        return self._names.keys()


class Server:
    """A connection to PostgreSQL. (A Database, see database.py.)"""

    is_server = True

    def __init__(self, url: str, *, write: bool) -> None:
        import psycopg

        self.url, self.words, self.path = url, without_password(url), files_of(url)
        self.errors: tuple[type[Exception], ...] = (psycopg.Error,)
        self._write = write
        self._statements: dict[str, str] = {}
        self._began, self._cursors = False, 0
        self._pipeline: Any = None
        self._writer, self._commits = uuid.uuid4().hex, 0
        self._ids: dict[str, deque[int]] = {}
        self._lock_s = 0.0
        self.run: str | None = None
        """The run that this process works on. Each transaction locks its row first, and that of the run under whose cap
        it spends."""
        self._alone = False
        self._held: list[str] = []
        self.pid = 0
        """The number that the connection has on the server."""
        self._db = self._connected()

    @property
    def in_transaction(self) -> bool:
        return self._began

    def execute(self, statement: str, values: Any = ()) -> "psycopg.Cursor[Any]":
        import psycopg

        spelt = self._spelt(statement)
        if self._began:
            return self._db.execute(spelt, values, binary=True)
        until_s = time.monotonic() + READ_S
        while True:
            try:
                return self._live().execute(spelt, values, binary=True)
            except (psycopg.OperationalError, psycopg.InterfaceError) as e:
                if not self._db.closed or not self._write or time.monotonic() > until_s:
                    raise StoreUnusable(f"store {self.words}: {self.in_words(e)}") from e
            time.sleep(LOOK_AGAIN_S)

    def executemany(self, statement: str, values: Iterable[Any]) -> None:
        rest = iter(values)
        if self._pipeline is not None:
            if len(first := list(islice(rest, FEW))) < FEW:
                for value in first:
                    self.execute(statement, value)
                return
            self._end_pipeline()
            rest = chain(first, rest)
        with self._live().cursor() as cursor:
            while page := list(islice(rest, PAGE)):  # what makes the values may ask this connection too
                cursor.executemany(self._spelt(statement), page)

    def script(self, statements: str) -> None:
        """Runs several statements, which have no placeholders."""
        self._live().execute(statements)

    def insert(self, statement: str, values: Any) -> int:
        table = statement.split(" ", 3)[2]
        if table not in OFTEN:
            row = self.execute(f"{statement} RETURNING id", values).fetchone()
            assert row is not None
            return int(row[0])
        ids = self._ids.setdefault(table, deque())
        if not ids:
            found = self.execute(f"SELECT nextval('{table}_id_seq') FROM generate_series(1, {IDS_AT_ONCE:d})")  # noqa: S608 - ours
            ids.extend(int(row[0]) for row in found)
        new = ids.popleft()
        self.execute(self._with_id(statement), (new, *values))
        return new

    def changed(self, statement: str, values: Any) -> int:
        return len(self.execute(f"{statement} RETURNING 1", values).fetchall())

    def each(self, statement: str, values: Any) -> Iterator[Any]:
        self._end_pipeline()
        db = self._live()
        self._cursors += 1
        with closing(db.cursor(f"rows_{self._cursors}", withhold=not self._began)) as cursor:
            cursor.itersize = PAGE
            yield from cursor.execute(self._spelt(statement), values, binary=True)

    def tuples(self, statement: str, values: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.execute(statement, values)]

    def begin(self) -> None:
        """Begins a transaction, and locks the run's row. Statements are sent without waiting for each one: only what is
        read is waited for, and an error may come at a later statement."""
        self._began = False
        db = self._live()
        self._pipeline = db.pipeline()
        self._pipeline.__enter__()
        self._began = True
        db.execute("BEGIN")
        db.execute(LOCK_ALL) if self.run is None else db.execute(LOCK_RUN, {"name": self.run})

    def commit(self) -> None:
        import psycopg

        self._commits += 1
        try:
            self._db.execute(MARK, (self._writer, self._commits))
            self._end_pipeline()
            self._db.execute("COMMIT")
        except psycopg.OperationalError:
            if not self._db.closed or not self._was_committed():
                raise
        self._began = False

    def rollback(self) -> None:
        import psycopg

        with suppress(psycopg.Error):  # what made the transaction fail is told already
            self._end_pipeline()
        self._began = False
        if not self._db.closed:
            self._db.execute("ROLLBACK")

    def wait(self) -> None:
        """Waits until everything that was sent is done, and sends the rest of the transaction statement by
        statement."""
        self._end_pipeline()

    def _end_pipeline(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.__exit__(None, None, None)

    def close(self) -> None:
        import psycopg

        with suppress(psycopg.Error):
            if self._commits and not self._began:
                self._db.execute("DELETE FROM committed WHERE writer = %s", (self._writer,))
        self._db.close()

    def wait_for_lock(self, seconds: float) -> None:
        self._lock_s = max(seconds, LEAST_LOCK_S)
        if not self._db.closed:
            self._db.execute(f"SET lock_timeout = {round(self._lock_s * 1000):d}")

    def data_version(self) -> int:
        row = self.execute("SELECT sum(n_tup_ins + n_tup_upd) FROM pg_stat_user_tables WHERE relname = 'attempt'")
        return int(row.fetchone()[0] or 0)  # type: ignore[index]

    def in_words(self, error: Exception) -> str:
        return in_words(error, self.url)

    def join(self, run: str, *, alone: bool) -> None:
        """Takes the lock of a run, alone or together with others that collect it. Raises StoreUnusable when others
        hold it in another way."""
        self.run, self._alone = run, alone
        self._take_run_lock(self._db)

    def hold(self, what: str) -> None:
        """Holds a lock of this name as long as the connection lives."""
        self._held.append(what)
        self.execute("SELECT pg_advisory_lock_shared(hashtextextended(?, 0))", (f"winnow {what}",))

    def is_held(self, what: str) -> bool:
        """Whether another process holds the lock of this name."""
        key = (f"winnow {what}",)
        row = self.execute("SELECT pg_try_advisory_lock(hashtextextended(?, 0))", key).fetchone()
        if row is None or not row[0]:
            return True
        self.execute("SELECT pg_advisory_unlock(hashtextextended(?, 0))", key)
        return False

    def one_at_a_time(self, what: str) -> None:
        """Waits until no other process does this work, and holds it until `done`."""
        self.execute("SET lock_timeout = 0")
        self.execute("SELECT pg_advisory_lock(hashtextextended(?, 0))", (f"winnow {what} {self.run}",))
        self.wait_for_lock(self._lock_s)

    def done(self, what: str) -> None:
        self.execute("SELECT pg_advisory_unlock(hashtextextended(?, 0))", (f"winnow {what} {self.run}",))

    # ---- the connection

    def _live(self) -> "psycopg.Connection[Any]":
        """Returns the connection; a new one if it was lost and nothing is half done."""
        if self._db.closed and not self._began:
            self._db = self._connected()
        return self._db

    def _connected(self) -> "psycopg.Connection[Any]":
        db = connected(self.url)
        self.pid = db.info.backend_pid
        self._ids.clear()  # after a crash the server gives them to others, if the transaction that took them is lost
        if self._lock_s:
            db.execute(f"SET lock_timeout = {round(self._lock_s * 1000):d}")
        if not self._write:
            db.execute("SET default_transaction_read_only = on")
        if self.run is not None:
            self._take_run_lock(db)
        for what in self._held:
            db.execute("SELECT pg_advisory_lock_shared(hashtextextended(%s, 0))", (f"winnow {what}",))
        return db

    def _take_run_lock(self, db: "psycopg.Connection[Any]") -> None:
        shared = "" if self._alone else "_shared"
        key = f"winnow run {self.run}"
        row = db.execute(f"SELECT pg_try_advisory_lock{shared}(hashtextextended(%s, 0))", (key,)).fetchone()
        if row is None or not row[0]:
            other = "other processes are collecting it" if self._alone else "another command is changing it"
            raise StoreUnusable(f"store {self.words}: run {self.run!r} is in use: {other}. Wait for it")

    def _was_committed(self) -> bool:
        """Whether the last transaction was written, whose connection was lost while it was committed."""
        import psycopg

        until_s = time.monotonic() + LIMBO_S
        self._began = False
        while time.monotonic() < until_s:
            with suppress(psycopg.OperationalError):
                row = self._live().execute(LAST_MARK, (self._writer,)).fetchone()
                return row is not None and bool(row[0] == self._commits)
            time.sleep(LOOK_AGAIN_S)
        return False

    def _with_id(self, statement: str) -> str:
        """Returns a statement that inserts a row, with the row's id as its first value."""
        key = f"{statement} with id"
        if key not in self._statements:
            told = statement.replace(" (", " (id, ", 1)
            self._statements[key] = _with_first_value(told)
        return self._statements[key]

    def _spelt(self, statement: str) -> str:
        """Returns a statement with psycopg's placeholders."""
        found = self._statements.get(statement)
        if found is None:
            found = self._statements[statement] = PLACEHOLDER.sub(_placeholder, statement)
        return found


def _with_first_value(statement: str) -> str:
    head, _, tail = statement.rpartition("VALUES (")
    return f"{head}VALUES (?, {tail}"


LOCK_ALL = "SELECT 1 FROM run ORDER BY id FOR UPDATE"
LOCK_RUN = (
    "SELECT 1 FROM run WHERE name = %(name)s"
    " OR name = (SELECT under FROM run AS this WHERE this.name = %(name)s) ORDER BY id FOR UPDATE"
)


def _placeholder(found: re.Match[str]) -> str:
    if found["place"]:
        return "%s"
    if found["name"]:
        return f"%({found['name']})s"
    return found[0].replace("%", "%%")


def opened(url: str, *, write: bool) -> Server:
    """Opens a store. If it is opened to write, its tables are first made or brought up to date.

    Raises StoreUnusable when there is no server, when it lets nobody in with this URL, and when the database holds no
    store of ours; MissingExtra when psycopg is not installed.
    """
    try:
        import psycopg
    except ImportError:
        raise MissingExtra("a store in PostgreSQL", "postgres") from None
    if is_unclear(url):
        raise StoreUnusable(
            f"store {without_password(url)}: the URL is unclear: in a user, a password and a database's name, write @"
            " as %40, / as %2F, ? as %3F and # as %23"
        )
    try:
        server = Server(url, write=write)
        try:
            _prepare(server, write)
        except BaseException:
            server.close()
            raise
    except (psycopg.Error, OSError, ValueError) as e:
        raise StoreUnusable(f"store {without_password(url)}: {in_words(e, url)}") from None
    return server


def connected(url: str) -> "psycopg.Connection[Any]":
    """Returns a new connection."""
    import psycopg
    from psycopg.types.numeric import Int8Dumper, NumericBinaryLoader, NumericLoader
    from psycopg.types.string import StrDumper

    class Plain(StrDumper):
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", "\ufffd") if "\0" in obj else obj)  # no text here holds character 0

    class Text(NumericLoader):
        def load(self, data: Any) -> Any:
            return _number(super().load(data))

    class Binary(NumericBinaryLoader):
        def load(self, data: Any) -> Any:
            return _number(super().load(data))

    db = psycopg.connect(
        url, autocommit=True, connect_timeout=CONNECT_S, application_name=here(), client_encoding="utf8",
        row_factory=_records, keepalives_idle=30, keepalives_interval=10, tcp_user_timeout=30_000, prepare_threshold=2,
    )  # fmt: skip
    db.execute("; ".join(f"SET {name} = {value:d}" for name, value in NOTICED.items()))
    db.adapters.register_dumper(int, Int8Dumper)  # one type for all numbers: each statement is prepared once
    db.adapters.register_dumper(str, Plain)
    db.adapters.register_loader("numeric", Text)
    db.adapters.register_loader("numeric", Binary)
    return db


def _number(value: Any) -> Any:
    """Returns a sum of whole numbers as a whole number."""
    return int(value) if value == value.to_integral_value() else float(value)


def _records(cursor: Any) -> Any:
    result = cursor.pgresult
    names: dict[str, int] = {}
    for n in range(result.nfields if result else 0):
        names.setdefault(result.fname(n).decode(), n)
    return lambda values: Record(names, values)


def _prepare(server: Server, write: bool) -> None:
    """Brings the tables up to date if `write`. Raises StoreUnusable when the database is not ours, or has a version
    that cannot be used."""
    newest = schema.FIRST_VERSION - 1 + len(schema.MIGRATIONS)
    if write and _version(server) != newest:
        server.script("BEGIN")
        server.execute("SELECT pg_advisory_xact_lock(hashtextextended('winnow tables', 0))")
        version = _version(server)
        if version == 0 and not _has(server, "winnow"):
            if _has(server, "run"):
                raise StoreUnusable(f"store {server.words}: another program's tables are in it: use an empty database")
            server.script(schema.VERSION)
        if version <= newest:
            for migration in schema.MIGRATIONS[max(0, version - schema.FIRST_VERSION + 1) :]:
                server.script(migration)
            server.execute("UPDATE winnow SET version = ?", (newest,))
        server.script("COMMIT")
    version = _version(server)
    if version == 0:
        raise NoStoreYet(f"store {server.words}: there is no store in this database; `collect` makes one")
    if version < newest:
        raise StoreUnusable(
            f"store {server.words}: made by an older winnow (version {version}, {newest} now); a command that writes"
            " brings it up to date: python -m harvest collect, verify or select"
        )
    if version > newest:
        raise StoreUnusable(f"store {server.words}: not a store of this winnow (version {version}, {newest} known)")


def _version(server: Server) -> int:
    if not _has(server, "winnow"):
        return 0
    row = server.execute("SELECT version FROM winnow").fetchone()
    return 0 if row is None else int(row[0])


def _has(server: Server, table: str) -> bool:
    row = server.execute("SELECT to_regclass(?) IS NOT NULL", (table,)).fetchone()
    return row is not None and bool(row[0])


def is_collected(url: str, run: str) -> bool:
    """Whether a process collects this run now."""
    with closing(opened(url, write=False)) as server:
        row = server.execute(
            "SELECT 1 FROM lease JOIN run ON run.id = run_id WHERE name = ? AND until > clock_timestamp() LIMIT 1",
            (run,),
        ).fetchone()
        return row is not None


def fault_of(e: BaseException | None) -> str | None:
    """Returns "busy" if another process holds a lock for too long, "lost" if there is no connection, "failed" if the
    server cannot write; None if what was to be written is at fault."""
    psycopg = sys.modules.get("psycopg")
    if psycopg is None or not isinstance(e, (psycopg.OperationalError, psycopg.InterfaceError)):
        return None
    state = getattr(e, "sqlstate", None) or ""
    if state == "55P03" or state.startswith("40"):
        return "busy"
    return "failed" if state.startswith(("53", "58")) and state != "53300" else "lost"
