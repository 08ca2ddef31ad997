"""Decides what is selected, from what is remembered of all files: the stages of selection, in one process."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from harvest.core.errors import InputError
from harvest.core.money import CHARACTERS_A_TOKEN
from harvest.selection import stages
from harvest.selection.candidates import I64, Candidates, Outcome, Questions
from harvest.selection.decontamination import evaluations_of
from harvest.selection.pipeline import comparison
from harvest.selection.sketches import ATTEMPT, QUESTION, Notes, Sketches
from harvest.selection.summary import Summary, outcome_rows, summary
from harvest.shards.files import ROWS_A_FILE, load_read, questions_path, write_whole
from harvest.shards.job import ShardsJob

SUMMARY = "summary.json"


@dataclass(slots=True)
class Merged:
    """What is remembered of all files together."""

    answers: Sketches
    tokens: I64
    place: I64
    """[n]: the index of each candidate's question."""
    questions: Sketches
    """[q]: each question once, as the first file has it."""
    answer_notes: Notes
    question_notes: Notes
    offsets: dict[int, I64]
    """Maps a file's number to where its questions begin in its file of questions."""
    lines: I64
    """[q]: the line of each question in the file of questions that its row names."""
    rows: int


def outcome_path(job: ShardsJob, rank: int) -> Path:
    return job.outcome_folder / f"{rank:05d}.outcome"


def merge(job: ShardsJob) -> None:
    """Writes for each file of the export what becomes of its rows, and the summary of all. Raises InputError when a
    file is not read yet."""
    merged = _merged(job)
    questions = _questions(merged)
    estimate = np.ceil(merged.answers["chars"] / CHARACTERS_A_TOKEN).astype(np.int64)
    none = np.full(len(merged.answers), np.nan)
    of = Candidates(
        merged.answers["id"], merged.place, merged.answers["text"], merged.answers["signature"],
        np.where(merged.tokens >= 0, merged.tokens, estimate),
        np.isin(merged.answers["id"], np.array(sorted(merged.answer_notes.faults), np.int64)), none, none,
    )  # fmt: skip
    with _Texts(job, merged) as texts:
        outcome = stages.select(of, questions, job.select, comparison(texts.bodies, questions.row), lambda _: None)
    against = {
        e.name: len(e.questions) for e in evaluations_of(job.select.against, Path(job.base), job.select.against_columns)
    }
    said = summary(of, questions, outcome, merged.answer_notes, job.select, counted=merged.tokens >= 0, against=against)
    _write(job, merged, of, questions, outcome, said)


def _merged(job: ShardsJob) -> Merged:
    answers, tokens, place, sketches, lines = [], [], [], [], []
    answer_notes, question_notes = Notes(), Notes()
    index: dict[str, int] = {}
    offsets: dict[int, I64] = {}
    rows = 0
    for rank in range(len(job.files)):
        try:
            read = load_read(job.read_folder, rank)
        except (OSError, ValueError):
            raise InputError(f"{job.files[rank]}: is not read; the same command goes on with it") from None
        rows += read.rows
        first = len(index)
        new = [n for n, key in enumerate(read.question_keys) if index.setdefault(key, len(index)) >= first]
        answers.append(read.answers)
        tokens.append(read.tokens)
        place.append(np.array([index[key] for key in read.asked], np.int64))
        sketches.append(read.questions[new])
        lines += new
        answer_notes.add(read.answer_notes)
        question_notes.add(read.question_notes)
        if read.offsets is not None:
            offsets[rank] = read.offsets
    return Merged(
        np.concatenate([np.zeros(0, ATTEMPT), *answers]), np.concatenate([np.zeros(0, np.int64), *tokens]),
        np.concatenate([np.zeros(0, np.int64), *place]), np.concatenate([np.zeros(0, QUESTION), *sketches]),
        answer_notes, question_notes, offsets, np.array(lines, np.int64), rows,
    )  # fmt: skip


def _questions(merged: Merged) -> Questions:
    rows, notes = merged.questions["id"], merged.question_notes

    def labels(by_label: Mapping[str, list[int]]) -> NDArray[np.str_]:
        by_row = {row: label for label, at in by_label.items() for row in at}
        longest = max((len(label) for label in by_label), default=1)
        return np.array([by_row.get(row, "") for row in rows.tolist()], f"U{max(1, longest)}")

    sketches = merged.questions
    return Questions(
        rows, sketches["text"], sketches["gold"], sketches["numbers"], sketches["many"], sketches["signature"],
        labels(notes.domain), labels(notes.difficulty), np.isin(rows, np.array(sorted(notes.asked), np.int64)),
        np.full(len(rows), np.nan),
    )  # fmt: skip


class _Texts:
    """Reads questions from the files that the tasks left, when two questions are compared by their texts."""

    def __init__(self, job: ShardsJob, merged: Merged) -> None:
        self._job, self._merged = job, merged
        self._line = dict(zip(merged.questions["id"].tolist(), merged.lines.tolist(), strict=True))
        self._open: dict[int, IO[bytes]] = {}

    def __enter__(self) -> "_Texts":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()

    def bodies(self, rows: Sequence[int]) -> Iterator[tuple[int, str]]:
        for row in rows:
            rank = row // ROWS_A_FILE
            if rank not in self._open:
                self._open[rank] = questions_path(self._job.read_folder, rank).open("rb")
            offsets, line = self._merged.offsets[rank], self._line[row]
            self._open[rank].seek(int(offsets[line]))
            yield row, self._open[rank].read(int(offsets[line + 1] - offsets[line])).decode("utf-8", "surrogatepass")


def _write(
    job: ShardsJob, merged: Merged, of: Candidates, questions: Questions, outcome: Outcome, said: Summary
) -> None:
    rows = outcome_rows(of, outcome, merged.answer_notes, merged.question_notes, questions.row[merged.place])
    lines: dict[int, list[bytes]] = {rank: [] for rank in range(len(job.files))}
    for row, reason, instead, detail, _ in rows:
        kept = None if instead is None else [Path(job.files[instead // ROWS_A_FILE]).name, instead % ROWS_A_FILE]
        lines[row // ROWS_A_FILE].append(json.dumps([row % ROWS_A_FILE, reason, kept, detail]).encode() + b"\n")
    for rank, of_one in lines.items():
        write_whole(outcome_path(job, rank), b"".join(of_one))
    found: dict[str, Any] = {"rows": merged.rows, "summary": said}
    write_whole(job.outcome_folder / SUMMARY, json.dumps(found, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def outcomes(path: Path) -> dict[int, tuple[str | None, list[Any] | None, str | None]]:
    """Maps the number of each row of a file that was a candidate to (the reason why it is not selected or None, the
    file and row that is kept instead or None, a detail or None)."""
    with path.open("rb") as lines:
        return {row: (reason, kept, detail) for row, reason, kept, detail in map(json.loads, lines)}
