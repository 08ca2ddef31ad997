"""Makes the candidate that filters, selection and export see: a chain, an answer, and the messages of the prompt."""

from collections.abc import Sequence
from typing import Protocol

from harvest.answers.boxes import split_at_final_box
from harvest.core.nouns import Candidate, Message, Question, Reply


class Asked(Protocol):
    """The prompt that an answer was asked with."""

    @property
    def reasoning(self) -> str:
        """Where the chain is when the endpoint does not send it apart: "endpoint" (nowhere) or "before_box"."""

    def messages(self, question: Question) -> Sequence[Message]: ...


def parts_of(reply: Reply, prompt_reasoning: str) -> tuple[str | None, str]:
    """(reasoning, answer) of a reply: as the endpoint sent them, else cut where the prompt says that the chain ends."""
    if reply.reasoning is not None and reply.reasoning_kind in (None, "chain"):
        return reply.reasoning, reply.answer
    if prompt_reasoning == "before_box" and (cut := split_at_final_box(reply.answer)) is not None and cut[0].strip():
        return cut[0].strip(), cut[1].strip()
    return None, reply.answer


def asked_under(imported: bool, reply: Reply) -> list[dict[str, str]]:
    """The system message that an imported answer was asked with. A collected answer has that of its prompt."""
    system = reply.extra.get("system") if imported else None
    return [{"role": "system", "content": system}] if isinstance(system, str) else []


def candidate_of(
    attempt_id: int, sample: int, question: Question, reply: Reply, prompt: Asked, *, imported: bool
) -> Candidate:
    """One answer with chain and answer apart. `imported`: another program asked for it, with its own system message."""
    reasoning, answer = parts_of(reply, prompt.reasoning)
    asked = (*asked_under(imported, reply), *prompt.messages(question))
    usage = reply.usage
    return Candidate(
        attempt_id, sample, question, asked, reasoning, answer, usage.reasoning_tokens, usage.output_tokens
    )
