"""Sends one try, and returns a Reply or raises a named failure. Every teacher, judge and student is asked here.

openai's client builds the request (openai_client.py), aiohttp carries it (transport.py), and the answer is read under a
size limit (response.py). Nothing is retried and no redirect is followed, because what that costs would not be in the
store's books.
"""

import asyncio
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from typing import Any, Self

import aiohttp

from harvest.core.errors import AttemptFailed, Cut, Late, RowRefused, RunRefused, TooLarge
from harvest.core.foreign_json import Json, as_dict, label, parse
from harvest.core.nouns import Continuation, CutPart, Reply
from harvest.core.teachers import Sampling
from harvest.endpoint.announced_limits import announced, precise
from harvest.endpoint.continuation import NotContinued, read_rest
from harvest.endpoint.credentials import Access, Credentials, Signed
from harvest.endpoint.failures import refused_parameter, reply_of, retry_after_s
from harvest.endpoint.redaction import Redaction
from harvest.endpoint.reply import with_cost_in_headers
from harvest.endpoint.response import BodyReader, ReadDocument, read_response
from harvest.endpoint.transport import (
    HTTP_ERRORS,
    as_failure,
    in_batches,
    open_session,
    proxy_for,
    read_to_end,
    secrets_of,
    unpacked,
)

OPTIONAL = ("temperature", "top_p", "top_k", "min_p", "reasoning_effort")
"""The settings of [sampling] that are sent only if they are set."""

MOST_RENEWALS = 2
"""The most times that one request is sent again with a new key."""
ID_HEADERS = ("x-generation-id", "x-request-id", "request-id")
"""Headers that may hold an id, the best first. GET /generation takes the first (OpenRouter's). The provider's support
takes the others."""
ID = re.compile(rb'\s*\{\s*"id"\s*:\s*"([^"\\]{1,200})"')
"""The beginning of a body that holds the answer's id. The body may break off after it."""
LOOK_UP_BYTES = 1 << 20
IS_UP_S = 30
"""How many seconds an endpoint may take to answer `GET /models`."""

LONGEST_MESSAGE = 700
"""A failure's message is cut after this many characters."""


def request_body(
    model: str, messages: Sequence[Mapping[str, str]], sampling: Sampling, sample: int, max_tokens: int
) -> dict[str, Any]:
    """Returns the body of one attempt's request, in OpenAI's chat form.

    The body is part of the attempt's key, so it holds only what the teacher sees.
    """
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
    """Returns how many bytes the body of an honest answer can have at most.

    The limit is generous: some endpoints send the chain three times, escaped, and streams wrap each token.
    """
    return (1 << 20) + max_tokens * (256 + 256 * top_logprobs + (1024 if stream else 0))


@dataclass(slots=True)
class Learned:
    """Holds what an endpoint wants changed in its requests, as its refusals showed. It is stored with the run."""

    length_field: str = "max_tokens"
    dropped: tuple[str, ...] = ()
    continues: Mapping[CutPart, str] = field(default_factory=dict)
    """The form in which the endpoint goes on with an answer that was cut in this part; empty if it does not go on. A
    part that is not in here was not tried."""


@dataclass(slots=True)
class Arriving:
    """Holds what has come so far of an answer that is still on its way. Only a stream shows something before its
    end."""

    headers: dict[str, str] = field(default_factory=dict)
    """Maps the names of the answer's headers, in lower case, to their values."""
    seen_id: str | None = None
    """The id that the endpoint gave the answer or the request, from a header or the beginning of the body."""
    partial: Callable[[], Reply] | None = None
    """Reads what has come so far of a stream. None: no stream has begun."""

    def reply(self) -> Reply | None:
        """Returns the reply as far as it has come, or None when neither a word nor an id has come."""
        reply = self.partial() if self.partial is not None else None
        return self.named(reply if reply is not None and (reply.answer or reply.reasoning_kind) else None)

    def named(self, reply: Reply | None) -> Reply | None:
        """Returns the reply with the id by which the endpoint can be asked what it cost; without an id, the reply as it
        is. If there is an id and no reply, returns a reply that has only the id."""
        if reply is not None and reply.response_id is not None:
            return reply
        of_stream = self.partial().response_id if self.partial is not None else None
        seen = of_stream or self.seen_id
        return reply if seen is None else replace(reply or Reply(""), response_id=seen)


