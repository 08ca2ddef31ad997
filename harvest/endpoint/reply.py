"""Reads a chat completion, as providers really send it, into a Reply. Pure.

A document always becomes a Reply, whatever is missing in it. failures.py decides whether the try has failed.

To add a quirk of a provider: save the reply as tests/replies/<provider>/<what>.json with the right reading of it, and
add an entry to the table that the quirk belongs to, with the page that documents the quirk.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from math import inf, nan

from harvest.core.foreign_json import Json, as_dict, as_list, as_text, clean, count, joined, kept, label, plain, unread
from harvest.core.money import MOST_USD, Usage, amount, pusd
from harvest.core.nouns import Reply, TokenLogprobs

CHAIN_FIELDS = ("reasoning", "reasoning_content", "thinking")
"""The fields that may hold a message's chain as one text. Only the first that is not empty counts, since some vLLM
versions send the same text in two fields."""

SUMMARY_FORMATS = frozenset({"google-gemini-v1"})
"""If one of OpenRouter's reasoning_details has such a `format`, its text is always a summary.
https://ai.google.dev/gemini-api/docs/thinking#summaries"""

TRUNCATED = frozenset({"length", "max_tokens", "model_length"})
"""Finish reasons of OpenAI, Anthropic and Mistral which mean that the answer ended at its token limit."""

COST_HEADER = "x-litellm-response-cost"

REPETITION = "repetition"
"""Our own finish_reason for an answer whose stream we broke off because it repeated itself."""

READ = frozenset({"id", "object", "model", "provider", "system_fingerprint", "choices", "usage"})
READ_OF_CHOICE = frozenset({"index", "message", "finish_reason", "logprobs", "token_ids", "usage"})
READ_OF_MESSAGE = frozenset({"role", "content", "tool_calls", "reasoning_details", *CHAIN_FIELDS})
"""READ, READ_OF_CHOICE and READ_OF_MESSAGE name the fields of a document, of its choice and of its message that are
read here. All other fields are stored in `Reply.extra`."""


def truncated(reply: Reply) -> bool:
    """Returns whether the reply ended at its token limit."""
    return (reply.finish_reason or "").lower() in TRUNCATED


def cut_short(reply: Reply) -> str | None:
    """Returns why the reply has no answer worth a check: "truncated" (it ended at its token limit) or "repetition" (it
    was broken off in a loop). Returns None when there is no such reason."""
    if reply.finish_reason == REPETITION:
        return REPETITION
    return "truncated" if truncated(reply) else None


def read_document(document: Json) -> Reply:
    """Returns the Reply of a chat completion, in which anything may be missing. Never raises."""
    choice = choice_of(document)
    message = as_dict(choice.get("message"))
    thought, kind, answer = _texts(message)
    extra = unread(document, READ)
    if of_choice := unread(choice, READ_OF_CHOICE):
        extra["choice"] = of_choice
    if of_message := unread(message, READ_OF_MESSAGE):
        extra["message"] = of_message
    if kind == "summary":
        extra["reasoning_summary"] = thought
    if (left_out := len(as_list(document.get("choices"))) - 1) > 0:
        extra["choices_left_out"] = left_out
    raw_usage = usage_in(document, choice)
    return Reply(
        answer=answer,
        reasoning=thought if kind == "chain" else None,
        reasoning_kind=kind,
        finish_reason=label(choice.get("finish_reason")),
        usage=_usage(raw_usage),
        raw_usage={key: kept(value) for key, value in plain(raw_usage).items()} if raw_usage else None,
        logprobs=_logprobs(choice),
        tool_calls=tuple(plain(call) for call in as_list(message.get("tool_calls")) if isinstance(call, dict)),
        served_model=label(document.get("model")),
        served_by=label(document.get("provider")),
        system_fingerprint=label(document.get("system_fingerprint")),
        response_id=label(document.get("id")),
        extra=extra,
    )


