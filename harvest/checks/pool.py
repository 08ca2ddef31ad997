"""Holds the pool of checks. If a check cannot decide at once, its work goes to a worker process with a time limit.

Each worker process (worker.py) belongs to one thread and has its own pipes, so a worker can be killed without harm to
other workers. A worker does not import the caller's main module, and does not inherit the store's lock.
"""

import asyncio
import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from harvest.checks.check import Check, Finding, Work
from harvest.checks.majority import Majority, agreeing, answer_reader, majority_verdicts
from harvest.checks.maths.maths import Maths
from harvest.checks.programs import Code
from harvest.checks.table import CHECKS
from harvest.core.nouns import Outcome, Question, Verdict
from harvest.questions.rows import judged_together
from harvest.sandbox import isolation

PREPARE_S = 120.0
"""The seconds that a worker may take to start and to import what its check needs. A busy machine takes some seconds."""
END_S = 2.0
"""The seconds that a worker with jails may take to end by itself. Then it is killed."""
_MOST_BYTES = 1 << 20
_PLAIN_NUMBER = re.compile(r"-?[0-9]{1,15}")
"""Such a gold answer always passes the check "math"."""
_ROOT = Path(__file__).resolve().parents[2]


def _environment() -> dict[str, str]:
    """Returns only the few environment variables that Python needs, so that no key reaches a worker.

    A worker reads texts that a model wrote.
    """
    kept = {
        name: os.environ[name]
        for name in ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")
        if name in os.environ
    }
    return {**kept, "PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


class _Died(Exception):
    """Raised when the worker ended by itself, or sent something that is no reply."""


class _Worker:
    """One child process. It starts with its first work, and again with the first work after a kill.

    Only the thread that made this object may use it.
    """

    def __init__(self, memory_mb: int) -> None:
        self._memory_mb = memory_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._prepared: set[str] = set()

    def finish(self, check: Check, work: Work, timeout_s: float) -> Finding:
        """Returns the check's finding: TIMEOUT if the worker needed too long and was killed, ERROR if it died."""
        if self._process is not None and self._process.poll() is not None:
            self.kill()
        try:
            began = time.monotonic()
            if check.name not in self._prepared:
                outcome, detail = self._ask(check.name, None, PREPARE_S)
                if outcome is not Outcome.RIGHT:
                    return Outcome.ERROR, f"the check cannot run here: {detail}"
                self._prepared.add(check.name)
            # The time to start counts, so that the limit holds; but a slow start must not make an answer late.
            left_s = timeout_s - (time.monotonic() - began)
            return self._ask(check.name, work, max(left_s, timeout_s / 2))
        except TimeoutError:
            self.kill()
            return Outcome.TIMEOUT, f"not judged within {timeout_s:g} s"
        except (_Died, OSError) as error:
            self.kill()
            return Outcome.ERROR, f"the checking process died: {error}"

    def end(self) -> None:
        """Ends the worker. If it holds jails, it gets END_S seconds to remove the jails and end by itself."""
        if self._process is not None and Code.name in self._prepared:
            assert self._process.stdin is not None
            self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
        self.kill()

    def kill(self) -> None:
        """Kills the worker and waits until it is gone."""
        process, self._process = self._process, None
        self._prepared.clear()
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    # Closing flushes what the dead child left unread, which may fail and is not needed.
                    with suppress(OSError):
                        pipe.close()
            process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "harvest.checks.worker", str(os.getpid()), str(self._memory_mb)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env=_environment(),
            )
        return self._process

    def _ask(self, name: str, work: Work | None, timeout_s: float) -> Finding:
        """Sends one line to the worker, reads one line back, and returns the finding in it.

        Raises TimeoutError when no line comes within `timeout_s` seconds, _Died when the worker ended or sent no valid
        reply, and OSError when the worker cannot be started or written to.
        """
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"check": name, "work": work}).encode() + b"\n")
        deadline = time.monotonic() + timeout_s
        received = b""
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN | select.POLLHUP)
        while not received.endswith(b"\n"):
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            chunk = os.read(process.stdout.fileno(), 65536)
            received += chunk
            if not chunk or len(received) > _MOST_BYTES:
                raise _Died(f"exit code {process.poll()}")
        try:
            reply = json.loads(received)
            return Outcome(reply["outcome"]), str(reply["detail"])
        except (ValueError, KeyError, TypeError) as error:
            raise _Died("its reply cannot be read") from error


_Job = tuple[Check, Work, "Future[Finding]"]


