"""Writes verdicts and judgements, and reads the answers that wait to be judged."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

from harvest.core.nouns import HUMAN, STUDENT, Attempt, Judgement, Outcome, Question, Reply, Verdict
from harvest.store.attempts import Attempts, read_attempt
from harvest.store.replies import REPLY_COLUMNS


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """Holds a stored answer with everything that judging it needs and may change."""

    question_id: int
    question_status: str
    question: Question
    attempt: Attempt
    reply: Reply


@dataclass(frozen=True, slots=True)
class MarkedAnswer:
    """Holds a stored answer that a person marks."""

    run_id: int
    answer: StoredAnswer
    newest: Mapping[str, Verdict]
    """Maps each check to its newest verdict on the answer."""
    rewriting: Reply | None
    """A model's rewriting of the answer that the newest verdict on it keeps; None: there is none."""
    marked_at: frozenset[str]
    """When the answer was marked before."""


@dataclass(frozen=True, slots=True)
class JudgedBy:
    """Today's checks and filters. Answers that they have not judged yet must be judged."""

    checks: Mapping[str, str]
    """Maps each check's name to its version. An answer is judged when one of these checks has given a verdict."""
    required: Mapping[str, str]
    """Maps each filter that a right answer must pass too to its version."""
    refused_by: Mapping[str, str]
    """Maps each filter that may be required to the reason with which it rejects an answer."""
    newer_than: int = 0
    """Only verdicts with a larger id count."""


class Rejudged(NamedTuple):
    """A new verdict, and what the same check had said of the same attempt before."""

    check: str
    version: str
    outcome: str
    version_before: str | None
    """The check's version in the earlier verdict; None if there is none."""
    outcome_before: str | None
    question: str
    """The question's name."""


STORED = (
    "FROM attempt JOIN question ON question.id = attempt.question_id JOIN try ON try.id = attempt.answer_try"
    " JOIN reply ON reply.try_id = try.id WHERE attempt.run_id = :run AND attempt.state = 'answered'"
    " AND attempt.about IS NULL"
    " AND CASE WHEN CAST(:unless AS TEXT) IS NULL THEN attempt.accepted IS NULL ELSE NOT EXISTS (SELECT 1 FROM verdict"
    " JOIN json_each(:unless) AS today ON today.key = check_name AND today.value = version"
    " WHERE attempt_id = attempt.id AND verdict.id > :newer_than)"
    # A right answer is judged again too where a required filter of today has no verdict on it yet, or where a filter
    # that is required no longer rejected it.
    " OR attempt.kind = 'teacher' AND (accepted = 1 OR attempt.reason IN (SELECT value FROM json_each(:by_filters)))"
    " AND (EXISTS (SELECT 1 FROM json_each(:required) AS today WHERE NOT EXISTS (SELECT 1 FROM verdict"
    "  WHERE attempt_id = attempt.id AND check_name = today.key AND version = today.value AND id > :newer_than))"
    "  OR attempt.reason IN (SELECT value FROM json_each(:by_filters) AS f"
    "   WHERE f.key NOT IN (SELECT key FROM json_each(:required)))) END"
)
"""The part of a statement, after SELECT …, that says which answers must be judged."""


