"""Stores questions. Each is written once, and is open until it is solved or given up."""

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harvest.core.errors import FAILURES, Late, RowRefused, StoreUnusable
from harvest.core.nouns import PUBLIC, Attempt, Question
from harvest.store.leases import MOST_CLAIMED
from harvest.store.runs import Runs

RETRIED_KINDS = tuple(kind for kind, failure in FAILURES.items() if failure.again and failure is not Late)
"""The classes of failure after which a new start tries again."""
OUTSIDE_BATCHES = (
    "AND NOT EXISTS (SELECT 1 FROM attempt CROSS JOIN try CROSS JOIN batch WHERE try.attempt_id = attempt.id"
    " AND batch.id = try.batch_id AND attempt.question_id = question.id AND batch.state != 'settled')"
)
"""The condition that no open batch asks a question."""


UNCLAIMED = "AND NOT EXISTS (SELECT 1 FROM claim WHERE claim.question_id = question.id)"
"""The condition that no process has claimed a question."""


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question that may be asked, with its attempts so far."""

    id: int
    """The question's row in the store."""
    question: Question
    attempts: tuple[Attempt, ...]
    """The attempts of the teachers and of the student."""
    stratum: str = ""
    """The name of the group of questions that look alike before they are asked (harvest/asking/planning/strata.py)."""
    turn: int = 0
    """How many of the question's answers were judged and not accepted. Questions with a lower turn are asked first."""


@dataclass(frozen=True, slots=True)
class StratumOutcome:
    """What the answers of one teacher, or of the student, cost and brought in one stratum."""

    stratum: str
    teacher: int
    """The index of the teacher that answered, or STUDENT."""
    answers: int
    accepted: int
    cost_pusd: int
    output_tokens: int


