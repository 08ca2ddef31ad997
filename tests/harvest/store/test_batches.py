"""The money of batches: reserved whole, settled row by row in any order."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from books import audit
from hypothesis import given
from hypothesis import strategies as st
from stores import NOW, reply, store_with_a_run

from harvest.core.errors import Cut, Passing, RowRefused
from harvest.core.nouns import Ask
from harvest.store import RowSettlement, RowToSend, Store, StoredBatch

OUTCOMES = ("answered", "unpriced", "free", "refused", "missing", "bounded", "unheard")


def made(store: Store, name: str, worsts: list[int], first: int = 0) -> StoredBatch | None:
    rows = [RowToSend(first + n + 1, Ask(0, 100), f"sha256:{first + n}", worst) for n, worst in enumerate(worsts)]
    with store.transaction():
        return store.reserve_batch(1, 0, name, rows, NOW)


def booked(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as db:
        return audit(db, 1)


@given(
    rows=st.lists(st.tuples(st.integers(1, 400), st.sampled_from(OUTCOMES), st.integers(0, 400)), max_size=20),
    killed=st.booleans(),
)
def test_the_books_hold_whatever_becomes_of_the_rows(
    tmp_path_factory: object, rows: list[tuple[int, str, int]], killed: bool
) -> None:
    folder = tmp_path_factory.mktemp("store")  # type: ignore[attr-defined]
    with store_with_a_run(folder) as store:
        if not rows:
            return
        batch = made(store, "b", [worst for worst, _, _ in rows])
        assert batch is not None
        assert booked(store.path)["reserved"] == sum(worst for worst, _, _ in rows)
        with store.transaction():
            if killed:
                store.hold_unsettled(1, NOW)
            tries = store.unsettled_tries(batch.id)
            for one, (worst, outcome, part) in zip(tries, rows, strict=True):
                assert one.reserved_pusd == worst
                cost = min(worst, part)
                if outcome == "bounded":
                    store.lower_reserve(one.try_id, cost)
                settled = {
                    "answered": RowSettlement(one.try_id, reply(), None, cost, "config"),
                    "unpriced": RowSettlement(one.try_id, reply(), None, None, "config"),
                    "free": RowSettlement(one.try_id, None, Passing("expired"), None, "none"),
                    "refused": RowSettlement(one.try_id, None, RowRefused("no"), None, "none"),
                    "missing": RowSettlement(one.try_id, None, Cut("in no file"), None, "none"),
                    "bounded": RowSettlement(one.try_id, None, Cut("in no file"), None, "none"),
                }.get(outcome)
                if settled is not None:
                    store.settle_rows([settled, settled], NOW)  # the second time changes nothing
        books = booked(store.path)
        unheard = sum(worst for worst, outcome, _ in rows if outcome == "unheard")
        held = {"unpriced": 0, "missing": 0, "bounded": 0}
        for worst, outcome, part in rows:
            if outcome in held:
                held[outcome] += min(worst, part) if outcome == "bounded" else worst
        assert books["spent"] == sum(min(worst, part) for worst, outcome, part in rows if outcome == "answered")
        assert books["reserved"] == (0 if killed else unheard)
        assert books["in_doubt"] == sum(held.values()) + (unheard if killed else 0)


def test_a_batch_that_does_not_fit_the_cap_writes_nothing(tmp_path: Path) -> None:
    with store_with_a_run(tmp_path) as store:
        assert store.room_pusd(1) == 10_000
        assert made(store, "a", [6_000]) is not None
        assert store.room_pusd(1) == 4_000
        assert made(store, "b", [2_000, 2_001], first=1) is None
        assert [batch.name for batch in store.open_batches(1)] == ["a"]
        assert made(store, "c", [2_000, 2_000], first=1) is not None
        assert booked(store.path)["reserved"] == 10_000


def test_a_question_in_an_open_batch_is_not_asked_again(tmp_path: Path) -> None:
    with store_with_a_run(tmp_path) as store:
        batch = made(store, "a", [1, 1])
        assert batch is not None
        assert [q.id for q in store.open_questions(1, 0, 3)] == [3, 4, 5]
        assert store.in_batches(["sha256:0", "sha256:7"]) == {"sha256:0": "r"}
        with store.transaction():
            store.settle_rows(
                [RowSettlement(t.try_id, None, Passing("x"), None, "none") for t in store.unsettled_tries(batch.id)],
                NOW,
            )
            store.end_batch(batch.id, NOW)
        assert [q.id for q in store.open_questions(1, 0, 3)] == [1, 2, 3]
        assert store.in_batches(["sha256:0"]) == {}


def test_the_result_of_a_row_replaces_what_the_user_said_it_cost(tmp_path: Path) -> None:
    with store_with_a_run(tmp_path) as store:
        batch = made(store, "a", [50])
        assert batch is not None
        with store.transaction():
            store.hold_unsettled(1, NOW)
            [row] = store.unsettled_tries(batch.id)
            assert store.settle_doubt(row.try_id, 0, "user", NOW)
            found = store.batch_tries(batch.id, ["sha256:0", "sha256:1"])
            assert found == {"sha256:0": replace(row, attempt=found["sha256:0"].attempt)}
            store.settle_rows([RowSettlement(row.try_id, reply(), None, 7, "config")], NOW)
        assert booked(store.path)["spent"] == 7
