"""Reads one record of an answer that was paid for elsewhere: its question, its reply, and what it cost. Pure.

`READERS` is the one table of layouts. To add a layout, write a function that reads it, add a row to the table that says
how the layout is recognised, and add a test with a real record to tests/harvest/commands/test_import.py.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from harvest.core.chain_marks import SOLUTION, THOUGHT
from harvest.core.claims import bill_of
from harvest.core.errors import Cut
from harvest.core.foreign_json import Json, as_dict, as_list, as_text, clean, label, parse, plain
from harvest.core.money import MOST_USD, amount, pusd
from harvest.core.nouns import Reply
from harvest.core.printable import one_line
from harvest.questions.rows import BadRow

ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant",
}  # fmt: skip
"""Maps the names of speakers, as OpenAI and ShareGPT write them, to OpenAI's names."""

GOLD_FIELDS = ("answer", "choices", "tests", "cases", "reasoning_gym")
OF_A_QUESTION = frozenset(
    {"question", "problem", "gold", "entry_point", "test", "test_list", "question_content", *GOLD_FIELDS}
)
"""If a record has one of these fields, its `id` names the question; else its `id` names the call."""
NOT_OF_A_QUESTION = frozenset({"response", "messages", "conversations", "metadata", "system", "usage"})
COSTS = ("response_cost", "cost_usd", "total_cost", "spend", "cost")
"""The fields in which a log may say what a call cost, in USD. They are those of LiteLLM's payload, our own lines,
OpenRouter, LiteLLM's table and other programs, in this order."""
MOMENTS = ("startTime", "created", "created_at", "asked_at", "timestamp")
ID_NAMES = ("custom_id", "question_id", "id")


class NoAnswer(ValueError):
    """The record is of a request that brought no answer."""


@dataclass(frozen=True, slots=True)
class ImportedAnswer:
    """Holds what one record says."""

    question: Json
    """The fields of a question's row, in our layout or a foreign one. Empty when the record does not hold the
    question."""
    names: tuple[str, ...]
    """The names by which a file of questions may know the question."""
    reply: Reply
    """Its `extra["system"]` holds the system message, if the question was asked under one."""
    cost_pusd: int | None
    cost_source: str
    """Where the cost comes from: "usage.cost" (the endpoint's own figure) or "log" (the gateway's figure). "none": no
    cost is known."""
    asked_at: str | None
    """The time of asking, in UTC. None: the record does not say."""


@dataclass(frozen=True, slots=True)
class _Found:
    """Holds what the reader of a layout finds in a record."""

    question: Json
    names: tuple[str, ...]
    document: Json
    """The answer, as a chat completion."""
    beside: Json
    """The fields that may hold the cost and the time of asking."""
    moments: object = None
    """May also hold the time of asking."""
    system: str | None = None
    """The system message under which the question was asked. None: there was none."""


def read_answer(row: Json, read_document: Callable[[Json], Reply]) -> ImportedAnswer:
    """Returns what a record says. `read_document` reads a chat completion (`harvest.endpoint.reply.read_document`).

    Raises BadRow, which names the field, or NoAnswer.
    """
    for recognises, read in READERS:
        if recognises(row):
            found = read(row)
            reply = read_document(found.document)
            if found.system:
                reply = replace(reply, extra={**reply.extra, "system": found.system})
            reply = bill_of(reply, ()).reply
            cost, source = _cost(reply, found.beside)
            places = (found.beside, as_dict(found.moments))
            moments = [_moment(place.get(name)) for place in places for name in MOMENTS]
            asked_at = next((m for m in moments if m), None)
            return ImportedAnswer(plain(found.question), found.names, reply, cost, source, asked_at)
    if OF_A_QUESTION & row.keys():
        raise BadRow("response: missing")
    raise BadRow(f"no known layout: it has {one_line(', '.join(map(str, row)), 120) or 'no fields'}")


# ---- the layouts


def _batch(row: Json) -> _Found:
    """Reads a line of OpenAI's batch output, which Mistral, Together and vLLM write too.

    https://platform.openai.com/docs/guides/batch
    """
    response = as_dict(row.get("response"))
    status, body = response.get("status_code"), response.get("body")
    if row.get("error") or (status is not None and status != 200) or not isinstance(body, dict):
        error = as_dict(row.get("error")) or as_dict(as_dict(body).get("error"))
        said = as_text(error.get("message")) or as_text(error.get("code"))
        raise NoAnswer(one_line(said, 120) or f"status {one_line(str(status), 20)}")
    return _Found({}, _names(row), _chat_completion("response.body", body, row), row, body)


def _stored(row: Json) -> _Found:
    """Reads a chat completion that stands alone, as in OpenAI's list of stored completions.

    It holds no messages, unless whoever exported it added them. Without messages, the question is found by `metadata`.
    https://platform.openai.com/docs/api-reference/chat/list
    """
    asked = _messages(row.get("messages") or row.get("input") or [])
    question, system = _asked(asked, "messages") if asked else ({}, None)
    metadata = plain(as_dict(row.get("metadata")))
    kept = {k: v for k, v in metadata.items() if k in ("answer", "domain", "source", "licence") and question}
    names = _names(as_dict(row.get("metadata")))
    return _Found(question | kept, names, _chat_completion("choices", row, {}), {}, row, system)


