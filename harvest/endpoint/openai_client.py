"""Builds requests with the openai client: their address, key and headers.

These are the same for every chat completion at one endpoint, so openai builds one request when a Teacher is opened.
client.py sends it over aiohttp, with the body of each attempt. Files and batches are built one by one (batches/).

Import this file only where endpoints are asked, because openai takes half a second to import.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import httpx2
from openai import AzureOpenAI, OpenAI, omit
from openai._types import Headers, RequestOptions

from harvest.core.errors import ConfigError

HEADERS = {"user-agent": "winnow", "accept-encoding": "identity"}

NOT_SENT = ("x-stainless-", "host", "connection", "content-length")
"""Headers that begin with one of these are left out. openai's own headers tell about this machine and its Python;
aiohttp writes the others for each connection and body."""

VARIABLES = ("OPENAI_", "AZURE_OPENAI_")
"""openai reads environment variables that begin with one of these: a base address, keys, an organization, headers for
every request. They may be meant for another endpoint, so none of them reaches a teacher, except a key whose variable
the user named for that teacher."""


Make = Callable[[OpenAI, Headers], object]
"""A function that makes one request with openai's client and these headers."""

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

    def chat(client: OpenAI, headers: Headers) -> None:
        options = RequestOptions(headers=headers)
        client.post("/chat/completions", body={"model": model}, cast_to=httpx2.Response, options=options)

    return build(chat, base_url, key, own_headers, azure_api_version)[:2]


def build(
    make: Make, base_url: str, key: str | None, own_headers: Mapping[str, str],
    azure_api_version: str = "",
) -> tuple[str, list[tuple[str, str]], httpx2.Request]:  # fmt: skip
    """Returns (address, headers, request) of the one request that `make(client, headers)` makes with openai's client,
    passing on the headers. Nothing is sent, and the request's body is not read. Raises what `chat_request` raises."""
    own = {name.lower(): value for name, value in own_headers.items()}
    without = {} if key else dict.fromkeys(SIGNING, omit)
    kept = _Kept()
    with _without_variables(), httpx2.Client(transport=kept, trust_env=False) as http:
        try:
            client = _client(base_url, key, azure_api_version, http)
            make(client, {**HEADERS, **without, **own})
        except httpx2.InvalidURL as e:
            raise ConfigError(f"base_url is no address: {e}") from None
        except UnicodeEncodeError:
            raise ConfigError("the API key has a character that is not ASCII: look into its variable") from None
    request = kept.requests[0]
    sent = [(k, v) for k, v in request.headers.items() if k in own or not k.startswith(NOT_SENT)]
    return str(request.url), sent, request


class _Kept(httpx2.BaseTransport):
    """Keeps requests in place of sending them."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return httpx2.Response(200, json={})


def _client(base_url: str, key: str | None, azure_api_version: str, http: httpx2.Client) -> OpenAI:
    """Returns the client that signs requests as the endpoint wants it. Azure takes an API key in the header `api-key`,
    and a token of Entra ID in the header `Authorization: Bearer`. A key that has the form of a JWT is sent as such a
    token."""
    if not azure_api_version:
        return OpenAI(base_url=base_url, api_key=key or "none", http_client=http, max_retries=0)
    is_token = key is not None and key.startswith("eyJ") and key.count(".") == 2
    return AzureOpenAI(
        azure_endpoint=base_url.rstrip("/").removesuffix("/openai"),
        api_version=azure_api_version,
        api_key=None if is_token else key or "none",
        azure_ad_token=key if is_token else None,
        http_client=http,
        max_retries=0,
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
