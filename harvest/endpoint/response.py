"""One HTTP answer → a Reply, or the failure that it is. Pure.

    status other than 2xx   failures.refusal says what it means
    a JSON document         read as it is
    a stream of events      put together into such a document (stream.py), then read as one

A document is read by failures.reply_of, whichever way it came.
"""

import re
from dataclasses import asdict, replace

from harvest.answers.repetition import Loop
from harvest.core.errors import Cut
from harvest.core.foreign_json import parse
from harvest.core.nouns import Reply
from harvest.core.printable import one_line
from harvest.endpoint.failures import error_in, is_error, refusal, reply_of
from harvest.endpoint.reply import REPETITION, read_document
from harvest.endpoint.stream import EventStream

EVENT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:data|event|id|retry)?:")
"""How a stream of events begins."""


def read_response(status: int, body: bytes) -> Reply:
    """The reply in a whole HTTP answer. A stream that nobody asked for is read as one.

    Raises the AttemptFailed that field.md §2 gives, with `reply` where the body holds one.
    """
    if not 200 <= status < 300:
        raise refusal(status, body)
    reader = BodyReader(is_stream=EVENT.match(body) is not None)
    reader.feed(body)
    return reader.finish()


class BodyReader:
    """Reads the body of a 200, fed as it arrives and cut anywhere.

    `is_stream`: it is to be a stream of events. Where it is one JSON object all the same, since the endpoint ignores
    `stream`, it is read as that.
    """

    def __init__(self, *, is_stream: bool) -> None:
        self._events = EventStream() if is_stream else None
        self._body = bytearray()
        """The bytes so far: of a document all, of a stream those before its first character that is no blank."""

    def feed(self, data: bytes) -> None:
        """The next bytes. Never raises: what is wrong with them is said by `finish`."""
        self._body += data
        if self._events is None:
            return
        if not self._events.has_begun:
            self._body = self._body.lstrip()
            if self._body.startswith(b"{"):
                self._events = None
                return
        if self._body:
            self._events.feed(bytes(self._body))
            self._body.clear()

    def finish(self) -> Reply:
        """The whole reply.

        Raises as `read_response` does, and Cut where a stream lost a chunk, or ended with neither a finish_reason nor
        `[DONE]`; the failure's `reply` holds what had arrived.
        """
        if self._events is None:
            document = parse(bytes(self._body))
            if not isinstance(document, dict):
                raise Cut(f"the reply is no JSON object but {one_line(bytes(self._body))}")
            return reply_of(document)
        self._events.end()
        document = self._events.document()
        reply = read_document(document)
        if is_error(document) and (reply.answer or reply.reasoning_kind or reply.tool_calls):
            raise Cut(f"{error_in(document).message or 'an error'} (in the middle of the stream)", None, reply)
        if self._events.unreadable is not None:
            raise Cut(self._events.unreadable, None, reply)
        if not (self.saw_done or reply.finish_reason or is_error(document)):
            raise Cut("the stream ended before the answer did", None, reply)
        return reply_of(document)

    def partial(self) -> Reply:
        """What has arrived so far of a stream; of a document, nothing."""
        return read_document({} if self._events is None else self._events.document())

    @property
    def saw_done(self) -> bool:
        """Whether the stream's own end, `[DONE]`, has come: nothing worth reading follows it."""
        return self._events is not None and self._events.saw_done

    @property
    def loop(self) -> Loop | None:
        """The loop that the chain or the answer of a stream has run into, while it goes on."""
        return None if self._events is None else self._events.loop

    def broken_off(self, loop: Loop) -> Reply:
        """The reply up to where it was broken off for its loop, with a finish_reason of ours."""
        reply = self.partial()
        return replace(reply, finish_reason=REPETITION, extra={**reply.extra, "loop": asdict(loop)})
