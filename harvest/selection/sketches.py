"""Sketches: what selection remembers of each text, in files beside the store.

A sketch has a fixed size: digests, a MinHash signature, a length. What has no fixed size (faults, domains, evaluation
questions) stands in a file's notes. A file appears whole and carries a checksum, so a kill costs the file that was
being written and no other. Any number of processes write files into one folder. What is in a file depends neither on
who wrote it nor on the other files.
"""

import json
import os
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
"""How many readings of a question without a frame are kept."""
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
    """What has no fixed size, of the sketches of one file or of several."""

    faults: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Of an attempt that a filter refuses: (the filter, its detail)."""
    rewritten: dict[int, bool] = field(default_factory=dict)
    """Of an attempt that the rules of rewriting change: whether the check still passes it."""
    domain: dict[str, list[int]] = field(default_factory=dict)
    """Rows of questions by their domain."""
    difficulty: dict[str, list[int]] = field(default_factory=dict)
    """Rows of questions by their difficulty."""
    asked: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Of a question that an evaluation asks: (the evaluation, the id of its question)."""

    def add(self, other: "Notes") -> None:
        """Takes over what stands in the notes of another file."""
        self.faults |= other.faults
        self.rewritten |= other.rewritten
        self.asked |= other.asked
        for mine, theirs in ((self.domain, other.domain), (self.difficulty, other.difficulty)):
            for label, rows in theirs.items():
                mine.setdefault(label, []).extend(rows)


def file_for(folder: Path, sketches: Sketches) -> Path:
    """A new name in `folder`, which no other process takes."""
    first = int(sketches["id"][0]) if len(sketches) else 0
    return folder / f"{first:010d}-{uuid4().hex[:8]}.sketch"


def write_file(path: Path, sketches: Sketches, notes: Notes) -> None:
    """Writes a line with a checksum, a line of JSON with the notes, and the sketches; all of it or nothing."""
    body = sketches.tobytes()
    line = json.dumps({k: v for k, v in asdict(notes).items() if v}, ensure_ascii=True, separators=(",", ":"))
    head = {"n": len(sketches), "check": blake2b(line.encode() + body, digest_size=16).hexdigest()}
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(json.dumps(head).encode() + b"\n" + line.encode() + b"\n" + body)
    part.replace(path)  # not synced to the disk: a file that a power cut tears fails its checksum and is made again


def read_file(path: Path, kind: Kind) -> tuple[Sketches, Notes] | None:
    """The sketches and notes of one file. None where it is not whole."""
    try:
        head, line, body = path.read_bytes().split(b"\n", 2)
        if json.loads(head)["check"] != blake2b(line + body, digest_size=16).hexdigest():
            return None
        return np.frombuffer(body, DTYPES[kind]), _notes(json.loads(line))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _notes(said: Mapping[str, Any]) -> Notes:
    """JSON has texts for keys, and lists for pairs."""

    def by_id(name: str) -> dict[int, tuple[str, str]]:
        return {int(i): (str(pair[0]), str(pair[1])) for i, pair in said.get(name, {}).items()}

    rewritten = {int(i): bool(passes) for i, passes in said.get("rewritten", {}).items()}
    return Notes(by_id("faults"), rewritten, said.get("domain", {}), said.get("difficulty", {}), by_id("asked"))
