"""Measures how many streams one core follows: `python benchmarks/streams.py [--streams 500 1000 2000 4000] [--tls]`.

A server of its own, pinned to another core, sends each stream 20 tokens a second, one event a token, one HTTP chunk
an event, as DeepSeek writes them. The clients are pinned to one core, one after the other: winnow's teacher alone; the
whole `harvest collect` (store, budget, checks and all its processes on that core); a bare aiohttp loop (`async for
line`, json.loads); and the openai client. For each it prints the share of the core while all streams are open (above
100% it falls behind), CPU an event, the time from the sending of a stream's last event to the whole reply (for
`collect`: to the reply in the store, on the disk), and memory. The server's own lag behind its schedule stands beside
these: where it grows to a second, the server is the limit.
"""

import argparse
import asyncio
import json
import os
import resource
import selectors
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles

import aiohttp
import uvloop

from harvest.endpoint.client import Teacher, body_limit_bytes

TOKENS_A_SECOND = 20
SLOTS = 50
"""Into so many groups the streams of a server are dealt, each sent to at its own moment of the 50 ms."""
TOKENS = 4096
KEY = "sk-0123456789abcdef0123456789abcdef0123456789abcdef"
BODY = {"model": "some-reasoner", "messages": [{"role": "user", "content": "?"}], "max_tokens": TOKENS}
WORDS = ["so", "let", "me", "look", "at", "this", "again", "and", "add", "the", "two", "numbers", "given", "first"]


def chunk(delta: dict[str, object], finish: str | None = None, **top: object) -> bytes:
    """One event as one HTTP chunk."""
    document = {
        "id": "cc0f3ca0-8c2a-4a0a-9c6e-0f1c9d2b7e55", "object": "chat.completion.chunk", "created": 1764000000,
        "model": "some-reasoner", "system_fingerprint": "fp_0000000000",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}], "usage": None, **top,
    }  # fmt: skip
    event = b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


# ---- the server


class Server:
    """As little as can be said to a client: every byte is there before it is sent."""

    def __init__(self, seconds: float, tls: ssl.SSLContext | None) -> None:
        self.events = int(seconds * TOKENS_A_SECOND)
        self.tls = tls
        self.words = [chunk({"content": None, "reasoning_content": f" {w}{i}"}) for i, w in enumerate(WORDS * 20)]
        self.slots: list[dict[socket.socket, int]] = [{} for _ in range(SLOTS)]
        self.behind_s: list[float] = []

    def run(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        print(listener.getsockname()[1], flush=True)
        listener.setblocking(False)
        asking = selectors.DefaultSelector()
        asking.register(listener, selectors.EVENT_READ)
        at, slot, began = time.monotonic(), 0, False
        while not (began and not any(self.slots) and len(asking.get_map()) == 1):
            for key, _ in asking.select(max(0.0, at - time.monotonic())):
                if key.fileobj is listener:
                    self._accept(listener, asking)
                elif isinstance(key.fileobj, socket.socket):
                    began |= self._begin(key.fileobj, asking)
            now = time.monotonic()
            if now < at:
                continue
            self._send(self.slots[slot])
            if self.slots[slot]:
                self.behind_s.append(time.monotonic() - at)
            slot, at = (slot + 1) % SLOTS, at + 1 / TOKENS_A_SECOND / SLOTS
            if not began:
                at = max(at, now)
        worst = sorted(self.behind_s)
        print(json.dumps({"p99_ms": 1000 * worst[int(len(worst) * 0.99)], "cpu_s": time.process_time()}), flush=True)

    def _accept(self, listener: socket.socket, asking: selectors.BaseSelector) -> None:
        with suppress(BlockingIOError):
            while True:
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self.tls:
                    client = self.tls.wrap_socket(client, server_side=True)
                client.setblocking(False)
                asking.register(client, selectors.EVENT_READ)

    def _begin(self, client: socket.socket, asking: selectors.BaseSelector) -> bool:
        try:
            if not client.recv(65536).endswith(b"}"):
                return False
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        asking.unregister(client)
        client.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
            b"connection: close\r\n\r\n"
        )
        min(self.slots, key=len)[client] = 0
        return True

    def _send(self, streams: dict[socket.socket, int]) -> None:
        words, events = self.words, self.events
        ended = []
        for client, n in streams.items():
            try:
                if n < events:
                    client.send(words[n % len(words)])
                else:
                    client.send(self._ending())
                    ended.append(client)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                continue  # its buffers are full: that client is far behind
            except OSError:
                ended.append(client)
            streams[client] = n + 1
        for client in ended:
            del streams[client]
            client.close()

    def _ending(self) -> bytes:
        usage = {"prompt_tokens": 9, "completion_tokens": self.events, "total_tokens": 9 + self.events}
        last = chunk({"content": "\\boxed{42}"}, "stop")
        return (
            last + chunk({}, usage=usage, system_fingerprint=repr(time.time())) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
        )