def _is_in_vain(failure: AttemptFailed, going_on: Continuation) -> bool:
    """Whether a failure shows that the endpoint does not go on with cut answers."""
    if isinstance(why := failure.__cause__, NotContinued):
        return why.by_endpoint
    return isinstance(failure, RowRefused) and not going_on.is_known


class Teacher:
    """Connects to an endpoint with its key. Open it with `async with`; then it can be asked any number of times at
    once."""

    def __init__(
        self,
        base_url: str,
        key: str | None,
        *,
        stream: bool = False,
        idle_timeout_s: float | None = None,
        stop_repeating: bool = True,
        droppable: frozenset[str] = frozenset(),
        access: Access | None = None,
    ) -> None:
        """Keeps the settings; nothing is opened yet.

        `idle_timeout_s` and `stop_repeating` count only for streams. `droppable` names parameters that the user did not
        set. If the endpoint refuses one of them, it is left out. `access` has more headers, and a command that prints
        the key.
        """
        self.learned = Learned()
        self._base_url = base_url
        self.credentials = Credentials(base_url, key, access or Access())
        self._stream = stream
        self._idle_timeout_s = idle_timeout_s if stream else None
        self._stop_repeating = stop_repeating
        self._droppable = droppable
        self._session: aiohttp.ClientSession | None = None

    @property
    def _redaction(self) -> Redaction:
        return self.credentials.redaction

    @property
    def session(self) -> aiohttp.ClientSession:
        """The session that carries the requests to this endpoint."""
        if self._session is None:
            raise RuntimeError("Teacher is used outside its `async with`")
        return self._session

    def clean(self, data: bytes) -> bytes:
        """Returns the bytes without the key."""
        return self._redaction.data(data)

    def clean_text(self, text: str) -> str:
        """Returns the text without the key, as long as a failure's message may be."""
        return self._redaction.text(text)[:LONGEST_MESSAGE]

    async def __aenter__(self) -> Self:
        """Opens the connections. Raises ConfigError when base_url is no address, when the key cannot be had or sent,
        and when the environment names a proxy or certificates that cannot be used."""
        await self.credentials.open()
        proxy = proxy_for(self._base_url)
        self.credentials.blank(*secrets_of(proxy))
        self._session = open_session(self._base_url, proxy, self._idle_timeout_s)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.credentials.close()
        if self._session is not None:
            await self._session.close()

    async def ask(
        self,
        body: Mapping[str, Any],
        limit_bytes: int,
        arriving: Arriving | None = None,
        going_on: Continuation | None = None,
    ) -> Reply:
        """Asks once and returns the reply, or raises an AttemptFailed.

        With `going_on`, the body ends with a cut answer (`continuing_body`), and the reply is its rest alone. Whether
        the endpoint goes on is remembered. If it does not, RowRefused is raised, with what it sent.

        The caller sets the deadline; `arriving` shows what has come by then. If the endpoint refuses a parameter with a
        400, which is free, the request is sent again without that parameter, and so are all later requests. If it
        refuses a key that a command printed, which is free too, the request is sent again with a new key.
        """
        arriving = arriving or Arriving()
        read = reply_of if going_on is None else partial(read_rest, going_on=going_on)
        renewals = 0
        while True:
            sent, signed = self._as_learned(body), self.credentials.signed
            arriving.headers.clear()
            arriving.seen_id = None
            try:
                answer = await self._send(sent, signed, limit_bytes, arriving, read)
                if isinstance(answer, Reply):
                    return self._came(answer, arriving, going_on)
                status, data, after_s = answer
                if status == 401 and renewals < MOST_RENEWALS and await self.credentials.renewed(signed):
                    renewals += 1
                    continue
                if status == 400 and self._learn(refused_parameter(status, data), sent):
                    continue
                return self._came(read_response(status, data, after_s, read), arriving, going_on)
            except AttemptFailed as failure:
                if going_on is not None and _is_in_vain(failure, going_on):
                    self._learn_continuing(going_on.part, "")
                raise self._cleaned(failure, arriving) from None

    def _came(self, reply: Reply, arriving: Arriving, going_on: Continuation | None) -> Reply:
        if going_on is not None and not going_on.is_known:
            self._learn_continuing(going_on.part, going_on.form)
        return self._redaction.reply(with_cost_in_headers(reply, arriving.headers))

    def _learn_continuing(self, part: CutPart, form: str) -> None:
        self.learned.continues = {**self.learned.continues, part: form}

    async def is_up(self) -> bool:
        """Whether the endpoint answers `GET /models`, with whatever it says to that. This costs nothing."""
        signed = self.credentials.signed
        address = signed.address.replace("/chat/completions", "/models")
        within = aiohttp.ClientTimeout(total=IS_UP_S)
        try:
            async with self.session.get(address, headers=signed.headers, allow_redirects=False, timeout=within) as said:
                return said.status < 500 and said.status != HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
        except HTTP_ERRORS:
            return False

    def _cleaned(self, failure: AttemptFailed, arriving: Arriving) -> AttemptFailed:
        """Returns the failure without the key, with the seconds that the endpoint asks us to wait, and with an id if it
        may have been billed."""
        headers = arriving.headers
        now_unix_s = time.time()
        wait_s = precise(retry_after_s(headers, now_unix_s), announced(headers, now_unix_s))
        reply = failure.reply if isinstance(failure.reply, Reply) else None
        reply = arriving.named(reply) if failure.in_doubt else reply
        reply = None if reply is None else self._redaction.reply(with_cost_in_headers(reply, headers))
        return type(failure)(self._redaction.text(failure.message)[:LONGEST_MESSAGE], wait_s, reply)

    def _as_learned(self, body: Mapping[str, Any]) -> dict[str, Any]:
        sent = {k: v for k, v in body.items() if k not in self.learned.dropped}
        if self.learned.length_field != "max_tokens" and "max_tokens" in sent:
            sent[self.learned.length_field] = sent.pop("max_tokens")
        if self._stream:
            sent |= {"stream": True, "stream_options": {"include_usage": True}}
        return sent

    def row_body(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the body as it stands in a row of a batch: as this endpoint wants it, and never as a stream."""
        return {k: v for k, v in self._as_learned(body).items() if k not in ("stream", "stream_options")}

    def adapts_to(self, refused: str | None, body: Mapping[str, Any]) -> bool:
        """Notes that a row of a batch was refused for one of its parameters. Returns whether the row is worth sending
        again, as the endpoint wants it. Raises RunRefused as `ask` does."""
        if refused is None:
            return False
        known = refused in self.learned.dropped or (refused, self.learned.length_field) == (
            "max_tokens", "max_completion_tokens",
        )  # fmt: skip
        return known or self._learn(refused, self.row_body(body))

    def cleaned(self, outcome: Reply | AttemptFailed) -> Reply | AttemptFailed:
        """Returns the outcome of one row of a batch, with the API key removed from all of its texts."""
        if isinstance(outcome, Reply):
            return self._redaction.reply(outcome)
        reply = self._redaction.reply(outcome.reply) if isinstance(outcome.reply, Reply) else None
        return type(outcome)(self.clean_text(outcome.message), None, reply)

    def _learn(self, refused: str | None, sent: Mapping[str, Any]) -> bool:
        """Notes that the endpoint refuses a parameter. Returns whether sending the request again can help.

        Raises RunRefused when the user has set the refused parameter under [sampling].
        """
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

    async def _send(
        self, body: Mapping[str, Any], signed: Signed, limit_bytes: int, arriving: Arriving, read: ReadDocument
    ) -> Reply | tuple[int, bytes, float]:
        """Sends the request and returns the reply if it is a stream, else (status, body, seconds from sending to the
        status) of the answer."""
        headers = arriving.headers
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        sent_s = time.monotonic()
        try:
            sending = self.session.post(signed.address, data=data, headers=signed.headers, allow_redirects=False)
            response = await sending
        except HTTP_ERRORS as e:
            raise as_failure(e) from None
        after_s = time.monotonic() - sent_s
        async with response:
            signed.was_accepted = signed.was_accepted or response.status == 200
            clean = self._redaction.text
            headers.update((clean(k).lower(), clean(v)) for k, v in response.headers.items())
            arriving.seen_id = self._id_of(next((headers[name] for name in ID_HEADERS if name in headers), None))
            if self._stream and response.status == 200 and "event-stream" in headers.get("content-type", ""):
                return await self._read_stream(response, limit_bytes, arriving, read)
            chunks: list[bytes] = []
            try:
                async for chunk in unpacked(response, response.content.iter_any(), limit_bytes):
                    if not chunks and (found := ID.match(chunk)):
                        arriving.seen_id = self._id_of(found[1].decode("utf-8", "replace"))
                    chunks.append(chunk)
            except HTTP_ERRORS as e:
                raise as_failure(e) from None
            return response.status, self._redaction.data(b"".join(chunks)), after_s

    def _id_of(self, text: str | None) -> str | None:
        return label(self._redaction.text(text)) if text else None

    async def look_up(self, url: str, timeout_s: float) -> tuple[int, Json]:
        """Returns (status, JSON object) of a GET with this endpoint's key. The object is {} when there is none. This
        costs nothing: it is for what a provider tells of a request or an account.

        Raises an AttemptFailed when no whole answer came in time.
        """
        try:
            async with (
                asyncio.timeout(timeout_s),
                self.session.get(url, headers=self.credentials.signed.headers, allow_redirects=False) as response,
            ):
                data = b"".join([c async for c in unpacked(response, response.content.iter_any(), LOOK_UP_BYTES)])
                with suppress(Cut):  # an error page
                    return response.status, as_dict(parse(self._redaction.data(data)))
                return response.status, {}
        except TimeoutError:
            raise Late(f"no answer within {timeout_s:g} s") from None
        except HTTP_ERRORS as e:
            raise self._cleaned(as_failure(e), Arriving()) from None

    async def _read_stream(
        self, response: aiohttp.ClientResponse, limit_bytes: int, arriving: Arriving, read: ReadDocument
    ) -> Reply:
        """Reads a stream and returns the reply.

        If the answer runs into a loop, the reply holds what has come by then. The rest stays unread, and the connection
        is closed.
        """
        reader = BodyReader(read)
        arriving.partial = lambda: self._redaction.reply(reader.partial())
        longest_pause_s = (self._idle_timeout_s or math.inf) / 4
        broken: AttemptFailed | None = None
        held = b""
        try:
            async with aclosing(unpacked(response, in_batches(response, longest_pause_s), limit_bytes)) as chunks:
                async for chunk in chunks:
                    data = self._redaction.data(held + chunk)
                    whole = len(data) - self._redaction.begun_at_end(data)
                    held = data[whole:]
                    reader.feed(data[:whole])
                    if self._stop_repeating and (loop := reader.loop):
                        return reader.broken_off(loop)
                    if reader.saw_done:
                        await read_to_end(chunks)
                        break
            reader.feed(held)
        except (TooLarge, Cut) as e:
            broken = type(e)(e.message, None, reader.partial())
        except HTTP_ERRORS as e:
            broken = Cut(f"the stream broke off: {as_failure(e).message}", None, reader.partial())
        try:
            return reader.finish()
        except AttemptFailed:
            if broken is None:
                raise
            raise broken from None
