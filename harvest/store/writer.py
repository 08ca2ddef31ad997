"""The store's one writing thread: group commit between the event loop and the disk."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

from harvest.core.errors import StoreUnusable
from harvest.store.store import Store

P = ParamSpec("P")
T = TypeVar("T")

GROUP_S = 0.003
"""How long the writer waits for company before it commits."""


@dataclass(frozen=True, slots=True)
class _Call:
    method: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    answer: "asyncio.Future[Any] | None"
    """Where a caller waits for the commit; None: nobody does."""


class Writer:
    """The writing thread: calls on a Store from the event loop, written in their order and committed in groups.

    Where the store fails, every waiting call of the group raises that: nothing of it was written, so nothing that was
    not recorded may be sent. Where one call fails for another reason, the others are written without it. Where a call
    that nobody waits for was lost, every later one raises its error: what follows must not be written without it.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lost: Exception | None = None
        self._thread = threading.Thread(target=self._write, name="writer", daemon=True)
        self._thread.start()

    async def do(self, method: Callable[Concatenate[Store, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `method(store, …)` in the next group; returns once it is on the disk.

        A caller that is cancelled meanwhile does not take the write with it.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put(_Call(method, args, kwargs, answer))
        return await answer

    def post(self, method: Callable[Concatenate[Store, P], Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """The same for a caller that need not wait: written before whatever is called later."""
        self._calls.put(_Call(method, args, kwargs, None))

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
            time.sleep(GROUP_S)
            group = [first]
            while not self._calls.empty():
                call = self._calls.get()
                if call is None:
                    ending = True
                    break
                group.append(call)
            self._commit(group)

    def _commit(self, group: list[_Call]) -> None:
        try:
            if self._lost is not None:
                raise self._lost
            with self.store.transaction():
                results = [call.method(self.store, *call.args, **call.kwargs) for call in group]
        except Exception as e:  # noqa: BLE001 - the thread's boundary: every waiting caller gets it
            if len(group) > 1 and not isinstance(e, StoreUnusable) and self._lost is None:
                # A defect in one call must not take paid answers with it: each for itself, in their order.
                for call in group:
                    self._commit([call])
                return
            if any(call.answer is None for call in group):
                self._lost = e
            _answer((call.answer, None, e) for call in group)
            return
        _answer((call.answer, result, None) for call, result in zip(group, results, strict=True))


def _answer(outcomes: "Iterable[tuple[asyncio.Future[Any] | None, Any, Exception | None]]") -> None:
    """Wakes the callers of a group, with one call into their loop."""
    told = [(answer, result, error) for answer, result, error in outcomes if answer is not None]
    if told:
        with suppress(RuntimeError):  # their loop is closed: nobody waits any more
            told[0][0].get_loop().call_soon_threadsafe(_wake, told)


def _wake(told: "list[tuple[asyncio.Future[Any], Any, Exception | None]]") -> None:
    for answer, result, error in told:
        if answer.done():
            continue
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)
