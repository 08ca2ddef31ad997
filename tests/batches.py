"""An endpoint with Files and Batches that keeps its own bill: the shared tool batch_endpoint.py, in a process."""

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from conftest import Place

FAST = ("--port", "0", "--seconds", "0.3", "--validate", "0.1", "--tokens", "60")
SETTINGS: dict[str, Any] = {
    "teacher__mode": "batch", "teacher__batch_discount": "0.5", "teacher__batch_rows": 20,
    "teacher__batch_poll_s": 0.1, "teacher__price_usd_per_mtok": {"input": "1", "output": "10"},
    "sampling__max_tokens": 100, "sampling__tries": 5,
}  # fmt: skip
"""Settings of a run in batches, by dotted name."""


@dataclass
class BatchEndpoint:
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats") as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def check(self, place: Place, *, in_doubt: bool = False) -> dict[str, Any]:
        """Holds the run's report against the endpoint's bill. Returns the endpoint's figures."""
        stats, money = self.stats(), place.report["money"]
        bill, spent, doubt = (Decimal(x) for x in (stats["bill_usd"], money["spent_usd"], money["in_doubt_usd"]))
        assert not Decimal(stats["bill_full_usd"]), "something was bought at the full price"
        assert bill <= spent + doubt <= Decimal(money["cap_usd"])
        assert Decimal(stats["peak_exposure_usd"]) <= Decimal(money["cap_usd"])
        assert sum(Decimal(part) for part in money["spent_on"].values()) == spent
        if not in_doubt:
            assert not doubt
            assert bill == spent
        return stats


@contextmanager
def batch_endpoint(shared: Path, *flags: object) -> Iterator[BatchEndpoint]:
    """Starts the endpoint with these flags."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tool = shared / "tools/batch_endpoint.py"
    command = [sys.executable, str(tool), *FAST, "--port", str(port), *map(str, flags)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield BatchEndpoint(port)
        finally:
            process.kill()


Change = Callable[[str, int, bytes], tuple[int, bytes]]
"""A function from (method and path of a request, status, body of the answer) to the status and the body that are
sent."""


@contextmanager
def altered(endpoint: BatchEndpoint, change: Change) -> Iterator[str]:
    """Gives the URL of a proxy before an endpoint, which changes its answers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _passed_on(self) -> None:
            length, chunks = int(self.headers.get("content-length") or 0), []
            if "chunked" in (self.headers.get("transfer-encoding") or ""):
                while size := int(self.rfile.readline(), 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
            else:
                chunks.append(self.rfile.read(length))
            kept = {k: v for k, v in self.headers.items() if k.lower() in ("content-type", "authorization", "range")}
            link = HTTPConnection("127.0.0.1", endpoint.port)
            link.request(self.command, self.path, b"".join(chunks), kept)
            answer = link.getresponse()
            status, body = change(f"{self.command} {self.path}", answer.status, answer.read())
            link.close()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _passed_on

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
