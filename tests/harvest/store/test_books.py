"""The store's money: whatever happens in whatever order, it adds up and stays under the cap."""

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from books import audit
from conftest import scaled
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from postgres import cluster
from stores import NOW, question, reply, reserved, store_with_a_run

from harvest.core.errors import FAILURES, Late
from harvest.core.nouns import Ask, Outcome, Reply, Verdict
from harvest.store import Reused, Sent, Store


class Books(RuleBasedStateMachine):
    """A store, and beside it the plainest account that a person would keep of it."""

    url, name = "", "r"

    def __init__(self) -> None:
        super().__init__()
        shm = Path("/dev/shm")
        self.folder = tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None)
        self.store = self._open()
        self.cap = 0
        self.out: dict[int, tuple[str, int]] = {}
        self.doubt: dict[int, tuple[str, int]] = {}
        self.late: dict[int, tuple[str, int]] = {}
        """Those in doubt whose reply may still come in this session."""
        self.spent = 0
        self.bought: set[str] = set()
        self.overbilled = False

    def _open(self) -> Store:
        return Store.open(self.url or f"sqlite:///{self.folder.name}/store.db")

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @initialize(cap=st.integers(0, 2_000))
    def begin(self, cap: int) -> None:
        self.cap = cap
        with self.store.transaction():
            self.run = self.store.put_run(self.name, {}, cap, NOW)
            for n in range(4):
                self.store.put_question(self.run, question(n))
            self.questions = [q.id for q in self.store.open_questions(self.run, 0, 10)]
            self.store.begin_session(self.run, NOW)

    def busy(self, key: str) -> bool:
        """Somebody in this session is buying it, or still waits for its late reply."""
        return any(key == k for k, _ in (*self.out.values(), *self.late.values()))

    @rule(n=st.integers(0, 3), sample=st.integers(0, 1), worst=st.integers(0, 300) | st.integers(0, 2_000))
    def reserve(self, n: int, sample: int, worst: int) -> None:
        key = f"{self.name}:{n % 3}-{sample}"  # the questions 0 and 3 are the same to the teacher
        if self.busy(key):
            return
        with self.store.transaction():
            held = self.store.reserve(self.run, self.questions[n], Ask(sample, 100), key, worst, NOW)
        room = self.cap - self.spent - sum(w for _, w in (*self.out.values(), *self.doubt.values()))
        if key in self.bought:
            assert isinstance(held, Reused)
            assert held.reply.answer == key
        elif worst <= room:
            assert isinstance(held, Sent)
            self.out[held.try_id] = (key, worst)
        else:
            assert held is None

    @precondition(lambda self: self.out or self.late)
    @rule(data=st.data(), beyond=st.sampled_from([0, 0, 0, 0, 1, 500]), usage=st.sampled_from(["known"] * 4 + ["none"]))
    def settle(self, data: Any, beyond: int, usage: str) -> None:
        """A whole reply, in time or late, dear or too dear, with usage or without."""
        try_id, (key, worst) = data.draw(st.sampled_from([*self.out.items(), *self.late.items()]))
        cost = None if usage == "none" else worst + beyond if beyond else data.draw(st.integers(0, worst))
        with self.store.transaction():
            over = self.store.settle(try_id, reply(key, cost), cost, "config", NOW)
        for held in (self.out, self.doubt, self.late):
            held.pop(try_id, None)
        if cost is None:
            self.doubt[try_id] = (key, worst)
        self.spent += cost or 0
        self.bought.add(key)
        assert over == (beyond > 0 and cost is not None)
        self.overbilled |= over

    @precondition(lambda self: self.out)
    @rule(data=st.data(), kind=st.sampled_from(sorted(FAILURES)), billed=st.booleans())
    def fail(self, data: Any, kind: str, billed: bool) -> None:
        try_id, (key, worst) = data.draw(st.sampled_from(list(self.out.items())))
        cost = data.draw(st.integers(0, worst)) if billed and kind != "late" else None
        failure = FAILURES[kind]("as scripted")
        with self.store.transaction():
            partial = reply("half", cost) if cost is not None else None
            over = self.store.settle_failure(try_id, failure, partial, cost, "config", NOW)
        assert not over
        del self.out[try_id]
        self.spent += cost or 0
        if cost is None and failure.in_doubt:
            self.doubt[try_id] = (key, worst)
            if kind == "late":
                self.late[try_id] = (key, worst)

    @rule(inside=st.booleans())
    def crash(self, inside: bool) -> None:
        """Ends at any moment: in the middle of a transaction, or between two."""
        if inside:
            self.store.db.begin()
            for try_id in list(self.out)[:1]:
                self.store.settle(try_id, reply(), 0, "config", NOW)
            self.store.reserve(self.run, self.questions[0], Ask(7, 100), f"{self.name}:never", 1, NOW)
        self.store.close()
        self.store = self._open()
        with self.store.transaction():
            self.store.begin_session(self.run, NOW)
        self.doubt |= self.out
        self.out, self.late = {}, {}

    @rule()
    def end(self) -> None:
        """An end in order lets go of what is out: in doubt from then on."""
        with self.store.transaction():
            self.store.hold_unsettled(self.run, NOW)
        self.doubt |= self.out
        self.out, self.late = {}, {}

    @rule(more=st.integers(0, 1_000))
    def raise_the_cap(self, more: int) -> None:
        self.cap += more
        with self.store.transaction():
            self.store.put_run(self.name, {}, self.cap, NOW)

    @precondition(lambda self: self.bought)
    @rule(accepted=st.booleans())
    def judge(self, accepted: bool) -> None:
        with self.store.transaction():
            for attempt in [a.attempt for a in self.store.stored_answers(self.run)]:
                outcome = Outcome.RIGHT if accepted else Outcome.WRONG
                said = Verdict("math", "1", outcome, "")
                self.store.put_verdicts(attempt.id, [said], accepted, None if accepted else "wrong", NOW)

    @invariant()
    def the_books_are_right(self) -> None:
        if not hasattr(self, "run"):
            return
        books = audit(self.store.db, self.run, overbilled=self.overbilled)
        assert books["spent"] == self.spent
        assert books["reserved"] == sum(w for _, w in self.out.values())
        assert books["in_doubt"] == sum(w for _, w in self.doubt.values())
        figures = self.store.figures(self.run)
        assert sum(figures.spent_on.values()) == self.spent
        assert figures.tries.in_doubt == len(self.doubt)


