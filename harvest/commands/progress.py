"""Shows progress while a command works: bars on a terminal, else a line now and then. All of it goes to stderr.

rich is imported only when stderr is a terminal, because the import takes a tenth of a second.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime

from harvest.asking.buying.counters import Counters
from harvest.core.errors import SHOWN_FAULTS
from harvest.core.money import usd
from harvest.core.printable import printable
from harvest.report.headline import dollars

LINE_EVERY_S = 15.0
BAR_EVERY_S = 0.25

Step = Callable[[float, float | None, str], None]
"""A call shows how much is done, how much there is in all (None: nobody knows), and the state in words."""


def say(text: str) -> None:
    """Writes one line to stderr. Only a command's result goes to stdout."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class Warnings:
    """Writes the first lines of one kind to stderr, and at the end how many lines there were."""

    def __init__(self, prefix: str = "warning: ") -> None:
        self._prefix, self._n = prefix, 0

    def __call__(self, text: str) -> None:
        self._n += 1
        if self._n <= SHOWN_FAULTS:
            say(self._prefix + printable(text))

    def close(self, words: str) -> None:
        """Writes how many lines there were, e.g. `3 bad rows skipped`. Writes nothing when there were none."""
        if self._n:
            say(f"{self._n} {words}")


@contextmanager
def steps(name: str) -> Iterator[Step]:
    """Shows work other than asking: as a bar on a terminal, else as a line now and then. Both say how long it still
    takes."""
    if sys.stderr.isatty():
        from rich import console, progress

        columns = (
            progress.TextColumn("[bold]{task.description}"),
            progress.BarColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[words]}"),
        )
        with progress.Progress(*columns, console=console.Console(stderr=True), transient=True) as bar:
            task = bar.add_task(name, total=None, words="")
            yield lambda done, total, words: bar.update(task, completed=done, total=total, words=words)
        return
    started = last = time.monotonic()
    of: float | None = None
    first = 0.0

    def show(done: float, total: float | None, words: str) -> None:
        nonlocal started, last, of, first
        at = time.monotonic()
        if total != of:  # another part of the work, with a pace of its own
            started, of, first = at, total, done
        if at - last < LINE_EVERY_S or (not done and total is not None):
            return
        last = at
        line = f"{name} · {words}"
        if total is not None:
            line = f"{name} {done / max(total, 1):.0%} · {words}"
            if done > first:
                left_s = (at - started) * (total - done) / (done - first)
                line += f" · about {left_s / 60:.0f} min to go"
        say(line)

    yield show


@asynccontextmanager
async def asking_shown(counters: Counters) -> AsyncIterator[None]:
    """Shows the progress of asking until the context ends, then prints its warnings and its last figures."""
    shown = asyncio.create_task(_bars(counters) if sys.stderr.isatty() else _lines(counters))
    try:
        yield
    finally:
        shown.cancel()
        with suppress(asyncio.CancelledError):
            await shown
        for warning in counters.warnings:
            say(f"warning: {warning}")
        say(figures(counters))


def figures(counters: Counters) -> str:
    """Returns the counters as one line of text."""
    cap = "" if counters.cap.usd is None else f" of ${counters.cap.usd}"
    doubt = f" + ${usd(counters.cap.in_doubt_pusd)} in doubt" if counters.cap.in_doubt_pusd else ""
    each = dollars(usd(counters.cap.spent_pusd // max(1, counters.accepted)))
    parts = [
        f"{counters.ended}/{counters.questions} questions",
        f"{counters.accepted} accepted",
        f"{counters.rejected} rejected",
        *([f"{counters.by_student} done by the student"] if counters.by_student else []),
        *([f"{counters.reused} reused"] if counters.reused else []),
        *([f"{counters.failed_tries} failed tries"] if counters.failed_tries else []),
        f"{counters.output_tokens:,} tokens",
        f"${usd(counters.cap.spent_pusd)}{doubt}{cap}",
        *([f"{each} a trace"] if counters.accepted and counters.cap.spent_pusd else []),
        f"{counters.in_flight} in flight",
    ]
    waits = (waiting.words(datetime.now().astimezone()) for waiting in counters.waiting.values())
    return " · ".join([*parts, *(words for words in waits if words is not None)])


async def _lines(counters: Counters) -> None:
    started, ended_before = time.monotonic(), counters.ended
    while True:
        await asyncio.sleep(LINE_EVERY_S)
        done = counters.ended - ended_before
        left = (counters.questions - counters.ended) * (time.monotonic() - started) / done if done else None
        to_go = f" · about {left / 60:.0f} min to go" if left is not None and left > 90 else ""
        say(figures(counters) + to_go)


async def _bars(counters: Counters) -> None:
    from rich import console, progress
    from rich.live import Live

    stderr = console.Console(stderr=True)
    bar = progress.Progress(
        progress.TextColumn("[bold]{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(elapsed_when_finished=True),
        console=stderr,
    )
    task = bar.add_task(counters.run, total=counters.questions, completed=counters.ended)
    stopping = "stopping: waiting for what is in flight (Ctrl-C again leaves it in doubt) · "
    with Live(console=stderr, refresh_per_second=1 / BAR_EVERY_S, transient=True) as live:
        while True:
            bar.update(task, completed=counters.ended)
            live.update(console.Group(bar, (stopping if counters.stopping else "") + figures(counters)))
            await asyncio.sleep(BAR_EVERY_S)
