"""Buys what a model says about an answer like answers: each is reserved, sent and settled under the same cap."""

from collections.abc import Sequence

from harvest.asking.buying.buyer import Bought, Buyer, Stopped
from harvest.core.nouns import Ask, Attempt, Message


class AboutAnswers:
    """Asks one model about answers: the judging model or the rewriting model."""

    rewrites = False

    def __init__(self, buyer: Buyer) -> None:
        self.buyer = buyer
        self._session_stopped = self._session_capped = False

    def stop(self, *, capped: bool) -> None:
        """Stops asking, since the session ends. `capped` says whether it ends because the money is used up."""
        self._session_stopped, self._session_capped = True, self._session_capped or capped
        self.buyer.stop()

    async def _bought(self, question_id: int, attempt: Attempt, messages: Sequence[Message]) -> Bought | None:
        """Returns what the model said about the answer of an attempt. Returns None if nothing is bought, because the
        cap has no room or the model refuses for good. Raises Stopped when the next session must ask instead."""
        limit = self.buyer.run.config.sampling.max_tokens
        ask = Ask(attempt.sample, limit, about=attempt.id, rewrites=self.rewrites)
        try:
            return await self.buyer.buy(question_id, ask, messages)
        except Stopped:
            if self._session_stopped and not self._session_capped:
                raise
            return None
