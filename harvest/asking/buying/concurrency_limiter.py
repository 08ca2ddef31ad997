"""Limits the concurrency at one endpoint: tries wait here, in the order they came, until one of its replicas (fleet.py)
takes them."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from harvest.asking.buying.fleet import Fleet, Replica

LOOK_AGAIN_S = 1.0
"""A waiting try asks the replicas again after this many seconds. So a lost wake-up costs one second at most."""


@dataclass(slots=True)
class Slot:
    """Holds the place in flight of one try at one replica, until that has answered the try."""

    limiter: "ConcurrencyLimiter"
    replica: Replica
    sent_s: float
    """When the try was let go, in seconds on the event loop's clock."""
    is_held: bool = True

    def release(self) -> None:
        """Makes room for the next try; a second call does nothing. It is called as soon as the endpoint has answered,
        before the answer is written down."""
        if self.is_held:
            self.is_held = False
            self.limiter.released(self.replica)


@dataclass(slots=True)
class ConcurrencyLimiter:
    """Lets in as many tries as the replicas take. Once it is `open`, it lets in every try; each of them then finds that
    asking has stopped."""

    fleet: Fleet
    is_open: bool = False
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    _waiting_again: deque[asyncio.Future[None]] = field(default_factory=deque)
    """Tries that a replica has failed wait in a line of their own: they may wait for another replica while those in the
    other line may go to that one."""
    _timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def slot(
        self, question_id: int | None = None, tried: Collection[Replica] = frozenset()
    ) -> AsyncIterator[Slot]:
        """Waits for a place in flight, and holds it until it is released or the block ends. `question_id` and `tried`
        are as in `Fleet.choose`."""
        slot = Slot(self, *await self._enter(question_id, tried))
        try:
            yield slot
        finally:
            slot.release()

    def open(self) -> None:
        """Lets in all tries that wait now or come later."""
        self.is_open = True
        self.wake()

    def released(self, replica: Replica) -> None:
        """Notes that one try less is in flight, and wakes the next one."""
        replica.in_flight -= 1
        self.wake()

    async def _enter(self, question_id: int | None, tried: Collection[Replica]) -> tuple[Replica, float]:
        loop = asyncio.get_running_loop()
        line = self._waiting_again if tried and len(self.fleet.replicas) > 1 else self._waiting
        was_first = not line
        replica = None
        while not self.is_open:
            now_s = loop.time()
            replica = self.fleet.choose(now_s, question_id, tried) if was_first else None
            if replica is not None:
                break
            waiter = loop.create_future()
            (line.appendleft if was_first else line.append)(waiter)
            self._wake_in_time(loop, now_s)
            await waiter
            was_first = True
        replica, now_s = replica or self.fleet.replicas[0], loop.time()
        self.fleet.sent(replica, question_id, now_s)
        self.wake()
        return replica, now_s

    def _wake_in_time(self, loop: asyncio.AbstractEventLoop, now_s: float) -> None:
        # As of the moment at which the replicas refused: a moment later they may have nothing to wait for, and no timer
        # would be set.
        wait_s = min((replica.wait_s(now_s) or LOOK_AGAIN_S for replica in self.fleet.asked()), default=LOOK_AGAIN_S)
        if self._timer is None:
            self._timer = loop.call_later(wait_s, self._time_has_come)

    def _time_has_come(self) -> None:
        self._timer = None
        self.wake()

    def wake(self) -> None:
        """Wakes the first try in each line, which then looks for a replica again. Once the limiter is open, it wakes
        all tries. Each try that goes in wakes the next ones."""
        for line in (self._waiting_again, self._waiting):
            while line:
                waiter = line.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                    if not self.is_open:
                        break
