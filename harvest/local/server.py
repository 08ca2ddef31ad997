"""Starts the embedded teacher's server in a process of its own, waits until it answers, and ends it with this one."""

import contextlib
import importlib.util
import json
import os
import re
import secrets
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

import httpx

from harvest.core.errors import InputError, MissingExtra, TeacherUnavailable
from harvest.local.download import Progress
from harvest.local.models import Model, find
from harvest.local.weights import cache_folder, fetch, shown_progress

TICK_S = 0.2
"""How often a server that starts is looked at."""

PASSED_ON = re.compile(
    r"PATH|HOME|TMPDIR|LANG|LC_\w+|PYTHONPATH|PYTHONHOME|VIRTUAL_ENV|(DY)?LD_LIBRARY_PATH|SYSTEMROOT"
    r"|(OMP|GOMP|GGML|LLAMA|CUDA|HIP|ROCR)_(?!\w*(KEY|TOKEN|SECRET))\w+"
)
"""The variables of our environment that the server process gets. No key of the user's is among them."""

LESS_SPINNING = {"GOMP_SPINCOUNT": "1000"}
"""Threads that wait for each other sleep soon. By libgomp's default they go on spinning, which is slow beside a busy
process (0.5B on two cores, tokens a second: 4 by default, 15 with this; without the other process 48 and 42)."""


class LocalServer:
    """A model of the table, served on a free loopback port by a process of its own, which ends with this one.

    It makes `slots` answers at once, each in `context_tokens` of context. After `start`, `base_url` ends in /v1. Only
    requests with `api_key` are answered, and only this process knows it. `start` takes seconds, or minutes where it
    downloads the weights first; `close` from another thread ends it.
    """

    def __init__(
        self,
        name: str | Model,
        *,
        slots: int = 4,
        context_tokens: int = 4096,
        start_timeout_s: float = 120,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.weights = find(name) if isinstance(name, str) else name
        self.model = self.weights.name
        self.base_url = ""
        self.api_key = secrets.token_urlsafe(32)
        self.log = cache_folder() / self.model / "server.log"
        """What llama.cpp says. The next start of the same model writes a new file in its place."""
        self._setup = {
            "model": self.model,
            "slots": slots,
            "context_tokens": context_tokens,
            "threads": threads or _cores(),
            "api_key": self.api_key,
            "parent": os.getpid(),
        }
        self._start_timeout_s = start_timeout_s
        self._progress = progress
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()

    def start(self) -> Self:
        """Raises MissingExtra without xllamacpp, TeacherUnavailable where the weights or the server cannot be had."""
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtra("the embedded teacher", "local")
        with contextlib.ExitStack() as stack:
            tell = self._progress or stack.enter_context(shown_progress(self.weights))

            def tell_unless_closed(have: int, whole: int | None) -> None:
                self._refuse_if_closed()
                tell(have, whole)

            weights = fetch(self.weights, progress=tell_unless_closed)
        self.log.unlink(missing_ok=True)  # another server may still write to it: it keeps that file, under no name
        with self.log.open("xb") as said:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("server_process.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=LESS_SPINNING | {k: v for k, v in os.environ.items() if PASSED_ON.fullmatch(k)},
                start_new_session=True,  # Ctrl-C is for us alone: answers under way may still arrive
            )
        try:
            self.base_url = self._await_health(self._process, weights) + "/v1"
        except InputError:
            self._end()
            raise
        return self

    @property
    def pid(self) -> int | None:
        """The id of the server's process, once it was started."""
        return self._process.pid if self._process else None

    def died(self) -> str | None:
        """Why the server ended by itself, in one line. None while it runs, or after it was closed."""
        if self._process is None or self._closing.is_set() or self._process.poll() is None:
            return None
        return f"the embedded teacher {self.model} ended (exit code {self._process.returncode}): {self._last_words()}"

    def close(self) -> None:
        """Ends the server, or its start. Safe to call twice."""
        self._closing.set()
        self._end()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_if_closed(self) -> None:
        if self._closing.is_set():
            raise TeacherUnavailable(f"the embedded teacher {self.model} was closed while it started")

    def _await_health(self, process: subprocess.Popen[bytes], weights: Path) -> str:
        """The server's address, once it answers."""
        assert process.stdin is not None
        assert process.stdout is not None
        deadline = time.monotonic() + self._start_timeout_s
        setup = json.dumps(self._setup | {"weights": str(weights)}).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):  # it is dead already, and its log says why
            process.stdin.write(setup)
            process.stdin.flush()
        with selectors.DefaultSelector() as ready, httpx.Client(trust_env=False, timeout=TICK_S * 5) as client:
            ready.register(process.stdout, selectors.EVENT_READ)
            while not ready.select(TICK_S):
                self._refuse_if_late(deadline)
            address = process.stdout.readline().decode().strip()
            while address:
                with contextlib.suppress(httpx.TransportError):
                    if client.get(f"{address}/health").status_code == httpx.codes.OK:
                        return address
                if process.poll() is not None:
                    break
                self._refuse_if_late(deadline)
                time.sleep(TICK_S)
        raise TeacherUnavailable(
            f"the embedded teacher {self.model} did not start (exit code {process.wait()}): {self._last_words()}"
        )

    def _refuse_if_late(self, deadline: float) -> None:
        self._refuse_if_closed()
        if time.monotonic() > deadline:
            raise TeacherUnavailable(
                f"the embedded teacher {self.model} was not up after {self._start_timeout_s:g} s: {self._last_words()}"
            )

    def _last_words(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return f"{' | '.join(lines[-3:]) or 'it said nothing'} (all of it: {self.log})"

    def _end(self) -> None:
        if (process := self._process) is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()  # it is loading, or stuck, and does not see its stdin
            process.wait()


def _cores() -> int:
    """The cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
