"""Turns a row of any known layout into a conversation. A row that cannot be trained raises RowFault."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from finetune.rows.faults import RowFault
from finetune.rows.layout import LAYOUTS, Layout, turn
from finetune.rows.template import CHAIN_FIELDS
from harvest.core.nouns import Message

Row = Mapping[str, Any]
SPEAKERS = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant"}
"""Maps each name of a speaker in ShareGPT and similar datasets to the role that it means."""


def conversation(row: Row, layout: Layout) -> list[Message]:
    """Returns the messages of a row in any known layout. A chain in a separate field is put before its answer.

    Raises RowFault, which says what is wrong, when the row cannot be trained.
    """
    messages = [_message(k, m, layout) for k, m in enumerate(_given(row))]
    _check_roles([m["role"] for m in messages])
    messages[-1] = _cut_as_it_was_written(row, messages[-1], layout)
    for k, m in enumerate(messages):
        if not m["content"].strip() and m["role"] != "system":
            raise RowFault("empty", f"message {k} ({m['role']}) is empty")
        if m["role"] == "assistant":
            try:
                turn(m["content"], layout)
            except RowFault as e:
                raise RowFault(e.kind, f"message {k} (assistant): {e}") from None
    reasoning = row.get("reasoning")
    if isinstance(reasoning, str) and reasoning.strip() not in messages[-1]["content"]:
        raise RowFault(
            "lost", "the chain is lost: the row's `reasoning` does not stand in the assistant's last message"
        )
    if row.get("finish_reason") in ("length", "max_tokens"):
        raise RowFault("cut", "its answer was cut short (finish_reason is length)")
    return messages


def _cut_as_it_was_written(row: Row, last: Message, layout: Layout) -> Message:
    """Returns the last message with the recipe's marks around its chain and answer. The columns `reasoning` and
    `answer` say what is chain and what is answer. If they are missing, or the message is not these two texts in a known
    layout, it is returned unchanged. Columns are used because a text that quotes marks would be cut in the wrong place
    by reading its content.
    """
    reasoning, answer = row.get("reasoning"), row.get("answer")
    if not isinstance(reasoning, str) or not isinstance(answer, str):
        return last
    written = any(known.write(reasoning, answer) == last["content"] for known in LAYOUTS.values())
    return {**last, "content": layout.write(reasoning, answer)} if written else last


def has_chain(messages: Sequence[Message], layout: Layout) -> bool:
    """Whether the last answer has a chain, in the recipe's marks or in marks that are known by name."""
    return any(known.read(messages[-1]["content"]) for known in _in_order(messages[-1]["content"], layout))


def _in_order(content: str, layout: Layout) -> list[Layout]:
    return [k for k in (layout, *LAYOUTS.values()) if k.open.strip() and content.lstrip().startswith(k.open.strip())]


# ---- layouts of rows


def _given(row: Row) -> Sequence[Any]:
    """Returns the messages of a row as they stand there. Raises RowFault when the row's layout is not known."""
    for fields, read in _ROWS:
        if all(row.get(f) is not None for f in fields):
            given = read(row)
            if not isinstance(given, Sequence) or isinstance(given, str) or not given:
                raise RowFault("layout", f"`{fields[0]}` is no list of messages, or an empty one")
            return given
    raise RowFault(
        "layout", f"has neither `messages` nor `prompt` and `completion` (it has {', '.join(row) or 'nothing'})"
    )


def _sharegpt(row: Row) -> Sequence[Any]:
    """Reads `conversations` of `from` and `value` (ShareGPT, Sky-T1) or of role and content, and `system`."""
    given = row["conversations"]
    if not isinstance(given, Sequence) or isinstance(given, str):
        return []
    turns = [_spoken(m) if isinstance(m, Mapping) and "from" in m else m for m in given]
    system = row.get("system")
    return [*([{"role": "system", "content": system}] if system and isinstance(system, str) else []), *turns]


