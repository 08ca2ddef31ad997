"""Server-sent events → a Reply, as they arrive. Pure.

Tens of thousands of events a second are read here, nearly all of them one more piece of text: what is done for
each is counted in microseconds (benchmarks/streams.py).
"""

import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from harvest.core.errors import Cut
from harvest.core.foreign_json import DECODER, Json, as_dict, as_list, as_text, count, parse
from harvest.core.nouns import Reply
from harvest.core.repetition import TAIL, Loop, loop_at_end
from harvest.endpoint.failures import judged, said_in, whole
from harvest.endpoint.reply import (
    CHAIN_FIELDS,
    REPETITION,
    SUMMARY_FORMATS,
    choice_of,
    is_error,
    parts_of,
    read_document,
    usage_in,
)

EVENT_STREAM = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry)?:")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_APART = frozenset({"delta", "message", "logprobs", "token_ids"})
_TEXTS = frozenset({*CHAIN_FIELDS, "refusal"})
_PIECES = _TEXTS - {"reasoning_details"} | {"content"}
_DETAILS = {"reasoning.text": "text", "reasoning.summary": "summary", "reasoning.encrypted": ""}
"""Kinds of reasoning_details, and where each has a text."""
BLOCK = 4096
"""So many characters of a text are joined into one, and looked at for a loop: a piece alone weighs 60 bytes more."""


@dataclass(frozen=True, slots=True)
class _Alike:
    """Events that differ in one piece of text alone, as nearly all of a stream do: what stands around it, and where
    it belongs. Such a piece can be had without parsing the rest again."""

    before: str
    after: str
    name: str


