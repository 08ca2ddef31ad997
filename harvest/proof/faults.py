"""Collects what does not hold in a manifest, or between a manifest and what it stands for."""

from dataclasses import asdict, dataclass
from typing import Any

from harvest.core.printable import one_line

MOST_KEPT = 1000
"""At most this many faults are kept with their words; all are counted."""
UNKNOWN = object()
"""Takes the place of a value that nobody knows any more, unlike None, which is a value."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Says one thing that does not hold. All texts are printable lines."""

    file: str
    row: int | None
    """The row's number, from 0; None: the fault is of the file as a whole."""
    field: str | None
    stored: str | None
    """The value that was written at first, as far as another copy of it is there."""
    found: str | None
    """The value that stands there now."""
    why: str

    def words(self) -> str:
        """Returns the fault as one line."""
        row = None if self.row is None else f"row {self.row}"
        place = ", ".join(part for part in (self.file, row, self.field) if part is not None)
        stored = None if self.stored is None else f"stored {self.stored}"
        values = ", ".join(part for part in (stored, self.found and f"found {self.found}") if part)
        return f"{place}: {self.why}" + (f" ({values})" if values else "")


class Faults:
    """Collects faults. Each field of a row is named once, by the first check that finds it."""

    def __init__(self) -> None:
        self.kept: list[Fault] = []
        self.total = 0
        self._named: set[tuple[str, int | None, str | None]] = set()

    def add(
        self, file: str, why: str, *, row: int | None = None, field: str | None = None, stored: Any = UNKNOWN,
        found: Any = UNKNOWN,
    ) -> None:  # fmt: skip
        key = (file, row, field)
        if field is not None and key in self._named:
            return
        self.total += 1
        if len(self.kept) < MOST_KEPT:
            self._named.add(key)
            place = (one_line(file, 300), row, field and one_line(field, 60))
            self.kept.append(Fault(*place, _shown(stored), _shown(found), why))

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self.kept]


def _shown(value: Any) -> str | None:
    if value is UNKNOWN:
        return None
    if value is None:
        return "nothing"
    try:
        return one_line(value if isinstance(value, str) else repr(value), 120)
    except ValueError:  # a number of thousands of digits
        return "a number of thousands of digits"
