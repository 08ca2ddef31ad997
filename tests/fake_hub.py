"""A model hub on a loopback port, a small model that it serves, and processes that download the model."""

import hashlib
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harvest.local.models import Hub, Model, Wheels

BYTES = bytes(range(256)) * 4096 * 3  # 3 MiB, more than one chunk
SHA256 = hashlib.sha256(BYTES).hexdigest()
PART = 1 << 20


def a_model(*places: Hub | Wheels, size: int | None = len(BYTES), sha256: str | None = SHA256) -> Model:
    return Model("Tiny", "teacher", "Apache-2.0", "tiny.gguf", size, sha256, places)


def files_in(cache: Path) -> set[str]:
    """What lies there, but for the lock."""
    return {p.name for p in cache.rglob("*") if p.is_file() and p.name != ".lock"}


def quiet(have: int, whole: int | None) -> None:
    pass


# ---- a hub on loopback -------------------------------------------------------------------------------------------


@dataclass
class FakeHub:
    """Answers like the real one: a redirect with the linked checksum, then the bytes, in ranges where asked."""

    body: bytes = BYTES
    linked: str | None = SHA256
    cuts: list[int] = field(default_factory=list)
    """How many bytes each answer sends before the connection breaks; whole answers after the last."""
    pause_s: float = 0.0
    """Between 64 KiB pieces."""
    starts: list[int] = field(default_factory=list)
    """Where each answer with bytes began."""
    address: str = ""

    def place(self) -> Hub:
        return Hub("org/tiny", "tiny.gguf", self.address)


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith("/cdn/"):
                self.send_response(302)
                self.send_header("location", f"{hub.address}/cdn/tiny")
                if hub.linked:
                    self.send_header("x-linked-etag", f'"{hub.linked}"')
                self.send_header("content-length", "0")
                self.end_headers()
                return
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
            start = int(asked[1]) if asked else 0
            hub.starts.append(start)
            body = hub.body[start:]
            self.send_response(206 if asked else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            left = hub.cuts.pop(0) if hub.cuts else len(body)
            for i in range(0, min(left, len(body)), 1 << 16):
                try:
                    self.wfile.write(body[i : min(i + (1 << 16), left)])
                except OSError:
                    break  # the reader was killed, on purpose
                time.sleep(hub.pause_s)
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# ---- processes ---------------------------------------------------------------------------------------------------


def python(code: str, **environment: str) -> str:
    """What a process that runs `code` says on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stderr


@contextmanager
def running(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def fetching_elsewhere(hub: FakeHub) -> Iterator[subprocess.Popen[str]]:
    code = f"""
        from harvest.local.weights import fetch
        from harvest.local.models import Hub, Model
        place = Hub(*{json.dumps([hub.place().repo, hub.place().file, hub.address])})
        fetch(Model("Tiny", "teacher", "Apache-2.0", "tiny.gguf", {len(BYTES)}, "{SHA256}", (place,)))
    """
    with running(code) as process:
        yield process


def wait_for(done: Callable[[], bool], limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
