"""Starts `vllm serve` as a process of its own, waits until it answers, and ends it with all its processes."""

import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Self

from finetune.measure.served_models import served_models
from finetune.measure.vllm.command import NAME
from harvest.core.errors import TeacherUnavailable
from harvest.core.printable import one_line

TICK_S = 0.2
"""The seconds between two looks at a server that is loading."""
SAY_EVERY_S = 15.0
START_TIMEOUT_S = 7200.0
"""A server that does not answer after so long is given up. Loading takes minutes; downloading first, longer."""
PORTS = 5
"""How many ports are tried, if others take them before the server does."""
LOG_BYTES = 200_000
ERROR = re.compile(r"\b\w*(Error|Exception)\b\S*:? \S")
"""Finds lines of a log that name an error. The first one is mostly the cause, the last one what became of it."""


class VllmServer:
    """Serves a model on a free port of 127.0.0.1, for requests with a key that only this process knows.

    `command` are the words of `vllm serve`, without host and port. `log` gets all that vLLM writes. The server's
    processes end with the block, and with this process, however it ends. In the block, `base_url` and `key` are set.
    Raises TeacherUnavailable, with the log's last words, when the server ends or does not answer in time.
    """

    def __init__(self, command: Sequence[str], log: Path, say: Callable[[str], None]) -> None:
        self.command, self.log, self._say = list(command), log, say
        self.key = secrets.token_urlsafe(32)
        self.base_url = ""
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        for attempt in range(PORTS):
            port = free_port()
            self.base_url = f"http://127.0.0.1:{port}/v1"
            try:
                self._start(port)
                self._await_ready()
                return self
            except TeacherUnavailable:
                self.close()
                if not is_taken(port) or attempt + 1 == PORTS:
                    raise
                self._say(f"vLLM: another program took port {port}, trying another one")
            except BaseException:  # Ctrl-C: whatever it is, the server goes first
                self.close()
                raise
        raise AssertionError("PORTS is at least 1")

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the server and waits until all its processes have ended. It may be called twice."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        if guard.stdin is not None:
            with suppress(BrokenPipeError):
                guard.stdin.close()
        guard.wait()

    def died(self) -> str | None:
        """Says in one line why the server ended by itself; None if it runs, or was closed."""
        if self._guard is None or self._guard.poll() is None:
            return None
        return f"vLLM ended (exit code {self._guard.returncode}): {self._last_words()}"

    def _start(self, port: int) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)  # another server may still write to it: it keeps that file, under no name
        guard = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py")), str(os.getpid())]
        with self.log.open("xb") as said:
            self._guard = subprocess.Popen(
                [*guard, *self.command, "--host", "127.0.0.1", "--port", str(port)],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                env={**os.environ, "VLLM_API_KEY": self.key},
                start_new_session=True,  # Ctrl-C is for us alone, we end it
            )

    def _await_ready(self) -> None:
        started = shown = time.monotonic()
        while not self._answers():
            if (why := self.died()) is not None:
                raise TeacherUnavailable(f"{why}; --engine transformers does without vLLM")
            if (now := time.monotonic()) - started > START_TIMEOUT_S:
                raise TeacherUnavailable(f"vLLM does not answer after {START_TIMEOUT_S:g} s: {self._last_words()}")
            if now - shown >= SAY_EVERY_S:
                shown = now
                self._say(f"vLLM is loading · {now - started:.0f} s · {(self._lines() or ['…'])[-1]}")
            time.sleep(TICK_S)

    def _answers(self) -> bool:
        """Whether a server at the port takes our key and serves the student: then the server is ours and is ready."""
        return any(model.name == NAME for model in served_models(self.base_url, self.key) or ())

    def _lines(self) -> list[str]:
        """Returns the last lines of the log, each on one printable line."""
        try:
            with self.log.open("rb") as f:
                f.seek(max(0, self.log.stat().st_size - LOG_BYTES))
                text = f.read().decode(errors="replace")
        except OSError:
            return []
        return [one_line(line, 200) for line in text.splitlines() if line.strip()]

    def _last_words(self) -> str:
        lines = self._lines()
        errors = [line for line in lines if ERROR.search(line)]
        words = list(dict.fromkeys([*errors[:1], *lines[-2:]]))
        return f"{' | '.join(words) or 'it said nothing'} (all of it: {self.log})"


def free_port() -> int:
    with closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def is_taken(port: int) -> bool:
    """Whether some program listens at the port."""
    with closing(socket.socket()) as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0
