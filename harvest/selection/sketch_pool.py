"""Runs the processes that make sketches: while a run asks, and before a selection for the sketches still missing.

    python -m harvest.selection.sketch_pool   runs one such process. It reads a line of JSON for each batch, and writes
    a
                                              line of JSON when the sketches of the batch are made

A process gets only ids and reads the texts from the store. It ends when its input ends: then its starter has ended, or
wants no more sketches.
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
"""The number of answers in a batch while a run asks. It is small, so that the last batch is soon made."""
MOST_BATCHES_WAITING = 4
"""The number of batches that may wait for each process. If more wait, another process is started."""
_ENDED = Path()
"""This path in the queue of files says that a process has ended."""


@dataclass(frozen=True, slots=True)
class Job:
    """What all batches of a pool have in common."""

    url: str
    """The URL of the store."""
    run_id: int
    settings: Mapping[str, Any] | None = None
    """The run's settings, as JSON. None means that the settings in the store are used."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Names the sketches that one process makes together.

    The kind says what they are sketches of: "attempts", "questions", or "judged" for attempts with their questions.
    """

    kind: Literal["attempts", "questions", "judged"]
    ids: tuple[int, ...]


class SketchPool:
    """Holds the processes that make the sketches of one job. Each process has a thread of this program that drives it.

    When a process dies, its thread ends. The selection later finds that sketches are missing, and makes them.
    """

    def __init__(self, job: Job, most: int | None = None, *, quiet: bool = False) -> None:
        """Makes a pool of at most `most` processes; None means one process for each core. `put` starts the processes.

        `quiet`: what the processes write to stderr does not reach the terminal.
        """
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
        """Hands a batch to the processes and returns at once. Starts a process if too many batches wait."""
        self._batches.put(batch)
        n = len(self._threads)
        if not n or (n < self._most and self._batches.qsize() > MOST_BATCHES_WAITING * n):
            thread = Thread(target=self._drive, name="sketches", daemon=True)
            self._threads.append(thread)
            thread.start()

    def files(self) -> Iterator[Path | None]:
        """Gives the path of each batch's file once the file is written, and None for a batch of the kind "judged".

        Ends when all batches are done. The batches of a process that died are missing.
        """
        for _ in self._threads:
            self._batches.put(None)
        ended = 0
        while ended < len(self._threads):
            if (path := self._files.get()) == _ENDED:
                ended += 1
            else:
                yield path

    def kill(self) -> None:
        """Ends all processes at once. The sketches of waiting batches are not made."""
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
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class SketchesWhileAsking:
    """Lets a pool make the sketches of judged answers while the run waits for the network.

    It is a context around the asking; the asking calls `take`. Leaving the context waits until the pool has made its
    sketches. The selection later makes the sketches that are missing, such as after a kill.
    """

    def __init__(self, url: str, run_id: int, *, rejected_too: bool) -> None:
        """Makes a pool for one run; `url` is the store's.

        `rejected_too`: sketches of rejected answers are made too, because the run selects from all whole answers.
        """
        self._pool = SketchPool(Job(url, run_id), max(1, cores() - 1), quiet=True)
        self._rejected_too = rejected_too
        self._ids: list[int] = []

    def take(self, attempt_id: int, accepted: bool) -> None:
        """Notes that an answer was judged, so that its sketch is made. Returns at once."""
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
    """Runs one process of the pool, until its input ends."""
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
