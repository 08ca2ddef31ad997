"""Speaks HTTP with aiohttp: opens connections, reads and unpacks bodies under a limit, and translates aiohttp's
errors."""

import asyncio
import base64
import os
import socket
import ssl
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from harvest.core.errors import AttemptFailed, ConfigError, Cut, Passing, RunRefused, TooLarge
from harvest.core.printable import one_line

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""The names of this machine in an address."""
CONNECT_TIMEOUT_S = 30

KEEPALIVE_S = 15
"""Idle connections are closed after this time, because a try is in doubt when the server closes its connection just as
we send."""

BATCH_S, BATCH_SHARE = 0.5, 0.05
"""After each read of a stream, the reader sleeps for BATCH_SHARE of the time that the stream has been open, but at most
for BATCH_S seconds. So one read holds many events. Waking up for each token would use up a core (docs/streams.md)."""

END_S = 0.5
"""After a stream's `[DONE]`, we wait at most this long for its connection to end."""

PROBES = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 20, "TCP_KEEPCNT": 6, "TCP_USER_TIMEOUT": 180_000}
"""With these socket options, the kernel asks a silent peer whether it is still there, so that a connection to a
vanished peer fails within three minutes. (TCP_KEEPALIVE is macOS's word for TCP_KEEPIDLE. TCP_USER_TIMEOUT counts
milliseconds.)"""

HTTP_ERRORS = (aiohttp.ClientError, OSError)
"""aiohttp raises these errors while it connects, sends or reads."""


class NeverConnected(aiohttp.ClientError):
    """No connection to the endpoint was made, so nothing was sent: an address, TLS or a proxy refused."""


MEANING: tuple[tuple[type[Exception], type[AttemptFailed], str], ...] = (
    (NeverConnected, Passing, "no connection"),
    (aiohttp.ConnectionTimeoutError, Passing, "no connection in time"),
    (aiohttp.SocketTimeoutError, Cut, "nothing came for all of idle_timeout_s"),
    (aiohttp.InvalidURL, RunRefused, "base_url is no address"),
    (aiohttp.ClientPayloadError, Cut, "the body broke off"),
    (aiohttp.ServerDisconnectedError, Cut, "the server hung up before it answered"),
    (aiohttp.ClientError, Cut, "the connection failed"),
    (OSError, Cut, "the connection failed"),
)
"""(aiohttp's error, our failure, words for it). The first row that fits is taken. A request that cannot have reached
the model is Passing and costs nothing. A request that was sent is Cut, and its cost stays in doubt."""


def as_failure(error: Exception) -> AttemptFailed:
    """Returns the failure that one of HTTP_ERRORS means."""
    failure, words = next((ours, words) for foreign, ours, words in MEANING if isinstance(error, foreign))
    return failure(f"{words}: {error}")