def choice_of(document: Json) -> Json:
    """Returns the first choice, or {} when there is none. We ask for only one answer at a time."""
    choices = as_list(document.get("choices"))
    if len(choices) == 1:
        return as_dict(choices[0])
    choices = [choice for choice in choices if isinstance(choice, dict)]
    return next((choice for choice in choices if choice.get("index") == 0), choices[0] if choices else {})


# The chain and the answer


def _texts(message: Json) -> tuple[str | None, str | None, str]:
    """Returns (text of the chain, kind of the chain, answer) of a message.

    Text and kind are None when there is no chain; for an encrypted chain only the text is None. If a part of a chain is
    encrypted, the chain is not whole, so the text beside that part counts as a summary.
    """
    in_content, answer, hidden = split_content(message.get("content"))
    answer = answer or as_text(message.get("refusal"))
    details = _details(message)
    hidden = hidden or any(d.get("type") == "reasoning.encrypted" for d in details)
    shown, only_summary = _shown(message, details, in_content)
    if shown:
        shown = clean(_untagged(shown))
        chain, rest = _split_tags(answer)
        answer = rest if chain and chain == shown.strip() else answer
    else:
        chain, answer = _split_tags(answer)
        shown = clean(chain)
    answer = clean(answer)
    if not shown:
        return None, "encrypted" if hidden else None, answer
    if hidden or only_summary or any(as_text(d.get("format")) in SUMMARY_FORMATS for d in details):
        return shown, "summary", answer
    return shown, "chain", answer


def raw_texts(message: Json) -> tuple[str, str]:
    """Returns (text of the chain, content) of a message as they were sent, with the tags that are in them."""
    in_content, answer, _ = split_content(message.get("content"))
    return clean(_shown(message, _details(message), in_content)[0]), clean(answer)


def _details(message: Json) -> list[Json]:
    return [d for d in as_list(message.get("reasoning_details")) if isinstance(d, dict)]


def _shown(message: Json, details: list[Json], in_content: str) -> tuple[str, bool]:
    """Returns (the chain's text from the first place that has one, whether that is only a summary)."""
    text = joined(d.get("text") for d in details if d.get("type") == "reasoning.text")
    summary = joined(d.get("summary") for d in details if d.get("type") == "reasoning.summary")
    # OpenRouter's `reasoning` joins both.
    fields = () if summary and text else tuple(as_text(message.get(name)) for name in CHAIN_FIELDS)
    places = (*fields, text, summary, in_content)
    return next((place for place in places if place.strip()), ""), bool(summary) and not text


def split_content(content: object) -> tuple[str, str, bool]:
    """Returns (chain, answer, whether a part is encrypted) of a message's content, which is a text or a list of
    parts."""
    thought, said, hidden = [], [], False
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            said.append(part)
        elif isinstance(part, dict):
            if part.get("type") in ("thinking", "reasoning"):
                thought.append(as_text(part.get("thinking")) or as_text(part.get("text")))
            elif part.get("type") == "redacted_thinking":
                hidden = True
            else:
                said.append(as_text(part.get("text")) or as_text(part.get("refusal")))
    return "".join(thought), "".join(said), hidden


def _split_tags(text: str) -> tuple[str, str]:
    """Returns (chain, answer) of a text that may hold both. The last `</think>` separates them.

    The opening tag is often missing, since the chat template wrote it. If the chain never ends, the answer is "".
    """
    head, closed, tail = text.rpartition("</think>")
    if closed:
        return _untagged(head).strip(), tail.lstrip()
    if text.lstrip().startswith("<think>"):
        return _untagged(text).strip(), ""
    return "", text


def _untagged(chain: str) -> str:
    """Returns the chain without a `<think>` at its start and a `</think>` at its end. The training layout writes new
    marks."""
    bare = chain.strip()
    inner = bare.removeprefix("<think>").removesuffix("</think>")
    return chain if inner == bare else inner.strip()


# Usage and money


def usage_in(document: Json, choice: Json) -> Json:
    """Returns the usage object, or {} when there is none. Groq's streams have it in `x_groq`, Moonshot's in the
    choice."""
    places = (document.get("usage"), as_dict(document.get("x_groq")).get("usage"), choice.get("usage"))
    return next((place for place in places if isinstance(place, dict) and place), {})


