"""Notices, while a run asks, money that goes into answers which nobody will train on, and names a setting that helps.

Each kind of waste is said once. A teacher that keeps its chains to itself ends the run, unless the user wants it so.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from harvest.answers.candidate import parts_of
from harvest.core.config import RunConfig
from harvest.core.errors import ChainsHidden
from harvest.core.nouns import Attempt, Judgement, Outcome, Question, Reply
from harvest.endpoint import REPETITION

MOST_WITHOUT_CHAIN = 20
"""So many answers without a chain, and none with one, show that the endpoint sends none."""
EVIDENCE = 30
"""So many answers must be judged before a kind of waste is said."""
REMEDIES = {
    "truncated": 'cut at their token limit: raise sampling.max_tokens, or set sampling.when_truncated = "continue"',
    REPETITION: "in a loop when they ended: try another sampling.temperature; teacher.stream = true ends them early",
    Outcome.NO_ANSWER.value: "without a result that can be read: try another prompt (`boxed` asks for a box)",
    Outcome.WRONG.value: "wrong: ask easier questions, a stronger teacher, or for more sampling.samples of each",
}
"""What is said of each reason for a rejection. Other reasons are filters that `checks.require` names."""


@dataclass(slots=True)
class Waste:
    """Counts what the answers of teachers bring in one session."""

    config: RunConfig
    prompt_reasoning: str
    """Where the prompt says that the chain is (`Prompt.reasoning`)."""
    say: Callable[[str], None]
    stop: Callable[[ChainsHidden], None]
    patience: int = MOST_WITHOUT_CHAIN
    """How many answers whose chain is hidden are bought before the run stops."""
    _answers: int = 0
    _with_chain: int = 0
    _hidden: int = 0
    _tokens: Counter[str] = field(default_factory=Counter)
    """The output tokens of the answers by the reason for which they were rejected; "" for accepted ones."""
    _said: set[str] = field(default_factory=set)

    def judged(self, question: Question, attempt: Attempt, reply: Reply, judgement: Judgement) -> None:
        """Takes in one answer of a teacher that was judged just now."""
        self._answers += 1
        self._look_for_chain(reply)
        reason = judgement.reason or ""
        self._tokens[reason] += reply.usage.output_tokens or 1
        whole = sum(self._tokens.values())
        if self._answers >= EVIDENCE and reason and 2 * self._tokens[reason] > whole:
            share = 100 * self._tokens[reason] // whole
            remedy = REMEDIES.get(reason, f"refused by the filter {reason!r}, which checks.require names")
            self._say_once(reason, f"{share}% of the tokens so far went into answers that were {remedy}")

    def _look_for_chain(self, reply: Reply) -> None:
        if parts_of(reply, self.prompt_reasoning)[0] is not None:
            self._with_chain += 1
            return
        self._hidden += is_hidden(reply)
        if self._with_chain:
            return
        if self._hidden >= self.patience and self.prompt_reasoning == "endpoint":
            words = f"the endpoint keeps back the chains of all {self._hidden} answers (hidden, or summaries alone)"
            if self.config.checks.without_chain == "stop":
                way_out = 'take a teacher that shows them, or set checks.without_chain = "keep" to go on all the same'
                self.stop(ChainsHidden(f"{words}, so there is nothing to distil but the answers: {way_out}"))
                return
            self._say_once("chain", f"{words}: their traces are answers alone")
        elif self._answers == MOST_WITHOUT_CHAIN and not self._hidden:
            remedy = 'for a teacher that reasons in its answer, prompt = "steps" takes the text before the box as chain'
            self._say_once("chain", f"none of {self._answers} answers has a chain: {remedy}")

    def _say_once(self, kind: str, words: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self.say(f"warning: {words}")


def is_hidden(reply: Reply) -> bool:
    """Whether a reply shows that there was a chain which the endpoint kept back."""
    return reply.reasoning_kind in ("summary", "encrypted") or (
        not reply.reasoning and bool(reply.usage.reasoning_tokens)
    )
