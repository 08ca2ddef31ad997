"""The writing thread: who waits is answered, and a failure takes no more with it than it must."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from books import audit
from stores import reserved, store_with_a_run

from harvest.core.errors import StoreUnusable
from harvest.store import Sent, Store, Writer


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with store_with_a_run(tmp_path) as opened:
        yield opened


async def test_calls_are_written_and_answered(store: Store) -> None:
    writer = Writer(store)
    held = await asyncio.gather(*(writer.do(reserved, n) for n in range(20)))
    assert len({h.try_id for h in held}) == 20
    writer.close()
    assert audit(store.db, 1)["reserved"] == 200


async def test_a_bad_row_costs_no_other_row_of_its_write(store: Store) -> None:
    writer = Writer(store)

    def broken(store: Store) -> None:
        store.db.execute("INSERT INTO reply (try_id, body) VALUES (1, NULL)")

    said = await asyncio.gather(*(writer.do(reserved, n) for n in range(5)), writer.do(broken), return_exceptions=True)
    assert [type(s) for s in said] == [Sent] * 5 + [StoreUnusable]
    writer.close()
    assert audit(store.db, 1)["reserved"] == 50


async def test_a_defect_in_one_call_fails_it_alone_and_the_others_are_written(store: Store) -> None:
    writer = Writer(store)

    def defect(_: Store) -> None:
        raise ZeroDivisionError

    first, failed, second = await asyncio.gather(
        writer.do(reserved, 0), writer.do(defect), writer.do(reserved, 1), return_exceptions=True
    )
    assert isinstance(failed, ZeroDivisionError)
    assert isinstance(first, Sent)
    assert isinstance(second, Sent)
    writer.close()
    assert audit(store.db, 1)["reserved"] == 20


async def test_after_a_lost_call_that_nobody_waited_for_nothing_more_is_written(store: Store) -> None:
    writer = Writer(store)

    def defect(_: Store) -> None:
        raise ZeroDivisionError

    before = writer.do(reserved, 0)
    waiting = asyncio.create_task(before)
    await asyncio.sleep(0)
    writer.post(defect)
    after = asyncio.create_task(writer.do(reserved, 1))
    assert isinstance(await waiting, Sent)
    with pytest.raises(ZeroDivisionError):
        await after
    with pytest.raises(ZeroDivisionError):
        await writer.do(reserved, 2)
    writer.close()
    assert audit(store.db, 1)["reserved"] == 10


async def test_a_caller_that_goes_away_does_not_stop_the_ledger(store: Store) -> None:
    writer = Writer(store)
    gone = asyncio.create_task(writer.do(reserved, 0))
    await asyncio.sleep(0)
    gone.cancel()
    with suppress(asyncio.CancelledError):
        await gone
    await asyncio.wait_for(writer.do(reserved, 1), 5)
    writer.close()
    assert audit(store.db, 1)["reserved"] == 20


async def test_what_waits_is_written_before_the_ledger_closes(store: Store) -> None:
    writer = Writer(store)
    waiting = [asyncio.create_task(writer.do(reserved, n)) for n in range(10)]
    await asyncio.sleep(0)
    writer.close()
    await asyncio.gather(*waiting)
    assert audit(store.db, 1)["reserved"] == 100
