"""Says which rows go together into one batch. Pure, except that the rows are written to a file as they come."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from harvest.core.errors import StoreUnusable
from harvest.store import RowToSend

FIRST_ROWS = 20
"""The first batch of an endpoint has so many rows, if the run has many more: they show whether it sends its chains."""
WORTH_A_FIRST = 20
"""A first batch is sent alone if the run has this many times as many questions. Else its money would hardly be less
than that of the whole run, and the wait twice as long."""
SMALL_SHARE = 4
"""While other batches run, a slice that the cap cut to less than 1/SMALL_SHARE of a batch waits for their money."""
FULL, MONEY = "full", "money"
"""Why a row does not go into a slice: it has as many rows or bytes as it may have; the cap has no room."""


@dataclass(slots=True)
class Limits:
    """How large the next slice may be. What an endpoint refuses makes it smaller."""

    rows: int
    bytes: int

    def lack(self, rows: int, size_bytes: int) -> bool:
        """Whether a slice of so many rows and bytes is too large. One row always goes."""
        return rows > 1 and (rows > self.rows or size_bytes > self.bytes)

    def grow(self, most: "Limits") -> None:
        """Lets the next slice be a little larger, since one was taken: what filled the queue may be gone."""
        self.rows = min(most.rows, self.rows + self.rows // 4 + 1)

    def halve_rows(self, rows: int) -> None:
        self.rows = max(1, min(self.rows, rows) // 2)


@dataclass(slots=True)
class Slice:
    """Holds the rows of the next batch. Each key is in it once, since endpoints match results by it."""

    name: str
    file: Path
    limits: Limits
    room_pusd: int | None
    """How much the cap leaves; None: there is no cap."""
    rows: list[RowToSend] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    size_bytes: int = 0
    worst_pusd: int = 0
    is_cut_by_money: bool = False
    _open: BinaryIO | None = None

    def takes(self, row: RowToSend, size_bytes: int) -> str | None:
        """Returns None if the slice has room for a row, else why it has none: FULL or MONEY."""
        if self.limits.lack(len(self.rows) + 1, self.size_bytes + size_bytes):
            return FULL
        if self.room_pusd is not None and self.worst_pusd + row.worst_pusd > self.room_pusd:
            return MONEY
        return None

    def add(self, row: RowToSend, line: bytes) -> None:
        """Adds a row. `line` is the row as it is sent. Raises StoreUnusable when the disk does not take it."""
        try:
            if self._open is None:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                self._open = self.file.open("wb")
            self._open.write(line)
        except OSError as e:
            raise StoreUnusable(f"{self.file}: {e.strerror}: the rows of a batch cannot be written") from None
        self.rows.append(row)
        self.keys.add(row.key)
        self.size_bytes += len(line)
        self.worst_pusd += row.worst_pusd

    def close(self) -> None:
        """Ends the file. Raises StoreUnusable when the disk does not take it."""
        try:
            if self._open is not None:
                self._open.close()
        except OSError as e:
            raise StoreUnusable(f"{self.file}: {e.strerror}: the rows of a batch cannot be written") from None

    def discard(self) -> None:
        self.close()
        self.file.unlink(missing_ok=True)


def line_of(row: Mapping[str, Any]) -> bytes:
    """Returns a row as a line of a file."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def custom_id(key: str) -> str:
    """Returns an attempt's key as endpoints take it: at most 64 letters, digits, _ and -."""
    return key.removeprefix("sha256:")


def key_of(custom_id: str) -> str:
    return f"sha256:{custom_id}"
