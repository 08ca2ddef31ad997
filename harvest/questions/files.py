"""Reads the records of a file one at a time, in bounded memory.

The file holds JSON lines, a JSON array, one API page (`{"object": "list", "data": […]}`), or Parquet. JSON may be
compressed with gzip or zstandard. The first bytes of a file say what it is.
"""

import codecs
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from harvest.core.errors import InputError
from harvest.core.foreign_json import DECODER, Json
from harvest.questions.rows import BadRow, NotAnObject

MOST_BYTES = 64 << 20
"""A record may be at most this long. A longer record is a bad row."""
CHUNK_BYTES = 1 << 20
PARQUET_ROWS = 64
GZIP, ZSTANDARD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
BROKEN = (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError)


@dataclass(frozen=True, slots=True)
class Record:
    """Holds one record of a file, or the reason why it cannot be read."""

    where: str
    """File and line, for people."""
    place: str
    """The file's name, without folder and compression, and the line. They stay the same when the file is moved."""
    digest: str
    """The SHA-256 of the record as it stands in the file. Empty: the record cannot be read from the file."""
    value: Json | BadRow
    torn: bool = False
    """Whether the record is the last one and lacks its end: the program that writes the file has not finished."""


class Records:
    """Reads the records of a file, one at a time. Each loop over this object reads the file from its start.

    If `exact`, numbers with a decimal point become Decimal, so that money is exact; else they become float. Raises
    InputError when the file cannot be read.
    """

    def __init__(self, path: Path, *, exact: bool = True) -> None:
        self._exact = exact
        self.path = path
        self.name = path.name.removesuffix(".gz").removesuffix(".zst")
        self.done_bytes = 0
        """How many bytes of the file have been read so far, counted as they lie on the disk."""
        try:
            with path.open("rb") as f:
                self._magic = f.read(4)
            self.total_bytes = path.stat().st_size
        except OSError as e:
            raise InputError(f"{path}: cannot be read: {e.strerror}") from None

    def __iter__(self) -> Iterator[Record]:
        try:
            is_parquet = self._magic == PARQUET or self.path.suffix == ".parquet"
            yield from self._parquet() if is_parquet else self._json()
        except OSError as e:
            raise InputError(f"{self.path}: cannot be read: {e.strerror or e}") from None

    def _json(self) -> Iterator[Record]:
        self.done_bytes = 0
        with self.path.open("rb") as raw:
            stream = _unpacked(raw, self._magic)
            n = 0
            try:
                head = stream.peek(CHUNK_BYTES)[:CHUNK_BYTES].removeprefix(codecs.BOM_UTF8).lstrip()
                spread = head.startswith(b"[") or head.partition(b"\n")[0].strip() == b"{"
                for n, unit, data, ended in _values(stream) if spread else _lines(stream):
                    self.done_bytes = raw.tell()
                    yield from self._records(n, unit, data, ended)
            except BROKEN as e:
                words = BadRow(f"the packed data breaks off here ({e})")
                yield Record(f"{self.path}, after line {n}", f"{self.name}:{n}+", "", words, torn=True)
            self.done_bytes = self.total_bytes

    def _records(self, n: int, unit: str, data: "bytes | BadRow", ended: bool) -> Iterator[Record]:
        where, place = f"{self.path}, {unit} {n}", f"{self.name}:{n}"
        if isinstance(data, BadRow):
            yield Record(where, place, "", data, torn=not ended)
            return
        digest = hashlib.sha256(data).hexdigest()
        value = self._value(data)
        if isinstance(value, BadRow):
            torn = not ended
            yield Record(where, place, digest, BadRow(f"{value}; the line is torn off") if torn else value, torn)
        elif not isinstance(value, dict):
            yield Record(where, place, digest, NotAnObject(value))
        elif value.get("object") == "list" and isinstance(value.get("data"), list):
            for i, entry in enumerate(value["data"]):
                one = entry if isinstance(entry, dict) else NotAnObject(entry)
                yield Record(f"{where}, entry {i}", f"{place}.{i}", digest, one)
        else:
            yield Record(where, place, digest, value)

    def _value(self, data: bytes) -> object:
        """Returns the JSON value, or a BadRow that says why there is none."""
        try:
            text = data.decode("utf-8-sig")
            return DECODER.decode(text) if self._exact else json.loads(text)
        except UnicodeDecodeError:
            return BadRow("not UTF-8")
        except json.JSONDecodeError as e:
            return BadRow(f"not JSON ({e.msg} at column {e.colno})")
        except RecursionError:
            return BadRow("not JSON (nested too deeply)")
        except ValueError as e:  # a number of thousands of digits
            return BadRow(f"cannot be read: {e}")

    def _parquet(self) -> Iterator[Record]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        n = 0
        try:
            with pq.ParquetFile(self.path) as table:
                for batch in table.iter_batches(PARQUET_ROWS, use_threads=False):
                    for row in batch.to_pylist():
                        # Through JSON, so that numbers and types are as in the other layouts.
                        data = json.dumps(row, sort_keys=True, default=str).encode()
                        self.done_bytes = self.total_bytes * (n + 1) // table.metadata.num_rows
                        yield from self._records(n, "row", data, True)
                        n += 1
        except (pa.ArrowException, OSError, ValueError) as e:
            why = str(e).strip().splitlines()[0]
            raise InputError(f"{self.path}, after row {n}: cannot be read as Parquet: {why}") from None


