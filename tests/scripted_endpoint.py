"""A scripted teacher behind a real socket. A function of the request says what it answers, and it keeps its own bill.

    with Endpoint(lambda asked: Say(status=429) if asked.n == 0 else Say()) as teacher:
        teacher.url, teacher.asked, teacher.bill

Runs in a thread of the tests, so that a script may look at what it likes (and kill a client at the moment it wants),
or as a process of its own, where the client needs the thread's share of a core:

    python tests/scripted_endpoint.py --latency-s 0.2 --fault late=0.1        prints its port; GET /bill gives the books

The bill is what a provider would charge: every answer that was made, whole or cut or never delivered.
"""

import argparse
import asyncio
import hashlib
import json
import random
import re
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

INPUT_PUSD, OUTPUT_PUSD = 1_000_000, 10_000_000
"""Picodollars a token: $1.00 and $10.00 for a million."""
PRICE = {"input": "1.00", "output": "10.00"}
CHAIN = "First I look at what is given. Then I add the two numbers."
BOMB_MIB = 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived."""

    n: int
    """How many came before it."""
    again: int
    """How many with this very body came before it."""
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    head: str
    """The request's head as it was sent, for an echo."""
    digest: str
    """Names the body, whatever the order of its keys."""

    @property
    def question(self) -> str:
        return str(next(m for m in reversed(self.body["messages"]) if m["role"] == "user")["content"])

    @property
    def limit(self) -> int:
        return int(self.body.get("max_tokens") or self.body.get("max_completion_tokens") or 0)


@dataclass(frozen=True, slots=True)
class Say:
    """What becomes of one request. As it stands: a right answer, whole and at once."""

    text: str | None = None
    """The answer; None is the right one to "A + B"."""
    chain: str = CHAIN
    finish: str = "stop"
    input_tokens: int = 40
    output_tokens: int = 30
    usage: bool = True
    usage_more: Mapping[str, Any] = field(default_factory=dict)
    """Put into the usage object, e.g. {"cost": 0.001}."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Put over the whole document, e.g. {"choices": None}."""
    status: int = 200
    error: str | None = None
    """The code of an error, which takes the place of the answer."""
    message: str = "as scripted"
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    """A body in place of the document; the head stays ours."""
    wire: bytes | None = None
    """All bytes of the HTTP answer, head and all."""
    made: bool | None = None
    """Whether an answer was made, and is billed; None: with every 200 that names no error."""
    delay_s: float = 0.0
    cut_at: int | None = None
    """Only so many bytes of the body, then the connection ends."""
    hang_up: bool = False
    """Ends the connection after the body, without TLS's goodbye."""
    silent_at: int | None = None
    """Only so many bytes of the body, then nothing, on a connection that stays open."""
    reset: bool = False
    """Hangs up with a TCP reset where the answer would begin (or where it is cut)."""
    pieces: tuple[int, ...] = ()
    """Where the bytes of the body are cut into pieces that leave one by one."""
    gap_s: float = 0.002
    forever: bytes | None = None
    """A body that never ends: this, again and again, every `gap_s`."""
    before: bytes = b""
    """What comes once before it."""
    bomb: bool = False
    """A packed body that unpacks to a gibibyte."""
    events: tuple[Mapping[str, Any], ...] | None = None
    """Deltas of a stream; None: the chain and the answer, some words at a time."""
    on_half: Callable[[], None] | None = None
    """Called when half the body is out."""
    on_sent: Callable[[], None] | None = None
    """Called when the whole of it is out."""

    def document(self, asked: Asked) -> dict[str, Any]:
        text = self.text if self.text is not None else right_answer(asked.question)
        usage: dict[str, Any] = {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
            **self.usage_more,
        }
        message = {"role": "assistant", "content": text, "reasoning_content": self.chain}
        document = {
            "id": f"chatcmpl-{asked.n}",
            "object": "chat.completion",
            "model": "mock",
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish}],
            **({"usage": usage} if self.usage else {}),
            **self.more,
        }
        return document

    @property
    def bills(self) -> bool:
        return (self.status == 200 and self.error is None) if self.made is None else self.made

    @property
    def cost_pusd(self) -> int:
        return self.input_tokens * INPUT_PUSD + self.output_tokens * OUTPUT_PUSD


