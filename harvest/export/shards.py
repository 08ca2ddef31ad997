"""Writes rows into files of limited size, as JSON lines or Parquet.

Each row is written when it comes, so the memory does not grow with the number of rows.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from harvest.core.foreign_json import plain
from harvest.export.layouts import B, Columns, F, N, T
from harvest.proof.lines import line_of, sha256

ROWS_A_GROUP = 1000
CHARACTERS_A_GROUP = 4_000_000
"""A row group of a Parquet file is written when it has ROWS_A_GROUP rows or this many characters."""
Row = Mapping[str, Any]


class Shards:
    """Writes the files of a dataset.

    One file is named `train.jsonl` or `train.parquet`. Several files are named `train-00000-of-00012.jsonl` and so on.
    """

    def __init__(self, folder: Path, form: str, columns: Columns, shard_bytes: int) -> None:
        """Prepares the files in `folder`; `put` begins the first file. `form` is "jsonl" or "parquet".

        A file that has `shard_bytes` bytes is ended, and the next row begins another file.
        """
        self._folder, self._form, self._shard_bytes = folder, form, shard_bytes
        self._columns = columns
        self._open: _Lines | _Groups | None = None
        self._parts: list[Path] = []

    def put(self, row: Row, characters: int) -> str:
        """Adds one row to the files, and returns its hash as a reader of the files finds it (harvest/proof/lines.py).

        The row has about `characters` characters of text.
        """
        file = self._open or self._begin()
        found = file.put(row, characters)
        if file.written_bytes >= self._shard_bytes:
            file.close()
            self._open = None
        return found

    def _begin(self) -> "_Lines | _Groups":
        path = self._folder / f"part-{len(self._parts):05}"
        self._parts.append(path)
        self._open = _Lines(path) if self._form == "jsonl" else _Groups(path, self._columns)
        return self._open

    def close(self) -> list[str]:
        """Ends the last file. Returns the names of all files. There is at least one file, which may be empty."""
        if not self._parts:
            self._begin()
        if self._open is not None:
            self._open.close()
        n = len(self._parts)
        names = [f"train{'' if n == 1 else f'-{i:05}-of-{n:05}'}.{self._form}" for i in range(n)]
        for part, name in zip(self._parts, names, strict=True):
            part.replace(self._folder / name)
        return names


class _Lines:
    """Writes one file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self._file = _private(path)
        self.written_bytes = 0

    def put(self, row: Row, _: int) -> str:
        line = line_of(row)
        self.written_bytes += self._file.write(line)
        return hashlib.sha256(line[:-1]).hexdigest()

    def close(self) -> None:
        _end(self._file)


class _Groups:
    """Writes one Parquet file, in groups of rows."""

    def __init__(self, path: Path, columns: Columns) -> None:
        import pyarrow.parquet as pq

        self._columns, self._schema = _sorted(columns), schema_of(columns)
        self._file = _private(path)
        self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")
        self._group: list[Row] = []
        self._characters = 0
        self.written_bytes = 0

    def put(self, row: Row, characters: int) -> str:
        self._group.append(row)
        self._characters += characters
        if len(self._group) >= ROWS_A_GROUP or self._characters >= CHARACTERS_A_GROUP:
            self._flush()
        return sha256(_read_back(row, self._columns))

    def _flush(self) -> None:
        import pyarrow as pa

        try:
            table = pa.Table.from_pylist(self._group, self._schema)
        except UnicodeEncodeError:
            table = pa.Table.from_pylist([plain(row) for row in self._group], self._schema)
        self._writer.write_table(table)
        self._group, self._characters = [], 0
        self.written_bytes = self._file.tell()

    def close(self) -> None:
        if self._group:  # `datasets` cannot read an empty group
            self._flush()
        self._writer.close()
        _end(self._file)


def row_sha256(row: Row, form: str, columns: Columns) -> str:
    """Returns a row's hash as a reader of the files finds it (harvest/proof/lines.py). `form` is "jsonl" or
    "parquet"."""
    return sha256(row if form == "jsonl" else _read_back(row, _sorted(columns)))


def _sorted(columns: Any) -> Any:
    """Returns the columns with their names in order, at each level; None for a column without others in it."""
    if isinstance(columns, Mapping):
        return {name: _sorted(columns[name]) for name in sorted(columns)}
    return [_sorted(columns[0])] if isinstance(columns, list) else None


def _read_back(value: Any, columns: Any) -> Any:
    """Returns a value as it comes out of a Parquet file: with every field of its column, in the order of their names.
    `columns` are as `_sorted` gives them."""
    if columns is None or value is None:
        return value
    if type(columns) is list:
        return [_read_back(one, columns[0]) for one in value]
    get = value.get
    return {name: get(name) if inner is None else _read_back(get(name), inner) for name, inner in columns.items()}


def _private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb")


def _end(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()


def schema_of(columns: Columns) -> Any:
    """Returns the columns as an Arrow schema."""
    import pyarrow as pa

    def kind(c: Any) -> Any:
        if isinstance(c, list):
            return pa.list_(kind(c[0]))
        if isinstance(c, Mapping):
            return pa.struct([(k, kind(v)) for k, v in c.items()])
        return {T: pa.string(), N: pa.int64(), F: pa.float64(), B: pa.bool_()}[c]

    return pa.schema([(name, kind(c)) for name, c in columns.items()])
