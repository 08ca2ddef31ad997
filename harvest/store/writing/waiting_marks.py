"""Keeps the marks that people set in a file beside the store, until a process that writes to the store takes them in.

Anybody who may read the store can add a mark, also while another process writes to the store. The file has one line of
JSON for each mark. A line is on the disk before `put` returns. A lock on the file keeps those who add and the one who
takes apart; it is held for moments only.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harvest.core.foreign_json import clean
from harvest.core.nouns import Outcome

MARKS = (Outcome.RIGHT, Outcome.WRONG, Outcome.UNSURE)
"""What a person may say of an answer."""

LONGEST_NOTE = 10_000
"""How many characters of a note are kept."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a person says of one answer: right, wrong or unsure, and a note."""

    attempt_id: int
    key: str
    """The attempt's key, so that a mark is never taken for that of another store's attempt with the same id."""
    outcome: Outcome
    note: str
    at: str
    """When the mark was set. No other mark on the same attempt has the same time."""


class WaitingMarks:
    """The marks on one store that wait in its file."""

    def __init__(self, store: Path) -> None:
        real = store.resolve()
        self.path = real.with_name(f"{real.name}.marks.jsonl")
        self.refused = real.with_name(f"{real.name}.marks.refused.jsonl")
        """Where lines go that are no mark, or that fit no answer of the store."""

    def put(self, mark: Mark) -> None:
        """Adds a mark, and returns when it is on the disk. Halves of characters in its note are replaced. Raises
        OSError."""
        mark = replace(mark, note=clean(mark.note))
        with self._locked(os.O_RDWR | os.O_CREAT | os.O_APPEND) as file:
            size = os.fstat(file).st_size
            torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
            _write(file, (b"\n" if torn else b"") + _line(asdict(mark)))

    def found(self) -> list[Mark]:
        """Returns the marks that wait, the oldest first."""
        try:
            return [m for line in self.path.read_bytes().splitlines() if (m := _mark_of(line)) is not None]
        except FileNotFoundError:
            return []

    @contextmanager
    def taken(self) -> Iterator[tuple[Sequence[Mark], list[Mark]]]:
        """Gives (the marks that wait, an empty list for those that fit no answer). When the block ends without an
        error, the marks are gone from the file; what fits nothing is in the file `refused`."""
        with self._locked(os.O_RDWR | os.O_CREAT) as file:
            lines = os.pread(file, os.fstat(file).st_size, 0).splitlines()
            marks = [(line, _mark_of(line)) for line in lines if line.strip()]
            refused: list[Mark] = []
            yield [m for _, m in marks if m is not None], refused
            bad = [line + b"\n" for line, m in marks if m is None] + [_line(asdict(m)) for m in refused]
            if bad:
                aside = os.open(self.refused, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
                try:
                    _write(aside, b"".join(bad))
                finally:
                    os.close(aside)
            self.path.unlink()

    @contextmanager
    def _locked(self, flags: int) -> Iterator[int]:
        """Opens the file and holds its lock. The file is opened again if it was taken in meanwhile."""
        while True:
            file = os.open(self.path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.fstat(file).st_nlink:
                    yield file
                    return
            finally:
                os.close(file)


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode("ascii") + b"\n"


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
    os.fsync(file)


def _mark_of(line: bytes) -> Mark | None:
    """Returns the mark in a line; None if the line is torn or no mark."""
    try:
        values = json.loads(line)
        attempt_id, key, note, at = values["attempt_id"], values["key"], values["note"], values["at"]
        outcome = Outcome(values["outcome"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if type(attempt_id) is not int or not 0 <= attempt_id < 1 << 63 or outcome not in MARKS:
        return None
    if not all(isinstance(text, str) and clean(text) == text for text in (key, note, at)):
        return None
    return Mark(attempt_id, key, outcome, note[:LONGEST_NOTE], at)
