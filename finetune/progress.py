"""Shows on stderr how far a training or an evaluation is: as a bar on a terminal, otherwise as a line now and then."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from harvest.commands.progress import LINE_EVERY_S, say


class Progress:
    """Shows the progress of the work named `what`: nothing before `begin`, and nothing at all if it is `mute`."""

    def __init__(self, what: str, *, mute: bool = False) -> None:
        self.what, self.mute = what, mute
        self.bar: Bar | None = None
        self.total = self.first = 0
        self.started = self.shown = time.monotonic()

    def begin(self, total: int, done: int = 0) -> None:
        self.total, self.first = total, done
        self.started = self.shown = time.monotonic()
        if sys.stderr.isatty() and not self.mute:
            self.bar = Bar(
                TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=Console(stderr=True),
            )  # fmt: skip
            self.bar.add_task(self.what, total=total, completed=done, note="")
            self.bar.start()

    def note(self, done: int, text: str) -> None:
        """Shows that `done` steps are done, and describes the state with `text`."""
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=done, note=text)
            return
        now = time.monotonic()
        if now - self.shown < LINE_EVERY_S and done < self.total:
            return
        self.shown = now
        left = (self.total - done) * (now - self.started) / max(1, done - self.first)
        self.say(f"{self.what} {done}/{self.total} · {text} · {_duration(left)} to go")

    def say(self, line: str) -> None:
        if self.mute:
            return
        if self.bar is not None:
            self.bar.console.print(line, markup=False)
            return
        say(line)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


class Counted:
    """Shows how many rows were read, with a line every 15 seconds. It is for work whose total is not known."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.started = self.shown = time.monotonic()

    def step(self, done: int) -> None:
        if done % 64 or (now := time.monotonic()) - self.shown < LINE_EVERY_S:
            return
        self.shown = now
        say(f"{self.what} · {done:,} read · {done / (now - self.started):,.0f} a second")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
