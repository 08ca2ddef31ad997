"""A second opinion: a model is asked about answers that the rules refused or could not read.

Its tries go through the ledger like the teacher's: reserved, sent, settled, under the same cap, and never twice for the
same content. What it reads is hostile, so the answer stands between marks that it cannot know, and only one word of
three counts: anything else is an error, never right.
"""

import asyncio
import hashlib
import json
import random
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from harvest.asking.buy import Buyer, Settled
from harvest.asking.gate import ByKey, Gate, Stopped
from harvest.asking.pace import LONGEST_WAIT_S, Pace
from harvest.asking.run import Run
from harvest.checks import judged_together
from harvest.core.errors import AttemptFailed, RunRefused, Throttled
from harvest.core.nouns import Ask, Attempt, Outcome, Question, Reply, Verdict
from harvest.core.teachers import JudgeModel
from harvest.endpoint.announced_limits import announced
from harvest.endpoint.client import Arriving, Teacher, request_body
from harvest.endpoint.prompt import Prompt, text_of
from harvest.endpoint.reply import cut_short
from harvest.judging.ruling import JUDGE, JUDGE_VERSION
from harvest.store import Reused, Store, Writer

REFUSED_TOO_LONG_S = 900.0
MOST_CHARACTERS = 2000
"""Of an answer's end are shown."""
WORDS = {"RIGHT": Outcome.RIGHT, "WRONG": Outcome.WRONG, "NONE": Outcome.NO_ANSWER}


def messages(prompt: Prompt, question: Question, answer: str) -> list[dict[str, str]]:
    """What the model reads. The mark is a hash of all that stands between, so the same content is the same request,
    and no answer can hold its own."""
    texts = {"question": text_of(question), "gold": question.answer or "", "answer": answer[-MOST_CHARACTERS:]}
    mark = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:24]
    values = {**texts, "mark": mark}
    return [
        {"role": role, "content": re.sub(r"\{(question|gold|answer|mark)\}", lambda name: values[name[1]], text)}
        for role, text in prompt.parts
    ]


def read(reply: Reply, model: str) -> Verdict:
    """One word of `WORDS` is a verdict; whatever else came is an error."""
    word = reply.answer.strip().strip(".*`\"'").upper()
    outcome = None if cut_short(reply) else WORDS.get(word)
    if outcome is None:
        return Verdict(JUDGE, JUDGE_VERSION, Outcome.ERROR, f"{model} said none of {', '.join(WORDS)}")
    return Verdict(JUDGE, JUDGE_VERSION, outcome, f"{model} says {word}")


class Second:
    """Asks for opinions within one start of `collect`, at a pace of its own."""

    def __init__(
        self,
        run: Run,
        settings: JudgeModel,
        ledger: Writer,
        teacher: Teacher,
        told: Callable[[Settled], None],
        holding: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """`run`: of `run.as_judge`. `told` hears of each settlement; `holding` is entered while money is held."""
        self.run, self.ledger, self._settings, self._holding = run, ledger, settings, holding
        self.refused: str | None = None
        """Why the endpoint answers nobody: nothing more is asked of it."""
        self._gate = Gate(Pace(settings.max_concurrency))
        self._buyer = Buyer(run, ledger, teacher, told)
        self._by_key = ByKey()
        self._stop = asyncio.Event()
        self._capped = False
        self._last_good_s = asyncio.get_running_loop().time()

    def stop(self, *, capped: bool) -> None:
        """Asks nothing more. `capped`: for want of money, so what the rules said stands; else the next start asks."""
        self._capped = self._capped or capped
        self._stop.set()
        self._gate.open = True
        self._gate.wake()

    def is_asked(self, question: Question, said: Verdict) -> bool:
        """Whether the rules left something to say, and there is a right answer to compare with in words."""
        worded = bool((question.answer or "").strip()) and question.check != "code" and not judged_together(question)
        return worded and said.outcome.value in self._settings.about

    async def opinion(self, question_id: int, question: Question, attempt: Attempt, answer: str) -> Verdict | None:
        """None: what the rules said stands, since the cap has no room or the endpoint refuses. Raises Stopped where
        the next start is to ask."""
        sampling = self.run.config.sampling
        asked = messages(self.run.prompt, question, answer)
        body = request_body(self.run.model, asked, sampling, 0, sampling.max_tokens)
        key = self.run.key(body, 0)
        async with self._by_key(key):
            came = await self._buy(question_id, attempt, body, key)
        if came is None or isinstance(came, Reply):
            return None if came is None else read(came, self.run.model)
        return Verdict(JUDGE, JUDGE_VERSION, Outcome.ERROR, f"{self.run.model} gave no answer ({came.kind})")

    async def _buy(
        self, question_id: int, attempt: Attempt, body: dict[str, object], key: str
    ) -> Reply | AttemptFailed | None:
        ask = Ask(attempt.sample, self.run.config.sampling.max_tokens, about=attempt.id)
        tries = 0
        while True:
            async with self._gate() as let_in:
                if self._stop.is_set() and not self._capped:
                    raise Stopped
                if self._capped or self.refused:
                    return None
                with self._holding():
                    held = await self._buyer.reserve(question_id, ask, body, key)
                    if held is None or isinstance(held, Reused):
                        self._gate.pace.withdrawn(let_in.sent_s)
                        return None if held is None else held.reply
                    arriving = Arriving()
                    outcome = await self._buyer.send(held, body, ask.max_tokens, arriving, let_in.leave)
                self._note(outcome, arriving, let_in.sent_s)
            if isinstance(outcome, Reply):
                return outcome
            if isinstance(outcome, RunRefused):
                self.refused = str(outcome)
                return None
            if not isinstance(outcome, Throttled):
                tries += 1
                if not outcome.again or tries >= self.run.config.sampling.tries:
                    await self.ledger.do(Store.fail_attempt, held.attempt_id, outcome.kind)
                    return outcome
                await self._wait(outcome.retry_after_s or 0.25 * 2**tries * random.uniform(0.5, 1.0))

    def _note(self, outcome: Reply | AttemptFailed, arriving: Arriving, sent_s: float) -> None:
        at_s = asyncio.get_running_loop().time()
        if isinstance(outcome, Reply):
            self._gate.pace.answered(outcome.usage.output_tokens)
            self._last_good_s = at_s
        elif isinstance(outcome, Throttled):
            self._gate.pace.refused_at(sent_s, at_s, outcome.retry_after_s)
            if at_s - self._last_good_s > REFUSED_TOO_LONG_S:
                self.refused = f"nothing but refusals for {REFUSED_TOO_LONG_S / 60:.0f} minutes: {outcome}"
        self._gate.pace.heard(announced(arriving.headers, time.time()), sent_s, at_s)

    async def _wait(self, wait_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), min(wait_s, LONGEST_WAIT_S))
