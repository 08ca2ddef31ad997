"""Stores answers from public sets. Each stands as an imported answer in a run of its own, the shelf of the run that
uses it, and the run has an attempt that reuses it. So no run's money, requests or tokens count what others made."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harvest.core.nouns import PUBLIC, Ask, Question, Reply, content_hash
from harvest.store.imports import Imports

COST_SOURCE = "public"
"""What stands for the source of a cost where nobody of ours paid: the answer was published."""
WITHDRAWN = "withdrawn"
"""The reason of a public answer that the run took and no longer wants."""
ORIGIN = (
    "FROM attempt JOIN try ON try.id = attempt.answer_try JOIN attempt AS shelved ON shelved.id = try.attempt_id"
    " JOIN question AS origin ON origin.id = shelved.question_id"
    f" WHERE attempt.run_id = ? AND attempt.teacher = {PUBLIC} AND attempt.answer_try IS NOT NULL"
)
"""The part of a statement that gives a run's public answers, with where each is from (`origin.body`)."""


@dataclass(frozen=True, slots=True)
class PublicAttempt:
    """A public answer that a run uses, and where it is from."""

    id: int
    question_id: int
    """The question's row."""
    set: str
    licence: str
    teacher: str
    accepted: bool | None
    solves: bool
    """Whether its question is solved, and no teacher was asked."""


@dataclass(frozen=True, slots=True)
class PublicFigures:
    """What came of the public answers of one set, licence and teacher."""

    set: str
    licence: str
    teacher: str
    answers: int
    accepted: int
    questions: int
    """How many questions they solve of which no teacher was asked."""


class PublicAnswers(Imports):
    """The SQL statements on public answers."""

    def lookup_questions(self, run_id: int, after: int, limit: int) -> list[tuple[int, Question]]:
        """Returns (row, question) of at most `limit` questions after the row `after` that nobody has solved."""
        rows = self._all(
            "SELECT id, body FROM question WHERE run_id = ? AND id > ? AND status IN ('open', 'given_up')"
            " ORDER BY id LIMIT ?",
            run_id, after, limit,
        )  # fmt: skip
        return [(r["id"], Question.model_validate_json(r["body"])) for r in rows]

    def put_public(
        self, run_id: int, shelf_id: int, question_id: int, question: Question, key: str, reply: Reply, now: str
    ) -> bool:
        """Makes a public answer an attempt at a question, which is open again until the answer is judged. Returns False
        if the question has the answer already.

        `reply.extra["public"]` says where the answer is from.
        """
        mine = self._all(
            "SELECT key, sample, answer_try FROM attempt WHERE question_id = ? AND teacher = ?", question_id, PUBLIC
        )
        known = next((a for a in mine if a["key"] == key), None)
        if known is not None and known["answer_try"] is not None:
            return False
        if self._row("SELECT 1 FROM attempt WHERE key = ? AND answer_try IS NOT NULL", key) is None:
            origin = reply.extra["public"]
            name = "p-" + content_hash([origin["set"], origin["licence"], question.id]).removeprefix("sha256:")[:32]
            of = {"id": name, "source": origin["set"], "licence": origin["licence"]}
            self.put_bought(shelf_id, question.model_copy(update=of), key, reply, None, COST_SOURCE, None, now)
        sample = max((a["sample"] + 1 for a in mine), default=0) if known is None else known["sample"]
        self.reuse(run_id, question_id, Ask(sample, 0, PUBLIC), key)
        self.db.execute(
            "UPDATE attempt SET accepted = NULL, reason = NULL WHERE question_id = ? AND teacher = ? AND key = ?",
            (question_id, PUBLIC, key),
        )
        self.db.execute("UPDATE question SET status = 'open' WHERE id = ?", (question_id,))
        return True

    def public_attempts(self, run_id: int) -> Iterator[PublicAttempt]:
        """Yields the public answers that a run uses."""
        for r in self._all(
            "SELECT attempt.id, attempt.question_id, attempt.accepted, served_model, attempt.accepted = 1"  # noqa: S608 - ours
            " AND (SELECT status FROM question WHERE id = attempt.question_id) = 'solved' AND NOT EXISTS"
            " (SELECT 1 FROM attempt AS other WHERE other.question_id = attempt.question_id AND other.teacher >= 0)"
            " AS solves,"
            " json_extract(origin.body, '$.source') AS of_set, json_extract(origin.body, '$.licence') AS licence"
            f" {ORIGIN} ORDER BY attempt.id",
            run_id,
        ):
            accepted = None if r["accepted"] is None else bool(r["accepted"])
            yield PublicAttempt(
                r["id"], r["question_id"], r["of_set"], r["licence"], r["served_model"] or "unknown", accepted,
                bool(r["solves"]),
            )  # fmt: skip

    def withdraw(self, attempts: Sequence[PublicAttempt]) -> None:
        """Takes public answers out of a run. Their questions are open again; the answers stay on the shelf."""
        ids = json.dumps([a.id for a in attempts])
        self.db.execute(
            "UPDATE attempt SET state = 'failed', reason = ?, accepted = NULL, answer_try = NULL, reused = 0"
            " WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(?))",
            (WITHDRAWN, ids),
        )
        self.db.execute(
            "UPDATE question SET status = 'open' WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(?))",
            (json.dumps([a.question_id for a in attempts]),),
        )

    def public_figures(self, run_id: int) -> list[PublicFigures]:
        """Returns what came of a run's public answers, by set, licence and teacher."""
        found: dict[tuple[str, str, str], dict[str, Any]] = {}
        solved = set[int]()
        for a in self.public_attempts(run_id):
            counts = found.setdefault((a.set, a.licence, a.teacher), {"answers": 0, "accepted": 0, "questions": 0})
            counts["answers"] += 1
            counts["accepted"] += bool(a.accepted)
            if a.solves and a.question_id not in solved:
                solved.add(a.question_id)
                counts["questions"] += 1
        return [PublicFigures(*of, **counts) for of, counts in sorted(found.items())]
