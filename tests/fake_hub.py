"""A model hub on a loopback port, a small model that it serves, and processes that download the model."""

import base64
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

    with loopback(Handler) as hub.address:
        yield hub


@contextmanager
def loopback(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server that answers with `handler`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# ---- repositories of models on loopback ---------------------------------------------------------------------------


@dataclass
class FakeRepositories:
    """Takes and gives models as the hub does, for those who have its token. Files are sent within the commit."""

    token: str = "hf_of_the_test"
    files: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    """By repository and branch."""
    private: dict[str, bool] = field(default_factory=dict)
    commits: list[list[str]] = field(default_factory=list)
    """The paths of each commit."""
    down: bool = False
    """Whether each request is answered with 503."""
    address: str = ""

    def sha(self, repo: str, revision: str) -> str:
        """The commit that a branch of a repository is at, or the commit itself."""
        if len(revision) == 40:
            return revision
        content = sorted(self.files[repo, revision].items())
        return hashlib.sha1(repr((repo, content)).encode(), usedforsecurity=False).hexdigest()

    def at(self, repo: str, revision: str) -> dict[str, bytes]:
        sha = self.sha(repo, revision)
        return next(files for key, files in self.files.items() if key[0] == repo and self.sha(*key) == sha)

    def post(self, path: str, body: bytes) -> Any:
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.private.setdefault(repo, asked.get("private") or asked.get("visibility") == "private")
            self.files.setdefault((repo, "main"), {})
            return {"url": f"{self.address}/{repo}"}
        if path == "/api/validate-yaml":
            return {"warnings": [], "errors": []}
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(branch|preupload|commit)/([^/?]+).*", path)
        assert found, path
        repo, what, revision = found.groups()
        if what == "branch":
            self.files.setdefault((repo, revision), dict(self.files[repo, "main"]))
            return {}
        files = self.files[repo, revision]
        if what == "preupload":
            asked = [f["path"] for f in json.loads(body)["files"]]
            how = {"uploadMode": "regular", "shouldIgnore": False}
            return {"files": [{"path": name, "oid": git_sha(files.get(name)), **how} for name in asked]}
        sent = [line["value"] for line in map(json.loads, body.splitlines()) if line["key"] == "file"]
        files |= {f["path"]: base64.b64decode(f["content"]) for f in sent}
        self.commits.append([f["path"] for f in sent])
        sha = self.sha(repo, revision)
        return {"commitOid": sha, "commitUrl": f"{self.address}/{repo}/commit/{sha}", "success": True}


def git_sha(body: bytes | None) -> str | None:
    return None if body is None else hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


@contextmanager
def repositories() -> Iterator[FakeRepositories]:
    hub = FakeRepositories()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if hub.down:
                self.answer(503)
            elif self.headers.get("authorization") != f"Bearer {hub.token}":
                self.answer(401, b'{"error": "Invalid credentials"}')
            else:
                self.answer(200, json.dumps(hub.post(self.path, body)).encode(), content_type="application/json")

        def do_GET(self) -> None:
            about = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/?]+))?(?:\?.*)?", self.path)
            tree = re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/?]+)(?:\?.*)?", self.path)
            named = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)", self.path)
            try:
                if about:
                    repo, revision = about[1], about[2] or "main"
                    siblings = [{"rfilename": name} for name in hub.at(repo, revision)]
                    model = {"id": repo, "sha": hub.sha(repo, revision), "siblings": siblings}
                    self.answer(200, json.dumps(model).encode(), content_type="application/json")
                elif tree:
                    found = [
                        {"type": "file", "path": name, "size": len(body), "oid": git_sha(body)}
                        for name, body in hub.at(tree[1], tree[2]).items()
                    ]
                    self.answer(200, json.dumps(found).encode(), content_type="application/json")
                elif named:
                    body = hub.at(named[1], named[2])[named[3]]
                    sha = hub.sha(named[1], named[2])
                    self.answer(200, body, etag=f'"{git_sha(body)}"', x_repo_commit=sha)
                else:
                    self.answer(404, x_error_code="EntryNotFound")
            except (KeyError, StopIteration):
                self.answer(404, x_error_code="EntryNotFound")

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with loopback(Handler) as address:
        hub.address = address
        yield hub


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