def test_the_books_are_right_after_any_steps_in_any_order() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Books, settings=settings(max_examples=scaled(150, 2_000), stateful_step_count=40)
    )


def test_the_books_on_a_server_are_right_too() -> None:
    url = cluster().database()

    class OnAServer(Books):
        """Each example is another run of one database, whose server drops the connection of a process that ends."""

        def __init__(self) -> None:
            self.url, self.name = url, f"r{next(names)}"
            super().__init__()

    names = count()
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        OnAServer, settings=settings(max_examples=scaled(12, 500), stateful_step_count=25)
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with store_with_a_run(tmp_path) as opened:
        yield opened


def test_the_cap_is_met_to_the_last_picodollar_and_not_passed(store: Store) -> None:
    reserved(store, 0, 9_999)
    assert store.reserve(1, 2, Ask(0, 100), "sha256:b", 2, NOW) is None
    reserved(store, 1, 1)
    assert store.reserve(1, 3, Ask(0, 100), "sha256:c", 1, NOW) is None
    assert isinstance(store.reserve(1, 3, Ask(0, 100), "sha256:c", 0, NOW), Sent)
    audit(store.db, 1)


def test_a_late_reply_refunds_the_difference_and_keeps_its_text(store: Store) -> None:
    held = reserved(store, 0, 100)
    store.settle_failure(held.try_id, Late("late"), None, None, "config", NOW)
    assert audit(store.db, 1)["in_doubt"] == 100
    store.settle(held.try_id, reply("at last"), 7, "config", NOW)
    assert audit(store.db, 1) == {"cap": 10_000, "spent": 7, "reserved": 0, "in_doubt": 0}
    assert store.reply(held.try_id).answer == "at last"


