"""Judges each answer when it comes, and writes the judgement to the store."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from harvest.asking.buying.counters import Counters
from harvest.asking.buying.opinions import Opinions
from harvest.asking.hooks import OnJudged
from harvest.core.clock import now
from harvest.core.nouns import STUDENT, Attempt, Judgement, Question, Reply, Verdict
from harvest.judging.acceptance import Acceptance, Agreement, unfinished
from harvest.questions.rows import judged_together
from harvest.store import OpenQuestion, Store, Writer


class Checking(Agreement, Protocol):
    """Runs checks in a pool of processes."""

    async def check(self, question: Question, answer: str) -> Verdict: ...


class IncomingAnswers:
    """Takes answers that come from an endpoint, and writes their judgements to the store."""

    def __init__(
        self, acceptance: Acceptance, checks: Checking, opinions: Opinions | None, ledger: Writer, counters: Counters,
        on_judged: OnJudged,
    ) -> None:  # fmt: skip
        self.opinions = opinions
        self._acceptance, self._checks, self._ledger = acceptance, checks, ledger
        self._counters, self._on_judged = counters, on_judged

    async def judge(self, question_id: int, question: Question, attempt: Attempt, reply: Reply) -> Attempt:
        """Returns the attempt with its judgement. If all answers to the question are judged together, a finished
        answer's attempt is returned unchanged.

        Raises Stopped when the next session must ask the judging model.
        """
        verdicts: list[Verdict] = []
        if unfinished(reply) is None:
            if judged_together(question):
                return attempt
            verdicts = [await self._checks.check(question, reply.answer)]
            opinions = self.opinions if attempt.teacher != STUDENT else None
            if opinions is not None and opinions.is_asked(question, verdicts[0]):
                opinion = await opinions.of(question_id, question, attempt, reply.answer)
                verdicts += [] if opinion is None else [opinion]
        judgement = self._acceptance.judgement(attempt, question, reply, verdicts)
        return self._write([(attempt, reply, judgement)], question)[0]

    async def judge_together(self, question: OpenQuestion, attempts: Mapping[int, Attempt]) -> list[Attempt]:
        """Judges all answered attempts of one question by what most of its answers say. Returns these attempts with
        their judgements."""
        answers = await self._ledger.do(lambda store: list(store.answers_of(question.id)))
        marks = await self._ledger.do(Store.marks, list(attempts))
        judged = await asyncio.to_thread(
            self._acceptance.judgements_together, attempts, question.question, lambda: answers, self._checks, marks
        )
        return self._write([(attempts[i], reply, judged[i]) for i, reply in answers], question.question)

    def _write(self, judged: list[tuple[Attempt, Reply, Judgement]], question: Question) -> list[Attempt]:
        self._ledger.post(Store.put_judgements, [judgement for _, _, judgement in judged], now())
        return [self._count(question, *one) for one in judged]

    def _count(self, question: Question, before: Attempt, reply: Reply, judgement: Judgement) -> Attempt:
        after = replace(before, accepted=judgement.accepted, reason=judgement.reason)
        if before.teacher != STUDENT:
            self._counters.accepted += judgement.accepted - (before.accepted is True)
            self._counters.rejected += (not judgement.accepted) - (before.accepted is False)
            if judgement.reason is not None and before.reason != judgement.reason:
                self._counters.rejected_by[judgement.reason] += 1
            self._on_judged(question, after, reply, judgement)
        return after