class Judgements(Attempts):
    """The SQL statements on verdicts."""

    def put_verdicts(
        self, attempt_id: int, verdicts: Sequence[Verdict], accepted: bool, reason: str | None, now: str
    ) -> None:
        """Adds verdicts, and gives the attempt the judgement that follows from them."""
        self.db.executemany(
            "INSERT INTO verdict (attempt_id, check_name, version, outcome, detail, share, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(attempt_id, v.check, v.version, v.outcome.value, v.detail, v.share, now) for v in verdicts],
        )
        self.db.execute("UPDATE attempt SET accepted = ?, reason = ? WHERE id = ?", (int(accepted), reason, attempt_id))

    def put_judgements(self, judgements: Iterable[Judgement], now: str) -> None:
        """Adds the verdicts of each judgement, and gives each attempt its judgement."""
        for j in judgements:
            self.put_verdicts(j.attempt_id, j.verdicts, j.accepted, j.reason, now)

    def stored_answers(
        self, run_id: int, unless: JudgedBy | None = None, *, after: StoredAnswer | None = None,
        limit: int | None = None, most_bytes: float = inf,
    ) -> list[StoredAnswer]:  # fmt: skip
        """Returns answers that must be judged, in the order of question, teacher, sample and limit of tokens.

        `unless` names checks and filters: answers that they have judged already are left out. If `unless` is None, all
        answers that were ever judged are left out. The list begins after the answer `after`. The list ends after
        `limit` answers, or when the packed replies have more than `most_bytes` bytes.
        """
        names = ("question", "teacher", "sample", "limit")
        place = (0, STUDENT, -1, -1)
        if after is not None:
            a = after.attempt
            place = (after.question_id, a.teacher, a.sample, a.max_tokens)
        found, size = [], 0
        for r in self._each(
            "SELECT attempt.id, attempt.question_id, attempt.sample, attempt.max_tokens, attempt.teacher,"
            " attempt.state, attempt.accepted, attempt.reason, attempt.waited_s, attempt.continues, question.status,"
            f" question.body AS question_body, {REPLY_COLUMNS} {STORED}"
            " AND (attempt.question_id, attempt.teacher, attempt.sample, attempt.max_tokens)"
            " > (:question, :teacher, :sample, :limit)"
            " ORDER BY attempt.question_id, attempt.teacher, attempt.sample, attempt.max_tokens",
            _stored(run_id, unless) | dict(zip(names, place, strict=True)),
        ):
            size += len(r["body"])
            question = Question.model_validate_json(r["question_body"])
            found.append(StoredAnswer(r["question_id"], r["status"], question, read_attempt(r), self.read_reply(r)))
            if len(found) == limit or size > most_bytes:
                break
        return found

    def count_stored_answers(self, run_id: int, unless: JudgedBy | None) -> int:
        """Returns how many answers `stored_answers` returns in all."""
        return int(self._one(f"SELECT count(*) {STORED}", _stored(run_id, unless)))

    def opinions(self, attempt_ids: Iterable[int]) -> dict[int, tuple[str, str]]:
        """Maps the id of each attempt that a judging model judged to (the check's outcome, then the model's
        opinion)."""
        return {
            r["attempt_id"]: (r["rules"], r["outcome"])
            for r in self._all(
                "SELECT attempt_id, outcome, (SELECT outcome FROM verdict AS before WHERE before.id < verdict.id AND"
                "  before.attempt_id = verdict.attempt_id"
                "  AND check_name NOT IN ('judge', 'rewriting', 'human') ORDER BY id DESC LIMIT 1) AS rules"
                " FROM verdict WHERE check_name = 'judge' AND attempt_id IN"
                " (SELECT CAST(value AS BIGINT) FROM json_each(?)) ORDER BY id",
                json.dumps(list(attempt_ids)),
            )
        }

    def marks(self, attempt_ids: Iterable[int]) -> dict[int, Verdict]:
        """Maps the id of each attempt that a person marked to the newest mark."""
        return {
            r["attempt_id"]: Verdict(HUMAN, r["version"], Outcome(r["outcome"]), r["detail"])
            for r in self._all(
                "SELECT attempt_id, version, outcome, detail FROM verdict WHERE check_name = 'human'"
                " AND attempt_id IN (SELECT CAST(value AS BIGINT) FROM json_each(?)) ORDER BY id",
                json.dumps(list(attempt_ids)),
            )
        }

    def marked_answer(self, attempt_id: int, key: str) -> MarkedAnswer | None:
        """Returns a stored answer that a person marks, with its newest verdicts; None if the store has no answered
        attempt with this id and this key."""
        r = self._row(
            "SELECT attempt.*, question.status, question.body AS question_body,"  # noqa: S608 - ours
            f" {REPLY_COLUMNS} FROM attempt JOIN question ON question.id = attempt.question_id"
            " JOIN try ON try.id = attempt.answer_try JOIN reply ON reply.try_id = try.id"
            " WHERE attempt.id = ? AND attempt.key = ? AND attempt.about IS NULL",
            attempt_id, key,
        )  # fmt: skip
        if r is None:
            return None
        question = Question.model_validate_json(r["question_body"])
        answer = StoredAnswer(r["question_id"], r["status"], question, read_attempt(r), self.read_reply(r))
        verdicts = self._all(
            "SELECT check_name, version, outcome, detail, share, at FROM verdict WHERE attempt_id = ? ORDER BY id",
            attempt_id,
        )
        newest = {
            v["check_name"]: Verdict(v["check_name"], v["version"], Outcome(v["outcome"]), v["detail"], v["share"])
            for v in verdicts
        }
        marked_at = frozenset(v["at"] for v in verdicts if v["check_name"] == HUMAN)
        rewriting = self.rewritings([attempt_id], kept=True).get(attempt_id)
        return MarkedAnswer(r["run_id"], answer, newest, rewriting, marked_at)

    def marked_answers(self, run_id: int) -> Iterator[tuple[StoredAnswer, Verdict]]:
        """Gives each answer of a run that a person marked, with its newest mark, in the order of the attempts."""
        ids = self._all(
            "SELECT DISTINCT attempt.id, key FROM attempt JOIN verdict ON attempt_id = attempt.id"
            " WHERE run_id = ? AND check_name = 'human' ORDER BY attempt.id",
            run_id,
        )
        for row in ids:
            if (found := self.marked_answer(row["id"], row["key"])) is not None:
                yield found.answer, found.newest[HUMAN]

    def put_mark(self, attempt_id: int, mark: Verdict, accepted: bool | None, reason: str | None, at: str) -> None:
        """Adds a person's mark, and gives the attempt the judgement that follows from it. `accepted` is None if no
        check has judged the answer and the mark does not decide."""
        self.put_verdicts(attempt_id, [mark], bool(accepted), reason, at)
        if accepted is None:
            self.db.execute("UPDATE attempt SET accepted = NULL, reason = NULL WHERE id = ?", (attempt_id,))

    def newest_verdict(self) -> int:
        """Returns the id of the newest verdict; 0 if there is none."""
        return int(self._one("SELECT coalesce(max(id), 0) FROM verdict"))

    def rejudged(self, run_id: int, since: int) -> Iterator[Rejudged]:
        """Yields each verdict of a run whose id is above `since`, with an earlier verdict to compare it with.

        The earlier one is the same check's last verdict on the same attempt whose id is at most `since`, if any.
        """
        for r in self._each(
            "SELECT new.check_name, new.version, new.outcome, old.version, old.outcome, question.name"
            " FROM verdict AS new JOIN attempt ON attempt.id = new.attempt_id"
            " JOIN question ON question.id = question_id LEFT JOIN verdict AS old ON old.id ="
            " (SELECT max(id) FROM verdict WHERE attempt_id = new.attempt_id AND check_name = new.check_name"
            "  AND id <= :since) WHERE new.id > :since AND attempt.run_id = :run ORDER BY new.id",
            {"since": since, "run": run_id},
        ):
            yield Rejudged(*r)


def _stored(run_id: int, unless: JudgedBy | None) -> dict[str, Any]:
    if unless is None:
        return {"run": run_id, "unless": None, "newer_than": 0, "required": "{}", "by_filters": "{}"}
    words = {"unless": unless.checks, "required": unless.required, "by_filters": unless.refused_by}
    return {"run": run_id, "newer_than": unless.newer_than} | {k: json.dumps(dict(v)) for k, v in words.items()}
