"""What is shown while a run collects: bars on a terminal, a line now and then elsewhere. Always on stderr."""

import asyncio
import sys
import time

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from harvest.collect import Tally
from harvest.money import usd

LINE_EVERY_S = 15.0
BAR_EVERY_S = 0.25


async def show(tally: Tally, name: str, cap_usd: str | None) -> None:
    """Until cancelled."""
    if sys.stderr.isatty():
        await _bars(tally, name, cap_usd)
    else:
        await _lines(tally, cap_usd)


def line(tally: Tally, cap_usd: str | None) -> str:
    """The state in one line."""
    money = f"${usd(tally.spent_pusd)}" + (f" of ${cap_usd}" if cap_usd else "")
    parts = [
        f"{tally.ended}/{tally.questions} questions",
        f"{tally.accepted} accepted",
        f"{tally.rejected} rejected",
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
