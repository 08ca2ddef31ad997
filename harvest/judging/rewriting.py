"""Rewrites answers into the training format by rules. Each rewritten answer is checked again; if it fails, the answer
stays unchanged. `as_trained` gives the text that an answer has after all rewriting."""

from dataclasses import replace

from harvest.checks import CHECKS, CheckPool
from harvest.checks.majority import answer_reader
from harvest.core.nouns import Candidate, Outcome, Question, Reply, RewrittenBy
from harvest.filters.rewrite import rewritten
from harvest.judging.model_rewriting import applied
from harvest.questions.rows import judged_together


def as_trained(candidate: Candidate, by: RewrittenBy, rewriting: Reply | None) -> Candidate:
    """Returns a candidate with the texts that are trained on, as the newest selection found them. `rewriting` is a
    model's, if a model rewrote the answer."""
    if by & RewrittenBy.MODEL:
        candidate = applied(candidate, rewriting)
    if by & RewrittenBy.RULES and (found := rewritten(candidate)) is not None:
        candidate = replace(candidate, reasoning=found.reasoning, answer=found.answer)
    return candidate


class Rewriter:
    """Rewrites candidates if `rewrite.on`. A process for checks is started only when a rewritten answer needs one."""

    def __init__(self, on: bool) -> None:
        self._on = on
        self._checks: CheckPool | None = None

    def __call__(self, candidate: Candidate) -> tuple[Candidate, bool | None]:
        """Returns (the candidate as it would be trained on, whether it was rewritten). The second part is None if there
        was nothing to rewrite."""
        found = rewritten(candidate) if self._on else None
        if found is None:
            return candidate, None
        if not self._still_right(candidate.question, candidate.answer, found.answer):
            return candidate, False
        return replace(candidate, reasoning=found.reasoning, answer=found.answer), True

    def close(self) -> None:
        if self._checks is not None:
            self._checks.close()

    def _still_right(self, question: Question, before: str, after: str) -> bool:
        """Whether the rewriting kept the answer right: the check says the same of the old and the new answer, or calls
        the new one right. If answers are judged together, both must state the same value.

        If the check's cheap first step (`quick`) finds the same verdict, program or formula in both answers, the check
        is not run: its verdict cannot change.
        """
        if judged_together(question):
            read = answer_reader(question)
            return read(before).value == read(after).value
        if question.check not in CHECKS:
            return False
        check = CHECKS[question.check]
        found = check.quick(question, after)
        if found == check.quick(question, before):
            return True
        if isinstance(found, tuple):
            return found[0] is Outcome.RIGHT
        if self._checks is None:
            self._checks = CheckPool(workers=1)
        return self._checks.check_now(question, after).passed
