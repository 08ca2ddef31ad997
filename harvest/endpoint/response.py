"""A whole HTTP answer → a Reply, or the failure that it is. Pure."""

from collections.abc import Mapping

from harvest.core.nouns import Reply
from harvest.endpoint.failures import refusal, retry_after_s, whole
from harvest.endpoint.stream import EVENT_STREAM, StreamReader


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
