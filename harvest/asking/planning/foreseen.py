"""Says what a run can cost at most before it has asked anything: from its questions, its limits and its prices."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial

from harvest.core.config import RunConfig, configs
from harvest.core.money import input_bound_tokens, worst_case
from harvest.core.nouns import STUDENT, Question
from harvest.endpoint import Prompt, dearest, tariff_of

AHEAD = timedelta(days=1)
"""Prices by the hour are taken from a whole day."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What all questions of a run may take, if each of them gets all of its answers at their full length."""

    questions: int
    answers: int
    """The most answers that are asked for, of the student and of all teachers."""
    pusd: int | None
    """The most that they cost, each bought in one try, in picodollars; None: a price is not known. The judging
    and the rewriting model are not in it."""
    one_pusd: int | None = None
    """The most that one try costs, which is what is reserved for it; None: a price is not known, or nothing was
    read."""

    def times(self, questions: int) -> "Foreseen":
        """Returns the same for another number of questions that are like these."""
        if not self.questions:
            return self
        answers = self.answers // self.questions * questions
        total = None if self.pusd is None else self.pusd * questions // self.questions
        return Foreseen(questions, answers, total, self.one_pusd)

    def at_once(self, config: RunConfig, room_pusd: int | None) -> int:
        """Returns how many tries may be in flight: as `max_concurrency` says, and as many as `room_pusd` has room for.
        None: there is no cap."""
        most = sum(one.teacher.most_at_once for one in configs(config).values())
        return most if room_pusd is None or not self.one_pusd else min(most, max(0, room_pusd) // self.one_pusd)


def foreseen(config: RunConfig, prompt: Prompt, questions: Iterable[Question]) -> Foreseen:
    """Returns what a run takes at most to ask these questions."""
    asked = []
    for place, one in configs(config).items():
        tariff, sampling = tariff_of(one), one.sampling
        limits = [sampling.max_tokens, *([sampling.raised_limit] if sampling.raised_limit else [])]
        now = datetime.now(UTC)
        price = None
        if tariff is not None:
            price = lru_cache(partial(dearest, tariff, now, now + AHEAD, extra=sampling.extra, routed=False))
        most = [limit + one.teacher.thinking_tokens for limit in limits]
        asked.append((prompt.without_examples() if place == STUDENT else prompt, sampling, most, price))
    n = total = dearest_try = 0
    for question in questions:
        n += 1
        for its_prompt, sampling, most, price in asked:
            if price is not None:
                tokens = input_bound_tokens(its_prompt.messages(question), sampling.extra)
                worst = [worst_case(tokens, limit, price(tokens)) for limit in most]
                total += sampling.samples * sum(worst)
                dearest_try = max(dearest_try, *worst)
    is_priced = all(price is not None for *_, price in asked)
    answers = n * sum(sampling.samples for _, sampling, *_ in asked)
    return Foreseen(n, answers, total if is_priced else None, dearest_try if is_priced else None)
