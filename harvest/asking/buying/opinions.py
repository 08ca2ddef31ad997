"""Buys the judging model's opinions."""

from harvest.asking.buying.about_answers import AboutAnswers
from harvest.asking.buying.buyer import Buyer
from harvest.core.nouns import Attempt, Question, Verdict
from harvest.core.teachers import JudgeModel
from harvest.judging import model_judge


class Opinions(AboutAnswers):
    """Asks the judging model about answers that their check did not pass or could not read."""

    def __init__(self, buyer: Buyer, settings: JudgeModel) -> None:
        super().__init__(buyer)
        self.settings = settings

    def is_asked(self, question: Question, verdict: Verdict) -> bool:
        """Whether the judging model is asked about an answer to which the check gave this verdict."""
        return model_judge.is_asked(self.settings, question, verdict)

    async def of(self, question_id: int, question: Question, attempt: Attempt, answer: str) -> Verdict | None:
        """Returns the judging model's verdict; its outcome is ERROR if the model gave no answer. Returns None when the
        check's verdict stands, because nothing was bought. Raises Stopped when the next session must ask instead."""
        run = self.buyer.run
        bought = await self._bought(question_id, attempt, model_judge.messages(run.prompt, question, answer))
        if bought is None:
            return None
        if bought.reply is None:
            return model_judge.no_answer(run.model, bought.failure or "")
        return model_judge.verdict_of(bought.reply, run.model)
