"""Builds the request for a chat completion with the openai client: the address, the key and the headers.

These are the same for every request to one endpoint, so openai builds one request when a Teacher is opened. client.py
sends it over aiohttp, with the body of each attempt.

Import this file only where endpoints are asked, because openai takes half a second to import
(`harvest.endpoint.warm_up`).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from openai import OpenAI, omit

from harvest.core.errors import ConfigError

HEADERS = {"User-Agent": "winnow", "Accept-Encoding": "identity"}

NOT_SENT = ("x-stainless-", "host", "connection", "content-length")
"""Headers that begin with one of these are left out. openai's own headers tell about this machine and its Python;
aiohttp writes the others for each connection and body."""

VARIABLES = ("OPENAI_", "AZURE_OPENAI_")
"""openai reads environment variables that begin with one of these: a base address, keys, an organization, headers for
every request. They may be meant for another endpoint, so none of them reaches a teacher, except a key whose variable
the user named for that teacher."""


def chat_request(base_url: str, key: str | None) -> tuple[str, list[tuple[str, str]]]:
    """Returns (address, headers) for a chat completion. Without a key, there is no `authorization` header.

    Raises ConfigError when base_url is no address, or when the key has a character that no header can hold.
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
    """Hides openai's environment variables while a client is made, because the client reads them at that time."""
    hidden = {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
