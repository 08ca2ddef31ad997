"""Uploads a slice and creates its batch, once: whatever was lost on the way, the batch is looked for before it is
created again."""

import asyncio
from collections.abc import Awaitable, Callable
from http.client import TOO_MANY_REQUESTS
from pathlib import Path
from typing import TypeVar

from harvest.asking.buying.breaker import REFUSED_TOO_LONG_S
from harvest.asking.buying.buyer import Buyer, Stopped
from harvest.core.clock import now
from harvest.core.errors import AttemptFailed, Cut, Passing, TeacherDown, TeacherTooBusy, Throttled
from harvest.endpoint.batches import BatchApi, BatchStatus, Refused
from harvest.store import Store, StoredBatch, Writer

T = TypeVar("T")
OUR_ID, OUR_RUN = "winnow_batch", "winnow_run"
"""The keys of a batch's metadata."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
LOOK_AGAIN_S = 3.0
"""A batch that is not in the list is looked for once more after this time: a request may still be on its way."""


class CannotTell(Exception):
    """Says that a batch may have been created, and that the endpoint does not tell whether it was."""


class Submission:
    """Brings batches of one teacher to its endpoint."""

    def __init__(self, buyer: Buyer, api: BatchApi, ledger: Writer, stopping: asyncio.Event) -> None:
        """`stopping` is set when the session stops asking."""
        self._buyer, self._api, self._ledger, self._stopping = buyer, api, ledger, stopping
        self._not_there: set[int] = set()
        """The batches of which it is known that the endpoint has none."""

    async def upload(self, batch: StoredBatch, file: Path) -> StoredBatch:
        """Uploads the file of a batch. Raises Refused when the endpoint refuses it."""
        file_id = await self.persist(lambda: self._api.upload(file))
        await self._ledger.do(Store.batch_uploaded, batch.id, file_id)
        self._not_there.add(batch.id)
        return await self._stored(batch)

    async def create(self, batch: StoredBatch, file: Path, *, others_run: bool) -> StoredBatch:
        """Creates a batch, unless it is there. Raises Refused when the endpoint refuses it, also for being busy where
        `others_run`, and CannotTell when nobody knows whether it is there."""
        status = await self.persist(lambda: self._found_or_created(batch, file), when_busy=not others_run)
        return await self.adopt(batch, status)

    def is_new(self, batch: StoredBatch) -> None:
        """Notes that nothing was ever sent of a batch, so that it need not be looked for."""
        self._not_there.add(batch.id)

    def is_absent(self, batch: StoredBatch) -> bool:
        """Whether the endpoint surely has no such batch."""
        return batch.id in self._not_there

    async def adopt(self, batch: StoredBatch, status: BatchStatus) -> StoredBatch:
        """Stores the id of a batch that is at the endpoint."""
        await self._ledger.do(Store.batch_created, batch.id, status.id, now())
        return await self._stored(batch)

    async def find(self, batch: StoredBatch) -> BatchStatus | None:
        """Looks through the endpoint's whole list for a batch, twice. Returns None if it is not there. Raises
        CannotTell when the endpoint has no such list."""
        for again in (False, True):
            if again:
                await self.pause(LOOK_AGAIN_S)
            try:
                async for status in self._api.all():
                    is_by_file = batch.file_id is not None and status.input_file_id == batch.file_id
                    if is_by_file or status.metadata.get(OUR_ID) == batch.name:
                        return status
            except Refused as refused:
                if refused.failure.again:
                    raise
                raise CannotTell(str(refused)) from None
        return None

    async def persist(self, call: Callable[[], Awaitable[T]], *, when_busy: bool = True) -> T:
        """Calls until there is an answer. `when_busy` says whether to call again after a 429. Raises Refused when the
        answer is no for good, Stopped when the session stops, and TeacherRefused when the endpoint was down or too busy
        for too long."""
        loop = asyncio.get_running_loop()
        since_s, pause_s = loop.time(), FIRST_PAUSE_S
        while True:
            failure: AttemptFailed
            try:
                return await call()
            except Refused as refused:
                is_busy = refused.queue_is_full or (refused.status == TOO_MANY_REQUESTS and not when_busy)
                if not refused.failure.again or is_busy:
                    raise
                failure = refused.failure
            except AttemptFailed as e:
                if not e.again:
                    raise
                failure = e
            patience_s = max(REFUSED_TOO_LONG_S, self._buyer.run.config.teacher.outage_wait_s)
            if loop.time() - since_s > patience_s:
                kind = TeacherTooBusy if isinstance(failure, Throttled) else TeacherDown
                words = f"{self._buyer.name} has taken no request about batches for {patience_s / 60:.0f} minutes"
                raise kind(f"{words}: {failure}. The same command goes on")
            await self.pause(failure.retry_after_s or pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def pause(self, seconds: float) -> None:
        """Waits. Raises Stopped when the session stops."""
        try:
            async with asyncio.timeout(min(seconds, LONGEST_PAUSE_S)):
                await self._stopping.wait()
        except TimeoutError:
            return
        raise Stopped

    async def _found_or_created(self, batch: StoredBatch, file: Path) -> BatchStatus:
        if batch.id not in self._not_there and (found := await self.find(batch)) is not None:
            return found
        self._not_there.discard(batch.id)
        metadata = {OUR_RUN: self._buyer.run.config.name, OUR_ID: batch.name}
        try:
            if batch.file_id is None:
                return await self._api.create_of_rows(file, self._buyer.run.model, metadata)
            return await self._api.create(batch.file_id, metadata)
        except Refused as refused:
            if refused.status < 500:
                self._not_there.add(batch.id)
            raise
        except Passing:  # the connection was never made
            self._not_there.add(batch.id)
            raise

    async def _stored(self, batch: StoredBatch) -> StoredBatch:
        found = await self._ledger.do(Store.stored_batch, batch.id)
        if found is None:
            raise Cut(f"batch {batch.name} is not in the store")
        return found
