"""The store's money: whatever happens in whatever order, it adds up and stays under the cap."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from books import audit
from conftest import ROOT, scaled
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

from harvest.core.errors import FAILURES, Late, StoreUnusable
from harvest.core.money import Usage
from harvest.core.nouns import Ask, Outcome, Question, Reply, Verdict
from harvest.store import Reused, Sent, Store, Writer

NOW = "2026-11-24T12:00:00.000Z"


def reply(text: str = "4", cost: int | None = None) -> Reply:
    return Reply(answer=text, reasoning="because", finish_reason="stop", usage=Usage(1, None, 1, None, cost))


def question(n: int) -> Question:
    return Question(id=f"q{n}", question=f"What is {n} + 1?", answer=str(n + 1), check="math")


class Books(RuleBasedStateMachine):
    """A store, and beside it the plainest account that a person would keep of it."""

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
        return Store.open(f"sqlite:///{self.folder.name}/store.db")

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    @initialize(cap=st.integers(0, 2_000))
    def begin(self, cap: int) -> None:
        self.cap = cap
        with self.store.transaction():
            self.run = self.store.put_run("r", {}, cap, NOW)
            for n in range(4):
                self.store.put_question(self.run, question(n))
            self.questions = [q.id for q in self.store.open_questions(self.run, 0, 10)]
            self.store.begin_session(self.run, NOW)

    def busy(self, key: str) -> bool:
        """Somebody in this session is buying it, or still waits for its late reply."""
        return any(key == k for k, _ in (*self.out.values(), *self.late.values()))

    @rule(n=st.integers(0, 3), sample=st.integers(0, 1), worst=st.integers(0, 300) | st.integers(0, 2_000))
    def reserve(self, n: int, sample: int, worst: int) -> None:
        key = f"sha256:{n % 3}-{sample}"  # the questions 0 and 3 are the same to the teacher
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
            self.store.db.execute("BEGIN IMMEDIATE")
            for try_id in list(self.out)[:1]:
                self.store.settle(try_id, reply(), 0, "config", NOW)
            self.store.reserve(self.run, self.questions[0], Ask(7, 100), "sha256:never", 1, NOW)
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
            self.store.put_run("r", {}, self.cap, NOW)

    @precondition(lambda self: self.bought)
    @rule(accepted=st.booleans())
    def judge(self, accepted: bool) -> None:
        with self.store.transaction():
            for _, _, attempt, _ in self.store.unjudged(self.run):
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


# ---- a Store with one run, for the rest


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path / 'deep' / 'store.db'}") as opened:
        with opened.transaction():
            opened.put_run("r", {}, 10_000, NOW)
            for n in range(50):
                opened.put_question(1, question(n))
        yield opened


def reserved(store: Store, n: int, worst: int = 10) -> Sent:
    held = store.reserve(1, n + 1, Ask(0, 100), f"sha256:{n}", worst, NOW)
    assert isinstance(held, Sent)
    return held


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


# ---- disk full, and files that are not ours


def fill(store: Store) -> StoreUnusable:
    """Settles large replies until the disk is full; what is said then."""
    try:
        for n in range(50):
            with store.transaction():
                held = reserved(store, n)
            with store.transaction():
                store.settle(held.try_id, reply(os.urandom(40_000).hex()), 5, "config", NOW)
    except StoreUnusable as full:
        return full
    raise AssertionError("the disk never filled up")


def test_a_full_disk_is_one_line_and_nothing_is_half_written(store: Store) -> None:
    pages = store.db.execute("PRAGMA page_count").fetchone()[0]
    store.db.execute(f"PRAGMA max_page_count = {pages + 60}")
    said = str(fill(store))
    assert "disk is full" in said
    assert "\n" not in said
    before = audit(store.db, 1)
    answered = store.figures(1).tries.answered
    assert answered > 0
    assert before["spent"] == 5 * answered
    assert before["reserved"] in (0, 10)
    store.db.execute("PRAGMA max_page_count = 1000000")
    with store.transaction():
        store.begin_session(1, NOW)
    assert audit(store.db, 1)["in_doubt"] == before["reserved"]


WRITE_UNTIL_IT_FAILS = """
import os, resource, sys
sys.path[:0] = sys.argv[2:]
from harvest.core.errors import StoreUnusable
from harvest.store import Store
from test_store import NOW, fill, question
with Store.open(sys.argv[1]) as store:
    with store.transaction():
        store.put_run("r", {}, 10_000, NOW)
        for n in range(50):
            store.put_question(1, question(n))
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    print(fill(store))
"""


def test_an_io_error_on_commit_is_one_line_and_nothing_is_half_written(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    done = subprocess.run(
        [sys.executable, "-c", WRITE_UNTIL_IT_FAILS, url, str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.count("\n") == 1
    assert "nothing was half written" in done.stdout
    with Store.open(url) as store:
        books = audit(store.db, 1)
        assert books["spent"] == 5 * store.figures(1).tries.answered > 0


def test_a_second_process_is_refused_and_told_who_holds_the_store(store: Store) -> None:
    open_it = "import sys; from harvest.store import Store; Store.open(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", open_it, f"sqlite:///{store.path}"],
        capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 1
    assert "StoreUnusable" in done.stderr
    assert f"another process (pid {os.getpid()}) is writing to it" in done.stderr


def test_a_reader_sees_a_store_that_is_being_written(store: Store) -> None:
    with Store.open(f"sqlite:///{store.path}", write=False) as reader:
        assert reader.run_id("r") == 1
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.put_run("s", {}, 1, NOW)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"not a database at all, but long enough to look at" * 40, "not an SQLite database"), (None, "not a store")],
    ids=["text", "another program's"],
)
def test_a_file_that_is_not_ours_is_refused_and_left_as_it_was(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "other.db"
    if content is None:
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE theirs (x)")
        db.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    for write in (True, False):
        with pytest.raises(StoreUnusable, match=said) as refused:
            Store.open(f"sqlite:///{path}", write=write)
        assert "\n" not in str(refused.value)
        assert str(path) in str(refused.value)
    assert path.read_bytes() == before
    assert not path.with_name("other.db-wal").exists()


def test_a_store_of_a_later_winnow_is_refused(store: Store, tmp_path: Path) -> None:
    store.db.execute("PRAGMA user_version = 99")
    url = f"sqlite:///{store.path}"
    store.close()
    with pytest.raises(StoreUnusable, match="version 99"):
        Store.open(url)


@pytest.mark.parametrize("place", [".", "missing/store.db", "sqlite:///", "postgresql://u:p@h/db"])
def test_a_store_that_cannot_be_read_is_one_line_without_a_password(tmp_path: Path, place: str) -> None:
    url = place if ":" in place else f"sqlite:///{tmp_path / place}"
    with pytest.raises(StoreUnusable) as refused:
        Store.open(url, write=False).run_id("r")
    assert "\n" not in str(refused.value)
    assert "u:p" not in str(refused.value)


def test_the_store_is_its_owners_alone(store: Store) -> None:
    old = os.umask(0)
    try:
        with Store.open(f"sqlite:///{store.path.parent / 'new' / 'other.db'}") as other, other.transaction():
            other.put_run("r", {}, 1, NOW)
            files = list(other.path.parent.iterdir())
            assert {f.name for f in files} >= {"other.db", "other.db-wal"}
            for f in files:
                assert stat.S_IMODE(f.stat().st_mode) == 0o600, f.name
            assert stat.S_IMODE(other.path.parent.stat().st_mode) == 0o700
    finally:
        os.umask(old)


KILLED_WHILE_CREATED = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
from harvest.store import Store
left = int(sys.argv[2])
def count(frame, event, arg):
    global left
    if event == "c_call" and frame.f_code.co_filename.endswith("sqlite.py"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.setprofile(count)
Store.open(sys.argv[1]).close()
"""


