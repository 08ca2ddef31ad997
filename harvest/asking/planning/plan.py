"""Plans what is asked next about one question, and whom it is asked of. The code is pure: it reads what became of the
earlier attempts.

If there is a student, it is asked first; then come the teachers, in the order in which RUN.toml names them.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from harvest.core.config import RunConfig
from harvest.core.errors import FAILURES
from harvest.core.nouns import PUBLIC, STUDENT, Ask, Attempt, Outcome, Question
from harvest.core.teachers import Sampling
from harvest.questions.rows import judged_together
from harvest.store import StoredRun

TRUNCATED, REPETITION = "truncated", "repetition"
"""The reasons of an answer that was cut short: it reached its limit, or ran into a loop. Such an answer is not
checked."""
WRONG = (Outcome.WRONG.value, Outcome.NO_ANSWER.value)
"""The reasons that count for give_up_after. If its check could not judge an answer, it is not counted as wrong."""
PASSING = frozenset(kind for kind, failure in FAILURES.items() if failure.again)
"""The failures that may pass. The next start asks such an attempt again; until then no later teacher is asked
instead."""
SOLVED, GIVEN_UP, BY_STUDENT = "solved", "given_up", "student_solved"


@dataclass(frozen=True, slots=True)
class Rules:
    """Holds the settings that the plan depends on."""

    teachers: tuple[Sampling, ...]
    """The sampling settings of each teacher, in the teachers' order."""
    mode: Literal["cascade", "all"] = "cascade"
    student: Sampling | None = None
    """The student's sampling settings: it is asked at most `samples` times, until `stop_after_accepted` of its answers
    are right. None if there is no student."""
    keep_solved: Decimal = Decimal(0)
    """Of the questions that the student solved, the share that the teachers are asked too."""


@dataclass(frozen=True, slots=True)
class Step:
    """Says what comes next for a question. One of the three fields is set."""

    asks: tuple[Ask, ...] = ()
    """The attempts to buy now, all at the same time."""
    judge: bool = False
    """Whether all answers have come and must now be judged together."""
    ended: str | None = None
    """How the question ended: `solved`, `given_up` or `student_solved`. None: it has not ended."""


def rules_of(config: RunConfig) -> Rules:
    """Returns the rules that a run's settings make."""
    teachers = tuple(t.sampling for t in config.teachers) or (config.sampling,)
    if config.student is None:
        return Rules(teachers, config.plan.teachers)
    return Rules(teachers, config.plan.teachers, config.student.sampling, config.student.keep_solved)


def plan_of(run: StoredRun) -> Callable[[Question, Sequence[Attempt]], Step]:
    """Returns a function that says what comes next for a question of a stored run, by the question's attempts. A run of
    imported answers never asks, so its questions are solved or given up."""
    if run.imported:
        return lambda question, attempts: Step(ended=_solved_or_given_up(attempts))
    rules = rules_of(run.config)
    return lambda question, attempts: next_step(
        attempts, rules, together=judged_together(question), question_id=question.id
    )


def next_step(
    attempts: Sequence[Attempt], rules: Rules, *, together: bool = False, question_id: str | None = None
) -> Step:
    """Returns what comes next for a question with these attempts.

    Attempts that an earlier start left `open`, without an answer, are asked again first.

    A teacher is asked no more about the question after a truncated answer, since we do not pay for the same limit
    twice. If when_truncated is "raise", the answer is first asked once more with the raised limit. If it is "continue",
    the rest of the answer is asked for, once. A teacher is also asked no more after an answer that ran into a loop,
    where no limit helps, and after a failed attempt. In a cascade the next teacher is asked then. But a failure that
    may pass ends the question for this start.

    If answers are judged `together`, every sample of a teacher is asked, whatever became of the other samples, and all
    answers are judged when the last one has come. The student is not asked, since one answer alone cannot be judged.

    `question_id` decides whether the teachers are asked a question that the student solved.
    """
    bought = [a for a in attempts if a.teacher >= 0]
    public = [a for a in attempts if a.teacher == PUBLIC]
    if rules.student is not None and not together and not bought and not _right(public):
        step = _of_student(attempts, rules.student)
        if step is not None and not (step.ended == BY_STUDENT and _is_kept(question_id, rules.keep_solved)):
            return step
    accepted = _right(bought) + _right(public)
    unjudged = together and any(a.state == "answered" and a.accepted is None for a in bought)
    end = Step(judge=True) if unjudged else Step(ended=_solved_or_given_up([*bought, *public]))
    asks: tuple[Ask, ...] = ()
    for place, sampling in enumerate(rules.teachers):
        mine = _of(place, bought, sampling)
        asks += _asks(mine, place, sampling, _right(mine) if rules.mode == "all" else accepted, together)
        stops = asks or end.judge or (together and accepted) or (not together and _may_pass(mine))
        if rules.mode == "cascade" and stops:
            break
    return Step(asks=asks) if asks else end


