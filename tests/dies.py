"""Kills the process that it is called in with SIGKILL, or stops it, at the n-th occurrence of a named step of winnow's
own command.

    place.start(before=partial(die_at, "after settle", 3))
    place.start(before=partial(stop_at, "in preparing", 1))

It watches from outside, with Python's profiler: nothing in winnow knows of it. The steps of one try are intent
(reserved), send, receive, settle; each dies before it, in it (its transaction is written and not committed) or after.
"""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

STEPS = {
    # (function, what of it, whether it takes effect at the next commit)
    "before intent": ("Attempts.reserve", "call", False),
    "in intent": ("Attempts.reserve", "return", False),
    "after intent": ("Attempts.reserve", "return", True),
    "before send": ("Teacher._send", "call", False),
    "after receive": ("Teacher.ask", "done", False),
    "before settle": ("Attempts.settle", "call", False),
    "in settle": ("Attempts.settle", "return", False),
    "after settle": ("Attempts.settle", "return", True),
    "before settling a failure": ("Attempts.settle_failure", "call", False),
    "in settling a failure": ("Attempts.settle_failure", "return", False),
    "after settling a failure": ("Attempts.settle_failure", "return", True),
    "in settling a doubt": ("Attempts.settle_doubt", "return", False),
    "before settling a doubt": ("Attempts.settle_doubt", "call", False),
}
BATCH_STEPS = {
    "in reserving a batch": ("Batches.reserve_batch", "return", False),
    "after reserving a batch": ("Batches.reserve_batch", "return", True),
    "before an upload is stored": ("Batches.batch_uploaded", "call", False),
    "after an upload is stored": ("Batches.batch_uploaded", "return", True),
    "before a batch is created": ("BatchApi.create", "call", False),
    "after a batch is created, before its id is stored": ("Batches.batch_created", "call", False),
    "after a batch's id is stored": ("Batches.batch_created", "return", True),
    "before its rows are settled": ("Batches.settle_rows", "call", False),
    "in settling its rows": ("Batches.settle_rows", "return", False),
    "after its rows are settled": ("Batches.settle_rows", "return", True),
    "before a batch has ended": ("Batches.end_batch", "call", False),
}
OTHER_STEPS = {"in preparing": ("Runs.put_run", "return", False)}
PUBLIC_STEPS = {
    "before an index is written": ("_made", "return", False),
    "in storing a public answer": ("PublicAnswers.put_public", "return", False),
    "in importing an answer": ("Imports.put_bought", "return", False),
    "before the lookup is noted": ("Found.as_json", "call", False),
}
COMMIT = "Writer._commit"


class Watch:
    def __init__(self, step: str, times: int, how: signal.Signals) -> None:
        self.function, self.event, self.at_commit = (STEPS | BATCH_STEPS | PUBLIC_STEPS | OTHER_STEPS)[step]
        self.left, self.how = times, how
        self.awaiting_commit = False
        self.begun: set[FrameType] = set()
        """Held, so that no frame is mistaken for an earlier one; a coroutine is called again each time it goes on."""

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        name = frame.f_code.co_qualname
        if self.awaiting_commit and name == COMMIT and event == "return":
            self.die()
        if name != self.function:
            return
        if self.event == "call" == event and frame not in self.begun:
            self.begun.add(frame)
            self.count()
        elif self.event == "return" == event or (self.event == "done" and event == "return" and _is_reply(arg)):
            self.count()

    def count(self) -> None:
        self.left -= 1
        if self.left == 0:
            if not self.at_commit:
                self.die()
            self.awaiting_commit = True

    def die(self) -> None:
        os.kill(os.getpid(), self.how)


def _is_reply(value: Any) -> bool:
    return type(value).__name__ == "Reply"


def die_at(step: str, times: int, how: signal.Signals = signal.SIGKILL) -> None:
    watch = Watch(step, times, how)
    threading.setprofile(watch)
    sys.setprofile(watch)


def stop_at(step: str, times: int) -> None:
    die_at(step, times, signal.SIGSTOP)
