"""A whole HTTP answer → a Reply, or the failure that it is. Pure."""

from collections.abc import Mapping

from harvest.refusal import refusal, retry_after_s, whole
from harvest.stream import EVENT_STREAM, StreamReader
from harvest.trace import Reply


def read_response(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """The reply in a whole HTTP answer; `headers` have lower-case names.

    Raises the AttemptFailed that field.md §2 gives, with `reply` where the body holds one. A stream that
    nobody asked for is read as one.
    """
    if not 200 <= status < 300:
        raise refusal(status, headers, body)
    if EVENT_STREAM.match(body):
        reader = StreamReader()
        reader.feed(body)
        return reader.finish()
    return whole(body, retry_after_s(headers, None))
