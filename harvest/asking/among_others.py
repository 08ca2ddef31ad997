"""Keeps a process among others that collect the same run: prolongs its lease, ends the sessions of dead processes, and
shares what was found of the pace of endpoints."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from harvest.asking.buying.buyer import Buyer
from harvest.asking.buying.counters import Counters
from harvest.asking.buying.pace import Pace
from harvest.asking.planning.run import Run
from harvest.asking.tasks import Tasks
from harvest.core.clock import now
from harvest.core.errors import StoreUnusable, WinnowError
from harvest.store import BEAT_S, Beat, Heartbeat, Store, Writer

SHARE = 20
"""Counting what was done takes at most one part in so many of the time."""


@asynccontextmanager
async def among_others(
    run: Run, ledger: Writer, session_id: int, counters: Counters, stop: Callable[[WinnowError], None],
    say: Callable[[str], None],
) -> AsyncIterator["Others | None"]:  # fmt: skip
    """Keeps the session's lease while the block runs. `stop` is called with the reason when the lease cannot be kept.
    Gives None, and does nothing, if this process is alone with the run."""
    if not ledger.store.shares:
        yield None
        return
    reader = await asyncio.to_thread(Store.open, ledger.store.url)
    others = Others(run, ledger, reader, session_id, counters, stop, say)
    try:
        yield others
    finally:
        await others.end()
        reader.close()


class Others:
    """What one session does for the sake of the others. `buyers` are set as soon as they exist."""

    def __init__(
        self, run: Run, ledger: Writer, reader: Store, session_id: int, counters: Counters,
        stop: Callable[[WinnowError], None], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`reader` is another connection to the store, so that nothing waits for what is being written."""
        self._run, self._ledger, self._reader, self._counters, self._say = run, ledger, reader, counters, say
        self._heartbeat = Heartbeat(reader.db, ledger.store.db, run.id, session_id)
        self.buyers: Mapping[int, Buyer] = {}
        self._look_again_s = 0.0
        self._is_heeding = False

        def on_error(reason: WinnowError) -> None:
            say(f"error: {reason}. Nothing new is asked")
            stop(reason)

        self._tasks = Tasks(on_error)
        self._tasks.begin(self._beat())

    async def end(self) -> None:
        """Prolongs the lease no more."""
        self._tasks.cancel()
        await self._tasks.all_done()

    async def _beat(self) -> None:
        """Prolongs the lease again and again. What is done about a beat may wait for a lock: the next beat does not."""
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                beat = await asyncio.to_thread(self._heartbeat.beat, self._found())
            except self._reader.db.errors as e:
                why = self._reader.db.in_words(e)
                raise StoreUnusable(f"store {self._reader.words}: the lease of this process is lost: {why}") from e
            if beat is not None and beat.waits:
                self._say(beat.waits)
            if beat is not None and not self._is_heeding:
                self._is_heeding = True
                self._tasks.begin(self._heed(beat), self._has_heeded)

    def _has_heeded(self) -> None:
        self._is_heeding = False

    async def _heed(self, beat: Beat) -> None:
        with suppress(StoreUnusable):  # it is done again, or ends the session elsewhere
            if beat.is_lost:
                await self._ledger.do(Store.rise_again, self._run.id)
            if beat.others_ended:
                await self._ledger.do(Store.end_dead, self._run.id, now())
        now_s = asyncio.get_running_loop().time()
        for name, pace in self._paces():
            for found in beat.paces:
                if (one := found.get(name)) is not None:
                    pace.told(now_s, one["wait_s"] - found["age_s"], one["rate"], one["limit"])
        await self.look()

    async def look(self) -> None:
        """Shows what all processes have done so far. The more there is to count, the more seldom it is counted."""
        counters, loop = self._counters, asyncio.get_running_loop()
        with suppress(StoreUnusable):  # it is looked at again
            money = await asyncio.to_thread(self._reader.money, self._run.id)
            counters.cap.spent_pusd, counters.cap.in_doubt_pusd = money.spent, money.in_doubt
            counters.cap.reserved_pusd = money.reserved
            if (began_s := loop.time()) < self._look_again_s:
                return
            figures = await asyncio.to_thread(self._reader.counts, self._run.id)
            rejected = await asyncio.to_thread(self._reader.rejections, self._run.id)
            counters.ended, counters.accepted = figures["ended"], figures["accepted"]
            counters.by_student, counters.rejected = figures["by_student"], Counter(rejected)
            self._look_again_s = loop.time() + SHARE * (loop.time() - began_s)

    def _found(self) -> dict[str, Any]:
        """Returns what this session found of the pace of each endpoint."""
        now_s = asyncio.get_running_loop().time()
        return {
            name: {"wait_s": pace.quiet_s(now_s), "rate": pace.rate, "limit": pace.limit}
            for name, pace in self._paces()
        }

    def _paces(self) -> Iterator[tuple[str, Pace]]:
        """Gives the pace of each replica of each teacher and of the student, with a name that other processes know."""
        for place, buyer in self.buyers.items():
            for replica in buyer.fleet.replicas:
                yield f"{place} {replica.address}", replica.pace
