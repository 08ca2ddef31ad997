"""Names failures: chooses the class by the table of field.md §2, and quotes the endpoint's own words. Pure.

A failure carries a Reply with what could be read, since that may have been billed.
"""

import email.utils
import json
import re
from collections.abc import Mapping
from datetime import UTC
from http import HTTPStatus
from typing import NamedTuple

from harvest.core.errors import AttemptFailed, Cut, Gateway, Hollow, Passing, RowRefused, RunRefused, Throttled
from harvest.core.foreign_json import Json, as_dict, as_text, parse, plain
from harvest.core.nouns import Reply
from harvest.core.printable import one_line
from harvest.endpoint.reply import choice_of, read_document, truncated

BROKE_OFF = frozenset({"error", "abort", "insufficient_system_resource"})
"""Finish reasons of OpenRouter, vLLM and DeepSeek which mean that the answer broke off at the endpoint.
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
"""An error with one of these codes or types would meet every other row too, if its status is from 400 to 499."""

RUN_WORDS = re.compile(r"model not exist|not a valid model|incorrect api key|api key not valid", re.I)
"""Words in the message of a 400 that name the errors of RUN_CODES, for endpoints that send no code: DeepSeek,
OpenRouter, xAI, Gemini."""

ROW_WORDS = frozenset({"flagged_input", "reasons", "patterns"})
"""If a 403's error has one of these keys in its metadata, it is about one row: moderation flagged the row, or a
guardrail stopped it.
https://openrouter.ai/docs/api/reference/errors-and-debugging"""

STATUSES = frozenset(HTTPStatus)
THROTTLED_STATUSES = frozenset({429, 498, 503, 529})
"""Statuses which mean that we ask too fast. 498 is Groq's for a full flex tier. https://console.groq.com/docs/errors"""

GATEWAY_STATUSES = frozenset({408, 499, 504, *range(520, 525)})
"""Statuses of a gateway that stopped waiting for the model. The model may have finished, and may be billed.
https://github.com/BlockRunAI/blockrun-mcp/issues/76 saw a 524 after payment."""
LATE_GATEWAY_STATUSES, SOON_S = frozenset({500, 502}), 10.0
"""Statuses which mean the same as GATEWAY_STATUSES if they come more than SOON_S seconds after the request was sent."""

PARAMETERS = (
    "max_completion_tokens", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed",
    "reasoning_effort", "top_logprobs", "logprobs", "stream_options", "stream",
)  # fmt: skip
"""Parameters that we may send and an endpoint may refuse. A longer name stands before a shorter one that is part of
it."""
NAMED = re.compile(rf"(?<![a-z_])(?:{'|'.join(PARAMETERS)})(?![a-z_])")
"""Finds one of these parameters in a message."""

CONTEXT_WORDS = re.compile(r"context (?:length|window|size)|maximum context|n_ctx", re.I)
"""A refusal in these words may mean that max_tokens is too large, even if it does not name it."""

REFUSED_CODES = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter"})
REFUSED_WORDS = re.compile(
    r"unsupported|not supported|does(?: not|n't) support|unrecogni[sz]ed|unknown|unexpected|not permitted",
    re.I,
)


class EndpointError(NamedTuple):
    """Holds what an endpoint says went wrong."""

    message: str
    """One line; empty when the endpoint says nothing."""
    codes: frozenset[str]
    """The codes and types of the error, in lower case."""
    fields: Json
    """The error object as it was sent."""


def reply_of(document: Json) -> Reply:
    """Returns the reply that the document of a 200 holds. Raises an AttemptFailed when it holds none.

    A chain without an answer is a reply: it was paid for, and asking again would bring the same. An empty answer that
    ended at its token limit is a reply too; models with a hidden chain give such answers.
    """
    reply = read_document(document)
    if is_error(document):
        said = error_in(document).message or "an error without a message"
        raise Hollow(f"{said} (an error inside a 200)", None, reply)
    if not choice_of(document):
        raise Hollow("a 200 without choices", None, reply)
    reason = (reply.finish_reason or "").lower()
    if reason == "content_filter":
        raise RowRefused("the answer was stopped by the endpoint's content filter", None, reply)
    if reason in BROKE_OFF:
        raise Cut(f"the answer broke off (finish_reason {reason})", None, reply)
    thought = reply.reasoning or reply.extra.get("reasoning_summary")
    if not (reply.answer.strip() or thought or reply.tool_calls or truncated(reply)):
        raise Hollow("a 200 with an empty answer", None, reply)
    return reply


def is_error(document: Json) -> bool:
    """Returns whether the document is an error. vLLM's errors have no key `error`."""
    return bool(document.get("error")) or document.get("object") == "error"


