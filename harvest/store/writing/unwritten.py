"""Keeps settlements that could not be written to the store in files outside of it, until the store takes them in.

A file holds records, one after the other: the length and the CRC-32 of a packed settlement, then the settlement. A
length of 0 ends the records, and so does a torn record. The first file is beside the store. Room is set aside in it
before anything is asked, since a full disk takes nothing more. The other files are in folders for temporary files.
"""

import fcntl
import hashlib
import json
import os
import secrets
import stat
import struct
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

import zstandard
from pydantic import TypeAdapter

from harvest.core.errors import FAILURES, AttemptFailed
from harvest.core.nouns import Reply
from harvest.store.token_logprobs import packed, unpacked

HEAD = struct.Struct("<II")
END = bytes(HEAD.size)
BYTES_A_REPLY = 32 << 10
"""This many bytes are set aside in the first file for each request in flight. A reply of 40 KB takes about 16 KB
packed."""
LEAST_BYTES, MOST_BYTES, SHARE_OF_FREE = 256 << 10, 16 << 20, 8
"""At least LEAST_BYTES are set aside, at most MOST_BYTES, and never more than the free room / SHARE_OF_FREE."""
TEMPORARY = ("/tmp", "/var/tmp")

SettledBy = Literal["settle", "settle_failure"]
"""The methods of the store that settle a try."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """A call that settles a try: the name of the store's method, and its arguments."""

    method: SettledBy
    try_id: int
    more: tuple[Any, ...]
    """The other arguments: replies, failures and plain values. The last one says when the try ended. Empty: this winnow
    does not understand the arguments that the file holds."""
    sent_at: str | None = None
    """When the try was sent, so that no other store takes the try for its own; None: nobody knows."""


