"""Reads the sums and counts of one run that its report needs. Money is in whole picodollars."""

from dataclasses import dataclass, field, replace
from typing import Any

from harvest.core.nouns import ClaimKind, Kind
from harvest.store.evaluations import Evaluations
from harvest.store.public_answers import PublicAnswers, PublicFigures
from harvest.store.reading.distributions import (
    ACCURACY_QUOTE,
    QUOTE,
    ROUND,
    UNPRICED,
    BoughtAttempt,
    Distributions,
    EndedQuestion,
    Length,
    Moment,
)
from harvest.store.replies import IS_WHOLE, of_both_halves
from harvest.store.runs import StoredRun
from harvest.store.selections import SelectionFigures, Selections

THEIRS: dict[Kind, str] = {
    "teacher": "NOT IN (SELECT id FROM attempt WHERE kind != 'teacher')",
    "judge": "IN (SELECT id FROM attempt WHERE kind != 'teacher' AND kind = 'judge')",
    "rewriter": "IN (SELECT id FROM attempt WHERE kind != 'teacher' AND kind = 'rewriter')",
    "student": "IN (SELECT id FROM attempt WHERE kind != 'teacher' AND kind = 'student')",
}
"""Maps each kind to the condition that selects its attempts, written so that SQLite uses the index attempt_kind."""


ACCEPTED = (
    "FROM attempt JOIN try ON try.id = answer_try"
    " WHERE attempt.run_id = :run AND accepted = 1 AND attempt.kind = 'teacher'"
)


@dataclass(frozen=True, slots=True)
class Money:
    """Holds a run's money: its cap (None: it has no cap), and what is spent, reserved and in doubt."""

    cap: int | None
    spent: int
    reserved: int
    in_doubt: int
    beside: int = 0
    """What doctor and evaluations have spent, reserved or in doubt under the same cap."""


@dataclass(frozen=True, slots=True)
class Session:
    """Describes one start of `collect` or `import`."""

    started_at: str
    ended_at: str | None
    """When the session ended. None: it still goes on, or it was killed."""
    status: str | None
    peak_in_flight: int | None
    limited_by: str | None
    stopped_by: str | None
    """What the teacher did to end the session (`TeacherRefused.stopped_by`); None: nothing."""


@dataclass(frozen=True, slots=True)
class Served:
    """A model and provider that answers named, and in how many answers. `teacher` is the index of the teacher that was
    asked."""

    teacher: int
    served_model: str | None
    served_by: str | None
    system_fingerprint: str | None
    answers: int


@dataclass(frozen=True, slots=True)
class ClaimFigures:
    """Counts the claims of one kind that one endpoint made and that are not booked as it made them."""

    asked: Kind
    teacher: int
    """Who was asked: the index of a teacher, or STUDENT. It has no meaning for the judging model."""
    kind: ClaimKind
    words: str
    """One of these claims."""
    replies: int


@dataclass(frozen=True, slots=True)
class Tries:
    """Counts the tries of one kind of attempt."""

    sent: int
    answered: int
    in_doubt: int
    reused: int
    """How many attempts sent nothing, because the store had their reply already."""
    failed: dict[str, int]
    """How many tries failed, by the class of the failure."""
    tokens: dict[str, int]
    cost_sources: dict[str, int]
    """How many answers have a cost from each source."""


@dataclass(frozen=True, slots=True)
class TeacherFigures:
    """What one teacher was asked, what it cost and what came of it."""

    teacher: int
    """The teacher's index among the run's teachers."""
    sent: int = 0
    answered: int = 0
    accepted: int = 0
    questions: int = 0
    spent: int = 0
    in_doubt: int = 0
    unpriced: int = 0
    """How many answers have a cost that nobody knows."""


