"""The openai client, with aiohttp in place of its own HTTP: it builds each request, our session sends it.

Imported only where endpoints are asked: openai takes half a second to import (`harvest.endpoint.warm_up`).

What openai would do with an answer it does not get to do. It retries, reads bodies without a limit, waits without a
deadline, and follows redirects: so it is handed an empty 200, and the live answer beside it goes up unread.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import aiohttp
import httpx2
from openai import AsyncOpenAI, RequestOptions, omit

from harvest.core.errors import ConfigError
from harvest.endpoint.transport import HTTP_ERRORS, as_failure

OF_THIS_MACHINE = "x-stainless-"
"""The beginning of openai's headers that tell of this machine, its Python and our retries: none of them is sent."""

DEFAULT_HEADERS = {
    "User-Agent": "winnow",
    "Accept-Encoding": "identity",
    **{
        f"X-Stainless-{name}": omit
        for name in ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async")
    },
}

VARIABLES = ("OPENAI_", "AZURE_OPENAI_")
"""The beginnings of the variables that openai reads: a base address, keys, an organization, headers for every request.
They may be meant for another endpoint, so none of them reaches a teacher that the user did not name it for."""


class Built(httpx2.Request):
    """A request as openai built it. httpx2 would parse its address and its headers once more, which is a third of what
    building a request costs; here aiohttp sends both as they are."""

    def __init__(self, method: str, address: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.method = method.upper()
        self.url = _parsed(address)
        self.headers = NO_HEADERS
        self.address, self.body = address, body
        self.sent_headers = [(name, value) for name, value in headers if not name.lower().startswith(OF_THIS_MACHINE)]


class Unread(httpx2.AsyncByteStream):
    """The body of an answer that stays with aiohttp."""


class Carrier(httpx2.AsyncClient):
    """The HTTP client that openai is given. It sends over an aiohttp session, and reads nothing of the answer."""

    def __init__(self, session: aiohttp.ClientSession, proxy: str | None) -> None:
        super().__init__(transport=httpx2.AsyncBaseTransport(), trust_env=False)
        self._session = session
        self._proxy = proxy

    def build_request(self, method: str, url: httpx2.URL | str, **built: Any) -> Built:
        return Built(method, str(url), built["headers"], built["content"])

    async def send(self, request: httpx2.Request, **_: Any) -> httpx2.Response:
        """An empty 200 with aiohttp's live answer in `extensions`. Raises an AttemptFailed where none came."""
        if not isinstance(request, Built):
            raise TypeError("the request was not built by this client")
        try:
            answer = await self._session.request(
                request.method,
                request.address,
                data=request.body,
                headers=request.sent_headers,
                allow_redirects=False,
                proxy=self._proxy,
            )
        except HTTP_ERRORS as e:
            raise as_failure(e) from None
        return httpx2.Response(200, request=request, stream=UNREAD, extensions={"answer": answer})


NO_HEADERS, UNREAD = httpx2.Headers(), Unread()
_parsed = lru_cache(httpx2.URL)


class OpenAIClient:
    """openai's client for one endpoint, sending over our session."""

    def __init__(self, base_url: str, key: str | None, session: aiohttp.ClientSession, proxy: str | None) -> None:
        """Raises ConfigError where base_url is no address. Without a key, no `authorization` header is sent."""
        self._options: RequestOptions = {} if key else {"headers": {"Authorization": omit}}
        with _without_variables():
            try:
                self._openai = AsyncOpenAI(
                    base_url=base_url,
                    api_key=key or "none",
                    max_retries=0,
                    timeout=None,  # deadlines are ours: openai's is for each read
                    default_headers=DEFAULT_HEADERS,  # type: ignore[arg-type]  # `omit` takes a header out
                    http_client=Carrier(session, proxy),
                )
            except httpx2.InvalidURL as e:
                raise ConfigError(f"base_url is no address: {e}") from None
        self._chat = f"{self._openai.base_url}chat/completions"  # whole: the client need not join it for each request

    async def post_chat(self, body: bytes) -> aiohttp.ClientResponse:
        """Asks for one chat completion. The answer comes back unread. Raises an AttemptFailed where none came."""
        sent = await self._openai.post(self._chat, content=body, cast_to=httpx2.Response, options=self._options)
        answer: aiohttp.ClientResponse = sent.extensions["answer"]
        return answer


@contextmanager
def _without_variables() -> Iterator[None]:
    """No variable of openai's stands in the environment while a client is made: it is read then, and only then."""
    hidden = {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
