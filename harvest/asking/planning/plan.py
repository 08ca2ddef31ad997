"""What to ask next about one question, and of whom. Pure: from what became of its attempts to those still worth buying.

The student is asked first, where there is one, then the teachers in the order written.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from harvest.core.config import RunConfig
from harvest.core.errors import FAILURES
from harvest.core.nouns import STUDENT, Ask, Attempt, Outcome, Question
from harvest.core.teachers import Sampling
from harvest.questions.rows import judged_together
from harvest.store import StoredRun

TRUNCATED, REPETITION = "truncated", "repetition"
"""Reasons of an answer that was cut short, at its limit or for its loop: it is judged no further."""
WRONG = (Outcome.WRONG.value, Outcome.NO_ANSWER.value)
"""Reasons that count for give_up_after. A check that could not judge has not found the answer wrong."""
PASSING = frozenset(kind for kind, failure in FAILURES.items() if failure.again)
"""Reasons of a failed attempt that the next start tries again: nobody dearer is asked in its place meanwhile."""
SOLVED, GIVEN_UP, BY_STUDENT = "solved", "given_up", "student_solved"


@dataclass(frozen=True, slots=True)
class Rules:
    """What of RUN.toml the plan goes by."""

    teachers: tuple[Sampling, ...]
    """How each teacher is asked, in the order written."""
    mode: Literal["cascade", "all"] = "cascade"
    student: Sampling | None = None
    """How the student is asked first: `samples` its tries, `stop_after_accepted` the right ones that are enough."""
    keep_solved: Decimal = Decimal(0)
    """The share of what the student solves that the teachers are asked all the same."""


@dataclass(frozen=True, slots=True)
class Step:
    """Attempts to buy now, side by side; or that all answers are there to be judged together; or how the question
    ended: `solved`, `given_up` or `student_solved`."""

    asks: tuple[Ask, ...] = ()
    judge: bool = False
    ended: str | None = None


def rules_of(config: RunConfig) -> Rules:
    """The rules in a run's settings."""
    teachers = tuple(t.sampling for t in config.teachers) or (config.sampling,)
    if config.student is None:
        return Rules(teachers, config.plan.teachers)
    return Rules(teachers, config.plan.teachers, config.student.sampling, config.student.keep_solved)


def plan_of(run: StoredRun) -> Callable[[Question, Sequence[Attempt]], Step]:
    """The plan of a stored run, from a question and its attempts. An imported run asks nobody."""
    if run.imported:
        return lambda question, attempts: Step(ended=_solved_or_given_up(attempts))
    rules = rules_of(run.config)
    return lambda question, attempts: next_step(
        attempts, rules, together=judged_together(question), question_id=question.id
    )


def next_step(
    attempts: Sequence[Attempt], rules: Rules, *, together: bool = False, question_id: str | None = None
) -> Step:
    """Attempts that are `open` (bought for in an earlier start, without an answer) are asked again first.

    A truncated answer has had its money: the same limit is not paid twice. It ends its teacher's part in the
    question, or, under when_truncated = "raise", is asked once more with the raised limit. One that was broken off
    for its loop ends it too, since no limit helps there; so does a failed attempt. In a cascade the next teacher is
    asked then, except after a failure that may pass, which ends the question for this start.

    Where answers are judged `together`, all samples of a teacher are asked, whatever became of the others, and
    judged when the last has come; and no student is asked, since one answer alone cannot be judged.

    `question_id` decides whether a question that the student solved is one that the teachers are asked all the same.
    """
    bought = [a for a in attempts if a.teacher != STUDENT]
    if rules.student is not None and not together and not bought:
        step = _of_student(attempts, rules.student)
        if step is not None and not (step.ended == BY_STUDENT and _is_kept(question_id, rules.keep_solved)):
            return step
    accepted = sum(1 for a in bought if a.accepted)
    if rules.mode == "all":
        asks: tuple[Ask, ...] = ()
        for place, sampling in enumerate(rules.teachers):
            mine = [a for a in bought if a.teacher == place]
            asks += _asks(mine, place, sampling, sum(1 for a in mine if a.accepted), together)
        return Step(asks=asks) if asks else _end(bought, together)
    for place, sampling in enumerate(rules.teachers):
        mine = [a for a in bought if a.teacher == place]
        if asks := _asks(mine, place, sampling, accepted, together):
            return Step(asks=asks)
        up_to_here = _end(bought, together)
        if up_to_here.judge or (together and accepted) or _may_pass(mine, together):
            return up_to_here
    return _end(bought, together)


