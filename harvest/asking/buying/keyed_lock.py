"""Locks by key: what two tasks want alike is bought once and found in the store by the second."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class KeyedLock:
    """Lets one task at a time in for each key."""

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
