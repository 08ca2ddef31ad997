"""Reads how a run's money, traces and lengths are distributed, and where its questions and answers are from."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from harvest.core.nouns import Kind
from harvest.store.replies import IS_WHOLE, of_both_halves
from harvest.store.runs import Runs

SECOND, MINUTE = 19, 16
"""How many characters of a time as text name its second, and its minute."""
QUOTE = "quote"
"""The kind of the event that holds what `harvest estimate` quoted."""
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
    cost: int | None
    """What the try cost, in picodollars; None: nobody knows."""
    doubt: int | None
    """The most that a try in doubt may have cost, in picodollars; None: it is not in doubt."""
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
class Picks:
    """The ids of attempts to look at, by what they are an example of."""

    right: list[int]
    wrong: list[int]
    dearest: list[int]
    at_random: list[int]


class Distributions(Runs):
    """The SQL statements on distributions."""

    def moments(self, run_id: int) -> list[Moment]:
        """Returns when the run's money was spent and its accepted answers came, in the order of time."""
        first, last = self._row("SELECT min(ended_at), max(ended_at) FROM try WHERE run_id = ?", run_id) or (None, None)
        if first is None:
            return []
        hours = 24 * self._one("SELECT julianday(?) - julianday(?)", last, first)
        return self._as(
            Moment,
            "SELECT substr(ended_at, 1, :characters) AS at, coalesce(sum(cost), 0) AS cost,"
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
        """Returns the questions that ended, in the order in which they were given."""
        return self._as(
            EndedQuestion,
            "SELECT coalesce(sum(cost), 0) AS cost, question.status = 'solved' AS solved FROM question"
            " LEFT JOIN attempt ON attempt.question_id = question.id LEFT JOIN try ON try.attempt_id = attempt.id"
            " WHERE question.run_id = :run AND question.status != 'open' GROUP BY question.id ORDER BY question.id",
            {"run": run_id},
        )

    def asked_tries(self, run_id: int, among: Sequence[int]) -> list[AskedTry]:
        """Returns every try that the questions in these rows took, if they have ended. An answer that another run had
        bought is none."""
        return [
            AskedTry(**{**dict(r), **{name: bool(r[name]) for name in ("is_answer", "accepted", "cut")}})
            for r in self._each(
                "SELECT question_id, attempt.kind, teacher, sample, cost, doubt, input_tokens, cached_input_tokens,"
                " output_tokens, answer_try IS try.id AS is_answer, accepted IS 1 AS accepted,"
                " reason IS 'truncated' AS cut,"
                " coalesce(86400 * (julianday(ended_at) - julianday(sent_at)), 0) AS seconds"
                " FROM question JOIN attempt ON question_id = question.id JOIN try ON attempt_id = attempt.id"
                " WHERE question.run_id = ? AND question.status != 'open'"
                " AND question.id IN (SELECT value FROM json_each(?)) ORDER BY try.id",
                run_id, json.dumps(among),
            )
        ]  # fmt: skip

    def ended_among(self, run_id: int, among: Sequence[int]) -> list[int]:
        """Returns which of the questions in these rows have ended."""
        statement = (
            "SELECT id FROM question WHERE run_id = ? AND status != 'open' AND id IN (SELECT value FROM json_each(?))"
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
