"""The tables and every statement on them: the only user of SQL.

An attempt's `kind` says what it is for. A `teacher`'s, by its place in the run's list, may become a trace. The
`student`'s shows whether it can answer the question itself. A `judge`'s says what a model thinks of the answer of
another attempt, whose id stands in `about`. All three are paid from the same cap; the last two never become traces.

Data is appended: a step adds rows and changes none that an earlier step wrote, but for the state of a try that
is still out. Money moves in whole picodollars, and each statement that moves it stands in the transaction that
records why: reserved with the try, then settled, freed or held in doubt with its reply.

One process writes an SQLite store, held by a lock; any number may read. Inside that process one thread writes
(harvest/store/writer.py).
"""

import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import zstandard

from harvest.core.errors import FAILURES, AttemptFailed, StoreUnusable
from harvest.core.foreign_json import clean
from harvest.core.money import Usage
from harvest.core.nouns import Ask, Attempt, Judgement, Question, Reply, Verdict
from harvest.store.runs import StoredRun, read_run
from harvest.store.selections import SELECTION, Passes

Row = sqlite3.Row

RETRIED_KINDS = tuple(kind for kind, failure in FAILURES.items() if failure.again)


TABLES = """
    CREATE TABLE run (
      id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, config TEXT NOT NULL, created_at TEXT NOT NULL,
      cap INTEGER, spent INTEGER NOT NULL DEFAULT 0, reserved INTEGER NOT NULL DEFAULT 0,
      in_doubt INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE session (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, started_at TEXT NOT NULL,
      ended_at TEXT, status TEXT, peak_in_flight INTEGER, limited_by TEXT
    ) STRICT;
    CREATE TABLE question (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, name TEXT NOT NULL, body TEXT NOT NULL,
      status TEXT NOT NULL DEFAULT 'open', UNIQUE (run_id, name)
    ) STRICT;
    CREATE INDEX question_open ON question (run_id, id) WHERE status = 'open';
    CREATE TABLE attempt (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, question_id INTEGER NOT NULL REFERENCES question,
      sample INTEGER NOT NULL, max_tokens INTEGER NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'open',
      answer_try INTEGER, reused INTEGER NOT NULL DEFAULT 0, accepted INTEGER, reason TEXT,
      judges INTEGER NOT NULL DEFAULT 0,
      UNIQUE (run_id, question_id, sample, max_tokens, judges)
    ) STRICT;
    CREATE INDEX attempt_judges ON attempt (judges) WHERE judges > 0;
    CREATE INDEX attempt_key ON attempt (key);
    CREATE INDEX attempt_question ON attempt (question_id);
    CREATE TABLE try (
      id INTEGER PRIMARY KEY, attempt_id INTEGER NOT NULL REFERENCES attempt, run_id INTEGER NOT NULL REFERENCES run,
      state TEXT NOT NULL DEFAULT 'sent', kind TEXT, message TEXT, reserved INTEGER NOT NULL, cost INTEGER,
      cost_source TEXT, doubt INTEGER, input_tokens INTEGER, cached_input_tokens INTEGER, output_tokens INTEGER,
      reasoning_tokens INTEGER, finish_reason TEXT, served_model TEXT, served_by TEXT, system_fingerprint TEXT,
      response_id TEXT, sent_at TEXT NOT NULL, ended_at TEXT
    ) STRICT;
    CREATE INDEX try_attempt ON try (attempt_id);
    CREATE INDEX try_run ON try (run_id);
    CREATE INDEX try_sent ON try (run_id) WHERE state = 'sent';
    CREATE TABLE reply (try_id INTEGER PRIMARY KEY REFERENCES try, body BLOB NOT NULL) STRICT;
    CREATE TABLE verdict (
      id INTEGER PRIMARY KEY, attempt_id INTEGER NOT NULL REFERENCES attempt, check_name TEXT NOT NULL,
      version TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL, share REAL, at TEXT NOT NULL
    ) STRICT;
    CREATE INDEX verdict_attempt ON verdict (attempt_id);
    CREATE INDEX verdict_judge ON verdict (attempt_id) WHERE check_name = 'judge';
    CREATE TABLE event (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, at TEXT NOT NULL, kind TEXT NOT NULL,
      data TEXT NOT NULL
    ) STRICT;
    CREATE TABLE training (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, key TEXT NOT NULL, block TEXT NOT NULL,
      UNIQUE (run_id, key)
    ) STRICT;
    CREATE TABLE evaluation (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, key TEXT NOT NULL, settings TEXT NOT NULL,
      UNIQUE (run_id, key)
    ) STRICT;
    CREATE TABLE evaluation_answer (
      evaluation_id INTEGER NOT NULL REFERENCES evaluation, question_id TEXT NOT NULL, sample INTEGER NOT NULL,
      outcome TEXT NOT NULL, finish_reason TEXT, output_tokens INTEGER, cost INTEGER, text TEXT NOT NULL,
      PRIMARY KEY (evaluation_id, question_id, sample)
    ) STRICT, WITHOUT ROWID;
"""


SEVERAL_TEACHERS = """
    CREATE TABLE attempt_of_several (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, question_id INTEGER NOT NULL REFERENCES question,
      teacher INTEGER NOT NULL DEFAULT 0, sample INTEGER NOT NULL, max_tokens INTEGER NOT NULL, key TEXT NOT NULL,
      state TEXT NOT NULL DEFAULT 'open', answer_try INTEGER, reused INTEGER NOT NULL DEFAULT 0, accepted INTEGER,
      reason TEXT, judges INTEGER NOT NULL DEFAULT 0,
      UNIQUE (run_id, question_id, teacher, sample, max_tokens, judges)
    ) STRICT;
    INSERT INTO attempt_of_several (id, run_id, question_id, sample, max_tokens, key, state, answer_try, reused,
      accepted, reason, judges) SELECT id, run_id, question_id, sample, max_tokens, key, state, answer_try, reused,
      accepted, reason, judges FROM attempt;
    DROP TABLE attempt;
    ALTER TABLE attempt_of_several RENAME TO attempt;
    CREATE INDEX attempt_judges ON attempt (judges) WHERE judges != 0;
    CREATE INDEX attempt_key ON attempt (key);
    CREATE INDEX attempt_question ON attempt (question_id);
    UPDATE try SET cost_source = 'free' WHERE state = 'sent' AND run_id IN
      (SELECT id FROM run WHERE json_extract(config, '$.teacher.local') IS NOT NULL)
      AND attempt_id IN (SELECT id FROM attempt WHERE judges = 0);
    ALTER TABLE question ADD COLUMN stratum TEXT NOT NULL DEFAULT '';
    ALTER TABLE question ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX question_turn ON question (run_id, turn, stratum, id) WHERE status = 'open';
"""

CURVE = """
    CREATE TABLE training_point (
      run_id INTEGER NOT NULL REFERENCES run, key TEXT NOT NULL, step INTEGER NOT NULL, point TEXT NOT NULL,
      PRIMARY KEY (run_id, key, step)
    ) STRICT, WITHOUT ROWID;
"""

KINDS = """
    CREATE TABLE attempt_with_kind (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, question_id INTEGER NOT NULL REFERENCES question,
      kind TEXT NOT NULL, about INTEGER REFERENCES attempt, teacher INTEGER NOT NULL DEFAULT 0,
      sample INTEGER NOT NULL, max_tokens INTEGER NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'open',
      answer_try INTEGER, reused INTEGER NOT NULL DEFAULT 0, accepted INTEGER, reason TEXT,
      CHECK (kind IN ('teacher', 'student', 'judge') AND (kind = 'judge') = (about IS NOT NULL))
    ) STRICT;
    INSERT INTO attempt_with_kind (id, run_id, question_id, kind, about, teacher, sample, max_tokens, key, state,
      answer_try, reused, accepted, reason)
      SELECT id, run_id, question_id,
      CASE WHEN judges > 0 THEN 'judge' WHEN judges < 0 THEN 'student' ELSE 'teacher' END,
      CASE WHEN judges > 0 THEN judges END, teacher, sample, max_tokens, key, state, answer_try, reused, accepted,
      reason FROM attempt;
    DROP TABLE attempt;
    ALTER TABLE attempt_with_kind RENAME TO attempt;
    CREATE UNIQUE INDEX attempt_once
      ON attempt (run_id, question_id, teacher, sample, max_tokens, kind, coalesce(about, 0));
    CREATE INDEX attempt_kind ON attempt (kind) WHERE kind != 'teacher';
    CREATE INDEX attempt_about ON attempt (about) WHERE about IS NOT NULL;
    CREATE INDEX attempt_key ON attempt (key);
    CREATE INDEX attempt_question ON attempt (question_id);
"""

