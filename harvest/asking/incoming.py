"""Judges each answer when it comes, and writes the judgement to the store."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from harvest.asking.buying.counters import Counters
from harvest.asking.buying.opinions import Opinions
from harvest.asking.buying.rewritings import Rewritings
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
        self, acceptance: Acceptance, checks: Checking, opinions: Opinions | None, rewritings: Rewritings | None,
        ledger: Writer, counters: Counters, on_judged: OnJudged,
    ) -> None:  # fmt: skip
        self.opinions, self.rewritings = opinions, rewritings
        self._acceptance, self._checks, self._ledger = acceptance, checks, ledger
        self._counters, self._on_judged = counters, on_judged

    async def judge(self, question_id: int, question: Question, attempt: Attempt, reply: Reply) -> Attempt:
        """Returns the attempt with its judgement. If all answers to the question are judged together, a finished
        answer's attempt is returned unchanged.

        Raises Stopped when the next session must ask the judging or the rewriting model.
        """
        verdicts: list[Verdict] = []
        rewriting: Reply | None = None
        if unfinished(reply) is None:
            if judged_together(question):
                return attempt
            verdicts = [await self._checks.check(question, reply.answer)]
            if attempt.teacher >= 0:  # nothing is paid for a public answer, nor for the student's
                rewriting = await self._rewriting(question_id, question, attempt, reply, verdicts)
                open_still = not any(verdict.passed for verdict in verdicts)
                if open_still and self.opinions is not None and self.opinions.is_asked(question, verdicts[0]):
                    opinion = await self.opinions.of(question_id, question, attempt, reply.answer)
                    verdicts += [] if opinion is None else [opinion]
        judgement = self._acceptance.judgement(attempt, question, reply, verdicts, rewriting=rewriting)
        return self._write([(attempt, reply, judgement)], question)[0]

    async def _rewriting(
        self, question_id: int, question: Question, attempt: Attempt, reply: Reply, verdicts: list[Verdict]
    ) -> Reply | None:
        """Returns a model's rewriting of the answer if it is trained on, and adds the verdict on it."""
        if self.rewritings is None:
            return None
        candidate = self._acceptance.candidate(attempt, question, reply)
        if not self.rewritings.is_asked(candidate, verdicts[0]):
            return None
        found = await self.rewritings.of(question_id, attempt, candidate)
        if found is None:
            return None
        verdicts.append(found[0])
        return found[1]

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
            if before.accepted is False:
                self._counters.rejected[before.reason or ""] -= 1
            if judgement.reason is not None:
                self._counters.rejected[judgement.reason] += 1
            self._on_judged(question, after, reply, judgement)
        return after