def _usage(raw: Json) -> Usage:
    """Returns token counts in one form: output includes reasoning, and input includes cached tokens.

    Endpoints may count otherwise. If a part is larger than its whole, the endpoint counted the two separately, so they
    are added. If the total shows that completion_tokens lacks the reasoning (xAI: 1 instead of 228), the output is
    total - prompt.
    """
    prompt, completion = count(raw.get("prompt_tokens")), count(raw.get("completion_tokens"))
    total = count(raw.get("total_tokens"))
    of_output, of_input = as_dict(raw.get("completion_tokens_details")), as_dict(raw.get("prompt_tokens_details"))
    reasoning = _first(of_output.get("reasoning_tokens"), raw.get("reasoning_tokens"))
    cached = _first(
        of_input.get("cached_tokens"),
        raw.get("prompt_cache_hit_tokens"),  # https://api-docs.deepseek.com/guides/kv_cache
        raw.get("cached_tokens"),  # Together, behind Hugging Face's router
    )
    output = completion
    if total is not None and prompt is not None:
        generated = total - prompt
        beyond = generated - (completion or 0)
        if beyond > 0 and (completion is None or reasoning is None or beyond == reasoning):
            output = generated
    if output is not None and reasoning is not None and reasoning > output:
        output += reasoning
    written = _first(
        of_input.get("cache_write_tokens"),
        of_input.get("cache_creation_tokens"),  # LiteLLM
        raw.get("cache_creation_input_tokens"),  # Anthropic
    )
    for_an_hour = count(as_dict(raw.get("cache_creation")).get("ephemeral_1h_input_tokens"))
    of_cache = (cached or 0) + (written or 0)
    if prompt is not None and of_cache > prompt:
        prompt += of_cache
    return Usage(prompt, cached, output, reasoning, _cost_pusd(raw), written, for_an_hour)


def _cost_pusd(raw: Json) -> int | None:
    """Returns what the endpoint says the call cost, in picodollars, or None when it does not say.

    OpenRouter sends `cost` in USD. If the user has an own key at a provider (`is_byok`), that is only OpenRouter's fee,
    and the provider bills the rest. The cost is then the sum of both, and unknown (None) when the provider's part is
    unknown.
    https://openrouter.ai/docs/use-cases/usage-accounting
    Perplexity sends an object with `total_cost`. https://docs.perplexity.ai/api-reference/sonar-post
    xAI sends ticks of 1e-10 USD. https://docs.x.ai/developers/cost-tracking
    """
    if (ticks := raw.get("cost_in_usd_ticks")) is not None:
        cost = None if (whole := amount(ticks)) is None else whole / 10_000_000_000
    else:
        told = raw.get("cost")
        cost = amount(told.get("total_cost") if isinstance(told, dict) else told)
    if cost is not None and raw.get("is_byok") is True:
        upstream = amount(as_dict(raw.get("cost_details")).get("upstream_inference_cost"))
        cost = None if upstream is None else cost + upstream
    return None if cost is None or cost > MOST_USD else pusd(cost)


def with_cost_in_headers(reply: Reply, headers: Mapping[str, str]) -> Reply:
    """Returns the reply with the cost that a LiteLLM proxy tells in a header, if the body tells none.
    https://docs.litellm.ai/docs/proxy/response_headers"""
    cost = amount(headers.get(COST_HEADER))
    if cost is None or cost > MOST_USD or reply.usage.cost_pusd is not None:
        return reply
    return replace(reply, usage=replace(reply.usage, cost_pusd=pusd(cost)))


def _first(*values: object) -> int | None:
    """Returns the first of the values that is a count, or None when there is no count among them."""
    return next((n for value in values if (n := count(value)) is not None), None)


# Log-probabilities

ID_AS_TOKEN = re.compile(r"token_id:([0-9]{1,9})")
LEAST = -60_000
"""A float16 holds no lower number."""


