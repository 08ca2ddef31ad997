"""Holds a store open, whichever database it is in, and runs statements on it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from harvest.core.errors import StoreUnusable
from harvest.store.databases.database import Database, Row, opened

T = TypeVar("T")

BUSY_S = 90
"""How many seconds a statement waits while another program holds the store's write lock."""


class Connection:
    """Holds a store open. Each method is a transaction of its own, unless it is called inside a `transaction`."""

    def __init__(self, db: Database) -> None:
        self.db = db

    @classmethod
    def open(cls, url: str, *, write: bool = True) -> Self:
        """Opens a store. If it is opened to write, it is first made or brought up to date.

        Raises StoreUnusable when another process is writing to a file, when the store is none of ours, and when it
        cannot be read or written.
        """
        return cls(opened(url, write=write))

    @property
    def path(self) -> Path:
        """Returns the path of the store's file.

        A store on a server has no file. Its path here is only the one from which the names of its files on this
        machine are made.
        """
        return self.db.path

    @property
    def url(self) -> str:
        """Returns the store's URL, with the password if it has one. It is not for messages."""
        return self.db.url

    @property
    def words(self) -> str:
        """Returns what messages call the store."""
        return self.db.words

    def close(self) -> None:
        self.db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Writes everything in the `with` block, or nothing. Raises StoreUnusable when the store cannot be written."""
        try:
            self.db.begin()
            try:
                yield
            # Whatever the fault is, the transaction ends before the fault is raised on.
            except BaseException:
                if self.db.in_transaction:
                    self.db.rollback()
                raise
            self.db.commit()
        except self.db.errors as e:
            if self.db.in_transaction:
                self.db.rollback()
            raise StoreUnusable(f"store {self.words}: {self.db.in_words(e)}; nothing was half written") from e

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Inside a transaction, writes everything in the `with` block, or nothing if the block raises."""
        self.db.wait()
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
        """Sets how long each statement waits while another program holds the store's write lock."""
        self.db.wait_for_lock(seconds)

    def data_version(self) -> int:
        """Returns a number that changes when another process has written to the store."""
        return self.db.data_version()

    def _all(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """Returns all rows, each as a dict by the columns' names. `values` fill the placeholders of the statement: they
        are values in order, or one dict by name."""
        return [dict(r) for r in self.db.execute(statement, _bound(values))]

    def _each(self, statement: str, *values: Any) -> Iterator[Row]:
        """Gives the rows one after another, so that few are in memory at a time."""
        return self.db.each(statement, _bound(values))

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
        return self.db.insert(statement, _bound(values))


def _bound(values: tuple[Any, ...]) -> Any:
    return values[0] if len(values) == 1 and isinstance(values[0], dict) else values
