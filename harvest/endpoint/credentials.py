"""Says how the requests to one endpoint are addressed and signed, and renews a key that a command prints.

A key may end while a run goes on (the tokens of Google, Azure and AWS end after an hour). If `api_key_command` is set,
the command is run again when the endpoint refuses the key, once for all the requests that were refused with it. Keys in
environment variables are taken in harvest/asking/planning/keys_and_prices.py.
"""

import asyncio
import os
import shlex
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harvest.core.errors import ConfigError, RunRefused
from harvest.core.printable import one_line
from harvest.endpoint.redaction import Redaction

if TYPE_CHECKING:
    import httpx2

    from harvest.endpoint.openai_client import Make

COMMAND_S = 60
"""A command that has not printed a key after this many seconds has failed."""
FRESH_S = 300
"""A key that was never accepted is renewed only if it is older than this. So a command whose keys are all refused is
not run again and again."""
PIPE, DEVNULL = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL


@dataclass(frozen=True, slots=True)
class Access:
    """Holds what a request to an endpoint needs beside its address and a fixed key."""

    key_command: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    """The values among `headers` that came from the environment."""
    azure_api_version: str = ""
    """Not empty: the address is a resource of Azure OpenAI, and `model` is the deployment."""
    model: str = ""


@dataclass(slots=True, eq=False)
class Signed:
    """Holds the address and the headers of every request that is sent with one key."""

    address: str
    headers: list[tuple[str, str]]
    key: str | None
    since_s: float
    was_accepted: bool = False
    """Whether the endpoint has taken the key at least once."""


class Credentials:
    """Signs the requests to one endpoint. `signed` has the address and the headers that requests are sent with now.
    `redaction` removes from texts every key that was used so far."""

    signed: Signed

    def __init__(self, base_url: str, key: str | None, access: Access) -> None:
        self._base_url, self._key, self._access = base_url, key, access
        self.redaction = Redaction(*access.secrets)
        self._renewal: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Gets the first key. Raises ConfigError when the address or a header is wrong, or when the command fails."""
        command = self._access.key_command
        self.signed = self._sign(await printed_key(command) if command else self._key)

    async def renewed(self, refused: Signed) -> bool:
        """Returns whether the request that was refused is worth sending again, because there is another key now.

        Raises RunRefused when the command that prints keys fails.
        """
        is_old = refused.was_accepted or time.monotonic() - refused.since_s > FRESH_S
        if self._access.key_command and self.signed is refused and is_old:
            refused.was_accepted, refused.since_s = False, time.monotonic()
            self._renewal = asyncio.create_task(self._renew())
        if self._renewal is not None:
            await asyncio.shield(self._renewal)
        return self.signed is not refused

    def build(self, make: "Make") -> tuple[str, list[tuple[str, str]], "httpx2.Request"]:
        """Returns (address, headers, request) of one request that `make` makes with openai's client, signed with the
        key of now."""
        from harvest.endpoint.openai_client import build

        a = self._access
        return build(make, self._base_url, self.signed.key, a.headers, a.azure_api_version)

    def blank(self, *secrets: str | None) -> None:
        """Blanks more secrets from now on."""
        self.redaction = self.redaction.and_of(*secrets)

    def close(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()

    async def _renew(self) -> None:
        try:
            key = await printed_key(self._access.key_command)
            if key != self.signed.key:
                self.signed = self._sign(key)
        except ConfigError as e:
            raise RunRefused(f"the endpoint refuses the API key, and there is no other: {e}") from None

    def _sign(self, key: str | None) -> Signed:
        from harvest.endpoint.openai_client import chat_request  # takes half a second: not before it is needed

        a = self._access
        self.blank(key)
        address, headers = chat_request(self._base_url, key, a.headers, a.azure_api_version, a.model)
        return Signed(address, headers, key, time.monotonic())


async def printed_key(command: str) -> str:
    """Runs a command, without a shell, and returns the one line that it prints. Raises ConfigError when it fails."""
    words = shlex.split(command)
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
    except OSError as e:
        raise ConfigError(f"api_key_command: {one_line(words[0], 100)}: {e.strerror}") from None
    try:
        async with asyncio.timeout(COMMAND_S):
            out, err = await process.communicate()
    except TimeoutError:
        raise ConfigError(f"api_key_command: it has not ended after {COMMAND_S} seconds") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    key = out.decode("utf-8", "replace").strip()
    if process.returncode:
        said = one_line((err.strip().splitlines() or [b""])[-1], 200)
        raise ConfigError(f"api_key_command: exit code {process.returncode}" + (f": {said}" if said else ""))
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError("api_key_command: it printed " + ("what cannot be a key" if key else "nothing"))
    return key
