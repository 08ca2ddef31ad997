"""Serves the page on 127.0.0.1, to those who know its token. It reads stores, and hands marks to the command.

The token is the first part of every address. There is no cookie, since a cookie for 127.0.0.1 is sent to every server
on this machine, those of other users included. A request that names another host is refused: a page of the web that
lets its own name mean 127.0.0.1 (DNS rebinding) gets nothing.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aiohttp import web

from harvest.core.errors import WinnowError
from harvest.core.nouns import Outcome
from harvest.report.viewer.attempt_list import Chosen, attempt_list
from harvest.report.viewer.attempt_values import attempt_values
from harvest.store import MARKS, Mark, Store, WaitingMarks

PAGE = Path(__file__).parent / "page"
STYLE = Path(__file__).parents[1] / "style.css"
"""The style sheet that the viewer shares with the report's page."""
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""The page's scripts and styles come from its own files alone, and no script may turn a text into HTML."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SEARCH_S = 0.2
"""How many seconds one request searches, before the page asks for more."""
MOST_BODY_BYTES = 1 << 16
OUTCOMES = {mark.value: mark for mark in MARKS}
LOCAL = ("127.0.0.1", "localhost", "::1")

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Memory(Protocol):
    """Remembers where the user stopped, from one start of the viewer to the next."""

    def recall(self) -> dict[str, Any]: ...

    def keep(self, place: dict[str, Any]) -> None: ...


@dataclass(slots=True)
class Shown:
    """What the page shows: runs in their stores, and what happens to a mark."""

    runs: Sequence[Chosen]
    take_in: Callable[[Store], bool]
    """Takes the marks that wait beside a store into it. Returns False if another process is writing to the store."""
    now: Callable[[], str]
    memory: Memory
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    marked: int = 0
    """How many marks were set."""
    _list: tuple[Any, bytes] | None = None
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _listing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self, function: Callable[..., T], *args: Any) -> T:
        """Calls a function that reads a store, in a thread. One at a time reads: SQLite's connections are not shared by
        threads at the same time."""
        async with self._reading:
            return await asyncio.to_thread(function, *args)

    def waiting(self) -> dict[tuple[int, int], Mark]:
        """Maps (index of the run, attempt id) to the newest mark that its store has not taken in."""
        found = {id(store): WaitingMarks(store.path).found() for store, _ in self.runs}
        return {(at, m.attempt_id): m for at, (store, _) in enumerate(self.runs) for m in found[id(store)]}

    async def listed(self) -> bytes:
        """Returns the list of attempts, made anew if a store or a mark has changed. It is made over connections of its
        own, so that attempts are read meanwhile."""
        async with self._listing:
            state = await self.read(self._state)
            if self._list is None or self._list[0] != state:
                self._list = (state, await asyncio.to_thread(self._made, state[1]))
            return self._list[1]

    def _state(self) -> tuple[list[int], dict[tuple[int, int], str]]:
        """Returns what the list depends on: the versions of the stores' data, and the marks that wait."""
        waiting = {place: m.outcome.value for place, m in self.waiting().items()}
        return [store.data_version() for store, _ in self.runs], waiting

    def _made(self, waiting: dict[tuple[int, int], str]) -> bytes:
        with ExitStack() as opened:
            paths = {store.path: store.url for store, _ in self.runs}
            again = {p: opened.enter_context(Store.open(url, write=False)) for p, url in paths.items()}
            return attempt_list([(again[store.path], name) for store, name in self.runs], waiting)

    def attempt(self, run: int, attempt_id: int) -> dict[str, Any] | None:
        """Returns what the page shows of one attempt; None if the run has no such attempt."""
        store, name = self.runs[run]
        found = store.one_story(attempt_id)
        if found is None or found[0].run.name != name:
            return None
        return attempt_values(*found, self.waiting().get((run, attempt_id)))

    def first(self) -> tuple[int, int] | None:
        """Returns (index of the run, attempt id) of the attempt that the page opens with; None if there is none."""
        place = self.memory.recall()
        run, attempt_id = place.get("run"), place.get("id")
        if type(run) is int and type(attempt_id) is int and 0 <= run < len(self.runs) and self.attempt(run, attempt_id):
            return run, attempt_id
        for at, (store, name) in enumerate(self.runs):
            if (first := store.first_attempt(store.run_id(name))) is not None:
                return at, first
        return None

    def set_mark(self, run: int, attempt_id: int, outcome: Outcome, note: str) -> None:
        """Puts a mark on the disk, and into the store if nobody else is writing there. Raises OSError, LookupError."""
        store = self.runs[run][0]
        key = store.key_of(attempt_id)
        if key is None or store.answer_of(attempt_id) is None:
            raise LookupError(f"no answer {attempt_id} to mark")
        WaitingMarks(store.path).put(Mark(attempt_id, key, outcome, note, self.now()))
        self.marked += 1
        self.take_in(store)

    def searched(self, run: int, words: str, after: int) -> dict[str, Any]:
        """Searches the attempts of one run for `words`, and stops after SEARCH_S seconds.

        The search begins after the attempt with the id `after`. Returns the ids that were found, and the id after which
        the next call goes on (0: all were searched).
        """
        store, name = self.runs[run]
        until = time.monotonic() + SEARCH_S
        found, came_to = store.attempts_with(store.run_id(name), words, after, lambda: time.monotonic() > until)
        return {"found": found, "after": came_to}


