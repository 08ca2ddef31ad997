"""Finds questions among the rows of public sets, by an index on the disk for each table.

An index holds a hash of 128 bits of each question's key, with the place of its row, in the order of the hashes: 24
bytes a row. It is made once, and again when the table or the rules of keys change. Whoever finds a row by it compares
the keys themselves, so no hash decides that two questions are the same.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harvest.core.errors import InputError
from harvest.questions.public_rows import PublicTable, digest_of
from harvest.questions.public_sets import question_text
from harvest.questions.question_key import VERSION, question_key

ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("place", "<i8")])
CHUNK = 65_536
Index = NDArray[np.void]
OnRead = Callable[[int], None]
"""A function that is called now and then with the number of rows that were read."""


def hashes_of(texts: Sequence[str]) -> "NDArray[np.uint64]":
    """Returns the hashes of the keys of questions: uint64 [N, 2]."""
    digests = b"".join(blake2b(_key(text), digest_size=16).digest() for text in texts)
    return np.frombuffer(digests, dtype="<u8").reshape(len(texts), 2)


def _key(text: str) -> bytes:
    return question_key(text).encode("utf-8", "surrogatepass")


def index_of(table: PublicTable, folder: Path, on_read: OnRead = lambda _: None) -> Index:
    """Returns the index of a table, which is made if `folder` has none. Raises InputError if the table cannot be read,
    or the folder cannot be written."""
    column = table.column()
    path = folder / f"{digest_of([VERSION, column, *table.identity()])}.npy"
    try:
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = path.with_name(f".{path.name}.{os.getpid()}.part")
            with part.open("wb") as file:
                np.save(file, _made(table, column, on_read))
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)  # so that what a killed process began is never read
        found: Index = np.load(path, mmap_mode="r")
    except OSError as e:
        raise InputError(
            f"the index of {table.name} in {folder}: {e.strerror}; WINNOW_CACHE names another place"
        ) from e
    return found


def _made(table: PublicTable, column: str, on_read: OnRead) -> Index:
    chunks: list[Index] = []
    texts: list[str] = []
    places: list[int] = []

    def end_chunk() -> None:
        chunk = np.empty(len(texts), dtype=ENTRY)
        hashes = hashes_of(texts)
        chunk["high"], chunk["low"], chunk["place"] = hashes[:, 0], hashes[:, 1], places
        chunks.append(chunk)
        texts.clear()
        places.clear()

    for n, (place, value) in enumerate(table.scan(), 1):
        if (text := question_text(column, value)) is not None and text.strip():
            texts.append(text)
            places.append(place)
        if len(texts) == CHUNK:
            end_chunk()
        if n % 8192 == 0:
            on_read(n)
    end_chunk()
    whole = np.concatenate(chunks)
    chunks.clear()
    if not len(whole):
        raise InputError(f"{table.name}: not one row has a question in the column {column!r}")
    return whole[np.argsort(whole["high"], kind="stable")]


def found_in(index: Index, hashes: "NDArray[np.uint64]") -> Iterator[tuple[int, int]]:
    """Yields (number of a question in `hashes`, place of a row that asks it), in the order of the questions."""
    high: NDArray[Any] = index["high"]
    order = np.argsort(hashes[:, 0])  # so that the index is read from its beginning to its end
    ordered = hashes[order, 0]
    begins, ends = np.searchsorted(high, ordered, "left"), np.searchsorted(high, ordered, "right")
    found = []
    for n in np.flatnonzero(begins < ends):
        number = int(order[n])
        for entry in index[begins[n] : ends[n]]:
            if entry["low"] == hashes[number, 1]:
                found.append((number, int(entry["place"])))
    yield from sorted(found)


def asks_the_same(one: str, other: str) -> bool:
    """Whether two questions have the same key."""
    return question_key(one) == question_key(other)
