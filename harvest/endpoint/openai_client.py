"""Builds the request for a chat completion with the openai client: the address, the key and the headers.

These are the same for every request to one endpoint, so openai builds one request when a Teacher is opened. client.py
sends it over aiohttp, with the body of each attempt.

Import this file only where endpoints are asked, because openai takes half a second to import.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx2
from openai import AzureOpenAI, OpenAI, omit
from openai._types import RequestOptions

from harvest.core.errors import ConfigError

HEADERS = {"user-agent": "winnow", "accept-encoding": "identity"}

NOT_SENT = ("x-stainless-", "host", "connection", "content-length")
"""Headers that begin with one of these are left out. openai's own headers tell about this machine and its Python;
aiohttp writes the others for each connection and body."""

VARIABLES = ("OPENAI_", "AZURE_OPENAI_")
"""openai reads environment variables that begin with one of these: a base address, keys, an organization, headers for
every request. They may be meant for another endpoint, so none of them reaches a teacher, except a key whose variable
the user named for that teacher."""


SIGNING = ("authorization", "api-key")
"""openai's clients write the key into one of these headers."""


def chat_request(
    base_url: str, key: str | None, own_headers: Mapping[str, str], azure_api_version: str = "", model: str = ""
) -> tuple[str, list[tuple[str, str]]]:
    """Returns (address, headers) for a chat completion. Without a key, there is no header that holds one, except among
    the user's `own_headers`, which replace any other. With `azure_api_version`, base_url is a resource of Azure's and
    `model` the deployment.

    Raises ConfigError when base_url is no address, or when the key has a character that no header can hold.
    """
    own = {name.lower(): value for name, value in own_headers.items()}
    without = {} if key else dict.fromkeys(SIGNING, omit)
    options = RequestOptions(headers={**HEADERS, **without, **own})
    built: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        built.append(request)
        return httpx2.Response(200)

    transport = httpx2.MockTransport(answer)
    with _without_variables(), httpx2.Client(transport=transport, trust_env=False) as http:
        try:
            client = _client(base_url, key, azure_api_version, http)
            client.post("/chat/completions", body={"model": model}, cast_to=httpx2.Response, options=options)
        except httpx2.InvalidURL as e:
            raise ConfigError(f"base_url is no address: {e}") from None
        except UnicodeEncodeError:
            raise ConfigError("the API key has a character that is not ASCII: look into its variable") from None
    sent = [(k, v) for k, v in built[0].headers.items() if k in own or not k.startswith(NOT_SENT)]
    return str(built[0].url), sent


def _client(base_url: str, key: str | None, azure_api_version: str, http: httpx2.Client) -> OpenAI:
    """Returns the client that signs requests as the endpoint wants it. Azure takes an API key in the header `api-key`,
    and a token of Entra ID in the header `Authorization: Bearer`. A key that has the form of a JWT is sent as such a
    token."""
    if not azure_api_version:
        return OpenAI(base_url=base_url, api_key=key or "none", http_client=http)
    is_token = key is not None and key.startswith("eyJ") and key.count(".") == 2
    return AzureOpenAI(
        azure_endpoint=base_url.rstrip("/").removesuffix("/openai"),
        api_version=azure_api_version,
        api_key=None if is_token else key or "none",
        azure_ad_token=key if is_token else None,
        http_client=http,
    )


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
