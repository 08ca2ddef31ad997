"""Writes and reads a manifest: JSON lines with a header, a line for each row, the sums, and a hash over all of it.

The last line holds the root: the SHA-256 of all bytes before that line, which `head -n -1 winnow.manifest | sha256sum`
gives. Each other line ends with marks, four hex digits for each of its fields: they say which field was changed, and
the root says that something was. A manifest that is read is foreign: nothing in it is believed before it was looked at.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from zlib import crc32

from pydantic_core import from_json

from harvest.core.errors import InputError
from harvest.core.foreign_json import Json
from harvest.proof.faults import Faults
from harvest.proof.lines import line_of

NAME = "winnow.manifest"
"""The name of the manifest in the folder of a dataset or of a student."""
COPIES = "manifests"
"""The folder, in a student's folder, of the manifests that the student's own one stands on: `<root>.manifest`."""
VERSION = 1
MOST_LINE_BYTES = 4 << 20
"""A longer line is no line of a manifest. (A header holds a recipe and a selection.)"""
MOST_ROWS = 2**40
ROOT = re.compile(r"sha256:([0-9a-f]{64})")


Fields = Mapping[str, tuple[type, ...]]
"""The names of a row's fields with their types."""


class ManifestWriter:
    """Writes one manifest, within a `with`. The manifest is whole only when `end` has returned."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        """Begins the file at `path`, which only its owner can read, with its header."""
        self._file = os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb")
        self._hash, self.rows = hashlib.sha256(), 0
        self._write({"manifest": VERSION, **header})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, fields: Mapping[str, Any]) -> None:
        """Adds the line of the next row. The row's number, from 0, stands first."""
        self._write({"row": self.rows, **fields})
        self.rows += 1

    def end(self, sums: Mapping[str, Any]) -> str:
        """Writes the sums and the root, and returns the root."""
        self._write({"rows": self.rows, **sums})
        root = f"sha256:{self._hash.hexdigest()}"
        self._file.write(line_of({"root": root}))
        self._file.flush()
        os.fsync(self._file.fileno())
        return root

    def _write(self, fields: Mapping[str, Any]) -> None:
        line = line_of(fields)
        if "row" not in fields or b"\xef\xbf\xbd" in line:  # the marks are those of the values as they are read
            fields = from_json(line)
        line = line[:-2] + b',"marks":"' + marks_of(fields).encode() + b'"}\n'
        self._hash.update(line)
        self._file.write(line)


def marks_of(fields: Mapping[str, Any]) -> str:
    """Returns four hex digits for each field, in order: the lower half of the CRC-32 of its name and value."""
    sums = [crc32(f"{k}={v}".encode("utf-8", "surrogatepass")) & 0xFFFF for k, v in fields.items()]
    return ("%04x" * len(sums)) % (*sums,)


