"""What an OpenAI-compatible endpoint really sends → a Reply, or the failure that it is. Pure.

    read_response   a whole HTTP answer
    StreamReader    the same, as server-sent events
    retry_after_s   how long the endpoint asks us to wait
    truncated       whether a reply ran into its token limit
    refused_parameter   which of our parameters a 400 is about

Nothing here trusts a type: every field may be missing, null, or something else, and is then not there. What
parses as a chat completion becomes a Reply even where the try has failed, and the failure carries it as
`reply`: it may have been billed.

To add a quirk of a provider: save the reply as tests/replies/<provider>/<what>.json with what a right parse
gives, add the entry to the table that it belongs to, with the page that says so.
"""

import email.utils
import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC
from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from itertools import islice
from typing import Any

from harvest.errors import AttemptFailed, Cut, Hollow, Passing, RowRefused, RunRefused, Throttled
from harvest.money import Usage, pusd
from harvest.trace import Reply

Json = dict[str, Any]

CHAIN_FIELDS = ("reasoning", "reasoning_content", "reasoning_details", "thinking")
"""Where a message keeps its chain: the first that holds one is taken, since some vLLM versions send two of
them with the same text."""

SUMMARY_FORMATS = frozenset({"google-gemini-v1"})
"""`format` of OpenRouter's reasoning_details whose text is a summary by nature.
https://ai.google.dev/gemini-api/docs/thinking#summaries"""

TRUNCATED = frozenset({"length", "max_tokens", "model_length"})
"""Finish reasons that mean the token limit: OpenAI's word, Anthropic's, Mistral's."""

BROKE_OFF = frozenset({"error", "abort", "insufficient_system_resource"})
"""Finish reasons of an answer that the endpoint itself did not end: OpenRouter's, vLLM's, DeepSeek's.
https://openrouter.ai/docs/api/reference/errors-and-debugging
https://api-docs.deepseek.com/api/create-chat-completion"""

NOTHING_WILL_BE_ANSWERED = {
    401: "the endpoint refuses the API key",
    402: "the balance is used up",
    403: "the API key is not allowed to ask this",
    404: "the model is unknown, or base_url is wrong",
    405: "base_url is wrong",
    410: "the model is gone",
}

RUN_CODES = {
    "insufficient_quota": "the quota is used up",
    "insufficient_balance": "the balance is used up",
    "billing_hard_limit_reached": "the quota is used up",
    "exceeded_current_quota_error": "the quota is used up",  # Moonshot, with 429
    "1113": "the balance is used up",  # Z.ai, with 429
    "arrearage": "the balance is used up",  # DashScope, with 400
    "invalid_api_key": "the endpoint refuses the API key",
    "model_not_found": "the model is unknown",
    "invalid_model": "the model is unknown",  # Mistral, with 400
}
"""Codes and types of an error that no other row escapes, whatever the status below 500."""

RUN_WORDS = re.compile(r"model not exist|not a valid model|incorrect api key|api key not valid", re.I)
"""The same where a 400 says it in its message alone: DeepSeek, OpenRouter, xAI, Gemini."""

ROW_WORDS = frozenset({"flagged_input", "reasons", "patterns"})
"""Keys of an error's metadata that turn a 403 into a matter of one row: flagged by moderation, or stopped
by a guardrail. https://openrouter.ai/docs/api/reference/errors-and-debugging"""

THROTTLED_STATUSES = frozenset({429, 498, 503, 529})
"""498 is Groq's word for a full flex tier. https://console.groq.com/docs/errors"""

PARAMETERS = (
    "max_completion_tokens", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed",
    "reasoning_effort", "top_logprobs", "logprobs", "stream_options", "stream",
)  # fmt: skip
"""What we may send and an endpoint may refuse; a longer name before one that it contains."""

REFUSED_CODES = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter"})
REFUSED_WORDS = re.compile(
    r"unsupported|not supported|does(?: not|n't) support|unrecogni[sz]ed|unknown|unexpected|not permitted",
    re.I,
)

