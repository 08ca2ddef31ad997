"""The one cap of a session, which all who are asked share."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal


class SharedCap:
    """What was spent under the cap, and whether money that is reserved may still come back.

    The store guards the cap itself. This says how long it is worth waiting where the store has no room for a request.
    """

    def __init__(self, usd: Decimal | None, spent_pusd: int = 0) -> None:
        self.usd = usd
        """None: the run has no cap."""
        self.spent_pusd = spent_pusd
        self.changed = asyncio.Event()
        """Set when some try gave back what it had not used, or when waiting is of no use any more."""
        self._unsettled = 0

    @property
    def may_free_up(self) -> bool:
        """Whether a try is out that could give money back."""
        return self._unsettled > 0

    @contextmanager
    def unsettled_try(self) -> Iterator[None]:
        """Entered while the money of one try is reserved and not settled."""
        self._unsettled += 1
        try:
            yield
        finally:
            self._unsettled -= 1
            self.changed.set()
