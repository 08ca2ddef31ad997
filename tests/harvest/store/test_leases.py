"""Processes that share a run in PostgreSQL: what one claims, gives back and tells is what the others find."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from postgres import cluster
from stores import NOW, question

from harvest.core.nouns import Ask
from harvest.store import ClaimLost, Heartbeat, InHand, Sent, Store

Process = Callable[[], Store]


@pytest.fixture
def process() -> Iterator[Process]:
    """Begins one more session of the run "r" of 100 questions, which spends under the cap of "head"."""
    url = cluster().database()
    with ExitStack() as opened:
        with Store.open(url) as store, store.transaction():
            store.put_run("head", {}, 1_000, NOW)
            run = store.put_run("r", {}, 1_000, NOW, under="head")
            store.put_run("beside", {}, 1_000, NOW, under="head")
            for n in range(100):
                store.put_question(run, question(n))

        def begin() -> Store:
            store = opened.enter_context(Store.open(url))
            store.join("r", alone=False)
            with store.transaction():
                store.begin_session(store.run_id("r"), NOW)
            return store

        yield begin


def claimed(store: Store, limit: int = 256) -> list[int]:
    with store.transaction():
        return [q.id for q in store.open_questions(store.run_id("r"), 0, limit)]


def asked(store: Store, row: int, key: str, worst_pusd: int = 1) -> Any:
    with store.transaction():
        return store.reserve(store.run_id("r"), row, Ask(0, 100), key, worst_pusd, NOW)


def runs_out(store: Store) -> None:
    """What half a minute without a beat would do to a process."""
    store.db.execute(
        "UPDATE lease SET until = clock_timestamp() - interval '1 s' WHERE session_id = ?", (store.session_id,)
    )


def pulse(store: Store) -> Heartbeat:
    assert store.session_id is not None
    return Heartbeat(store.db, store.db, store.run_id("r"), store.session_id)


def test_a_question_is_one_process_s_until_that_gives_it_back(process: Process) -> None:
    one, two = process(), process()
    mine, theirs = claimed(one), claimed(two)
    assert (len(mine), len(theirs)) == (64, 36)
    assert not {*mine} & {*theirs}
    assert isinstance(asked(one, theirs[0], "a"), ClaimLost)
    one.give_back(theirs[0])
    assert claimed(one) == [], "what is another's cannot be given back"
    with two.transaction():
        two.put_back(theirs[0])
    assert claimed(one) == [theirs[0]]
    assert isinstance(asked(two, theirs[0], "a"), ClaimLost)
    assert isinstance(asked(one, theirs[0], "a"), Sent)


def test_what_another_process_buys_now_is_not_bought(process: Process) -> None:
    one, two = process(), process()
    mine, theirs = claimed(one), claimed(two)
    assert isinstance(asked(one, mine[0], "same"), Sent)
    assert isinstance(asked(two, theirs[0], "same"), InHand)
    # As a transaction of another run does that has begun to buy this: nothing else of it is seen yet.
    two.db.execute("SELECT pg_advisory_lock(hashtextextended(?, 0))", ("begun",))
    assert isinstance(asked(one, mine[1], "begun"), InHand)
    two.db.execute("SELECT pg_advisory_unlock(hashtextextended(?, 0))", ("begun",))
    assert isinstance(asked(one, mine[1], "begun"), Sent)


def test_others_are_waited_for_only_while_they_may_give_something_back(process: Process) -> None:
    one, two = process(), process()
    run = one.run_id("r")
    claimed(one)
    (row, *rest) = claimed(two)
    with two.transaction():
        for other in rest:
            two.close_question(other, "solved")
    assert one.others_claim(run)
    two.set_aside(row)
    assert not one.others_claim(run), "the other process asks it no more"
    assert claimed(one) == [], "and gives it back when it ends"
    with two.transaction():
        two.leave(run, NOW)
    assert claimed(one) == [row]


def test_money_that_any_run_under_one_cap_has_reserved_may_become_free(process: Process) -> None:
    one = process()
    run = one.run_id("r")
    assert not one.others_reserve(run)
    one.db.execute("UPDATE run SET reserved = 1 WHERE name = 'beside'")
    assert one.others_reserve(run)
    one.db.execute("UPDATE run SET under = NULL WHERE name = 'beside'")
    assert not one.others_reserve(run)


def test_a_transaction_locks_the_run_and_the_one_under_whose_cap_it_spends(process: Process) -> None:
    one, two = process(), process()
    two.wait_for_lock(2)
    free = "SELECT name FROM run WHERE name = ? FOR UPDATE SKIP LOCKED"
    with one.transaction():
        one.run_id("r")
        found = {name: two.db.execute(free, (name,)).fetchone() is not None for name in ("r", "head", "beside")}
    assert found == {"r": False, "head": False, "beside": True}


def test_a_beat_prolongs_the_lease_and_tells_the_pace(process: Process) -> None:
    one, two = process(), process()
    left = "SELECT until - clock_timestamp() > interval '20 s' AS is_long FROM lease WHERE session_id = ?"
    one.db.execute("UPDATE lease SET until = clock_timestamp() + interval '9 s'")
    beat = pulse(one).beat({"0 a": {"rate": 3.5}})
    assert beat is not None
    assert not beat.is_lost
    assert not beat.others_ended
    assert one.db.execute(left, (one.session_id,)).fetchone()["is_long"]
    assert not one.db.execute(left, (two.session_id,)).fetchone()["is_long"]
    heard = pulse(two).beat({})
    assert heard is not None
    assert [found["0 a"] for found in heard.paces] == [{"rate": 3.5}]
    assert 0 <= heard.paces[0]["age_s"] < 60


def test_a_dead_process_leaves_doubt_and_one_that_rises_again_has_lost_its_questions(process: Process) -> None:
    one, two = process(), process()
    run = one.run_id("r")
    mine, theirs = claimed(one), claimed(two)
    assert isinstance(asked(one, mine[0], "a", 7), Sent)
    assert isinstance(asked(two, theirs[0], "b", 5), Sent)
    assert two.others_alive(run)
    two.db.execute("DELETE FROM lease WHERE session_id = ?", (one.session_id,))
    with two.transaction():
        two.end_dead(run, NOW)
    money = two.money(run)
    assert (money.in_doubt, money.reserved) == (7, 5), "what a living process has sent stays as it is"
    assert not two.others_alive(run)
    assert {*claimed(two)} == {*mine}
    beat = pulse(one).beat({})
    assert beat is not None
    assert beat.is_lost
    with one.transaction():
        one.rise_again(run)
    assert isinstance(asked(one, mine[1], "c"), ClaimLost)
    assert two.others_alive(run)
    again = pulse(one).beat({})
    assert again is not None
    assert not again.is_lost
    one.close()
    assert not two.others_alive(run), "its lease holds, and nobody is connected"


def test_no_lease_runs_out_while_the_server_is_down(process: Process) -> None:
    """Nobody could prolong it."""
    one, two = process(), process()
    run, mine = one.run_id("r"), claimed(one)
    cluster().restart()
    runs_out(one)
    beat = pulse(two).beat({})
    assert beat is not None
    assert not beat.others_ended
    with two.transaction():
        two.end_dead(run, NOW)
    assert isinstance(asked(one, mine[0], "a"), Sent)
