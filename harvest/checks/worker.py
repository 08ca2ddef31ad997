"""The process in which `Check.work` runs: `python -m harvest.checks.worker PARENT MEMORY_MB`.

PARENT is the parent's process id. The worker reads a line of JSON, writes a line of JSON, and goes on like this. The
parent kills the worker when the time is up. Nothing is pickled, because unpickling could run code that a model's text
chose. The worker protects the parent's time, memory and terminal. It is no sandbox: it runs as the same user, with few
environment variables.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import threading
import time
from typing import BinaryIO

from harvest.checks.check import Finding
from harvest.checks.table import CHECKS
from harvest.core.nouns import Outcome

_PR_SET_PDEATHSIG = 1


def _die_with(parent: int) -> None:
    """Makes this process end when its parent ends, even by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _limit(memory_mb: int) -> None:
    for kind, most in (
        (resource.RLIMIT_AS, memory_mb * 2**20),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS refuses RLIMIT_AS
            resource.setrlimit(kind, (most, hard))


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Returns private copies of (stdin, stdout). After this call, all code that reads or prints gets /dev/null."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    return requests, replies


def _finding(name: str, work: object) -> Finding:
    check = CHECKS[name]
    try:
        if work is None:
            check.prepare()
            return Outcome.RIGHT, "prepared"
        assert isinstance(work, dict)
        return check.work(work)
    # A scorer or sympy may raise anything on what a model wrote: that is an error of judging, never "wrong".
    except Exception as error:  # noqa: BLE001
        return Outcome.ERROR, f"the check failed: {type(error).__name__}: {str(error)[:200]}"


def main(parent: int, memory_mb: int) -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    _die_with(parent)
    requests, replies = _private_pipes()
    _limit(memory_mb)
    for line in requests:
        request = json.loads(line)
        outcome, detail = _finding(request["check"], request["work"])
        replies.write(json.dumps({"outcome": outcome, "detail": detail}).encode() + b"\n")
        replies.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
