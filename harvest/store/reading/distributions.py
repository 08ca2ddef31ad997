"""Reads how a run's money, traces and lengths are distributed, and where its questions and answers are from."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from harvest.core.nouns import FILTER_REASONS, PUBLIC, Attempt, Kind
from harvest.store.attempts import read_attempt
from harvest.store.databases.database import Row
from harvest.store.replies import IS_WHOLE, of_both_halves
from harvest.store.runs import Runs

SECOND, MINUTE = 19, 16
"""How many characters of a time as text name its second, and its minute."""
UNPRICED = "state = 'answered' AND cost IS NULL AND doubt IS NULL AND coalesce(cost_source, '') != 'public'"
"""The condition that a whole reply came and nobody knows what its try cost."""
QUOTE = "quote"
"""The kind of the event that holds what `harvest estimate` quoted."""
ACCURACY_QUOTE = "accuracy_quote"
"""The kind of the event that holds which accuracy `finetune curve --buy` quoted for a student trained on the run."""
ROUND = "round"
"""The kind of the event that holds what one round of a job bought and brought."""
LONGEST_BY_SECOND = 3
"""A run that took fewer hours is read second by second, a longer one minute by minute."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What ended in one second or one minute of a run."""

    at: str
    """The beginning of the second or the minute, in UTC."""
    cost: int
    """What these tries cost, in picodollars."""
    accepted: int
    """How many answers came then that are accepted."""


@dataclass(frozen=True, slots=True)
class Length:
    """How many answers have this many tokens, and became the same."""

    tokens: int
    accepted: bool
    answers: int


@dataclass(frozen=True, slots=True)
class EndedQuestion:
    """What one question cost, in picodollars, and whether it was solved by a teacher."""

    cost: int
    solved: bool


@dataclass(frozen=True, slots=True)
class AskedTry:
    """One try of a question that has ended, for a quote."""

    question_id: int
    kind: Kind
    teacher: int
    """The index of the teacher that was asked, or STUDENT."""
    sample: int
    cost: int
    """What the try cost, in picodollars. If it is in doubt, the most that it may have cost."""
    in_doubt: bool
    unpriced: bool
    """Whether a whole reply came and nobody knows what it cost. `cost` is 0 then."""
    reused: bool
    """Whether the store had the answer already. The try is the one that bought it, and this run paid nothing."""
    input_tokens: int | None
    cached_input_tokens: int | None
    output_tokens: int | None
    is_answer: bool
    """Whether the try brought the answer of its attempt."""
    accepted: bool
    cut: bool
    """Whether the answer was cut at its token limit."""
    seconds: float


@dataclass(frozen=True, slots=True)
class BoughtAttempt:
    """One attempt at a question that has ended, by the student or a teacher, with all that it cost."""

    question_id: int
    attempt: Attempt
    cost: int
    """What its tries, and the judging and rewriting of its answer, cost, in picodollars. A try in doubt counts at its
    worst case, and an answer that the store had already counts as if bought."""
    unpriced: bool
    """Whether nobody knows what its answer cost."""
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    refused_by: frozenset[str] = frozenset()
    """The filters that are known to refuse its answer: those that `checks.require` names, and those of the newest
    selection."""
    about_cost: int = 0
    """What of `cost` went to the models that judge and rewrite its answer, in picodollars."""


@dataclass(frozen=True, slots=True)
class Picks:
    """The ids of attempts to look at, by what they are an example of."""

    right: list[int]
    wrong: list[int]
    dearest: list[int]
    at_random: list[int]


FLAGS = frozenset({"in_doubt", "unpriced", "reused", "is_answer", "accepted", "cut"})
ASKED = AskedTry.__dataclass_fields__.keys() - {"seconds"}
"""The fields of AskedTry that are columns; FLAGS are those that are true or false."""


def _asked(row: Row) -> dict[str, Any]:
    return {name: bool(row[name]) if name in FLAGS else row[name] for name in ASKED}


def _seconds_between(first: str, last: str | None) -> float:
    """Returns the seconds from one stored time to another; 0 if one of them is unknown."""
    if not first or not last:
        return 0.0
    return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()