MOST_TOKENS = 1_000_000_000
MOST_USD = 10_000
"""No reply holds so many tokens, nor costs so much: a larger figure is none."""

KEPT_CHARACTERS = 16_384
KEPT_FIELDS = 64
KEPT_DEPTH = 16
"""Bounds of what is kept unread: of one field as JSON, of an object's fields, and how deep."""

NOT_EXTRA = frozenset({"id", "object", "model", "provider", "system_fingerprint", "choices", "usage"})
NOT_EXTRA_OF_CHOICE = frozenset({"index", "message", "finish_reason", "logprobs", "token_ids", "usage"})
NOT_EXTRA_OF_MESSAGE = frozenset({"role", "content", "tool_calls", *CHAIN_FIELDS})


# Whole answers


def read_response(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """The reply in a whole HTTP answer; `headers` have lower-case names.

    Raises the AttemptFailed that field.md §2 gives, with `reply` where the body holds one. A stream that
    nobody asked for is read as one.
    """
    if not 200 <= status < 300:
        raise _refusal(status, headers, body)
    if _EVENT_STREAM.match(body):
        reader = StreamReader()
        reader.feed(body)
        return reader.finish()
    document = _parse(body)
    if not isinstance(document, dict):
        raise Cut(f"the reply is no JSON object but {_line(body)}")
    return _judge(document, retry_after_s(headers, None))


def truncated(reply: Reply) -> bool:
    """Whether the reply ran into its token limit: it has no answer worth a check."""
    return (reply.finish_reason or "").lower() in TRUNCATED


def _judge(document: Json, retry_s: float | None = None) -> Reply:
    """What a 200 holds, or why it is no reply.

    A chain without an answer is a reply: it was paid for, and asking again buys the same. So is one that ran
    into its limit with nothing to show, as models with a hidden chain do.
    """
    reply = _read(document)
    if _is_error(document):
        said = _said(document)[0] or "an error without a message"
        raise Hollow(f"{said} (an error inside a 200)", retry_s, reply)
    if not _choice(document):
        raise Hollow("a 200 without choices", retry_s, reply)
    reason = (reply.finish_reason or "").lower()
    if reason == "content_filter":
        raise RowRefused("the answer was stopped by the endpoint's content filter", None, reply)
    if reason in BROKE_OFF:
        raise Cut(f"the answer broke off (finish_reason {reason})", retry_s, reply)
    thought = reply.reasoning or reply.extra.get("reasoning_summary")
    if not (reply.answer.strip() or thought or reply.tool_calls or truncated(reply)):
        raise Hollow("a 200 with an empty answer", retry_s, reply)
    return reply


def _read(document: Json) -> Reply:
    """A Reply from whatever is there. Never raises."""
    choice = _choice(document)
    message = _dict(choice.get("message"))
    thought, kind, answer = _texts(message)
    extra = _unread(document, NOT_EXTRA)
    if of_choice := _unread(choice, NOT_EXTRA_OF_CHOICE):
        extra["choice"] = of_choice
    if of_message := _unread(message, NOT_EXTRA_OF_MESSAGE):
        extra["message"] = of_message
    if kind == "summary":
        extra["reasoning_summary"] = thought
    if (left_out := len(_list(document.get("choices"))) - 1) > 0:
        extra["choices_left_out"] = left_out
    raw_usage = _usage_in(document, choice)
    return Reply(
        answer=answer,
        reasoning=thought if kind == "chain" else None,
        reasoning_kind=kind,
        finish_reason=_label(choice.get("finish_reason")),
        usage=_usage(raw_usage),
        raw_usage={key: _kept(value) for key, value in _plain(raw_usage).items()} if raw_usage else None,
        logprobs=_logprobs(choice),
        tool_calls=tuple(_plain(call) for call in _list(message.get("tool_calls")) if isinstance(call, dict)),
        served_model=_label(document.get("model")),
        served_by=_label(document.get("provider")),
        system_fingerprint=_label(document.get("system_fingerprint")),
        response_id=_label(document.get("id")),
        extra=extra,
    )


def _is_error(document: Json) -> bool:
    """By its key, or vLLM's way, which has none."""
    return bool(document.get("error")) or document.get("object") == "error"


def _choice(document: Json) -> Json:
    """The first choice, or {}: one answer is asked for at a time."""
    choices = [choice for choice in _list(document.get("choices")) if isinstance(choice, dict)]
    return next((choice for choice in choices if choice.get("index") == 0), choices[0] if choices else {})


# The chain and the answer


def _texts(message: Json) -> tuple[str | None, str | None, str]:
    """(text of the chain, its kind, answer) of a message.

    A chain of which a part is encrypted is not whole: what is shown beside it counts as a summary.
    """
    in_parts, answer, hidden = _content(message.get("content"))
    answer = answer or _text(message.get("refusal"))
    details = [d for d in _list(message.get("reasoning_details")) if isinstance(d, dict)]
    told = _joined(d.get("text") for d in details if d.get("type") == "reasoning.text")
    summary = _joined(d.get("summary") for d in details if d.get("type") == "reasoning.summary")
    hidden = hidden or any(d.get("type") == "reasoning.encrypted" for d in details)
    fields = (_text(message.get("reasoning")), _text(message.get("reasoning_content")))
    if summary and told:
        fields = ("", "")  # OpenRouter's `reasoning` joins both
    places = (*fields, told, summary, _text(message.get("thinking")), in_parts)
    if shown := next((text for text in places if text.strip()), ""):
        shown = _clean(_untagged(shown))
        chain, rest = _split_tags(answer)
        answer = rest if chain and chain == shown.strip() else answer
    else:
        chain, answer = _split_tags(answer)
        shown = _clean(chain)
    answer = _clean(answer)
    if not shown:
        return None, "encrypted" if hidden else None, answer
    only_summary = bool(summary) and not told
    if hidden or only_summary or any(_text(d.get("format")) in SUMMARY_FORMATS for d in details):
        return shown, "summary", answer
    return shown, "chain", answer


def _content(content: object) -> tuple[str, str, bool]:
    """(chain, answer, whether a part is encrypted) of a message's content: text, or a list of parts."""
    thought, said, hidden = [], [], False
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            said.append(part)
        elif isinstance(part, dict):
            if part.get("type") in ("thinking", "reasoning"):
                thought.append(_text(part.get("thinking")) or _text(part.get("text")))
            elif part.get("type") == "redacted_thinking":
                hidden = True
            else:
                said.append(_text(part.get("text")) or _text(part.get("refusal")))
    return "".join(thought), "".join(said), hidden


def _split_tags(text: str) -> tuple[str, str]:
    """(chain, answer) of a text that may hold both, apart by the last `</think>`; the opening tag is often
    missing, since the chat template wrote it. A chain that never ends has no answer."""
    head, closed, tail = text.rpartition("</think>")
    if closed:
        return _untagged(head).strip(), tail.lstrip()
    if text.lstrip().startswith("<think>"):
        return _untagged(text).strip(), ""
    return "", text


def _untagged(chain: str) -> str:
    """Without a `<think>` before and a `</think>` after, which the training layout writes anew."""
    bare = chain.strip()
    inner = bare.removeprefix("<think>").removesuffix("</think>")
    return chain if inner == bare else inner.strip()


# Usage and money


def _usage_in(document: Json, choice: Json) -> Json:
    """The usage object, or {}. Streams of Groq keep it in `x_groq`, Moonshot's in the choice."""
    places = (document.get("usage"), _dict(document.get("x_groq")).get("usage"), choice.get("usage"))
    return next((place for place in places if isinstance(place, dict) and place), {})


def _usage(raw: Json) -> Usage:
    """Inclusive counts from an endpoint's own, which leaves parts out here and there.

    A part that is larger than its whole was counted beside it. Where the total shows that completion_tokens
    lacks the reasoning (xAI: 1 against 228), what was generated is total - prompt.
    """
    prompt, completion = _count(raw.get("prompt_tokens")), _count(raw.get("completion_tokens"))
    total = _count(raw.get("total_tokens"))
    reasoning = _first(
        _count(_dict(raw.get("completion_tokens_details")).get("reasoning_tokens")),
        _count(raw.get("reasoning_tokens")),
    )
    cached = _first(
        _count(_dict(raw.get("prompt_tokens_details")).get("cached_tokens")),
        _count(raw.get("prompt_cache_hit_tokens")),  # https://api-docs.deepseek.com/guides/kv_cache
        _count(raw.get("cached_tokens")),  # Together, behind Hugging Face's router
    )
    output = completion
    if total is not None and prompt is not None:
        generated = total - prompt
        beyond = generated - (completion or 0)
        if beyond > 0 and (completion is None or reasoning is None or beyond == reasoning):
            output = generated
    if output is not None and reasoning is not None and reasoning > output:
        output += reasoning
    if prompt is not None and cached is not None and cached > prompt:
        prompt += cached
    return Usage(prompt, cached, output, reasoning, _cost_pusd(raw))


def _cost_pusd(raw: Json) -> int | None:
    """What the endpoint says the call cost, in picodollars.

    OpenRouter sends `cost` in USD. With the user's own key at a provider (`is_byok`) that is its fee alone,
    and the provider bills the rest: the cost is both, and unknown where the second is.
    https://openrouter.ai/docs/use-cases/usage-accounting
    xAI sends ticks of 1e-10 USD. https://docs.x.ai/developers/cost-tracking
    """
    if (ticks := raw.get("cost_in_usd_ticks")) is not None:
        cost = None if (amount := _amount(ticks)) is None else amount / 10_000_000_000
    else:
        cost = _amount(raw.get("cost"))
    if cost is not None and raw.get("is_byok") is True:
        upstream = _amount(_dict(raw.get("cost_details")).get("upstream_inference_cost"))
        cost = None if upstream is None else cost + upstream
    return None if cost is None or cost > MOST_USD else pusd(cost)


def _amount(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 <= value < 10**15:
        return None
    return Decimal(value)


def _count(value: object) -> int | None:
    """A number of things; what is a boolean, a fraction, a text or below zero counts nothing."""
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


# Log-probabilities

_ID_AS_TOKEN = re.compile(r"token_id:([0-9]{1,9})")


def _logprobs(choice: Json) -> tuple[Json, ...] | None:
    """One entry a sampled token, or None where they are not in OpenAI's shape; DeepSeek lists those of the
    chain apart. Ids only where the endpoint gives them: llama.cpp in each entry, vLLM in the choice
    (`return_token_ids`) or in place of the token (`return_tokens_as_token_ids`).
    """
    shown = _dict(choice.get("logprobs"))
    entries = [*_list(shown.get("reasoning_content")), *_list(shown.get("content"))]
    tops = [_list(_dict(entry).get("top_logprobs")) for entry in entries]
    everything = [*entries, *(top for among in tops for top in among)]
    if not entries or not all(isinstance(_dict(entry).get("token"), str) for entry in everything):
        return None
    as_tokens = all(_ID_AS_TOKEN.fullmatch(entry["token"]) for entry in everything)
    sampled = [_count(i) for i in _list(choice.get("token_ids"))]
    if len(sampled) != len(entries):
        sampled = [None] * len(entries)
    return tuple(
        {**_logprob(entry, as_tokens, i), "top": [_logprob(top, as_tokens) for top in among]}
        for entry, among, i in zip(entries, tops, sampled, strict=True)
    )


def _logprob(entry: Json, id_as_token: bool, sampled_id: int | None = None) -> Json:
    token, value = entry["token"], entry.get("logprob")
    exact = _count(entry.get("id")) if sampled_id is None else sampled_id
    if id_as_token:
        exact = int(token.removeprefix("token_id:"))
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not -(10**300) < value <= 0:
        value = None
    return {"token": _clean(token), "logprob": None if value is None else float(value), "id": exact}


# Streams

_EVENT_STREAM = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry)?:")
_LINE_END = re.compile(rb"\r\n|\n|\r")


class StreamReader:
    """Server-sent events, fed as they arrive and cut anywhere, into the same Reply as a whole answer.

    An endpoint that ignores `stream` and sends one JSON object is read as that.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._are_events: bool | None = None
        self._data: list[bytes] = []
        self._broken: str | None = None
        self._top: Json = {}
        self._choice: Json | None = None
        self._message: Json = {}
        self._texts: dict[str, list[str]] = {}
        self._content: list[Any] = []
        self._details: list[Any] = []
        self._tools: dict[int, Json] = {}
        self._logprobs: dict[str, list[Any]] = {}
        self._token_ids: list[Any] = []
        self.saw_done = False
        """The stream's own end, `[DONE]`: nothing worth reading comes after it."""

    def feed(self, data: bytes) -> None:
        """The next bytes, however cut. Never raises: what is wrong is said by `finish`."""
        self._rest += data
        if self._are_events is None:
            self._rest = self._rest.lstrip()
            self._are_events = self._rest[0] != ord("{") if self._rest else None
        if not self._are_events or (b"\n" not in data and b"\r" not in data):
            return
        held = b"\r" if self._rest.endswith(b"\r") else b""  # it may be half of a CRLF
        *lines, rest = _LINE_END.split(self._rest.removesuffix(held))
        self._rest = bytearray(rest + held)
        for line in lines:
            self._line(line)

    def finish(self) -> Reply:
        """The whole reply. Raises as `read_response` does, and Cut where neither a finish_reason nor
        `[DONE]` came; the failure's `reply` holds what had arrived."""
        if self._are_events is False:
            return read_response(200, {}, bytes(self._rest))
        for line in (*_LINE_END.split(self._rest), b""):
            self._line(line)
        self._rest.clear()
        document = self._document()
        reply = _read(document)
        if _is_error(document) and (reply.answer or reply.reasoning_kind or reply.tool_calls):
            raise Cut(f"{_said(document)[0] or 'an error'} (in the middle of the stream)", None, reply)
        if self._broken is not None:
            raise Cut(self._broken, None, reply)
        if not (self.saw_done or reply.finish_reason or _is_error(document)):
            raise Cut("the stream ended before the answer did", None, reply)
        return _judge(document)

    def partial(self) -> Reply:
        """What has arrived so far."""
        return _read(self._document())

    def _line(self, line: bytes | bytearray) -> None:
        if not line:
            data, self._data = self._data, []
            if data and not self.saw_done:
                self._event(data)
            return
        field, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
        if field == b"data":
            self._data.append(bytes(value))

    def _event(self, data: list[bytes]) -> None:
        """One event of several data lines, or several events whose blank lines the server forgot."""
        if len(data) > 1 and data[-1].strip() != b"[DONE]":
            try:
                return self._chunk(_parse(b"\n".join(data)))
            except Cut:
                pass
        for line in data:
            if line.strip() == b"[DONE]":
                self.saw_done = True
                return None
            try:
                self._chunk(_parse(line))
            except Cut as unreadable:
                # what opens no object is a keep-alive, but a lost chunk is a hole in an answer that goes on
                goes_on = not (self._choice and self._choice.get("finish_reason"))
                if goes_on and line.lstrip().startswith(b"{"):
                    self._broken = self._broken or unreadable.message
        return None

    def _chunk(self, chunk: object) -> None:
        document = _dict(chunk)
        self._top |= {key: value for key, value in document.items() if value is not None and key != "choices"}
        if not (choice := _choice(document)):
            return
        apart = ("delta", "message", "logprobs", "token_ids")
        told = {key: value for key, value in choice.items() if value is not None and key not in apart}
        self._choice = (self._choice or {}) | told
        for key, values in _dict(choice.get("logprobs")).items():
            self._logprobs.setdefault(key, []).extend(_list(values))
        self._token_ids.extend(_list(choice.get("token_ids")))
        self._delta(_dict(choice.get("delta")))

    def _delta(self, delta: Json) -> None:
        for key, value in delta.items():
            if key == "content":
                self._content.extend(value if isinstance(value, list) else [value])
            elif key == "reasoning_details":
                self._details.extend(_list(value))
            elif key == "tool_calls":
                for place, call in enumerate(_list(value)):
                    self._tool(place, _dict(call))
            elif isinstance(value, str) and key in (*CHAIN_FIELDS, "refusal"):
                self._texts.setdefault(key, []).append(value)
            elif value is not None:
                self._message[key] = value

    def _tool(self, place: int, call: Json) -> None:
        index = _count(call.get("index"))
        tool = self._tools.setdefault(place if index is None else index, {"function": {}})
        tool |= {key: value for key, value in call.items() if value is not None and key != "function"}
        for key, value in _dict(call.get("function")).items():
            if isinstance(value, str):
                tool["function"][key] = tool["function"].get(key, "") + value

    def _document(self) -> Json:
        """The chunks as one whole chat completion; without choices where none came."""
        message = self._message | {key: "".join(texts) for key, texts in self._texts.items()}
        message |= {"content": self._content, "reasoning_details": self._details}
        message["tool_calls"] = list(self._tools.values())
        choice = {"message": message, "logprobs": self._logprobs, "token_ids": self._token_ids}
        return self._top | {"choices": [] if self._choice is None else [self._choice | choice]}


# Failures


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> AttemptFailed:
    """The failure that a status other than 2xx is, with the endpoint's own words first."""
    try:
        document = _parse(body)
    except Cut:
        document = None
    said, codes, error = _said(document)
    failure, hint = _class_of(status, said, codes, _dict(error.get("metadata")))
    try:
        status_line = f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        status_line = f"HTTP {status}"
    about = f"{status_line}: {hint}" if hint else status_line
    said = said or _line(body, 120)
    reply = _read(document) if isinstance(document, dict) and {"usage", "choices"} & document.keys() else None
    return failure(f"{said} ({about})" if said else about, retry_after_s(headers, None), reply)


def _class_of(status: int, said: str, codes: frozenset[str], metadata: Json) -> tuple[type[AttemptFailed], str]:
    """(class, what it means for the user) by the table of field.md §2."""
    if status == 402 and metadata.get("limit_source") == "openrouter_in_flight_budget":
        # too much asked at once for the balance, not an empty one: https://openrouter.ai/docs/api/reference/limits
        return Throttled, "too much in flight for the balance"
    if status == 403 and ROW_WORDS & metadata.keys():
        return RowRefused, ""
    if 400 <= status < 500:
        if code := next((code for code in RUN_CODES if code in codes), None):
            return RunRefused, RUN_CODES[code]
        if status in NOTHING_WILL_BE_ANSWERED:
            return RunRefused, NOTHING_WILL_BE_ANSWERED[status]
        if status == 400 and RUN_WORDS.search(said):
            return RunRefused, "the endpoint refuses the API key or the model"
    if status in THROTTLED_STATUSES:
        return Throttled, ""
    if status in (408, 409, 425) or not 400 <= status < 500:
        return Passing, "redirects are never followed" if 300 <= status < 400 else ""
    return RowRefused, ""


def _said(document: object) -> tuple[str, frozenset[str], Json]:
    """(message, codes and types in lower case, error object) of an error in any of the shapes there are.

    OpenAI has an object under `error`; Ollama a text there; vLLM no such key; FastAPI `detail`; Gemini a list
    of one; OpenRouter the provider's own words under `metadata.raw`.
    """
    if isinstance(document, list) and document:
        document = document[0]
    whole = _dict(document)
    error = whole.get("error") or whole
    if isinstance(error, str):
        return _line(error), frozenset(), {}
    error = _dict(error)
    metadata = _dict(error.get("metadata"))
    message = error.get("message") or error.get("detail") or error.get("msg") or ""
    words = [message if isinstance(message, str) else json.dumps(_plain(message), ensure_ascii=False)]
    if isinstance(raw := metadata.get("raw"), str):
        words.append(raw)
    codes = (error.get("code"), error.get("type"), metadata.get("error_type"), metadata.get("provider_code"))
    named = frozenset(str(code).lower() for code in codes if isinstance(code, str) or type(code) is int)
    return _line(": ".join(word for word in words if word)), named, error


def refused_parameter(status: int, body: bytes) -> str | None:
    """Which of PARAMETERS a 400 or 422 says it does not take, or None: OpenAI's reasoning models refuse
    `max_tokens` and `temperature`. A parameter whose value alone is too large is not refused."""
    if status not in (400, 422):
        return None
    try:
        said, codes, error = _said(_parse(body))
    except Cut:
        return None
    if not (codes & REFUSED_CODES or REFUSED_WORDS.search(said)):
        return None
    if (param := _text(error.get("param"))) in PARAMETERS:
        return str(param)
    found = re.search(rf"(?<![a-z_])(?:{'|'.join(PARAMETERS)})(?![a-z_])", said)
    return found[0] if found else None


_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")


def retry_after_s(headers: Mapping[str, str], now_unix_s: float | None) -> float | None:
    """Seconds that the endpoint asks us to wait: `retry-after-ms`, else `retry-after` in seconds or, where
    `now_unix_s` is given, as an HTTP date. None where it says nothing that can be read."""
    if _SECONDS.fullmatch(ms := headers.get("retry-after-ms", "").strip()):
        return float(ms) / 1000
    after = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(after):
        return float(after)
    if now_unix_s is None or not after:
        return None
    try:
        date = email.utils.parsedate_to_datetime(after)
        at_unix_s = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, at_unix_s - now_unix_s)


