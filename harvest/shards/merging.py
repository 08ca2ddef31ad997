"""Decides what is selected, from what is remembered of all files: the stages of selection, in one process."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from harvest.core.errors import InputError
from harvest.core.money import CHARACTERS_A_TOKEN
from harvest.selection import stages
from harvest.selection.candidates import I64, LABELS, Candidates, Questions
from harvest.selection.decontamination import evaluations_of
from harvest.selection.minhash import U64
from harvest.selection.pipeline import comparison
from harvest.selection.sketches import Notes, Sketches, in_a_file, labelled
from harvest.selection.summary import OutcomeRow, Summary, outcome_rows, summary
from harvest.shards.files import ROWS_A_FILE, FileRead, load_read, questions_path, write_whole
from harvest.shards.job import ShardsJob

SUMMARY = "summary.json"


@dataclass(slots=True)
class Merged:
    """What is remembered of all files together. Both arrays of sketches lie in files, so that the kernel decides how
    much of them is in memory."""

    answers: Sketches
    tokens: I64
    place: I64
    """[n]: the index of each candidate's question."""
    questions: Sketches
    """[q]: each question once, as the first file has it."""
    domain: LABELS
    difficulty: LABELS
    answer_notes: Notes
    question_notes: Notes
    """The notes without domains and difficulties."""
    counts: list[int]
    """How many candidates each file has."""
    lines: I64
    """[q]: the line of each question in the file of questions that its row names."""
    rows: int


def outcome_path(job: ShardsJob, rank: int) -> Path:
    return job.outcome_folder / f"{rank:05d}.outcome"


def merge(job: ShardsJob) -> None:
    """Writes for each file of the export what becomes of its rows, and the summary of all. Raises InputError when a
    file is not read yet, or when the disk has no room for the sketches once more."""
    job.outcome_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        merged = _merged(job)
    except OSError as e:
        raise InputError(f"{job.outcome_folder}: cannot be written: {e.strerror}") from None
    sketches = merged.questions
    rows, none = sketches["id"].copy(), np.full(1, np.nan)
    questions = Questions(
        rows, sketches["text"], sketches["gold"], sketches["numbers"], sketches["many"], sketches["signature"],
        merged.domain, merged.difficulty, np.isin(rows, np.array(sorted(merged.question_notes.asked), np.int64)),
        np.broadcast_to(none, len(rows)),
    )  # fmt: skip
    answers = merged.answers
    estimate = np.ceil(answers["chars"] / CHARACTERS_A_TOKEN).astype(np.int64)
    no_score = np.broadcast_to(none, len(answers))
    of = Candidates(
        answers["id"], merged.place, answers["text"], answers["signature"],
        np.where(merged.tokens >= 0, merged.tokens, estimate),
        np.isin(answers["id"], np.array(sorted(merged.answer_notes.faults), np.int64)), no_score, no_score,
        np.broadcast_to(np.zeros(1, bool), len(answers)),
    )  # fmt: skip
    with _Texts(job, rows, merged.lines) as texts:
        outcome = stages.select(of, questions, job.select, comparison(texts.bodies, rows), lambda _: None)
    against = {
        e.name: len(e.questions) for e in evaluations_of(job.select.against, Path(job.base), job.select.against_columns)
    }
    said = summary(of, questions, outcome, merged.answer_notes, job.select, counted=merged.tokens >= 0, against=against)
    _write(job, merged, outcome_rows(of, outcome, merged.answer_notes, merged.question_notes, rows[merged.place]), said)