class Distributions(Runs):
    """The SQL statements on distributions."""

    def moments(self, run_id: int) -> list[Moment]:
        """Returns when the run's money was spent and its accepted answers came, in the order of time."""
        first, last = self._row("SELECT min(ended_at), max(ended_at) FROM try WHERE run_id = ?", run_id) or (None, None)
        if first is None:
            return []
        hours = _seconds_between(first, last) / 3600
        return self._as(
            Moment,
            "SELECT substr(ended_at, 1, CAST(:characters AS INTEGER)) AS at, coalesce(sum(cost), 0) AS cost,"
            " count(*) FILTER (WHERE attempt.answer_try = try.id AND attempt.accepted = 1 AND attempt.kind = 'teacher')"
            " AS accepted FROM try JOIN attempt ON attempt.id = attempt_id"
            " WHERE try.run_id = :run AND ended_at IS NOT NULL GROUP BY 1 ORDER BY 1",
            {"run": run_id, "characters": SECOND if hours < LONGEST_BY_SECOND else MINUTE},
        )

    def lengths(self, run_id: int) -> list[Length]:
        """Returns how many tokens the chains of judged answers have, or the whole answers where no chain is counted.

        Answers without such a count are left out.
        """
        return self._lengths(run_id, "reasoning_tokens") or self._lengths(run_id, "output_tokens")

    def _lengths(self, run_id: int, column: str) -> list[Length]:
        tokens = of_both_halves(column)
        return self._as(
            Length,
            f"SELECT {tokens} AS tokens, attempt.accepted = 1 AS accepted, count(*) AS answers"  # noqa: S608 - ours
            " FROM attempt JOIN try ON try.id = answer_try"
            f" WHERE attempt.run_id = :run AND attempt.kind = 'teacher' AND accepted IS NOT NULL AND {IS_WHOLE}"
            f" AND {tokens} > 0 GROUP BY 1, 2 ORDER BY 1, 2",
            {"run": run_id},
        )

    def ended_questions(self, run_id: int) -> list[EndedQuestion]:
        """Returns the questions that ended, in the order in which they were given, without those that a public answer
        solved: they say nothing of what the others will cost."""
        return self._as(
            EndedQuestion,
            "SELECT coalesce(sum(cost), 0) AS cost, question.status = 'solved' AS solved FROM question"
            " LEFT JOIN attempt ON attempt.question_id = question.id LEFT JOIN try ON try.attempt_id = attempt.id"
            " WHERE question.run_id = :run AND question.status != 'open' AND NOT EXISTS (SELECT 1 FROM attempt AS other"
            "  WHERE other.question_id = question.id AND other.teacher = :public AND other.accepted = 1)"
            " GROUP BY question.id ORDER BY question.id",
            {"run": run_id, "public": PUBLIC},
        )

    def asked_tries(self, run_id: int, among: Sequence[int]) -> list[AskedTry]:
        """Returns every try that the questions in these rows took, if they have ended. For an answer that the store had
        already, it is the try that once bought the answer."""
        return [
            AskedTry(**_asked(r), seconds=_seconds_between(r["sent_at"], r["ended_at"]))
            for r in self._each(
                "SELECT question_id, attempt.kind, teacher, sample, coalesce(cost, doubt, 0) AS cost,"  # noqa: S608 - ours
                f" doubt IS NOT NULL AS in_doubt, try.{UNPRICED} AS unpriced, try.run_id != attempt.run_id AS reused,"
                " input_tokens, cached_input_tokens, output_tokens, coalesce(answer_try, 0) = try.id AS is_answer,"
                " coalesce(accepted, 0) = 1 AS accepted, coalesce(reason, '') = 'truncated' AS cut, sent_at, ended_at"
                " FROM question JOIN attempt ON question_id = question.id"
                " JOIN try ON attempt_id = attempt.id OR try.id = answer_try"
                " WHERE question.run_id = ? AND question.status != 'open'"
                " AND question.id IN (SELECT CAST(value AS BIGINT) FROM json_each(?)) ORDER BY try.id",
                run_id, json.dumps(among),
            )
        ]  # fmt: skip

    def bought_attempts(self, run_id: int, among: Sequence[int] | None = None) -> list[BoughtAttempt]:
        """Returns every attempt of the student and the teachers at questions that have ended, in the order of questions
        and attempts. With `among`, only at the questions in these rows."""
        refused: dict[int, dict[str, bool]] = {}
        filters, reasons = json.dumps([*FILTER_REASONS]), json.dumps([*FILTER_REASONS.values()])
        for attempt_id, check, passed in self._each(
            "SELECT attempt_id, check_name, outcome = 'right' FROM verdict WHERE check_name IN"
            " (SELECT value FROM json_each(:filters)) AND attempt_id IN (SELECT id FROM attempt WHERE run_id = :run AND"
            "  reason IN (SELECT value FROM json_each(:reasons))) UNION ALL"
            " SELECT attempt_id, reason, 1 = 0 FROM selection_outcome WHERE reason IN"
            " (SELECT value FROM json_each(:filters))"
            " AND selection_id = (SELECT max(id) FROM selection WHERE run_id = :run)",
            {"run": run_id, "filters": filters, "reasons": reasons},
        ):  # fmt: skip
            refused.setdefault(attempt_id, {})[check] = bool(passed)
        booked = "SELECT coalesce(sum(coalesce(cost, doubt)), 0) FROM try"
        return [
            BoughtAttempt(
                r["question_id"], read_attempt(r), r["paid"] + r["about_cost"], bool(r["unpriced"]),
                r["input_tokens"] or 0, r["cached_input_tokens"] or 0, r["output_tokens"] or 0,
                frozenset(name for name, passed in refused.get(r["id"], {}).items() if not passed),
                r["about_cost"],
            )
            for r in self._each(
                "SELECT attempt.*, answer.input_tokens, answer.cached_input_tokens, answer.output_tokens,"  # noqa: S608 - ours
                f" answer.{UNPRICED} AS unpriced, ({booked} WHERE attempt_id = attempt.id OR try.id = answer_try)"
                f" AS paid, ({booked} WHERE attempt_id IN (SELECT id FROM attempt AS other WHERE about = attempt.id))"
                " AS about_cost"
                " FROM question JOIN attempt ON question_id = question.id"
                " LEFT JOIN try AS answer ON answer.id = answer_try WHERE question.run_id = :run"
                " AND question.status != 'open' AND attempt.about IS NULL AND attempt.teacher != :public AND"
                " (:all OR question.id IN (SELECT CAST(value AS BIGINT) FROM json_each(:among)))"
                " ORDER BY question_id, attempt.id",
                {"run": run_id, "public": PUBLIC, "all": among is None, "among": json.dumps(among or [])},
            )
        ]  # fmt: skip

    def ended_among(self, run_id: int, among: Sequence[int]) -> list[int]:
        """Returns which of the questions in these rows have ended."""
        statement = (
            "SELECT id FROM question WHERE run_id = ? AND status != 'open'"
            " AND id IN (SELECT CAST(value AS BIGINT) FROM json_each(?)) ORDER BY id"
        )
        return [r["id"] for r in self._all(statement, run_id, json.dumps(among))]

    def origins(self, run_id: int, of: str) -> dict[str, int]:
        """Counts the run's questions by their `source` or their `licence`. "" stands for those that say none."""
        return self._pairs(
            "SELECT coalesce(json_extract(body, '$.' || :of), ''), count(*) FROM question WHERE run_id = :run"
            " GROUP BY 1 ORDER BY 2 DESC, 1",
            {"run": run_id, "of": of},
        )

    def picks(self, run_id: int, each: int, seed: str) -> Picks:
        """Returns attempts to look at: at most `each` of a kind, drawn by `seed`, and the dearest first."""
        answered = f"FROM attempt WHERE run_id = :run AND kind = 'teacher' AND answer_try IS NOT NULL AND {IS_WHOLE}"
        draw, of = random.Random(seed), {"run": run_id}

        def drawn(where: str) -> list[int]:
            ids = [r["id"] for r in self._all(f"SELECT id {answered} {where} ORDER BY id", of)]
            return sorted(draw.sample(ids, min(each, len(ids))))

        dearest = self._all(
            "SELECT attempt.id FROM attempt JOIN try ON try.id = answer_try WHERE attempt.run_id = :run"  # noqa: S608 - ours
            f" AND attempt.kind = 'teacher' AND cost > 0 AND {IS_WHOLE} ORDER BY cost DESC, attempt.id LIMIT :each",
            of | {"each": each},
        )
        return Picks(
            right=drawn("AND accepted = 1"),
            wrong=drawn("AND accepted = 0"),
            dearest=[r["id"] for r in dearest],
            at_random=drawn(""),
        )
