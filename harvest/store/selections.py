"""Every statement on passes of selection: a part of the store, which see (harvest/store/store.py).

A pass says of each candidate whether it is selected, or why not. Passes are added, never changed; the newest counts.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from harvest.core.nouns import FILTER_REASONS

SELECTION = """
    CREATE TABLE selection (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, at TEXT NOT NULL, key TEXT NOT NULL,
      settings TEXT NOT NULL, said TEXT NOT NULL
    ) STRICT;
    CREATE INDEX selection_run ON selection (run_id, id);
    CREATE TABLE selection_outcome (
      selection_id INTEGER NOT NULL REFERENCES selection, attempt_id INTEGER NOT NULL REFERENCES attempt,
      reason TEXT, instead INTEGER, detail TEXT, rewritten INTEGER NOT NULL, PRIMARY KEY (selection_id, attempt_id)
    ) STRICT, WITHOUT ROWID;
"""
"""`key` names all that a pass was made of. Of an outcome, `reason` is NULL where it is selected; `instead` is the
attempt that has its place; `rewritten`, whether its row has the rewritten text (harvest/filters/rewrite.py)."""

JUDGED_WHOLE = ("wrong", "no_answer", "timeout", "error", "no_gold", "no_majority", *FILTER_REASONS.values())
"""Why a whole answer may be rejected: all but what broke off."""
REJECTED_SINCE = "rejected_since"
"""Of what a pass had selected and a later verdict rejects."""


@dataclass(frozen=True, slots=True)
class NewestPass:
    id: int
    at: str
    key: str
    settings: dict[str, Any]
    said: dict[str, Any]


class Passes:
    """What the store knows of selection. `db` is the store's connection."""

    db: Any

    def selection_pool(self, run_id: int, pool: str) -> Iterator[tuple[int, int, int | None]]:
        """(attempt, question, output tokens) of each candidate, by question, teacher, sample and limit."""
        values = {"run": run_id, "all": pool == "all", "whole": json.dumps(JUDGED_WHOLE)}
        statement = (
            "SELECT attempt.id, attempt.question_id, try.output_tokens FROM attempt JOIN try ON try.id ="
            " attempt.answer_try WHERE attempt.run_id = :run AND attempt.kind = 'teacher'"
            " AND attempt.state = 'answered' AND (attempt.accepted = 1 OR :all AND attempt.accepted = 0"
            " AND attempt.reason IN"
            " (SELECT value FROM json_each(:whole)))"
            " ORDER BY attempt.question_id, attempt.teacher, attempt.sample, attempt.max_tokens"
        )
        with closing(self.db.execute(statement, values)) as rows:
            for r in rows:
                yield tuple(r)

    def question_bodies(self, question_ids: Iterable[int]) -> Iterator[tuple[int, str]]:
        with closing(
            self.db.execute(
                "SELECT id, body FROM question WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id",
                (json.dumps(list(question_ids)),),
            )
        ) as rows:
            for r in rows:
                yield r["id"], r["body"]

    def failed_shares(self, run_id: int) -> Iterator[tuple[int, float]]:
        """(question, share of its judged answers that were not accepted, other than by a filter, which says nothing of
        the question); the student's alone where it was asked."""
        with closing(
            self.db.execute(
                "SELECT question_id, CASE WHEN total(kind = 'student') THEN total(kind = 'student' AND accepted = 0)"
                " / total(kind = 'student') ELSE avg(accepted = 0 AND reason NOT IN (SELECT value"
                " FROM json_each(?))) END"
                " FROM attempt WHERE run_id = ? AND kind != 'judge' AND accepted IS NOT NULL GROUP BY 1",
                (json.dumps(list(FILTER_REASONS.values())), run_id),
            )
        ) as rows:
            for r in rows:
                yield r[0], r[1]

    def put_pass(
        self, run_id: int, key: str, settings: Mapping[str, Any], said: Mapping[str, Any],
        outcomes: Iterable[tuple[int, str | None, int | None, str | None, bool]], now: str,
    ) -> None:  # fmt: skip
        """A pass as a whole. `outcomes` are, of each candidate, its attempt, the reason, the attempt in its place, the
        detail, and whether it is rewritten."""
        pass_id = self.db.execute(
            "INSERT INTO selection (run_id, at, key, settings, said) VALUES (?, ?, ?, ?, ?)",
            (run_id, now, key, json.dumps(settings, ensure_ascii=False), json.dumps(said, ensure_ascii=False)),
        ).lastrowid
        self.db.executemany(
            "INSERT INTO selection_outcome (selection_id, attempt_id, reason, instead, detail, rewritten)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            ((pass_id, *outcome) for outcome in outcomes),
        )

    def newest_pass(self, run_id: int) -> NewestPass | None:
        row = self.db.execute("SELECT * FROM selection WHERE run_id = ? ORDER BY id DESC LIMIT 1", (run_id,)).fetchone()
        if row is None:
            return None
        return NewestPass(row["id"], row["at"], row["key"], json.loads(row["settings"]), json.loads(row["said"]))

    def put_settings(self, run_id: int, config: Mapping[str, Any]) -> None:
        """Of a run, changed in what the teacher does not see."""
        self.db.execute("UPDATE run SET config = ? WHERE id = ?", (json.dumps(config, ensure_ascii=False), run_id))

    def run_began(self, run_id: int) -> str:
        return str(self.db.execute("SELECT created_at FROM run WHERE id = ?", (run_id,)).fetchone()[0])

    def pass_in_words(self, run_id: int) -> dict[str, Any]:
        """What a statement needs of the newest pass: its id, None before the first, and whether it chose from `any`
        answer, rejected ones too."""
        newest = self.newest_pass(run_id)
        return {"pass": newest and newest.id, "any": newest is not None and newest.settings.get("pool") == "all"}

    def unselected(self, run_id: int) -> dict[str, Any]:
        """Of the newest pass: how many are selected, why the others are not, in its order of stages, and what it said.
        None before one. `newer` counts what was accepted after it."""
        newest = self.newest_pass(run_id)
        if newest is None:
            return {"selected": None, "unselected": {}, "newer": 0, "said": None, "at": None}
        of = {"run": run_id, "since": REJECTED_SINCE} | self.pass_in_words(run_id)
        counts = self.db.execute(
            "SELECT CASE WHEN outcome.reason IS NOT NULL THEN outcome.reason WHEN :any OR accepted = 1 THEN ''"
            " ELSE :since END, count(*) FROM selection_outcome AS outcome JOIN attempt ON attempt.id = attempt_id"
            " WHERE selection_id = :pass GROUP BY 1 ORDER BY 1",
            of,
        ).fetchall()
        newer = self.db.execute(
            "SELECT count(*) FROM attempt WHERE run_id = :run AND kind = 'teacher' AND accepted = 1 AND NOT EXISTS"
            " (SELECT 1 FROM selection_outcome WHERE selection_id = :pass AND attempt_id = attempt.id)",
            of,
        ).fetchone()
        by = {r[0]: r[1] for r in counts}
        selected, order = by.pop("", 0), [r for r in newest.said.get("unselected", {}) if r in by]
        by = {reason: by[reason] for reason in [*order, *(r for r in by if r not in order)]}
        return {"selected": selected, "unselected": by, "newer": newer[0], "said": newest.said, "at": newest.at}

    def outcome_of(self, run_id: int, attempt_id: int) -> dict[str, Any] | None:
        """What the newest pass said of one attempt, with the question and sample of what has its place."""
        row = self.db.execute(
            "SELECT CASE WHEN outcome.reason IS NOT NULL THEN outcome.reason WHEN NOT (:any OR of.accepted = 1)"
            " THEN :since END AS reason, instead, detail, rewritten, question.name AS instead_question,"
            " attempt.sample AS instead_sample FROM selection_outcome AS outcome JOIN attempt AS of"
            " ON of.id = outcome.attempt_id LEFT JOIN attempt ON attempt.id = instead"
            " LEFT JOIN question ON question.id = attempt.question_id"
            " WHERE outcome.attempt_id = :attempt AND selection_id = :pass",
            {"attempt": attempt_id, "since": REJECTED_SINCE} | self.pass_in_words(run_id),
        ).fetchone()
        return None if row is None else dict(row)
