"""Makes the candidate that filters, selection and export read: a chain, an answer, and the messages of the prompt."""

from collections.abc import Sequence
from typing import Protocol

from harvest.answers.boxes import split_at_final_box
from harvest.core.nouns import Candidate, Message, Question, Reply


class Asked(Protocol):
    """This is the prompt with which a teacher was asked for an answer."""

    @property
    def reasoning(self) -> str:
        """Says where the chain is when the endpoint sends no separate chain.

        With "before_box" the chain stands in the answer, before the last box. With "endpoint" only the endpoint could
        have sent a chain, so there is none.
        """

    def messages(self, question: Question) -> Sequence[Message]: ...


def parts_of(reply: Reply, prompt_reasoning: str) -> tuple[str | None, str]:
    """Returns (chain, answer) of a reply.

    If the endpoint sent a separate chain, both parts are as the endpoint sent them. Else, if `prompt_reasoning` is
    "before_box", the answer is cut by `split_at_final_box`. The chain is None when there is none.
    """
    if reply.reasoning is not None and reply.reasoning_kind in (None, "chain"):
        return reply.reasoning, reply.answer
    if prompt_reasoning == "before_box" and (cut := split_at_final_box(reply.answer)) is not None and cut[0].strip():
        return cut[0].strip(), cut[1].strip()
    return None, reply.answer


def asked_under(imported: bool, reply: Reply) -> list[dict[str, str]]:
    """Returns the system message with which another program asked for an imported answer, as a list of one message.

    The list is empty when the imported answer names no system message, and for every collected answer: the system
    message of a collected answer is among the messages of its prompt.
    """
    system = reply.extra.get("system") if imported else None
    return [{"role": "system", "content": system}] if isinstance(system, str) else []


def candidate_of(
    attempt_id: int, sample: int, question: Question, reply: Reply, prompt: Asked, *, imported: bool
) -> Candidate:
    """Returns one reply as a candidate, with its chain and its answer as two texts.

    `imported` says that another program asked for the reply, with that program's own system message.
    """
    reasoning, answer = parts_of(reply, prompt.reasoning)
    asked = (*asked_under(imported, reply), *prompt.messages(question))
    usage = reply.usage
    return Candidate(
        attempt_id, sample, question, asked, reasoning, answer, usage.reasoning_tokens, usage.output_tokens
    )