class CheckPool:
    """Checks answers: at once if that is safe, else in one of at most `workers` processes, which start when needed.

    All workers end when the pool is closed, and also when this process ends for any reason.
    """

    def __init__(
        self,
        workers: int | None = None,
        timeout_s: float = 3.0,
        memory_mb: int = 1024,
        *,
        unsafe_code: bool = False,
    ) -> None:
        """Makes a pool. No worker starts yet.

        `workers` is the largest number of worker processes; None means one for each processor. `timeout_s` is the limit
        for one answer in seconds, if its check names no limit of its own (`limit_s`). `memory_mb` is the most memory of
        a worker. `unsafe_code` runs a model's programs without isolation; each verdict then says so.
        """
        self._unsafe_code = unsafe_code
        self._workers = workers or max(
            1, len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        )
        self._timeout_s = timeout_s
        self._memory_mb = memory_mb
        self._jobs: deque[_Job] = deque()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._closed = False
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def check(self, question: Question, answer: str) -> Verdict:
        """Returns the verdict of the question's check on an answer. Raises KeyError for an unknown check."""
        check = CHECKS[question.check]
        first: Verdict | None = None
        for one in _variants(question):
            found = check.quick(one, answer)
            if not isinstance(found, tuple):
                found = await asyncio.wrap_future(self._submit(check, found))
            verdict = check.verdict(found)
            if verdict.passed:
                return verdict
            first = first or verdict
        assert first is not None
        return first

    def check_now(self, question: Question, answer: str) -> Verdict:
        """Returns the same verdict as `check`, for callers without an event loop."""
        return self.begin(question, answer)()

    def begin(self, question: Question, answer: str) -> Callable[[], Verdict]:
        """Starts to check an answer. Returns a function that waits for the verdict and returns it."""
        check = CHECKS[question.check]
        begun = [self._begin(check, check.quick(one, answer)) for one in _variants(question)]

        def wait() -> Verdict:
            verdicts = [end() for end in begun]
            return next((verdict for verdict in verdicts if verdict.passed), verdicts[0])

        return begun[0] if len(begun) == 1 else wait

    def begin_code(self, check: Code, question: Question, reference: str | None) -> Callable[[], Verdict]:
        """Starts to check the reference solution. Returns a function that waits for the verdict and returns it.

        If `reference` is None, the check is whether the question's tests load. Raises SandboxUnavailable when this
        machine cannot run programs, so that no question is blamed for the machine.
        """
        if not self._unsafe_code:
            isolation()
        if reference is not None:
            return self.begin(question, reference)
        return self._begin(check, check.loading(question))

    def check_together(self, question: Question, answers: Iterable[str], share: Decimal) -> list[Verdict]:
        """Compares the finished answers to a question with each other, and returns a verdict on each.

        There is a majority if more than `share` (0 to 1) of the answers agree. Waits for the comparisons that take
        algebra.
        """
        said = [*map(answer_reader(question), answers)]
        return majority_verdicts(said, question, share, partial(self._same, question))

    def agreeing(self, question: Question, answers: Iterable[str]) -> list[list[int]]:
        """Returns groups of answers that state equal results, the largest group first.

        A group is a list of indices into `answers`. An answer that states no result is in no group.
        """
        return agreeing([*map(answer_reader(question), answers)], question, partial(self._same, question))

    def close(self) -> None:
        """Lets each worker finish its current answer, then ends it. Answers that still wait are cancelled."""
        with self._changed:
            self._closed = True
            waiting, self._jobs = list(self._jobs), deque()
            self._changed.notify_all()
        for _, _, future in waiting:
            future.cancel()
        for thread in self._threads:
            thread.join()

    def _same(self, question: Question, one: str, other: str) -> bool:
        work = {"one": one, "other": other, "question": question.question}
        return self._submit(CHECKS[Majority.name], work).result()[0] is Outcome.RIGHT

    def _begin(self, check: Check, found: Finding | Work) -> Callable[[], Verdict]:
        if isinstance(found, tuple):
            return lambda: check.verdict(found)
        finding = self._submit(check, found)
        return lambda: check.verdict(finding.result())

    def _submit(self, check: Check, work: Work) -> "Future[Finding]":
        """Puts work into the queue and returns a future of its finding. Raises RuntimeError when the pool is closed.

        Starts one more thread if all threads are busy and their number is below the limit.
        """
        future: Future[Finding] = Future()
        if self._unsafe_code:
            work = {**work, "jail": "unsafe"}
        with self._changed:
            if self._closed:
                raise RuntimeError("this pool of checks is closed")
            self._jobs.append((check, work, future))
            if self._idle < len(self._jobs) and len(self._threads) < self._workers:
                # A daemon thread cannot hold up the exit of a caller that forgot to close the pool.
                thread = threading.Thread(target=self._serve, name="harvest-check", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()
        return future

    def _serve(self) -> None:
        """Runs in each thread: takes job after job, and lets the thread's own worker process finish each job."""
        worker = _Worker(self._memory_mb)
        try:
            while (job := self._next()) is not None:
                check, work, future = job
                if future.set_running_or_notify_cancel():
                    future.set_result(worker.finish(check, work, check.limit_s or self._timeout_s))
        finally:
            worker.end()

    def _next(self) -> _Job | None:
        """Waits for the next job and returns it; None if the pool is closed."""
        with self._changed:
            self._idle += 1
            try:
                self._changed.wait_for(lambda: self._closed or bool(self._jobs))
                return self._jobs.popleft() if self._jobs else None
            finally:
                self._idle -= 1


def _variants(question: Question) -> Iterator[Question]:
    """Yields the question with its gold answer, then with each of its aliases in the gold answer's place."""
    yield question
    for alias in question.aliases or ():
        yield question.model_copy(update={"answer": alias})


def gold_problems(questions: Iterable[Question], pool: CheckPool) -> list[str | None]:
    """Returns one entry per question: a sentence why the gold answer fails its own check; None if it passes."""
    begun = [_begin_gold(question, pool) for question in questions]
    return [_problem(start()) if callable(start) else start for start in begun]


def _begin_gold(question: Question, pool: CheckPool) -> str | Callable[[], Verdict] | None:
    check = CHECKS.get(question.check)
    if check is None:
        return f"there is no check named {question.check!r}: {', '.join(CHECKS)}"
    if judged_together(question):
        return None
    answer = check.own_answer(question)
    if isinstance(check, Code):
        return pool.begin_code(check, question, answer)
    if answer is None or not (question.answer or question.reasoning_gym):
        return f"check {check.name!r} needs a gold answer, and there is none"
    if check.name == Maths.name and _PLAIN_NUMBER.fullmatch(question.answer or ""):
        return None
    return pool.begin(question, answer)


def _problem(said: Verdict) -> str | None:
    if said.passed:
        return None
    return f"the gold answer does not pass its own check {said.check!r}: {said.outcome}, {said.detail}"