Script = Callable[[Asked], Say]


def right_answer(question: str) -> str:
    found = re.findall(r"(-?\d+)\s*\+\s*(-?\d+)", question)
    return f"So it is \\boxed{{{int(found[-1][0]) + int(found[-1][1])}}}." if found else "\\boxed{42}"


@dataclass(frozen=True, slots=True)
class GoesOn:
    """A script: a model that has one thing to say to each question, and goes on with what a last message has of it.

    A token is a word with the space before it. `fault` is what the endpoint does wrong when it is asked to go on."""

    form: str = "continue_final_message"
    chain: str = CHAIN
    fault: str = ""
    echo: bool = False
    """Whether it sends the last message again in front of the rest, as llama.cpp does."""

    def __call__(self, asked: Asked) -> Say:
        chain, answer = _words(self.chain), _words(right_answer(asked.question))
        last, tokens_in = asked.body["messages"][-1], 40
        if last["role"] != "assistant":
            return self._say(asked, chain, answer, tokens_in)
        told = {"prefix": last.get("prefix"), "continue_final_message": asked.body.get("continue_final_message")}
        if not told.get(self.form):
            return Say(status=400, error="bad_request", message="the last message must be the user's")
        text = str(last["content"])
        had = _words(last.get("reasoning_content") or ""), _words(text)
        if text.startswith("<think>\n"):
            had = _words(text.removeprefix("<think>\n")), []
        tokens_in += len(had[0]) + len(had[1])
        if self.fault in ("anew", "finished"):
            return self._say(asked, chain, answer, 40 if self.fault == "anew" else tokens_in + 5)
        assert had == (chain[: len(had[0])], answer[: len(had[1])]), "what was sent is not what was said"
        rest = chain[len(had[0]) :], answer[len(had[1]) :]
        if self.fault == "repeats":
            rest = ([*had[0][-8:], *rest[0]], rest[1])
        return self._say(asked, *rest, tokens_in, before=text if self.echo else "", is_answer=bool(had[1]))

    def _say(
        self,
        asked: Asked,
        chain: list[str],
        answer: list[str],
        tokens_in: int,
        before: str = "",
        is_answer: bool = False,
    ) -> Say:
        n, limit = len(chain) + len(answer), asked.limit
        thought, said = "".join(chain[:limit]), "".join(answer[: max(0, limit - len(chain))])
        if self.fault == "tags" and thought:
            thought = f"<think>\n{thought}"
        if before.startswith("<think>"):  # such a server has no field for a chain
            closed = "\n</think>\n\n" if limit > len(chain) else ""
            thought, said = "", f"{before}{thought}{closed}{said}"
        elif before:
            said = before + said
        elif self.fault == "parser" and is_answer:
            thought, said = said, ""
        more = {"usage": None} if self.fault == "no usage" and (before or is_answer) else {}
        return Say(
            text=said, chain=thought, finish="length" if limit < n else "stop", input_tokens=tokens_in,
            output_tokens=min(n, limit), more=more,
        )  # fmt: skip


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+", text)


def overbill(times: int) -> Callable[[Asked], Say]:
    """Bills so many times the tokens that were allowed."""
    return lambda asked: Say(output_tokens=times * asked.limit)


def echo(asked: Asked) -> Say:
    """The request's own head, key and all, as the message of an error."""
    return Say(status=500, error="server_error", message=f"request headers were {asked.head}")


