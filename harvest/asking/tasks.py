"""Runs the tasks of one session: each question in hand is one task."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from harvest.asking.buying.buyer import Stopped
from harvest.core.errors import WinnowError


class Tasks:
    """Runs tasks that may end the session, and never fail unheard. `on_error` is called with the error that ended a
    task."""

    def __init__(self, on_error: Callable[[WinnowError], None]) -> None:
        self._on_error = on_error
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, object], when_done: Callable[[], None] = lambda: None) -> None:
        """Starts a task. `when_done` is called when the task ends, also when it fails."""
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: when_done())

    async def all_done(self) -> None:
        """Waits until no task is left. Tasks that begin meanwhile are waited for too."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _guarded(self, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except Stopped:
            return
        except WinnowError as e:
            self._on_error(e)
        # A worker's boundary: a defect of ours must end the run and be told, not vanish with its task.
        except Exception as e:
            self._on_error(WinnowError(f"a defect of winnow's own: {type(e).__name__}: {e}"))
            raise