def _unpacked(raw: io.BufferedReader, magic: bytes) -> io.BufferedReader:
    if magic.startswith(GZIP):
        return io.BufferedReader(gzip.GzipFile(fileobj=raw))
    if magic == ZSTANDARD:
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
    return raw


def _lines(stream: io.BufferedReader) -> Iterator[tuple[int, str, "bytes | BadRow", bool]]:
    """Yields (line number, the word "line", line without white space around it, whether it ended with a line break).

    Empty lines are left out. A line that is too long comes as a BadRow.
    """
    n = 0
    while line := stream.readline(MOST_BYTES + 1):
        n += 1
        ended = line.endswith(b"\n")
        if len(line) > MOST_BYTES:
            while line and not line.endswith(b"\n"):
                line = stream.readline(MOST_BYTES)
            yield n, "line", BadRow(f"longer than {MOST_BYTES >> 20} MiB"), True
        elif text := line.strip():
            yield n, "line", text, ended


def _values(stream: io.BufferedReader) -> Iterator[tuple[int, str, "bytes | BadRow", bool]]:
    """Yields the entries of a JSON array, or JSON objects that are spread over several lines.

    An entry comes as (its number, the word "entry", its bytes or a BadRow, whether it is complete). The last part is
    False only if the file breaks off inside the entry.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    text, at, n, ended = "", 0, 0, False

    def more() -> bool:
        nonlocal text, at, ended
        data = stream.read(max(CHUNK_BYTES, len(text) - at))
        text, at, ended = text[at:] + decoder.decode(data, final=not data), 0, not data
        return bool(data)

    try:
        more()
        text = text.lstrip()
        in_array = text.startswith("[")
        at = int(in_array)
        while True:
            while at < len(text) and text[at] in " \t\r\n,":
                at += 1
            if at == len(text) or (in_array and text[at] == "]"):
                if at < len(text) or not more():
                    break
                continue
            try:
                _, end = DECODER.raw_decode(text, at)
            except (ValueError, RecursionError) as e:
                if len(text) - at < MOST_BYTES and more():
                    continue
                torn = ended and _breaks_off(e, len(text.rstrip()))
                words = "it is torn off" if torn else "not JSON; the rest of the file cannot be read"
                yield n, "entry", BadRow(words), not torn
                return
            yield n, "entry", text[at:end].encode("utf-8", "surrogatepass"), True
            n, at = n + 1, end
    except UnicodeDecodeError:
        yield n, "entry", BadRow("not UTF-8; the rest of the file cannot be read"), True
        return
    if in_array and at == len(text):
        yield n, "entry", BadRow("the array is torn off"), False


def _breaks_off(e: Exception, end: int) -> bool:
    """Returns whether the JSON is wrong because it ends too early."""
    return isinstance(e, json.JSONDecodeError) and (e.pos >= end or e.msg.startswith("Unterminated string"))


def content_key(record: Record) -> str:
    """Returns the key of an imported attempt: a hash of the record's place and content."""
    return "sha256:" + hashlib.sha256(f"import\0{record.place}\0{record.digest}".encode()).hexdigest()
