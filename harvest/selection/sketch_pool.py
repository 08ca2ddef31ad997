"""The processes that make sketches: of answers while a run asks, and of what is missing before a selection.

    python -m harvest.selection.sketch_pool   one such process: a line of JSON in for a batch, one out when it is made

A process reads the texts from the store by their ids, so an answer is handed to it at next to no cost. It ends with its
input: whoever started it has ended, or wants no more.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Literal, Self

JUDGED_BATCH = 256
"""How many answers make a batch while a run asks. It is small, so that the last batch is soon made."""
MOST_BATCHES_WAITING = 4
"""Another process is started where more batches than this wait for each process."""
_ENDED = Path()
"""Stands in the queue of files for a process that has ended."""


@dataclass(frozen=True, slots=True)
class Job:
    """What all batches of a pool have in common."""

    url: str
    """The store's."""
    run_id: int
    settings: Mapping[str, Any] | None = None
    """The run's settings as JSON, where they differ from those in the store."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Sketches to make: of attempts, of questions, or of `judged` attempts and their questions."""

    kind: Literal["attempts", "questions", "judged"]
    ids: tuple[int, ...]


class SketchPool:
    """Processes that make the sketches of one job, each driven by a thread of its own.

    Where a process dies, its thread ends; the selection finds the sketches that are missing.
    """

    def __init__(self, job: Job, most: int | None = None, *, quiet: bool = False) -> None:
        """Starts at most `most` processes, or one for each core. `quiet`: their errors do not reach the terminal."""
        self._job, self._quiet = job, quiet
        self._most = most or cores()
        self._batches: SimpleQueue[Batch | None] = SimpleQueue()
        self._files: SimpleQueue[Path | None] = SimpleQueue()
        self._processes: list[subprocess.Popen[str]] = []
        self._threads: list[Thread] = []
        self._killed = False

    @property
    def is_started(self) -> bool:
        return bool(self._threads)

    def put(self, batch: Batch) -> None:
        """Hands over a batch and returns at once."""
        self._batches.put(batch)
        n = len(self._threads)
        if not n or (n < self._most and self._batches.qsize() > MOST_BATCHES_WAITING * n):
            thread = Thread(target=self._drive, name="sketches", daemon=True)
            self._threads.append(thread)
            thread.start()

    def files(self) -> Iterator[Path | None]:
        """The file of each batch, once it is written; None for a batch of `judged` attempts. Ends after all batches."""
        for _ in self._threads:
            self._batches.put(None)
        ended = 0
        while ended < len(self._threads):
            if (path := self._files.get()) == _ENDED:
                ended += 1
            else:
                yield path

    def kill(self) -> None:
        """Ends all processes at once; batches that wait are not made."""
        self._killed = True
        for process in self._processes:
            process.kill()
        for _ in self._threads:
            self._batches.put(None)
        for thread in self._threads:
            thread.join()

    def _drive(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "harvest.selection.sketch_pool"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL if self._quiet else None,
            text=True, env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}, process_group=0,
        )  # fmt: skip
        self._processes.append(process)
        if self._killed:
            process.kill()
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps(asdict(self._job)) + "\n")
            while (batch := self._batches.get()) is not None:
                stdin.write(json.dumps(asdict(batch)) + "\n")
                stdin.flush()
                if not (made := stdout.readline()):
                    return
                path = json.loads(made)
                self._files.put(None if path is None else Path(path))
        except (OSError, ValueError):
            return
        finally:
            process.kill()
            process.wait()
            for pipe in (stdin, stdout):
                with suppress(OSError):  # what a dead process left unread
                    pipe.close()
            self._files.put(_ENDED)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class SketchesWhileAsking:
    """Has the sketches of judged answers made while the run waits for the network.

    A context around the asking, which calls `take`. When the context is left, all sketches are made. The selection
    makes those that a kill or a dead process left out.
    """

    def __init__(self, url: str, run_id: int, *, rejected_too: bool) -> None:
        """`rejected_too`: the run selects from all whole answers, right or wrong."""
        self._pool = SketchPool(Job(url, run_id), max(1, cores() - 1), quiet=True)
        self._rejected_too = rejected_too
        self._ids: list[int] = []

    def take(self, attempt_id: int, accepted: bool) -> None:
        """Takes note of an answer that was judged; returns at once."""
        if accepted or self._rejected_too:
            self._ids.append(attempt_id)
            if len(self._ids) >= JUDGED_BATCH:
                self._hand_over()

    def _hand_over(self) -> None:
        self._pool.put(Batch("judged", tuple(self._ids)))
        self._ids = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._ids and self._pool.is_started:  # a few alone are not worth a process
            self._hand_over()
        try:
            if kind is None:
                for _ in self._pool.files():
                    pass
        finally:
            self._pool.kill()


def main() -> None:
    """One process of the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from harvest.selection.sketch_maker import SketchMaker
    from harvest.store import Store
    from harvest.store.runs import read_run

    job = Job(**json.loads(sys.stdin.readline()))
    with Store.open(job.url, write=False) as store:
        run = store.run(job.run_id)
        if job.settings is not None:
            run = read_run(run.id, run.name, json.dumps(job.settings))
        with closing(SketchMaker(store, run)) as maker:
            for line in sys.stdin:
                batch = Batch(**json.loads(line))
                path = None
                if batch.kind == "judged":
                    maker.make_judged(batch.ids)
                else:
                    path = str(maker.make(batch.kind, batch.ids))
                sys.stdout.write(json.dumps(path) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
