"""A store of an earlier version keeps every row when this version opens it."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from harvest.core.errors import StoreUnusable
from harvest.core.nouns import Ask
from harvest.store import Sent, Store
from harvest.store.databases.schema import MIGRATIONS, TABLES

QUESTION = '{"id": "q%d", "question": "?", "answer": "1", "check": "math"}'


def test_a_store_of_before_keeps_every_row_and_goes_on(tmp_path: Path) -> None:
    """Made by the tables of the first version; a kill in the middle of the migration would leave it as it was."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"BEGIN; {TABLES} PRAGMA user_version = 1; COMMIT;")
        config = json.dumps({"teacher": {"local": "m"}, "sampling": {"samples": 3}})
        db.execute(
            "INSERT INTO run (id, name, config, created_at, cap, spent) VALUES (1, 'r', ?, 't', 900, 50)", (config,)
        )
        for q in range(1, 40):
            db.execute("INSERT INTO question (id, run_id, name, body) VALUES (?, 1, ?, ?)", (q, f"q{q}", QUESTION % q))
            for sample in range(3):
                n = 10 * q + sample
                db.execute(
                    "INSERT INTO attempt (id, run_id, question_id, sample, max_tokens, key, state, answer_try,"
                    " accepted, reason, judges) VALUES (?, 1, ?, ?, 100, ?, 'answered', ?, ?, 'wrong', 0)",
                    (n, q, sample, f"k{n}", n, sample % 2),
                )
                db.execute(
                    "INSERT INTO try (id, attempt_id, run_id, reserved, state, sent_at)"
                    " VALUES (?, ?, 1, 7, 'answered', 't')",
                    (n, n),
                )
                db.execute("INSERT INTO reply (try_id, body) VALUES (?, x'00')", (n,))
                db.execute(
                    "INSERT INTO verdict (attempt_id, check_name, version, outcome, detail, at)"
                    " VALUES (?, 'math', '1', 'wrong', '', 't')",
                    (n,),
                )
        db.execute(
            "INSERT INTO attempt (id, run_id, question_id, sample, max_tokens, key, judges)"
            " VALUES (999, 1, 1, 0, 9, 'j', 10)"
        )
        db.execute("INSERT INTO try (attempt_id, run_id, reserved, sent_at) VALUES (10, 1, 0, 't'), (999, 1, 3, 't')")
        columns = "id, run_id, question_id, sample, max_tokens, key, state, answer_try, reused, accepted, reason"
        before = db.execute(f"SELECT {columns} FROM attempt ORDER BY id").fetchall()
        db.commit()
    with Store.open(f"sqlite:///{path}") as store:
        assert store.db.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)
        after = [tuple(r) for r in store.db.execute(f"SELECT {columns} FROM attempt ORDER BY id")]
        assert after == before
        assert {r[0] for r in store.db.execute("SELECT teacher FROM attempt")} == {0}
        assert store.db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert store.db.execute("PRAGMA foreign_keys").fetchone()[0] == 1
        assert store.db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        kept = {
            "attempt_once",
            "attempt_continues",
            "attempt_kind",
            "attempt_about",
            "attempt_key",
            "attempt_question",
            "question_turn",
        }
        assert kept <= {r[0] for r in store.db.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
        with store.transaction():
            store.hold_unsettled(1, "t")
        states = [tuple(r) for r in store.db.execute("SELECT attempt_id, state FROM try WHERE id > 392 ORDER BY id")]
        assert states == [(10, "failed"), (999, "in_doubt")], "a local teacher's is merely cut, a judge's in doubt"
        assert len(store.open_questions(1, 0, 100)) == 39
        first = store.open_questions(1, 0, 1)[0]
        assert [(a.sample, a.teacher) for a in first.attempts] == [(0, 0), (1, 0), (2, 0)]


def test_the_kinds_of_attempt_of_a_store_of_before_are_named(tmp_path: Path) -> None:
    """Before, `judges` was 0 for a teacher, -1 for the student, and for a judge the attempt that it is about."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"BEGIN; {' '.join(MIGRATIONS[:4])} PRAGMA user_version = 4; COMMIT;")
        db.execute("INSERT INTO run (id, name, config, created_at) VALUES (1, 'r', '{}', 't')")
        db.execute("INSERT INTO question (id, run_id, name, body) VALUES (1, 1, 'q1', ?)", (QUESTION % 1,))
        db.executemany(
            "INSERT INTO attempt (id, run_id, question_id, teacher, sample, max_tokens, key, judges)"
            " VALUES (?, 1, 1, ?, 0, 9, ?, ?)",
            [(1, 0, "a", 0), (2, 1, "b", 0), (3, -1, "c", -1), (4, 0, "d", 1), (5, 0, "e", 2)],
        )
        db.commit()
    with Store.open(f"sqlite:///{path}") as store:
        kinds = [tuple(r) for r in store.db.execute("SELECT id, teacher, kind, about FROM attempt ORDER BY id")]
        assert kinds == [
            (1, 0, "teacher", None), (2, 1, "teacher", None), (3, -1, "student", None),
            (4, 0, "judge", 1), (5, 0, "judge", 2),
        ]  # fmt: skip
        asks = {"a": Ask(0, 9), "b": Ask(0, 9, 1), "c": Ask(0, 9, -1), "d": Ask(0, 9, about=1), "e": Ask(0, 9, about=2)}
        for key, ask in asks.items():
            assert isinstance(store.reserve(1, 1, ask, key, 0, "t"), Sent)
        assert store.db.execute("SELECT count(*) FROM attempt").fetchone()[0] == 5, "the same attempts go on"


def test_a_store_of_before_is_not_read_but_brought_up_to_date_by_a_command_that_writes(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"BEGIN; {TABLES} PRAGMA user_version = 1; COMMIT;")
    with pytest.raises(StoreUnusable, match=r"an older winnow .* python -m harvest collect, verify or select"):
        Store.open(f"sqlite:///{path}", write=False)
    Store.open(f"sqlite:///{path}").close()
    Store.open(f"sqlite:///{path}", write=False).close()