class _Text:
    """A text that arrives in pieces."""

    __slots__ = ("_blocks", "_fresh", "_size", "loop")

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._fresh: list[str] = []
        self._size = 0
        self.loop: Loop | None = None
        """The loop that it had run into at the end of its last block."""

    def add(self, piece: str) -> None:
        self._fresh.append(piece)
        self._size += len(piece)
        if self._size >= BLOCK:
            self._blocks.append("".join(self._fresh))
            self._fresh, self._size = [], 0
            self.loop = loop_at_end("".join(self._blocks[-TAIL // BLOCK :]))

    def whole(self) -> str:
        return "".join(self._blocks) + "".join(self._fresh)


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
        self._texts: dict[str, _Text] = {}
        self._hidden_part = False
        self._formats: set[str] = set()
        self._tools: dict[int, Json] = {}
        self._logprobs: dict[str, list[Any]] = {}
        self._token_ids: list[Any] = []
        self._counted = False
        self._alike: _Alike | None = None
        self._perhaps: _Alike | None = None
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
        if b"\r" not in self._rest:
            end = self._rest.rfind(b"\n") + 1
            lines = bytes(self._rest[:end])
            del self._rest[:end]
            self._lines(lines)
            return
        self._alike = self._perhaps = None
        held = b"\r" if self._rest.endswith(b"\r") else b""  # it may be half of a CRLF
        *split, rest = _LINE_END.split(self._rest.removesuffix(held))
        self._rest = bytearray(rest + held)
        for line in split:
            self._line(line)

    def finish(self) -> Reply:
        """The whole reply. Raises as `read_response` does, and Cut where neither a finish_reason nor
        `[DONE]` came; the failure's `reply` holds what had arrived."""
        if self._are_events is False:
            return whole(bytes(self._rest))
        for line in (*_LINE_END.split(self._rest), b""):
            self._line(line)
        self._rest.clear()
        document = self._document()
        reply = read_document(document)
        if is_error(document) and (reply.answer or reply.reasoning_kind or reply.tool_calls):
            raise Cut(f"{said_in(document)[0] or 'an error'} (in the middle of the stream)", None, reply)
        if self._broken is not None:
            raise Cut(self._broken, None, reply)
        if not (self.saw_done or reply.finish_reason or is_error(document)):
            raise Cut("the stream ended before the answer did", None, reply)
        return judged(document)

    def partial(self) -> Reply:
        """What has arrived so far."""
        return read_document(self._document())

    @property
    def loop(self) -> Loop | None:
        """The loop that the chain or the answer has run into, while it goes on."""
        if self.saw_done or (self._choice and self._choice.get("finish_reason")):
            return None
        return next((text.loop for text in self._texts.values() if text.loop), None)

    def broken_off(self, loop: Loop) -> Reply:
        """The reply up to where it was broken off for its loop, with a finish_reason of ours."""
        reply = self.partial()
        return replace(reply, finish_reason=REPETITION, extra={**reply.extra, "loop": asdict(loop)})

    def _lines(self, lines: bytes) -> None:
        """Whole lines. Events that are one line of JSON and a blank one, as nearly all are, take the short way."""
        try:
            text = lines.decode()
        except UnicodeDecodeError:
            self._alike = self._perhaps = None
            for line in lines.split(b"\n")[:-1]:
                self._line(line)
            return
        at = 0
        while at < len(text):
            if (alike := self._alike) and text.startswith(alike.before, at):
                piece_at = at + len(alike.before)
                piece_end = text.find(alike.after, piece_at)
                if piece_end >= 0 and (piece := _unquoted(text[piece_at:piece_end])) is not None:
                    self._more(alike.name, piece)
                    at = piece_end + len(alike.after)
                    continue
            end = text.find("\n", at)
            if text.startswith("data: {", at) and text.startswith("\n", end + 1) and not (self._data or self.saw_done):
                try:
                    event, read = DECODER.raw_decode(text, at + len("data: "))
                except (ValueError, RecursionError):
                    read = -1
                if read == end:
                    self._chunk(event)
                    self._learn(text[at : end + 2], event)
                    at = end + 2
                    continue
            self._alike = self._perhaps = None
            self._line(text[at:end].encode())
            at = end + 1

    def _learn(self, event: str, parsed: Json) -> None:
        """Two events alike in a row: those that follow are probably, too."""
        found = _alike(event, parsed)
        same = found is not None and found == self._perhaps
        self._alike, self._perhaps = (found if same and found and _holds(found, parsed) else None), found

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
                # what opens no object is a keep-alive, but a lost chunk is a hole in an answer that goes on
                goes_on = not (self._choice and self._choice.get("finish_reason"))
                if goes_on and line.lstrip().startswith(b"{"):
                    self._broken = self._broken or unreadable.message
        return None

    def _chunk(self, chunk: object) -> None:
        document = as_dict(chunk)
        for key, value in document.items():
            if value is not None and key != "choices":
                self._top[key] = value
        if choice := choice_of(document):
            if self._choice is None:
                self._choice = {}
            for key, value in choice.items():
                if value is not None and key not in _APART:
                    self._choice[key] = value
            if shown := choice.get("logprobs"):
                for key, values in as_dict(shown).items():
                    self._logprobs.setdefault(key, []).extend(as_list(values))
            if ids := choice.get("token_ids"):
                self._token_ids.extend(as_list(ids))
            self._delta(as_dict(choice.get("delta")))
        if self._choice and self._choice.get("finish_reason"):
            self._counted = self._counted or bool(usage_in(document, choice))

    def _delta(self, delta: Json) -> None:
        for key, value in delta.items():
            if value is None:
                continue
            if key == "content":
                thought, said, hidden = parts_of(value)
                self._hidden_part |= hidden
                self._more("content", said)
                self._more("thought", thought)
            elif key == "reasoning_details":
                for detail in as_list(value):
                    self._detail(as_dict(detail))
            elif key == "tool_calls":
                for place, call in enumerate(as_list(value)):
                    self._tool(place, as_dict(call))
            elif key in _TEXTS and isinstance(value, str):
                self._more(key, value)
            else:
                self._message[key] = value

    def _detail(self, detail: Json) -> None:
        """One of OpenRouter's reasoning_details, of which there is one a token."""
        kind, form = detail.get("type"), detail.get("format")
        if isinstance(form, str):
            self._formats.add(form if form in SUMMARY_FORMATS else "")
        if isinstance(kind, str) and kind in _DETAILS:
            self._more(kind, as_text(detail.get(_DETAILS[kind])))

    def _more(self, name: str, piece: str) -> None:
        if (text := self._texts.get(name)) is None:
            text = self._texts[name] = _Text()
        if piece:
            text.add(piece)

    def _tool(self, place: int, call: Json) -> None:
        index = count(call.get("index"))
        tool = self._tools.setdefault(place if index is None else index, {"function": {}})
        tool |= {key: value for key, value in call.items() if value is not None and key != "function"}
        for key, value in as_dict(call.get("function")).items():
            if isinstance(value, str):
                tool["function"][key] = tool["function"].get(key, "") + value

    def _document(self) -> Json:
        """The chunks as one whole chat completion; without choices where none came.

        Usage that came before the end alone is no bill, since some count along (Perplexity): kept, under another name.
        """
        texts = {name: text.whole() for name, text in self._texts.items()}
        details: list[Json] = [{"format": form} for form in sorted(self._formats)]
        details += [{"type": kind, field: texts.pop(kind)} for kind, field in _DETAILS.items() if kind in texts]
        parts: list[Json | str] = [{"type": "thinking", "thinking": texts.pop("thought", "")}, texts.pop("content", "")]
        parts += [{"type": "redacted_thinking"}] if self._hidden_part else []
        message = self._message | texts | {"content": parts, "reasoning_details": details}
        message["tool_calls"] = list(self._tools.values())
        top, told = dict(self._top), dict(self._choice or {})
        if not (self.saw_done or self._counted):
            top |= {"usage_so_far": usage_in(top, told), "usage": None, "x_groq": None}
            told["usage"] = None
        choice = told | {"message": message, "logprobs": self._logprobs, "token_ids": self._token_ids}
        return top | {"choices": [] if self._choice is None else [choice]}


def _alike(event: str, parsed: Json) -> _Alike | None:
    """The event without its piece of text, where that alone makes it more than the one before."""
    choices = parsed.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return None
    if choices[0].get("logprobs") or choices[0].get("token_ids"):
        return None  # said once more, they are one more token
    delta = as_dict(choices[0].get("delta"))
    told = [name for name, value in delta.items() if value and name != "role"]
    if len(told) != 1 or told[0] not in _PIECES or not isinstance(delta[told[0]], str):
        return None
    before, key, rest = event.partition(f'"{told[0]}":')
    blank = " " if rest.startswith(" ") else ""
    close = rest.find('"', len(blank) + 1)
    while close > 0 and rest[close - 1] == "\\":
        close = rest.find('"', close + 1)
    return _Alike(f'{before}{key}{blank}"', rest[close:], told[0]) if close > 0 else None


def _holds(alike: _Alike, parsed: Json) -> bool:
    """Whether a word put between the two is that piece of text, and nothing else."""
    probe = "of another mind"
    try:
        event = DECODER.decode(f"{alike.before}{probe}{alike.after}".removeprefix("data: "))
    except (ValueError, RecursionError):
        return False
    choice = parsed["choices"][0]
    wanted = {**choice, "delta": {**choice["delta"], alike.name: probe}}
    return bool(event == {**parsed, "choices": [wanted]})


def _unquoted(literal: str) -> str | None:
    """The text of a JSON string without its quotes; None where it is none."""
    if "\\" in literal:
        try:
            text = DECODER.decode(f'"{literal}"')
        except ValueError:
            return None
        return text if isinstance(text, str) else None
    return literal if '"' not in literal and literal.isprintable() else None
