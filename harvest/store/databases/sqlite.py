"""Connects to a store in an SQLite file. All that is particular to SQLite is here: address, lock, PRAGMA, BEGIN.

One process at a time writes to a store, and holds a lock file while it does. Any number of processes may read. Inside
the process that writes, one thread does all the writing (harvest/store/writing/writer.py).
"""

import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from harvest.core.errors import NoStoreYet, StoreUnusable
from harvest.store.databases.schema import MIGRATIONS

Row = sqlite3.Row

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


class File(sqlite3.Connection):
    """An open file of SQLite. (A Database, see database.py.)"""

    url: str
    words: str
    path: Path
    is_server = False
    errors: tuple[type[Exception], ...] = (sqlite3.Error,)
    holding: ExitStack
    """What is closed with the file: the store's lock."""

    def insert(self, statement: str, values: Any) -> int:
        return int(self.execute(statement, values).lastrowid or 0)

    def changed(self, statement: str, values: Any) -> int:
        return self.execute(statement, values).rowcount

    def each(self, statement: str, values: Any) -> Iterator[Row]:
        with closing(self.execute(statement, values)) as rows:
            yield from rows

    def tuples(self, statement: str, values: Any) -> list[tuple[Any, ...]]:
        cursor = self.cursor()
        cursor.row_factory = None  # plain tuples, which become columns in half the time
        return cursor.execute(statement, values).fetchall()

    def begin(self) -> None:
        self.execute("BEGIN IMMEDIATE")

    def wait(self) -> None:
        """Every statement is done when it returns."""

    def commit(self) -> None:
        self.execute("COMMIT")

    def rollback(self) -> None:
        self.execute("ROLLBACK")

    def close(self) -> None:
        super().close()
        self.holding.close()

    def wait_for_lock(self, seconds: float) -> None:
        self.execute(f"PRAGMA busy_timeout = {round(seconds * 1000):d}")

    def data_version(self) -> int:
        return int(self.execute("PRAGMA data_version").fetchone()[0])

    def in_words(self, error: Exception) -> str:
        return _in_words(error)


def opened(url: str, *, write: bool) -> File:
    """Opens a store. If it is opened to write, it is first made or brought up to date.

    Raises StoreUnusable when another process is writing to the store, when the file is no store of ours, and when it
    cannot be read or written.
    """
    path = sqlite_path(url)
    with ExitStack() as holding:
        try:
            if path.is_dir():
                raise StoreUnusable(f"store {path}: a folder; name a file in it: --store sqlite:///{path}/winnow.db")
            if write:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                holding.callback(os.close, _take_lock(path, lock_path(path)))
                if not path.exists():  # to close a file is to drop SQLite's locks on it in this whole process
                    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            else:
                refuse_missing(url)
            address = f"{path.absolute().as_uri()}?mode={'rw' if write else 'ro'}"
            db = sqlite3.connect(
                address, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_S, factory=File
            )
            db.url, db.words, db.path, db.holding = f"sqlite:///{path.absolute()}", str(path), path, ExitStack()
            db.row_factory = Row
            try:
                _prepare(db, path, write)
            except BaseException:
                db.close()
                raise
        except (OSError, sqlite3.Error) as e:
            raise StoreUnusable(f"store {path}: {_in_words(e)}") from None
        db.holding = holding.pop_all()
        return db


def sqlite_path(url: str) -> Path:
    """Returns the file of a store: `sqlite:///a` is relative to the working directory, `sqlite:////a` is absolute.

    Raises StoreUnusable for any other address.
    """
    if not url.startswith("sqlite:///") or not url.removeprefix("sqlite:///"):
        raise StoreUnusable(
            f"store {_shown(url)!r}: write sqlite:///path (relative), sqlite:////path (absolute) or"
            " postgresql://user@host/database"
        )
    return Path(url.removeprefix("sqlite:///"))


def refuse_missing(url: str) -> None:
    """Raises StoreUnusable when the store would be a file and there is none."""
    if url.startswith("sqlite:") and not (path := sqlite_path(url)).exists():
        raise NoStoreYet(f"store {path}: no such file; name another with --store")


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


def fault_of(e: BaseException | None) -> str | None:
    """Returns "locked" if another program's lock is at fault, "failed" if the file or its disk is; None if what was to
    be written is at fault."""
    code = getattr(e, "sqlite_errorcode", None)
    if code is None or code & 0xFF not in OF_THE_STORE:
        return None
    return "locked" if code & 0xFF in LOCKED else "failed"


def _shown(url: str) -> str:
    """Returns an address that means nothing to us without what may be a password."""
    head, at, rest = url.rpartition("@")
    return f"{head.partition('://')[0]}://…@{rest}" if at else url


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


def _in_words(e: Exception) -> str:
    """Returns what went wrong, in words for the user."""
    code = getattr(e, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_FULL or (isinstance(e, OSError) and e.errno == errno.ENOSPC):
        return "the disk is full; free some space and start again"
    if code is not None and code & 0xFF in LOCKED:
        return "another program holds its write lock; end that program and start again"
    if code == sqlite3.SQLITE_NOTADB:
        return "not an SQLite database"
    return (isinstance(e, OSError) and e.strerror) or str(e)
