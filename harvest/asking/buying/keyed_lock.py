"""Locks by key: if two tasks want the same content, the first buys it, and the second then finds it in the store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class KeyedLock:
    """Lets in one task at a time for each key."""

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
