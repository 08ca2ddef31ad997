"""Buys the judging model's opinions like answers: each is reserved, sent and settled under the same cap."""

from harvest.asking.buying.buyer import Buyer, Stopped
from harvest.core.nouns import Ask, Attempt, Question, Verdict
from harvest.core.teachers import JudgeModel
from harvest.judging import model_judge


class Opinions:
    """Asks the judging model about answers that their check did not pass or could not read."""

    def __init__(self, buyer: Buyer, settings: JudgeModel) -> None:
        self.buyer, self.settings = buyer, settings
        self._session_stopped = self._session_capped = False

    def stop(self, *, capped: bool) -> None:
        """Stops asking, since the session ends. `capped` says whether it ends because the money is used up."""
        self._session_stopped, self._session_capped = True, self._session_capped or capped
        self.buyer.stop()

    def is_asked(self, question: Question, verdict: Verdict) -> bool:
        """Whether the judging model is asked about an answer to which the check gave this verdict."""
        return model_judge.is_asked(self.settings, question, verdict)

    async def of(self, question_id: int, question: Question, attempt: Attempt, answer: str) -> Verdict | None:
        """Returns the judging model's verdict; its outcome is ERROR if the model gave no answer. Returns None when the
        check's verdict stands, because the cap has no room or the judging model refuses for good. Raises Stopped when
        the next session must ask instead."""
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
