"""Stores what a student's probabilities say of a run's answers. `finetune score` computes it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harvest.store.connection import Connection
from harvest.store.databases.database import Row
from harvest.store.replies import IS_WHOLE, of_both_halves


@dataclass(frozen=True, slots=True)
class StudentScore:
    """What one student's probabilities say of one answer, over the tokens of it that would be trained."""

    student: str
    """The student's name, as it was scored."""
    weights: str
    """The checksum of the student's weights."""
    tokens: int
    """How many tokens would be trained; 0 if the student cannot be trained on the answer."""
    surprisal_nats: float | None
    """The sum of the tokens' negative log-probabilities; None if the student cannot be trained on the answer."""
    ranks: int | None
    """The sum of the tokens' ranks, each of them 100 at most; None as above."""

    @property
    def surprisal(self) -> float | None:
        """Returns the mean negative log-probability of a token, in nats."""
        return None if self.surprisal_nats is None else self.surprisal_nats / self.tokens

    @property
    def rank(self) -> float | None:
        """Returns the mean rank of a token among all tokens: 1 is the likeliest, and 100 stands for all from there
        on."""
        return None if self.ranks is None else self.ranks / self.tokens

    @property
    def means(self) -> tuple[float, float] | None:
        """Returns (rank, surprisal)."""
        return None if self.rank is None or self.surprisal is None else (self.rank, self.surprisal)

    @property
    def rsr(self) -> float | None:
        """Returns the Rank-Surprisal Ratio: the sum of the ranks, each 100 at most, over the sum of the surprisals.

        The lower, the better the answer suits the student. Source: arXiv 2601.14249.
        """
        return self.ranks / self.surprisal_nats if self.ranks is not None and self.surprisal_nats else None


SCORE_COLUMNS = (
    "student_scoring.student, student_scoring.weights, score.tokens AS scored_tokens, score.surprisal_nats, score.ranks"
)
"""The columns that a statement on `student_scoring` and `student_score AS score` must select for `read_score`."""
SCORES = (
    f"SELECT score.attempt_id, {SCORE_COLUMNS} FROM student_score AS score"  # noqa: S608 - ours
    " JOIN student_scoring ON student_scoring.id = scoring_id"
)


def read_score(row: Row) -> StudentScore | None:
    """Returns the score in a row; None if the answer has none."""
    if row["scored_tokens"] is None:
        return None
    named = {name: row[name] for name in ("student", "weights", "surprisal_nats", "ranks")}
    return StudentScore(tokens=row["scored_tokens"], **named)


class StudentScores(Connection):
    """The SQL statements on students' scores."""

    def begin_scoring(self, run_id: int, student: str, weights: str, rendering: str, now: str) -> int:
        """Returns the id under which the scores of these weights, under this name and rendering, are stored.

        What was scored under another name of the same weights is taken over.
        """
        self.db.execute(
            "INSERT INTO student_scoring (run_id, student, weights, rendering, at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (run_id, student, weights, rendering, now),
        )
        scoring_id = int(
            self._one(
                "SELECT id FROM student_scoring WHERE run_id = ? AND student = ? AND weights = ? AND rendering = ?",
                run_id, student, weights, rendering,
            )
        )  # fmt: skip
        self.db.execute(
            "INSERT INTO student_score SELECT CAST(:id AS BIGINT), attempt_id, tokens, surprisal_nats, ranks"
            " FROM student_score JOIN student_scoring ON id = scoring_id WHERE run_id = :run AND weights = :weights"
            " AND rendering = :rendering AND id != :id ON CONFLICT DO NOTHING",
            {"id": scoring_id, "run": run_id, "weights": weights, "rendering": rendering},
        )
        return scoring_id

    def unscored(self, run_id: int, scoring_id: int, which: str) -> list[int]:
        """Returns the ids of the teachers' answers that have no score yet, the longest first. `which` is "accepted" or
        "all"."""
        rows = self._each(
            "SELECT attempt.id FROM attempt JOIN try ON try.id = attempt.answer_try WHERE attempt.run_id = :run"  # noqa: S608 - ours
            f" AND attempt.kind = 'teacher' AND {IS_WHOLE} AND (:all OR attempt.accepted = 1) AND NOT EXISTS"
            " (SELECT 1 FROM student_score WHERE scoring_id = :scoring AND attempt_id = attempt.id)"
            f" ORDER BY {of_both_halves('output_tokens')} DESC NULLS LAST, attempt.id",
            {"run": run_id, "all": which == "all", "scoring": scoring_id},
        )
        return [r[0] for r in rows]

    def put_scores(self, scoring_id: int, scores: Iterable[tuple[int, int, float | None, int | None]]) -> None:
        """Writes scores: (the attempt's id, tokens, sum of surprisals in nats, sum of ranks) of each answer."""
        self.db.executemany(
            "INSERT INTO student_score (scoring_id, attempt_id, tokens, surprisal_nats, ranks) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            ((scoring_id, *score) for score in scores),
        )

    def scoring_of(self, run_id: int, student: str | None = None) -> int | None:
        """Returns the id of the run's newest scoring by this student, or by any; None if there is none."""
        row = self._row(
            "SELECT max(id) FROM student_scoring WHERE run_id = :run"
            " AND (CAST(:student AS TEXT) IS NULL OR student = :student)",
            {"run": run_id, "student": student},
        )
        return None if row is None else row[0]

    def scored_students(self, run_id: int) -> list[str]:
        """Returns the names of the students that answers of a run were scored by, the newest first."""
        rows = self._each("SELECT student FROM student_scoring WHERE run_id = ? ORDER BY id DESC", run_id)
        return list(dict.fromkeys(r[0] for r in rows))

    def student_scores(self, scoring_id: int | None) -> Iterator[tuple[int, StudentScore]]:
        """Gives (the attempt's id, its score) of each answer of a scoring, in the order of the attempts."""
        for r in self._each(f"{SCORES} WHERE scoring_id = ? ORDER BY attempt_id", scoring_id):
            if (score := read_score(r)) is not None:
                yield r["attempt_id"], score

    def scores_of(self, attempt_id: int) -> tuple[StudentScore, ...]:
        """Returns the newest score of an answer by each student."""
        found = {
            s.student: s
            for r in self._each(f"{SCORES} WHERE attempt_id = ? ORDER BY scoring_id", attempt_id)
            if (s := read_score(r)) is not None
        }
        return tuple(found.values())
