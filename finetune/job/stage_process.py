"""Runs one stage as a process of its own, and passes on the signals that end a command."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

from harvest.commands.progress import say
from harvest.core.errors import InputError
from harvest.core.signals import hung_up, stop_signals
from harvest.store import without_passwords

INTERRUPTED = 130
_PR_SET_PDEATHSIG = 1
LOCK, STAGE_LOCK = ".job.lock", ".stage.lock"


@contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Keeps other jobs from the run whose folder this is. Gives the descriptor of a lock that each stage shall hold.

    If an earlier job was killed, its last stage may still be ending. Then this waits for that stage. Raises InputError
    when another job is at work on the run, or when the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        job, stage = (
            os.open(folder / name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600) for name in (LOCK, STAGE_LOCK)
        )
    except OSError as e:
        raise InputError(f"{folder}: cannot be written: {e.strerror}") from None
    try:
        try:
            fcntl.flock(job, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: another job is at work on this run: wait for it, or stop it") from None
        try:
            fcntl.flock(stage, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for a stage of the job before this one: it is still ending")
            fcntl.flock(stage, fcntl.LOCK_EX)
        yield stage
    finally:
        os.close(stage)
        os.close(job)


def run_process(words: Sequence[str], lock: int, *, shows: bool) -> int:
    """Runs `python WORDS…` and returns its exit code; 128 and the signal's number when a signal killed it.

    SIGINT, SIGTERM and SIGHUP that this process gets are passed on to it. The exit code is then INTERRUPTED, however
    the stage ended. A store's password is passed on in the environment. The stage holds `lock` while it runs, and gets
    SIGTERM when this process is killed. What it prints goes to stderr if `shows`.
    """
    process: subprocess.Popen[bytes] | None = None
    words, passwords = without_passwords(words)
    passed_on: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        passed_on.append(number)
        if number == signal.SIGHUP:
            hung_up()
        if process is not None and process.poll() is None:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in stop_signals()}
    try:
        process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if shows else subprocess.DEVNULL,
            env={**os.environ, **passwords},
            pass_fds=(lock,),
            process_group=0,  # a terminal's Ctrl-C comes once, from here
            preexec_fn=partial(end_with, os.getpid()),
        )
        for number in passed_on:  # which came while it was being started
            process.send_signal(number)
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if passed_on:
        return INTERRUPTED
    return code if code >= 0 else 128 - code


def end_with(parent: int) -> None:
    """Lets the kernel send SIGTERM to this process when its parent ends. Only Linux does that."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(INTERRUPTED)
