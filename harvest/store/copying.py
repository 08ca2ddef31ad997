"""Copies runs from one store to another, table by table. Rows get new ids, in the order of the old ones."""

import json
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from harvest.core.errors import StoreUnusable
from harvest.store.connection import Connection

PAGE = 2000
"""How many rows are in memory at a time."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is copied."""

    name: str
    columns: tuple[str, ...]
    refers: Mapping[str, str]
    """Maps each column that holds another row's id to that row's table."""
    of_run: str
    """The condition that a row belongs to the run `?`."""
    order: str = "id"

    @property
    def has_id(self) -> bool:
        return self.order == "id"


OF_ATTEMPT = "attempt_id IN (SELECT id FROM attempt WHERE run_id = ?)"
OF_TRY = "try_id IN (SELECT id FROM try WHERE run_id = ?)"
RUN = {"run_id": "run"}
TABLES = (
    Table(
        "session", ("run_id", "started_at", "ended_at", "status", "peak_in_flight", "limited_by", "stopped_by"), RUN,
        "run_id = ?",
    ),
    Table("question", ("run_id", "name", "body", "status", "stratum", "turn"), RUN, "run_id = ?"),
    Table(
        "attempt",
        (
            "run_id", "question_id", "kind", "about", "teacher", "sample", "max_tokens", "key", "state", "reused",
            "accepted", "reason", "waited_s", "continues",
        ),
        RUN | {"question_id": "question", "about": "attempt", "continues": "attempt"}, "run_id = ?",
    ),
    Table(
        "batch",
        (
            "run_id", "teacher", "name", "rows", "state", "refused", "file_id", "batch_id", "made_at", "created_at",
            "ended_at",
        ),
        RUN, "run_id = ?",
    ),
    Table(
        "try",
        (
            "attempt_id", "run_id", "state", "kind", "message", "reserved", "cost", "cost_source", "doubt",
            "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "finish_reason", "served_model",
            "served_by", "system_fingerprint", "response_id", "sent_at", "ended_at", "settled_by", "settled_at",
            "batch_id", "session_id", "replica",
        ),
        RUN | {"attempt_id": "attempt", "batch_id": "batch", "session_id": "session"}, "run_id = ?",
    ),
    Table("reply", ("try_id", "body"), {"try_id": "try"}, OF_TRY, "try_id"),
    Table("token_logprobs", ("try_id", "body"), {"try_id": "try"}, OF_TRY, "try_id"),
    Table("endpoint_claim", ("try_id", "kind", "words"), {"try_id": "try"}, OF_TRY, "try_id, kind"),
    Table(
        "verdict", ("attempt_id", "check_name", "version", "outcome", "detail", "share", "at"),
        {"attempt_id": "attempt"}, OF_ATTEMPT,
    ),
    Table("event", ("run_id", "at", "kind", "data"), RUN, "run_id = ?"),
    Table("training", ("run_id", "key", "block"), RUN, "run_id = ?"),
    Table("training_point", ("run_id", "key", "step", "point"), RUN, "run_id = ?", "key, step"),
    Table("evaluation", ("run_id", "key", "settings"), RUN, "run_id = ?"),
    Table(
        "evaluation_answer",
        ("evaluation_id", "question_id", "sample", "outcome", "finish_reason", "output_tokens", "cost", "text"),
        {"evaluation_id": "evaluation"}, "evaluation_id IN (SELECT id FROM evaluation WHERE run_id = ?)",
        "evaluation_id, question_id, sample",
    ),
    Table("selection", ("run_id", "at", "key", "settings", "said"), RUN, "run_id = ?"),
    Table(
        "selection_outcome", ("selection_id", "attempt_id", "reason", "instead", "detail", "rewritten"),
        {"selection_id": "selection", "attempt_id": "attempt", "instead": "attempt"},
        "selection_id IN (SELECT id FROM selection WHERE run_id = ?)", "selection_id, attempt_id",
    ),
    Table("student_scoring", ("run_id", "student", "weights", "rendering", "at"), RUN, "run_id = ?"),
    Table(
        "student_score", ("scoring_id", "attempt_id", "tokens", "surprisal_nats", "ranks"),
        {"scoring_id": "student_scoring", "attempt_id": "attempt"}, OF_ATTEMPT, "scoring_id, attempt_id",
    ),
)  # fmt: skip
"""Every table with rows of a run, each after those that it refers to."""
ANSWERS = Table("attempt", ("answer_try",), {}, "run_id = ?")
"""The column that is filled in when all tries are there."""
RUN_COLUMNS = ("name", "config", "created_at", "cap", "spent", "reserved", "in_doubt", "under")


VERIFYING = "verify"
"""The kind of the events that name a verdict's id, as `since` (harvest/judging/verification.py)."""


class NewIds:
    """Maps the ids of one run's rows in one table to their new ids. The rows are added in the order of both."""

    def __init__(self) -> None:
        self._old, self._new = array("q"), array("q")

    def add(self, old: int, new: int) -> None:
        self._old.append(old)
        self._new.append(new)

    def get(self, old: int) -> int | None:
        """Returns the new id of a row; None if it was not added."""
        at = bisect_left(self._old, old)
        return self._new[at] if at < len(self._old) and self._old[at] == old else None

    def newest_to(self, old: int) -> int:
        """Returns the new id of the last row with an id up to `old`; 0 if there is none."""
        at = bisect_right(self._old, old)
        return self._new[at - 1] if at else 0


