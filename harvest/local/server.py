"""Starts the embedded teacher's server in a process of its own, and waits until the server answers.

The server ends when this process ends.
"""

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
"""The seconds between two looks at a server that is starting."""

PASSED_ON = re.compile(
    r"PATH|HOME|TMPDIR|LANG|LC_\w+|PYTHONPATH|PYTHONHOME|VIRTUAL_ENV|(DY)?LD_LIBRARY_PATH|SYSTEMROOT"
    r"|(OMP|GOMP|GGML|LLAMA|CUDA|HIP|ROCR)_(?!\w*(KEY|TOKEN|SECRET))\w+"
)
"""Matches the environment variables that the server process gets. No key of the user's is among them."""

LESS_SPINNING = {"GOMP_SPINCOUNT": "1000"}
"""With this variable, threads that wait for each other soon sleep. By libgomp's default they go on spinning, which is
slow beside a busy process. A 0.5B model on two cores beside a busy process makes 4 tokens a second by default and 15
with this variable; without the busy process it makes 48 and 42."""


class LocalServer:
    """Serves a model of the table on a free loopback port, in a process of its own.

    The server process ends when this process ends. It makes up to `slots` answers at once, each in `context_tokens`
    tokens of context. After `start`, `base_url` is the server's address, which ends in /v1. The server answers only
    requests with `api_key`, which only this process knows. `start` takes seconds, or minutes if it downloads the
    weights first. `close` may be called from another thread, and also ends a `start` that still waits.
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
        """The file with the output of llama.cpp. The next start of the same model writes a new file at this path."""
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
        """Downloads the weights if they are not in the cache, starts the server, and waits until it answers.

        Raises MissingExtra when xllamacpp is not installed, and TeacherUnavailable when the weights cannot be had, the
        server does not start in time, or `close` was called.
        """
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
        """The id of the server's process. It is None before the process is started."""
        return self._process.pid if self._process else None

    def died(self) -> str | None:
        """Says in one line why the server ended by itself.

        Returns None if the server was not started, is alive, or was closed.
        """
        if self._process is None or self._closing.is_set() or self._process.poll() is None:
            return None
        return f"the embedded teacher {self.model} ended (exit code {self._process.returncode}): {self._last_words()}"

    def close(self) -> None:
        """Ends the server, or a start that still waits. It may be called twice."""
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
        """Waits until the server answers, and returns its address.

        Raises TeacherUnavailable when the server ends, is too late, or is closed.
        """
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
    """Returns the number of cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