def _spoken(message: Row) -> Row:
    who = message["from"]
    rest = {k: v for k, v in message.items() if k not in ("from", "value")}
    return {**rest, "role": SPEAKERS.get(who, who) if isinstance(who, str) else who, "content": message.get("value")}


def _prompt_completion(row: Row) -> Sequence[Any]:
    return [*_as_messages(row["prompt"], "user"), *_as_messages(row["completion"], "assistant")]


def _alpaca(row: Row) -> Sequence[Any]:
    """Reads `instruction`, `input` and `output`, and LLaMA-Factory's `system` and `history` of pairs."""
    parts = [row["instruction"], row.get("input")]
    asked = "\n".join(p for p in parts if isinstance(p, str) and p) if isinstance(parts[0], str) else parts[0]
    turns: list[Any] = []
    if isinstance(row.get("system"), str) and row["system"]:
        turns.append({"role": "system", "content": row["system"]})
    for pair in row.get("history") or []:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise RowFault("layout", "`history` is no list of pairs of instruction and answer")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return [*turns, {"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]


def _columns(row: Row) -> Sequence[Any]:
    """Reads `question`, `reasoning` and `answer`, as datasets of chains often have them, and `system`."""
    system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    answer = {"role": "assistant", "content": row["answer"], CHAIN_FIELDS[0]: row["reasoning"]}
    return [*system, {"role": "user", "content": row["question"]}, answer]


_ROWS: tuple[tuple[tuple[str, ...], Callable[[Row], Sequence[Any]]], ...] = (
    (("messages",), lambda row: row["messages"]),
    (("conversations",), _sharegpt),
    (("prompt", "completion"), _prompt_completion),
    (("instruction", "output"), _alpaca),
    (("question", "reasoning", "answer"), _columns),
)
"""(the fields that a row of this layout must have, the function that reads such a row), for each known layout."""


def _as_messages(value: Any, role: str) -> Sequence[Any]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, Sequence):
        return value
    raise RowFault("layout", f"`{'prompt' if role == 'user' else 'completion'}` is neither text nor a list of messages")


# ---- one message


def _message(k: int, value: Any, layout: Layout) -> Message:
    if not isinstance(value, Mapping):
        raise RowFault("layout", f"message {k} is no table of role and content")
    role, content = value.get("role"), value.get("content")
    if role not in ("system", "user", "assistant"):
        raise RowFault("roles", f"message {k}: role {role!r} is none of system, user, assistant")
    if content is None:
        raise RowFault("content", f"message {k} ({role}): content is null")
    if not isinstance(content, str):
        raise RowFault("content", f"message {k} ({role}): content is {type(content).__name__}, not text")
    if value.get("tool_calls"):
        raise RowFault("tools", f"message {k} ({role}): tool calls cannot be trained yet")
    chain = next((value[f] for f in CHAIN_FIELDS if isinstance(value.get(f), str) and value[f].strip()), None)
    if chain is not None and role == "assistant":
        if not content.strip():
            raise RowFault("answer", f"message {k} (assistant): no answer after the chain")
        content = layout.write(chain, content)
    if lone := re.search("[\ud800-\udfff]", content):
        raise RowFault("characters", f"message {k} ({role}): half a character ({lone.group()!r}, a lone surrogate)")
    return {"role": role, "content": content}


def _check_roles(roles: Sequence[str]) -> None:
    if "assistant" not in roles:
        raise RowFault("nothing", "no assistant turn: nothing would be trained")
    turns = roles[1:] if roles[0] == "system" else roles
    for k, role in enumerate(turns):
        if role != ("user", "assistant")[k % 2]:
            raise RowFault(
                "roles", f"wrong order of roles: {', '.join(roles)}; they go (system,) user, assistant, user, …"
            )
    if roles[-1] != "assistant":
        raise RowFault("nothing", "does not end with an assistant's turn")
