"""Puts a stream's server-sent events together into one document, which has the form of an answer in one piece. Pure.

The document is read like any other (response.py).
"""

from typing import Any

from harvest.answers.repetition import TAIL, Loop, loop_at_end
from harvest.core.errors import Cut
from harvest.core.foreign_json import Json, as_dict, as_list, as_text, count, parse
from harvest.endpoint.reply import CHAIN_FIELDS, SUMMARY_FORMATS, choice_of, split_content, usage_in

APART = frozenset({"delta", "message", "logprobs", "token_ids"})
"""The values of these fields in a chunk's choice are put together. Of each other field, only the last value is kept."""

TEXTS = frozenset({*CHAIN_FIELDS, "refusal"})
"""The fields of a delta that, like `content`, hold a piece of a text."""

DETAILS = {"reasoning.text": "text", "reasoning.summary": "summary", "reasoning.encrypted": ""}
"""Maps each kind of OpenRouter's reasoning_details to the field that holds its text."""

BLOCK = 4096
"""After this many new characters of a text, they are joined into one string, and the end of the text is searched for a
loop."""

HIDDEN_CHAIN = "thought"
"""Our name for the text of the thinking parts, when `content` is a list of parts."""


class Text:
    """Holds a text that arrives in pieces."""

    __slots__ = ("_blocks", "_pieces", "_size", "loop")

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._pieces: list[str] = []
        self._size = 0
        self.loop: Loop | None = None
        """The loop in which the text was at the end of its last block. None: it was in no loop."""

    def add(self, piece: str) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= BLOCK:
            self._blocks.append("".join(self._pieces))
            self._pieces, self._size = [], 0
            self.loop = loop_at_end("".join(self._blocks[-TAIL // BLOCK :]))

    def whole(self) -> str:
        return "".join(self._blocks) + "".join(self._pieces)


class EventStream:
    """Reads the events of one stream, which may arrive in any pieces, and puts their chunks together."""

    def __init__(self) -> None:
        self.has_begun = False
        self.saw_done = False
        """Whether the stream's own end, `[DONE]`, has come. What follows it is not read."""
        self.unreadable: str | None = None
        """What is wrong with the first chunk that could not be read, where the answer has a hole. None: nothing is
        wrong."""
        self._rest = b""
        self._data: list[bytes] = []
        self._top: Json = {}
        self._choice: Json | None = None
        self._message: Json = {}
        self._texts: dict[str, Text] = {}
        self._has_hidden_part = False
        self._formats: set[str] = set()
        self._tools: dict[int, Json] = {}
        self._logprobs: dict[str, list[Any]] = {}
        self._token_ids: list[Any] = []
        self._has_finished = False
        """Whether a finish_reason has come. Usage may still follow."""
        self._has_final_usage = False

    @property
    def loop(self) -> Loop | None:
        """Returns the loop that the chain or the answer has run into.

        None is returned when there is no loop, and when the answer has ended, since then nothing is left to break off.
        """
        if self.saw_done or self._has_finished:
            return None
        return next((text.loop for text in self._texts.values() if text.loop), None)

    # ---- bytes → events

    def feed(self, data: bytes) -> None:
        self.has_begun = True
        self._rest += data
        if b"\n" not in data and b"\r" not in data:
            return
        lines = self._rest.splitlines(keepends=True)
        # a last line without its end is not whole yet, and a \r at the end may be half of a \r\n
        self._rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
        for line in lines:
            self._line(line.rstrip(b"\r\n"))

    def end(self) -> None:
        """Ends the stream: reads its last line, which may have no line break."""
        for line in (*self._rest.splitlines(), b""):
            self._line(line)
        self._rest = b""

    def _line(self, line: bytes) -> None:
        if not line:
            data, self._data = self._data, []
            if data and not self.saw_done:
                self._event(data)
            return
        field, _, value = line.removeprefix(b"\xef\xbb\xbf").partition(b":")
        if field == b"data":
            self._data.append(value)

    def _event(self, data: list[bytes]) -> None:
        """Reads an event. Its data lines may be one event, or several events between which the server forgot the blank
        lines."""
        if len(data) > 1 and data[-1].strip() != b"[DONE]":
            try:
                return self._chunk(parse(b"\n".join(data)))
            except Cut:
                pass
        for line in data:
            if line.strip() == b"[DONE]":
                self.saw_done = True
                return None
            try:
                self._chunk(parse(line))
            except Cut as unreadable:
                # what opens no object is a keep-alive; a lost chunk is a hole in an answer that goes on
                if line.lstrip().startswith(b"{") and not self._has_finished:
                    self.unreadable = self.unreadable or unreadable.message
        return None

    # ---- events → one document

    def document(self) -> Json:
        """Returns the chunks as one chat completion. It has no choices when no chunk had one.

        Some endpoints send usage along the way (Perplexity). If no usage came at the end, such usage is not the bill:
        it is kept as `usage_so_far`.
        """
        texts = {name: text.whole() for name, text in self._texts.items()}
        details: list[Json] = [{"format": form} for form in sorted(self._formats)]
        details += [{"type": kind, field: texts.pop(kind)} for kind, field in DETAILS.items() if kind in texts]
        thinking = {"type": "thinking", "thinking": texts.pop(HIDDEN_CHAIN, "")}
        parts: list[Json | str] = [thinking, texts.pop("content", "")]
        parts += [{"type": "redacted_thinking"}] if self._has_hidden_part else []
        message = self._message | texts | {"content": parts, "reasoning_details": details}
        message["tool_calls"] = list(self._tools.values())
        top, choice = dict(self._top), dict(self._choice or {})
        if not (self.saw_done or self._has_final_usage):
            top |= {"usage_so_far": usage_in(top, choice), "usage": None, "x_groq": None}
            choice["usage"] = None
        choice |= {"message": message, "logprobs": self._logprobs, "token_ids": self._token_ids}
        return top | {"choices": [] if self._choice is None else [choice]}

    def _chunk(self, chunk: object) -> None:
        document = as_dict(chunk)
        for key, value in document.items():
            if value is not None and key != "choices":
                self._top[key] = value
        choice = choice_of(document)
        if choice:
            self._choice = self._choice or {}
            for key, value in choice.items():
                if value is not None and key not in APART:
                    self._choice[key] = value
            for key, values in as_dict(choice.get("logprobs")).items():
                self._logprobs.setdefault(key, []).extend(as_list(values))
            self._token_ids.extend(as_list(choice.get("token_ids")))
            self._delta(as_dict(choice.get("delta")))
            self._has_finished = bool(self._choice.get("finish_reason"))
        if self._has_finished and usage_in(document, choice):
            self._has_final_usage = True

    def _delta(self, delta: Json) -> None:
        for key, value in delta.items():
            if value is None:
                continue
            if key == "content":
                thought, said, hidden = split_content(value)
                self._has_hidden_part |= hidden
                self._add("content", said)
                self._add(HIDDEN_CHAIN, thought)
            elif key == "reasoning_details":
                for detail in as_list(value):
                    self._detail(as_dict(detail))
            elif key == "tool_calls":
                for place, call in enumerate(as_list(value)):
                    self._tool(place, as_dict(call))
            elif key in TEXTS and isinstance(value, str):
                self._add(key, value)
            else:
                self._message[key] = value

    def _detail(self, detail: Json) -> None:
        """Reads one of OpenRouter's reasoning_details. There is one for each token."""
        kind, form = detail.get("type"), detail.get("format")
        if isinstance(form, str):
            self._formats.add(form if form in SUMMARY_FORMATS else "")
        if isinstance(kind, str) and kind in DETAILS:
            self._add(kind, as_text(detail.get(DETAILS[kind])))

    def _add(self, name: str, piece: str) -> None:
        if (text := self._texts.get(name)) is None:
            text = self._texts[name] = Text()
        if piece:
            text.add(piece)

    def _tool(self, place: int, call: Json) -> None:
        index = count(call.get("index"))
        tool = self._tools.setdefault(place if index is None else index, {"function": {}})
        tool |= {key: value for key, value in call.items() if value is not None and key != "function"}
        for key, value in as_dict(call.get("function")).items():
            if isinstance(value, str):
                tool["function"][key] = tool["function"].get(key, "") + value
