"""Server-sent events → a Reply, as they arrive. Pure."""

import re
from typing import Any

from harvest.errors import Cut
from harvest.refusal import judged, said_in, whole
from harvest.reply import CHAIN_FIELDS, choice_of, is_error, read_document
from harvest.trace import Reply
from harvest.untrusted import Json, as_dict, as_list, count, parse

EVENT_STREAM = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry)?:")
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
        self._top |= {key: value for key, value in document.items() if value is not None and key != "choices"}
        if not (choice := choice_of(document)):
            return
        apart = ("delta", "message", "logprobs", "token_ids")
        told = {key: value for key, value in choice.items() if value is not None and key not in apart}
        self._choice = (self._choice or {}) | told
        for key, values in as_dict(choice.get("logprobs")).items():
            self._logprobs.setdefault(key, []).extend(as_list(values))
        self._token_ids.extend(as_list(choice.get("token_ids")))
        self._delta(as_dict(choice.get("delta")))

    def _delta(self, delta: Json) -> None:
        for key, value in delta.items():
            if key == "content":
                self._content.extend(value if isinstance(value, list) else [value])
            elif key == "reasoning_details":
                self._details.extend(as_list(value))
            elif key == "tool_calls":
                for place, call in enumerate(as_list(value)):
                    self._tool(place, as_dict(call))
            elif isinstance(value, str) and key in (*CHAIN_FIELDS, "refusal"):
                self._texts.setdefault(key, []).append(value)
            elif value is not None:
                self._message[key] = value

    def _tool(self, place: int, call: Json) -> None:
        index = count(call.get("index"))
        tool = self._tools.setdefault(place if index is None else index, {"function": {}})
        tool |= {key: value for key, value in call.items() if value is not None and key != "function"}
        for key, value in as_dict(call.get("function")).items():
            if isinstance(value, str):
                tool["function"][key] = tool["function"].get(key, "") + value

    def _document(self) -> Json:
        """The chunks as one whole chat completion; without choices where none came."""
        message = self._message | {key: "".join(texts) for key, texts in self._texts.items()}
        message |= {"content": self._content, "reasoning_details": self._details}
        message["tool_calls"] = list(self._tools.values())
        choice = {"message": message, "logprobs": self._logprobs, "token_ids": self._token_ids}
        return self._top | {"choices": [] if self._choice is None else [self._choice | choice]}