def refusal(status: int, body: bytes, after_s: float = 0.0) -> AttemptFailed:
    """Returns the failure for a status other than 2xx that came `after_s` seconds after the request was sent. Its
    message begins with the endpoint's own words."""
    try:
        document = parse(body, ignore_rest=True)
    except Cut:
        document = None
    error = error_in(document)
    failure, hint = _class_of(status, error, after_s)
    phrase = f" {HTTPStatus(status).phrase}" if status in STATUSES else ""
    about = f"HTTP {status}{phrase}" + (f": {hint}" if hint else "")
    said = error.message or one_line(body, 120)
    reply = read_document(document) if isinstance(document, dict) and {"usage", "choices"} & document.keys() else None
    return failure(f"{said} ({about})" if said else about, None, reply)


def _class_of(status: int, error: EndpointError, after_s: float) -> tuple[type[AttemptFailed], str]:
    """Returns (class of the failure, what it means for the user) by the table of field.md §2."""
    metadata = as_dict(error.fields.get("metadata"))
    if status == 402 and metadata.get("limit_source") == "openrouter_in_flight_budget":
        # too much asked at once for the balance, not an empty one: https://openrouter.ai/docs/api/reference/limits
        return Throttled, "too much in flight for the balance"
    if status == 403 and ROW_WORDS & metadata.keys():
        return RowRefused, ""
    if status in GATEWAY_STATUSES or (status in LATE_GATEWAY_STATUSES and after_s > SOON_S):
        return Gateway, ""
    if status == 407:
        return Passing, "the proxy refuses: look into the variable that names it"
    if 400 <= status < 500:
        if code := next((code for code in RUN_CODES if code in error.codes), None):
            return RunRefused, RUN_CODES[code]
        if status in NOTHING_WILL_BE_ANSWERED:
            return RunRefused, NOTHING_WILL_BE_ANSWERED[status]
        if status == 400 and RUN_WORDS.search(error.message):
            return RunRefused, "the endpoint refuses the API key or the model"
    if status in THROTTLED_STATUSES:
        return Throttled, ""
    if status in (409, 425) or not 400 <= status < 500:
        return Passing, "redirects are never followed" if 300 <= status < 400 else ""
    return RowRefused, ""


def error_in(document: object) -> EndpointError:
    """Returns the error in a document, in whichever form the endpoint sends errors.

    OpenAI has an object under `error`; Ollama has a text under `error`; vLLM has no key `error`; FastAPI has `detail`;
    Gemini sends a list with one error; OpenRouter has the provider's own words under `metadata.raw`.
    """
    if isinstance(document, list) and document:
        document = document[0]
    whole = as_dict(document)
    error = whole.get("error") or whole
    if isinstance(error, str):
        return EndpointError(one_line(error), frozenset(), {})
    error = as_dict(error)
    metadata = as_dict(error.get("metadata"))
    message = error.get("message") or error.get("detail") or error.get("msg") or ""
    words = [message if isinstance(message, str) else json.dumps(plain(message), ensure_ascii=False)]
    if isinstance(raw := metadata.get("raw"), str):
        words.append(raw)
    codes = (error.get("code"), error.get("type"), metadata.get("error_type"), metadata.get("provider_code"))
    named = frozenset(str(code).lower() for code in codes if isinstance(code, str) or type(code) is int)
    return EndpointError(one_line(": ".join(word for word in words if word)), named, error)


def refused_parameter(status: int, body: bytes) -> str | None:
    """Returns which of PARAMETERS a 400 or 422 refuses, or None when it refuses none of them.

    OpenAI's reasoning models refuse `max_tokens` and `temperature`. A parameter whose value is too large does not count
    as refused.
    """
    if status not in (400, 422):
        return None
    try:
        error = error_in(parse(body, ignore_rest=True))
    except Cut:
        return None
    if not (error.codes & REFUSED_CODES or REFUSED_WORDS.search(error.message)):
        return None
    if (param := as_text(error.fields.get("param"))) in PARAMETERS:
        return param
    found = NAMED.search(error.message)
    return found[0] if found else None


def named_setting(message: str) -> str | None:
    """Returns the setting that a refusal of a row names, or None when it names none."""
    found = NAMED.search(message)
    if found is None:
        return "sampling.max_tokens" if CONTEXT_WORDS.search(message) else None
    name = {"max_completion_tokens": "max_tokens", "logprobs": "top_logprobs"}.get(found[0], found[0])
    return "teacher.stream" if name.startswith("stream") else f"sampling.{name}"


_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")


def retry_after_s(headers: Mapping[str, str], now_unix_s: float) -> float | None:
    """Returns how many seconds the endpoint asks us to wait, or None when no header says it readably.

    The header `retry-after-ms` is taken first, then `retry-after`, which holds seconds or an HTTP date.
    """
    if _SECONDS.fullmatch(ms := headers.get("retry-after-ms", "").strip()):
        return float(ms) / 1000
    after = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(after):
        return float(after)
    if not after:
        return None
    try:
        date = email.utils.parsedate_to_datetime(after)
        at_unix_s = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, at_unix_s - now_unix_s)
