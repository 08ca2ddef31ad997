"""All that is known of one question, and of every answered attempt."""

from collections.abc import Iterator
from typing import Any

from harvest.core.nouns import Question
from harvest.store.runs import Runs
from harvest.store.selections import Selections


class Stories(Selections, Runs):
    """Statements that read whole attempts."""

    def answered_attempts(self, run_id: int, which: str) -> Iterator[dict[str, Any]]:
        """Teachers' attempts that have a whole reply, for exports: `all`, the `accepted`, or the `selected` ones.

        Selected are those of the newest selection; before the first, the accepted ones. What was rejected after the
        selection is not selected, unless the selection chose from rejected answers too. `unselected` is the
        selection's reason, and `rewritten` is 1 where the rewritten text is trained on.
        """
        for r in self._each(
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
            " WHEN 'accepted' THEN attempt.accepted = 1 ELSE selected END"
            # This is the order of the index attempt_once: to sort would be to copy every reply.
            " ORDER BY attempt.question_id, attempt.teacher, attempt.sample, attempt.max_tokens",
            {"run": run_id, "which": which} | self.pass_in_words(run_id),
        ):
            verdicts = self._all(
                "SELECT check_name AS 'check', version, outcome, detail, share FROM verdict"
                " WHERE attempt_id = ? ORDER BY id",
                r["attempt_id"],
            )
            row = dict(r)
            del row["body"]
            yield row | {"reply": self.read_reply(r), "verdicts": verdicts}

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
