"""Holds the one cap of a session. All endpoints that are asked share it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal


class SharedCap:
    """Knows what is spent and in doubt under the cap, and whether reserved money may still come back.

    The store guards the cap itself. This class says whether it is worth waiting when the store has no room for a
    request.
    """

    def __init__(self, usd: Decimal | None, spent_pusd: int = 0, in_doubt_pusd: int = 0) -> None:
        self.usd = usd
        """The cap in dollars; None if the run has no cap."""
        self.spent_pusd, self.in_doubt_pusd, self.reserved_pusd = spent_pusd, in_doubt_pusd, 0
        self.changed = asyncio.Event()
        """Set when a try gave back money that it had not used, or when waiting has become useless."""
        self._unsettled = 0

    @property
    def may_free_up(self) -> bool:
        """Whether a try is unsettled, so that it could still give money back."""
        return self._unsettled > 0

    async def freed(self, most_s: float | None) -> None:
        """Waits until a try of this process gives money back, for `most_s` seconds at most (None: as long as it
        takes)."""
        self.changed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.changed.wait(), most_s)

    @contextmanager
    def unsettled_try(self) -> Iterator[None]:
        """Counts one try as unsettled while the block runs: its money is reserved and not settled."""
        self._unsettled += 1
        try:
            yield
        finally:
            self._unsettled -= 1
            self.changed.set()
