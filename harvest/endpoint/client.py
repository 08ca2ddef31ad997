"""One attempt over the wire: a reply, or a named failure. The only HTTP to a teacher.

Over aiohttp itself, not the openai client: a body is read under a limit and unpacked under one, redirects are
not followed, nothing is tried again behind the ledger's back (docs/decisions.md has the figures).
"""

import asyncio
import json
import math
import select
import socket
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import cache
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from harvest.core.errors import AttemptFailed, Cut, Passing, RunRefused, TooLarge
from harvest.core.nouns import Reply
from harvest.core.teachers import Sampling
from harvest.endpoint.announced_limits import announced, precise
from harvest.endpoint.failures import refused_parameter, retry_after_s
from harvest.endpoint.response import read_response
from harvest.endpoint.stream import StreamReader

OPTIONAL = ("temperature", "top_p", "top_k", "min_p", "reasoning_effort")
TEXTS = (
    "answer",
    "reasoning",
    "finish_reason",
    "raw_usage",
    "tool_calls",
    "logprobs",
    "served_model",
    "served_by",
    "system_fingerprint",
    "response_id",
    "extra",
)
CONNECT_TIMEOUT_S = 30
SHORTEST_SECRET = 12
KEEPALIVE_S = 15
"""Idle connections are dropped early: a server that closes one just as we send leaves the try in doubt."""

GATHER_S, GATHER_SHARE, GATHER_BYTES = 0.5, 0.05, 1 << 15
"""After each read of a stream its bytes may gather, for this share of how long it has been open, no longer than
GATHER_S and no more than GATHER_BYTES: waking up for each token is what a core spends itself on (docs/streams.md)."""

END_S = 0.5
"""How long a stream's connection is waited for after its `[DONE]`."""

PROBES = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 20, "TCP_KEEPCNT": 6, "TCP_USER_TIMEOUT": 180_000}
"""The kernel asks a silent peer whether it is still there, so that one that vanished fails within three minutes.
(TCP_KEEPALIVE is macOS's word for TCP_KEEPIDLE; the last one counts milliseconds.)"""

FOREIGN: tuple[tuple[type[Exception], type[AttemptFailed], str], ...] = (
    (aiohttp.ClientConnectorError, Passing, "no connection"),
    (aiohttp.ConnectionTimeoutError, Passing, "no connection in time"),
    (aiohttp.SocketTimeoutError, Cut, "nothing came for all of idle_timeout_s"),
    (aiohttp.InvalidURL, RunRefused, "base_url is no address"),
    (aiohttp.ClientPayloadError, Cut, "the body broke off"),
    (aiohttp.ServerDisconnectedError, Cut, "the server hung up before it answered"),
    (aiohttp.ClientError, Cut, "the connection failed"),
    (OSError, Cut, "the connection failed"),
)
"""aiohttp's errors as ours, the first that fits; what cannot have reached the model costs nothing."""


def request_body(
    model: str, messages: Sequence[Mapping[str, str]], sampling: Sampling, sample: int, max_tokens: int
) -> dict[str, Any]:
    """What one attempt asks, in OpenAI's chat form. Part of its key, so only what the teacher sees is in it."""
    body: dict[str, Any] = {"model": model, "messages": list(messages), "max_tokens": max_tokens}
    for name in OPTIONAL:
        if (value := getattr(sampling, name)) is not None:
            body[name] = value
    if sampling.seed is not None:
        body["seed"] = sampling.seed + sample
    if sampling.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
    return body | sampling.extra


def body_limit_bytes(max_tokens: int, top_logprobs: int, stream: bool) -> int:
    """A generous bound on an honest body: some send the chain three times, escaped, and streams wrap each token."""
    per_token = 256 + 256 * top_logprobs + (1024 if stream else 0)
    return (1 << 20) + max_tokens * per_token


@dataclass(slots=True)
class Learned:
    """What an endpoint was found to demand, kept with the run."""

    length_field: str = "max_tokens"
    dropped: tuple[str, ...] = ()


