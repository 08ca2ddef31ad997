"""Handles the signals that end a command so that it can go on later: Ctrl-C, SIGTERM, and SIGHUP of a closed
terminal.

What the first and the second signal do to requests in flight is in harvest/asking/session.py; what they do to a
training is in finetune/train/callback.py.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


def stop_signals() -> list[signal.Signals]:
    """Returns the signals that end a command. SIGHUP is not among them when it is ignored, as under nohup."""
    ignores_hang_up = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignores_hang_up else [signal.SIGHUP])]


def interrupt_on_signals() -> None:
    """Lets SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does."""
    for number in stop_signals()[1:]:
        signal.signal(number, _interrupted)


def hung_up() -> None:
    """Goes on after the terminal was closed: ignores later SIGHUPs (the shell sends one too), and drops what would be
    written to the terminal, since each write would fail."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Restores the signals' handlers after the block runs an event loop.

    The event loop leaves the default handlers behind, and these would kill the process.
    """
    before = [(number, handler) for number in stop_signals() if (handler := signal.getsignal(number)) is not None]
    try:
        yield
    finally:
        for number, handler in before:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    if number == signal.SIGHUP:
        hung_up()
    raise KeyboardInterrupt
