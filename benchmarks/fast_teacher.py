"""A chat endpoint that uses little CPU and counts what a provider would have billed.

It answers "A + B" rightly after a chain of so many words. With a rate, it takes so many requests in any two seconds and
refuses the rest; with --announce its headers say what is left. GET /books gives the counts.

    python benchmarks/fast_teacher.py --latency-s 0.2 --words 800      prints its port
"""

import argparse
import asyncio
import json
import math
import random
import re
import time
from collections import Counter, deque
from itertools import cycle, islice

try:
    import uvloop
except ImportError:
    uvloop = None

INPUT_PUSD, OUTPUT_PUSD = 1_000_000, 10_000_000
"""Picodollars a token: $1.00 and $10.00 for a million."""
SPAN_S = 2.0
WORDS = "First I note what is given and what is asked, then I work through it one step at a time."
LENGTH = re.compile(rb"content-length:\s*(\d+)", re.I)
SUM = re.compile(r"(\d+) \+ (\d+)")


class Books:
    """What was asked and made. `whole`: answers that left whole; `made` has those that were cut on the way too."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.bodies: set[int] = set()
        self.whole_pusd = self.made_pusd = self.inside = self.peak = 0
        self.taken: deque[float] = deque()


class Connection(asyncio.Protocol):
    def __init__(self, settings: argparse.Namespace, books: Books, chance: random.Random) -> None:
        self.settings, self.books, self.chance = settings, books, chance
        self.chain = " ".join(islice(cycle(WORDS.split()), settings.words))
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end]
            said = LENGTH.search(head)
            size = int(said[1]) if said else 0
            if len(self.received) < end + 4 + size:
                return
            body, self.received = self.received[end + 4 : end + 4 + size], self.received[end + 4 + size :]
            if head.startswith(b"GET"):
                self.send(200, self.totals())
            else:
                self.ask(json.loads(body))

    def totals(self) -> dict[str, object]:
        b = self.books
        return {
            **b.counts, "distinct": len(b.bodies), "peak_in_flight": b.peak,
            "whole_pusd": b.whole_pusd, "made_pusd": b.made_pusd,
        }  # fmt: skip

    def ask(self, body: dict[str, object]) -> None:
        s, b = self.settings, self.books
        b.counts["requests"] += 1
        headers = ""
        if s.rate:
            now, limit = time.monotonic(), int(s.rate * SPAN_S)
            while b.taken and now - b.taken[0] > SPAN_S:
                b.taken.popleft()
            left = limit - len(b.taken)
            if s.announce:
                reset = SPAN_S - (now - b.taken[0]) if b.taken else 0.0
                headers = f"x-ratelimit-remaining-requests: {max(0, left - 1)}\r\n"
                headers += f"x-ratelimit-reset-requests: {reset:.3f}s\r\n"
            if left <= 0:
                b.counts["refused"] += 1
                if s.announce:
                    headers += f"retry-after: {math.ceil(reset)}\r\n"
                self.send(429, {"error": {"code": "rate_limit_exceeded", "message": "slow down"}}, headers)
                return
            b.taken.append(now)
        b.inside += 1
        b.peak = max(b.peak, b.inside)
        latency_s = s.latency_s * self.chance.lognormvariate(-0.125, 0.5)
        asyncio.get_running_loop().call_later(latency_s, self.answer, body, headers)

    def answer(self, body: dict[str, object], headers: str) -> None:
        s, b = self.settings, self.books
        b.inside -= 1
        x = self.chance.random()
        if x < s.faults / 2:
            b.counts["failed"] += 1
            self.send(500, {"error": {"message": "as scripted"}}, headers)
            return
        messages = body.get("messages") or [{"content": ""}]  # curator's first request has none
        question = str(messages[-1]["content"])  # type: ignore[index]
        said = SUM.search(question)
        total = int(said[1]) + int(said[2]) if said else 42
        text = f"So the result is \\boxed{{{total}}}."
        tokens_in, tokens_out = len(question) // 4 + 8, s.words + 5
        cost = tokens_in * INPUT_PUSD + tokens_out * OUTPUT_PUSD
        b.made_pusd += cost
        if x < s.faults:
            b.counts["cut"] += 1
            self.transport.abort()  # type: ignore[attr-defined]
            return
        b.whole_pusd += cost
        b.counts["answered"] += 1
        if said:
            b.bodies.add(hash(question))
        self.send(
            200,
            {
                "id": f"chatcmpl-{b.counts['answered']}", "object": "chat.completion", "model": body["model"],
                "created": 0,
                "choices": [{
                    "index": 0, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text, "reasoning_content": self.chain},
                }],
                "usage": {
                    "prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out,
                },
            },
            headers,
        )  # fmt: skip

    def send(self, status: int, document: dict[str, object], headers: str = "") -> None:
        data = json.dumps(document).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n{headers}\r\n"
        self.transport.write(head.encode() + data)  # type: ignore[attr-defined]


async def serve(settings: argparse.Namespace) -> None:
    books, chance = Books(), random.Random(settings.seed)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(settings, books, chance), "127.0.0.1", settings.port, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency-s", type=float, default=0.2, help="mean; lognormal, sigma 0.5")
    parser.add_argument("--words", type=int, default=800, help="of the chain")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second that are taken; 0: all")
    parser.add_argument("--announce", action="store_true", help="say in x-ratelimit-* headers what is left")
    parser.add_argument("--faults", type=float, default=0.0, help="share that ends in a 500 or a cut connection")
    settings = parser.parse_args()
    (uvloop.run if uvloop else asyncio.run)(serve(settings))


if __name__ == "__main__":
    main()