def _of_student(attempts: Sequence[Attempt], sampling: Sampling) -> Step | None:
    """The step while the student may still solve the question. None: it could not."""
    mine = [a for a in attempts if a.teacher == STUDENT]
    right = sum(1 for a in mine if a.accepted)
    if right >= sampling.stop_after_accepted:
        return Step(ended=BY_STUDENT)
    if any(a.state == "failed" and a.reason in PASSING for a in mine):
        return Step(ended=GIVEN_UP)
    owed = [Ask(a.sample, a.max_tokens, STUDENT) for a in mine if a.state == "open"]
    used = {a.sample for a in mine}
    fresh = [Ask(n, sampling.max_tokens, STUDENT) for n in range(sampling.samples) if n not in used]
    wanted = sampling.stop_after_accepted - right
    return Step(asks=tuple((owed + fresh)[:wanted])) if len(owed) + len(fresh) >= wanted else None


def _asks(mine: Sequence[Attempt], place: int, sampling: Sampling, accepted: int, together: bool) -> tuple[Ask, ...]:
    """The attempts that are still worth buying from one teacher. `accepted`: how many answers are accepted already."""
    owed = [Ask(a.sample, a.max_tokens, place) for a in mine if a.state == "open"]
    raised = sampling.raised_limit
    latest = {a.sample: a for a in sorted(mine, key=lambda a: a.max_tokens)}.values()
    owed += [Ask(a.sample, raised, place) for a in latest if a.reason == TRUNCATED and a.max_tokens < raised]
    stuck = not together and any(
        a.state == "failed" or a.reason == REPETITION or (a.reason == TRUNCATED and a.max_tokens >= raised)
        for a in latest
    )
    used = {a.sample for a in mine} | {a.sample for a in owed}
    # The first ones leave side by side, so each is owed whatever became of the others: a kill in between is no end.
    last = min(sampling.samples, sampling.stop_after_accepted) if stuck else sampling.samples
    fresh = [Ask(n, sampling.max_tokens, place) for n in range(last) if n not in used]
    if together:
        return tuple(owed + fresh)
    most = sampling.stop_after_accepted - accepted
    if sampling.give_up_after is not None:
        most = min(most, sampling.give_up_after - sum(1 for a in mine if a.accepted is False and a.reason in WRONG))
    return tuple((owed + fresh)[: max(0, most)])


def _may_pass(mine: Sequence[Attempt], together: bool) -> bool:
    return not together and any(a.state == "failed" and a.reason in PASSING for a in mine)


def _end(bought: Sequence[Attempt], together: bool) -> Step:
    if together and any(a.state == "answered" and a.accepted is None for a in bought):
        return Step(judge=True)
    return Step(ended=_solved_or_given_up(bought))


def _solved_or_given_up(bought: Sequence[Attempt]) -> str:
    return SOLVED if any(a.accepted for a in bought) else GIVEN_UP


def _is_kept(question_id: str | None, share: Decimal) -> bool:
    """Whether the teachers are asked a question that the student solved: by a hash of its name, so in every run."""
    if question_id is None:
        return share >= 1
    digest = hashlib.sha256(f"kept\0{question_id}".encode("utf-8", "surrogatepass")).digest()
    return Decimal(int.from_bytes(digest[:6])) < share * (1 << 48)