# JSON that may be anything


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        return None


_DECODER = json.JSONDecoder(parse_float=_number, parse_constant=lambda _: None)
"""Money stays exact, and NaN and Infinity are no numbers."""


def _parse(data: bytes) -> Any:
    """JSON, blank lines around it or not. Raises Cut for all else."""
    try:
        return _DECODER.decode(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Cut("the reply is not UTF-8") from None
    except (ValueError, RecursionError):
        raise Cut(f"the reply is no JSON but {_line(data) or 'empty'}") from None


def _dict(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    """Text as it is, or the texts of a list of parts."""
    if isinstance(value, list):
        return _joined(part.get("text") if isinstance(part, dict) else part for part in value)
    return value if isinstance(value, str) else ""


def _joined(values: Iterable[object]) -> str:
    return "".join(value for value in values if isinstance(value, str))


def _clean(text: str) -> str:
    """Halves of a surrogate pair joined, which some servers send in two chunks; alone, they are no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _line(words: str | bytes, most: int = 600) -> str:
    """One printable line, for a message."""
    text = words[: 8 * most].decode("utf-8", "replace") if isinstance(words, bytes) else words[: 8 * most]
    line = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return line if len(line) <= most else line[: most - 1] + "…"


def _label(value: object) -> str | None:
    """A short name, or None."""
    return _line(value, 200) or None if isinstance(value, str) else None


def _unread(fields: Json, known: frozenset[str]) -> Json:
    """The fields that nobody here reads, bounded; those that say nothing are left out."""
    empty: tuple[object, ...] = (None, "", [], {})
    unread = ((key, value) for key, value in fields.items() if key not in known and value not in empty)
    return {_line(key, 200): _kept(value) for key, value in islice(unread, KEPT_FIELDS)}


def _kept(value: object) -> Any:
    """The value, or a note of its size where it is larger than anyone should store."""
    if isinstance(value, str) and len(value) > KEPT_CHARACTERS:
        return f"left out: {len(value)} characters"
    plain = _plain(value)
    if isinstance(plain, dict | list) and (size := len(json.dumps(plain))) > KEPT_CHARACTERS:
        return f"left out: {size} characters of JSON"
    return plain


def _plain(value: object, depth: int = 0) -> Any:
    """The value as JSON that every store takes: no Decimal, no half surrogate, nothing too deep.

    A decimal that a float does not hold to the last digit becomes a string.
    """
    if isinstance(value, Decimal):
        short = float(value)
        return short if math.isfinite(short) and Decimal(repr(short)) == value else str(value)
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, dict | list) and depth >= KEPT_DEPTH:
        return "left out: too deep"
    if isinstance(value, dict):
        return {_clean(key): _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, depth + 1) for inner in value]
    return value
