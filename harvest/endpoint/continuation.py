"""Asks an endpoint to go on with an answer that was cut at its token limit, and reads the rest that comes. Pure.

The cut answer is sent as the last message, and the endpoint is told to continue this message in place of beginning a
new one. There is no standard for that, so each way that is known has a form here. Whether an endpoint goes on, and
where the rest begins, is seen from its reply. If that cannot be seen, the reply is refused: no text is ever guessed.

To add a form, add an entry to FORMS, with the page or source that documents it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from harvest.core.chain_marks import THINK
from harvest.core.errors import RowRefused
from harvest.core.foreign_json import Json, as_dict
from harvest.core.nouns import Claim, Continuation, Reply
from harvest.endpoint.failures import is_error, reply_of
from harvest.endpoint.reply import choice_of, raw_texts, read_document, truncated

OPEN, CLOSE = THINK
SURE_CHARACTERS = 32
"""No text repeats so many characters by chance at a seam, so such a repetition comes from the endpoint."""
LEAST_GROWTH = 0.8
"""The input must have grown by this share of the tokens that had come, or the endpoint has not read them."""
LONGEST_REPEATED = 400
"""Only so many characters at the end of what was sent are looked for at the beginning of the reply."""


class NotContinued(Exception):
    """Says why a reply is not taken for the rest of the answer that was sent.

    `by_endpoint` says that the endpoint does not go on with cut answers. Otherwise it may: only of this one answer
    nobody can know where its rest begins.
    """

    def __init__(self, words: str, *, by_endpoint: bool = True) -> None:
        super().__init__(words)
        self.by_endpoint = by_endpoint


def _prefix(cut: Reply) -> tuple[Json, Json]:
    chain = {"reasoning_content": cut.reasoning} if cut.reasoning else {}
    return {"role": "assistant", "content": cut.answer, **chain, "prefix": True}, {}


def _final_message(cut: Reply) -> tuple[Json, Json]:
    flags: Json = {"continue_final_message": True, "add_generation_prompt": False}
    if cut.reasoning and not cut.answer:  # no template leaves a chain open, so it goes where the text goes
        return {"role": "assistant", "content": f"{OPEN}\n{cut.reasoning}"}, flags
    chain = {"reasoning_content": cut.reasoning, "reasoning": cut.reasoning} if cut.reasoning else {}
    return {"role": "assistant", "content": cut.answer, **chain}, flags


FORMS: Mapping[str, Callable[[Reply], tuple[Json, Json]]] = {
    # vLLM (vllm/entrypoints/openai/chat_completion/protocol.py) and SGLang; llama.cpp's server continues a last message
    # of the assistant without being told, and sends it again in front of the rest (tools/server/server-common.cpp).
    "continue_final_message": _final_message,
    # DeepSeek at /beta: https://api-docs.deepseek.com/guides/chat_prefix_completion, and Mistral.
    "prefix": _prefix,
}
"""Maps each form to a function that returns (the last message, what the body has beside it) for a cut answer."""
PREFIX_HOSTS = ("deepseek.com", "mistral.ai")


def forms_for(base_url: str | None) -> list[str]:
    """Returns all forms, the likeliest for this address first."""
    host = urlsplit(base_url or "").hostname or ""
    return sorted(FORMS, key=lambda form: (form == "prefix") != host.endswith(PREFIX_HOSTS))


def continuing_body(body: Mapping[str, Any], going_on: Continuation) -> dict[str, Any]:
    """Returns the body of a request with the cut answer as its last message."""
    message, beside = FORMS[going_on.form](going_on.cut)
    return {**body, "messages": [*body["messages"], message], **beside}


def read_rest(document: Json, going_on: Continuation) -> Reply:
    """Returns the reply that a document holds, with the rest of the cut answer alone.

    Raises RowRefused, whose cause is a NotContinued, when the reply is not the rest, or when nobody can know where the
    rest begins. The error holds the reply: it is booked at its cost, and its cost is in doubt if the reply has no
    usage. Raises the AttemptFailed of `reply_of` when the document holds no reply.
    """
    try:
        return _read_rest(document, going_on)
    except NotContinued as e:
        reply = read_document(document)
        if reply.usage.output_tokens is None and reply.usage.cost_pusd is None:
            reply = replace(reply, claims=(Claim("usage", "no usage beside an answer that does not go on"),))
        raise RowRefused(f"the endpoint does not go on with a cut answer: {e}", None, reply) from e


def _read_rest(document: Json, going_on: Continuation) -> Reply:
    choice = choice_of(document)
    chain, said = raw_texts(as_dict(choice.get("message")))
    sent = str(FORMS[going_on.form](going_on.cut)[0]["content"])
    told_again = said.startswith(sent) and len(sent) >= SURE_CHARACTERS
    chain = _without_repeated(chain, going_on.cut.reasoning or "", going_on)
    said = _without_repeated(said, sent, going_on)
    of_chain, of_answer = _rest(chain, said, going_on, ended=not truncated(read_document(document)))
    message = {"role": "assistant", "reasoning_content": of_chain, "content": of_answer}
    of_rest = {**document, "choices": [{**choice, "message": message}]} if choice else document
    ended_at_once = bool(choice) and not is_error(document) and not (of_chain or of_answer)
    is_whole = ended_at_once and choice.get("finish_reason") == "stop"
    reply = read_document(of_rest) if is_whole else reply_of(of_rest)
    _look_at_input(going_on, reply, told_again)
    return replace(reply, reasoning=of_chain, reasoning_kind="chain" if of_chain else None, answer=of_answer)


def _without_repeated(text: str, sent: str, going_on: Continuation) -> str:
    """Returns the text without what was sent, if the endpoint sends that again in front of it."""
    if sent and text.startswith(sent):
        if len(sent) < SURE_CHARACTERS:
            words = f"it begins with the {len(sent)} characters that were sent: nobody knows if they came again"
            raise NotContinued(words, by_endpoint=False)
        return text[len(sent) :]
    for n in range(min(len(text), len(sent), LONGEST_REPEATED), SURE_CHARACTERS - 1, -1):
        if sent.endswith(text[:n]):
            words = f"it repeats the last {n} characters of what was sent"
            raise NotContinued(words, by_endpoint=not going_on.is_known)
    return text


def _rest(chain: str, said: str, going_on: Continuation, *, ended: bool) -> tuple[str | None, str]:
    """Returns (the rest of the chain, the rest of the answer) of a reply's raw texts. The first is None if the chain
    was over, or there is none."""
    if going_on.part == "chain":
        if chain.strip():
            return _without_opening(chain), said
        text = _without_opening(said)
        head, closed, tail = text.partition(CLOSE)
        if closed:
            return head.rstrip(), tail.lstrip()
        if going_on.form == "prefix":  # such endpoints have a field for the chain, and that is empty
            return "", text
        if text and ended:
            raise NotContinued("it does not say where the chain ends", by_endpoint=False)
        return text, ""
    if chain.strip() and said.strip():
        raise NotContinued("it thinks anew in place of going on with the answer")
    text = chain if chain.strip() else said  # a server that looks for a chain takes what has no end mark for one
    if OPEN in text or (CLOSE in text and going_on.cut.reasoning):
        raise NotContinued("it thinks anew in place of going on with the answer")
    head, closed, tail = text.partition(CLOSE)
    return (head.rstrip(), tail.lstrip()) if closed else (None, text)


def _without_opening(chain: str) -> str:
    """Returns the rest of a chain without the opening mark, which some endpoints send again."""
    bare = chain.lstrip()
    return bare.removeprefix(OPEN).removeprefix("\n") if bare.startswith(OPEN) else chain


def _look_at_input(going_on: Continuation, reply: Reply, told_again: bool) -> None:
    """Raises NotContinued unless the second request's input is longer than the first one's by the number of tokens that
    the first reply brought.

    An endpoint that reads the cut answer as a finished message has a few tokens more, for the next message's beginning.
    This tells only where nothing is known of the endpoint: a template may write some tokens of its own.
    """
    first, second, came = going_on.cut.usage.input_tokens, reply.usage.input_tokens, going_on.cut.usage.output_tokens
    if first is None or second is None or came is None:
        if not (going_on.is_known or told_again):
            raise NotContinued(
                "it does not say how long its input was, so nobody can see whether it has read the cut answer"
            )
        return
    grown = second - first
    if grown < LEAST_GROWTH * came:
        raise NotContinued(f"its input grew by {grown:,} tokens where {came:,} had come: it began anew")
    if not (going_on.is_known or told_again) and grown > came + 1:
        raise NotContinued(
            f"its input grew by {grown:,} tokens where {came:,} had come: it may have read a finished message"
        )
