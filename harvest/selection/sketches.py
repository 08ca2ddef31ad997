"""The files of sketches beside the store. A sketch is what selection remembers of a text: digests, signature, length.

What has no fixed size (faults, domains, evaluation questions) stands in a file's notes. A file appears whole and has a
checksum, so a kill costs only the file that was being written. Any number of processes write into one folder: what is
in a file depends neither on who wrote it nor on other files.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from harvest.selection.minhash import PERMUTATIONS

FRAMES = 6
"""How many readings of a question are kept: the whole of it, and without frames."""
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
    """What is known beside the sketches of one file or of several, and has no fixed size."""

    faults: dict[int, tuple[str, str]] = field(default_factory=dict)
    """(filter, detail) for each attempt that a filter refuses."""
    rewritten: dict[int, bool] = field(default_factory=dict)
    """For each attempt that the rules of rewriting change: whether the check still passes it."""
    domain: dict[str, list[int]] = field(default_factory=dict)
    """Rows of questions by their domain."""
    difficulty: dict[str, list[int]] = field(default_factory=dict)
    """Rows of questions by their difficulty."""
    asked: dict[int, tuple[str, str]] = field(default_factory=dict)
    """(evaluation, id of its question) for each question that an evaluation asks."""

    def add(self, other: "Notes") -> None:
        """Adds the notes of another file."""
        self.faults |= other.faults
        self.rewritten |= other.rewritten
        self.asked |= other.asked
        for mine, theirs in ((self.domain, other.domain), (self.difficulty, other.difficulty)):
            for label, rows in theirs.items():
                mine.setdefault(label, []).extend(rows)


def write_file(folder: Path, sketches: Sketches, notes: Notes) -> Path:
    """Writes a new file whole: a line with a checksum, a line of JSON with the notes, and the sketches. Its path."""
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
    """The sketches and notes of one file. None where it is not whole."""
    try:
        head, line, body = path.read_bytes().split(b"\n", 2)
        if json.loads(head)["check"] != blake2b(line + body, digest_size=16).hexdigest():
            return None
        return np.frombuffer(body, DTYPES[kind]), _notes(**json.loads(line))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _notes(**said: Any) -> Notes:
    """The notes from JSON, which has texts for keys, and lists for pairs."""
    notes = Notes(**said)
    for name in ("faults", "asked"):
        setattr(notes, name, {int(i): tuple(pair) for i, pair in getattr(notes, name).items()})
    notes.rewritten = {int(i): passes for i, passes in notes.rewritten.items()}
    return notes