class Unwritten:
    """The settlements of one store that wait in files. One process at a time uses it: the one that holds the store's
    lock. Processes that share a store have files of their own each."""

    def __init__(self, store: Path) -> None:
        real = store.resolve()
        name = f"winnow-{os.geteuid()}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:16]}.unwritten"
        self._lock: int | None = None
        folders = dict.fromkeys((os.environ.get("TMPDIR") or TEMPORARY[0], *TEMPORARY))
        self._beside = real.with_name(f"{real.name}.unwritten")
        self._places = (self._beside, *(Path(folder) / name for folder in folders))
        self._ends: dict[Path, int] = {}
        self.count = 0
        """How many settlements this process has put into the files."""

    @classmethod
    def of_process(cls, store: Path) -> Self:
        """Returns files of this process alone, beside the path `store`, which many processes share."""
        path = store.with_name(f"{store.name}.{os.getpid()}-{secrets.token_hex(4)}")
        found = cls(path)
        found._lock = _locked(path)
        return found

    @classmethod
    def left_behind(cls, store: Path) -> Iterator[Self]:
        """Gives the files of processes that have ended, and holds them against others until the next is taken."""
        for place in sorted(store.parent.glob(f"{store.name}.*.lock")):
            path = place.with_name(place.name.removesuffix(".lock"))
            with suppress(OSError):
                lock = _locked(path)
                if lock is not None:
                    found = cls(path)
                    found._lock = lock
                    yield found
                    os.close(lock)

    def set_aside(self, in_flight: int) -> None:
        """Sets room aside beside the store for what so many requests in flight may bring."""
        with suppress(OSError):
            disk = os.statvfs(self._beside.parent)
            wanted = min(max(in_flight * BYTES_A_REPLY, LEAST_BYTES), MOST_BYTES)
            with self._opened(self._beside, os.O_RDWR | os.O_CREAT) as file:
                file.write(bytes(min(wanted, disk.f_bavail * disk.f_frsize // SHARE_OF_FREE)))

    def put(self, settlements: Iterable[Settlement]) -> None:
        """Puts settlements into the first file with room, and returns when they are on the disk. Raises OSError when no
        file has room."""
        packed = [_pack(s) for s in settlements]
        failed: OSError | None = None
        if not packed:
            return
        for place in self._places:
            try:
                self._write(place, b"".join(packed) + END)
            except OSError as e:
                failed = failed or e
                continue
            self._ends[place] = self._ends.get(place, 0) + sum(map(len, packed))
            self.count += len(packed)
            return
        raise failed or OSError("no place")

    def found(self) -> Iterator[tuple[Path, list[Settlement]]]:
        """Gives each file that is there, with its settlements in the order in which they were put."""
        for place in self._places:
            if (data := self._read(place)) is not None:
                self._ends.setdefault(place, 0)
                yield place, list(_unpack(data))

    def clear(self) -> None:
        """Empties the files, whose settlements are in the store. The room that is set aside stays."""
        self.count, self._ends = 0, dict.fromkeys(self._ends, 0)
        with suppress(OSError):
            self._write(self._beside, END)
            for place in self._ends.keys() - {self._beside}:
                place.unlink(missing_ok=True)

    def remove(self) -> None:
        """Removes the files, whose settlements are in the store."""
        for place in {self._beside, *self._ends}:
            place.unlink(missing_ok=True)
        if self._lock is not None:
            self._beside.with_suffix(".lock").unlink(missing_ok=True)

    def places(self) -> str:
        """Returns the names of the files that this process has put settlements into."""
        return " and ".join(str(place) for place, end in self._ends.items() if end)

    def _write(self, place: Path, data: bytes) -> None:
        """Writes at the end of the records that the file holds. Raises OSError when not all of it is on the disk."""
        with self._opened(place, os.O_RDWR | os.O_CREAT) as file:
            at = self._ends.get(place, 0)
            file.seek(at)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _read(self, place: Path) -> bytes | None:
        try:
            with self._opened(place, os.O_RDONLY) as file:
                return file.read()
        except OSError:  # not there, or not ours
            return None

    def _opened(self, place: Path, flags: int) -> BinaryIO:
        """Opens a file of this user. Raises OSError for another user's file, and for a link."""
        descriptor = os.open(place, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or (place != self._beside and about.st_uid != os.geteuid()):
            os.close(descriptor)
            raise PermissionError(f"{place} is not ours")
        return os.fdopen(descriptor, "rb" if flags == os.O_RDONLY else "r+b")


def _locked(path: Path) -> int | None:
    """Returns the lock of a process's files, which the process holds to its end; None if it lives. Raises OSError."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _pack(settlement: Settlement) -> bytes:
    values = [settlement.method, settlement.try_id, settlement.sent_at, [_as_json(v) for v in settlement.more]]
    packed = zstandard.compress(json.dumps(values).encode(), 3)
    return HEAD.pack(len(packed), zlib.crc32(packed)) + packed


def _unpack(data: bytes) -> Iterator[Settlement]:
    at = 0
    while at + HEAD.size <= len(data):
        length, checksum = HEAD.unpack_from(data, at)
        packed = data[at + HEAD.size : at + HEAD.size + length]
        if not length or len(packed) < length or zlib.crc32(packed) != checksum:
            return
        method, try_id, sent_at, more = json.loads(zstandard.decompress(packed))
        try:
            yield Settlement(method, try_id, tuple(map(_of_json, more)), sent_at)
        except (LookupError, TypeError, ValueError):  # another version of winnow wrote it
            yield Settlement(method, try_id, (), sent_at)
        at += HEAD.size + length


def _as_json(value: object) -> Any:
    if isinstance(value, Reply):
        found = value.logprobs
        logprobs = None if found is None else b64encode(packed(found)).decode()
        return {"reply": asdict(replace(value, logprobs=None)), "logprobs": logprobs}
    if isinstance(value, AttemptFailed):
        return {"failure": [value.kind, value.message]}
    return value


def _of_json(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "failure" in value:
        kind, message = value["failure"]
        return FAILURES[kind](message)
    reply = TypeAdapter(Reply).validate_python(value["reply"])
    found = value.get("logprobs")
    return reply if found is None else replace(reply, logprobs=unpacked(b64decode(found)))