# ---- the clients: each asks once and gives the moment at which the last event left the server

Ask = Callable[[], Awaitable[float]]


async def with_winnow(url: str, streams: int, go: Callable[[Ask], Awaitable[None]]) -> None:
    async with Teacher(url, KEY, stream=True) as teacher:
        limit = body_limit_bytes(TOKENS, 0, True)

        async def ask() -> float:
            return float((await teacher.ask(BODY, limit)).system_fingerprint or 0)

        await go(ask)


async def with_aiohttp(url: str, streams: int, go: Callable[[Ask], Awaitable[None]]) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask() -> float:
            texts, last = [], {}
            async with session.post(f"{url}/chat/completions", json={**BODY, "stream": True}) as response:
                async for line in response.content:
                    if line.startswith(b"data: {"):
                        last = json.loads(line[6:])
                        delta = last["choices"][0]["delta"]
                        texts.append(delta.get("reasoning_content") or delta.get("content") or "")
            return float(last["system_fingerprint"])

        await go(ask)


async def with_openai(url: str, streams: int, go: Callable[[Ask], Awaitable[None]]) -> None:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as client:

        async def ask() -> float:
            texts, last = [], None
            async for last in await client.chat.completions.create(**BODY, stream=True):
                texts.append(last.choices[0].delta.content or "")
            return float(last.system_fingerprint)

        await go(ask)


NAMES = ["winnow", "collect", "aiohttp", "openai"]
CLIENTS = {"winnow": with_winnow, "aiohttp": with_aiohttp, "openai": with_openai}


