"""Stores answers that were paid for elsewhere and are imported, and finds the questions that they belong to."""

import hashlib
from collections.abc import Iterable, Sequence

from harvest.core.nouns import Ask, Question, Reply
from harvest.store.questions import Questions


class Imports(Questions):
    """The SQL statements of an import."""

    def shelve(self, questions: Iterable[tuple[Question, str]]) -> None:
        """Keeps questions, each with a hash of its text, where `shelved` finds them until the store is closed.

        They are kept on the disk, since a file of questions may be larger than the memory.
        """
        self.db.execute("CREATE TEMP TABLE IF NOT EXISTS shelf (name TEXT PRIMARY KEY, text TEXT, body TEXT)")
        self.db.execute("CREATE INDEX IF NOT EXISTS shelf_text ON shelf (text)")
        self.db.executemany(
            "INSERT INTO shelf (name, text, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            ((q.id, text, q.model_dump_json(exclude_none=True)) for q, text in questions),
        )

    def shelved(self, names: Sequence[str], text: str | None) -> Question | None:
        """Returns the shelved question whose id comes first in `names`; else the one with the hash `text`; else
        None."""
        by_name, by_text = "SELECT body FROM shelf WHERE name = ?", "SELECT body FROM shelf WHERE text = ?"
        for statement, value in [*((by_name, name) for name in names), (by_text, text)]:
            if (row := self._row(statement, value)) is not None:
                return Question.model_validate_json(row["body"])
        return None

    def claim(self, run_id: int, question: Question) -> bool:
        """Whether the question may have its id: no different question of the run has it or claimed it before.

        Claims are forgotten when the store is closed.
        """
        self.db.execute("CREATE TEMP TABLE IF NOT EXISTS claimed_name (name TEXT PRIMARY KEY, body TEXT)")
        body = question.model_dump_json(exclude_none=True)
        digest = hashlib.sha256(body.encode()).hexdigest()
        self.db.execute(
            "INSERT INTO claimed_name (name, body) VALUES (?, ?) ON CONFLICT DO NOTHING", (question.id, digest)
        )
        if self._one("SELECT body FROM claimed_name WHERE name = ?", question.id) != digest:
            return False
        stored = self._row("SELECT body FROM question WHERE run_id = ? AND name = ?", run_id, question.id)
        return stored is None or stored["body"] == body

    def has_attempt(self, run_id: int, key: str) -> bool:
        """Whether the run has an attempt with this key."""
        statement = "SELECT 1 FROM attempt WHERE key = ? AND +run_id = ?"  # + keeps the planner to the key's index
        return self._row(statement, key, run_id) is not None

    def put_bought(
        self, run_id: int, question: Question, key: str, reply: Reply, cost_pusd: int | None, source: str,
        asked_at: str | None, now: str,
    ) -> None:  # fmt: skip
        """Writes an answer that was paid for elsewhere, as the next sample of its question, and the question if it is
        new.

        The cost is booked on the run; nothing was reserved for it. `asked_at` is None if nobody knows when the question
        was asked.
        """
        self.put_question(run_id, question)
        question_id = self._one("SELECT id FROM question WHERE run_id = ? AND name = ?", run_id, question.id)
        sample = self._one(
            "SELECT coalesce(max(sample) + 1, 0) FROM attempt WHERE run_id = ? AND question_id = ?", run_id, question_id
        )
        attempt_id = self._attempt(run_id, question_id, Ask(sample, 0), key)
        try_id = self._insert(
            "INSERT INTO try (attempt_id, run_id, reserved, sent_at) VALUES (?, ?, 0, ?)",
            attempt_id, run_id, asked_at or "",
        )  # fmt: skip
        self._spend(try_id, cost_pusd or 0, 0)
        self._end_try(try_id, "answered", None, reply, cost_pusd, source, None, now)
        self.db.execute("UPDATE attempt SET state = 'answered', answer_try = ? WHERE id = ?", (try_id, attempt_id))
