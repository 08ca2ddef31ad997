"""Reads the rows of a public set: all of them for their questions alone, or a few of them whole.

A place says where a row is in its table: the byte at which a line of a plain JSON lines file begins, else the row's
number.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from harvest.core.errors import InputError
from harvest.core.printable import first_line
from harvest.questions.files import GZIP, PARQUET, ZSTANDARD, Records
from harvest.questions.hub import HUB, hub_table
from harvest.questions.public_sets import PublicSet, PublicSource
from harvest.questions.rows import BadRow

PARQUET_BATCH, WHOLE_ROWS = 512, 64
"""How many rows of one column, or how many whole rows, are in memory at once."""
FIRST_ROWS = 20
"""If so many rows at a file's beginning have no question, the file is none of answers."""


class PublicTable(Protocol):
    """One file of a public set, or a dataset of the hub."""

    of: PublicSet
    name: str
    """Names the table for people."""
    unit: str
    """What a place counts, in words."""

    def identity(self) -> list[str | int]:
        """Returns values that change when the table does."""

    def column(self) -> str:
        """Returns the column that holds the question. Raises InputError if there is none."""

    def scan(self) -> Iterator[tuple[int, object]]:
        """Yields (place, the value of the question's column) of each row. None: the row cannot be read."""

    def rows(self) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
        """Yields (place, row) of each row. None: the row cannot be read."""

    def at(self, places: Sequence[int]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yields (place, row) for each of these places, which ascend."""


def tables_of(source: PublicSource) -> Iterator[PublicTable]:
    """Yields the tables of a public set. Raises InputError if one cannot be read."""
    if source.hub is not None:
        yield HubTable(source.set, source.hub)
    for path in source.files:
        try:
            with path.open("rb") as f:
                head = f.read(1024)
        except OSError as e:
            raise InputError(f"{path}: cannot be read: {e.strerror}") from None
        if head.startswith(PARQUET) or path.suffix == ".parquet":
            yield ParquetTable(source.set, path)
        elif head.startswith((GZIP, ZSTANDARD)) or head.lstrip()[:1] == b"[" or head.split(b"\n")[0].strip() == b"{":
            yield JsonTable(source.set, path)
        else:
            yield LinesTable(source.set, path)


class HubTable:
    """A dataset of the hub, as `datasets` keeps it on this machine."""

    unit = "row"

    def __init__(self, of: PublicSet, source: str) -> None:
        self.of, self.name = of, source.removeprefix(HUB)
        try:
            self._rows = hub_table(source)
        except InputError as e:
            raise InputError(f"{e}. If its files lie here, name them: {of.name}=FILES") from None

    def identity(self) -> list[str | int]:
        return [self.name, str(self._rows._fingerprint), len(self._rows)]

    def column(self) -> str:
        return self.of.scanned(dict.fromkeys(self._rows.column_names), self.name)

    def scan(self) -> Iterator[tuple[int, object]]:
        column, place = self.column(), 0
        for batch in self._rows.select_columns([column]).with_format("arrow").iter(PARQUET_BATCH):
            for value in batch[column].to_pylist():
                yield place, value
                place += 1

    def rows(self) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
        yield from enumerate(self._rows)

    def at(self, places: Sequence[int]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        for place in places:
            yield place, self._rows[int(place)]


class _File:
    """What the files have in common."""

    unit = "row"

    def __init__(self, of: PublicSet, path: Path) -> None:
        self.of, self.path, self.name = of, path, path.name

    def identity(self) -> list[str | int]:
        found = self.path.stat()
        return [str(self.path.resolve()), found.st_size, found.st_mtime_ns]


class ParquetTable(_File):
    """A Parquet file. Only the column with the questions is read to find them, and only some groups of rows whole."""

    def column(self) -> str:
        with self._opened() as file:
            return self.of.scanned(dict.fromkeys(file.schema_arrow.names), str(self.path))

    def scan(self) -> Iterator[tuple[int, object]]:
        column, place = self.column(), 0
        with self._opened() as file:
            for batch in file.iter_batches(PARQUET_BATCH, columns=[column], use_threads=False):
                for value in batch.column(0).to_pylist():
                    yield place, value
                    place += 1

    def rows(self) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
        with self._opened() as file:
            place = 0
            for batch in file.iter_batches(WHOLE_ROWS, use_threads=False):
                for row in batch.to_pylist():
                    yield place, row
                    place += 1

    def at(self, places: Sequence[int]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        with self._opened() as file:
            wanted, begin = deque(places), 0
            for group in range(file.num_row_groups):
                end = begin + file.metadata.row_group(group).num_rows
                if wanted and wanted[0] < end:
                    for batch in file.iter_batches(PARQUET_BATCH, row_groups=[group], use_threads=False):
                        while wanted and wanted[0] < begin + batch.num_rows:
                            place = wanted.popleft()
                            yield place, batch.slice(place - begin, 1).to_pylist()[0]
                        begin += batch.num_rows
                begin = end

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path, memory_map=True) as file:
                yield file
        except (pa.ArrowException, OSError, ValueError) as e:
            raise InputError(f"{self.path}: cannot be read as Parquet: {first_line(e)}") from None


class _Json(_File):
    """What files of JSON have in common: each row may have other columns."""

    def rows(self) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
        raise NotImplementedError

    def column(self) -> str:
        first: dict[str, None] = {}
        for n, (_, row) in enumerate(self.rows()):
            first |= dict.fromkeys(row or ())
            if n == FIRST_ROWS:
                break
        return self.of.scanned(first, str(self.path))

    def scan(self) -> Iterator[tuple[int, object]]:
        column = self.column()
        for place, row in self.rows():
            yield place, None if row is None else row.get(column)


class LinesTable(_Json):
    """A file of JSON lines that is not compressed."""

    unit = "the line at byte"

    def rows(self) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
        place = 0
        with self.path.open("rb") as file:
            for line in file:
                if line.strip():
                    yield place, _object(line)
                place += len(line)

    def at(self, places: Sequence[int]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        with self.path.open("rb") as file:
            for place in places:
                file.seek(place)
                if (row := _object(file.readline())) is not None:
                    yield place, row


class JsonTable(_Json):
    """A compressed file of JSON lines, or a JSON array. It is read from its beginning for any row."""

    def rows(self) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
        for n, record in enumerate(Records(self.path, exact=False)):
            yield n, None if isinstance(record.value, BadRow) else record.value

    def at(self, places: Sequence[int]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        wanted = iter(places)
        place = next(wanted, None)
        for n, row in self.rows():
            if n == place:
                if row is not None:
                    yield n, row
                place = next(wanted, None)
            if place is None:
                return


def _object(line: bytes) -> Mapping[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def digest_of(identity: Sequence[str | int]) -> str:
    """Returns the name of an index: a hash of what it was made of."""
    return hashlib.sha256(json.dumps(list(identity)).encode("utf-8", "surrogatepass")).hexdigest()[:32]
