"""Makes the requests about batches: a file is uploaded, a batch is created, looked at, found again, and its results are
fetched.

openai's client builds each request (Files and Batches), and the session of the Teacher carries it. Nothing is retried
here: whoever asks knows whether a request may be repeated.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import aiohttp

from harvest.core.errors import AttemptFailed, Cut, Late, StoreUnusable, TooLarge
from harvest.core.foreign_json import Json, as_dict, as_list, parse
from harvest.endpoint.batches.forms import CHAT, WINDOW, Form
from harvest.endpoint.batches.status import QUEUE_FULL, BatchStatus, read_status
from harvest.endpoint.client import MOST_RENEWALS, Teacher
from harvest.endpoint.failures import error_in, refusal
from harvest.endpoint.transport import HTTP_ERRORS, as_failure, unpacked

if TYPE_CHECKING:
    from openai import OpenAI

CALL_S = 60.0
"""A request about a batch that brought no answer, or no more of one, for so many seconds has failed."""
LEAST_BYTES_A_SECOND = 50_000
"""An upload may be as slow as this."""
ANSWER_BYTES = 32 << 20
"""The longest answer about batches that is read."""
PAGE = 100
"""How many batches one page of the list has."""
Body = Callable[[], Iterator[bytes]]
"""A function that gives the pieces of a request's body."""


class Refused(Exception):
    """Says that the endpoint refused a request about a batch, with a status that is no failure of the network."""

    def __init__(self, status: int, failure: AttemptFailed, codes: frozenset[str] = frozenset()) -> None:
        super().__init__(status, failure, codes)
        self.status, self.failure, self.codes = status, failure, codes

    @property
    def queue_is_full(self) -> bool:
        """Whether too many tokens are enqueued, so that a batch finds room once another one has ended."""
        return QUEUE_FULL in self.codes or (self.status == 429 and "enqueued" in self.failure.message.lower())

    def __str__(self) -> str:
        return str(self.failure)