@dataclass(frozen=True, slots=True)
class ReplicaFigures:
    """What one replica of a teacher was asked."""

    teacher: int
    """The teacher's index among the run's teachers."""
    replica: str | None
    """The replica's address; None: the teacher's base_url."""
    sent: int = 0
    answered: int = 0
    in_doubt: int = 0
    output_tokens: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    """How many tries failed, by the class of the failure."""


@dataclass(frozen=True, slots=True)
class AboutFigures:
    """What the judging or the rewriting model was asked about answers, and what came of it."""

    tries: Tries
    verdicts: dict[str, int]
    """How many verdicts there are, by their outcome. A rewriting that is kept is `right`, a refused one `wrong`."""
    accepted: int
    """How many attempts are accepted only because of this model."""
    refused: dict[str, int]
    """How many of the verdicts are not `right`, by their detail."""


@dataclass(frozen=True, slots=True)
class StudentFigures:
    """What the student was asked, and how much is left to the teachers."""

    tries: Tries
    questions: int
    left_to_teachers: int
    """How many questions were asked of both the student and a teacher."""
    spent: int
    unpriced: int


@dataclass(frozen=True, slots=True)
class RunFigures:
    """All figures of a run."""

    run: StoredRun
    money: Money
    overbilled: int
    """How much more the endpoints charged than was reserved for their tries."""
    settled: dict[str, int]
    """What tries cost that are no longer in doubt, by who told the cost: `provider` or `user`."""
    sessions: list[Session]
    questions: dict[str, int]
    """How many questions there are, by their status."""
    asked: int
    """How many questions were asked of a teacher."""
    tries: Tries
    """The tries of the teachers."""
    judging: AboutFigures
    rewriting: AboutFigures
    student: StudentFigures
    teachers: list[TeacherFigures]
    replicas: list[ReplicaFigures]
    """Empty if no other address than the teachers' base_urls was asked."""
    served: list[Served]
    claims: list[ClaimFigures]
    unpriced: int
    """How many answers have a cost that nobody knows."""
    spent_on: dict[str, int]
    selection: SelectionFigures
    answers: int
    continued: int
    """How many answers were cut at their limit and continued. Such an answer counts once."""
    accepted: int
    rejected: dict[str, int]
    """How many answers were rejected, by the reason."""
    mean_reasoning_tokens: float | None
    """A mean over the accepted answers, as `mean_output_tokens` is."""
    mean_output_tokens: float | None
    ended: list[EndedQuestion]
    """The questions that ended, in the order in which they were given."""
    bought: list[BoughtAttempt]
    """The attempts at questions that ended, in the order of questions."""
    moments: list[Moment]
    lengths: list[Length]
    """How long judged answers are: in tokens of their chains, or of the whole answers where no chain is counted."""
    quote: dict[str, Any] | None
    """What `harvest estimate` quoted last; None if it was not called."""
    accuracy_quotes: list[dict[str, Any]]
    """The newest accuracy that `finetune curve --buy` quoted, for each student and each set of held-out questions."""
    rounds: list[dict[str, Any]]
    """What each round of a job bought and brought, in order."""
    public: list[PublicFigures]
    """What came of answers from public sets."""
    sources: dict[str, int]
    """How many questions have which source; "" stands for those without one."""
    licences: dict[str, int]
    training: list[dict[str, Any]]
    curves: list[list[dict[str, Any]]]
    evaluation: list[dict[str, Any]]


