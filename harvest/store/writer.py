"""Runs the thread that writes to the store: calls that come at about the same time are committed in one transaction."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from harvest.core.errors import StoreUnusable
from harvest.store.store import Store

P = ParamSpec("P")
T = TypeVar("T")

GROUP_S = 0.003
"""How many seconds the writer waits for more calls before it writes a group."""


Call: TypeAlias = "tuple[Callable[[Store], Any], asyncio.Future[Any] | None]"
"""A function to call with the store, and the future that its caller waits for; None: no caller waits."""


class Writer:
    """Runs the thread that writes to the store. It takes calls from the event loop in their order and commits them in
    groups.

    When the store fails, nothing of the group is written, and every waiting call of the group raises the error: a
    request that was not recorded must not be sent. When one call fails for another reason, the other calls are written
    without it. When a call fails that no caller waits for, every later call raises its error, since later calls rely on
    what was lost.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._lost: Exception | None = None
        self._thread = threading.Thread(target=self._write, name="writer", daemon=True)
        self._thread.start()

    async def do(self, method: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls `method(store, …)` in the next group, and returns its result when the group is on the disk.

        The call is written even if its caller is cancelled meanwhile.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put((lambda store: method(store, *args, **kwargs), answer))
        return await answer

    def post(self, method: Callable[Concatenate[Store, P], Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Calls `method(store, …)` like `do`, for a caller that does not wait. The call is written before all later
        calls."""
        self._calls.put((lambda store: method(store, *args, **kwargs), None))

    def close(self) -> None:
        """Writes the calls that wait, and ends the thread. The store stays open."""
        self._calls.put(None)
        self._thread.join()

    def _write(self) -> None:
        ending = False
        while not ending:
            first = self._calls.get()
            if first is None:
                return
            time.sleep(GROUP_S)
            group = [first]
            while not self._calls.empty():
                call = self._calls.get()
                if call is None:
                    ending = True
                    break
                group.append(call)
            self._commit(group)

    def _commit(self, group: list[Call]) -> None:
        try:
            if self._lost is not None:
                raise self._lost
            with self.store.transaction():
                results = [run(self.store) for run, _ in group]
        except Exception as e:  # noqa: BLE001 - the thread's boundary: every waiting caller gets it
            if len(group) > 1 and not isinstance(e, StoreUnusable) and self._lost is None:
                # A defect in one call must not lose paid answers of others: each call is written alone, in order.
                for call in group:
                    self._commit([call])
                return
            if any(answer is None for _, answer in group):
                self._lost = e
            _answer((answer, None, e) for _, answer in group)
            return
        _answer((answer, result, None) for (_, answer), result in zip(group, results, strict=True))


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