MIGRATIONS = (TABLES, SEVERAL_TEACHERS, CURVE, SELECTION, KINDS)
"""Migration n brings a store of version n to n + 1. Add at the end; never change one that has been released."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A try whose worst case is reserved: it may leave now."""

    attempt_id: int
    try_id: int
    reserved_pusd: int


@dataclass(frozen=True, slots=True)
class Reused:
    """The store has this answer already, bought by another attempt with the same key."""

    attempt_id: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    id: int
    question: Question
    attempts: tuple[Attempt, ...]
    """The teachers' and the student's."""
    stratum: str = ""
    turn: int = 0


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer that is in the store, with what its judging needs and changes."""

    question_id: int
    question_status: str
    question: Question
    attempt: Attempt
    reply: Reply


STORED = (
    "FROM attempt JOIN question ON question.id = attempt.question_id JOIN try ON try.id = attempt.answer_try"
    " JOIN reply ON reply.try_id = try.id WHERE attempt.run_id = :run AND attempt.state = 'answered'"
    " AND attempt.kind != 'judge'"
    " AND CASE WHEN :unless IS NULL THEN attempt.accepted IS NULL ELSE NOT EXISTS (SELECT 1 FROM verdict"
    " JOIN json_each(:unless) AS today ON today.key = check_name AND today.value = version"
    " WHERE attempt_id = attempt.id AND verdict.id > :newer_than)"
    # right, and a filter that is required has not said what it says today, or one that is not was why it is rejected
    " OR attempt.kind = 'teacher' AND (accepted = 1 OR attempt.reason IN (SELECT value FROM json_each(:by_filters)))"
    " AND (EXISTS (SELECT 1 FROM json_each(:required) AS today WHERE NOT EXISTS (SELECT 1 FROM verdict"
    "  WHERE attempt_id = attempt.id AND check_name = today.key AND version = today.value AND id > :newer_than))"
    "  OR attempt.reason IN (SELECT value FROM json_each(:by_filters) AS f"
    "   WHERE f.key NOT IN (SELECT key FROM json_each(:required)))) END"
)
"""Answers that are to be judged."""

THEIRS = {
    "teacher": "NOT IN (SELECT id FROM attempt WHERE kind != 'teacher')",
    "judge": "IN (SELECT id FROM attempt WHERE kind != 'teacher' AND kind = 'judge')",
    "student": "IN (SELECT id FROM attempt WHERE kind != 'teacher' AND kind = 'student')",
}
"""Whose attempts: in the words of the index on them."""


@dataclass(frozen=True, slots=True)
class JudgedBy:
    """What today judges answers by, to find those that it has not judged yet."""

    checks: Mapping[str, str]
    """Versions, by the checks' names; an answer has been judged where one of them has."""
    required: Mapping[str, str]
    """Versions of the filters that an answer which is right must have been judged by too."""
    refused_by: Mapping[str, str]
    """Of every filter that may be required, the reason with which it rejects."""
    newer_than: int = 0
    """Verdicts up to this id do not count."""


def _stored(run_id: int, unless: JudgedBy | None) -> dict[str, Any]:
    if unless is None:
        return {"run": run_id, "unless": None, "newer_than": 0, "required": "{}", "by_filters": "{}"}
    words = {"unless": unless.checks, "required": unless.required, "by_filters": unless.refused_by}
    return {"run": run_id, "newer_than": unless.newer_than} | {k: json.dumps(dict(v)) for k, v in words.items()}


def sqlite_path(url: str) -> Path:
    """`sqlite:///a` is relative to the working directory, `sqlite:////a` absolute. Raises StoreUnusable."""
    if url.startswith("postgresql://"):
        raise StoreUnusable(f"store {url.split('@')[-1]}: PostgreSQL is not supported yet; use sqlite:///path")
    if not url.startswith("sqlite:///") or not url.removeprefix("sqlite:///"):
        raise StoreUnusable(f"store {url!r}: write sqlite:///path (relative) or sqlite:////path (absolute)")
    return Path(url.removeprefix("sqlite:///"))


