"""Joins the two replies of an answer that was cut at its token limit and continued. Pure."""

from dataclasses import fields, replace

from harvest.core.money import Usage
from harvest.core.nouns import CutPart, Reply, Seam


def cut_part(cut: Reply) -> CutPart | None:
    """Returns the part of an answer that its limit cut. None: it cannot be continued, since nothing of it came, or not
    all that the model had written (its chain is hidden)."""
    if cut.reasoning_kind not in (None, "chain") or cut.tool_calls:
        return None
    if cut.answer.strip():
        return "answer"
    return "chain" if cut.reasoning else None


def joined(cut: Reply, rest: Reply) -> Reply:
    """Returns one reply out of two: `rest` begins at the character after the last one of `cut`.

    The usage is the sum of both, and unknown where one is. All else is as the second reply has it.
    """
    chain, answer = cut.reasoning, cut.answer
    if rest.reasoning is not None:  # the cut was in the chain, even where the template had written its opening mark
        chain, answer = answer.lstrip() if chain is None else chain, ""
    has_chain = chain is not None or rest.reasoning is not None
    logprobs = None if cut.logprobs is None or rest.logprobs is None else (*cut.logprobs, *rest.logprobs)
    return replace(
        rest,
        reasoning=(chain or "") + (rest.reasoning or "") if has_chain else None,
        reasoning_kind="chain" if has_chain else rest.reasoning_kind,
        answer=answer + rest.answer,
        usage=_sum(cut.usage, rest.usage),
        logprobs=logprobs,
        claims=(*cut.claims, *rest.claims),
        seam=Seam(len(chain or ""), len(answer), cut.response_id),
    )


def _sum(one: Usage, other: Usage) -> Usage:
    pairs = {f.name: (getattr(one, f.name), getattr(other, f.name)) for f in fields(Usage)}
    return Usage(**{name: None if None in pair else sum(pair) for name, pair in pairs.items()})