class Copying(Connection):
    """The SQL statements that copy runs."""

    def all_run_names(self) -> list[str]:
        """Returns the names of all runs, the oldest first."""
        return [row["name"] for row in self.db.execute("SELECT name FROM run ORDER BY id")]

    def with_what_it_needs(self, name: str) -> list[str]:
        """Returns the names of a run, of the runs whose answers it uses and under whose cap it spends, of those that
        spend under its cap, and so on; the oldest first."""
        found, new = set[str](), {name}
        while new:
            found |= new
            rows = self._all(
                "SELECT DISTINCT other.name FROM run JOIN attempt ON attempt.run_id = run.id"
                " JOIN try ON try.id = answer_try JOIN run AS other ON other.id = try.run_id"
                " WHERE attempt.reused = 1 AND run.name IN (SELECT value FROM json_each(:names)) UNION"
                " SELECT other.name FROM run JOIN run AS other ON other.name = run.under OR other.under = run.name"
                " WHERE run.name IN (SELECT value FROM json_each(:names))",
                {"names": json.dumps(sorted(new))},
            )
            new = {row["name"] for row in rows} - found
        return [known for known in self.all_run_names() if known in found]

    def copy_to(self, other: "Copying", names: Sequence[str], on_rows: Callable[[int], None]) -> None:
        """Copies these runs with everything that belongs to them: all of it, or nothing. `on_rows` is called with the
        number of rows that are written so far. Raises StoreUnusable when the other store has a run of one name."""
        if there := [name for name in names if other._row("SELECT 1 FROM run WHERE name = ?", name) is not None]:
            raise StoreUnusable(f"store {other.words} has a run {there[0]!r} already; nothing was copied")
        written, all_ids = 0, dict[int, dict[str, NewIds]]()
        with other.transaction():
            for name in names:
                statement = f"SELECT id, {', '.join(RUN_COLUMNS)} FROM run WHERE name = ?"  # noqa: S608 - ours
                run_id, *values = self._all(statement, name)[0].values()
                ids = all_ids[run_id] = {table: NewIds() for table in ("run", *(t.name for t in TABLES))}
                ids["run"].add(run_id, other._insert(_insertion("run", RUN_COLUMNS), *values))
                for table in TABLES:
                    for page in self._pages(table, run_id):
                        other._write_page(table, page, ids)
                        written += len(page)
                        on_rows(written)
            for run_id, ids in all_ids.items():
                tries = [ids["try"], *(theirs["try"] for theirs in all_ids.values() if theirs is not ids)]
                for page in self._pages(ANSWERS, run_id):
                    other._fill_in_answers(page, ids["attempt"], tries)

    def _pages(self, table: Table, run_id: int) -> Iterator[list[tuple[Any, ...]]]:
        """Gives the rows of a run in one table, some at a time, each with its id first if it has one."""
        columns = ", ".join(("id", *table.columns) if table.has_id else table.columns)
        rows = self._each(
            f"SELECT {columns} FROM {table.name} WHERE {table.of_run} ORDER BY {table.order}",  # noqa: S608 - ours
            run_id,
        )
        while page := [tuple(row) for row in islice(rows, PAGE)]:
            yield page

    def _write_page(self, table: Table, page: Sequence[Sequence[Any]], ids: Mapping[str, NewIds]) -> None:
        """Writes rows, and notes their new ids."""
        if not table.has_id:
            self.db.executemany(_insertion(table.name, table.columns), [_renumbered(table, row, ids) for row in page])
            return
        for row, new in zip(page, self._new_ids(table.name, len(page)), strict=True):
            ids[table.name].add(row[0], new)
        self.db.executemany(
            _insertion(table.name, ("id", *table.columns)),
            [(ids[table.name].get(row[0]), *_renumbered(table, row[1:], ids)) for row in page],
        )

    def _new_ids(self, table: str, number: int) -> list[int]:
        """Returns so many new ids, in their order."""
        if self.db.is_server:
            statement = f"SELECT nextval(pg_get_serial_sequence('{table}', 'id')) FROM generate_series(1, ?)"  # noqa: S608 - ours
            return sorted(int(row[0]) for row in self.db.execute(statement, (number,)))
        first = int(self._one(f"SELECT coalesce(max(id), 0) + 1 FROM {table}"))  # noqa: S608 - ours
        return list(range(first, first + number))

    def _fill_in_answers(self, page: Sequence[Sequence[Any]], attempts: NewIds, tries: Sequence[NewIds]) -> None:
        """Fills in which try brought each attempt's answer: it may be a try of another run."""
        self.db.executemany(
            "UPDATE attempt SET answer_try = ? WHERE id = ?",
            [
                (next((new for ids in tries if (new := ids.get(answer)) is not None), None), attempts.get(attempt_id))
                for attempt_id, answer in page
                if answer is not None
            ],
        )


def _insertion(table: str, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - ours


def _renumbered(table: Table, row: Sequence[Any], ids: Mapping[str, NewIds]) -> tuple[Any, ...]:
    """Returns a row with the new ids of the rows that it names."""
    values = dict(zip(table.columns, row, strict=True))
    for column, target in table.refers.items():
        if values[column] is not None:
            values[column] = ids[target].get(values[column])
    if table.name == "event" and values["kind"] == VERIFYING:
        data = json.loads(values["data"])
        data["since"] = ids["verdict"].newest_to(data["since"])
        values["data"] = json.dumps(data, ensure_ascii=False)
    return tuple(values.values())
