"""What to ask next of one question. Pure: from what became of its attempts to the attempts still worth buying."""

from collections.abc import Sequence
from dataclasses import dataclass

from harvest.config import Sampling
from harvest.trace import Ask, Attempt

TRUNCATED, REPETITION = "truncated", "repetition"
"""Reasons of an answer that was cut short, at its limit or for its loop: it is judged no further."""


@dataclass(frozen=True, slots=True)
class Step:
    """Attempts to buy now, side by side; or that all answers are there to be judged together; or how the question
    ended: `solved` or `given_up`."""

    asks: tuple[Ask, ...] = ()
    judge: bool = False
    ended: str | None = None


def next_step(attempts: Sequence[Attempt], sampling: Sampling, *, together: bool = False) -> Step:
    """Attempts that are `open` (bought for in an earlier start, without an answer) are asked again first.

    A truncated answer has had its money: the same limit is not paid twice. It ends the question, or, under
    when_truncated = "raise", is asked once more with the raised limit. One that was broken off for its loop ends
    the question too, since no limit helps there. A failed attempt ends the question for this start.

    Where answers are judged `together`, all samples are asked, whatever became of the others, and judged when the
    last has come.
    """
    accepted = sum(1 for a in attempts if a.accepted)
    if not together and accepted >= sampling.stop_after_accepted:
        return Step(ended="solved")
    owed = [Ask(a.sample, a.max_tokens) for a in attempts if a.state == "open"]
    raised = _raised_limit(sampling)
    latest = {a.sample: a for a in sorted(attempts, key=lambda a: a.max_tokens)}.values()
    owed += [Ask(a.sample, raised) for a in latest if a.reason == TRUNCATED and a.max_tokens < raised]
    stuck = not together and any(
        a.state == "failed" or a.reason == REPETITION or (a.reason == TRUNCATED and a.max_tokens >= raised)
        for a in latest
    )
    used = {a.sample for a in attempts} | {a.sample for a in owed}
    fresh = [] if stuck else [Ask(n, sampling.max_tokens) for n in range(sampling.samples) if n not in used]
    asks = (owed + fresh)[: None if together else sampling.stop_after_accepted - accepted]
    if asks:
        return Step(asks=tuple(asks))
    if together and any(a.state == "answered" and a.accepted is None for a in attempts):
        return Step(judge=True)
    return Step(ended="solved" if accepted else "given_up")


def _raised_limit(sampling: Sampling) -> int:
    if sampling.when_truncated == "give_up":
        return 0
    return sampling.raised_max_tokens or 2 * sampling.max_tokens