def _generation_data(row: Json) -> Json:
    return as_dict(row.get("data")) or row


def _generation(row: Json) -> _Found:
    """Reads OpenRouter's stored prompt and completion. The figures of the generation may stand beside them.

    https://openrouter.ai/docs/client-sdks/typescript/models/generationcontentdata
    """
    data = _generation_data(row)
    figures = row | data
    given, made = as_dict(data["input"]), as_dict(data["output"])
    question, system = _asked(_messages(given.get("messages") or given.get("prompt") or []), "input.messages")
    usage = {
        "prompt_tokens": figures.get("native_tokens_prompt"),
        "completion_tokens": figures.get("native_tokens_completion"),
        "completion_tokens_details": {"reasoning_tokens": figures.get("native_tokens_reasoning")},
    }
    message = {"content": made.get("completion"), "reasoning": made.get("reasoning")}
    document = {
        "id": figures.get("id"),
        "model": figures.get("model"),
        "provider": figures.get("provider_name"),
        "choices": [{"message": message, "finish_reason": figures.get("finish_reason")}],
        "usage": {k: v for k, v in usage.items() if v is not None},
    }
    return _Found(question, _names(figures), document, figures, document, system)


def _exchange(row: Json) -> _Found:
    """Reads one of our own lines or of a gateway's log: it has a `response`, and a question's fields or `messages`.

    LiteLLM: https://docs.litellm.ai/docs/proxy/logging_spec
    """
    if row.get("status") == "failure" or (row.get("response") is None and row.get("error_str")):
        raise NoAnswer(one_line(as_text(row.get("error_str")), 120) or "the call failed")
    asked, system = _asked(_messages(row["messages"]), "messages") if row.get("messages") else ({}, None)
    document = _chat_completion("response", row["response"], row)
    return _Found(_question_fields(row, asked), _names(row), document, row, row["response"], system)


def _conversation(row: Json) -> _Found:
    """Reads a row of a dataset: ShareGPT's `conversations`, Sky-T1's `conversations` with `system`, or `messages`.

    https://huggingface.co/datasets/NovaSky-AI/Sky-T1_data_17k
    """
    field = "conversations" if isinstance(row.get("conversations"), list) else "messages"
    turns = _messages(row[field])
    if not turns or turns[-1][0] != "assistant":
        raise BadRow(f"{field}: its last turn is not the assistant's")
    asked, system = _asked(turns[:-1], field)
    system = system or clean(as_text(row.get("system"))).strip() or None
    message = turns[-1][1]
    given = message.get("content") if "content" in message else message.get("value")
    answer = _of_text(as_text(given)) | {k: v for k, v in message.items() if k not in ("content", "value", "from")}
    return _Found(_question_fields(row, asked), _names(row), _document(answer, row), row, {}, system)


READERS: tuple[tuple[Callable[[Json], bool], Callable[[Json], _Found]], ...] = (
    (lambda r: "custom_id" in r and isinstance(r.get("response"), dict | None) and "question" not in r, _batch),
    (lambda r: r.get("object") == "chat.completion" and "response" not in r, _stored),
    (lambda r: all(isinstance(_generation_data(r).get(name), dict) for name in ("input", "output")), _generation),
    (lambda r: "response" in r, _exchange),
    (lambda r: any(isinstance(r.get(name), list) for name in ("conversations", "messages")), _conversation),
)
"""(whether a record has this layout, the function that reads it). The first layout that recognises a record reads
it."""


# ---- what they share


def _question_fields(row: Json, asked: Json) -> Json:
    """Returns the fields of a record that may belong to its question.

    If the record has no field with the question's text, the text in `asked`, which is from the messages, is added. If
    there is a field `gold`, it is the gold answer, and `answer` is the teacher's answer, as in our own exports.
    """
    fields = {k: v for k, v in row.items() if k not in NOT_OF_A_QUESTION}
    if not OF_A_QUESTION & row.keys():
        fields.pop("id", None)
    if "gold" in row:
        fields["answer"] = row["gold"]
        fields["id"] = row.get("question_id") or row.get("id")
    return fields if {"question", "problem"} & fields.keys() else fields | asked


def _names(row: Json) -> tuple[str, ...]:
    """Returns the names by which a file of questions may know the record's question. The most likely name comes
    first."""
    metadata = as_dict(row.get("metadata"))
    places = (row, metadata, as_dict(metadata.get("requester_metadata")), as_dict(metadata.get("spend_logs_metadata")))
    found = (place.get(name) for place in places for name in ID_NAMES)
    return tuple(dict.fromkeys(clean(str(v)) for v in found if isinstance(v, str) or type(v) is int))


Turn = tuple[str, Mapping[str, Any]]


