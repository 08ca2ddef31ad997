"""Stores selections, each with its outcome for every candidate. They are never changed; the newest one counts."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harvest.core.nouns import FILTER_REASONS, Reply, RewrittenBy
from harvest.store.replies import IS_WHOLE, REPLY_COLUMNS, Replies, of_both_halves

JUDGED_WHOLE = ("wrong", "no_answer", "timeout", "error", "no_gold", "no_majority", *FILTER_REASONS.values())
"""The reasons for which a finished answer may be rejected."""
REJECTED_SINCE = "rejected_since"
"""The reason of an attempt that the newest selection selected and a later verdict rejected."""


@dataclass(frozen=True, slots=True)
class StoredSelection:
    """Holds the newest selection of a run."""

    id: int
    at: str
    key: str
    """A hash of everything that the selection was made of."""
    settings: dict[str, Any]
    said: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SelectionOutcome:
    """What the newest selection says of one attempt."""

    reason: str | None
    """Why the attempt is not selected; None if it is selected."""
    instead: int | None
    """The id of the attempt that is selected instead; None if there is none."""
    detail: str | None
    rewritten: RewrittenBy
    """Who rewrote the text that is trained on."""
    instead_question: str | None
    """The name of the question that the attempt `instead` belongs to."""
    instead_sample: int | None


@dataclass(frozen=True, slots=True)
class SelectionFigures:
    """Counts what the newest selection selected and left out."""

    selected: int | None = None
    """How many attempts are selected. `selected`, `said` and `at` are None before the first selection."""
    unselected: dict[str, int] = field(default_factory=dict)
    """Maps each reason, in the order of the stages, to how many attempts are not selected for it."""
    newer: int = 0
    """How many answers were accepted after the selection."""
    said: dict[str, Any] | None = None
    at: str | None = None


class Selections(Replies):
    """The SQL statements on selections."""

    def selection_pool(self, run_id: int, pool: str) -> Iterator[tuple[int, int, int | None]]:
        """Gives (attempt id, question row, output tokens) of each candidate, in the order of question, teacher, sample
        and limit.

        Candidates are the accepted answers, and also finished answers that were rejected if `pool` is "all".
        """
        for r in self._each(
            f"SELECT attempt.id, attempt.question_id, {of_both_halves('output_tokens')} FROM attempt"  # noqa: S608 - ours
            " JOIN try ON try.id = attempt.answer_try"
            " WHERE attempt.run_id = :run AND attempt.kind = 'teacher' AND attempt.state = 'answered'"
            " AND (attempt.accepted = 1 OR :all AND attempt.accepted = 0 AND attempt.reason IN"
            " (SELECT value FROM json_each(:whole)))"
            " ORDER BY attempt.question_id, attempt.teacher, attempt.sample, attempt.max_tokens",
            {"run": run_id, "all": pool == "all", "whole": json.dumps(JUDGED_WHOLE)},
        ):
            yield tuple(r)

    def selection_origins(self, run_id: int) -> Iterator[tuple[int, int, str, dict[str, Any]]]:
        """Gives (attempt id, teacher's index, question as JSON, what a withdrawal may name) of each teacher's
        answer."""
        names = ("attempt", "response_id", "first_response_id", "served_model", "served_by")
        for r in self._each(
            "SELECT attempt.id, attempt.teacher, question.body, attempt.key AS attempt, try.response_id,"
            " (SELECT first.response_id FROM attempt AS half JOIN try AS first ON first.id = half.answer_try"
            "  WHERE half.id = attempt.continues) AS first_response_id, try.served_model, try.served_by"
            " FROM attempt JOIN question ON question.id = attempt.question_id JOIN try ON try.id = attempt.answer_try"
            " WHERE attempt.run_id = ? AND attempt.kind = 'teacher'",
            run_id,
        ):
            yield r["id"], r["teacher"], r["body"], {name: r[name] for name in names}

    def failed_shares(self, run_id: int) -> Iterator[tuple[int, float]]:
        """Gives (question row, the share from 0 to 1 of its judged answers that were wrong).

        The student's answers count if it was asked, else the teachers'. An answer that a filter rejects counts as
        right, since the filter says nothing about how hard the question is.
        """
        for r in self._each(
            "SELECT question_id, count(*) FILTER (WHERE kind = 'student') AS asked,"  # noqa: S608 - ours
            " count(*) FILTER (WHERE kind = 'student' AND accepted = 0) AS failed, count(*) AS answers,"
            " count(*) FILTER (WHERE accepted = 0 AND reason NOT IN (SELECT value FROM json_each(?))) AS wrong"
            f" FROM attempt WHERE run_id = ? AND about IS NULL AND accepted IS NOT NULL AND {IS_WHOLE}"
            " GROUP BY 1 ORDER BY 1",
            json.dumps(list(FILTER_REASONS.values())), run_id,
        ):  # fmt: skip
            yield r["question_id"], r["failed"] / r["asked"] if r["asked"] else r["wrong"] / r["answers"]

    def put_selection(
        self, run_id: int, key: str, settings: Mapping[str, Any], said: Mapping[str, Any],
        outcomes: Iterable[tuple[int, str | None, int | None, str | None, RewrittenBy]], now: str,
    ) -> None:  # fmt: skip
        """Writes a whole selection. Each of `outcomes` is (the attempt's id, why it is not selected or None, the id of
        the attempt that is selected instead, the detail, who rewrote the text that is trained on)."""
        selection_id = self._insert(
            "INSERT INTO selection (run_id, at, key, settings, said) VALUES (?, ?, ?, ?, ?)",
            run_id, now, key, json.dumps(settings, ensure_ascii=False), json.dumps(said, ensure_ascii=False),
        )  # fmt: skip
        self.db.executemany(
            "INSERT INTO selection_outcome (selection_id, attempt_id, reason, instead, detail, rewritten)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            ((selection_id, *outcome) for outcome in outcomes),
        )

    def newest_selection(self, run_id: int) -> StoredSelection | None:
        """Returns the newest selection; None before the first selection."""
        row = self._row("SELECT * FROM selection WHERE run_id = ? ORDER BY id DESC LIMIT 1", run_id)
        if row is None:
            return None
        return StoredSelection(row["id"], row["at"], row["key"], json.loads(row["settings"]), json.loads(row["said"]))

    def _newest_in_words(self, run_id: int) -> dict[str, Any]:
        """Returns values for statements: `selection` is the newest selection's id (None if there is none), and `any`
        says whether it chose from rejected answers too."""
        newest = self.newest_selection(run_id)
        return {"selection": newest and newest.id, "any": newest is not None and newest.settings.get("pool") == "all"}

    def unselected(self, run_id: int) -> SelectionFigures:
        """Returns how many attempts the newest selection selected, and how many it left out for each reason."""
        newest = self.newest_selection(run_id)
        if newest is None:
            return SelectionFigures()
        of = {"run": run_id, "since": REJECTED_SINCE} | self._newest_in_words(run_id)
        by = self._pairs(
            "SELECT CASE WHEN outcome.reason IS NOT NULL THEN outcome.reason WHEN :any OR accepted = 1 THEN ''"
            " ELSE :since END, count(*) FROM selection_outcome AS outcome JOIN attempt ON attempt.id = attempt_id"
            " WHERE selection_id = :selection GROUP BY 1 ORDER BY 1",
            of,
        )
        newer = self._one(
            "SELECT count(*) FROM attempt WHERE run_id = :run AND kind = 'teacher' AND accepted = 1 AND NOT EXISTS"
            " (SELECT 1 FROM selection_outcome WHERE selection_id = :selection AND attempt_id = attempt.id)",
            of,
        )
        selected, order = by.pop("", 0), [r for r in newest.said.get("unselected", {}) if r in by]
        by = {reason: by[reason] for reason in [*order, *(r for r in by if r not in order)]}
        return SelectionFigures(selected, by, newer, newest.said, newest.at)

    def unselected_reasons(self, run_id: int) -> dict[int, str]:
        """Maps the id of each attempt that the newest selection left out to the reason."""
        statement = (
            "SELECT attempt_id, reason FROM selection_outcome WHERE reason IS NOT NULL AND selection_id ="
            " (SELECT max(id) FROM selection WHERE run_id = ?)"
        )
        return dict(map(tuple, self._each(statement, run_id)))

    def outcome_of(self, run_id: int, attempt_id: int) -> SelectionOutcome | None:
        """Returns what the newest selection says of one attempt; None if the attempt was no candidate."""
        row = self.db.execute(
            "SELECT CASE WHEN outcome.reason IS NOT NULL THEN outcome.reason WHEN NOT (:any OR of.accepted = 1)"
            " THEN :since END AS reason, instead, detail, rewritten, question.name AS instead_question,"
            " attempt.sample AS instead_sample FROM selection_outcome AS outcome JOIN attempt AS of"
            " ON of.id = outcome.attempt_id LEFT JOIN attempt ON attempt.id = instead"
            " LEFT JOIN question ON question.id = attempt.question_id"
            " WHERE outcome.attempt_id = :attempt AND selection_id = :selection",
            {"attempt": attempt_id, "since": REJECTED_SINCE} | self._newest_in_words(run_id),
        ).fetchone()
        return None if row is None else SelectionOutcome(**{**dict(row), "rewritten": RewrittenBy(row["rewritten"])})

    def selection_texts(self, attempt_ids: Sequence[int]) -> Iterator[tuple[int, int, int, str, Reply]]:
        """Gives (id, sample number, question's row, question as JSON, reply) of each of these attempts."""
        statement = (
            "SELECT attempt.id AS attempt_id, attempt.sample, question_id, question.body AS question_body,"  # noqa: S608 - ours
            f" {REPLY_COLUMNS} FROM attempt JOIN question ON question.id = question_id"
            " JOIN try ON try.id = answer_try JOIN reply ON reply.try_id = try.id"
            " WHERE attempt.id IN (SELECT CAST(value AS BIGINT) FROM json_each(?)) ORDER BY attempt.id"
        )
        for r in self._each(statement, json.dumps(list(attempt_ids))):
            yield r["attempt_id"], r["sample"], r["question_id"], r["question_body"], self.read_reply(r)
