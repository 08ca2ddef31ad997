"""Connects to a store in an SQLite file. All that is particular to SQLite is here: address, lock, PRAGMA, BEGIN.

One process at a time writes to a store, and holds a lock file while it does. Any number of processes may read. Inside
the process that writes, one thread does all the writing (harvest/store/writer.py).
"""

import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from harvest.core.errors import StoreUnusable
from harvest.store.schema import MIGRATIONS

Row = sqlite3.Row
T = TypeVar("T")

BUSY_S = 90
"""How many seconds a statement waits while another program holds the file's write lock."""

MOMENT_S = 0.5
"""How many seconds a process waits for the store's lock. The viewer holds it for a moment for each mark."""

LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
OF_THE_STORE = LOCKED | {
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB,
}  # fmt: skip
"""SQLite's codes for faults of the file, its disk or its lock. These do not depend on what is written."""


class Connection:
    """Holds a store open. Each method is a transaction of its own, unless it is called inside a `transaction`."""

    def __init__(self, db: sqlite3.Connection, path: Path, opened: ExitStack) -> None:
        self.db, self.path, self._opened = db, path, opened

    @classmethod
    def open(cls, url: str, *, write: bool = True) -> Self:
        """Opens a store. If it is opened to write, it is first made or brought up to date.

        Raises StoreUnusable when another process is writing to the store, when the file is no store of ours, and when
        it cannot be read or written.
        """
        path = sqlite_path(url)
        with ExitStack() as opened:
            try:
                if write:
                    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    opened.callback(os.close, _take_lock(path, lock_path(path)))
                    if not path.exists():  # to close a file is to drop SQLite's locks on it in this whole process
                        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
                elif not path.exists():
                    raise StoreUnusable(f"store {path}: no such file; name another with --store")
                address = f"{path.absolute().as_uri()}?mode={'rw' if write else 'ro'}"
                db = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_S)
                opened.callback(db.close)
                db.row_factory = Row
                _prepare(db, path, write)
            except (OSError, sqlite3.Error) as e:
                raise StoreUnusable(f"store {path}: {_in_words(e)}") from None
            return cls(db, path, opened.pop_all())

    def close(self) -> None:
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Writes everything in the `with` block, or nothing. Raises StoreUnusable when the disk is full or fails."""
        try:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
            # Whatever the fault is, the transaction ends before the fault is raised on.
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")
        except sqlite3.Error as e:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise StoreUnusable(f"store {self.path}: {_in_words(e)}; nothing was half written") from e

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Inside a transaction, writes everything in the `with` block, or nothing if the block raises."""
        self.db.execute("SAVEPOINT part")
        try:
            yield
        except Exception:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK TO part")
            raise
        finally:
            if self.db.in_transaction:
                self.db.execute("RELEASE part")

    def wait_for_lock(self, seconds: float = BUSY_S) -> None:
        """Sets how long each statement waits while another program holds the file's write lock."""
        self.db.execute(f"PRAGMA busy_timeout = {round(seconds * 1000):d}")

    def _all(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """Returns all rows, each as a dict by the columns' names. `values` fill the placeholders of the statement: they
        are values in order, or one dict by name."""
        return [dict(r) for r in self.db.execute(statement, _bound(values))]

    def _each(self, statement: str, *values: Any) -> Iterator[Row]:
        """Gives the rows one after another, so that only one row is in memory at a time."""
        with closing(self.db.execute(statement, _bound(values))) as rows:
            yield from rows

    def _as(self, kind: Callable[..., T], statement: str, *values: Any) -> list[T]:
        """Returns all rows, each as a dataclass whose fields have the names of the columns."""
        return [kind(**dict(r)) for r in self.db.execute(statement, _bound(values))]

    def _row(self, statement: str, *values: Any) -> Row | None:
        """Returns the first row; None if there is none."""
        row: Row | None = self.db.execute(statement, _bound(values)).fetchone()
        return row

    def _one(self, statement: str, *values: Any) -> Any:
        """Returns the first column of the first row."""
        return self.db.execute(statement, _bound(values)).fetchone()[0]

    def _pairs(self, statement: str, *values: Any) -> dict[str, int]:
        """Maps the first column to the second. Rows whose first column is NULL are left out."""
        return {r[0]: r[1] for r in self.db.execute(statement, _bound(values)) if r[0] is not None}

    def _insert(self, statement: str, *values: Any) -> int:
        """Inserts one row and returns its id."""
        return int(self.db.execute(statement, _bound(values)).lastrowid or 0)


def sqlite_path(url: str) -> Path:
    """Returns the file of a store: `sqlite:///a` is relative to the working directory, `sqlite:////a` is absolute.

    Raises StoreUnusable for any other address.
    """
    if url.startswith("postgresql://"):
        raise StoreUnusable(f"store {url.split('@')[-1]}: PostgreSQL is not supported yet; use sqlite:///path")
    if not url.startswith("sqlite:///") or not url.removeprefix("sqlite:///"):
        raise StoreUnusable(f"store {url!r}: write sqlite:///path (relative) or sqlite:////path (absolute)")
    return Path(url.removeprefix("sqlite:///"))


def lock_path(path: Path) -> str:
    """Returns the lock file of a store. A store behind a symbolic link has the lock of the file that the link names."""
    return f"{os.path.realpath(path)}.lock"


def is_being_written(url: str) -> bool:
    """Whether a process has the store open for writing now."""
    try:
        lock = os.open(lock_path(sqlite_path(url)), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _prepare(db: sqlite3.Connection, path: Path, write: bool) -> None:
    """Brings the tables up to date if `write`. Raises StoreUnusable when the file is not ours, or has a version that
    cannot be used."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    foreign = version == 0 and db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    if not write and 0 < version < len(MIGRATIONS):
        raise StoreUnusable(
            f"store {path}: made by an older winnow (version {version}, {len(MIGRATIONS)} now); a command that"
            " writes brings it up to date: python -m harvest collect, verify or select"
        )
    if foreign or version > len(MIGRATIONS) or (not write and version < len(MIGRATIONS)):
        raise StoreUnusable(f"store {path}: not a store of this winnow (version {version}, {len(MIGRATIONS)} known)")
    if write:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = OFF")  # a migration may make a table anew that others refer to
    if missing := " ".join(MIGRATIONS[version:]):
        db.executescript(f"BEGIN IMMEDIATE; {missing} PRAGMA user_version = {len(MIGRATIONS):d}; COMMIT;")
    db.execute("PRAGMA foreign_keys = ON")


def fault_of_the_store(e: BaseException) -> int | None:
    """Returns SQLite's code if the file, its disk or its lock is at fault; None if what was to be written is at
    fault."""
    cause = e if isinstance(e, sqlite3.Error) else e.__cause__
    code = getattr(cause, "sqlite_errorcode", None)
    return code & 0xFF if code is not None and code & 0xFF in OF_THE_STORE else None


def _bound(values: tuple[Any, ...]) -> Any:
    return values[0] if len(values) == 1 and isinstance(values[0], dict) else values


def _take_lock(path: Path, lock_file: str) -> int:
    """Takes the store's lock. Returns the lock's file descriptor. Raises StoreUnusable when another process holds the
    lock."""
    lock = os.open(lock_file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    until_s = time.monotonic() + MOMENT_S
    while not (taken := _locked(lock)) and time.monotonic() < until_s:
        time.sleep(MOMENT_S / 20)
    if not taken:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        os.close(lock)
        raise StoreUnusable(
            f"store {path}: another process{f' (pid {holder})' if holder else ''} is writing to it. Wait for it, or"
            " give this run a store of its own with --store"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _in_words(e: OSError | sqlite3.Error) -> str:
    """Returns what went wrong, in words for the user."""
    code = getattr(e, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_FULL or (isinstance(e, OSError) and e.errno == errno.ENOSPC):
        return "the disk is full; free some space and start again"
    if code is not None and code & 0xFF in LOCKED:
        return "another program holds its write lock; end that program and start again"
    if code == sqlite3.SQLITE_NOTADB:
        return "not an SQLite database"
    return (isinstance(e, OSError) and e.strerror) or str(e)
