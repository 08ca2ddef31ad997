"""The judging model's opinions, bought like answers: reserved, sent and settled under the same cap."""

from harvest.asking.buying.buyer import Buyer, Stopped
from harvest.core.nouns import Ask, Attempt, Question, Verdict
from harvest.core.teachers import JudgeModel
from harvest.judging import model_judge


class Opinions:
    """Asks the judging model about answers that their check refused or could not read."""

    def __init__(self, buyer: Buyer, settings: JudgeModel) -> None:
        self.buyer, self.settings = buyer, settings
        self._session_stopped = self._session_capped = False

    def stop(self, *, capped: bool) -> None:
        """The session ends, so nothing more is asked. `capped`: it ends for want of money."""
        self._session_stopped, self._session_capped = True, self._session_capped or capped
        self.buyer.stop()

    def is_asked(self, question: Question, verdict: Verdict) -> bool:
        """Whether the model is asked about an answer of which the check said this."""
        return model_judge.is_asked(self.settings, question, verdict)

    async def of(self, question_id: int, question: Question, attempt: Attempt, answer: str) -> Verdict | None:
        """What the model says. None: what the check said stands, since the cap has no room or the model refuses for
        good. Raises Stopped where the next session is to ask."""
        run = self.buyer.run
        ask = Ask(attempt.sample, run.config.sampling.max_tokens, about=attempt.id)
        messages = model_judge.messages(run.prompt, question, answer)
        try:
            bought = await self.buyer.buy(question_id, ask, messages)
        except Stopped:
            if self._session_stopped and not self._session_capped:
                raise
            return None
        if bought.reply is None:
            return model_judge.no_answer(run.model, bought.failure or "")
        return model_judge.verdict_of(bought.reply, run.model)
