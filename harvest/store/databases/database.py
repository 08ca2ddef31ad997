"""Says what the statements need of a database, and opens the one that a store's URL names: a file of SQLite, or a
database of PostgreSQL. The two stand in files of their own (sqlite.py, postgresql.py)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from harvest.core.errors import StoreUnusable
from harvest.store.databases import postgresql, postgresql_address, sqlite
from harvest.store.databases.postgresql_address import POSTGRESQL

Values = Sequence[Any] | Mapping[str, Any]
"""What fills a statement's placeholders: values in their order for each `?`, or values by name for each `:name`."""


class Row(Protocol):
    """One row: its values by the columns' names or by their places, or all of them in order."""

    def __getitem__(self, key: str | int, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def keys(self) -> Iterable[str]: ...


class Cursor(Protocol):
    """The rows of one statement."""

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Database(Protocol):
    """An open database. Each statement is a transaction of its own, unless one has begun."""

    url: str
    words: str
    """What messages call the store, without any password."""
    path: Path
    """Files of this machine that belong to the store have this path, with an ending of their own."""
    is_server: bool
    """Whether many processes, on any machines, may write at the same time."""
    errors: tuple[type[Exception], ...]
    """What a statement raises."""

    @property
    def in_transaction(self) -> bool: ...
    def execute(self, statement: str, values: Any = (), /) -> Cursor: ...
    def executemany(self, statement: str, values: Iterable[Any], /) -> object: ...
    def insert(self, statement: str, values: Values, /) -> int:
        """Inserts one row, and returns its `id`."""
        ...

    def changed(self, statement: str, values: Values, /) -> int:
        """Returns how many rows a statement wrote."""
        ...

    def each(self, statement: str, values: Values, /) -> Iterator[Any]:
        """Gives the rows one after another, so that few are in memory at a time."""
        ...

    def tuples(self, statement: str, values: Values, /) -> list[tuple[Any, ...]]:
        """Returns all rows as plain tuples."""
        ...

    def begin(self) -> None: ...
    def wait(self) -> None:
        """Waits until the statements so far are done, and lets later ones be done one by one."""
        ...

    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def close(self) -> None: ...
    def wait_for_lock(self, seconds: float) -> None:
        """Sets how long a statement waits for another program's lock."""
        ...

    def data_version(self) -> int:
        """Returns a number that changes when another process has written."""
        ...

    def in_words(self, error: Exception) -> str:
        """Returns what went wrong, in words for the user."""
        ...


def opened(url: str, *, write: bool) -> Database:
    """Opens a store. If it is opened to write, its tables are first made or brought up to date. Raises StoreUnusable,
    and MissingExtra where PostgreSQL's client is not installed."""
    if url.startswith(POSTGRESQL):
        return postgresql.opened(url, write=write)
    return sqlite.opened(url, write=write)


def is_being_written(url: str, run: str | None = None) -> bool:
    """Whether a process writes to the store now, so that another process has to wait for it. In PostgreSQL: whether
    a process collects this run now; nobody waits for a process that works on another run."""
    if url.startswith(POSTGRESQL):
        return run is not None and postgresql.is_collected(url, run)
    return sqlite.is_being_written(url)


def fault_of_the_store(e: BaseException) -> str | None:
    """Returns why the store cannot be written now, if its file, disk, lock, server or connection is at fault: "locked"
    if another program has locked the file, "busy" if another process holds a lock on the server, "lost" if there is no
    connection, else "failed". None: what was to be written is at fault."""
    cause = e.__cause__ if isinstance(e, StoreUnusable) else e
    return sqlite.fault_of(cause) or postgresql.fault_of(cause)


def without_password(url: str) -> str:
    """Returns a store's URL as it may be shown and kept."""
    return postgresql_address.without_password(url) if url.startswith(POSTGRESQL) else url
