"""Reads one HTTP answer, and returns a Reply or raises the failure that the answer means. Pure.

    status other than 2xx   failures.refusal says what it means
    a JSON document         read as it is
    a stream of events      put together into such a document (stream.py), then read as one

failures.py reads errors, and reply.py reads the fields of the document.
"""

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import asdict, replace

from harvest.answers.repetition import Loop
from harvest.core.errors import Cut
from harvest.core.foreign_json import Json, parse
from harvest.core.nouns import Reply
from harvest.core.printable import one_line
from harvest.endpoint.failures import error_in, is_error, refusal, reply_of
from harvest.endpoint.reply import REPETITION, read_document
from harvest.endpoint.stream import EventStream

EVENT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry)?:")
"""A stream of events begins like this."""


ReadDocument = Callable[[Json], Reply]
"""A function that returns the reply which a document holds, or raises an AttemptFailed."""


def read_response(status: int, body: bytes, after_s: float = 0.0, read: ReadDocument = reply_of) -> Reply:
    """Returns the reply that a whole HTTP answer holds. The answer began `after_s` seconds after the request was sent.

    If the body is a stream of events, although no stream was asked for, it is read as a stream. `read` reads the
    document of a 200. Raises the AttemptFailed that the table of field.md §2 gives; the failure has a `reply` when the
    body holds one.
    """
    if not 200 <= status < 300:
        raise refusal(status, body, after_s)
    if not EVENT.match(body):
        return _reply_in(body, read)
    reader = BodyReader(read)
    reader.feed(body)
    return reader.finish()


def _reply_in(body: bytes, read: ReadDocument) -> Reply:
    try:
        document = parse(body, ignore_rest=True)
    except Cut as unreadable:
        raise Cut(unreadable.message, None, _unread(body)) from None
    if not isinstance(document, dict):
        raise Cut(f"the reply is no JSON object but {one_line(body)}", None, _unread(body))
    return read(document)


def _unread(body: bytes) -> Reply | None:
    """Returns a reply that only keeps the whole body, which may have been paid for. Returns None for a blank body."""
    if not body.strip():
        return None
    try:
        return Reply("", extra={"unread_body": body.decode()})
    except UnicodeDecodeError:
        return Reply("", extra={"unread_body_base64": b64encode(body).decode()})


class BodyReader:
    """Reads a stream of events. It is fed with the bytes as they arrive, in pieces that may end anywhere.

    An endpoint that ignores `stream` sends one JSON object instead, which is then read as a whole answer.
    """

    def __init__(self, read: ReadDocument = reply_of) -> None:
        self._read = read
        self._events = EventStream()
        self._document = bytearray()
        """The bytes of a JSON object; empty when a stream arrives."""

    def feed(self, data: bytes) -> None:
        """Takes the next bytes. Never raises: `finish` says what is wrong with them."""
        if not self._events.has_begun:
            self._document += data if self._document else data.lstrip()
            if not self._document or self._document.startswith(b"{"):
                return
            data = bytes(self._document)
            self._document.clear()
        self._events.feed(data)

    def finish(self) -> Reply:
        """Returns the whole reply.

        Raises what `read_response` raises. Also raises Cut when a stream lost a chunk, or when it ended with neither a
        finish_reason nor `[DONE]`; the failure's `reply` holds what had arrived.
        """
        if self._document:
            return _reply_in(bytes(self._document), self._read)
        self._events.end()
        document = self._events.document()
        reply = read_document(document)
        if is_error(document) and (reply.answer or reply.reasoning_kind or reply.tool_calls):
            raise Cut(f"{error_in(document).message or 'an error'} (in the middle of the stream)", None, reply)
        if self._events.unreadable is not None:
            raise Cut(self._events.unreadable, None, reply)
        if not (self.saw_done or reply.finish_reason or is_error(document)):
            raise Cut("the stream ended before the answer did", None, reply)
        return self._read(document)

    def partial(self) -> Reply:
        """Returns the reply with what has arrived so far of a stream. While a JSON object arrives, the reply is
        empty."""
        return read_document(self._events.document())

    @property
    def saw_done(self) -> bool:
        """Returns whether the stream's own end, `[DONE]`, has come. Nothing worth reading follows it."""
        return self._events.saw_done

    @property
    def loop(self) -> Loop | None:
        """Returns the loop that the chain or the answer of a stream has run into, or None when there is none or the
        answer is over."""
        return self._events.loop

    def broken_off(self, loop: Loop) -> Reply:
        """Returns the reply up to the point where we broke it off for its loop. Its finish_reason is ours
        (REPETITION)."""
        reply = self.partial()
        return replace(reply, finish_reason=REPETITION, extra={**reply.extra, "loop": asdict(loop)})
