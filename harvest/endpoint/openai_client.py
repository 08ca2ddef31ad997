"""The request for a chat completion, as the openai client builds it: the address, the key, the headers.

They are the same for every request to one endpoint, so openai builds one request when a Teacher is opened. client.py
sends it over aiohttp, with the body of each attempt.

Imported only where endpoints are asked: openai takes half a second to import (`harvest.endpoint.warm_up`).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from openai import OpenAI, omit

from harvest.core.errors import ConfigError

HEADERS = {"User-Agent": "winnow", "Accept-Encoding": "identity"}

NOT_SENT = ("x-stainless-", "host", "connection", "content-length")
"""The beginnings of headers that are left out: openai's, which tell of this machine and its Python, and those that
aiohttp writes for each connection and body."""

VARIABLES = ("OPENAI_", "AZURE_OPENAI_")
"""The beginnings of the variables that openai reads: a base address, keys, an organization, headers for every request.
They may be meant for another endpoint, so none of them reaches a teacher that the user did not name it for."""


def chat_request(base_url: str, key: str | None) -> tuple[str, list[tuple[str, str]]]:
    """The address and the headers of a chat completion. Without a key, no `authorization` header is sent.

    Raises ConfigError where base_url is no address, or the key has a character that no header can hold.
    """
    built: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        built.append(request)
        return httpx2.Response(200)

    transport = httpx2.MockTransport(answer)
    with _without_variables(), httpx2.Client(transport=transport, trust_env=False) as http:
        try:
            client = OpenAI(base_url=base_url, api_key=key or "none", default_headers=HEADERS, http_client=http)
            headers = {} if key else {"Authorization": omit}
            client.post("/chat/completions", content=b"", cast_to=httpx2.Response, options={"headers": headers})
        except httpx2.InvalidURL as e:
            raise ConfigError(f"base_url is no address: {e}") from None
        except UnicodeEncodeError:
            raise ConfigError("the API key has a character that is not ASCII: look into its variable") from None
    sent = [(name, value) for name, value in built[0].headers.items() if not name.startswith(NOT_SENT)]
    return str(built[0].url), sent


@contextmanager
def _without_variables() -> Iterator[None]:
    """Hides openai's variables from a client while it is made, which is when they are read."""
    hidden = {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
