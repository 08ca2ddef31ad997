"""What verdicts make of an attempt: accepted, or why not. The same as it comes, imported, or judged again."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Protocol

from harvest.core.errors import Cut, RowRefused
from harvest.core.nouns import FILTER_REASONS, Judgement, Outcome, Question, Reply, Verdict
from harvest.endpoint import BROKE_OFF, cut_short

JUDGE, JUDGE_VERSION = "judge", "1"
"""What a verdict of the judging model is called, and its version: of its prompt and of how its word is read."""
NO_MAJORITY = "no_majority"
"""Why no answer to a question is accepted, where too few of them agree."""


class JudgesTogether(Protocol):
    def check_together(self, question: Question, answers: Iterable[str], share: Decimal) -> list[Verdict]: ...


def unfinished(reply: Reply) -> str | None:
    """Why an answer is not whole and no check is asked about it: the class of failure that a try would have had; or
    None. An imported answer alone may be unfinished in another way than at its limit."""
    ended_by = (reply.finish_reason or "").lower()
    broken = RowRefused.kind if ended_by == "content_filter" else Cut.kind if ended_by in BROKE_OFF else None
    return cut_short(reply) or broken


def rule(attempt_id: int, verdicts: Sequence[Verdict]) -> Judgement:
    """The rules' verdict stands first; whichever passed it, it is accepted."""
    passed = any(verdict.passed for verdict in verdicts)
    return Judgement(attempt_id, verdicts, None if passed else verdicts[0].outcome.value)


def with_required(ruling: Judgement, required: Sequence[Verdict]) -> Judgement:
    """An accepted attempt after the filters that `checks.require` names. Their verdicts are written first: the newest
    is the check's own, as a judging model's opinion is held against it."""
    return Judgement(ruling.attempt_id, (*required, *ruling.verdicts), refused_by(required))


def refused_by(required: Sequence[Verdict]) -> str | None:
    """Why an answer is rejected that is right: by the first of the required filters that refuses it; None: by none."""
    return next((FILTER_REASONS[v.check] for v in required if not v.passed), None)


def rule_together(
    question: Question, answers: Iterable[tuple[int, Reply]], judge: JudgesTogether, share: Decimal
) -> list[Judgement]:
    """On all answered attempts of a question whose answers are judged together. Unfinished ones have no voice."""
    finished: list[int] = []
    rulings: list[Judgement] = []

    def texts() -> Iterable[str]:
        for attempt_id, reply in answers:
            if reason := unfinished(reply):
                rulings.append(Judgement(attempt_id, (), reason))
            else:
                finished.append(attempt_id)
                yield reply.answer

    verdicts = judge.check_together(question, texts(), share)
    decided = any(verdict.passed for verdict in verdicts)
    for attempt_id, verdict in zip(finished, verdicts, strict=True):
        undecided = not decided and verdict.outcome is Outcome.NO_ANSWER
        rulings.append(Judgement(attempt_id, (verdict,), NO_MAJORITY) if undecided else rule(attempt_id, (verdict,)))
    return rulings