class Questions(Runs):
    """The SQL statements on questions."""

    def put_question(self, run_id: int, question: Question, stratum: str = "") -> bool:
        """Writes a question. Returns False if the run has it already.

        Raises StoreUnusable when the run has a different question with this id.
        """
        body = question.model_dump_json(exclude_none=True)
        added = self.db.changed(
            "INSERT INTO question (run_id, name, body, stratum) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (run_id, question.id, body, stratum),
        )
        if added:
            return True
        if self._one("SELECT body FROM question WHERE run_id = ? AND name = ?", run_id, question.id) != body:
            raise StoreUnusable(
                f"question {question.id!r} is not what this run asked under that id: give the run another name"
            )
        return False

    def has_question(self, run_id: int, name: str) -> bool:
        statement = "SELECT 1 FROM question WHERE run_id = ? AND name = ?"
        return self._row(statement, run_id, name) is not None

    def accepted_texts(self, run_id: int) -> Iterator[str]:
        """Yields the text of each question that has an accepted answer."""
        for (text,) in self.db.execute(
            "SELECT json_extract(body, '$.question') FROM question WHERE run_id = ? AND EXISTS"
            " (SELECT 1 FROM attempt WHERE question_id = question.id AND accepted = 1 AND about IS NULL)",
            (run_id,),
        ):
            yield str(text)

    def has_answers(self, run_id: int) -> bool:
        """Whether a teacher or the student has answered anything in this run."""
        statement = "SELECT 1 FROM attempt WHERE run_id = ? AND state = 'answered' AND about IS NULL LIMIT 1"
        return self._row(statement, run_id) is not None

    def put_probe(self, run_id: int, question: Question) -> tuple[int, int]:
        """Writes a question that may be asked many times. Returns (its row, how many attempts of teachers it has)."""
        self.put_question(run_id, question)
        row = self.db.execute(
            "SELECT question.id, count(attempt.id) FROM question LEFT JOIN attempt ON question_id = question.id"
            " AND attempt.kind = 'teacher' WHERE question.run_id = ? AND name = ? GROUP BY 1",
            (run_id, question.id),
        ).fetchone()
        return row[0], row[1]

    def question_judged_by(self, run_id: int, check: str) -> str | None:
        """Returns the name of one question that this check judges; None if the run has no such question."""
        statement = "SELECT name FROM question WHERE run_id = ? AND json_extract(body, '$.check') = ? LIMIT 1"
        row = self._row(statement, run_id, check)
        return None if row is None else str(row["name"])

    def some_question_names(self, run_id: int, limit: int) -> list[str]:
        rows = self.db.execute("SELECT name FROM question WHERE run_id = ? ORDER BY id LIMIT ?", (run_id, limit))
        return [r["name"] for r in rows]

    def question_statuses(self, run_id: int) -> dict[str, int]:
        """Returns how many questions have each status."""
        return self._pairs("SELECT status, count(*) FROM question WHERE run_id = ? GROUP BY 1 ORDER BY 1", run_id)

    def counts(self, run_id: int) -> dict[str, int]:
        """Returns the figures of a run at its start, which its progress line shows."""
        by_status = self.question_statuses(run_id)
        row = self.db.execute(
            "SELECT count(*) FILTER (WHERE accepted = 1) AS accepted,"
            " (SELECT count(*) FROM attempt WHERE run_id = :run AND about IS NULL AND state = 'answered'"
            "  AND accepted IS NULL) AS unjudged FROM attempt WHERE run_id = :run AND kind = 'teacher'",
            {"run": run_id},
        ).fetchone()
        money = self._all("SELECT spent, in_doubt FROM run WHERE id = ?", run_id)[0]
        total = sum(by_status.values())
        ended, by_student = total - by_status.get("open", 0), by_status.get("student_solved", 0)
        return {"questions": total, "ended": ended, "by_student": by_student, **money, **dict(row)}

    def reopen(self, run_id: int, deadlines_s: Mapping[int, float]) -> None:
        """Opens the questions that were given up, and the attempts that failed, for a failure which may have passed.

        `deadlines_s` has the longest deadline of a try by the place of who is asked. Late answers are waited for again
        only up to a longer deadline than before.
        """
        self._reopen(
            "run_id = :run AND about IS NULL AND (reason IN (SELECT value FROM json_each(:kinds))"
            " OR reason = :late AND waited_s <"
            "  (SELECT CAST(value AS DOUBLE PRECISION) FROM json_each(:deadlines) WHERE key = CAST(teacher AS TEXT)))",
            {
                "run": run_id, "kinds": json.dumps(RETRIED_KINDS), "late": Late.kind,
                "deadlines": json.dumps({str(place): deadline for place, deadline in deadlines_s.items()}),
            },
        )  # fmt: skip

    def reopen_refused(self, run_id: int, place: int) -> None:
        """Opens the questions whose rows one teacher, or the student, refused because of a wrong setting."""
        self._reopen(
            "run_id = :run AND about IS NULL AND teacher = :place AND reason = :row",
            {"run": run_id, "place": place, "row": RowRefused.kind},
        )

    def reopen_failed(self, run_id: int) -> None:
        """Reopens all failed attempts of all teachers, whatever the failure, and their questions: the user wants them
        asked again."""
        self.db.execute(
            "UPDATE question SET status = 'open' WHERE run_id = ? AND id IN (SELECT question_id FROM attempt"
            " WHERE state = 'failed' AND kind = 'teacher')",
            (run_id,),
        )
        self.db.execute(
            "UPDATE attempt SET state = 'open', reason = NULL"
            " WHERE run_id = ? AND state = 'failed' AND kind = 'teacher'",
            (run_id,),
        )

    def _reopen(self, which: str, values: dict[str, Any]) -> None:
        """Opens the failed attempts of which the condition holds, and their questions if those were given up."""
        rows = self._all(f"SELECT id, question_id FROM attempt WHERE state = 'failed' AND {which}", values)  # noqa: S608 - ours
        self.db.execute(
            "UPDATE question SET status = 'open' WHERE status = 'given_up'"
            " AND id IN (SELECT CAST(value AS BIGINT) FROM json_each(?))",
            (json.dumps([r["question_id"] for r in rows]),),
        )
        self.db.execute(
            "UPDATE attempt SET state = 'open', reason = NULL"
            " WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(?))",
            (json.dumps([r["id"] for r in rows]),),
        )

    def reopen_all(self, run_name: str) -> None:
        """Reopens every question, after a change of how often to ask. Stored answers are not bought again."""
        self.db.execute("UPDATE question SET status = 'open' WHERE run_id = ?", (self.run_id(run_name),))

    def open_questions(
        self, run_id: int, after: int, limit: int, among: Sequence[int] | None = None
    ) -> list[OpenQuestion]:
        """Returns at most `limit` open questions after the row `after`, in the order in which they were given. With
        `among`, only questions in these rows."""
        if among is None:
            return self._open("", run_id, after, limit)
        among_these = "AND id IN (SELECT CAST(value AS BIGINT) FROM json_each(?))"
        return self._open(among_these, run_id, json.dumps(among), after, limit)

    def drawn_questions(self, run_id: int, number: int, seed: str) -> list[int]:
        """Returns the rows of `number` questions of the run, drawn at random by `seed`. More of them with the same seed
        are these and others."""
        rows = [r["id"] for r in self._all("SELECT id FROM question WHERE run_id = ? ORDER BY id", run_id)]
        return random.Random(seed).sample(rows, len(rows))[:number]

    def _open(self, which: str, run_id: int, *values: Any) -> list[OpenQuestion]:
        """Returns open questions of which the condition holds, and which no open batch asks. If others collect the run
        too, a session gets questions that nobody has claimed, at most MOST_CLAIMED, and they are claimed now."""
        in_batches = self._row("SELECT 1 FROM batch WHERE run_id = ? AND state != 'settled' LIMIT 1", run_id)
        which += "" if in_batches is None else f" {OUTSIDE_BATCHES}"
        lock, claims = "", self.shares and self.session_id is not None
        if claims:
            which, lock = f"{which} {UNCLAIMED}", "FOR UPDATE SKIP LOCKED"
            values = (*values[:-1], min(values[-1], MOST_CLAIMED))
        rows = self.db.execute(
            f"SELECT id, body, stratum, turn FROM question WHERE run_id = ? AND status = 'open' {which} AND id > ?"  # noqa: S608 - ours
            f" ORDER BY id LIMIT ? {lock}",
            (run_id, *values),
        ).fetchall()
        if claims:
            self.claim_questions(run_id, [row["id"] for row in rows])
        attempts = self.attempts_of_all([row["id"] for row in rows])
        return [
            OpenQuestion(question_id, Question.model_validate_json(body), attempts[question_id], stratum, turn)
            for question_id, body, stratum, turn in rows
        ]

    def count_turns(self, run_id: int) -> None:
        """Counts each open question's `turn` anew."""
        self.db.execute(
            "UPDATE question SET turn = (SELECT count(*) FROM attempt WHERE question_id = question.id"
            " AND kind = 'teacher' AND accepted = 0) WHERE run_id = ? AND status = 'open'",
            (run_id,),
        )

    def put_back(self, question_id: int) -> None:
        """Lets an open question wait for its next turn."""
        self.db.execute("UPDATE question SET turn = turn + 1 WHERE id = ?", (question_id,))
        self.give_back(question_id)

    def open_strata(self, run_id: int) -> list[tuple[int, str, int]]:
        """Returns (turn, stratum, number of open questions) for each turn and stratum."""
        statement = (
            "SELECT turn, stratum, count(*) FROM question WHERE run_id = ? AND status = 'open'"
            " GROUP BY 1, 2 ORDER BY 1, 2"
        )
        return [tuple(r) for r in self.db.execute(statement, (run_id,))]

    def open_in_stratum(self, run_id: int, turn: int, stratum: str, after: int, limit: int) -> list[OpenQuestion]:
        """Returns at most `limit` open questions of a stratum and turn after the row `after`, in the order in which
        they were given."""
        return self._open("AND turn = ? AND stratum = ?", run_id, turn, stratum, after, limit)

    def strata(self, run_id: int) -> list[str]:
        rows = self.db.execute("SELECT DISTINCT stratum FROM question WHERE run_id = ? ORDER BY 1", (run_id,))
        return [r["stratum"] for r in rows]

    def stratum_outcomes(self, run_id: int) -> list[StratumOutcome]:
        """Returns what the judged answers of each teacher, and of the student, cost and brought in each stratum."""
        return self._as(
            StratumOutcome,
            "SELECT stratum, teacher, count(*) AS answers, sum(accepted) AS accepted,"
            " coalesce(sum(cost), 0) AS cost_pusd, coalesce(sum(output_tokens), 0) AS output_tokens FROM attempt"
            " JOIN question ON question.id = question_id JOIN try ON try.id = answer_try"
            " WHERE attempt.run_id = ? AND attempt.about IS NULL AND accepted IS NOT NULL"
            " AND teacher != ? GROUP BY 1, 2 ORDER BY 1, 2",
            run_id,
            PUBLIC,
        )

    def close_question(self, question_id: int, status: str) -> None:
        given_back = "WITH given_back AS (DELETE FROM claim WHERE question_id = :id) " if self.shares else ""
        statement = f"{given_back}UPDATE question SET status = :status WHERE id = :id"  # noqa: S608 - ours
        self.db.execute(statement, {"status": status, "id": question_id})

    def question_bodies(self, question_ids: Iterable[int]) -> Iterator[tuple[int, str]]:
        """Gives (row, the question as JSON) for each of these rows."""
        statement = (
            "SELECT id, body FROM question WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(?)) ORDER BY id"
        )
        for r in self._each(statement, json.dumps(list(question_ids))):
            yield r["id"], r["body"]
