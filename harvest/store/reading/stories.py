"""Reads attempts with everything that is known of them, for exports and for the story of one question."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harvest.core.nouns import (
    FILTER_REASONS,
    HUMAN,
    Attempt,
    Outcome,
    Question,
    Reply,
    RewrittenBy,
    Verdict,
)
from harvest.store.attempts import read_attempt
from harvest.store.databases.database import Row
from harvest.store.replies import IS_WHOLE, REPLY_COLUMNS, of_both_halves, row_id
from harvest.store.runs import Runs, StoredRun
from harvest.store.selections import SelectionOutcome, Selections
from harvest.store.student_scores import SCORE_COLUMNS, StudentScore, StudentScores, read_score

PAID = (
    "CASE WHEN attempt.reused = 1 THEN 0 * try.cost ELSE try.cost END + CASE WHEN attempt.continues IS NULL THEN 0 ELSE"
    " (SELECT CASE WHEN half.reused = 1 THEN 0 * first.cost ELSE first.cost END FROM attempt AS half"
    "  JOIN try AS first ON first.id = half.answer_try WHERE half.id = attempt.continues) END"
)
"""What the run paid for an answer: for both halves of a continued one; NULL where the cost of one is unknown. What
another run had bought costs nothing."""


@dataclass(frozen=True, slots=True)
class AnsweredAttempt:
    """A teacher's attempt with a whole reply, in one piece or two, and what verdicts and the newest selection say of
    it."""

    id: int
    key: str
    question: Question
    teacher: int
    """The teacher's index among the run's teachers."""
    sample: int
    max_tokens: int
    """The limit of tokens; 0 if the answer was imported, so that nobody knows the limit."""
    accepted: bool | None
    reason: str | None
    """Why the attempt is rejected; None if it is accepted or not judged."""
    reused: bool
    """Whether another attempt with the same key bought the reply."""
    sent_at: str
    """When the request was sent; empty if nobody knows (an imported answer)."""
    cost_pusd: int | None
    """What this run paid for the answer; None: nobody knows."""
    reply: Reply
    verdicts: tuple[Verdict, ...]
    """The verdicts on the answer, the oldest first."""
    selected: bool
    unselected: str | None
    """Why the newest selection left the attempt out; None if it did not."""
    rewritten: RewrittenBy
    """Who rewrote the text that is trained on."""
    rewriting: Reply | None
    """A model's rewriting, if `rewritten` says that a model rewrote the text."""
    score: StudentScore | None
    """By the student that the newest selection names, else by the one that was scored last; None: it has no score."""
    replica: str | None
    """The address that answered, if it is another than the teacher's base_url."""

    @property
    def row_id(self) -> str:
        """Returns the id of the attempt's row in an export."""
        return row_id(self.key, self.question.id)


@dataclass(frozen=True, slots=True)
class StoredTry:
    """Holds one request of an attempt, and how the request ended. Amounts of money are picodollars."""

    id: int
    max_tokens: int
    state: str
    """The state of the try: sent, answered, failed or in_doubt."""
    kind: str | None
    """The class of the try's failure; None if it did not fail."""
    message: str | None
    reserved: int
    cost: int | None
    doubt: int | None
    input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    finish_reason: str | None
    served_model: str | None
    served_by: str | None
    replica: str | None
    """The address that was asked, if it is another than the teacher's base_url."""
    response_id: str | None
    sent_at: str
    ended_at: str | None
    settled_by: str | None
    """Who told the cost of a try that was in doubt: `provider` or `user`; None for any other try."""
    settled_at: str | None
    partial: Reply | None
    """The reply, whole or in part, of a try that did not bring the attempt's answer; else None."""


@dataclass(frozen=True, slots=True)
class DatedVerdict:
    """A verdict, when it was given, and its id. A later verdict has a larger id."""

    id: int
    verdict: Verdict
    at: str


@dataclass(frozen=True, slots=True)
class AttemptStory:
    """One attempt with its tries, the judging model's tries about it, its verdicts, and its outcome in the
    selection."""

    attempt: Attempt
    reused: bool
    tries: tuple[StoredTry, ...]
    judging: tuple[StoredTry, ...]
    """The tries of the judging model's attempts about this attempt."""
    rewriting: tuple[StoredTry, ...]
    """The tries of the rewriting model's attempts about this attempt."""
    verdicts: tuple[DatedVerdict, ...]
    reply: Reply | None
    rewritten: Reply | None
    """The rewriting by a model that the newest verdict on it keeps; None: there is none."""
    selection: SelectionOutcome | None
    scores: tuple[StudentScore, ...]
    """What students' probabilities say of the answer, one score for each student."""


