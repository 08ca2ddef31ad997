"""Reads questions from JSON lines, Parquet, CSV, a folder of such files, a dataset of the hub, or reasoning-gym.

All bad rows are named at once, each with file, line and field, before anything is asked.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import localcontext
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from harvest.core.errors import InputError, MissingExtra, QuestionError, RowFaults
from harvest.core.nouns import Question
from harvest.questions.datasets_on_disk import TABLES, dataset_rows, files_of, table_rows
from harvest.questions.files import Records
from harvest.questions.hub import HUB, hub_dataset, hub_licence, hub_rows
from harvest.questions.rows import (
    NO_COLUMNS,
    BadRow,
    MissingAnswer,
    MissingQuestion,
    NotAnObject,
    RowRules,
    question_of,
)

GYM = "reasoning-gym:"
FIRST_ROWS = 20
"""If so many rows at a source's beginning lack one field, the source's columns have other names."""
MISSING = {MissingQuestion: "has a question", MissingAnswer: "has an answer", NotAnObject: "has fields"}
A_ROW = '. A row is {"question": "…", "answer": "…"}'
"""What no row of a source is or has, by the fault of all of its first rows."""
NAMED = 3
"""So many questions with two gold answers are named; all are counted."""


@dataclass(slots=True)
class Tally:
    """Counts the rows of a run's sources that are no question of their own."""

    rows: int = 0
    """How many rows hold a question."""
    repeated: int = 0
    """How many of them repeat a row before them."""
    two_golds: list[str] = field(default_factory=list)
    """For each question that has another gold answer, or another check, in another row: both rows in words."""
    _seen: dict[bytes, str] = field(default_factory=dict)
    """The place of the row that asks a text first, by the text's hash."""

    def take(self, where: str, question: Question, *, is_repeated: bool) -> None:
        """Takes in one row that holds a question."""
        self.rows += 1
        self.repeated += is_repeated
        if is_repeated:
            return
        text = hashlib.sha256(" ".join(question.question.split()).encode()).digest()[:12]
        first = self._seen.setdefault(text, where)
        if first is not where:
            self.two_golds.append(f"{where} asks what {first} asks, and has another answer")

    def words(self) -> list[str]:
        """Returns a line for each thing that a user should know before the money is spent."""
        lines = []
        if self.repeated:
            again = "1 repeats another" if self.repeated == 1 else f"{self.repeated:,} repeat others"
            lines.append(f"{self.rows:,} rows are {self.rows - self.repeated:,} questions: {again}")
        if n := len(self.two_golds):
            shown = "; ".join(self.two_golds[:NAMED]) + ("; …" if n > NAMED else "")
            lines.append(
                f"warning: {n:,} {'question stands' if n == 1 else 'questions stand'} twice with different answers, so"
                f" each is asked and judged twice: {shown}"
            )
        return lines


def read_questions(
    sources: str | Iterable[str],
    base: Path,
    rules: RowRules,
    *,
    skip_bad_rows: Callable[[str], None] | None = None,
    may_skip: bool = True,
) -> Iterator[Question]:
    """Yields the questions that `read_rows` yields, without file and line."""
    return (q for _, q in read_rows(sources, base, rules, skip_bad_rows=skip_bad_rows, may_skip=may_skip))


def read_rows(
    sources: str | Iterable[str],
    base: Path,
    rules: RowRules,
    *,
    skip_bad_rows: Callable[[str], None] | None = None,
    without_gold: str = "refuse",
    may_skip: bool = True,
    columns: Mapping[str, str] = NO_COLUMNS,
    tally: Tally | None = None,
) -> Iterator[tuple[str, Question]]:
    """Yields (file and line, question) for each row of one or several sources, in order.

    A repeated question comes only once. Files are relative to `base`. `skip_bad_rows` is called with each bad row. If
    it is None, QuestionError is raised at the end, with a line for each of the first 20 bad rows and the number of all
    further ones; so a caller that stores questions while it reads must do so in one transaction. `without_gold` is the
    setting `checks.without_gold`, `columns` the setting `questions_columns`. `may_skip` says whether the command has a
    flag to go on without bad rows. A source is read no further if all of its first rows lack the question, or all lack
    the answer that their check needs, or all are no objects. `tally` counts the rows.
    """
    faults = RowFaults()
    seen: dict[str, bytes] = {}
    for source in [sources] if isinstance(sources, str) else sources:
        lacking: Counter[type[BadRow]] = Counter()
        n, last = 0, None
        for n, (where, row) in enumerate(_rows(source, base), 1):
            try:
                if isinstance(row, BadRow):
                    raise row
                question = question_of(row, rules, by_majority=without_gold == "majority", columns=columns)
                digest = hashlib.sha256(question.model_dump_json(exclude={"id"}).encode()).digest()[:8]
                before = seen.get(question.id)
                if before not in (None, digest):
                    raise BadRow(f"id: {question.id!r} names another question already")
                if tally is not None:
                    tally.take(where, question, is_repeated=before is not None)
                if before is not None:
                    continue
                seen[question.id] = digest
            except BadRow as e:
                lacking[type(e)] += 1
                last = e
                if type(e) in MISSING and lacking[type(e)] == n == FIRST_ROWS and skip_bad_rows is None:
                    raise QuestionError(
                        f"{source}: none of the first {n} rows {MISSING[type(e)]}. {_told(e)}"
                    ) from None
                (skip_bad_rows or faults.add)(f"{where}: {_told(e)}")
            else:
                yield where, question
        if last is not None and lacking[type(last)] == n > 1 and type(last) in MISSING and skip_bad_rows is None:
            raise QuestionError(f"{source}: none of its {n} rows {MISSING[type(last)]}. {_told(last)}")
    faults.refuse(
        "Mend the rows, or go on without them: --skip-bad-rows (of a job: skip_bad_rows = true)."
        if may_skip
        else "Mend the rows."
    )


