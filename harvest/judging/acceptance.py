"""Decides whether an answer is accepted: when it comes, when it is imported, and when it is judged again. No other file
decides this.

An answer is rejected for the first of these reasons: it is unfinished; its check does not pass it, neither as it came
nor as a model rewrote it, and no judging model called it right; a filter that `checks.require` names refuses it.

A person's mark of right or wrong decides in place of checks, model and filters. An unfinished answer stays rejected.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

from harvest.answers.candidate import candidate_of
from harvest.core.errors import Cut, RowRefused
from harvest.core.nouns import FILTER_REASONS, STUDENT, Attempt, Candidate, Judgement, Outcome, Question, Reply, Verdict
from harvest.endpoint import BROKE_OFF, Prompt, cut_short
from harvest.filters.required import Required
from harvest.judging.model_rewriting import applied
from harvest.questions.rows import has_gold

NO_GOLD = "no_gold"
"""The reason of an answer that cannot be judged, because its question has no gold answer."""
DECIDING = (Outcome.RIGHT, Outcome.WRONG)
"""A person's marks that decide in place of checks."""
NO_MAJORITY = "no_majority"
"""The reason of an answer when too few of the answers to its question agree."""


class Agreement(Protocol):
    """Judges all answers to a question by what most of the answers say (the check pool does it)."""

    def check_together(self, question: Question, answers: Iterable[str], share: Decimal) -> list[Verdict]: ...


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the judging model said of an answer when it was asked, and what the check had said then."""

    check_said: Outcome
    model_said: Outcome

    def accepts(self, verdict: Verdict) -> bool:
        """Whether the model called the answer right. This counts only if the check still says what it said then."""
        return self.model_said is Outcome.RIGHT and self.check_said is verdict.outcome


def unfinished(reply: Reply) -> str | None:
    """Returns why an answer is not whole, so that it is not checked; None if it is whole.

    The reason is `truncated` for an answer at its limit, `repetition` for an answer in a loop. For an imported answer
    it may also be the class of failure that a try would have had.
    """
    ended_by = (reply.finish_reason or "").lower()
    broken = RowRefused.kind if ended_by == "content_filter" else Cut.kind if ended_by in BROKE_OFF else None
    return cut_short(reply) or broken


def refused_by(required: Sequence[Verdict]) -> str | None:
    """Returns the reason of the first required filter that refuses an answer; None if all filters pass it."""
    return next((FILTER_REASONS[v.check] for v in required if not v.passed), None)


def marked(judgement: Judgement, mark: Verdict | None) -> Judgement:
    """Returns the judgement of a finished answer as a person's newest mark makes it. UNSURE changes nothing."""
    if mark is None or mark.outcome not in DECIDING:
        return judgement
    return replace(judgement, reason=None if mark.passed else Outcome.WRONG.value)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Decides whether an answer is accepted, by what the run demands of answers."""

    required: Required
    """The filters that `checks.require` names."""
    prompt: Prompt
    """The prompt with which the answers were asked for."""
    majority: Decimal
    """When answers are judged together, more than this share of them must agree."""
    imported: bool = False
    """Whether the answers were bought by another program, with its own prompt."""

    def judgement(
        self, attempt: Attempt, question: Question, reply: Reply, verdicts: Sequence[Verdict],
        earlier: Opinion | None = None, mark: Verdict | None = None, rewriting: Reply | None = None,
    ) -> Judgement:  # fmt: skip
        """Judges one attempt: accepts it, or gives the first reason why not.

        `verdicts` has the check's verdict, then those on a model's rewriting and of the judging model if there are any;
        it is empty for an unfinished answer. `earlier` is what the judging model said in an earlier session, `mark` a
        person's newest mark, `rewriting` a rewriting that is trained on: the filters read it in the answer's place.
        """
        if reason := unfinished(reply):
            return Judgement(attempt.id, (), reason)
        by_check = verdicts[0]
        found = Judgement(attempt.id, verdicts, None)
        if not any(v.passed for v in verdicts) and not (earlier is not None and earlier.accepts(by_check)):
            found = replace(found, reason=by_check.outcome.value if has_gold(question) else NO_GOLD)
        if found.accepted or (mark is not None and mark.passed):
            found = self._after_filters(found, attempt, question, reply, rewriting)
        return marked(found, mark)

    def candidate(self, attempt: Attempt, question: Question, reply: Reply) -> Candidate:
        """Returns an answer as filters read it."""
        return candidate_of(attempt.id, attempt.sample, question, reply, self.prompt, imported=self.imported)

    def judgements_together(
        self, attempts: Mapping[int, Attempt], question: Question, answers: Callable[[], Iterable[tuple[int, Reply]]],
        agreement: Agreement, marks: Mapping[int, Verdict],
    ) -> dict[int, Judgement]:  # fmt: skip
        """Judges the answers to a question by what most of them say. Returns each answered attempt's judgement by the
        attempt's id.

        Each call of `answers` gives (attempt id, reply) of all answered attempts anew. Unfinished answers do not count.
        `marks` maps an attempt's id to a person's newest mark, which decides about that attempt alone.
        """
        finished: list[int] = []
        judged: dict[int, Judgement] = {}

        def texts() -> Iterable[str]:
            for attempt_id, reply in answers():
                if reason := unfinished(reply):
                    judged[attempt_id] = Judgement(attempt_id, (), reason)
                else:
                    finished.append(attempt_id)
                    yield reply.answer

        verdicts = agreement.check_together(question, texts(), self.majority)
        decided = any(verdict.passed for verdict in verdicts)
        for attempt_id, verdict in zip(finished, verdicts, strict=True):
            undecided = not decided and verdict.outcome is Outcome.NO_ANSWER
            reason = None if verdict.passed else NO_MAJORITY if undecided else verdict.outcome.value
            judged[attempt_id] = Judgement(attempt_id, (verdict,), reason)
        called_right = {i for i in finished if judged[i].accepted or (i in marks and marks[i].passed)}
        if called_right and self.required:
            for attempt_id, reply in answers():
                if attempt_id in called_right:
                    before = judged[attempt_id]
                    judged[attempt_id] = self._after_filters(before, attempts[attempt_id], question, reply)
        return judged | {i: marked(judged[i], marks.get(i)) for i in finished}

    def _after_filters(
        self, judgement: Judgement, attempt: Attempt, question: Question, reply: Reply, rewriting: Reply | None = None
    ) -> Judgement:
        """Returns the judgement of a right answer after the required filters. The check's own verdict comes last, since
        a judging model's opinion is compared with the newest verdict. A student's answers meet no filter."""
        if not self.required or attempt.teacher == STUDENT:
            return judgement
        candidate = applied(self.candidate(attempt, question, reply), rewriting)
        by_filters = self.required.verdicts(candidate)
        refused = refused_by(by_filters) if judgement.accepted else judgement.reason
        return Judgement(attempt.id, (*by_filters, *judgement.verdicts), refused)
