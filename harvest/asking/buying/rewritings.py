"""Buys a model's rewritings of answers."""

from typing import Protocol

from harvest.asking.buying.about_answers import AboutAnswers
from harvest.asking.buying.buyer import Buyer
from harvest.core.config import RunConfig
from harvest.core.nouns import Attempt, Candidate, Question, Reply, Verdict
from harvest.core.teachers import RewriteModel
from harvest.judging import model_rewriting


class Check(Protocol):
    """Runs the check of one answer."""

    async def check(self, question: Question, answer: str) -> Verdict: ...


class Rewritings(AboutAnswers):
    """Has a model bring answers into the training format. Each rewriting is checked again."""

    rewrites = True

    def __init__(self, buyer: Buyer, settings: RewriteModel, config: RunConfig, checks: Check) -> None:
        super().__init__(buyer)
        self._settings, self._filters, self._by_rules = settings, config.filters, config.rewrite.on
        self._checks = checks

    def is_asked(self, candidate: Candidate, verdict: Verdict) -> bool:
        """Whether an answer to which the check gave this verdict is rewritten."""
        return model_rewriting.is_asked(self._settings, candidate, verdict, self._filters, by_rules=self._by_rules)

    async def of(self, question_id: int, attempt: Attempt, candidate: Candidate) -> tuple[Verdict, Reply | None] | None:
        """Returns (the verdict on the rewriting, the rewriting if it is trained on). Returns None when the answer stays
        as it came, because nothing was bought. Raises Stopped when the next session must ask instead."""
        run = self.buyer.run
        if model_rewriting.is_too_long(self._settings, candidate):
            return model_rewriting.none_came("not asked: longer than rewrite.model.max_tokens"), None
        bought = await self._bought(question_id, attempt, model_rewriting.messages(run.prompt, candidate))
        if bought is None:
            return None
        if bought.reply is None:
            return model_rewriting.none_came(f"no rewriting came ({bought.failure})"), None
        return await self._judged(candidate, bought.reply)

    async def _judged(self, candidate: Candidate, reply: Reply) -> tuple[Verdict, Reply | None]:
        fault = model_rewriting.fault(candidate, reply)
        answer = model_rewriting.applied(candidate, reply).answer
        checked = None if fault else await self._checks.check(candidate.question, answer)
        verdict = model_rewriting.verdict(self.buyer.run.model, fault, checked)
        return verdict, reply if verdict.passed else None