def _told(fault: BadRow) -> str:
    return f"{fault}{A_ROW}" if isinstance(fault, NotAnObject) else str(fault)


def fingerprint(sources: str | Iterable[str], base: Path) -> str | None:
    """Returns the hash of files and of names of the hub's datasets, so that a run need not read them again: a run asks
    what it read there at first.

    None is returned if there is any other source. Raises QuestionError when a file cannot be read.
    """
    found = []
    for source in [sources] if isinstance(sources, str) else sources:
        if source.startswith(HUB):
            found.append(f"sha256:{hashlib.sha256(source.encode()).hexdigest()}")
        elif source.startswith(GYM) or not (path := base / source).is_file():
            return None
        else:
            found.append(_checksum(path))
    return found[0] if len(found) == 1 else f"sha256:{hashlib.sha256(' '.join(found).encode()).hexdigest()}"


def _checksum(path: Path) -> str:
    try:
        with path.open("rb") as f:
            return f"sha256:{hashlib.file_digest(f, 'sha256').hexdigest()}"
    except OSError as e:
        raise QuestionError(f"{path}: cannot be read: {e.strerror}") from None


def _rows(source: str, base: Path) -> Iterator[tuple[str, Mapping[str, Any] | BadRow]]:
    """Yields (file and line, row) for each row of one source. In place of a row that cannot be read comes a BadRow."""
    if source.startswith(GYM):
        yield from _gym_rows(source)
        return
    path = base / source
    try:
        if source.startswith(HUB):
            yield from _hub_rows(source)
            return
        if not path.exists():
            raise QuestionError(f"{path}: no such file (questions){_of_the_hub(source)}")
        if not path.is_dir():
            yield from _file_rows(path)
        elif (files := files_of(path)) is None:
            yield from dataset_rows(path)
        else:
            for file in files:
                yield from _file_rows(file)
    except QuestionError:
        raise
    except InputError as e:
        raise QuestionError(str(e)) from None
    except OSError as e:
        raise QuestionError(f"{path}: cannot be read: {e.strerror}") from None


def _file_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any] | BadRow]]:
    if path.suffix in TABLES:
        yield from table_rows(path)
    else:
        yield from ((record.where, record.value) for record in Records(path, exact=False))


def _of_the_hub(source: str) -> str:
    """Returns how a dataset of the hub is named, if a source that is no file may be one."""
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source) or source.endswith(
        (".jsonl", ".json", ".parquet", ".csv", ".gz")
    ):
        return ""
    return f'. Is it a dataset of the hub? questions = "{HUB}{source}?config=…&split=train"'


def _hub_rows(source: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the rows of a dataset of the hub. A row that names no source or licence gets the dataset's."""
    asked = hub_dataset(source)
    licence = hub_licence(asked.name, asked.revision)
    for where, row in hub_rows(source, streamed=True):
        said = {name: value for name, value in row.items() if value is not None}
        yield where, {"source": f"{HUB}{asked.name}", "licence": said.get("license", licence)} | said


def _gym_rows(source: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the rows of a source such as `reasoning-gym:chain_sum?n=200&seed=1&min_terms=3`.

    `n` and `seed` are the task's size and seed; all other names are the task's own settings.
    """
    task, _, query = source.removeprefix(GYM).partition("?")
    try:
        import reasoning_gym
    except ImportError:
        raise MissingExtra(f"questions = {source!r}", "gym") from None
    settings: dict[str, Any] = {"size": 100, "seed": 1}
    for key, text in parse_qsl(query, keep_blank_values=True):
        settings["size" if key == "n" else key] = _number(text)
    try:
        with localcontext():  # decimal_arithmetic sets the precision of every later Decimal
            entries = list(reasoning_gym.create_dataset(task, **settings))
    except ValueError as e:
        raise QuestionError(f"questions = {source!r}: {e}") from None
    except (TypeError, AssertionError) as e:
        raise QuestionError(f"questions = {source!r}: the task does not take these settings: {e}") from None
    for n, entry in enumerate(entries):
        is_number = re.fullmatch(r"-?\d+", str(entry["answer"]).strip()) is not None
        row: dict[str, Any] = {
            "question": entry["question"],
            "answer": str(entry["answer"]),
            "domain": "math" if is_number else "reasoning",
            "source": f"{GYM}{task}",
            "licence": "Apache-2.0",
        }
        if not is_number:
            row["reasoning_gym"] = {"task": task, "entry": json.loads(json.dumps(dict(entry), default=str))}
        yield f"{source}, row {n}", row


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)