class BatchApi:
    """Makes requests about batches at one endpoint. Each method raises Refused when the endpoint refuses, and an
    AttemptFailed when no whole answer came."""

    def __init__(self, teacher: Teacher, form: Form) -> None:
        self.form = form
        self._teacher = teacher

    async def is_there(self) -> bool | None:
        """Whether the endpoint has batches, by its list of them, which costs nothing. None: it does not say."""
        try:
            await self._document(lambda client, headers: client.batches.list(limit=1, extra_headers=headers))
        except Refused as refused:
            return False if refused.status in (404, 405, 501) else None
        except AttemptFailed:
            return None
        return True

    async def upload(self, file: Path) -> str:
        """Uploads a file of rows. Returns its id. An upload that no batch names runs nothing and costs nothing."""
        form, within_s = self.form, CALL_S + _size(file) / LEAST_BYTES_A_SECOND

        with file.open("rb") as rows:

            def make(client: "OpenAI", headers: Any) -> None:
                rows.seek(0)
                body: dict[str, Any] = {"purpose": form.purpose}
                if form.upload_path != "/files":
                    body |= {"file_name": file.name}
                    files = {"file": (file.name, rows)}
                    headers = {**headers, "content-type": "multipart/form-data"}
                    options: Any = {"headers": headers}
                    client.post(form.upload_path, cast_to=object, body=body, files=files, options=options)
                    return
                client.files.create(
                    file=(file.name, rows),
                    purpose=form.purpose,  # type: ignore[arg-type]
                    extra_headers=headers,
                )

            document = await self._json(make, "POST", within_s)
        found = as_dict(document.get("data")).get("id") or document.get("id")
        if not isinstance(found, str) or not found:
            raise Cut("the answer to the upload names no file")
        return found

    async def create(self, file_id: str, metadata: dict[str, str]) -> BatchStatus:
        """Creates a batch out of an uploaded file. From here on it is billed."""
        beside: dict[str, Any] = {"metadata": metadata} if self.form.has_metadata else {}

        def make(client: "OpenAI", headers: Any) -> None:
            client.batches.create(
                input_file_id=file_id, endpoint=CHAT, completion_window=WINDOW, extra_headers=headers, **beside
            )

        return self._created(await self._json(make, "POST"))

    async def create_of_rows(self, file: Path, model: str, metadata: dict[str, str]) -> BatchStatus:
        """Creates a batch whose rows stand in its own body, after `endpoint` and `model`, as the endpoint wants it."""
        head = json.dumps({"endpoint": CHAT, "model": model, "completion_window": WINDOW, "metadata": metadata})

        def make(client: "OpenAI", headers: Any) -> None:
            options: Any = {"headers": headers}
            client.post("/batches", cast_to=object, body={}, options=options)

        def body() -> Iterator[bytes]:
            yield head[:-1].encode() + b', "requests": ['
            with file.open("rb") as rows:
                for n, row in enumerate(rows):
                    yield (b"," if n else b"") + row.rstrip(b"\n")
            yield b"]}"

        return self._created(await self._json(make, "POST", CALL_S + _size(file) / LEAST_BYTES_A_SECOND, body))

    def _created(self, document: Json) -> BatchStatus:
        status = read_status(self.form.job(document))
        if not status.id:
            raise Cut("the answer names no batch")
        return status

    async def look(self, batch_id: str) -> BatchStatus:
        """Returns what the endpoint says of a batch."""
        return read_status(
            self.form.job(
                await self._json(lambda client, headers: client.batches.retrieve(batch_id, extra_headers=headers))
            )
        )

    async def all(self) -> AsyncIterator[BatchStatus]:
        """Gives all batches of the account, the newest first, to the end of the list."""
        after, seen = "", set[str]()
        while True:
            at: dict[str, Any] = {"after": after} if after else {}

            def make(client: "OpenAI", headers: Any, at: dict[str, Any] = at) -> None:
                client.batches.list(limit=PAGE, extra_headers=headers, **at)

            document = await self._document(make)
            jobs = as_list(document) or as_list(as_dict(document).get("data"))
            page = [read_status(as_dict(job)) for job in jobs]
            new = [status for status in page if status.id and status.id not in seen]
            for status in new:
                seen.add(status.id)
                yield status
            # Without `has_more` the list may go on behind a short page: a batch that is overlooked is bought twice.
            if not new or isinstance(document, list) or as_dict(document).get("has_more") is False:
                return
            after = new[-1].id

    async def fetch(self, file_id: str, to: Path, limit_bytes: int) -> None:
        """Downloads a file of results to `to`. What `to` holds already is not downloaded again: the download goes on
        behind it. Raises TooLarge beyond `limit_bytes`."""
        has = _size(to)

        def make(client: "OpenAI", headers: Any) -> None:
            client.files.content(file_id, extra_headers=headers)

        more = {"range": f"bytes={has}-"} if has else {}
        async with self._answer(make, "GET", more) as response:
            if response.status == 416 and has:  # all of it is here
                return
            if response.status not in (200, 206):
                raise await self._refused(response)
            skip = has if response.status == 200 else 0
            with to.open("ab") as file:
                async for piece in self._pieces(response, limit_bytes + skip - has):
                    rest = piece[skip:]
                    skip -= len(piece) - len(rest)
                    _written(file, rest)

    async def fetch_pages(self, batch_id: str, to: Path, limit_bytes: int) -> None:
        """Downloads all pages of results to `to`, one row a line, from the first page."""
        cursor, size = "", 0
        with to.open("wb") as file:
            while True:
                query = {"cursor": cursor} if cursor else {}

                def make(client: "OpenAI", headers: Any, query: dict[str, str] = query) -> None:
                    options: Any = {"headers": headers, "params": query}
                    client.get(f"/batches/{batch_id}/results", cast_to=object, options=options)

                page = as_dict(await self._document(make))
                for row in as_list(page.get("data")):
                    size += _written(file, json.dumps(row, default=str).encode() + b"\n")
                if size > limit_bytes:
                    raise TooLarge(f"the results passed {limit_bytes:,} bytes")
                following = page.get("next_cursor")
                if not isinstance(following, str) or not following or following == cursor:
                    return
                cursor = following

    # ---- one request

    async def _json(
        self,
        make: Any,
        method: str = "GET",
        within_s: float = CALL_S,
        body: Body | None = None,
    ) -> Json:
        return as_dict(await self._document(make, method, within_s, body))

    async def _document(
        self,
        make: Any,
        method: str = "GET",
        within_s: float = CALL_S,
        body: Body | None = None,
    ) -> Any:
        """Returns the JSON of an answer of status 2xx."""
        try:
            async with asyncio.timeout(within_s), self._answer(make, method, {}, body) as response:
                if not 200 <= response.status < 300:
                    raise await self._refused(response)
                return parse(self._teacher.clean(b"".join([p async for p in self._pieces(response, ANSWER_BYTES)])))
        except TimeoutError:
            raise Late(f"no whole answer within {within_s:.0f} s") from None

    @asynccontextmanager
    async def _answer(
        self, make: Any, method: str, more: dict[str, str], body: Body | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Sends the request that `make` builds, with `more` headers, and with `body` in place of its own. If a key that
        a command printed is refused, it is sent again with a new key."""
        for renewals in range(MOST_RENEWALS + 1):
            signed = self._teacher.credentials.signed
            address, headers, request = self._teacher.credentials.build(make)
            sent = [*headers, *more.items()]
            data = None
            if method == "POST":
                pieces = request.stream if body is None else body()
                data = _pieces_of(pieces)  # type: ignore[arg-type]
                if body is None and (length := request.headers.get("content-length")):
                    sent.append(("content-length", length))
            try:
                async with self._teacher.session.request(
                    method, address, data=data, headers=sent, allow_redirects=False
                ) as response:
                    is_refused = response.status == 401 and renewals < MOST_RENEWALS
                    if is_refused and await self._teacher.credentials.renewed(signed):
                        continue
                    signed.was_accepted = signed.was_accepted or response.status < 300
                    yield response
                    return
            except HTTP_ERRORS as e:
                raise self._cleaned(as_failure(e)) from None

    async def _pieces(self, response: aiohttp.ClientResponse, limit_bytes: int) -> AsyncIterator[bytes]:
        """Gives the body, unpacked. Raises Late when nothing more comes for CALL_S."""
        body = unpacked(response, response.content.iter_any(), limit_bytes)
        try:
            while True:
                async with asyncio.timeout(CALL_S):
                    piece = await anext(body, None)
                if piece is None:
                    return
                yield piece
        except TimeoutError:
            raise Late(f"nothing more came for {CALL_S:.0f} s") from None
        finally:
            await body.aclose()

    async def _refused(self, response: aiohttp.ClientResponse) -> Exception:
        data = b"".join([p async for p in self._pieces(response, ANSWER_BYTES)])
        data = self._teacher.clean(data)
        try:
            codes = error_in(parse(data, ignore_rest=True)).codes
        except Cut:
            codes = frozenset()
        return Refused(response.status, self._cleaned(refusal(response.status, data)), codes)

    def _cleaned(self, failure: AttemptFailed) -> AttemptFailed:
        return type(failure)(self._teacher.clean_text(failure.message), failure.retry_after_s)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _written(file: BinaryIO, data: bytes) -> int:
    """Writes, and returns the number of bytes. Raises StoreUnusable when the disk does not take them."""
    try:
        return file.write(data)
    except OSError as e:
        raise StoreUnusable(f"{file.name}: {e.strerror}: the results of a batch wait at the endpoint") from None


async def _pieces_of(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)
