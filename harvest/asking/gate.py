"""Where tries wait until the pace lets them go, in the order they came."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from harvest.asking.pace import Pace


class Stopped(Exception):
    """No more is asked; raised inside the tasks of a collection alone."""


LOOK_AGAIN_S = 1.0
"""Who waits for others to come back looks again so often all the same: a wake-up that is lost costs a second."""


@dataclass(slots=True)
class Pass:
    """Of one try that was let go."""

    gate: "Gate"
    sent_s: float
    """The moment, on the loop's clock, at which the pace let it go."""
    inside: bool = True

    def leave(self) -> None:
        """Makes room for the next, once: when the endpoint has answered, whatever is still to be written."""
        if self.inside:
            self.inside = False
            self.gate.left()


@dataclass(slots=True)
class Gate:
    """One for each teacher. Once it is `open` it lets everybody through, to find that asking has stopped."""

    pace: Pace
    open: bool = False
    _inside: int = 0
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    _timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator["Pass"]:
        """Inside, it counts as out at the endpoint, until it leaves."""
        let_in = Pass(self, await self._enter())
        try:
            yield let_in
        finally:
            let_in.leave()

    def left(self) -> None:
        """One less is inside."""
        self._inside -= 1
        self.wake()

    async def _enter(self) -> float:
        loop = asyncio.get_running_loop()
        was_first = not self._waiting
        while not self.open:
            now_s = loop.time()
            if was_first and self.pace.may_send(self._inside, now_s):
                break
            waiter = loop.create_future()
            (self._waiting.appendleft if was_first else self._waiting.append)(waiter)
            self._wake_in_time(loop, now_s)
            await waiter
            was_first = True
        now_s = loop.time()
        self.pace.sent(now_s)
        self._inside += 1
        self.wake()
        return now_s

    def _wake_in_time(self, loop: asyncio.AbstractEventLoop, now_s: float) -> None:
        # At the moment of the refusal: a moment later there may be nothing to wait for, and nobody would wake us.
        wait_s = self.pace.wait_s(now_s)
        if self._timer is None:
            self._timer = loop.call_later(wait_s if wait_s > 0 else LOOK_AGAIN_S, self._time_has_come)

    def _time_has_come(self) -> None:
        self._timer = None
        self.wake()

    def wake(self) -> None:
        """Lets the first in line look again; each that goes wakes the next. All of them once it is open."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                if not self.open:
                    return


class ByKey:
    """Lets one at a time in for each key: what two want alike is bought once, and found by the second."""

    def __init__(self) -> None:
        self._inside: dict[str, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def __call__(self, key: str) -> AsyncIterator[None]:
        while key in self._inside:
            await asyncio.shield(self._inside[key])
        self._inside[key] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            self._inside.pop(key).set_result(None)