class Arriving:
    """What has come so far of an answer that is still coming. Whole bodies show nothing before their end."""

    __slots__ = ("_clean", "_reader", "headers")

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        """Names in lower case."""
        self._reader: StreamReader | None = None

    def follow(self, reader: StreamReader, clean: Callable[[Reply], Reply]) -> None:
        self._reader, self._clean = reader, clean

    def reply(self) -> Reply | None:
        """None where not a word has come."""
        if self._reader is None:
            return None
        reply = self._clean(self._reader.partial())
        return reply if reply.answer or reply.reasoning_kind else None


class Teacher:
    """An endpoint and a key. Used as an async context manager; any number of asks at once."""

    def __init__(
        self,
        base_url: str,
        key: str | None,
        *,
        stream: bool = False,
        idle_timeout_s: float | None = None,
        stop_repeating: bool = True,
        droppable: frozenset[str] = frozenset(),
    ) -> None:
        """`idle_timeout_s` and `stop_repeating` are for streams alone. `droppable` are parameters that the user did
        not set, and that may be left out where they are refused."""
        self.url = base_url.rstrip("/") + "/chat/completions"
        self.stream = stream
        self._idle_timeout_s = idle_timeout_s if stream else None
        self._stop_repeating = stop_repeating
        self.learned = Learned()
        self._droppable = droppable
        self._key = key
        # A word such as "EMPTY", which servers without keys are given, is no secret, and stands in honest answers.
        self._secret = key if key and len(key) >= SHORTEST_SECRET else ""
        self._session: aiohttp.ClientSession | None = None
        parts = urlsplit(self.url)
        bypassed = parts.hostname in ("localhost", "127.0.0.1", "::1") or proxy_bypass(parts.hostname or "")
        self._proxy = None if bypassed else getproxies().get(parts.scheme)

    async def __aenter__(self) -> Self:
        headers = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "winnow"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S, socket_factory=_socket),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S, sock_read=self._idle_timeout_s),
            auto_decompress=False,
            trust_env=False,  # it would read ~/.netrc too, and send what is in there
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, body: Mapping[str, Any], limit_bytes: int, arriving: Arriving | None = None) -> Reply:
        """Raises an AttemptFailed. Has no deadline: the caller, who knows the budget, keeps that; `arriving` shows
        what there is by then.

        A parameter's name that the endpoint refuses is learned from its free 400 and the request sent again.
        """
        arriving = arriving or Arriving()
        headers = arriving.headers
        while True:
            sent = self._as_learned(body)
            arriving.headers.clear()
            try:
                status, data = await self._send(sent, limit_bytes, arriving)
                if isinstance(data, Reply):
                    return self._clean(data)
                if status == 400 and self._learn(refused_parameter(status, data), sent):
                    continue
                return self._clean(read_response(status, headers, data))
            except AttemptFailed as failure:
                reply = self._clean(failure.reply) if isinstance(failure.reply, Reply) else None
                wait = precise(retry_after_s(headers, time.time()), announced(headers, time.time()))
                raise type(failure)(self.redact(failure.message), wait, reply) from None

    def redact(self, text: str) -> str:
        """The text without the key, where an endpoint echoes it."""
        return text.replace(self._secret, "[key]") if self._secret else text

    def _as_learned(self, body: Mapping[str, Any]) -> dict[str, Any]:
        sent = {k: v for k, v in body.items() if k not in self.learned.dropped}
        if self.learned.length_field != "max_tokens" and "max_tokens" in sent:
            sent[self.learned.length_field] = sent.pop("max_tokens")
        if self.stream:
            sent |= {"stream": True, "stream_options": {"include_usage": True}}
        return sent

    def _learn(self, refused: str | None, sent: Mapping[str, Any]) -> bool:
        """Whether the request is worth sending again, without the parameter that it was refused for."""
        if refused is None or refused not in sent:
            return False
        if refused == "max_tokens":
            self.learned.length_field = "max_completion_tokens"
            return True
        if refused in self._droppable:
            self.learned.dropped = (*self.learned.dropped, refused)
            return True
        if refused in OPTIONAL:
            raise RunRefused(f"the endpoint refuses the parameter {refused!r}: take it out of [sampling]")
        return False

    def _clean(self, reply: Reply) -> Reply:
        """The reply without the key, wherever an endpoint wrote it, split or escaped."""
        if not self._secret:
            return reply
        texts = {name: self._redacted(getattr(reply, name)) for name in TEXTS}
        return replace(reply, **{name: text for name, text in texts.items() if text != getattr(reply, name)})

    def _blanked(self, data: bytes) -> bytes:
        """Bytes without the key, before anything is cut out of them for a message."""
        return data.replace(self._secret.encode(), b"[key]") if self._secret else data

    def _begun_at_end(self, data: bytes) -> int:
        """How many bytes at the end may be the beginning of the key."""
        secret = self._secret.encode()
        at = max(0, len(data) - len(secret) + 1)
        while secret and (at := data.find(secret[:1], at)) >= 0:
            if secret.startswith(data[at:]):
                return len(data) - at
            at += 1
        return 0

    def _redacted(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, Mapping):
            return {self.redact(str(k)): self._redacted(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._redacted(v) for v in value)
        return value

    async def _send(self, body: Mapping[str, Any], limit_bytes: int, arriving: Arriving) -> tuple[int, bytes | Reply]:
        """(status, body), the body of a stream as a Reply already."""
        if self._session is None:
            raise RuntimeError("Teacher is used outside its `async with`")
        headers = arriving.headers
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        try:
            async with self._session.post(self.url, data=data, allow_redirects=False, proxy=self._proxy) as response:
                headers.update((k.lower(), v) for k, v in response.headers.items())
                if self.stream and response.status == 200 and "event-stream" in headers.get("content-type", ""):
                    return 200, await self._read_stream(response, limit_bytes, arriving)
                chunks = _unpacked(response, response.content.iter_any(), limit_bytes)
                return response.status, self._blanked(b"".join([c async for c in chunks]))
        except (aiohttp.ClientError, OSError) as e:
            for foreign, ours, words in FOREIGN:
                if isinstance(e, foreign):
                    raise ours(self.redact(f"{words}: {e}")[:500]) from None
            raise

    async def _read_stream(self, response: aiohttp.ClientResponse, limit_bytes: int, arriving: Arriving) -> Reply:
        """The reply, or what there is of one that ran into a loop: leaving it unread closes its connection."""
        reader = StreamReader()
        arriving.follow(reader, self._clean)
        most_s = min(GATHER_S, (self._idle_timeout_s or math.inf) / 4)
        broken: AttemptFailed | None = None
        held = b""
        try:
            async with aclosing(_unpacked(response, _gathered(response, most_s), limit_bytes)) as chunks:
                async for chunk in chunks:
                    data = self._blanked(held + chunk)
                    begun = self._begun_at_end(data)
                    held = data[len(data) - begun :]
                    reader.feed(data[: len(data) - begun])
                    if self._stop_repeating and (loop := reader.loop):
                        return reader.broken_off(loop)
                    if reader.saw_done:
                        await _ended(chunks)
                        break
            reader.feed(held)
        except (TooLarge, Cut) as e:
            broken = type(e)(e.message, None, reader.partial())
        except (aiohttp.ClientError, OSError) as e:
            words = next(words for foreign, _, words in FOREIGN if isinstance(e, foreign))
            broken = Cut(self.redact(f"the stream broke off: {words}: {e}")[:500], None, reader.partial())
        try:
            return reader.finish()
        except AttemptFailed:
            if broken is None:
                raise
            raise broken from None


def _socket(info: aiohttp.AddrInfoType) -> socket.socket:
    """One whose peer is asked now and then whether it is still there."""
    family, kind, protocol, _, _ = info
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in PROBES.items():
        if (option := getattr(socket, name, None)) is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


class _Valve:
    """Lets what a socket receives gather in the kernel: its reader is woken once GATHER_BYTES are there, at the
    connection's end, or after a while. (Pausing the transport would do without TLS alone: a paused TLS transport of
    uvloop throws away what is unread when its peer hangs up.)"""

    def __init__(self, transport: asyncio.BaseTransport | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport if transport is not None and _holds_back() else None
        self._socket = None if self._transport is None else self._transport.get_extra_info("socket")
        self._timer: asyncio.TimerHandle | None = None

    def close_for(self, wait_s: float) -> None:
        if self._timer is None:
            self._wake_at(GATHER_BYTES)
        else:
            self._timer.cancel()
        self._timer = self._loop.call_later(wait_s, self.open)

    def open(self) -> None:
        """The next byte wakes the reader again. A connection goes back to the pool this way only."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._wake_at(1)

    def _wake_at(self, n: int) -> None:
        if self._socket is not None and self._transport is not None and not self._transport.is_closing():
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, n)


@cache
def _holds_back() -> bool:
    """Whether the kernel keeps a reader asleep below SO_RCVLOWAT, and wakes it when that is lowered (Linux 4.18)."""
    if not hasattr(select, "epoll"):
        return False
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sender:
        receiver, _ = server.accept()
        with receiver, select.epoll() as waiting:
            waiting.register(receiver, select.EPOLLIN)
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, GATHER_BYTES)
            sender.sendall(b"x")
            asleep = not waiting.poll(0.01)
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            return asleep and bool(waiting.poll(0.1))


async def _gathered(response: aiohttp.ClientResponse, most_s: float) -> AsyncIterator[bytes]:
    """The body of a stream, several events at a time."""
    loop, content = asyncio.get_running_loop(), response.content
    began_s = loop.time()
    valve = _Valve(response.connection.transport if response.connection is not None else None)
    try:
        while chunk := await content.readany():
            yield chunk
            if content.is_eof():
                valve.open()
            else:
                valve.close_for(min(most_s, (loop.time() - began_s) * GATHER_SHARE))
    finally:
        valve.open()


async def _ended(chunks: AsyncIterator[bytes]) -> None:
    """Waits a moment for the end of a body in which all has come, so that its connection can be used again."""
    with suppress(TimeoutError, AttemptFailed, aiohttp.ClientError, OSError):
        async with asyncio.timeout(END_S):
            async for _ in chunks:
                pass


async def _unpacked(
    response: aiohttp.ClientResponse, packed: AsyncIterator[bytes], limit_bytes: int
) -> AsyncGenerator[bytes, None]:
    """The body in pieces, unpacked, never more than the limit. Raises TooLarge, or Cut for a packing unasked for."""
    packing = response.headers.get("content-encoding", "identity").lower()
    if packing not in ("identity", "", "gzip", "deflate"):
        known = packing if packing in ("br", "zstd", "compress") else "nobody knows what"
        raise Cut(f"the body is packed as {known}, which was not asked for")
    unpack = zlib.decompressobj(wbits=47) if packing in ("gzip", "deflate") else None
    size = received = 0
    async for chunk in packed:
        received += len(chunk)
        if received > limit_bytes:
            raise TooLarge(f"the body passed {limit_bytes:,} bytes")
        while chunk:
            if unpack is None:
                piece, chunk = chunk, b""
            else:
                try:
                    piece = unpack.decompress(chunk, limit_bytes)
                except zlib.error:
                    raise Cut("the body cannot be unpacked") from None
                chunk = unpack.unconsumed_tail
            size += len(piece)
            if size > limit_bytes:
                raise TooLarge(f"the body passed {limit_bytes:,} bytes")
            yield piece
            await asyncio.sleep(0) if unpack is not None else None
            if unpack is not None and unpack.eof:
                return