def application(shown: Shown) -> web.Application:
    """Returns the web application of the viewer."""
    app = web.Application(middlewares=[_guard(shown.token)], client_max_size=MOST_BODY_BYTES)
    files = {path.name: path for path in (*PAGE.iterdir(), STYLE) if path.suffix in TYPES}
    root = f"/{shown.token}"

    async def file(request: web.Request) -> web.StreamResponse:
        path = files.get(request.match_info.get("file") or "index.html")
        if path is None:
            raise web.HTTPNotFound
        return web.Response(body=path.read_bytes(), content_type=TYPES[path.suffix], charset="utf-8")

    async def listed(_: web.Request) -> web.StreamResponse:
        return web.Response(body=await shown.listed(), content_type="application/json")

    async def first(_: web.Request) -> web.StreamResponse:
        place = await shown.read(shown.first)
        values = None if place is None else await shown.read(shown.attempt, *place)
        memory = shown.memory.recall()
        return _json({"run": place and place[0], "attempt": values, "filters": memory.get("filters")})

    async def attempt(request: web.Request) -> web.StreamResponse:
        values = await shown.read(shown.attempt, *_place(request.match_info, shown))
        if values is None:
            raise web.HTTPNotFound
        return _json(values)

    async def search(request: web.Request) -> web.StreamResponse:
        run, after = _place({"run": request.query.get("run"), "id": request.query.get("after")}, shown)
        return _json(await shown.read(shown.searched, run, request.query.get("words", "")[:1000], after))

    async def mark(request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        run, attempt_id = _place(body, shown)
        try:
            outcome, note = OUTCOMES[str(body.get("outcome"))], str(body.get("note") or "")
            await shown.read(shown.set_mark, run, attempt_id, outcome, note)
        except LookupError:
            raise web.HTTPBadRequest(text="no answer to mark, or no mark: right, wrong or unsure") from None
        except OSError as e:
            raise web.HTTPInsufficientStorage(text=f"the mark cannot be written: {e.strerror}") from None
        return _json(await shown.read(shown.attempt, run, attempt_id))

    async def keep(request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        run, attempt_id = _place(body, shown)
        shown.memory.keep({"run": run, "id": attempt_id, "filters": str(body.get("filters") or "")[:2000]})
        return web.Response(status=204)

    app.add_routes(
        [
            web.get(f"{root}/", file),
            web.get(f"{root}/list", listed),
            web.get(f"{root}/first", first),
            web.get(f"{root}/attempt/{{run}}/{{id}}", attempt),
            web.get(f"{root}/search", search),
            web.post(f"{root}/mark", mark),
            web.post(f"{root}/place", keep),
            web.get(f"{root}/{{file}}", file),
        ]
    )
    return app


def _guard(token: str) -> Any:
    """Returns the middleware that lets nobody in who does not know the token, and gives every answer its headers."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.path.removeprefix("/").partition("/")[0]
        host = (request.headers.get("Host") or "").rpartition(":")[0].strip("[]") or request.headers.get("Host", "")
        origin = request.headers.get("Origin")
        if not secrets.compare_digest(given.encode(), token.encode()) or host not in LOCAL:
            return web.Response(status=403, text="open the address that `harvest view` printed\n", headers=HEADERS)
        if origin is not None and origin.partition("://")[2] != request.headers.get("Host"):
            return web.Response(status=403, text="this page is for itself alone\n", headers=HEADERS)
        try:
            found = await handler(request)
        except web.HTTPException as e:
            found = web.Response(status=e.status, text=e.text)
        except WinnowError as e:
            found = web.Response(status=500, text=str(e))
        found.headers.update(HEADERS)
        return found

    return guard


def _place(values: Any, shown: Shown) -> tuple[int, int]:
    """Returns (index of the run, attempt id). Raises HTTPBadRequest."""
    try:
        run, attempt_id = int(values["run"]), int(values["id"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise web.HTTPBadRequest(text="no run and attempt") from None
    if not 0 <= run < len(shown.runs) or not 0 <= attempt_id < 1 << 62:
        raise web.HTTPBadRequest(text="no such run or attempt")
    return run, attempt_id


async def _body(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send JSON")
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise web.HTTPBadRequest(text="no JSON") from None
    return body if isinstance(body, dict) else {}


def _json(values: Any) -> web.Response:
    return web.Response(body=json.dumps(values).encode("ascii"), content_type="application/json")


async def serve(shown: Shown, port: int, ready: Callable[[str], None]) -> None:
    """Serves the page until the task is cancelled. `ready` is called with the address. Raises OSError when the port is
    not free."""
    runner = web.AppRunner(application(shown), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        bound = runner.addresses[0][1]
        ready(f"http://127.0.0.1:{bound}/{shown.token}/")
        await shown.read(shown.first)  # what the page needs first is in memory then
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
