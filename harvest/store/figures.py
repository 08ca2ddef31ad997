"""Sums and counts of one run: everything that its report is made of."""

from typing import Any, Literal

from harvest.store.evaluations import Evaluations
from harvest.store.selections import Selections

THEIRS = {
    "teacher": "NOT IN (SELECT id FROM attempt WHERE kind != 'teacher')",
    "judge": "IN (SELECT id FROM attempt WHERE kind != 'teacher' AND kind = 'judge')",
    "student": "IN (SELECT id FROM attempt WHERE kind != 'teacher' AND kind = 'student')",
}
"""Which attempts are whose, in the words of the index attempt_kind."""


class Figures(Selections, Evaluations):
    """Statements of the report."""

    def figures(self, run_id: int) -> dict[str, Any]:
        """Everything that a report is made of: sums and counts of one run, money in picodollars."""
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
            "training": self.trainings(run_id),
            "curves": self.curves(run_id),
            "evaluation": self.evaluations(run_id),
        }  # fmt: skip

    def _tries(self, run_id: int, who: Literal["teacher", "judge", "student"]) -> dict[str, Any]:
        """What was asked of the teachers, of the judging model or of the student: sums and counts of tries."""
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
        """What each teacher was asked, what it cost and what came of it, by its place."""
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
        """How many questions the student was asked, how many of them teachers were asked too, and its costs."""
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
        """What the judging model said, and how many attempts are accepted only because of it."""
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