def _messages(value: object) -> list[Turn]:
    """Returns (role, message) of each turn. `value` is a list of messages, JSON text of such a list, or one prompt as
    text."""
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                return _messages(parse(value.encode("utf-8", "surrogatepass")))
            except (Cut, BadRow):
                pass
        value = [{"role": "user", "content": value}] if value.strip() else []
    if not isinstance(value, list):
        raise BadRow("messages: not a list")
    turns: list[Turn] = []
    for message in map(as_dict, value):
        role = message.get("role") if "role" in message else message.get("from")
        if not isinstance(role, str) or role not in ROLES:
            raise BadRow(f"messages: a turn of {one_line(str(role), 40)!r}; there may be system, user and assistant")
        turns.append((ROLES[role], message))
    return turns


def _asked(turns: list[Turn], field: str) -> tuple[Json, str | None]:
    """Returns (the question's text as a field, the system message) from the turns before the answer.

    The system message is None when there is none. Raises BadRow unless there is exactly one turn of the user and none
    of the assistant.
    """
    texts: dict[str, list[str]] = {"system": [], "user": [], "assistant": []}
    for role, message in turns:
        content = message.get("content") if "content" in message else message.get("value")
        if isinstance(content, list) and any(not isinstance(as_dict(p).get("text"), str) for p in content):
            raise BadRow(f"{field}: a turn holds more than text")
        texts[role].append(clean(as_text(content)))
    if len(texts["user"]) != 1 or texts["assistant"]:
        n = len(texts["user"]) + len(texts["assistant"])
        raise BadRow(f"{field}: {n} turns before the answer; it must be one question, asked by the user")
    return {"question": texts["user"][0]}, "\n\n".join(t for t in texts["system"] if t.strip()) or None


def _chat_completion(field: str, response: object, row: Json) -> Json:
    """Returns `response` as a chat completion. It may be a whole chat completion, only its message, or a text.

    `row` holds the fields that stand beside the response.
    """
    if isinstance(response, str):
        if response.lstrip().startswith("{") and '"choices"' in response:
            try:
                return _chat_completion(field, parse(response.encode("utf-8", "surrogatepass")), row)
            except (Cut, BadRow):
                pass
        thought = {"reasoning_content": row.get("reasoning_content") or row.get("reasoning")}
        return _document(thought | _of_text(response), row)
    if not isinstance(response, dict):
        raise BadRow(f"{field}: neither a text nor a chat completion")
    if as_list(response.get("choices")):
        beside = {"usage": _usage_beside(row), "provider": row.get("custom_llm_provider")}
        return beside | {k: v for k, v in response.items() if v is not None}
    if response.get("error"):
        error = response["error"]
        raise NoAnswer(one_line(as_text(as_dict(error).get("message")) or as_text(error), 120) or "an error")
    if "content" in response:
        return _document(response, row)
    raise BadRow(f"{field}: no chat completion (it has no `choices`)")


def _document(message: Json, row: Json) -> Json:
    """Returns a message as a chat completion, with what the record says beside it."""
    named = {name: row.get(name) for name in ("model", "provider", "system_fingerprint")}
    choice = {"message": message, "finish_reason": row.get("finish_reason")}
    return {k: v for k, v in named.items() if v is not None} | {"choices": [choice], "usage": _usage_beside(row)}


def _usage_beside(row: Json) -> Json:
    """Returns the token counts that a record holds beside the answer."""
    counts = ("prompt_tokens", "completion_tokens", "total_tokens")
    return as_dict(row.get("usage")) or {name: row[name] for name in counts if name in row}


def _of_text(text: str) -> Json:
    """Returns a text as a message. A chain in Sky-T1's marks becomes its reasoning; if the chain never ends, the answer
    is ""."""
    if THOUGHT[0] not in text:
        return {"content": text}
    thought, _, rest = text.partition(THOUGHT[0])[2].partition(THOUGHT[1])
    marked = rest.partition(SOLUTION[0])
    return {"reasoning_content": thought.strip(), "content": (marked[2] or rest).partition(SOLUTION[1])[0].strip()}


def _cost(reply: Reply, row: Json) -> tuple[int | None, str]:
    """Returns (cost in picodollars, who says so), or (None, "none") when no cost is known.

    What the endpoint says it billed takes precedence over what a gateway calculated.
    """
    if reply.usage.cost_pusd is not None:
        return reply.usage.cost_pusd, "usage.cost"
    if row.get("response_cost_failure_debug_info"):
        return None, "none"
    costs = (cost for name in COSTS if (cost := amount(row.get(name))) is not None and cost <= MOST_USD)
    return next(((pusd(cost), "log") for cost in costs), (None, "none"))


def _moment(value: object) -> str | None:
    """Returns a time in UTC, in the form that we write everywhere. `value` is Unix seconds or ISO 8601.

    None is returned for anything else.
    """
    try:
        if isinstance(value, int | Decimal) and not isinstance(value, bool) and 10**9 <= value < 10**10:
            when = datetime.fromtimestamp(math.floor(value * 1000) / 1000, UTC)
        elif isinstance(value, str) and len(value) <= 40:
            when = datetime.fromisoformat(value)
            when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        else:
            return None
    except (ValueError, OverflowError):
        return None
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown_names(names: tuple[str, ...]) -> str:
    """Returns the first three names, quoted, for a message."""
    return ", ".join(json.dumps(label(name), ensure_ascii=False) for name in names[:3])
