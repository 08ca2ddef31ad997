"""Runs the thread that writes to the store: calls that come at about the same time are committed in one transaction."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from harvest.core.errors import StoreUnusable
from harvest.store.databases.database import fault_of_the_store
from harvest.store.store import Store
from harvest.store.writing.unwritten import Settlement

P = ParamSpec("P")
T = TypeVar("T")

GROUP_S = 0.003
"""How many seconds the writer waits for more calls before it writes a group."""
SERVER_GROUP_S = 0.03
"""The same where the store is on a server: the fewer transactions, the less its processes wait for each other."""
LONGEST_S = {"locked": 120.0, "busy": 600.0, "failed": 10.0, "lost": 300.0}
"""How many seconds a write is tried again: while another program holds the file's lock, while another process writes
to the server, while the disk fails, and while there is no connection to the server."""
WHY = {
    "locked": "another program holds its write lock", "busy": "another process writes to it",
    "failed": "it cannot be written now",
    "lost": "there is no connection to the server",
}  # fmt: skip
TRY_S, AGAIN_S = 0.25, 0.25
"""How many seconds one try waits for the lock, and how many pass before the next try. A reply that comes meanwhile is
only in memory for so long."""
SAY_S, SAID_S = 2.0, 60.0
"""After SAY_S seconds, a line says once that the store cannot be written. The next such line comes at least SAID_S
seconds later."""


class Call(NamedTuple):
    """A function to call with the store."""

    run: Callable[[Store], Any]
    answer: asyncio.Future[Any] | None = None
    """The future that its caller waits for; None: no caller waits."""
    paid: Settlement | None = None
    """What the call settles, if it settles a try. It goes to a file while the store cannot be written."""


class Writer:
    """Runs the thread that writes to the store. It takes calls from the event loop in their order and commits them in
    groups.

    While the store cannot be written, the settlements of tries go to a file, and the other calls wait: no request is
    sent that is not recorded. Then the write is tried again. When that takes too long, every call that waits raises the
    store's error, and so does every later one; settlements still go to the file.

    When one call fails for another reason, the other calls are written without it. When a call fails that no caller
    waits for, every later call raises its error, since later calls rely on what was lost.
    """

    def __init__(self, store: Store, say: Callable[[str], None] = lambda _: None, *, in_flight: int = 1) -> None:
        """`say` tells the user a line. Room is set aside for what `in_flight` requests may bring."""
        self.store, self._say = store, say
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._is_closing = False
        self._lost: Exception | None = None
        self._said_s = -SAID_S
        self._unwritten = store.unwritten()
        self._unwritten.set_aside(in_flight)
        store.wait_for_lock(TRY_S)
        self._thread = threading.Thread(target=self._write, name="writer", daemon=True)
        self._thread.start()

    async def do(self, method: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls `method(store, …)` in the next group, and returns its result when the group is on the disk.

        The call is written even if its caller is cancelled meanwhile.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put(Call(lambda store: method(store, *args, **kwargs), answer))
        return await answer

    async def settle(self, settlement: Settlement, run: Callable[[Store], T]) -> T | None:
        """Calls `run(store)`, which makes this settlement, like `do`. Returns None when the settlement is on the disk,
        but in a file beside the store, because the store cannot be written."""
        answer: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
        self._calls.put(Call(run, answer, settlement))
        return await answer

    def post(self, method: Callable[Concatenate[Store, P], Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Calls `method(store, …)` like `do`, for a caller that does not wait. The call is written before all later
        calls."""
        self._calls.put(Call(lambda store: method(store, *args, **kwargs)))

    def close(self) -> None:
        """Writes the calls that wait, and ends the thread. Says where settlements wait that could not be written. The
        store stays open."""
        self._calls.put(None)
        self._thread.join()
        with suppress(StoreUnusable, OSError):
            self._take_in()
        if self._unwritten.count:
            tries = f"the replies to {self._unwritten.count} tries"
            self._say(f"{tries} wait in {self._unwritten.places()}; the next start takes them in")
        else:
            with suppress(OSError):
                self._unwritten.remove()
        with suppress(*self.store.db.errors, StoreUnusable):
            self.store.wait_for_lock()

    def _write(self) -> None:
        while not self._is_closing:
            first = self._calls.get()
            if first is None:
                return
            time.sleep(SERVER_GROUP_S if self.store.db.is_server else GROUP_S)
            self._commit([first, *self._come()])

    def _come(self) -> list[Call]:
        """Returns the calls that have come since."""
        come: list[Call] = []
        while not self._calls.empty() and not self._is_closing:
            call = self._calls.get()
            if call is None:
                self._is_closing = True
            else:
                come.append(call)
        return come

    def _commit(self, group: list[Call]) -> None:
        error = self._lost or self._written(group)
        if error is None:
            return
        if self._lost is None and fault_of_the_store(error) is not None:
            group, error = self._tried_again(group, error)
            if error is None:
                return
        if self._lost is None and len(group) > 1:
            # A defect in one call must not lose paid answers of others: each call is written alone, in order.
            for call in group:
                self._commit([call])
            return
        if self._lost is not None:
            group = self._put_aside(group)
        elif group and group[0].paid is not None:
            self._kept(group)
        elif group and group[0].answer is None:
            self._lost = error
        _answer((call.answer, None, error) for call in group)

    def _tried_again(self, group: list[Call], error: Exception) -> tuple[list[Call], Exception | None]:
        """Tries to write a group until the store can be written, or until that takes too long. Returns (the calls that
        are not answered yet, the last error). The error is None if all is written."""
        began_s, is_said = time.monotonic(), False
        while (fault := fault_of_the_store(error)) is not None:
            group = self._put_aside(group)
            longest_s, waited_s = LONGEST_S[fault], time.monotonic() - began_s
            if waited_s >= longest_s:
                self._lost = error
                break
            if waited_s >= SAY_S and not is_said:
                self._say_that_it_waits(fault, longest_s)
                is_said = True
            time.sleep(AGAIN_S)
            group = self._put_aside(group + self._come())
            if (failed := self._written(group)) is None:
                return [], None
            error = failed
        return group, error

    def _written(self, group: list[Call]) -> Exception | None:
        """Writes a group of calls in one transaction and gives each caller its result. If the transaction fails,
        returns its error."""
        try:
            self._take_in()
            with self.store.transaction():
                results = [call.run(self.store) for call in group]
        except Exception as e:  # noqa: BLE001 - the thread's boundary: every waiting caller gets it
            return e
        _answer((call.answer, result, None) for call, result in zip(group, results, strict=True))
        return None

    def _take_in(self) -> None:
        if self._unwritten.count:
            self.store.take_in(self._unwritten, self._say)
            self._unwritten.clear()

    def _put_aside(self, group: list[Call]) -> list[Call]:
        """Puts the settlements among these calls into a file, and answers their callers. Returns the other calls; if no
        file takes the settlements, all calls."""
        if not self._kept(group):
            return group
        _answer((call.answer, None, None) for call in group if call.paid is not None)
        return [call for call in group if call.paid is None]

    def _kept(self, group: list[Call]) -> bool:
        """Puts the settlements among these calls into a file. Returns whether a file took them."""
        try:
            self._unwritten.put([self._dated(call.paid) for call in group if call.paid is not None])
        except (OSError, TypeError, ValueError):
            return False
        return True

    def _dated(self, settlement: Settlement) -> Settlement:
        """Returns the settlement with the time when its try was sent, if the store can be read now. (A server's cannot:
        the files of a server's store are named by its address, and are no other store's.)"""
        if not self.store.db.is_server:
            with suppress(*self.store.db.errors):
                return replace(settlement, sent_at=self.store.sent_at(settlement.try_id))
        return settlement

    def _say_that_it_waits(self, fault: str, longest_s: float) -> None:
        now_s = time.monotonic()
        if now_s - self._said_s >= SAID_S:
            self._said_s = now_s
            left = f"giving up after {longest_s:.0f} s"
            self._say(f"waiting for {self.store.words}: {WHY[fault]}. Nothing new is asked; {left}")


def _answer(outcomes: "Iterable[tuple[asyncio.Future[Any] | None, Any, Exception | None]]") -> None:
    """Gives the callers of a group their results, with one call into their event loop."""
    waiting = [(answer, result, error) for answer, result, error in outcomes if answer is not None]
    if waiting:
        with suppress(RuntimeError):  # their loop is closed: nobody waits any more
            waiting[0][0].get_loop().call_soon_threadsafe(_wake, waiting)


def _wake(waiting: "list[tuple[asyncio.Future[Any], Any, Exception | None]]") -> None:
    for answer, result, error in waiting:
        if answer.done():
            continue
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)