def test_a_reply_dearer_than_its_reservation_is_booked_whole(store: Store) -> None:
    held = reserved(store, 0, 9_000)
    assert store.settle(held.try_id, reply(), 20_000, "usage.cost", NOW)
    assert audit(store.db, 1, overbilled=True)["spent"] == 20_000
    assert store.reserve(1, 2, Ask(0, 100), "sha256:b", 0, NOW) is None


def test_half_surrogates_and_nulls_of_a_teacher_are_stored_and_come_back(store: Store) -> None:
    held = reserved(store, 0)
    hostile = Reply(answer="a\x00b\ud800", reasoning="</think>\x1b[31m", extra={"\ud800": ["\x00"]})
    store.settle(held.try_id, hostile, 1, "config", NOW)
    assert store.reply(held.try_id).reasoning == hostile.reasoning
    assert store.reply(held.try_id).answer.startswith("a\x00b")


def test_a_doubt_is_settled_once_and_a_try_without_doubt_never(store: Store) -> None:
    in_doubt, answered, out = (reserved(store, n, 100) for n in range(3))
    store.settle_failure(in_doubt.try_id, Late("late"), None, None, "config", NOW)
    store.settle(answered.try_id, reply(), 7, "config", NOW)
    assert [d.try_id for d in store.doubts(1)] == [in_doubt.try_id]
    assert [d.try_id for d in store.doubts(1, unsettled_too=True)] == [in_doubt.try_id, out.try_id]
    assert store.settle_doubt(in_doubt.try_id, 30, "provider", NOW)
    for held in (in_doubt, answered, out):
        assert not store.settle_doubt(held.try_id, 50, "user", NOW)
    money = store.money(1)
    assert (money.spent, money.in_doubt, money.reserved) == (37, 0, 100)
    assert store.doubts(1) == []
    audit(store.db, 1)


def test_what_spends_under_a_runs_cap_shares_it(tmp_path: Path) -> None:
    with store_with_a_run(tmp_path) as store, store.transaction():
        beside = store.put_run("r-doctor", {}, 9_000, NOW, "r")
        store.put_question(beside, question(0))
        (doctors,) = store.open_questions(beside, 0, 1)

        def doctor(worst: int, sample: int) -> Sent | Reused | None:
            return store.reserve(beside, doctors.id, Ask(sample, 100), f"doctor {sample}", worst, NOW)

        first = doctor(6_000, 0)
        assert isinstance(first, Sent)
        assert store.reserve(1, 1, Ask(0, 100), "a", 4_001, NOW) is None, "4,000 of 10,000 are left"
        held = store.reserve(1, 1, Ask(0, 100), "a", 4_000, NOW)
        assert isinstance(held, Sent)
        assert doctor(1, 1) is None
        store.settle(first.try_id, reply(), 500, "config", NOW)
        store.settle(held.try_id, reply(), 4_000, "config", NOW)
        assert doctor(5_501, 1) is None
        assert isinstance(doctor(5_500, 1), Sent)
        assert doctor(1, 2) is None
        store.hold_unsettled(beside, NOW)
        money = store.money(1)
        assert (money.spent, money.in_doubt, money.beside) == (4_000, 0, 6_000)
        store.put_run("r", {}, 20_000, NOW)
        assert doctor(3_001, 2) is None, "its own cap of 9,000 counts too"
        assert isinstance(doctor(3_000, 2), Sent)


def test_a_changed_judge_finds_its_old_answers(tmp_path: Path) -> None:
    """Two judging models about one answer: each is bought once, whichever is set."""
    with store_with_a_run(tmp_path) as store, store.transaction():
        answer = reserved(store, 0)
        store.settle(answer.try_id, reply(), 5, "config", NOW)

        def opinion(judge: str) -> Sent | Reused | None:
            return store.reserve(1, 1, Ask(0, 20, about=answer.attempt_id), judge, 10, NOW)

        for judge in ("first", "second"):
            asked = opinion(judge)
            assert isinstance(asked, Sent)
            store.settle(asked.try_id, reply(judge), 5, "config", NOW)
        for judge in ("first", "second", "first"):
            found = opinion(judge)
            assert isinstance(found, Reused)
            assert found.reply.answer == judge