def test_a_store_killed_at_any_moment_of_its_creation_opens_again(tmp_path: Path) -> None:
    """Dies before each call into SQLite or the system in turn. (Inside a script of several statements: below.)"""
    for n in range(200):
        url = f"sqlite:///{tmp_path / f'{n}.db'}"
        done = subprocess.run(
            [sys.executable, "-c", KILLED_WHILE_CREATED, url, str(n), str(ROOT)], timeout=60, check=False
        )
        Store.open(url).close()
        if done.returncode == 0:
            break
    assert 3 < n < 199


def test_the_tables_and_their_version_appear_together(tmp_path: Path) -> None:
    """Every state of the file that another process can see while a store is made is a whole store or an empty one."""
    make = (
        "import sys; sys.path.insert(0, sys.argv[2]); from harvest.store import Store;Store.open(sys.argv[1]).close()"
    )
    seen = set()
    for n in range(3):
        path = tmp_path / f"{n}.db"
        process = subprocess.Popen([sys.executable, "-c", make, f"sqlite:///{path}", str(ROOT)])
        while process.poll() is None:
            with suppress(sqlite3.Error):
                db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0)
                try:
                    db.execute("BEGIN")
                    version = db.execute("PRAGMA user_version").fetchone()[0]
                    tables = db.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'table'").fetchone()[0]
                    seen.add((version > 0, tables))
                finally:
                    db.close()
        assert process.returncode == 0
    whole = max((tables for versioned, tables in seen if versioned), default=0)
    assert seen <= {(False, 0), (True, whole)}, f"half a store could be seen: {seen}"


