"""Chooses what the page shows of an attempt: question, chain, answer, verdicts, each text cut at a limit. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harvest.answers.candidate import candidate_of
from harvest.core.money import usd
from harvest.core.nouns import Verdict, origin_of
from harvest.core.printable import one_line, printable
from harvest.endpoint import Prompt
from harvest.report.words import OUTCOMES, REASONS
from harvest.store import AnsweredAttempt

EACH = 3
"""How many traces of a kind the page shows."""
QUESTION_CHARS, CHAIN_CHARS, ANSWER_CHARS = 1_500, 6_000, 2_000
"""How many characters of a text the page shows."""
KINDS = {
    "right": "Right, drawn at random",
    "wrong": "Rejected, drawn at random",
    "dearest": "The dearest",
    "at_random": "Any, drawn at random",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A text as the page shows it, and how many characters of it are not shown."""

    text: str
    left_out: int


@dataclass(frozen=True, slots=True)
class ShownTrace:
    """What the page shows of one attempt."""

    question_id: str
    question: Shown
    gold: str | None
    reasoning: Shown | None
    answer: Shown
    is_accepted: bool
    verdict: str
    """What became of the attempt, in words."""
    details: tuple[str, ...]
    """What the checks say of it."""
    badges: tuple[str, ...]
    """Who answered, with how many tokens, at which cost, when."""


def shown(a: AnsweredAttempt, prompt: Prompt, teacher: str | None, *, imported: bool, from_public: bool) -> ShownTrace:
    """Returns what the page shows of one attempt. `teacher` is the name of the model that was asked."""
    candidate = candidate_of(a.id, a.sample, a.question, a.reply, prompt, imported=imported)
    reply, usage = a.reply, a.reply.usage
    chain = candidate.reasoning
    tokens = None if usage.output_tokens is None else f"{usage.output_tokens:,} tokens"
    cost = None if a.cost_pusd is None else f"{usd(a.cost_pusd)} USD"
    public = origin_of(reply, a.teacher, from_public=from_public)
    by = reply.served_by if public is None else f"public: {public['set']} ({public['licence']})"
    badges = (reply.served_model or teacher, by, tokens, cost, a.sent_at[:16].replace("T", " ") or None)
    return ShownTrace(
        question_id=one_line(a.question.id, 100),
        question=_cut(a.question.question, QUESTION_CHARS),
        gold=None if a.question.answer is None else one_line(a.question.answer, 300),
        reasoning=None if chain is None else _cut(chain, CHAIN_CHARS),
        answer=_cut(candidate.answer, ANSWER_CHARS),
        is_accepted=bool(a.accepted),
        verdict=_verdict(a),
        details=tuple(_detail(v) for v in {v.check: v for v in a.verdicts}.values()),
        badges=tuple(one_line(badge, 80) for badge in badges if badge),
    )


def _verdict(a: AnsweredAttempt) -> str:
    if a.accepted is None:
        return "not judged yet"
    if a.accepted:
        return "accepted"
    reason = a.reason or "unknown"
    return f"rejected: {REASONS.get(reason, one_line(reason, 60).replace('_', ' '))}"


def _detail(v: Verdict) -> str:
    said = OUTCOMES.get(v.outcome, str(v.outcome))
    return f"{v.check}: {said}" + (f" ({one_line(v.detail, 300)})" if v.detail else "")


def _cut(text: str, most: int) -> Shown:
    """Returns the beginning of a text. Characters that cannot be shown become spaces."""
    kept = text[:most]
    return Shown(printable(kept, also="\n\t"), len(text) - len(kept))


def by_kind(traces: Mapping[int, ShownTrace], picks: Mapping[str, Iterable[int]]) -> dict[str, list[ShownTrace]]:
    """Returns the traces under the heading of each kind. A trace is shown once, under the first kind it is of."""
    found, seen = dict[str, list[ShownTrace]](), set[int]()
    for kind, heading in KINDS.items():
        of_kind = [n for n in picks[kind] if n in traces and n not in seen]
        seen |= set(of_kind)
        if of_kind:
            found[heading] = [traces[n] for n in of_kind]
    return found
