"""What is shown while a run works: bars on a terminal, a line now and then elsewhere. Always on stderr.

rich is imported where there is a terminal: elsewhere it is a tenth of a second for nothing.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harvest.asking.answerer import Tally
from harvest.core.money import usd

LINE_EVERY_S = 15.0
BAR_EVERY_S = 0.25


Step = Callable[[float, float | None, str], None]
"""Told how much is done, of how much (None: nobody knows), and the state in words."""


@contextmanager
def steps(name: str) -> Iterator[Step]:
    """For work that is no asking: a bar on a terminal, elsewhere a line now and then with the time to go."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[words]}"),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(name, total=None, words="")
            yield lambda done, total, words: bar.update(task, completed=done, total=total, words=words)
        return
    started = last = time.monotonic()
    of: float | None = None
    first = 0.0

    def told(done: float, total: float | None, words: str) -> None:
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
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    yield told


async def show(tally: Tally, name: str, cap_usd: str | None) -> None:
    """Until cancelled."""
    if sys.stderr.isatty():
        await _bars(tally, name, cap_usd)
    else:
        await _lines(tally, cap_usd)


def say(text: str) -> None:
    """A line on stderr, where all but the result goes."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def line(tally: Tally, cap_usd: str | None) -> str:
    """The state in one line."""
    money = f"${usd(tally.spent_pusd)}" + (f" of ${cap_usd}" if cap_usd else "")
    parts = [
        f"{tally.ended}/{tally.questions} questions",
        f"{tally.accepted} accepted",
        f"{tally.rejected} rejected",
        *([f"{tally.by_student} done by the student"] if tally.by_student else []),
        *([f"{tally.reused} reused"] if tally.reused else []),
        *([f"{tally.failed_tries} failed tries"] if tally.failed_tries else []),
        f"{tally.output_tokens:,} tokens",
        money,
        f"{tally.in_flight} in flight",
    ]
    return " · ".join(parts)


async def _lines(tally: Tally, cap_usd: str | None) -> None:
    started, ended_before = time.monotonic(), tally.ended
    while True:
        await asyncio.sleep(LINE_EVERY_S)
        done = tally.ended - ended_before
        left = (tally.questions - tally.ended) * (time.monotonic() - started) / done if done else None
        to_go = f" · about {left / 60:.0f} min to go" if left is not None and left > 90 else ""
        sys.stderr.write(line(tally, cap_usd) + to_go + "\n")
        sys.stderr.flush()


async def _bars(tally: Tally, name: str, cap_usd: str | None) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Table

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
    )
    task = bar.add_task(name, total=tally.questions, completed=tally.ended)
    with Live(console=console, refresh_per_second=1 / BAR_EVERY_S, transient=True) as live:
        while True:
            bar.update(task, completed=tally.ended)
            table = Table.grid()
            table.add_row(bar)
            words = (
                "stopping: waiting for what is in flight (Ctrl-C again leaves it in doubt) · " if tally.stopping else ""
            )
            table.add_row(words + line(tally, cap_usd), style=None)
            live.update(table)
            await asyncio.sleep(BAR_EVERY_S)