class Endpoint:
    """Serves until it is closed. Its books may be read from any thread."""

    def __init__(self, script: Script | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.script: Script = script or (lambda _: Say())
        self._tls = tls
        self.asked: list[Asked] = []
        self.bill: list[tuple[str, int]] = []
        """(digest of the body, picodollars) of every answer that was made, in that order."""
        self.stray: list[str] = []
        """Requests to any other path: somebody followed a redirect."""
        self.bill_of: dict[str, int] = {}
        """What each answer is billed, by its id."""
        self.look_up: Callable[[str], tuple[int, Any] | None] | None = None
        """What a GET of a path is told: status and document; None: nothing, for ever."""
        self.looked_up: list[tuple[str, Mapping[str, str]]] = []
        """Path and headers of each GET."""
        self.in_flight = self.peak = self.connections = 0
        self._seen: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def billed_pusd(self) -> int:
        return sum(pusd for _, pusd in self.bill)

    def made(self) -> dict[str, int]:
        """How many answers were made for each question."""
        by_digest = {a.digest: a.question for a in list(self.asked)}
        counts: dict[str, int] = {}
        for digest, _ in list(self.bill):
            counts[by_digest[digest]] = counts.get(by_digest[digest], 0) + 1
        return counts

    # ---- in a thread

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="endpoint", daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()
        self._loop.close()

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self.serve(0, lambda _: ready.set()))

    async def serve(self, port: int, ready: Callable[[int], None]) -> None:
        self._ending = asyncio.Event()
        server = await asyncio.start_server(
            self._connected, "127.0.0.1", port, backlog=4096, limit=1 << 20, ssl=self._tls
        )
        self.port = server.sockets[0].getsockname()[1]
        self.url = f"https://localhost:{self.port}/v1" if self._tls else f"http://127.0.0.1:{self.port}/v1"
        ready(self.port)
        await self._ending.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # ---- one connection

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            while (request := await self._request(reader)) is not None:
                if not await self._answer(*request, writer):
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            with suppress(OSError):
                writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> tuple[str, bytes] | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return None
        length = re.search(r"^content-length:\s*(\d+)", head, re.I | re.M)
        return head, await reader.readexactly(int(length[1])) if length else b""

    async def _answer(self, head: str, raw: bytes, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open."""
        method, path, _ = head.split("\r\n", 1)[0].split(" ", 2)
        if path == "/bill":
            books = {
                "bill": self.bill, "made": self.made(), "requests": len(self.asked), "peak": self.peak,
                "billed_pusd": self.billed_pusd,
            }  # fmt: skip
            writer.write(_http(200, json.dumps(books).encode()))
            return True
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head.split("\r\n")[1:]) if k}
        path = re.sub(r"^http://[^/]*", "", path)  # as to a proxy, where the endpoint stands for a host of another name
        if method == "GET" and self.look_up is not None:
            self.looked_up.append((path, headers))
            told = self.look_up(path)
            if told is None:
                await asyncio.sleep(3600)
                return False
            writer.write(_http(told[0], json.dumps(told[1]).encode()))
            return True
        if method != "POST" or path not in ("/v1/chat/completions", "/api/v1/chat/completions"):
            self.stray.append(path)
            writer.write(_http(404, b"{}"))
            return True
        body = json.loads(raw)
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        again = self._seen.get(digest, 0)
        self._seen[digest] = again + 1
        asked = Asked(len(self.asked), again, body, headers, head, digest)
        self.asked.append(asked)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            return await self._say(self.script(asked), asked, writer)
        finally:
            self.in_flight -= 1

    async def _say(self, say: Say, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        if say.delay_s:
            await asyncio.sleep(say.delay_s)
        if say.bills:
            self.bill.append((asked.digest, say.cost_pusd))
            self.bill_of[f"chatcmpl-{asked.n}"] = say.cost_pusd
        if say.reset and say.cut_at is None:
            _reset(writer)
            return False
        if say.forever is not None or say.bomb:
            await self._without_end(say, writer)
            return False
        if say.wire is not None:
            head, body = say.wire, b""
        elif asked.body.get("stream") and say.status == 200 and say.error is None and say.raw is None:
            body = _event_stream(say, asked)
            head = _http(200, b"", {"content-type": "text/event-stream", **say.headers}, length=len(body))
        else:
            body = _body(say, asked)
            head = _http(say.status, b"", say.headers, length=len(body))
        end = next((n for n in (say.cut_at, say.silent_at) if n is not None), len(body))
        half = (end // 2,) if say.on_half else ()
        at = 0
        for cut in (*sorted(c for c in {*say.pieces, *half} if c < end), end):
            writer.write((head if at == 0 else b"") + body[at:cut])
            head = head if at == 0 and cut == 0 else b""
            at = cut
            await writer.drain()
            if say.on_half and at == end // 2:
                await asyncio.sleep(0.05)
                say.on_half()
            if say.pieces and not (say.hang_up and at == end):
                await asyncio.sleep(say.gap_s)
        if say.on_sent:
            say.on_sent()
        if say.silent_at is not None:
            await asyncio.sleep(3600)
        if say.reset:
            _reset(writer)
        if say.hang_up:
            writer.transport.abort()
        return say.cut_at is None and not say.hang_up and not say.reset and say.wire is None

    async def _without_end(self, say: Say, writer: asyncio.StreamWriter) -> None:
        more = {"content-encoding": "gzip"} if say.bomb else {}
        writer.write(_http(200, b"", {"transfer-encoding": "chunked", **more, **say.headers}, length=None))
        for piece in _bomb() if say.bomb else _again(say.before, say.forever or b""):
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(0 if say.bomb else say.gap_s)
        writer.write(b"0\r\n\r\n")


def _again(before: bytes, piece: bytes) -> Iterator[bytes]:
    if before:
        yield before
    while True:
        yield piece


def _bomb() -> Iterator[bytes]:
    """A gzip stream of spaces: a mebibyte packed once, and said a thousand times."""
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    yield pack.compress(b" ") + pack.flush(zlib.Z_FULL_FLUSH)
    mebibyte = pack.compress(b" " * (1 << 20)) + pack.flush(zlib.Z_FULL_FLUSH)
    for _ in range(BOMB_MIB):
        yield mebibyte


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _http(status: int, body: bytes, headers: Mapping[str, str] | None = None, *, length: int | None = -1) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Scripted"
    shown = {"content-type": "application/json", **(headers or {})}
    if length is not None:
        shown["content-length"] = str(len(body) if length == -1 else length)
    lines = "".join(f"{k}: {v}\r\n" for k, v in shown.items())
    return f"HTTP/1.1 {status} {phrase}\r\n{lines}\r\n".encode("latin-1") + body


def _body(say: Say, asked: Asked) -> bytes:
    if say.raw is not None:
        return say.raw
    if say.error is not None or say.status != 200:
        error = {"message": say.message, "type": say.error or "error", "code": say.error}
        return json.dumps({"error": error, **say.more}).encode()
    return json.dumps(say.document(asked)).encode()


def _event_stream(say: Say, asked: Asked) -> bytes:
    document = say.document(asked)
    choice = (document.get("choices") or [{}])[0]
    base = {k: document[k] for k in ("id", "model")} | {"object": "chat.completion.chunk"}
    deltas: list[Mapping[str, Any]] = list(say.events or ())
    if say.events is None:
        for key in ("reasoning_content", "content"):
            words = str(choice["message"][key]).split(" ")
            deltas += [{key: " ".join(words[i : i + 4]) + " "} for i in range(0, len(words), 4)]
    chunks = [{**base, "choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
    chunks.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": say.finish}]})
    if "usage" in document:
        chunks.append({**base, "choices": [], "usage": document["usage"]})
    return "".join(f"data: {json.dumps(c)}\n\n" for c in chunks).encode() + b"data: [DONE]\n\n"


# ---- as a process

FAULTS: dict[str, Say] = {
    "throttled": Say(status=429, error="rate_limit_exceeded", headers={"retry-after-ms": "50"}),
    "passing": Say(status=500, error="server_error"),
    "half": Say(cut_at=120),
    "reset": Say(reset=True),
    "late": Say(delay_s=3600),
    "no_usage": Say(usage=False),
    "hollow": Say(more={"choices": []}),
    "row": Say(status=400, error="context_length_exceeded"),
    "html": Say(raw=b"<html><body>Please log in</body></html>"),
}


def mixed(seed: int, latency_s: float, faults: Mapping[str, float]) -> Script:
    """Latencies between half and twice the mean, and each fault with its probability."""
    chance = random.Random(seed)

    def script(asked: Asked) -> Say:
        x = chance.random()
        for name, share in faults.items():
            if x < share:
                return FAULTS[name]
            x -= share
        return Say(delay_s=latency_s * chance.uniform(0.5, 1.5))

    return script


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency-s", type=float, default=0.05)
    parser.add_argument("--fault", action="append", default=[], metavar="NAME=SHARE")
    args = parser.parse_args()
    faults = {name: float(share) for name, _, share in (f.partition("=") for f in args.fault)}

    def ready(port: int) -> None:
        print(port, flush=True)  # noqa: T201 - its one line of output: where it listens

    asyncio.run(Endpoint(mixed(args.seed, args.latency_s, faults)).serve(args.port, ready))


if __name__ == "__main__":
    main()