class ManifestReader:
    """Reads one manifest that anybody may have changed. What does not hold goes into `faults`; nothing is raised.

    The header is read at once, the rows by `rows`, which also fills `sums` and `root` at its end.
    """

    def __init__(
        self, path: Path, name: str, faults: Faults, kinds: Mapping[str, Fields], *, marks: bool = True
    ) -> None:
        """Opens the manifest, which faults call `name`. `kinds` has, for each kind of manifest, the fields of a
        row with their types. Without `marks`, the root says that something was changed, and nothing says what.

        Raises InputError when there is no such file, or it cannot be read.
        """
        self.path, self.name, self._faults, self._kinds, self._marks = path, name, faults, kinds, marks
        self.root: str | None = None
        """The root as it is computed from the bytes. None: the manifest has no end."""
        self.sums: Json = {}
        self.size_rows = 0
        self._hash = hashlib.sha256()
        self._lines = self._read()
        self.header = self._header()
        self.kind: str = self.header.get("kind", "")

    def _header(self) -> Json:
        """Returns the header; {} when the first line is none."""
        line = next(self._lines, None)
        header = {} if line is None else self._parsed(line, None)
        kind = header.get("kind") if header is not None else None
        if header is None or header.get("manifest") != VERSION or not isinstance(kind, str) or kind not in self._kinds:
            self._faults.add(self.name, "its first line is no header of a manifest that this winnow reads")
            return {}
        return header

    def rows(self) -> Iterator[Json]:
        """Gives each row whose fields have the right names and types, in order."""
        fields = self._kinds.get(self.kind, {})
        if not fields:
            return
        stage, expected = "rows", 0
        for line in self._lines:
            if stage == "over":
                self._faults.add(self.name, "has lines after its end")
                return
            found = self._parsed(line, expected if stage == "rows" else None)
            if found is None:
                expected += stage == "rows"
                continue
            if "root" in found:
                self._end(found, stage)
                stage = "over"
            elif "rows" in found and "row" not in found:
                self.sums, stage = found, "sums"
            elif stage == "sums":
                self._faults.add(self.name, "has rows after its sums")
                stage = "rows"
            elif (row := self._row(found, fields, expected)) is None:
                expected += 1
            elif row["row"] >= expected:
                expected = row["row"] + 1
                yield row
        self.size_rows = expected
        if stage != "over":
            self._faults.add(self.name, f"is torn off after {expected:,} rows: it has no end")
        elif self.sums.get("rows") != expected:
            self._faults.add(
                self.name, "it has another number of rows", field="rows", stored=self.sums.get("rows"), found=expected
            )

    def _end(self, found: Json, stage: str) -> None:
        self.root = f"sha256:{self._hash.hexdigest()}"
        if stage != "sums":
            self._faults.add(self.name, "its sums are gone")
        if found != {"root": self.root}:
            self._faults.add(
                self.name, "the lines do not give its root", field="root", stored=found["root"], found=self.root
            )

    def _row(self, found: Json, fields: Fields, expected: int) -> Json | None:
        """Returns the row; None when its fields are not those of a row."""
        if found.keys() != fields.keys() or any(type(found[name]) not in kind for name, kind in fields.items()):
            self._name_unknown(found, fields, expected)
            return None
        if (number := found["row"]) != expected:
            there = "comes twice, or out of order" if number < expected else f"rows {expected} to {number - 1} are gone"
            self._faults.add(self.name, there, row=expected, field="row", stored=expected, found=number)
        return found if number < MOST_ROWS else None

    def _name_unknown(self, found: Json, fields: Fields, row: int) -> None:
        for name in fields.keys() ^ found.keys():
            why = "is gone" if name in fields else "is no field of a row"
            self._faults.add(self.name, why, row=row, field=name)
        for name, kind in fields.items():
            if name in found and type(found[name]) not in kind:
                self._faults.add(self.name, "has another type", row=row, field=name, found=found[name])

    def _parsed(self, line: bytes, row: int | None) -> Json | None:
        """Returns a line's object without its marks; None when it is no object. A field that its mark does not fit is
        named."""
        try:
            parsed = from_json(line)
            found = parsed if isinstance(parsed, dict) else None
            if found is not None and found.keys() == {"root"}:
                return found
            marks = found.pop("marks", None) if found is not None else None
            now = marks_of(found or {}) if self._marks else ""
        except ValueError:  # no JSON, or a number of thousands of digits
            found = None
        self._hash.update(line)
        if found is None:
            self._faults.add(
                self.name, "is no line of a manifest", row=row, found=line[:200].decode("utf-8", "replace")
            )
            return None
        if self._marks and marks != now:
            self._unfitting(found, marks, now, row)
        return found

    def _unfitting(self, found: Json, marks: object, now: str, row: int | None) -> None:
        if not isinstance(marks, str) or len(marks) != 4 * len(found):
            self._faults.add(self.name, "are not the marks of its fields", row=row, field="marks")
            return
        for n, (name, value) in enumerate(found.items()):
            if marks[4 * n : 4 * n + 4] != now[4 * n : 4 * n + 4]:
                why = "is not the value that was written: its mark does not fit it"
                self._faults.add(self.name, why, row=row, field=name, found=value)

    def _read(self) -> Iterator[bytes]:
        """Gives the lines of the file, each with its line feed. A line that is too long comes cut."""
        try:
            if not self.path.is_file():
                raise InputError(f"{self.path}: there is no such file")
            with self.path.open("rb") as file:
                while line := file.readline(MOST_LINE_BYTES):
                    yield line
        except OSError as e:
            raise InputError(f"{self.path}: cannot be read: {e.strerror}") from None


def root_of(path: Path) -> str | None:
    """Returns the root that the last line of a manifest names; None when there is no manifest, or it has no end.

    Nothing is checked.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 200))
            found = from_json(file.read().rstrip().rpartition(b"\n")[2])
    except (OSError, ValueError):
        return None
    root = found.get("root") if isinstance(found, dict) else None
    return root if isinstance(root, str) and ROOT.fullmatch(root) else None


def true_root(path: Path) -> str | None:
    """Returns a manifest's root when its lines give it; None when they do not, or there is no manifest."""
    named, whole, last = root_of(path), hashlib.sha256(), b""
    if named is None:
        return None
    try:
        with path.open("rb") as file:
            for line in file:
                whole.update(last)
                last = line
    except OSError:
        return None
    return named if named == f"sha256:{whole.hexdigest()}" else None


def copied(path: Path, copies: Path) -> str | None:
    """Copies a manifest, and those that it stands on, into the folder `copies`. Returns its root.

    Returns None, and copies nothing, when there is no manifest or its lines do not give its root. Raises OSError.
    """
    if (root := true_root(path)) is None:
        return None
    copies.mkdir(exist_ok=True)
    below = path.parent / COPIES
    for source in (path, *(sorted(below.glob("*.manifest")) if below.is_dir() else ())):
        if (name := copy_name(true_root(source))) is not None and not (copies / name).is_file():
            part = copies / f".{name}.{os.getpid()}.part"
            shutil.copyfile(source, part)
            part.replace(copies / name)
    return root


def copy_name(root: object) -> str | None:
    """Returns the name of the copy of the manifest with this root; None when it is no root."""
    found = ROOT.fullmatch(root) if isinstance(root, str) else None
    return f"{found[1]}.manifest" if found else None