def _merged(job: ShardsJob) -> Merged:
    keys, counts = [np.zeros((0, 2), np.uint64)], []
    for rank in range(len(job.files)):
        read = _read(job, rank)
        keys.append(read.question_keys)
        counts.append(len(read.answers))
    of_key, first = _each_once(np.concatenate(keys))
    merged = Merged(
        in_a_file(job.outcome_folder, "attempts", sum(counts)), np.zeros(sum(counts), np.int64),
        np.zeros(sum(counts), np.int64), in_a_file(job.outcome_folder, "questions", len(first)),
        np.full(len(first), "", object), np.full(len(first), "", object), Notes(), Notes(), counts,
        np.zeros(len(first), np.int64), 0,
    )  # fmt: skip
    row = known = asked = 0
    for rank, n in enumerate(counts):
        read, m = _read(job, rank), len(keys[rank + 1])
        merged.rows += read.rows
        here = slice(row, row + n)
        merged.answers[here], merged.tokens[here] = read.answers, read.tokens
        merged.place[here] = of_key[known : known + m][read.asked]
        new = first[asked : np.searchsorted(first, known + m)] - known
        here = slice(asked, asked + len(new))
        merged.questions[here], merged.lines[here] = read.questions[new], new
        notes, ids = read.question_notes, read.questions["id"][new]
        merged.domain[here], merged.difficulty[here] = labelled(ids, notes.domain), labelled(ids, notes.difficulty)
        notes.domain, notes.difficulty = {}, {}
        merged.question_notes.add(notes)
        merged.answer_notes.add(read.answer_notes)
        row, known, asked = row + n, known + m, asked + len(new)
    return merged


def _read(job: ShardsJob, rank: int) -> FileRead:
    try:
        return load_read(job.read_folder, rank)
    except (OSError, ValueError, KeyError):
        raise InputError(f"{job.files[rank]}: is not read; the same command goes on with it") from None


def _each_once(keys: U64) -> tuple[I64, I64]:
    """Returns ([k]: the number of each key, where equal keys have one number and numbers follow the order in which keys
    first appear; [q]: where the key of each number first appears). `keys` is [k, 2]."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    is_first = np.ones(len(keys), bool)
    is_first[1:] = (keys[order[1:]] != keys[order[:-1]]).any(axis=1)
    first = order[is_first]
    number = np.empty_like(first)
    number[np.argsort(first)] = np.arange(len(first))
    of_key = np.empty_like(order)
    of_key[order] = number[np.cumsum(is_first) - 1]
    return of_key, np.sort(first)


class _Texts:
    """Reads questions from the files that the tasks left, when two questions are compared by their texts."""

    def __init__(self, job: ShardsJob, rows: I64, lines: I64) -> None:
        """`rows` are the questions' rows, in ascending order, and `lines` their lines in the files of questions."""
        self._job, self._rows, self._lines = job, rows, lines
        self._open: dict[int, tuple[IO[bytes], I64]] = {}

    def __enter__(self) -> "_Texts":
        return self

    def __exit__(self, *_: object) -> None:
        for file, _offsets in self._open.values():
            file.close()

    def bodies(self, rows: Sequence[int]) -> Iterator[tuple[int, str]]:
        for row, line in zip(rows, self._lines[np.searchsorted(self._rows, rows)].tolist(), strict=True):
            rank = row // ROWS_A_FILE
            if rank not in self._open:
                self._open[rank] = questions_path(self._job.read_folder, rank).open("rb"), _offsets(self._job, rank)
            file, offsets = self._open[rank]
            file.seek(int(offsets[line]))
            yield row, file.read(int(offsets[line + 1] - offsets[line])).decode("utf-8", "surrogatepass")


def _offsets(job: ShardsJob, rank: int) -> I64:
    offsets = _read(job, rank).offsets
    assert offsets is not None
    return offsets


def _write(job: ShardsJob, merged: Merged, rows: Iterator[OutcomeRow], said: Summary) -> None:
    def lines(of_one: Iterable[OutcomeRow]) -> Iterator[bytes]:
        for row, reason, instead, detail, _ in of_one:
            kept = None if instead is None else [Path(job.files[instead // ROWS_A_FILE]).name, instead % ROWS_A_FILE]
            yield json.dumps([row % ROWS_A_FILE, reason, kept, detail]).encode() + b"\n"

    for rank, n in enumerate(merged.counts):
        write_whole(outcome_path(job, rank), lines(islice(rows, n)))
    found: dict[str, Any] = {"rows": merged.rows, "summary": said}
    write_whole(job.outcome_folder / SUMMARY, [json.dumps(found, ensure_ascii=False).encode("utf-8", "surrogatepass")])


def outcomes(path: Path) -> dict[int, tuple[str | None, list[Any] | None, str | None]]:
    """Maps the number of each row of a file that was a candidate to (the reason why it is not selected or None, the
    file and row that is kept instead or None, a detail or None)."""
    with path.open("rb") as lines:
        return {row: (reason, kept, detail) for row, reason, kept, detail in map(json.loads, lines)}
