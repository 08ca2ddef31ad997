"""The store's one writing thread: group commit between the event loop and the disk."""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Concatenate, ParamSpec, TypeVar

from harvest.store import Store

P = ParamSpec("P")
T = TypeVar("T")

GROUP_S = 0.004
"""How long the writer waits for company before it commits."""


class Ledger:
    """The writing thread: calls on a Store from the event loop, committed in groups, each answered after its commit.

    A call that raises takes its group with it, and every call of the group raises the same: nothing of it was
    written, so nothing that was not recorded may be sent.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._thread.start()

    async def do(self, method: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `method(store, …)` in the next group; returns once it is on the disk.

        A caller that is cancelled meanwhile does not take the write with it.
        """
        done: Future[T] = Future()
        self._calls.put((lambda: method(self.store, *args, **kwargs), done))
        return await asyncio.shield(asyncio.wrap_future(done))

    def close(self) -> None:
        """Writes what is waiting, then ends the thread; the store stays open."""
        self._calls.put(None)
        self._thread.join()

    def _write(self) -> None:
        ending = False
        while not ending:
            first = self._calls.get()
            if first is None:
                return
            threading.Event().wait(GROUP_S)
            group = [first]
            while not self._calls.empty():
                call = self._calls.get()
                if call is None:
                    ending = True
                    break
                group.append(call)
            self._commit(group)

    def _commit(self, group: list[tuple[Callable[[], Any], "Future[Any]"]]) -> None:
        results = []
        try:
            with self.store.transaction():
                results = [call() for call, _ in group]
        except Exception as e:  # noqa: BLE001 - the thread's boundary: every waiting caller gets it
            for _, done in group:
                done.set_exception(e)
            return
        for (_, done), result in zip(group, results, strict=True):
            done.set_result(result)
