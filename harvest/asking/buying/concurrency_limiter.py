"""Limits the concurrency at one endpoint: tries wait here, in the order they came, until the pace (pace.py) and the
breaker (breaker.py) let them go."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from harvest.asking.buying.breaker import Breaker
from harvest.asking.buying.pace import Pace

LOOK_AGAIN_S = 1.0
"""A waiting try asks the pace again after this many seconds. So a lost wake-up costs one second at most."""


@dataclass(slots=True)
class Slot:
    """Holds the place in flight of one try, until the endpoint has answered that try."""

    limiter: "ConcurrencyLimiter"
    sent_s: float
    """When the pace let the try go, in seconds on the event loop's clock."""
    is_held: bool = True

    def release(self) -> None:
        """Makes room for the next try; a second call does nothing. It is called as soon as the endpoint has answered,
        before the answer is written down."""
        if self.is_held:
            self.is_held = False
            self.limiter.released()


@dataclass(slots=True)
class ConcurrencyLimiter:
    """Lets in as many tries as the pace and the breaker allow. Once it is `open`, it lets in every try; each of them
    then finds that asking has stopped."""

    pace: Pace
    breaker: Breaker = field(default_factory=lambda: Breaker(has_answered=True))
    is_open: bool = False
    in_flight: int = 0
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    _timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Slot]:
        """Waits for a place in flight, and holds it until it is released or the block ends."""
        slot = Slot(self, await self._enter())
        try:
            yield slot
        finally:
            slot.release()

    def open(self) -> None:
        """Lets in all tries that wait now or come later."""
        self.is_open = True
        self.wake()

    def released(self) -> None:
        """Notes that one try less is in flight, and wakes the next one."""
        self.in_flight -= 1
        self.wake()

    async def _enter(self) -> float:
        loop = asyncio.get_running_loop()
        was_first = not self._waiting
        while not self.is_open:
            now_s = loop.time()
            allowed = was_first and self.breaker.may_send(self.in_flight, now_s)
            if allowed and self.pace.may_send(self.in_flight, now_s):
                break
            waiter = loop.create_future()
            (self._waiting.appendleft if was_first else self._waiting.append)(waiter)
            self._wake_in_time(loop, now_s)
            await waiter
            was_first = True
        now_s = loop.time()
        self.pace.sent(now_s)
        self.breaker.sent(now_s)
        self.in_flight += 1
        self.wake()
        return now_s

    def _wake_in_time(self, loop: asyncio.AbstractEventLoop, now_s: float) -> None:
        # As of the moment at which the pace refused: a moment later it may have nothing to wait for, and no timer would
        # be set.
        wait_s = max(self.pace.wait_s(now_s), self.breaker.wait_s(now_s))
        if self._timer is None:
            self._timer = loop.call_later(wait_s if wait_s > 0 else LOOK_AGAIN_S, self._time_has_come)

    def _time_has_come(self) -> None:
        self._timer = None
        self.wake()

    def wake(self) -> None:
        """Wakes the first try in line, which then asks the pace again. Once the limiter is open, it wakes all tries.
        Each try that goes in wakes the next one."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                if not self.is_open:
                    return