def is_by_public(attempts: Iterable[Attempt]) -> bool:
    """Whether a question with these attempts was solved by a public answer, and no teacher was asked."""
    found = list(attempts)
    return any(a.teacher == PUBLIC and a.accepted for a in found) and all(a.teacher < 0 for a in found)


def _of(place: int, attempts: Sequence[Attempt], sampling: Sampling) -> list[Attempt]:
    """Returns the attempts of one teacher, or of the student. Those without an answer do not count when they were made
    with a limit that is no longer set, or would not be made in the same way now."""
    wanted = {(sampling.max_tokens, False), (sampling.raised_limit, sampling.when_truncated == "continue")}
    return [
        a
        for a in attempts
        if a.teacher == place and (a.state == "answered" or (a.max_tokens, a.continues is not None) in wanted)
    ]


def _of_student(attempts: Sequence[Attempt], sampling: Sampling) -> Step | None:
    """Returns what comes next while the student may still solve the question; None when the student cannot solve it any
    more."""
    mine = _of(STUDENT, attempts, sampling)
    right = _right(mine)
    if right >= sampling.stop_after_accepted:
        return Step(ended=BY_STUDENT)
    if _may_pass(mine):
        return Step(ended=GIVEN_UP)
    owed = [Ask(a.sample, a.max_tokens, STUDENT, waited_s=a.waited_s) for a in mine if a.state == "open"]
    used = {a.sample for a in mine}
    fresh = [Ask(n, sampling.max_tokens, STUDENT) for n in range(sampling.samples) if n not in used]
    wanted = sampling.stop_after_accepted - right
    return Step(asks=tuple((owed + fresh)[:wanted])) if len(owed) + len(fresh) >= wanted else None


def _asks(mine: Sequence[Attempt], place: int, sampling: Sampling, accepted: int, together: bool) -> tuple[Ask, ...]:
    """Returns the attempts that are still to be bought from one teacher. `accepted` says how many answers are accepted
    already."""
    owed = [
        Ask(a.sample, a.max_tokens, place, continues=a.continues, waited_s=a.waited_s)
        for a in mine
        if a.state == "open"
    ]
    latest = {a.sample: a for a in sorted(mine, key=lambda a: a.max_tokens)}.values()
    cut = [a for a in latest if a.reason == TRUNCATED]
    once_more = [again for a in cut if (again := _once_more(a, sampling)) is not None]
    owed += once_more
    stuck = not together and (
        len(once_more) < len(cut) or any(a.state == "failed" or a.reason == REPETITION for a in latest)
    )
    used = {a.sample for a in mine} | {a.sample for a in owed}
    # The first samples are sent at the same time. So each is asked whatever became of the others, also after a kill.
    last = min(sampling.samples, sampling.stop_after_accepted) if stuck else sampling.samples
    fresh = [Ask(n, sampling.max_tokens, place) for n in range(last) if n not in used]
    if together:
        return tuple(owed + fresh)
    most = sampling.stop_after_accepted - accepted
    if sampling.give_up_after is not None:
        most = min(most, sampling.give_up_after - sum(1 for a in mine if a.accepted is False and a.reason in WRONG))
    return tuple((owed + fresh)[: max(0, most)])


def _once_more(cut: Attempt, sampling: Sampling) -> Ask | None:
    """Returns how a cut answer is asked for once more: anew, or only its rest. None: it is not."""
    raised = sampling.raised_limit
    if cut.max_tokens >= raised:
        return None
    if sampling.when_truncated == "raise":
        return Ask(cut.sample, raised, cut.teacher)
    return Ask(cut.sample, raised, cut.teacher, continues=cut.id) if cut.continues is None else None


def _may_pass(mine: Sequence[Attempt]) -> bool:
    return any(a.state == "failed" and a.reason in PASSING for a in mine)


def _right(attempts: Sequence[Attempt]) -> int:
    return sum(1 for a in attempts if a.accepted)


def _solved_or_given_up(bought: Sequence[Attempt]) -> str:
    return SOLVED if any(a.accepted for a in bought) else GIVEN_UP


def _is_kept(question_id: str | None, share: Decimal) -> bool:
    """Whether the teachers are asked a question that the student solved. A hash of the question's id decides, so every
    run chooses the same questions."""
    if question_id is None:
        return share >= 1
    digest = hashlib.sha256(f"kept\0{question_id}".encode("utf-8", "surrogatepass")).digest()
    return Decimal(int.from_bytes(digest[:6])) < share * (1 << 48)