# ---- the writing thread


async def test_calls_are_written_and_answered(store: Store) -> None:
    ledger = Writer(store)
    held = await asyncio.gather(*(ledger.do(reserved, n) for n in range(20)))
    assert len({h.try_id for h in held}) == 20
    ledger.close()
    assert audit(store.db, 1)["reserved"] == 200


async def test_one_failing_call_fails_its_group_and_nothing_of_it_is_written(store: Store) -> None:
    ledger = Writer(store)

    def broken(store: Store) -> None:
        store.db.execute("INSERT INTO no_such_table VALUES (1)")

    said = await asyncio.gather(*(ledger.do(reserved, n) for n in range(5)), ledger.do(broken), return_exceptions=True)
    assert all(isinstance(s, StoreUnusable) for s in said), said
    assert audit(store.db, 1)["reserved"] == 0
    await ledger.do(reserved, 0)
    ledger.close()
    assert audit(store.db, 1)["reserved"] == 10


async def test_a_defect_in_one_call_fails_it_alone_and_the_others_are_written(store: Store) -> None:
    ledger = Writer(store)

    def defect(_: Store) -> None:
        raise ZeroDivisionError

    first, failed, second = await asyncio.gather(
        ledger.do(reserved, 0), ledger.do(defect), ledger.do(reserved, 1), return_exceptions=True
    )
    assert isinstance(failed, ZeroDivisionError)
    assert isinstance(first, Sent)
    assert isinstance(second, Sent)
    ledger.close()
    assert audit(store.db, 1)["reserved"] == 20


async def test_after_a_lost_call_that_nobody_waited_for_nothing_more_is_written(store: Store) -> None:
    ledger = Writer(store)

    def defect(_: Store) -> None:
        raise ZeroDivisionError

    before = ledger.do(reserved, 0)
    waiting = asyncio.create_task(before)
    await asyncio.sleep(0)
    ledger.post(defect)
    after = asyncio.create_task(ledger.do(reserved, 1))
    assert isinstance(await waiting, Sent)
    with pytest.raises(ZeroDivisionError):
        await after
    with pytest.raises(ZeroDivisionError):
        await ledger.do(reserved, 2)
    ledger.close()
    assert audit(store.db, 1)["reserved"] == 10


async def test_a_caller_that_goes_away_does_not_stop_the_ledger(store: Store) -> None:
    ledger = Writer(store)
    gone = asyncio.create_task(ledger.do(reserved, 0))
    await asyncio.sleep(0)
    gone.cancel()
    with suppress(asyncio.CancelledError):
        await gone
    await asyncio.wait_for(ledger.do(reserved, 1), 5)
    ledger.close()
    assert audit(store.db, 1)["reserved"] == 20


async def test_what_waits_is_written_before_the_ledger_closes(store: Store) -> None:
    ledger = Writer(store)
    waiting = [asyncio.create_task(ledger.do(reserved, n)) for n in range(10)]
    await asyncio.sleep(0)
    ledger.close()
    await asyncio.gather(*waiting)
    assert audit(store.db, 1)["reserved"] == 100