class Store(Passes):
    """One connection. Its methods are transactions of their own unless a `transaction` is open."""

    db: sqlite3.Connection

    def __init__(self, db: sqlite3.Connection, path: Path, lock: int | None) -> None:
        self.db, self.path, self._lock = db, path, lock
        self._packer, self._unpacker = zstandard.ZstdCompressor(level=3), zstandard.ZstdDecompressor()

    @classmethod
    def open(cls, url: str, *, write: bool = True) -> "Store":
        """Raises StoreUnusable: held by another process, not a store of ours, or not to be read or written."""
        path = sqlite_path(url)
        lock = None
        try:
            if write:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                lock = _take_lock(path)
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            elif not path.exists():
                raise StoreUnusable(f"store {path}: no such file; name another with --store")
            mode = "rw" if write else "ro"
            db = sqlite3.connect(
                f"file:{_uri(path)}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=30
            )
            db.row_factory = Row
            store = cls(db, path, lock)
            store._prepare(write)
        except (OSError, sqlite3.Error) as e:
            if lock is not None:
                os.close(lock)
            raise StoreUnusable(f"store {path}: {_in_words(e)}") from None
        except StoreUnusable:
            if lock is not None:
                os.close(lock)
            raise
        return store

    def _prepare(self, write: bool) -> None:
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        foreign = version == 0 and self.db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
        if not write and 0 < version < len(MIGRATIONS):
            self.db.close()
            raise StoreUnusable(
                f"store {self.path}: made by an older winnow (version {version}, {len(MIGRATIONS)} now); a command that"
                " writes brings it up to date: python -m harvest collect, verify or select"
            )
        if foreign or version > len(MIGRATIONS) or (not write and version < len(MIGRATIONS)):
            self.db.close()
            raise StoreUnusable(
                f"store {self.path}: not a store of this winnow (version {version}, {len(MIGRATIONS)} known)"
            )
        if write:
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = FULL")
        self.db.execute("PRAGMA foreign_keys = OFF")  # a table that others refer to may be made anew
        if missing := " ".join(MIGRATIONS[version:]):
            self.db.executescript(f"BEGIN IMMEDIATE; {missing} PRAGMA user_version = {len(MIGRATIONS):d}; COMMIT;")
        self.db.execute("PRAGMA foreign_keys = ON")

    def close(self) -> None:
        self.db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Raises StoreUnusable where the disk is full or fails; then nothing was written."""
        try:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
            # Whatever it is, the transaction ends before it goes on up.
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")
        except sqlite3.Error as e:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise StoreUnusable(f"store {self.path}: {_in_words(e)}; nothing was half written") from e

    # ---- runs and questions

    def run_id(self, name: str) -> int:
        row = self.db.execute("SELECT id FROM run WHERE name = ?", (name,)).fetchone()
        if row is None:
            known = [r["name"] for r in self.db.execute("SELECT name FROM run ORDER BY id DESC LIMIT 10")]
            raise StoreUnusable(f"no run {name!r} in {self.path}; there are {', '.join(known) or 'none'}")
        return int(row["id"])

    def run(self, run: str | int) -> StoredRun:
        """A run by its name or its id. Raises StoreUnusable where there is none of that name."""
        run_id = self.run_id(run) if isinstance(run, str) else run
        row = self.db.execute("SELECT id, name, config FROM run WHERE id = ?", (run_id,)).fetchone()
        return read_run(row["id"], row["name"], row["config"])

    def find_run(self, name: str) -> StoredRun | None:
        """A run by its name; None where there is none."""
        row = self.db.execute("SELECT id, name, config FROM run WHERE name = ?", (name,)).fetchone()
        return None if row is None else read_run(row["id"], row["name"], row["config"])

    def config_of(self, name: str) -> dict[str, Any] | None:
        row = self.db.execute("SELECT config FROM run WHERE name = ?", (name,)).fetchone()
        return json.loads(row["config"]) if row else None

    def put_run(self, name: str, config: dict[str, Any], cap_pusd: int | None, now: str) -> int:
        """The run's id; a run that is there already takes the new settings and cap."""
        self.db.execute(
            "INSERT INTO run (name, config, cap, created_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET config = excluded.config, cap = excluded.cap",
            (name, json.dumps(config, ensure_ascii=False), cap_pusd, now),
        )
        return self.run_id(name)

    def put_question(self, run_id: int, question: Question, stratum: str = "") -> bool:
        """Whether it was new. Raises StoreUnusable where the run asks something else under this id.

        `stratum` names the questions that are alike in what is known before asking (harvest/asking/promise.py).
        """
        body = question.model_dump_json(exclude_none=True)
        added = self.db.execute(
            "INSERT INTO question (run_id, name, body, stratum) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (run_id, question.id, body, stratum),
        ).rowcount
        if added:
            return True
        row = self.db.execute(
            "SELECT body FROM question WHERE run_id = ? AND name = ?", (run_id, question.id)
        ).fetchone()
        if row["body"] != body:
            raise StoreUnusable(
                f"question {question.id!r} is not what this run asked under that id: give the run another name"
            )
        return False

    def has_question(self, run_id: int, name: str) -> bool:
        statement = "SELECT 1 FROM question WHERE run_id = ? AND name = ?"
        return self.db.execute(statement, (run_id, name)).fetchone() is not None

    def put_probe(self, run_id: int, question: Question) -> tuple[int, int]:
        """(row of a question that is asked anew each time, how often it was)."""
        self.put_question(run_id, question)
        row = self.db.execute(
            "SELECT question.id, count(attempt.id) FROM question LEFT JOIN attempt ON question_id = question.id"
            " AND attempt.kind = 'teacher'"
            " WHERE question.run_id = ? AND name = ? GROUP BY 1",
            (run_id, question.id),
        ).fetchone()
        return row[0], row[1]

    def question_count(self, run_id: int) -> int:
        return int(self.db.execute("SELECT count(*) FROM question WHERE run_id = ?", (run_id,)).fetchone()[0])

    def counts(self, run_id: int) -> dict[str, int]:
        """Where a run stands at a start, for its progress line."""
        by_status = self._pairs("SELECT status, count(*) FROM question WHERE run_id = ? GROUP BY 1", run_id)
        row = self.db.execute(
            "SELECT coalesce(sum(accepted = 1), 0) AS accepted, coalesce(sum(accepted = 0), 0) AS rejected,"
            " (SELECT count(*) FROM attempt WHERE run_id = :run AND kind != 'judge' AND state = 'answered'"
            "  AND accepted IS NULL) AS unjudged FROM attempt WHERE run_id = :run AND kind = 'teacher'",
            {"run": run_id},
        ).fetchone()
        spent = self._one("SELECT spent FROM run WHERE id = ?", run_id)
        total = sum(by_status.values())
        ended, by_student = total - by_status.get("open", 0), by_status.get("student_solved", 0)
        return {"questions": total, "ended": ended, "by_student": by_student, "spent": spent, **dict(row)}

    def reopen(self, run_id: int) -> int:
        """Questions given up for a failure that may have passed are asked again by a new start."""
        kinds = json.dumps(RETRIED_KINDS)
        n = self.db.execute(
            "UPDATE question SET status = 'open' WHERE status = 'given_up' AND id IN (SELECT question_id FROM attempt"
            " WHERE run_id = ? AND state = 'failed' AND kind != 'judge' AND reason IN (SELECT value"
            " FROM json_each(?)))",
            (run_id, kinds),
        ).rowcount
        self.db.execute(
            "UPDATE attempt SET state = 'open', reason = NULL WHERE run_id = ? AND state = 'failed' AND kind != 'judge'"
            " AND reason IN (SELECT value FROM json_each(?))",
            (run_id, kinds),
        )
        return n

    def reopen_failed(self, run_id: int) -> None:
        """Every attempt that failed is owed again, whatever it failed for: somebody asked for it once more."""
        self.db.execute(
            "UPDATE question SET status = 'open' WHERE run_id = ? AND id IN (SELECT question_id FROM attempt"
            " WHERE state = 'failed' AND kind = 'teacher')",
            (run_id,),
        )
        self.db.execute(
            "UPDATE attempt SET state = 'open', reason = NULL WHERE run_id = ? AND state = 'failed'"
            " AND kind = 'teacher'",
            (run_id,),
        )

    def reopen_all(self, run_name: str) -> None:
        """Every question is planned anew, after a change of how often to ask; what is bought stays bought."""
        self.db.execute("UPDATE question SET status = 'open' WHERE run_id = ?", (self.run_id(run_name),))

    def open_questions(self, run_id: int, after: int, limit: int) -> list[OpenQuestion]:
        """The next open questions with what became of their attempts, in the order they were given."""
        rows = self.db.execute(
            "SELECT id, body, stratum, turn FROM question WHERE run_id = ? AND status = 'open' AND id > ?"
            " ORDER BY id LIMIT ?",
            (run_id, after, limit),
        ).fetchall()
        return self._open(rows)

    def _open(self, rows: list[Row]) -> list[OpenQuestion]:
        return [
            OpenQuestion(
                r["id"],
                Question.model_validate_json(r["body"]),
                tuple(self._attempts(r["id"])),
                r["stratum"],
                r["turn"],
            )
            for r in rows
        ]

    def count_turns(self, run_id: int) -> None:
        """Brings each open question's `turn` up to how many of its answers were judged and not accepted."""
        self.db.execute(
            "UPDATE question SET turn = (SELECT count(*) FROM attempt WHERE question_id = question.id"
            " AND kind = 'teacher'"
            " AND accepted = 0) WHERE run_id = ? AND status = 'open'",
            (run_id,),
        )

    def put_back(self, question_id: int) -> None:
        """An open question waits for its next turn."""
        self.db.execute("UPDATE question SET turn = turn + 1 WHERE id = ?", (question_id,))

    def open_strata(self, run_id: int) -> list[tuple[int, str, int]]:
        """(turn, stratum, how many) of the open questions."""
        return [
            tuple(r)
            for r in self.db.execute(
                "SELECT turn, stratum, count(*) FROM question WHERE run_id = ? AND status = 'open' GROUP BY 1, 2",
                (run_id,),
            )
        ]

    def open_in_stratum(self, run_id: int, turn: int, stratum: str, after: int, limit: int) -> list[OpenQuestion]:
        """The next open questions of one stratum and turn, in the order they were given."""
        rows = self.db.execute(
            "SELECT id, body, stratum, turn FROM question WHERE run_id = ? AND status = 'open' AND turn = ?"
            " AND stratum = ? AND id > ? ORDER BY id LIMIT ?",
            (run_id, turn, stratum, after, limit),
        ).fetchall()
        return self._open(rows)

    def strata(self, run_id: int) -> list[str]:
        rows = self.db.execute("SELECT DISTINCT stratum FROM question WHERE run_id = ? ORDER BY 1", (run_id,))
        return [r["stratum"] for r in rows]

    def stratum_outcomes(self, run_id: int) -> list[dict[str, Any]]:
        """Of each stratum: how many answers the student (`teacher` STUDENT) and the teachers gave, how many of them
        were right, what they cost in all and how many tokens they took."""
        return self._all(
            "SELECT stratum, teacher, count(*) AS answers, sum(accepted) AS accepted,"
            " coalesce(sum(cost), 0) AS cost_pusd, coalesce(sum(output_tokens), 0) AS output_tokens FROM attempt"
            " JOIN question ON question.id = question_id"
            " JOIN try ON try.id = answer_try WHERE attempt.run_id = ? AND attempt.kind != 'judge'"
            " AND accepted IS NOT NULL"
            " GROUP BY 1, 2 ORDER BY 1, 2",
            run_id,
        )

    def _attempts(self, question_id: int) -> Iterator[Attempt]:
        for r in self.db.execute(
            "SELECT id, sample, max_tokens, state, accepted, reason, teacher FROM attempt"
            " WHERE question_id = ? AND kind != 'judge' ORDER BY id",
            (question_id,),
        ):
            accepted = None if r["accepted"] is None else bool(r["accepted"])
            yield Attempt(r["id"], r["sample"], r["max_tokens"], r["state"], accepted, r["reason"], r["teacher"])

    def close_question(self, question_id: int, status: str) -> None:
        self.db.execute("UPDATE question SET status = ? WHERE id = ?", (status, question_id))

    # ---- sessions and events

    def begin_session(self, run_id: int, now: str) -> int:
        """A start of `collect`. What an earlier one had sent and never settled is held in doubt from here on."""
        self.hold_unsettled(run_id, now)
        self.db.execute(
            "UPDATE session SET status = 'interrupted', ended_at = coalesce("
            " (SELECT max(max(sent_at), coalesce(max(ended_at), '')) FROM try WHERE try.run_id = session.run_id"
            "  AND sent_at >= session.started_at), started_at) WHERE run_id = ? AND ended_at IS NULL",
            (run_id,),
        )
        return int(
            self.db.execute("INSERT INTO session (run_id, started_at) VALUES (?, ?)", (run_id, now)).lastrowid or 0
        )

    def hold_unsettled(self, run_id: int, now: str) -> None:
        """Tries still out when asking ended: in doubt at their worst case; of who costs nothing, merely cut."""
        self.db.execute("UPDATE run SET reserved = 0, in_doubt = in_doubt + reserved WHERE id = ?", (run_id,))
        self.db.execute(
            "UPDATE try SET state = 'failed', kind = 'cut', cost = 0, ended_at = ?,"
            " message = 'winnow ended before the reply came' WHERE run_id = ? AND state = 'sent'"
            " AND cost_source = 'free'",
            (now, run_id),
        )
        self.db.execute(
            "UPDATE try SET state = 'in_doubt', doubt = reserved, ended_at = ?,"
            " message = 'winnow ended before the reply came' WHERE run_id = ? AND state = 'sent'",
            (now, run_id),
        )

    def end_session(self, session_id: int, status: str, peak_in_flight: int, limited_by: str, now: str) -> None:
        self.db.execute(
            "UPDATE session SET ended_at = ?, status = ?, peak_in_flight = ?, limited_by = ? WHERE id = ?",
            (now, status, peak_in_flight, limited_by, session_id),
        )

    def add_event(self, run_id: int, kind: str, data: dict[str, Any], now: str) -> None:
        self.db.execute(
            "INSERT INTO event (run_id, at, kind, data) VALUES (?, ?, ?, ?)",
            (run_id, now, kind, json.dumps(data, ensure_ascii=False)),
        )

    def events(self, run_id: int, kind: str) -> list[dict[str, Any]]:
        rows = self.db.execute("SELECT data FROM event WHERE run_id = ? AND kind = ? ORDER BY id", (run_id, kind))
        return [json.loads(r["data"]) for r in rows]

    # ---- money: reserve, settle

    def reserve(
        self, run_id: int, question_id: int, ask: Ask, key: str, worst_pusd: int, now: str, *, free: bool = False
    ) -> Sent | Reused | None:  # fmt: skip
        """One more try for an attempt, its worst case reserved under the cap; `free` where it costs nothing.

        None: the cap has no room for it now, nothing was written. Reused: an answer with this key was bought
        before, nothing is sent. The guard stands in the statement, so no two tries can pass it together.
        """
        row = self.db.execute(
            "SELECT id, answer_try FROM attempt WHERE run_id = ? AND question_id = ? AND teacher = ? AND sample = ?"
            " AND max_tokens = ? AND kind = ? AND about IS ?",
            (run_id, question_id, ask.teacher, ask.sample, ask.max_tokens, ask.kind, ask.about),
        ).fetchone()
        bought = self.db.execute(
            "SELECT answer_try FROM attempt WHERE key = ? AND answer_try IS NOT NULL ORDER BY id LIMIT 1", (key,)
        ).fetchone()
        if bought is not None:
            attempt_id = row["id"] if row else self._new_attempt(run_id, question_id, ask, key)
            self.db.execute(
                "UPDATE attempt SET state = 'answered', reused = answer_try IS NOT :try, answer_try = :try"
                " WHERE id = :id",
                {"try": bought["answer_try"], "id": attempt_id},
            )
            return Reused(attempt_id, self.reply(bought["answer_try"]))
        fits = self.db.execute(
            "UPDATE run SET reserved = reserved + :x"
            " WHERE id = :run AND (cap IS NULL OR spent + in_doubt + reserved + :x <= cap)",
            {"x": worst_pusd, "run": run_id},
        ).rowcount
        if not fits:
            return None
        attempt_id = row["id"] if row else self._new_attempt(run_id, question_id, ask, key)
        try_id = self.db.execute(
            "INSERT INTO try (attempt_id, run_id, reserved, sent_at, cost_source) VALUES (?, ?, ?, ?, ?)",
            (attempt_id, run_id, worst_pusd, now, "free" if free else None),
        ).lastrowid
        return Sent(attempt_id, int(try_id or 0), worst_pusd)

    def _new_attempt(self, run_id: int, question_id: int, ask: Ask, key: str) -> int:
        return int(
            self.db.execute(
                "INSERT INTO attempt (run_id, question_id, kind, about, teacher, sample, max_tokens, key)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (run_id, question_id, ask.kind, ask.about, ask.teacher, ask.sample, ask.max_tokens, key),
            ).lastrowid
            or 0
        )

    def settle(self, try_id: int, reply: Reply, cost_pusd: int | None, source: str, now: str) -> bool:
        """A whole reply, its tokens and its cost; also one that comes after the try was held in doubt.

        A cost of None under a price is held in doubt at the worst case; without any price (`source` "none")
        it is unpriced. True: it cost more than was reserved.
        """
        held = self._free(try_id)
        doubt = held if cost_pusd is None and source != "none" else None
        self._spend(try_id, cost_pusd or 0, doubt or 0)
        self._end_try(try_id, "answered", None, None, reply, cost_pusd, source, doubt, now)
        self._put_reply(try_id, reply)
        self.db.execute(
            "UPDATE attempt SET state = 'answered', reason = NULL, answer_try = coalesce(answer_try, ?)"
            " WHERE id = (SELECT attempt_id FROM try WHERE id = ?)",
            (try_id, try_id),
        )
        return cost_pusd is not None and cost_pusd > held

    def settle_failure(
        self, try_id: int, failure: AttemptFailed, reply: Reply | None, cost_pusd: int | None, source: str, now: str
    ) -> bool:
        """A try that brought no answer: its known cost is booked, an unknown one held in doubt, else all is freed."""
        held = self._free(try_id)
        doubt = held if cost_pusd is None and failure.in_doubt else None
        self._spend(try_id, cost_pusd or 0, doubt or 0)
        state = "failed" if doubt is None else "in_doubt"
        self._end_try(try_id, state, failure.kind, str(failure)[:2000], reply, cost_pusd, source, doubt, now)
        if reply is not None:
            self._put_reply(try_id, reply)
        return cost_pusd is not None and cost_pusd > held

    def fail_attempt(self, attempt_id: int, reason: str) -> None:
        """No more tries for it in this start."""
        self.db.execute(
            "UPDATE attempt SET state = 'failed', reason = ? WHERE id = ? AND answer_try IS NULL", (reason, attempt_id)
        )

    def _free(self, try_id: int) -> int:
        """Takes what is on the run's books for a try off them, reserved, in doubt or spent; how much was reserved."""
        row = self.db.execute("SELECT run_id, state, reserved, doubt, cost FROM try WHERE id = ?", (try_id,)).fetchone()
        if row["state"] == "sent":
            self.db.execute("UPDATE run SET reserved = reserved - ? WHERE id = ?", (row["reserved"], row["run_id"]))
        else:
            self.db.execute(
                "UPDATE run SET in_doubt = in_doubt - ?, spent = spent - ? WHERE id = ?",
                (row["doubt"] or 0, row["cost"] or 0, row["run_id"]),
            )
        return int(row["reserved"])

    def _spend(self, try_id: int, cost_pusd: int, doubt_pusd: int) -> None:
        self.db.execute(
            "UPDATE run SET spent = spent + ?, in_doubt = in_doubt + ?"
            " WHERE id = (SELECT run_id FROM try WHERE id = ?)",
            (cost_pusd, doubt_pusd, try_id),
        )

    def _end_try(
        self,
        try_id: int,
        state: str,
        kind: str | None,
        message: str | None,
        reply: Reply | None,
        cost_pusd: int | None,
        source: str,
        doubt_pusd: int | None,
        now: str,
    ) -> None:
        usage = reply.usage if reply else Usage()
        self.db.execute(
            "UPDATE try SET state = ?, kind = ?, message = ?, cost = ?, cost_source = ?, doubt = ?, input_tokens = ?,"
            " cached_input_tokens = ?, output_tokens = ?, reasoning_tokens = ?, finish_reason = ?, served_model = ?,"
            " served_by = ?, system_fingerprint = ?, response_id = ?, ended_at = ? WHERE id = ?",
            (
                state, kind, clean(message) if message else None, cost_pusd, source, doubt_pusd,
                usage.input_tokens, usage.cached_input_tokens,
                usage.output_tokens, usage.reasoning_tokens, *_served(reply), now, try_id,
            ),
        )  # fmt: skip

    def _put_reply(self, try_id: int, reply: Reply) -> None:
        body = {
            "answer": reply.answer,
            "reasoning": reply.reasoning,
            "reasoning_kind": reply.reasoning_kind,
            "raw_usage": reply.raw_usage,
            "logprobs": reply.logprobs,
            "tool_calls": reply.tool_calls,
            "extra": reply.extra,
        }
        kept = {k: v for k, v in body.items() if v not in (None, (), {})}
        text = json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        self.db.execute(
            "INSERT OR REPLACE INTO reply (try_id, body) VALUES (?, ?)", (try_id, self._packer.compress(text))
        )

    def reply(self, try_id: int) -> Reply:
        """A stored reply, as `reply.py` read it."""
        row = self.db.execute(
            "SELECT body, finish_reason, served_model, served_by, system_fingerprint, response_id, input_tokens,"
            " cached_input_tokens, output_tokens, reasoning_tokens, cost"
            " FROM try JOIN reply ON reply.try_id = try.id WHERE try.id = ?",
            (try_id,),
        ).fetchone()
        return _reply_of(row, self._unpacker)

    # ---- verdicts

    def put_verdicts(
        self, attempt_id: int, verdicts: Sequence[Verdict], accepted: bool, reason: str | None, now: str
    ) -> None:
        """Verdicts are added, never changed; the attempt keeps what the latest say in sum."""
        self.db.executemany(
            "INSERT INTO verdict (attempt_id, check_name, version, outcome, detail, share, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(attempt_id, v.check, v.version, v.outcome.value, v.detail, v.share, now) for v in verdicts],
        )
        self.db.execute("UPDATE attempt SET accepted = ?, reason = ? WHERE id = ?", (int(accepted), reason, attempt_id))

    def put_judgements(self, judgements: Iterable[Judgement], now: str) -> None:
        """All of them, or none."""
        for r in judgements:
            self.put_verdicts(r.attempt_id, r.verdicts, r.accepted, r.reason, now)

    def unjudged(self, run_id: int) -> list[tuple[int, Question, Attempt, Reply]]:
        """Answers that an earlier start stored and did not live to judge, each with its question's row."""
        rows = self.db.execute(
            "SELECT attempt.id AS id, question_id, body, teacher, sample, max_tokens, answer_try FROM attempt"
            " JOIN question ON question.id = question_id WHERE attempt.run_id = ? AND attempt.state = 'answered'"
            " AND accepted IS NULL AND kind != 'judge' ORDER BY attempt.id",
            (run_id,),
        ).fetchall()
        return [
            (
                r["question_id"],
                Question.model_validate_json(r["body"]),
                Attempt(r["id"], r["sample"], r["max_tokens"], "answered", teacher=r["teacher"]),
                self.reply(r["answer_try"]),
            )
            for r in rows
        ]

    def answers_of(self, question_id: int) -> Iterator[tuple[int, Reply]]:
        """(attempt, its answer) of all that were answered to one question, read as it goes."""
        for r in self._all(
            "SELECT id, answer_try FROM attempt WHERE question_id = ? AND state = 'answered' AND kind = 'teacher'"
            " ORDER BY teacher, sample, max_tokens",
            question_id,
        ):
            yield r["id"], self.reply(r["answer_try"])

    def question_judged_by(self, run_id: int, check: str) -> str | None:
        """The name of one of the run's questions that this check judges; None where there is none."""
        row = self.db.execute(
            "SELECT name FROM question WHERE run_id = ? AND json_extract(body, '$.check') = ? LIMIT 1", (run_id, check)
        ).fetchone()
        return None if row is None else str(row["name"])

    def opinions(self, attempt_ids: Iterable[int]) -> dict[int, tuple[str, str]]:
        """(what the rules had said, what the model said of it then), of those attempts that a model judged."""
        return {
            r["attempt_id"]: (r["rules"], r["outcome"])
            for r in self._all(
                "SELECT attempt_id, outcome, (SELECT outcome FROM verdict AS before WHERE before.id < verdict.id AND"
                "  before.attempt_id = verdict.attempt_id AND check_name != 'judge' ORDER BY id DESC LIMIT 1) AS rules"
                " FROM verdict WHERE check_name = 'judge' AND attempt_id IN (SELECT value FROM json_each(?))"
                " ORDER BY id",
                json.dumps(list(attempt_ids)),
            )
        }

    # ---- answers paid for elsewhere

    def shelve(self, questions: Iterable[tuple[Question, str]]) -> None:
        """Holds questions, each with a hash of its text, to look them up in; on the disk, while the store is open."""
        self.db.execute("CREATE TEMP TABLE IF NOT EXISTS shelf (name TEXT PRIMARY KEY, text TEXT, body TEXT)")
        self.db.execute("CREATE INDEX IF NOT EXISTS temp.shelf_text ON shelf (text)")
        self.db.executemany(
            "INSERT OR IGNORE INTO shelf VALUES (?, ?, ?)",
            ((q.id, text, q.model_dump_json(exclude_none=True)) for q, text in questions),
        )

    def shelved(self, names: Sequence[str], text: str | None) -> Question | None:
        """The shelved question of the first of these names that is known, else the one of this text."""
        statements = {"name": "SELECT body FROM shelf WHERE name = ?", "text": "SELECT body FROM shelf WHERE text = ?"}
        places = [("name", name) for name in names] + ([("text", text)] if text is not None else [])
        for column, value in places:
            row = self.db.execute(statements[column], (value,)).fetchone()
            if row is not None:
                return Question.model_validate_json(row["body"])
        return None

    def claim(self, run_id: int, question: Question) -> bool:
        """Whether an id is free for this question, in the run and among those claimed before while it is open."""
        self.db.execute("CREATE TEMP TABLE IF NOT EXISTS claim (name TEXT PRIMARY KEY, body BLOB)")
        body = question.model_dump_json(exclude_none=True)
        digest = hashlib.sha256(body.encode()).digest()
        self.db.execute("INSERT OR IGNORE INTO claim VALUES (?, ?)", (question.id, digest))
        if self._one("SELECT body FROM claim WHERE name = ?", question.id) != digest:
            return False
        stored = self.db.execute(
            "SELECT body FROM question WHERE run_id = ? AND name = ?", (run_id, question.id)
        ).fetchone()
        return stored is None or stored["body"] == body

    def has_attempt(self, run_id: int, key: str) -> bool:
        statement = "SELECT 1 FROM attempt WHERE key = ? AND +run_id = ?"  # + keeps the planner to the key's index
        return self.db.execute(statement, (key, run_id)).fetchone() is not None

    def put_bought(
        self, run_id: int, question: Question, key: str, reply: Reply, cost_pusd: int | None, source: str,
        asked_at: str | None, now: str,
    ) -> None:  # fmt: skip
        """An answer paid for elsewhere as the next sample of its question, which is put too if it is new.

        Its cost is the run's like any other; nothing was reserved for it. An unknown moment is an empty one.
        """
        self.put_question(run_id, question)
        question_id = self._one("SELECT id FROM question WHERE run_id = ? AND name = ?", run_id, question.id)
        sample = self._one(
            "SELECT coalesce(max(sample) + 1, 0) FROM attempt WHERE run_id = ? AND question_id = ?", run_id, question_id
        )
        attempt_id = self._new_attempt(run_id, question_id, Ask(sample, 0), key)
        try_id = int(
            self.db.execute(
                "INSERT INTO try (attempt_id, run_id, reserved, sent_at) VALUES (?, ?, 0, ?)",
                (attempt_id, run_id, asked_at or ""),
            ).lastrowid
            or 0
        )
        self._spend(try_id, cost_pusd or 0, 0)
        self._end_try(try_id, "answered", None, None, reply, cost_pusd, source, None, now)
        self._put_reply(try_id, reply)
        self.db.execute("UPDATE attempt SET state = 'answered', answer_try = ? WHERE id = ?", (try_id, attempt_id))

    # ---- judging what is stored

    def stored_answers(
        self, run_id: int, after: tuple[int, int, int, int], limit: int, most_bytes: int,
        unless: JudgedBy | None,
    ) -> list[StoredAnswer]:  # fmt: skip
        """The next answers by question, teacher, sample and limit: `limit` of them, or as many as fill `most_bytes`.

        `unless` leaves out those that were judged by it; None takes those alone that were never judged.
        """
        found, size = [], 0
        with closing(
            self.db.execute(
                "SELECT attempt.id AS attempt_id, attempt.question_id, attempt.sample, attempt.max_tokens,"
                " attempt.teacher, attempt.accepted, attempt.reason, question.status, question.body AS question_body,"
                " reply.body, finish_reason, served_model, served_by, system_fingerprint, response_id, input_tokens,"
                " cached_input_tokens, output_tokens, reasoning_tokens, cost"
                f" {STORED} AND (attempt.question_id, attempt.teacher, attempt.sample, attempt.max_tokens)"
                " > (:question, :teacher, :sample, :limit)"
                " ORDER BY attempt.question_id, attempt.teacher, attempt.sample, attempt.max_tokens",
                _stored(run_id, unless) | dict(zip(("question", "teacher", "sample", "limit"), after, strict=True)),
            )
        ) as rows:
            for r in rows:
                size += len(r["body"])
                accepted = None if r["accepted"] is None else bool(r["accepted"])
                attempt = Attempt(
                    r["attempt_id"], r["sample"], r["max_tokens"], "answered", accepted, r["reason"], r["teacher"]
                )
                question = Question.model_validate_json(r["question_body"])
                reply = _reply_of(r, self._unpacker)
                found.append(StoredAnswer(r["question_id"], r["status"], question, attempt, reply))
                if len(found) == limit or size > most_bytes:
                    break
        return found

    def count_stored_answers(self, run_id: int, unless: JudgedBy | None) -> int:
        """How many `stored_answers` there are in all."""
        statement = f"SELECT count(*) {STORED}"
        return int(self.db.execute(statement, _stored(run_id, unless)).fetchone()[0])

    def attempts_of(self, question_id: int) -> tuple[Attempt, ...]:
        return tuple(self._attempts(question_id))

    def has_accepted(self, question_id: int) -> bool:
        statement = "SELECT 1 FROM attempt WHERE question_id = ? AND accepted = 1 AND kind = 'teacher'"
        return self.db.execute(statement, (question_id,)).fetchone() is not None

    def question_statuses(self, run_id: int) -> dict[str, int]:
        return self._pairs("SELECT status, count(*) FROM question WHERE run_id = ? GROUP BY 1", run_id)

    def config_of_id(self, run_id: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._one("SELECT config FROM run WHERE id = ?", run_id))
        return found

    def newest_verdict(self) -> int:
        """The id below which every verdict stands that is there now."""
        return int(self._one("SELECT coalesce(max(id), 0) FROM verdict"))

    def rejudged(self, run_id: int, since: int) -> Iterator[tuple[str, str, str, str | None, str | None, str]]:
        """(check, version, outcome, version before, outcome before, question's name) of each verdict that is newer
        than the id `since`; None before where there was none."""
        with closing(
            self.db.execute(
                "SELECT new.check_name, new.version, new.outcome, old.version, old.outcome, question.name"
                " FROM verdict AS new JOIN attempt ON attempt.id = new.attempt_id"
                " JOIN question ON question.id = question_id LEFT JOIN verdict AS old ON old.id ="
                " (SELECT max(id) FROM verdict WHERE attempt_id = new.attempt_id AND check_name = new.check_name"
                "  AND id <= :since) WHERE new.id > :since AND attempt.run_id = :run ORDER BY new.id",
                {"since": since, "run": run_id},
            )
        ) as rows:
            for r in rows:
                yield tuple(r)

    # ---- what reports and exports read

    def figures(self, run_id: int) -> dict[str, Any]:
        """Everything that the report folds: sums and counts of one run, money in picodollars."""
        one = self.db.execute("SELECT * FROM run WHERE id = ?", (run_id,)).fetchone()
        return {
            "run": dict(one),
            "sessions": self._all("SELECT * FROM session WHERE run_id = ? ORDER BY id", run_id),
            "questions": self._pairs("SELECT status, count(*) FROM question WHERE run_id = ? GROUP BY 1", run_id),
            "asked": self._one(
                "SELECT count(DISTINCT question_id) FROM attempt WHERE run_id = ? AND kind = 'teacher'", run_id
            ),
            **self._tries(run_id, "teacher"),
            "judging": self._tries(run_id, "judge") | self._opinions(run_id),
            "student": self._tries(run_id, "student") | self._of_student(run_id),
            "teachers": self._of_teachers(run_id),
            "served_of": self._all(
                "SELECT teacher, served_model, served_by, system_fingerprint FROM try JOIN attempt"
                " ON attempt.id = attempt_id WHERE try.run_id = ? AND attempt.kind = 'teacher'"
                " AND try.state = 'answered'"
                " GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
                run_id,
            ),
            "unpriced": self._one(
                "SELECT count(*) FROM try WHERE run_id = ? AND state = 'answered' AND cost IS NULL AND doubt IS NULL",
                run_id,
            ),
            "spent_on": self._pairs(
                "SELECT CASE WHEN attempt.kind = 'judge' THEN 'judging' WHEN attempt.kind = 'student' THEN 'student'"
                " WHEN answer_try IS NOT try.id THEN 'failed'"
                " WHEN accepted = 1 THEN 'accepted' WHEN attempt.reason = 'truncated' THEN 'truncated'"
                " ELSE 'rejected' END, sum(cost) FROM try JOIN attempt ON attempt.id = attempt_id"
                " WHERE try.run_id = ? AND cost IS NOT NULL GROUP BY 1",
                run_id,
            ),
            "selection": self.unselected(run_id),
            "answers": self._one(
                "SELECT count(*) FROM attempt WHERE run_id = ? AND answer_try IS NOT NULL AND kind = 'teacher'", run_id
            ),
            "accepted": self._one(
                "SELECT count(*) FROM attempt WHERE run_id = ? AND accepted = 1 AND kind = 'teacher'", run_id
            ),
            "rejected": self._pairs(
                "SELECT coalesce(reason, 'unknown'), count(*) FROM attempt WHERE run_id = ? AND accepted = 0"
                " AND kind = 'teacher' GROUP BY 1 ORDER BY 1",
                run_id,
            ),
            "mean_reasoning_tokens": self._one(
                "SELECT avg(reasoning_tokens) FROM attempt JOIN try ON try.id = answer_try"
                " WHERE attempt.run_id = ? AND accepted = 1 AND attempt.kind = 'teacher'",
                run_id,
            ),
            "mean_output_tokens": self._one(
                "SELECT avg(output_tokens) FROM attempt JOIN try ON try.id = answer_try"
                " WHERE attempt.run_id = ? AND accepted = 1 AND attempt.kind = 'teacher'",
                run_id,
            ),
            "per_question": self._all(
                "SELECT count(*) AS n, sum(cost) AS sum, sum(1.0 * cost * cost) AS squares, sum(solved) AS solved FROM"
                " (SELECT coalesce(sum(cost), 0) AS cost, question.status = 'solved' AS solved FROM question"
                "  LEFT JOIN attempt ON attempt.question_id = question.id LEFT JOIN try ON try.attempt_id = attempt.id"
                "  WHERE question.run_id = ? AND question.status != 'open' GROUP BY question.id)",
                run_id,
            )[0],
            "training": self._trainings(run_id),
            "curves": self._curves(run_id),
            "evaluation": self._evaluations(run_id),
        }  # fmt: skip

    def _tries(self, run_id: int, who: Literal["teacher", "judge", "student"]) -> dict[str, Any]:
        """Sums and counts of what was asked of the teachers, of the model that judges, or of the student."""
        tries = f" FROM try WHERE run_id = :run AND attempt_id {THEIRS[who]}"
        of = {"run": run_id}
        reused = f"SELECT count(*) FROM attempt WHERE run_id = :run AND reused = 1 AND id {THEIRS[who]}"  # noqa: S608 - ours
        return {
            "sent": self._one(f"SELECT count(*) {tries}", of),
            "out": self._one(f"SELECT count(*) {tries} AND state = 'sent'", of),
            "answered": self._one(f"SELECT count(*) {tries} AND state = 'answered'", of),
            "in_doubt": self._one(f"SELECT count(*) {tries} AND doubt IS NOT NULL", of),
            "reused": self._one(reused, of),
            "failed": self._pairs(f"SELECT kind, count(*) {tries} AND kind IS NOT NULL GROUP BY 1 ORDER BY 1", of),
            "tokens": self._all(
                "SELECT coalesce(sum(input_tokens), 0) AS input, coalesce(sum(cached_input_tokens), 0) AS cached_input,"
                " coalesce(sum(output_tokens), 0) AS output, coalesce(sum(reasoning_tokens), 0) AS reasoning,"
                f" coalesce(sum(state = 'answered' AND output_tokens IS NULL), 0) AS calls_without_usage {tries}",
                of,
            )[0],
            "cost_sources": self._pairs(
                f"SELECT cost_source, count(*) {tries} AND state = 'answered' GROUP BY 1 ORDER BY 1", of
            ),
            "served": self._all(
                f"SELECT served_model, served_by, system_fingerprint, count(*) AS answers {tries}"
                " AND state = 'answered' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
                of,
            ),
        }

    def _of_teachers(self, run_id: int) -> list[dict[str, Any]]:
        """What was asked of each teacher, what it cost and what came of it, by its place."""
        return self._all(
            "SELECT place AS teacher, coalesce(sent, 0) AS sent, coalesce(answered, 0) AS answered, accepted,"
            " questions, coalesce(spent, 0) AS spent, coalesce(in_doubt, 0) AS in_doubt,"
            " coalesce(unpriced, 0) AS unpriced FROM"
            " (SELECT teacher AS place, coalesce(sum(accepted), 0) AS accepted,"
            "  count(DISTINCT question_id) AS questions"
            "  FROM attempt WHERE run_id = :run AND kind = 'teacher' GROUP BY 1) LEFT JOIN"
            " (SELECT teacher, count(*) AS sent, sum(try.state = 'answered') AS answered, sum(cost) AS spent,"
            "  sum(doubt) AS in_doubt, sum(try.state = 'answered' AND cost IS NULL AND doubt IS NULL) AS unpriced"
            "  FROM try JOIN attempt ON attempt.id = attempt_id WHERE try.run_id = :run AND attempt.kind = 'teacher'"
            " GROUP BY 1)"
            " ON teacher = place ORDER BY 1",
            {"run": run_id},
        )

    def _of_student(self, run_id: int) -> dict[str, Any]:
        """How many questions the student was asked and the teachers after it, and what its tries cost."""
        tries = f"FROM try WHERE run_id = :run AND attempt_id {THEIRS['student']}"
        return {
            "questions": self._one(
                "SELECT count(DISTINCT question_id) FROM attempt WHERE run_id = ? AND kind = 'student'", run_id
            ),
            "left_to_teachers": self._one(
                "SELECT count(*) FROM (SELECT question_id FROM attempt WHERE run_id = ? GROUP BY 1"
                " HAVING max(kind = 'student') AND max(kind = 'teacher'))",
                run_id,
            ),
            "spent": self._one(f"SELECT coalesce(sum(cost), 0) {tries}", {"run": run_id}),
            "unpriced": self._one(
                f"SELECT count(*) {tries} AND state = 'answered' AND cost IS NULL AND doubt IS NULL", {"run": run_id}
            ),
        }

    def _opinions(self, run_id: int) -> dict[str, Any]:
        """What the judging model said, and how many attempts stand by its word alone."""
        return {
            "verdicts": self._pairs(
                "SELECT outcome, count(*) FROM verdict JOIN attempt ON attempt.id = attempt_id"
                " WHERE run_id = ? AND check_name = 'judge' GROUP BY 1 ORDER BY 1",
                run_id,
            ),
            "accepted": self._one(
                "SELECT count(DISTINCT attempt.id) FROM verdict JOIN attempt ON attempt.id = attempt_id"
                " WHERE run_id = ? AND check_name = 'judge' AND accepted = 1 AND (SELECT outcome FROM verdict AS rules"
                "  WHERE rules.attempt_id = attempt.id AND check_name != 'judge' ORDER BY id DESC LIMIT 1) != 'right'",
                run_id,
            ),
        }

    def _trainings(self, run_id: int) -> list[dict[str, Any]]:
        rows = self._all("SELECT block FROM training WHERE run_id = ? ORDER BY id", run_id)
        return [json.loads(r["block"]) for r in rows]

    def _curves(self, run_id: int) -> list[list[dict[str, Any]]]:
        """The points of each training, in the order of `_trainings`."""
        rows = self._all(
            "SELECT training.id, point FROM training LEFT JOIN training_point AS p ON p.run_id = training.run_id"
            " AND p.key = training.key WHERE training.run_id = ? ORDER BY training.id, step",
            run_id,
        )
        found: dict[int, list[dict[str, Any]]] = {}
        for r in rows:
            found.setdefault(r["id"], []).extend([json.loads(r["point"])] if r["point"] else [])
        return list(found.values())

    def _evaluations(self, run_id: int) -> list[dict[str, Any]]:
        found = []
        for e in self._all("SELECT id, key, settings FROM evaluation WHERE run_id = ? ORDER BY id", run_id):
            answers = self._all(
                "SELECT question_id, sample, outcome, finish_reason, output_tokens, cost AS cost_pusd"
                " FROM evaluation_answer WHERE evaluation_id = ? ORDER BY question_id, sample",
                e["id"],
            )
            found.append({"key": e["key"], "settings": json.loads(e["settings"]), "answers": answers})
        return found

    def _all(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        return [dict(r) for r in self.db.execute(statement, _bound(values))]

    def _one(self, statement: str, *values: Any) -> Any:
        return self.db.execute(statement, _bound(values)).fetchone()[0]

    def _pairs(self, statement: str, *values: Any) -> dict[str, int]:
        return {r[0]: r[1] for r in self.db.execute(statement, _bound(values)) if r[0] is not None}

    def answered_attempts(self, run_id: int, which: str) -> Iterator[dict[str, Any]]:
        """Attempts that got a whole reply, for exports: `all` of them, the `accepted`, or the `selected`, which are
        those of the newest pass (before the first, the accepted); read as it goes.

        `selected` is 1 or 0, `unselected` the pass's reason, `rewritten` 1 where the pass kept its rewritten text. What
        was rejected after the pass is not selected, unless the pass chose from rejected answers too.
        """
        with closing(
            self.db.execute(
                "SELECT attempt.id AS attempt_id, attempt.teacher, attempt.sample, attempt.max_tokens,"
                " attempt.accepted, attempt.reason, attempt.reused, question.name AS question_name,"
                " question.body AS question_body, attempt.answer_try, attempt.key, outcome.reason AS unselected,"
                " coalesce(outcome.rewritten, 0) AS rewritten, CASE WHEN :pass IS NULL THEN attempt.accepted = 1"
                " ELSE outcome.attempt_id IS NOT NULL AND outcome.reason IS NULL AND (:any OR attempt.accepted = 1)"
                " END AS selected, try.*, reply.body"
                " FROM attempt JOIN question ON question.id = attempt.question_id"
                " JOIN try ON try.id = attempt.answer_try JOIN reply ON reply.try_id = try.id"
                " LEFT JOIN selection_outcome AS outcome ON outcome.selection_id = :pass"
                "  AND outcome.attempt_id = attempt.id"
                " WHERE attempt.run_id = :run AND attempt.kind = 'teacher' AND CASE :which WHEN 'all' THEN 1"
                " WHEN 'accepted'"
                " THEN attempt.accepted = 1 ELSE selected END"
                # the order of the table's own index: to sort would be to copy every reply
                " ORDER BY attempt.question_id, attempt.teacher, attempt.sample, attempt.max_tokens",
                {"run": run_id, "which": which} | self.pass_in_words(run_id),
            )
        ) as rows:
            for r in rows:
                verdicts = self._all(
                    "SELECT check_name AS 'check', version, outcome, detail, share FROM verdict"
                    " WHERE attempt_id = ? ORDER BY id",
                    r["attempt_id"],
                )
                row = dict(r)
                del row["body"]
                yield row | {"reply": _reply_of(r, self._unpacker), "verdicts": verdicts}

    def selection_texts(self, attempt_ids: Sequence[int]) -> Iterator[tuple[int, int, int, str, Reply]]:
        """(attempt, sample, its question's row and body, its answer) of each, read as it goes."""
        with closing(
            self.db.execute(
                "SELECT attempt.id AS attempt_id, attempt.sample, question_id, question.body AS question_body,"
                " reply.body, finish_reason, served_model, served_by, system_fingerprint, response_id, input_tokens,"
                " cached_input_tokens, output_tokens, reasoning_tokens, cost FROM attempt JOIN question"
                " ON question.id = question_id JOIN try ON try.id = answer_try JOIN reply ON reply.try_id = try.id"
                " WHERE attempt.id IN (SELECT value FROM json_each(?)) ORDER BY attempt.id",
                (json.dumps(list(attempt_ids)),),
            )
        ) as rows:
            for r in rows:
                yield r["attempt_id"], r["sample"], r["question_id"], r["question_body"], _reply_of(r, self._unpacker)

    def story(self, run_id: int, question_name: str) -> dict[str, Any] | None:
        """One question with all its attempts, tries and verdicts, for `harvest why`."""
        q = self.db.execute("SELECT * FROM question WHERE run_id = ? AND name = ?", (run_id, question_name)).fetchone()
        if q is None:
            return None
        attempts = self._all("SELECT * FROM attempt WHERE question_id = ? AND kind != 'judge' ORDER BY id", q["id"])
        for a in attempts:
            a["tries"] = self._all(
                "SELECT try.*, reply.try_id IS NOT NULL AS kept FROM try LEFT JOIN reply ON reply.try_id = try.id"
                " WHERE attempt_id = ? ORDER BY try.id",
                a["id"],
            )
            for t in a["tries"]:
                t["partial"] = self.reply(t["id"]) if t["kept"] and t["id"] != a["answer_try"] else None
            a["judging"] = self._all(
                "SELECT try.*, max_tokens FROM try JOIN attempt ON attempt.id = attempt_id WHERE about = ?"
                " ORDER BY try.id",
                a["id"],
            )
            a["verdicts"] = self._all("SELECT * FROM verdict WHERE attempt_id = ? ORDER BY id", a["id"])
            a["reply"] = self.reply(a["answer_try"]) if a["answer_try"] else None
            a["selection"] = self.outcome_of(run_id, a["id"])
        question, settings = Question.model_validate_json(q["body"]), self.config_of_id(run_id)
        return {**dict(q), "question": question, "attempts": attempts, "settings": settings}

    def some_question_names(self, run_id: int, limit: int) -> list[str]:
        rows = self.db.execute("SELECT name FROM question WHERE run_id = ? ORDER BY id LIMIT ?", (run_id, limit))
        return [r["name"] for r in rows]

    # ---- training and evaluation

    def put_training(self, run_name: str, key: str, block: dict[str, Any]) -> None:
        """What one training cost and gave; the same training again takes the place of its own block."""
        with self.transaction():
            self.db.execute(
                "INSERT INTO training (run_id, key, block) VALUES (?, ?, ?)"
                " ON CONFLICT (run_id, key) DO UPDATE SET block = excluded.block",
                (self.run_id(run_name), key, json.dumps(block, ensure_ascii=False)),
            )

    def put_training_points(
        self, run_name: str, key: str, points: Iterable[dict[str, Any]], since: int | None = None
    ) -> None:
        """Logged steps of a training, each with its `step`; a step that is there already takes the new values. With
        `since` later ones that are there are removed before: the training goes on from that step."""
        with self.transaction():
            run_id = self.run_id(run_name)
            if since is not None:
                self.db.execute(
                    "DELETE FROM training_point WHERE run_id = ? AND key = ? AND step > ?", (run_id, key, since)
                )
            self.db.executemany(
                "INSERT OR REPLACE INTO training_point VALUES (?, ?, ?, ?)",
                [(run_id, key, p["step"], json.dumps(p)) for p in points],
            )

    def put_evaluation(self, run_name: str, key: str, settings: dict[str, Any]) -> None:
        with self.transaction():
            self.db.execute(
                "INSERT INTO evaluation (run_id, key, settings) VALUES (?, ?, ?)"
                " ON CONFLICT (run_id, key) DO UPDATE SET settings = excluded.settings",
                (self.run_id(run_name), key, json.dumps(settings, ensure_ascii=False)),
            )

    def evaluation_settings(self, run_name: str, key: str) -> dict[str, Any]:
        """{} where there is no such evaluation."""
        found = self.db.execute(
            "SELECT settings FROM evaluation WHERE id = ?", (self._evaluation_id(run_name, key),)
        ).fetchone()
        settings: dict[str, Any] = json.loads(found["settings"]) if found else {}
        return settings

    def put_evaluation_answers(self, run_name: str, key: str, rows: Iterable[dict[str, Any]]) -> None:
        with self.transaction():
            evaluation_id = self._evaluation_id(run_name, key)
            self.db.executemany(
                "INSERT OR REPLACE INTO evaluation_answer VALUES"
                " (:evaluation_id, :question_id, :sample, :outcome, :finish_reason, :output_tokens, :cost_pusd, :text)",
                [{**r, "evaluation_id": evaluation_id} for r in rows],
            )

    def evaluation_answers(self, run_name: str, key: str) -> list[dict[str, Any]]:
        return self._all(
            "SELECT question_id, sample, outcome, finish_reason, output_tokens, cost AS cost_pusd, text"
            " FROM evaluation_answer WHERE evaluation_id = ? ORDER BY question_id, sample",
            self._evaluation_id(run_name, key),
        )

    def _evaluation_id(self, run_name: str, key: str) -> int:
        row = self.db.execute(
            "SELECT id FROM evaluation WHERE run_id = ? AND key = ?", (self.run_id(run_name), key)
        ).fetchone()
        return int(row["id"]) if row else 0


def _bound(values: tuple[Any, ...]) -> Any:
    """What a statement's places are filled with: values in order, or one mapping by name."""
    return values[0] if len(values) == 1 and isinstance(values[0], dict) else values


def _take_lock(path: Path) -> int:
    lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        os.close(lock)
        raise StoreUnusable(
            f"store {path}: another process{f' (pid {holder})' if holder else ''} is writing to it. Wait for it, or"
            " give this run a store of its own with --store"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def is_being_written(url: str) -> bool:
    """Whether some process holds the store for writing now."""
    try:
        lock = os.open(f"{sqlite_path(url)}.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _uri(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _in_words(e: OSError | sqlite3.Error) -> str:
    text = e.strerror or str(e) if isinstance(e, OSError) else str(e)
    if "disk is full" in text or "No space left" in text:
        return "the disk is full; free some space and start again"
    if "not a database" in text:
        return "not an SQLite database"
    return text


def _served(reply: Reply | None) -> tuple[str | None, ...]:
    if reply is None:
        return (None,) * 5
    return (reply.finish_reason, reply.served_model, reply.served_by, reply.system_fingerprint, reply.response_id)


def _reply_of(row: Row, unpacker: zstandard.ZstdDecompressor) -> Reply:
    body = json.loads(unpacker.decompress(row["body"]))
    usage = Usage(
        row["input_tokens"], row["cached_input_tokens"], row["output_tokens"], row["reasoning_tokens"], row["cost"]
    )
    return Reply(
        answer=body.get("answer", ""),
        reasoning=body.get("reasoning"),
        reasoning_kind=body.get("reasoning_kind"),
        finish_reason=row["finish_reason"],
        usage=usage,
        raw_usage=body.get("raw_usage"),
        logprobs=tuple(body["logprobs"]) if body.get("logprobs") else None,
        tool_calls=tuple(body.get("tool_calls", ())),
        served_model=row["served_model"],
        served_by=row["served_by"],
        system_fingerprint=row["system_fingerprint"],
        response_id=row["response_id"],
        extra=body.get("extra", {}),
    )
