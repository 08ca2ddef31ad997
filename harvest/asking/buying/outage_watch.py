"""Watches one endpoint's replicas while they are down, and shows what is waited for."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime

from harvest.asking.buying.counters import Waiting
from harvest.asking.buying.fleet import Replica
from harvest.asking.buying.pace import LONGEST_WAIT_S
from harvest.endpoint.client import Teacher

FIRST_LOOK_S, LOOK_GROWTH = 5.0, 1.5
"""The wait in seconds before `GET /models` is asked in a long outage, and how much longer each further wait is."""


class OutageWatch:
    """Names an endpoint's replicas in messages, and says which of them are waited for."""

    def __init__(
        self, name: str, connected: Mapping[Replica, Teacher], waiting: dict[str, Waiting], wake: Callable[[], None]
    ) -> None:
        """`name` is what messages call the endpoint. `waiting` is shown to the user. `wake` is called when a replica
        may be there again."""
        self._name, self._connected, self._waiting, self._wake = name, connected, waiting, wake
        self._looking: dict[Replica, asyncio.Task[None]] = {}

    def called(self, replica: Replica) -> str:
        """Returns what messages call a replica: as the endpoint where it is the only one."""
        return self._name if len(self._connected) == 1 else f"{self._name} at {replica.address}"

    def of(self, replica: Replica | None = None) -> str:
        """Returns words that name the endpoint, or a replica, behind what is its own; empty for the only teacher."""
        called = self._name if replica is None else self.called(replica)
        return "" if called == "the teacher" else f" of {called}"

    def waits_for(self, replica: Replica, what: str, longest_s: float | None = None) -> None:
        """Shows what is waited for at a replica, if that is not shown yet."""
        self._waiting.setdefault(self.called(replica), Waiting(what, datetime.now().astimezone(), longest_s))

    def waits_no_more(self, replica: Replica) -> None:
        self._waiting.pop(self.called(replica), None)
        if (looking := self._looking.pop(replica, None)) is not None:
            looking.cancel()

    def look(self, replica: Replica) -> None:
        """Begins to ask from time to time whether a replica is there again. This costs nothing."""
        self._looking[replica] = asyncio.create_task(self._look(replica))

    async def _look(self, replica: Replica) -> None:
        wait_s = FIRST_LOOK_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * LOOK_GROWTH, LONGEST_WAIT_S)
            replica.breaker.heard_models(await self._connected[replica].is_up())
            self._wake()