def measure_collect(url: str, streams: int) -> dict[str, object]:
    """The whole command, from its start to its end, with as many questions as streams."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rows = ({"id": f"q{n}", "question": f"What is {n} + 1?", "answer": "42"} for n in range(streams))
        (place / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (place / "run.toml").write_text(
            f'name = "r"\nquestions = "questions.jsonl"\nstore = "sqlite:///{place}/store.db"\n[teacher]\n'
            f'base_url = "{url}"\nmodel = "some-reasoner"\nstream = true\nmax_concurrency = {streams}\n'
            f'price_usd_per_mtok = {{ input = "1", output = "1" }}\n[sampling]\nmax_tokens = {TOKENS}\ntries = 1\n'
            '[budget]\nusd = "100000"\n'
        )
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        env = {**os.environ, "WINNOW_RUNS": folder, "PYTHONPATH": str(Path(__file__).parents[1])}
        command = [sys.executable, "-m", "harvest", "collect", str(place / "run.toml")]
        subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after, wall_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
        with closing(sqlite3.connect(place / "store.db")) as db:
            ended = db.execute("SELECT ended_at, system_fingerprint FROM try WHERE state = 'answered'").fetchall()
            most = db.execute("SELECT max(peak_in_flight) FROM session").fetchone()[0]
        if len(ended) != streams:
            raise ValueError(f"{len(ended)} of {streams} answered")
        return {
            "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "wall_s": wall_s,
            **lags_of([datetime.fromisoformat(at).timestamp() - float(left) for at, left in ended]),
            "kib_a_stream": after.ru_maxrss / streams,
            "at_once": most,
        }


def lags_of(lags_s: list[float]) -> dict[str, float]:
    return {"lag_s": median(lags_s), "lag_p99_s": quantiles(lags_s, n=100)[98]}


async def measure(client: str, url: str, streams: int, ramp_s: float) -> dict[str, object]:
    """Opens the streams evenly over `ramp_s`, and follows them to their ends."""
    lags: list[float] = []

    async def go(ask: Ask) -> None:
        async def one(n: int) -> None:
            await asyncio.sleep(ramp_s * n / streams)
            left = await ask()
            lags.append(time.time() - left)

        await asyncio.gather(*(one(n) for n in range(streams)))

    before, began, cpu = rss_kib(), time.monotonic(), time.process_time()
    await CLIENTS[client](url, streams, go)
    return {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.monotonic() - began,
        **lags_of(lags),
        "kib_a_stream": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / streams,
    }


def rss_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


# ---- both


def row(client: str, streams: int, args: argparse.Namespace, certificate: Path | None) -> dict[str, object]:
    cores = sorted(os.sched_getaffinity(0))
    shared = ["--seconds", str(args.seconds), *(["--certificate", str(certificate)] if certificate else [])]
    command = [sys.executable, __file__, *shared]
    server = subprocess.Popen(
        [*command, "--serve", "--core", str(cores[-1])], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert server.stdout is not None
    try:
        port = server.stdout.readline().strip()
        scheme = "https" if certificate else "http"
        done = subprocess.run(
            [*command, "--client", client, "--url", f"{scheme}://localhost:{port}/v1", "--streams", str(streams),
             "--core", str(cores[0]), "--ramp", str(args.ramp)],
            stdout=subprocess.PIPE, text=True, check=True, timeout=5 * (args.ramp + args.seconds) + 30,
            env={**os.environ, **({"SSL_CERT_FILE": str(certificate)} if certificate else {})},
        )  # fmt: skip
        return {**json.loads(done.stdout), "server": json.loads(server.stdout.readline())}
    finally:
        server.kill()
        server.communicate()


def certificate_in(folder: str) -> Path:
    both = Path(folder) / "localhost.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", both, "-out", f"{both}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    both.write_bytes(both.read_bytes() + Path(f"{both}.crt").read_bytes())
    return both


def table(args: argparse.Namespace) -> None:
    events = args.seconds * TOKENS_A_SECOND
    print(f"{TOKENS_A_SECOND} tokens a second and stream, {args.seconds:g} s each, {'TLS' if args.tls else 'plain'}")
    print(
        "| client | streams | events/s | of the core | CPU µs an event | lag median, 99% (s) | KiB a stream"
        " | server's lag, 99% |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        certificate = certificate_in(folder) if args.tls else None
        for client in args.clients:
            for streams in args.streams:
                try:
                    r = row(client, streams, args, certificate)
                except (subprocess.SubprocessError, ValueError) as e:
                    print(f"| {client} | {streams:,} | broke off: {type(e).__name__} |||||||", flush=True)
                    break
                at_once = f" ({r['at_once']:,} at once)" if "at_once" in r else ""
                share = r["cpu_s"] / args.seconds
                print(
                    f"| {client}{at_once} | {streams:,} | {streams * TOKENS_A_SECOND:,} | {share:.0%}"
                    f" | {1e6 * r['cpu_s'] / streams / events:.1f} | {r['lag_s']:.2f}, {r['lag_p99_s']:.2f}"
                    f" | {r['kib_a_stream']:.0f} | {r['server']['p99_ms']:.1f} ms |",
                    flush=True,
                )
                if r["lag_s"] > args.hopeless:
                    break


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[500, 1000, 2000, 4000])
    parser.add_argument("--clients", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--seconds", type=float, default=20, help="how long each stream is")
    parser.add_argument("--ramp", type=float, default=5, help="over so many seconds the streams are opened")
    parser.add_argument("--hopeless", type=float, default=2, help="no more streams for a client so many seconds behind")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--certificate", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    if args.serve:
        tls = None
        if args.certificate:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(args.certificate)
        Server(args.seconds, tls).run()
    elif args.client:
        streams = args.streams[0]
        found = (
            measure_collect(args.url, streams)
            if args.client == "collect"
            else uvloop.run(measure(args.client, args.url, streams, args.ramp))
        )
        print(json.dumps(found))
    else:
        table(args)


if __name__ == "__main__":
    main()