class Figures(Selections, Evaluations, Distributions, PublicAnswers):
    """The SQL statements of the report."""

    def figures(self, run_id: int) -> RunFigures:
        """Returns everything that a report needs."""
        of = {"run": run_id}
        theirs = "FROM attempt WHERE run_id = :run AND kind = 'teacher'"
        return RunFigures(
            run=self.run(run_id),
            money=self.money(run_id),
            overbilled=self._one(
                "SELECT coalesce(sum(cost - reserved), 0) FROM try WHERE run_id = :run AND cost > reserved"
                " AND coalesce(settled_by, '') != 'user'",
                of,
            ),
            settled=self._pairs("SELECT settled_by, sum(cost) FROM try WHERE run_id = :run GROUP BY 1 ORDER BY 1", of),
            sessions=self._as(
                Session,
                "SELECT started_at, ended_at, status, peak_in_flight, limited_by, stopped_by FROM session"
                " WHERE run_id = :run ORDER BY id",
                of,
            ),
            questions=self._pairs(
                "SELECT status, count(*) FROM question WHERE run_id = :run GROUP BY 1 ORDER BY 1", of
            ),
            asked=self._one(f"SELECT count(DISTINCT question_id) {theirs} AND teacher >= 0", of),
            tries=self._tries(run_id, "teacher"),
            judging=self._about(run_id, "judge", "judge"),
            rewriting=self._about(run_id, "rewriter", "rewriting"),
            student=self._student(run_id),
            teachers=self._teachers(run_id),
            replicas=self._replicas(run_id),
            served=self._as(
                Served,
                "SELECT teacher, served_model, served_by, system_fingerprint, count(*) AS answers FROM try"
                " JOIN attempt ON attempt.id = attempt_id WHERE try.run_id = :run AND attempt.kind = 'teacher'"
                " AND try.state = 'answered' GROUP BY 1, 2, 3, 4"
                " ORDER BY 1, 2 NULLS FIRST, 3 NULLS FIRST, 4 NULLS FIRST",
                of,
            ),
            claims=self._as(
                ClaimFigures,
                "SELECT attempt.kind AS asked, teacher, endpoint_claim.kind AS kind, min(words) AS words,"
                " count(*) AS replies FROM endpoint_claim JOIN try ON try.id = try_id"
                " JOIN attempt ON attempt.id = attempt_id WHERE try.run_id = :run GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
                of,
            ),
            unpriced=self._one(f"SELECT count(*) FROM try WHERE run_id = :run AND {UNPRICED}", of),  # noqa: S608 - ours
            spent_on=self._pairs(
                "SELECT CASE attempt.kind WHEN 'judge' THEN 'judging' WHEN 'rewriter' THEN 'rewriting'"
                " WHEN 'student' THEN 'student' ELSE CASE"
                " WHEN coalesce(attempt.answer_try, 0) != try.id THEN 'failed'"
                " WHEN whole.accepted = 1 THEN 'accepted' WHEN whole.reason = 'truncated' THEN 'truncated'"
                " ELSE 'rejected' END END, sum(cost) FROM try JOIN attempt ON attempt.id = attempt_id"
                # A cut answer that was continued is what became of the whole.
                " JOIN attempt AS whole ON whole.id = coalesce((SELECT id FROM attempt AS next"
                "  WHERE next.continues = attempt.id AND next.answer_try IS NOT NULL), attempt.id)"
                " WHERE try.run_id = :run AND cost IS NOT NULL GROUP BY 1 ORDER BY 1",
                of,
            ),
            selection=self.unselected(run_id),
            answers=self._one(f"SELECT count(*) {theirs} AND answer_try IS NOT NULL AND {IS_WHOLE}", of),
            continued=self._one(f"SELECT count(*) {theirs} AND answer_try IS NOT NULL AND continues IS NOT NULL", of),
            accepted=self._one(f"SELECT count(*) {theirs} AND accepted = 1", of),
            rejected=self.rejections(run_id),
            mean_reasoning_tokens=self._mean(of_both_halves("reasoning_tokens"), run_id),
            mean_output_tokens=self._mean(of_both_halves("output_tokens"), run_id),
            ended=self.ended_questions(run_id),
            bought=self.bought_attempts(run_id),
            moments=self.moments(run_id),
            lengths=self.lengths(run_id),
            quote=next(reversed(self.events(run_id, QUOTE)), None),
            accuracy_quotes=self.accuracy_quotes(run_id),
            rounds=self.events(run_id, ROUND),
            public=self.public_figures(run_id),
            sources=self.origins(run_id, "source"),
            licences=self.origins(run_id, "licence"),
            training=self.trainings(run_id),
            curves=self.curves(run_id),
            evaluation=self.evaluations(run_id),
        )

    def _mean(self, tokens: str, run_id: int) -> float | None:
        """Returns the mean of a count of tokens over the accepted answers; None if none has it."""
        row = self._row(f"SELECT sum({tokens}) AS tokens, count({tokens}) AS answers {ACCEPTED}", {"run": run_id})
        return row["tokens"] / row["answers"] if row and row["answers"] else None

    def accuracy_quotes(self, run_id: int) -> list[dict[str, Any]]:
        """Returns the newest quoted accuracy for each student and each set of held-out questions."""
        found = {(q["student"], q["questions"]): q for q in self.events(run_id, ACCURACY_QUOTE)}
        return list(found.values())

    def rejections(self, run_id: int) -> dict[str, int]:
        """Returns how many of the teachers' answers were rejected, by the reason. A cut answer that was continued is a
        part of the whole one."""
        return self._pairs(
            "SELECT coalesce(reason, 'unknown'), count(*) FROM attempt WHERE run_id = ? AND kind = 'teacher'"  # noqa: S608 - ours
            f" AND accepted = 0 AND {IS_WHOLE} GROUP BY 1 ORDER BY 1",
            run_id,
        )

    def money(self, run_id: int) -> Money:
        """Returns the run's money. attempts.py and batches.py change its sums when tries are reserved and settled."""
        return self._as(
            Money,
            "SELECT cap, spent, reserved, in_doubt, coalesce((SELECT sum(spent + in_doubt + reserved)"
            " FROM run AS one WHERE one.under = run.name), 0) AS beside FROM run WHERE id = ?",
            run_id,
        )[0]

    def _tries(self, run_id: int, kind: Kind) -> Tries:
        tries = f" FROM try WHERE run_id = :run AND attempt_id {THEIRS[kind]}"
        of = {"run": run_id}
        return Tries(
            **self._all(
                "SELECT count(*) AS sent, count(*) FILTER (WHERE state = 'answered') AS answered,"
                f" count(*) FILTER (WHERE doubt IS NOT NULL) AS in_doubt {tries}",
                of,
            )[0],
            reused=self._one(
                f"SELECT count(*) FROM attempt WHERE run_id = :run AND reused = 1 AND id {THEIRS[kind]}",  # noqa: S608 - ours
                of,
            ),
            failed=self._pairs(f"SELECT kind, count(*) {tries} AND kind IS NOT NULL GROUP BY 1 ORDER BY 1", of),
            tokens=self._all(
                "SELECT coalesce(sum(input_tokens), 0) AS input, coalesce(sum(cached_input_tokens), 0) AS cached_input,"
                " coalesce(sum(output_tokens), 0) AS output, coalesce(sum(reasoning_tokens), 0) AS reasoning,"
                f" count(*) FILTER (WHERE state = 'answered' AND output_tokens IS NULL) AS calls_without_usage {tries}",
                of,
            )[0],
            cost_sources=self._pairs(
                f"SELECT cost_source, count(*) {tries} AND state = 'answered' GROUP BY 1 ORDER BY 1", of
            ),
        )

    def _teachers(self, run_id: int) -> list[TeacherFigures]:
        return self._as(
            TeacherFigures,
            "SELECT teacher, count(try.id) AS sent, count(*) FILTER (WHERE try.state = 'answered') AS answered,"  # noqa: S608 - ours
            " count(DISTINCT attempt.id) FILTER (WHERE accepted = 1) AS accepted,"
            " count(DISTINCT question_id) AS questions, coalesce(sum(cost), 0) AS spent,"
            " coalesce(sum(doubt), 0) AS in_doubt,"
            f" count(*) FILTER (WHERE try.{UNPRICED}) AS unpriced"
            " FROM attempt LEFT JOIN try ON try.attempt_id = attempt.id"
            " WHERE attempt.run_id = :run AND attempt.kind = 'teacher' GROUP BY 1 ORDER BY 1",
            {"run": run_id},
        )

    def _replicas(self, run_id: int) -> list[ReplicaFigures]:
        of = {"run": run_id}
        if not self._one(
            "SELECT count(*) FROM (SELECT 1 FROM try WHERE run_id = :run AND replica IS NOT NULL LIMIT 1) AS one", of
        ):
            return []
        theirs = "FROM try JOIN attempt ON attempt.id = attempt_id WHERE try.run_id = :run AND attempt.kind = 'teacher'"
        failed: dict[tuple[int, str | None], dict[str, int]] = {}
        for teacher, replica, kind, n in self._each(
            f"SELECT teacher, replica, try.kind, count(*) {theirs} AND try.kind IS NOT NULL GROUP BY 1, 2, 3"
            " ORDER BY 3",
            of,
        ):
            failed.setdefault((teacher, replica), {})[kind] = n
        found = self._as(
            ReplicaFigures,
            "SELECT teacher, replica, count(*) AS sent, count(*) FILTER (WHERE try.state = 'answered') AS answered,"
            " count(*) FILTER (WHERE doubt IS NOT NULL) AS in_doubt, coalesce(sum(output_tokens), 0) AS output_tokens"
            f" {theirs} GROUP BY 1, 2 ORDER BY 1, 2 NULLS FIRST",
            of,
        )
        return [replace(one, failed=failed.get((one.teacher, one.replica), {})) for one in found]

    def _student(self, run_id: int) -> StudentFigures:
        of, tries = {"run": run_id}, f"FROM try WHERE run_id = :run AND attempt_id {THEIRS['student']}"
        return StudentFigures(
            tries=self._tries(run_id, "student"),
            questions=self._one(
                "SELECT count(DISTINCT question_id) FROM attempt WHERE run_id = :run AND kind = 'student'", of
            ),
            left_to_teachers=self._one(
                "SELECT count(*) FROM (SELECT question_id FROM attempt WHERE run_id = :run GROUP BY 1"
                " HAVING count(*) FILTER (WHERE kind = 'student') > 0"
                " AND count(*) FILTER (WHERE kind = 'teacher' AND teacher >= 0) > 0)"
                " AS of_both",
                of,
            ),
            spent=self._one(f"SELECT coalesce(sum(cost), 0) {tries}", of),
            unpriced=self._one(f"SELECT count(*) {tries} AND {UNPRICED}", of),
        )

    def _about(self, run_id: int, kind: Kind, check: str) -> AboutFigures:
        """Returns the figures of the attempts of one kind about answers. `check` is the name of their verdicts."""
        of = {"run": run_id}
        judged = f"FROM verdict JOIN attempt ON attempt.id = attempt_id WHERE run_id = :run AND check_name = '{check}'"
        return AboutFigures(
            tries=self._tries(run_id, kind),
            verdicts=self._pairs(f"SELECT outcome, count(*) {judged} GROUP BY 1 ORDER BY 1", of),
            accepted=self._one(
                f"SELECT count(DISTINCT attempt.id) {judged} AND accepted = 1 AND outcome = 'right'"  # noqa: S608 - ours
                " AND (SELECT outcome FROM verdict AS rules WHERE rules.attempt_id = attempt.id"
                "  AND check_name NOT IN ('judge', 'rewriting', 'human') ORDER BY id DESC LIMIT 1) != 'right'"
                " AND coalesce((SELECT outcome FROM verdict AS mark WHERE mark.attempt_id = attempt.id"
                "  AND check_name = 'human' ORDER BY id DESC LIMIT 1), '') != 'right'",
                of,
            ),
            refused=self._pairs(
                f"SELECT detail, count(*) {judged} AND outcome != 'right' GROUP BY 1 ORDER BY 2 DESC, 1", of
            ),
        )
