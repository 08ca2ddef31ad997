"""Writes and reads what a task leaves of one file of an export. A file appears whole."""

import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harvest.core.foreign_json import Json
from harvest.core.nouns import Question
from harvest.selection.candidates import I64
from harvest.selection.minhash import U64
from harvest.selection.sketches import Notes, Sketches, notes_of

VERSION = "2"
"""The version of what is written here. When it changes, all files of an export are read again."""
ROWS_A_FILE = 1 << 32
"""The ids of a file's rows begin at its number times this, so a file has at most so many rows."""


@dataclass(slots=True)
class FileRead:
    """What is remembered of one file of an export."""

    rows: int
    answers: Sketches
    """[n]: the sketches of the file's candidates. Their ids are those of the rows."""
    tokens: I64
    """[n]: the number of output tokens, or −1 if the endpoint sent no count."""
    asked: I64
    """[n]: the index of each candidate's question in `question_keys`."""
    question_keys: U64
    """[q, 2]: a hash of id, text and gold answer of each question that has a candidate in this file."""
    questions: Sketches
    """[q]: their sketches. A question's row is the id of its first row in the file."""
    answer_notes: Notes
    question_notes: Notes
    judged: Sequence[Json | None] | None = None
    """What judging changed of each row of the file (None: nothing); None if nothing was judged."""
    offsets: I64 | None = None
    """[q + 1]: where each question begins in the file of questions."""


def write_whole(path: Path, parts: Iterable[bytes]) -> None:
    """Writes a file that appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        file.writelines(parts)
    part.replace(path)


def read_path(folder: Path, rank: int) -> Path:
    return folder / f"{rank:05d}.npz"


def questions_path(folder: Path, rank: int) -> Path:
    return folder / f"{rank:05d}.questions"


def judged_path(folder: Path, rank: int) -> Path:
    return folder / f"{rank:05d}.judged"


def write_read(folder: Path, rank: int, read: FileRead, questions: Sequence[Question]) -> None:
    """Writes what is remembered of the file number `rank`. The file that says that it is done is written last."""
    lines = [question.model_dump_json().encode("utf-8", "surrogatepass") + b"\n" for question in questions]
    write_whole(questions_path(folder, rank), lines)
    if read.judged is not None:
        write_whole(judged_path(folder, rank), (json.dumps(one).encode() + b"\n" for one in read.judged))
    said = {"rows": read.rows, "answers": asdict(read.answer_notes), "questions": asdict(read.question_notes)}
    packed = io.BytesIO()
    np.savez(
        packed,
        answers=read.answers,
        tokens=read.tokens,
        asked=read.asked,
        question_keys=read.question_keys,
        questions=read.questions,
        offsets=np.cumsum([0, *map(len, lines)], dtype=np.int64),
        said=np.frombuffer(json.dumps(said).encode(), np.uint8),
    )
    write_whole(read_path(folder, rank), [packed.getvalue()])


def load_read(folder: Path, rank: int) -> FileRead:
    """Returns what is remembered of the file number `rank`. Raises OSError or ValueError when it is not there whole."""
    with np.load(read_path(folder, rank), allow_pickle=False) as packed:
        said: dict[str, Any] = json.loads(packed["said"].tobytes())
        return FileRead(
            said["rows"], packed["answers"], packed["tokens"], packed["asked"], packed["question_keys"],
            packed["questions"], notes_of(**said["answers"]), notes_of(**said["questions"]), offsets=packed["offsets"],
        )  # fmt: skip