@dataclass(frozen=True, slots=True)
class QuestionStory:
    """Holds one question of a run with everything that became of it."""

    run: StoredRun
    question: Question
    status: str
    attempts: tuple[AttemptStory, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """The attempts of teachers and student in one run, in columns: the n-th value of each is of the n-th attempt."""

    id: Sequence[int]
    question_id: Sequence[int]
    """The questions' rows."""
    teacher: Sequence[int]
    sample: Sequence[int]
    state: Sequence[str]
    accepted: Sequence[int | None]
    reason: Sequence[str | None]
    output_tokens: Sequence[int | None]
    cost_pusd: Sequence[int | None]
    """What the run paid for the attempt; None: nobody knows."""
    said: Mapping[int, tuple[str | None, bool]]
    """Maps the id of an attempt to (what a person said of it last: `right`, `wrong` or `unsure`, or None; whether some
    check, model or person last called the answer right and another one did not). Other attempts are not marked, and
    nobody disagrees about them."""


SELECTED = (
    "CASE WHEN CAST(:selection AS BIGINT) IS NULL THEN attempt.accepted = 1 ELSE outcome.attempt_id IS NOT NULL"
    " AND outcome.reason IS NULL AND (:any OR attempt.accepted = 1) END"
)
"""Whether the newest selection selected an attempt; before the first selection, whether it is accepted."""
NO_SAY = frozenset({*FILTER_REASONS, "rewriting"})
"""Checks whose verdicts do not say whether an answer is right."""
LISTED = (
    "SELECT attempt.id, question_id, teacher, sample, attempt.state, accepted, reason,"  # noqa: S608 - ours
    f" {of_both_halves('output_tokens')}, CASE WHEN answer_try IS NULL"
    " THEN (SELECT sum(cost) FROM try AS failed WHERE failed.attempt_id = attempt.id)"
    f" ELSE {PAID} END FROM attempt LEFT JOIN try ON try.id = attempt.answer_try"
    f" WHERE attempt.run_id = ? AND attempt.about IS NULL AND attempt.state != 'open' AND {IS_WHOLE}"
    " ORDER BY attempt.question_id, attempt.teacher, attempt.sample, attempt.max_tokens"
)


class Stories(Selections, StudentScores, Runs):
    """The SQL statements that read whole attempts."""

    def listed(self, run_id: int) -> Listed:
        """Returns the attempts of a run that have an answer or have failed, in the order of question, teacher, sample
        and limit of tokens. The first half of a continued answer is left out."""
        rows = self.db.tuples(LISTED, (run_id,))
        names = [name for name in Listed.__dataclass_fields__ if name != "said"]
        columns: Sequence[Any] = list(zip(*rows, strict=True)) or [()] * len(names)
        return Listed(said=self._said(run_id), **dict(zip(names, columns, strict=True)))

    def first_attempt(self, run_id: int) -> int | None:
        """Returns the id of an attempt at the run's first question that has one, by the first teacher; None if the run
        has no attempt with an answer or a failure."""
        row = self._row(
            f"SELECT id FROM attempt WHERE run_id = ? AND about IS NULL AND state != 'open' AND {IS_WHOLE}"  # noqa: S608 - ours
            " ORDER BY question_id, teacher, sample, max_tokens LIMIT 1",
            run_id,
        )
        return None if row is None else int(row["id"])

    def _said(self, run_id: int) -> dict[int, tuple[str | None, bool]]:
        """Returns `said` of Listed: only where more than the check has spoken."""
        newest: dict[int, dict[str, str]] = {}
        for attempt_id, check, outcome in self._each(
            "SELECT attempt_id, check_name, outcome FROM verdict WHERE attempt_id IN (SELECT attempt_id FROM verdict"
            "  WHERE check_name IN (SELECT value FROM json_each(?)) AND attempt_id IN"
            "   (SELECT id FROM attempt WHERE run_id = ?)) ORDER BY id",
            json.dumps([HUMAN, "judge"]), run_id,
        ):  # fmt: skip
            newest.setdefault(attempt_id, {})[check] = outcome
        return {i: (said.get(HUMAN), _disagree(said)) for i, said in newest.items()}

    def question_labels(self, run_id: int) -> Iterator[tuple[int, str, str | None]]:
        """Gives (row, name, domain) of each question of a run."""
        for r in self._each(
            "SELECT id, name, json_extract(body, '$.domain') FROM question WHERE run_id = ? ORDER BY id", run_id
        ):
            yield tuple(r)

    def one_story(self, attempt_id: int) -> tuple[QuestionStory, AttemptStory] | None:
        """Returns one attempt with its question, as a story with this attempt alone; None if there is none."""
        a = self._row("SELECT * FROM attempt WHERE id = ? AND about IS NULL", attempt_id)
        if a is None:
            return None
        q = self.db.execute("SELECT body, status FROM question WHERE id = ?", (a["question_id"],)).fetchone()
        found = self._attempt_story(a["run_id"], a)
        question = Question.model_validate_json(q["body"])
        return QuestionStory(self.run(a["run_id"]), question, q["status"], (found,)), found

    def key_of(self, attempt_id: int) -> str | None:
        """Returns an attempt's key; None if there is no such attempt."""
        row = self._row("SELECT key FROM attempt WHERE id = ?", attempt_id)
        return None if row is None else str(row["key"])

    def attempts_with(self, run_id: int, words: str, after: int, until: Callable[[], bool]) -> tuple[list[int], int]:
        """Searches attempts in the order of their ids, from the one after `after` on, for `words` in the chain, the
        answer, the question or its name. Upper and lower case are the same in letters of ASCII.

        Returns (ids of attempts that have the words, the id that the search came to; 0 if it came to the end). It stops
        when `until` returns True.
        """
        words = words.lower()
        needle = json.dumps(words, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass").lower()
        found: list[int] = []
        asked: dict[int, bool] = {}
        for r in self._each(
            "SELECT attempt.id, attempt.question_id, question.name, question.body, reply.body, half.body FROM attempt"
            " JOIN question ON question.id = attempt.question_id LEFT JOIN reply ON reply.try_id = attempt.answer_try"
            " LEFT JOIN attempt AS first ON first.id = attempt.continues"
            " LEFT JOIN reply AS half ON half.try_id = first.answer_try"
            # The plus keeps SQLite from the index of the run, by which it would sort all replies before the first one.
            " WHERE +attempt.run_id = ? AND attempt.id > ? AND attempt.about IS NULL ORDER BY attempt.id",
            run_id, after,
        ):  # fmt: skip
            if r[1] not in asked:
                asked = {r[1]: words in r[2].lower() or _has(words, needle, r[3].encode(), ("question",))}
            replies = (self._unpacker.decompress(body) for body in (r[4], r[5]) if body is not None)
            if asked[r[1]] or any(_has(words, needle, body, ("reasoning", "answer")) for body in replies):
                found.append(r[0])
            if until():
                return found, r[0]
        return found, 0

    def answered_attempts(self, run_id: int, which: str) -> Iterator[AnsweredAttempt]:
        """Gives the teachers' attempts with a whole reply. `which` is "all", "accepted" or "selected".

        "selected" gives the attempts of the newest selection, or the accepted ones before the first selection. It
        leaves out attempts that were rejected after the selection, unless the selection chose from rejected answers
        too.
        """
        return self._answered(
            run_id, f"CASE :which WHEN 'all' THEN TRUE WHEN 'accepted' THEN attempt.accepted = 1 ELSE {SELECTED} END",
            {"which": which},
        )  # fmt: skip

    def answered_attempts_of(self, run_id: int, attempt_ids: Sequence[int]) -> Iterator[AnsweredAttempt]:
        """Gives those of a run's answered attempts that have one of these ids."""
        ids = json.dumps(list(attempt_ids))
        return self._answered(run_id, "attempt.id IN (SELECT CAST(value AS BIGINT) FROM json_each(:ids))", {"ids": ids})

    def _answered(self, run_id: int, which: str, values: dict[str, Any]) -> Iterator[AnsweredAttempt]:
        body, question = "", None
        newest = self.newest_selection(run_id)
        scoring = self.scoring_of(run_id, None if newest is None else newest.settings.get("student"))
        for r in self._each(
            "SELECT attempt.*, question.body AS question_body, outcome.reason AS unselected,"  # noqa: S608 - ours
            f" coalesce(outcome.rewritten, 0) AS rewritten, {SELECTED} AS selected, sent_at, replica,"
            f" {SCORE_COLUMNS}, {REPLY_COLUMNS}, {PAID} AS paid"
            " FROM attempt JOIN question ON question.id = attempt.question_id"
            " JOIN try ON try.id = attempt.answer_try JOIN reply ON reply.try_id = try.id"
            " LEFT JOIN selection_outcome AS outcome ON outcome.selection_id = CAST(:selection AS BIGINT)"
            "  AND outcome.attempt_id = attempt.id"
            " LEFT JOIN student_scoring ON student_scoring.id = :scoring"
            " LEFT JOIN student_score AS score ON score.scoring_id = :scoring AND score.attempt_id = attempt.id"
            f" WHERE attempt.run_id = :run AND attempt.kind = 'teacher' AND {IS_WHOLE}"
            f" AND {which}"
            # This is the order of the index attempt_once: to sort would be to copy every reply.
            " ORDER BY attempt.question_id, attempt.teacher, attempt.sample, attempt.max_tokens",
            {"run": run_id, "scoring": scoring} | values | self._newest_in_words(run_id),
        ):
            if question is None or r["question_body"] != body:
                body, question = r["question_body"], Question.model_validate_json(r["question_body"])
            by = RewrittenBy(r["rewritten"])
            yield AnsweredAttempt(
                **{
                    name: r[name]
                    for name in ("id", "key", "teacher", "sample", "max_tokens", "reason", "sent_at", "replica")
                },
                question=question,
                accepted=None if r["accepted"] is None else bool(r["accepted"]),
                reused=bool(r["reused"]),
                cost_pusd=r["paid"],
                reply=self.read_reply(r),
                verdicts=tuple(v.verdict for v in self._verdicts(r["id"])),
                selected=bool(r["selected"]),
                unselected=r["unselected"],
                rewritten=by,
                rewriting=self._rewriting_kept(r["id"]) if by & RewrittenBy.MODEL else None,
                score=read_score(r),
            )

    def story(self, run_id: int, question_name: str) -> QuestionStory | None:
        """Returns one question with all its attempts, tries and verdicts; None if the run has no such question."""
        q = self._row("SELECT id, body, status FROM question WHERE run_id = ? AND name = ?", run_id, question_name)
        if q is None:
            return None
        attempts = self.db.execute(
            "SELECT * FROM attempt WHERE question_id = ? AND about IS NULL ORDER BY id", (q["id"],)
        ).fetchall()
        return QuestionStory(
            run=self.run(run_id),
            question=Question.model_validate_json(q["body"]),
            status=q["status"],
            attempts=tuple(self._attempt_story(run_id, a) for a in attempts),
        )

    def _attempt_story(self, run_id: int, a: Row) -> AttemptStory:
        columns = "SELECT try.*, max_tokens FROM try JOIN attempt ON attempt.id = attempt_id"
        tries = self.db.execute(f"{columns} WHERE attempt_id = ? ORDER BY try.id", (a["id"],)).fetchall()
        about = {
            kind: list(self._each(f"{columns} WHERE about = ? AND attempt.kind = ? ORDER BY try.id", a["id"], kind))
            for kind in ("judge", "rewriter")
        }
        return AttemptStory(
            attempt=read_attempt(a),
            reused=bool(a["reused"]),
            tries=tuple(self._try(t, a["answer_try"]) for t in tries),
            judging=tuple(self._try(t, t["id"]) for t in about["judge"]),
            rewriting=tuple(self._try(t, t["id"]) for t in about["rewriter"]),
            verdicts=tuple(self._verdicts(a["id"])),
            reply=self.reply(a["answer_try"]) if a["answer_try"] else None,
            rewritten=self._rewriting_kept(a["id"]),
            selection=self.outcome_of(run_id, a["id"]),
            scores=self.scores_of(a["id"]),
        )

    def _rewriting_kept(self, attempt_id: int) -> Reply | None:
        return self.rewritings([attempt_id], kept=True).get(attempt_id)

    def _try(self, row: Row, answer_try: int | None) -> StoredTry:
        """Returns the try in a row. `answer_try` is the id of the try whose reply is the attempt's answer."""
        names = StoredTry.__dataclass_fields__.keys() - {"partial"}
        partial = None if row["id"] == answer_try else self.find_reply(row["id"])
        return StoredTry(**{name: row[name] for name in names}, partial=partial)

    def _verdicts(self, attempt_id: int) -> Iterator[DatedVerdict]:
        for v in self.db.execute(
            "SELECT id, check_name, version, outcome, detail, share, at FROM verdict WHERE attempt_id = ? ORDER BY id",
            (attempt_id,),
        ):
            verdict = Verdict(v["check_name"], v["version"], Outcome(v["outcome"]), v["detail"], v["share"])
            yield DatedVerdict(v["id"], verdict, v["at"])


def _disagree(said: Mapping[str, str]) -> bool:
    """Whether checks contradict each other about whether an answer is right. `said` maps each check, the judging model
    and a person to the newest outcome. Filters, verdicts on a rewriting and those that could not decide have no
    say."""
    undecided = (Outcome.ERROR, Outcome.TIMEOUT, Outcome.UNSURE)
    outcomes = {outcome for check, outcome in said.items() if check not in NO_SAY and outcome not in undecided}
    return Outcome.RIGHT in outcomes and len(outcomes) > 1


def _has(words: str, needle: bytes, packed: bytes, fields: Sequence[str]) -> bool:
    """Whether one of these fields of a packed JSON object has the words, which are in lower case. `needle` is the words
    as JSON holds them: most objects do not have it anywhere, and need not be read."""
    if needle not in packed.lower():
        return False
    values = json.loads(packed)
    return any(words in (values.get(field) or "").lower() for field in fields)