class Connector(aiohttp.TCPConnector):
    """Opens connections, and says of each error whether it came before anything could be sent."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp names it so
    ) -> Connection:
        """Returns a connection, or raises NeverConnected or TimeoutError."""
        try:
            return await super().connect(req, traces, timeout)
        except TimeoutError:
            raise
        except aiohttp.ClientHttpProxyError as e:  # its own words hold the proxy's address, password and all
            raise NeverConnected(f"the proxy refuses to connect: HTTP {e.status} {e.message}") from None
        except HTTP_ERRORS as e:
            raise NeverConnected(str(e)) from None


def open_session(base_url: str, proxy: str | None, idle_timeout_s: float | None) -> aiohttp.ClientSession:
    """Opens a session for any number of requests at once to the endpoint at `base_url`, through `proxy` if there is
    one.

    `idle_timeout_s` is how many seconds a connection may be silent; None: there is no limit.
    """
    trusted = certificates() if base_url.startswith("https:") else True
    return aiohttp.ClientSession(
        connector=Connector(
            limit=0,
            keepalive_timeout=KEEPALIVE_S,
            socket_factory=probed_socket,
            ssl=trusted,
        ),
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S, sock_read=idle_timeout_s),
        auto_decompress=False,
        trust_env=False,  # it would read ~/.netrc too, and send what is in there
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=proxy,
    )


def probed_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    """Returns a socket on which the kernel asks a silent peer whether it is still there (PROBES)."""
    family, kind, protocol, _, _ = info
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in PROBES.items():
        if (option := getattr(socket, name, None)) is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


def proxy_for(url: str) -> str | None:
    """Returns the proxy that the environment names for this address (HTTPS_PROXY or HTTP_PROXY, else ALL_PROXY).
    Returns None when it names none, when NO_PROXY has the host, and for this machine. Raises ConfigError when the proxy
    is none of HTTP."""
    parts = urlsplit(url)
    if parts.hostname in LOOPBACK or _bypasses(parts):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy is None:
        return None
    scheme = proxy.partition("://")[0].lower() if "://" in proxy else "http"
    if scheme not in ("http", "https"):
        raise ConfigError(
            f"the environment names a {one_line(scheme, 20)}:// proxy for {parts.hostname}, and winnow speaks http://"
            " to a proxy alone: name such a one in HTTPS_PROXY, or the host in NO_PROXY"
        )
    return proxy if "://" in proxy else f"http://{proxy}"


def _bypasses(parts: SplitResult) -> bool:
    """Whether NO_PROXY has this host, with or without its port."""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return bool(proxy_bypass(parts.hostname or "")) or bool(proxy_bypass(f"{parts.hostname}:{port}"))


def certificates() -> ssl.SSLContext:
    """Returns the certificates that endpoints are trusted by: the system's, and those in SSL_CERT_FILE. Raises
    ConfigError when that file cannot be read."""
    context = ssl.create_default_context()
    if file := os.environ.get("SSL_CERT_FILE"):
        try:
            context.load_verify_locations(cafile=file)
        except (OSError, ssl.SSLError) as e:
            words = "it holds no certificate" if isinstance(e, ssl.SSLError) else e.strerror
            raise ConfigError(f"the variable SSL_CERT_FILE names {one_line(file, 200)}: {words}") from None
    return context


def secrets_of(proxy: str | None) -> tuple[str, ...]:
    """Returns the forms in which a proxy's user and password may come back in a message: none without a password."""
    user, _, password = (proxy or "").rpartition("@")[0].rpartition("//")[2].partition(":")
    if not password:
        return ()
    pair = f"{unquote(user)}:{unquote(password)}"
    basic = base64.b64encode(pair.encode()).decode()
    return basic, f"{user}:{password}", pair, password, unquote(password)


async def in_batches(response: aiohttp.ClientResponse, longest_s: float) -> AsyncIterator[bytes]:
    """Yields the body of a stream as it arrives, many events at a time. Pauses between reads last at most `longest_s`
    seconds."""
    loop, content = asyncio.get_running_loop(), response.content
    began_s = loop.time()
    while chunk := await content.readany():
        yield chunk
        if not content.is_eof():
            await asyncio.sleep(min(longest_s, BATCH_S, (loop.time() - began_s) * BATCH_SHARE))


async def unpacked(
    response: aiohttp.ClientResponse, packed: AsyncIterator[bytes], limit_bytes: int
) -> AsyncGenerator[bytes, None]:
    """Yields the body in pieces, unpacked, and never more than `limit_bytes`.

    Raises TooLarge when the body is over the limit, packed or unpacked. Raises Cut when the body is packed in a way
    that was not asked for, or cannot be unpacked.
    """
    packing = response.headers.get("content-encoding", "identity").lower()
    if packing not in ("identity", "", "gzip", "deflate"):
        named = packing if packing in ("br", "zstd", "compress") else "an unknown format"
        raise Cut(f"the body is packed as {named}, which was not asked for")
    unpack = zlib.decompressobj(wbits=47) if packing in ("gzip", "deflate") else None
    size = received = 0
    async for chunk in packed:
        received += len(chunk)
        if received > limit_bytes:
            raise TooLarge(f"the body passed {limit_bytes:,} bytes")
        if unpack is None:
            yield chunk
            continue
        while chunk:
            try:
                piece = unpack.decompress(chunk, limit_bytes)
            except zlib.error:
                raise Cut("the body cannot be unpacked") from None
            chunk = unpack.unconsumed_tail
            size += len(piece)
            if size > limit_bytes:
                raise TooLarge(f"the body passed {limit_bytes:,} bytes")
            yield piece
            await asyncio.sleep(0)
            if unpack.eof:
                return


async def read_to_end(chunks: AsyncIterator[bytes]) -> None:
    """Reads the rest of a body that nobody needs, but only for a moment, so that its connection can be used again."""
    with suppress(TimeoutError, AttemptFailed, *HTTP_ERRORS):
        async with asyncio.timeout(END_S):
            async for _ in chunks:
                pass
