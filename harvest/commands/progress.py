"""Shows progress while a command works: bars on a terminal, else a line now and then. All of it goes to stderr.

rich is imported only when stderr is a terminal, because the import takes a tenth of a second.
"""

import asyncio
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime

from harvest.asking.buying.counters import Counters
from harvest.core.errors import SHOWN_FAULTS
from harvest.core.money import pusd, usd
from harvest.core.printable import printable
from harvest.report.headline import dollars, for_traces

LINE_EVERY_S = 15.0
BAR_EVERY_S = 0.25
RECENT_S = 60.0
"""So many seconds are lately."""
FEW_TRACES = 10
"""Fewer traces than this show no trend."""

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
                line += f" · about {remaining_s(at - started, done - first, total - done) / 60:.0f} min to go"
        say(line)

    yield show


def remaining_s(elapsed_s: float, done: float, left: float) -> float:
    """Returns how long what is left takes at the pace so far."""
    return elapsed_s * left / done


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
    parts = [
        f"{counters.ended}/{counters.questions} questions",
        f"{counters.accepted} accepted",
        f"{counters.rejected.total()} rejected",
        *([f"{counters.by_student} done by the student"] if counters.by_student else []),
        *([f"{counters.by_public} from public sets"] if counters.by_public else []),
        *([f"{counters.reused} reused"] if counters.reused else []),
        *([f"{counters.failed_tries} failed tries"] if counters.failed_tries else []),
        f"{counters.output_tokens:,} tokens",
        _spent(counters),
        *_each(counters),
        f"{counters.in_batches:,} in batches" if counters.in_batches else f"{counters.in_flight} in flight",
        *_waits(counters),
    ]
    return " · ".join(parts)


def _spent(counters: Counters) -> str:
    cap = counters.cap
    of = "" if cap.usd is None else f" of ${cap.usd}"
    doubt = f" + ${usd(cap.in_doubt_pusd)} in doubt" if cap.in_doubt_pusd else ""
    known = f"${usd(cap.spent_pusd)}{doubt}{of}"
    return known if counters.is_priced else f"{known} and an unknown cost" if cap.spent_pusd else "cost unknown"


def _each(counters: Counters) -> list[str]:
    if not counters.accepted or not counters.cap.spent_pusd or not counters.is_priced:
        return []
    return [for_traces(usd(counters.cap.spent_pusd // counters.accepted))]


def _waits(counters: Counters) -> list[str]:
    at = datetime.now().astimezone()
    return [words for waiting in counters.waiting.values() if (words := waiting.words(at)) is not None]


class Recent:
    """Remembers the figures of the last RECENT_S seconds, so that a trend can be shown."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int, int]] = deque()

    def see(self, counters: Counters, at_s: float) -> None:
        """Takes in the counters as they are now. `at_s` is the time now, in seconds, by any clock."""
        self._seen.append((at_s, counters.output_tokens, counters.cap.spent_pusd, counters.accepted))
        while at_s - self._seen[0][0] > RECENT_S:
            self._seen.popleft()

    def tokens_per_s(self) -> float:
        (first_s, before, _, _), (last_s, after, _, _) = self._seen[0], self._seen[-1]
        return (after - before) / (last_s - first_s) if last_s > first_s else 0.0

    def pusd_per_trace(self) -> int | None:
        """Returns what an accepted trace has cost lately; None if fewer than FEW_TRACES came."""
        (_, _, spent, accepted), (_, _, spent_now, accepted_now) = self._seen[0], self._seen[-1]
        new = accepted_now - accepted
        return (spent_now - spent) // new if new >= FEW_TRACES else None


def live_lines(counters: Counters, recent: Recent) -> list[str]:
    """Returns the lines under the bar: what came of the answers, the money in all its parts, the pace and what limits
    it."""
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in counters.rejected.most_common(4) if n)
    of_answers = [
        f"{counters.accepted:,} accepted",
        f"{counters.rejected.total():,} rejected" + (f" ({reasons})" if reasons else ""),
        *([f"{counters.by_student:,} done by the student"] if counters.by_student else []),
        *([f"{counters.by_public:,} from public sets"] if counters.by_public else []),
        *([f"{counters.reused:,} reused"] if counters.reused else []),
        *([f"{counters.failed_tries:,} failed tries"] if counters.failed_tries else []),
    ]
    cap = counters.cap
    parts = [(cap.in_doubt_pusd, "in doubt"), (cap.reserved_pusd, "reserved")]
    money = [
        f"${usd(cap.spent_pusd)} spent" if counters.is_priced else "cost unknown",
        *(f"{dollars(usd(pusd_))} {words}" for pusd_, words in parts if pusd_),
    ]
    if cap.usd is not None:
        left_pusd = pusd(cap.usd) - cap.spent_pusd - cap.in_doubt_pusd - cap.reserved_pusd
        money.append(f"{dollars(usd(max(0, left_pusd)))} left of ${cap.usd}")
    lately = recent.pusd_per_trace()
    trend = "" if lately is None else f", lately {dollars(usd(lately))}"
    money += [f"{each}{trend}" for each in _each(counters)]
    out = f"{counters.in_batches:,} in batches" if counters.in_batches else f"{counters.in_flight:,} in flight"
    pace = [out, f"{recent.tokens_per_s():,.0f} tokens/s"]
    for name, found in counters.paces.items():
        of = f" of {name}" if len(counters.paces) > 1 else ""
        if found.rate is not None:
            pace.append(f"limited to {found.rate:.3g} requests/s{of}, which the endpoint takes")
        else:
            top = "max_concurrency" if found.limit >= found.ceiling else f"so far, of {found.ceiling:,}"
            pace.append(f"at most {int(found.limit):,} at once{of} ({top})")
    return [" · ".join(line) for line in (of_answers, money, pace, _waits(counters)) if line]


async def _lines(counters: Counters) -> None:
    started, ended_before = time.monotonic(), counters.ended
    while True:
        await asyncio.sleep(LINE_EVERY_S)
        done = counters.ended - ended_before
        left = remaining_s(time.monotonic() - started, done, counters.questions - counters.ended) if done else 0.0
        to_go = f" · about {left / 60:.0f} min to go" if left > 90 else ""
        say(figures(counters) + to_go)


async def _bars(counters: Counters) -> None:
    from rich import console, progress
    from rich.live import Live
    from rich.text import Text

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
    stopping = ["stopping: waiting for what is in flight (Ctrl-C again leaves it in doubt)"]
    recent = Recent()
    with Live(console=stderr, refresh_per_second=1 / BAR_EVERY_S, transient=True) as live:
        while True:
            recent.see(counters, time.monotonic())
            bar.update(task, completed=counters.ended)
            lines = (stopping if counters.stopping else []) + live_lines(counters, recent)
            live.update(console.Group(bar, Text("\n".join(printable(line) for line in lines))))
            await asyncio.sleep(BAR_EVERY_S)