def _logprobs(choice: Json) -> TokenLogprobs | None:
    """Returns the log-probabilities of the sampled tokens, or None when the entries do not have OpenAI's form.

    DeepSeek lists the entries of the chain separately; they come first. Three kinds of servers send the ids of tokens:
    llama.cpp in each entry, vLLM with `return_tokens_as_token_ids` in place of the token's text, and vLLM with
    `return_token_ids` in the choice, for the sampled tokens alone. An id is never guessed from a text: two tokens may
    have the same text, and a text may be half a character.
    """
    shown = as_dict(choice.get("logprobs"))
    entries = [*as_list(shown.get("reasoning_content")), *as_list(shown.get("content"))]
    tops = [as_list(as_dict(entry).get("top_logprobs")) for entry in entries]
    everything = [*entries, *(top for among in tops for top in among)]
    if not entries or not all(isinstance(as_dict(entry).get("token"), str) for entry in everything):
        return None
    values = [_value(entry) for entry in entries]
    logprobs = struct.pack(f"<{len(values)}f", *(nan if v is None else v for v in values))
    are_ids = all(ID_AS_TOKEN.fullmatch(entry["token"]) for entry in everything)
    ids = _sampled_ids(choice, entries, are_ids)
    if ids is None:
        return TokenLogprobs(logprobs)
    kept = [_exact(among, are_ids) for among in tops]
    width = max(map(len, kept))
    padded = [(*among, *[(-1, -inf)] * (width - len(among))) for among in kept]
    flat = [pair for among in padded for pair in among]
    return TokenLogprobs(
        logprobs,
        struct.pack(f"<{len(ids)}i", *ids),
        width,
        struct.pack(f"<{len(flat)}i", *(i for i, _ in flat)),
        struct.pack(f"<{len(flat)}e", *(value for _, value in flat)),
        {} if are_ids else {i: _piece(e) for e, i in _named(entries, ids, tops)},
    )


def _value(entry: Json) -> float | None:
    """Returns an entry's log-probability. None: it has none, or what it has is none."""
    value = entry.get("logprob")
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not -(10**300) < value <= 0:
        return None
    return max(LEAST, float(value))


def _sampled_ids(choice: Json, entries: Sequence[Json], are_ids: bool) -> list[int] | None:
    """Returns the id of each sampled token. None: the endpoint did not send each of them."""
    of_choice = as_list(choice.get("token_ids"))
    if len(of_choice) == len(entries):
        found = [count(i) for i in of_choice]
    else:
        found = [_id_of(entry, are_ids) for entry in entries]
    ids = [i for i in found if i is not None]
    return ids if len(ids) == len(entries) else None


def _id_of(entry: Json, are_ids: bool) -> int | None:
    return int(entry["token"].removeprefix("token_id:")) if are_ids else count(entry.get("id"))


def _exact(among: Sequence[Json], are_ids: bool) -> list[tuple[int, float]]:
    """Returns (id, log-probability) of the most likely tokens that have both, each id once, the likeliest first."""
    found: dict[int, float] = {}
    for entry in among:
        i, value = _id_of(entry, are_ids), _value(entry)
        if i is not None and value is not None:
            found.setdefault(i, value)
    return sorted(found.items(), key=lambda pair: -pair[1])


def _named(entries: Sequence[Json], ids: Sequence[int], tops: Sequence[Sequence[Json]]) -> list[tuple[Json, int]]:
    """Returns each entry that has an id, with the id."""
    tried = [(entry, _id_of(entry, False)) for among in tops for entry in among]
    return [*zip(entries, ids, strict=True), *((entry, i) for entry, i in tried if i is not None)]


def _piece(entry: Json) -> bytes:
    """Returns the bytes of an entry's token, which may be a part of a character; b"" where nobody can know them."""
    sent = as_list(entry.get("bytes"))
    if sent and all(type(b) is int and 0 <= b < 256 for b in sent):
        return bytes(sent)
    text = clean(entry["token"])
    return b"" if "\ufffd" in text else text.encode()
