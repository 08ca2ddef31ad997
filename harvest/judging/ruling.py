"""What verdicts make of an attempt: accepted, or why not. The same as it comes, imported, or judged again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from harvest.core.errors import Cut, RowRefused
from harvest.core.nouns import Outcome, Question, Reply, Verdict
from harvest.endpoint.failures import BROKE_OFF
from harvest.endpoint.reply import cut_short

JUDGE, JUDGE_VERSION = "judge", "1"
"""What a verdict of the judging model is called, and its version: of its prompt and of how its word is read."""
REFUSED_BY = {
    "format": "format", "refusal": "refusal", "language": "language", "repetition": "repeats", "meta": "meta",
    "leaked_gold": "leaked_gold", "no_chain": "no_chain",
}  # fmt: skip
"""Why a right answer is rejected that a filter of `checks.require` refuses. `repetition` is what was broken off in a
loop; an answer that ended by itself and repeats itself `repeats`, and another sample is worth asking."""
NO_MAJORITY = "no_majority"
"""Why no answer to a question is accepted, where too few of them agree."""


class JudgesTogether(Protocol):
    def together(self, question: Question, answers: Iterable[str], share: Decimal) -> list[Verdict]: ...


@dataclass(frozen=True, slots=True)
class Ruling:
    """Of one attempt: what was said of it, and the first thing that it failed; None: it is accepted."""

    attempt_id: int
    verdicts: Sequence[Verdict]
    reason: str | None

    @property
    def accepted(self) -> bool:
        return self.reason is None


def unfinished(reply: Reply) -> str | None:
    """Why an answer is not whole and no check is asked about it: the class of failure that a try would have had; or
    None. An imported answer alone may be unfinished in another way than at its limit."""
    ended_by = (reply.finish_reason or "").lower()
    broken = RowRefused.kind if ended_by == "content_filter" else Cut.kind if ended_by in BROKE_OFF else None
    return cut_short(reply) or broken


def rule(attempt_id: int, verdicts: Sequence[Verdict]) -> Ruling:
    """The rules' verdict stands first; whichever passed it, it is accepted."""
    passed = any(verdict.passed for verdict in verdicts)
    return Ruling(attempt_id, verdicts, None if passed else verdicts[0].outcome.value)


def with_required(ruling: Ruling, required: Sequence[Verdict]) -> Ruling:
    """An accepted attempt after the filters that `checks.require` names. Their verdicts are written first: the newest
    is the check's own, as a judging model's opinion is held against it."""
    return Ruling(ruling.attempt_id, (*required, *ruling.verdicts), refused_by(required))


def refused_by(required: Sequence[Verdict]) -> str | None:
    """Why an answer is rejected that is right: by the first of the required filters that refuses it; None: by none."""
    return next((REFUSED_BY[v.check] for v in required if not v.passed), None)


def rule_together(
    question: Question, answers: Iterable[tuple[int, Reply]], judge: JudgesTogether, share: Decimal
) -> list[Ruling]:
    """On all answered attempts of a question whose answers are judged together. Unfinished ones have no voice."""
    finished: list[int] = []
    rulings: list[Ruling] = []

    def texts() -> Iterable[str]:
        for attempt_id, reply in answers:
            if reason := unfinished(reply):
                rulings.append(Ruling(attempt_id, (), reason))
            else:
                finished.append(attempt_id)
                yield reply.answer

    verdicts = judge.together(question, texts(), share)
    decided = any(verdict.passed for verdict in verdicts)
    for attempt_id, verdict in zip(finished, verdicts, strict=True):
        undecided = not decided and verdict.outcome is Outcome.NO_ANSWER
        rulings.append(Ruling(attempt_id, (verdict,), NO_MAJORITY) if undecided else rule(attempt_id, (verdict,)))
    return rulings
