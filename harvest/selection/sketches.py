"""Reads and writes the files of sketches beside the store.

A sketch is what selection remembers of a text: digests, signature, length. Facts that have no fixed size (faults,
domains, evaluation questions) stand in the notes of the same file. A file appears whole and has a checksum, so a kill
costs only the file that was being written. Any number of processes may write into one folder: what a file holds depends
neither on the process that wrote it nor on other files.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from harvest.selection.candidates import I64, LABELS
from harvest.selection.minhash import PERMUTATIONS

FRAMES = 6
"""How many hashes of its numbers a question has: one for the whole question, the others for the question without frames
(its first or last sentences)."""
ATTEMPT = np.dtype([("id", "<i8"), ("text", "<u8", 2), ("chars", "<i8"), ("signature", "<u2", PERMUTATIONS)])
QUESTION = np.dtype(
    [
        ("id", "<i8"), ("text", "<u8"), ("gold", "<u8"), ("numbers", "<u8", FRAMES), ("many", "?"),
        ("signature", "<u2", PERMUTATIONS),
    ]
)  # fmt: skip
Kind = Literal["attempts", "questions"]
DTYPES: Mapping[Kind, "np.dtype[np.void]"] = {"attempts": ATTEMPT, "questions": QUESTION}
Sketches = NDArray[np.void]


@dataclass(slots=True)
class Notes:
    """Facts of no fixed size, which are kept beside the sketches of one file or of several files."""

    faults: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Maps the id of each attempt that a filter refuses to (the filter's name, the detail)."""
    rewritten: dict[int, bool] = field(default_factory=dict)
    """Maps the id of each attempt that rewriting changes to whether its answer still passes the check."""
    by_model: list[int] = field(default_factory=list)
    """The ids of the attempts whose rewriting by a model is in the sketch."""
    domain: dict[str, list[int]] = field(default_factory=dict)
    """Maps each domain to the store's rows of its questions."""
    difficulty: dict[str, list[int]] = field(default_factory=dict)
    """Maps each difficulty to the store's rows of its questions."""
    asked: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Maps the row of each question that an evaluation asks to (the evaluation's name, the id of the evaluation's
    question)."""

    def add(self, other: "Notes") -> None:
        """Adds the notes of another file to these notes."""
        self.faults |= other.faults
        self.rewritten |= other.rewritten
        self.by_model += other.by_model
        self.asked |= other.asked
        for mine, theirs in ((self.domain, other.domain), (self.difficulty, other.difficulty)):
            for label, rows in theirs.items():
                mine.setdefault(label, []).extend(rows)


def labelled(rows: I64, by_label: Mapping[str, list[int]]) -> LABELS:
    """Returns [q]: the label of each question, or an empty text. `rows`, [q], are the questions' rows, in ascending
    order; `by_label` is as in Notes, and may have other questions' rows too."""
    found = np.full(len(rows), "", object)
    for label, at in by_label.items():
        found[np.isin(rows, np.array(at, np.int64))] = label
    return found


def in_a_file(folder: Path, kind: Kind, n: int) -> Sketches:
    """Returns an array for n sketches that lies in a file: the kernel takes its memory back when it is short of it. The
    file has no name, and is gone with the array. Raises OSError where the disk has no room."""
    if not n:
        return np.zeros(0, DTYPES[kind])
    with TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, n * DTYPES[kind].itemsize)
        return np.asarray(np.memmap(file, DTYPES[kind], "r+", shape=n))


def write_file(folder: Path, sketches: Sketches, notes: Notes) -> Path:
    """Writes a new file, which appears whole. Returns the path of the file.

    The file holds a line with a checksum, a line of JSON with the notes, and the sketches.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    first = int(sketches["id"][0]) if len(sketches) else 0
    path = folder / f"{first:010d}-{uuid4().hex[:8]}.sketch"
    body = sketches.tobytes()
    line = json.dumps({k: v for k, v in asdict(notes).items() if v}, ensure_ascii=True, separators=(",", ":"))
    head = {"n": len(sketches), "check": blake2b(line.encode() + body, digest_size=16).hexdigest()}
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(json.dumps(head).encode() + b"\n" + line.encode() + b"\n" + body)
    return part.replace(path)  # not synced to the disk: a file torn by a power cut fails its checksum and is made again


def read_file(path: Path, kind: Kind) -> tuple[Sketches, Notes] | None:
    """Returns (the sketches, the notes) of one file. Returns None if the file is not whole or cannot be read."""
    try:
        head, line, body = path.read_bytes().split(b"\n", 2)
        if json.loads(head)["check"] != blake2b(line + body, digest_size=16).hexdigest():
            return None
        return np.frombuffer(body, DTYPES[kind]), notes_of(**json.loads(line))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def notes_of(**said: Any) -> Notes:
    """Returns the notes from their form in JSON, in which keys are texts and pairs are lists."""
    notes = Notes(**said)
    for name in ("faults", "asked"):
        setattr(notes, name, {int(i): tuple(pair) for i, pair in getattr(notes, name).items()})
    notes.rewritten = {int(i): passes for i, passes in notes.rewritten.items()}
    return notes
