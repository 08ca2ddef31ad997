"""Other clients that ask an endpoint N sums, to compare winnow with. Each is a command of its own, measured whole.

    python benchmarks/clients.py sockets|aiohttp|openai|curator URL N IN_FLIGHT

`sockets` is the floor: raw keep-alive sockets, JSON parsed, one line appended to one file for each answer. It knows no
budget, judges nothing, and loses in a crash what it has. `aiohttp` and `openai` do the same over their library.
`curator` is bespokelabs-curator as its documentation shows it, with its own cache and viewer files.
"""

import asyncio
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

try:
    import uvloop
except ImportError:
    uvloop = None

LIMIT = 2048
Ask = Callable[[int], Awaitable[dict[str, Any]]]


def question(n: int) -> str:
    return f"What is {n} + {n + 1}? Put the answer in \\boxed{{}}."


def body(n: int) -> dict[str, Any]:
    return {"model": "mock", "messages": [{"role": "user", "content": question(n)}], "max_tokens": LIMIT}


async def over_sockets(url: str, n: int, in_flight: int, out: TextIO) -> None:
    host, port = urlsplit(url).hostname, urlsplit(url).port
    left = list(range(n))

    async def worker() -> None:
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 24)
        while left:
            i = left.pop()
            data = json.dumps(body(i)).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n"
            writer.write(head.encode() + data)
            said = (await reader.readuntil(b"\r\n\r\n")).lower()
            at = said.index(b"content-length:") + 15
            answer = json.loads(await reader.readexactly(int(said[at : said.index(b"\r\n", at)])))
            out.write(json.dumps({"i": i, "r": answer["choices"][0]["message"], "u": answer["usage"]}) + "\n")
        writer.close()

    await asyncio.gather(*(worker() for _ in range(in_flight)))


async def keep(ask: Ask, n: int, in_flight: int, out: TextIO) -> None:
    """So many workers, each asking the next until none is left."""
    left = list(range(n))

    async def worker() -> None:
        while left:
            i = left.pop()
            answer = await ask(i)
            out.write(json.dumps({"i": i, "r": answer["choices"][0]["message"], "u": answer["usage"]}) + "\n")

    await asyncio.gather(*(worker() for _ in range(in_flight)))


async def over_aiohttp(url: str, n: int, in_flight: int, out: TextIO) -> None:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(i: int) -> dict[str, Any]:
            async with session.post(f"{url}/chat/completions", json=body(i)) as response:
                found: dict[str, Any] = json.loads(await response.read())
                return found

        await keep(ask, n, in_flight, out)


async def over_openai(url: str, n: int, in_flight: int, out: TextIO) -> None:
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0)

    async def ask(i: int) -> dict[str, Any]:
        answer = await client.chat.completions.create(**body(i))
        found: dict[str, Any] = answer.model_dump()
        return found

    await keep(ask, n, in_flight, out)


def with_curator(url: str, n: int, in_flight: int) -> None:
    os.environ |= {
        "CURATOR_DISABLE_CACHE": "1", "TELEMETRY_ENABLED": "false", "CURATOR_DISABLE_RICH_DISPLAY": "1",
        "OPENAI_API_KEY": "x", "HOSTED_CURATOR_VIEWER": "0", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "CURATOR_CACHE_DIR": tempfile.mkdtemp(prefix="curator-"),
    }  # fmt: skip
    # tiktoken's table comes with litellm, on which curator stands: no network is needed.
    spec = importlib.util.find_spec("litellm")
    if spec is not None and spec.origin is not None:
        tables = Path(spec.origin).parent / "litellm_core_utils/tokenizers"
        os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(tables))
    from bespokelabs import curator
    from datasets import Dataset

    class Solver(curator.LLM):  # type: ignore[misc]
        def prompt(self, row: dict[str, Any]) -> str:
            return str(row["question"])

        def parse(self, row: dict[str, Any], response: Any) -> dict[str, Any]:
            return {"question": row["question"], "answer": str(response)}

    solver = Solver(
        model_name="mock",
        backend="openai",
        backend_params={
            "base_url": url, "max_concurrent_requests": in_flight, "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000, "request_timeout": 600,
        },
        generation_params={"max_tokens": LIMIT},
    )  # fmt: skip
    answers = solver(Dataset.from_list([{"question": question(i)} for i in range(n)]))
    found = getattr(answers, "dataset", answers)
    if len(found) != n:
        raise SystemExit(f"{len(found)} of {n} rows")


def main() -> None:
    kind, url, n, in_flight = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if kind == "curator":
        with_curator(url, n, in_flight)
        return
    client = {"sockets": over_sockets, "aiohttp": over_aiohttp, "openai": over_openai}[kind]
    with tempfile.TemporaryFile("w") as out:
        (uvloop.run if uvloop else asyncio.run)(client(url, n, in_flight, out))


if __name__ == "__main__":
    main()
