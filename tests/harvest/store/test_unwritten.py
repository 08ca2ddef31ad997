"""Settlements that the store cannot take: they wait in a file, are taken in once, and no kill loses or doubles one."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from books import audit, audit_file
from conftest import ROOT, scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import NOW, reply, reserved, store_with_a_run

from harvest.core.errors import FAILURES, Cut, StoreUnusable
from harvest.core.money import Usage
from harvest.core.nouns import Claim, Reply, TokenLogprobs
from harvest.store import Sent, Settlement, Store, Writer
from harvest.store.writing.unwritten import END, Unwritten

LATER = "2026-11-24T12:00:07.000Z"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with store_with_a_run(tmp_path) as opened:
        yield opened


def answered(sent: Sent, text: str = "4") -> Settlement:
    return Settlement("settle", sent.try_id, (reply(text), 5, "config", LATER), NOW)


async def settle(writer: Writer, settlement: Settlement) -> str | None:
    """Settles as collect does. "written", or None when the settlement went to the file."""

    def run(store: Store) -> str:
        getattr(store, settlement.method)(settlement.try_id, *settlement.more)
        return "written"

    return await writer.settle(replace(settlement, sent_at=None), run)


@contextmanager
def full(store: Store) -> Iterator[None]:
    """No page of the store can be added while the block runs."""
    pages = store.db.execute("PRAGMA page_count").fetchone()[0]
    store.db.execute(f"PRAGMA max_page_count = {pages}")
    yield
    store.db.execute("PRAGMA max_page_count = 1000000")


def waiting(store: Store) -> list[Settlement]:
    return [s for _, found in Unwritten(store.path).found() for s in found]


# The file

TEXTS = st.text(st.characters(), max_size=40)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | TEXTS, lambda v: st.dictionaries(TEXTS, v, max_size=3))
COUNTS = st.none() | st.integers(0, 10**18)
LOGPROBS = st.integers(0, 3).flatmap(
    lambda n: st.builds(
        TokenLogprobs,
        st.binary(min_size=4 * n, max_size=4 * n),
        st.binary(min_size=4 * n, max_size=4 * n),
        st.just(2),
        st.binary(min_size=8 * n, max_size=8 * n),
        st.binary(min_size=4 * n, max_size=4 * n),
        st.dictionaries(st.integers(-(2**31), 2**31 - 1), st.binary(max_size=9), max_size=3),
    )
)
REPLIES = st.builds(
    Reply,
    TEXTS,
    reasoning=st.none() | TEXTS,
    usage=st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
    raw_usage=st.none() | st.dictionaries(TEXTS, JSON, max_size=3),
    logprobs=st.none() | LOGPROBS,
    tool_calls=st.lists(st.dictionaries(TEXTS, JSON, max_size=2), max_size=2).map(tuple),
    extra=st.dictionaries(TEXTS, JSON, max_size=3),
    claims=st.lists(st.builds(Claim, st.sampled_from(["usage", "cost"]), TEXTS), max_size=2).map(tuple),
)
SETTLEMENTS = st.builds(
    lambda n, reply, cost: Settlement("settle", n, (reply, cost, "config", LATER), NOW),
    st.integers(1, 10**9),
    REPLIES,
    COUNTS,
)


@settings(max_examples=scaled(60, 2_000))
@given(data=st.data(), several=st.lists(st.lists(SETTLEMENTS, max_size=3), min_size=1, max_size=4))
def test_a_file_torn_anywhere_gives_back_the_settlements_before_the_tear(
    data: st.DataObject, several: list[list[Settlement]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = tmp_path_factory.mktemp("torn") / "store.db"
    unwritten = Unwritten(store)
    unwritten.set_aside(1)
    ends = [0]
    for put in several:
        unwritten.put(put)
        path = store.with_name("store.db.unwritten")
        ends.append(sum(len(found) for _, found in Unwritten(store).found()))
    every = [s for put in several for s in put]
    assert [s for _, found in Unwritten(store).found() for s in found] == every
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole.rstrip(b"\0")) + len(END)))
    path.write_bytes(whole[:at] if data.draw(st.booleans()) else whole[:at] + bytes(len(whole) - at))
    left = [s for _, found in Unwritten(store).found() for s in found]
    assert left == every[: len(left)]


def test_every_failure_and_every_part_of_a_reply_comes_back(tmp_path: Path) -> None:
    unwritten = Unwritten(tmp_path / "store.db")
    failed = [
        Settlement("settle_failure", n, (kind("why"), reply(), None, "none", LATER), NOW)
        for n, kind in enumerate(FAILURES.values(), 1)
    ]
    unwritten.put(failed)
    back = next(found for _, found in unwritten.found())
    assert [type(s.more[0]) for s in back] == list(FAILURES.values())
    assert {str(s.more[0]) for s in back} == {"why"}
    assert all(s.more[1] == reply() for s in back)


def test_the_file_is_its_owners_alone_and_never_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file beside the store is taken by a link, the next place takes the settlements."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    target = tmp_path / "theirs"
    (tmp_path / "store.db.unwritten").symlink_to(target)
    unwritten = Unwritten(tmp_path / "store.db")
    unwritten.set_aside(1)
    unwritten.put([Settlement("settle", 1, (reply(), 5, "config", LATER))])
    assert not target.exists()
    (path, found), *_ = unwritten.found()
    assert path.parent == tmp_path
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(found) == 1


# The writer


async def test_while_the_disk_is_full_settlements_go_to_the_file_and_all_else_waits(store: Store) -> None:
    said: list[str] = []
    writer = Writer(store, said.append)
    sent = [await writer.do(reserved, n) for n in range(3)]
    with full(store):
        texts = [os.urandom(9_000).hex() for _ in sent]
        got = [await settle(writer, answered(s, t)) for s, t in zip(sent, texts, strict=True)]
        assert got[-1] is None
        assert [s.sent_at for s in waiting(store)] == [NOW] * got.count(None)
        more = asyncio.create_task(writer.do(lambda store: store.put_verdicts(1, [], True, None, "x" * 90_000)))
        await asyncio.sleep(2.5)
        assert not more.done()
    await more
    assert waiting(store) == []
    writer.close()
    assert audit(store.db, 1)["spent"] == 15
    assert [store.reply(s.try_id).answer for s in sent] == texts
    assert len(said) == 1, said
    assert "Nothing new is asked" in said[0]
    assert list(store.path.parent.glob("*.unwritten*")) == []


async def test_what_still_cannot_be_written_waits_for_the_next_start_which_says_so(store: Store) -> None:
    """One failure was settled before its try was answered after all; both wait."""
    said: list[str] = []
    writer = Writer(store, said.append)
    sent = [await writer.do(reserved, n) for n in range(3)]
    pages = store.db.execute("PRAGMA page_count").fetchone()[0]
    store.db.execute(f"PRAGMA max_page_count = {pages}")
    texts = [os.urandom(30_000).hex() for _ in sent]
    assert await settle(writer, answered(sent[0], texts[0])) is None
    with pytest.raises(StoreUnusable, match="the disk is full"):
        await writer.do(reserved, 7)
    store.db.execute("PRAGMA max_page_count = 1000000")
    with pytest.raises(StoreUnusable, match="the disk is full"):  # what a later call relies on was not written
        await writer.do(reserved, 8)
    store.db.execute(f"PRAGMA max_page_count = {pages}")
    late = Settlement("settle_failure", sent[1].try_id, (Cut("broke off"), None, None, "none", NOW), NOW)
    assert [await settle(writer, s) for s in (late, answered(sent[1], texts[1]))] == [None, None]
    assert await settle(writer, answered(sent[2], texts[2])) is None
    writer.close()
    path = store.path.with_name("store.db.unwritten")
    assert said[1:] == [f"the replies to 4 tries wait in {path}; the next start takes them in"]
    store.close()
    again: list[str] = []
    with Store.open(f"sqlite:///{store.path}", say=again.append) as opened:
        assert audit(opened.db, 1) == {"cap": 10_000, "spent": 15, "reserved": 0, "in_doubt": 0}
        assert [opened.reply(s.try_id).answer for s in sent] == texts
    assert again == ["taken in, since they could not be written when they came: replies to 4 tries"]
    with Store.open(f"sqlite:///{store.path}", say=again.append):
        assert len(again) == 1
    assert list(store.path.parent.glob("*.unwritten*")) == []


async def test_a_lock_is_waited_for_and_one_line_says_so(store: Store) -> None:
    said: list[str] = []
    writer = Writer(store, said.append)
    sent = [await writer.do(reserved, n) for n in range(2)]
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await settle(writer, answered(sent[0])) is None
        more = [asyncio.create_task(writer.do(reserved, n)) for n in (2, 3)]
        assert await settle(writer, answered(sent[1])) is None
        assert len(waiting(store)) == 2
        await asyncio.sleep(2.5)
        other.execute("ROLLBACK")
    assert all(isinstance(held, Sent) for held in await asyncio.gather(*more))
    writer.close()
    assert audit(store.db, 1) == {"cap": 10_000, "spent": 10, "reserved": 20, "in_doubt": 0}
    assert len(said) == 1
    assert "another program holds its write lock" in said[0]


# Taking in

WAIT = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from harvest.store import Store
from harvest.store.writing.unwritten import Unwritten
from test_unwritten import answered, reserved, store_with_a_run
with store_with_a_run(Path(sys.argv[1])) as store:
    with store.transaction():
        sent = [reserved(store, n) for n in range(6)]
        store.hold_unsettled(1, "2026-11-24T12:00:09.000Z")
    unwritten = Unwritten(store.path)
    unwritten.put(answered(s, f"answer {s.try_id}") for s in sent)
"""
KILLED_WHILE_TAKING_IN = """
import os, signal, sys
sys.path[:0] = sys.argv[3:]
from harvest.store import Store
left = int(sys.argv[2])
def count(frame, event, arg):
    global left
    if event == "c_call" and "/harvest/store/" in frame.f_code.co_filename:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.setprofile(count)
Store.open(sys.argv[1], say=lambda line: None)
sys.setprofile(None)
print(int(sys.argv[2]) - left)
"""
PATHS = (str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent))


def run(code: str, *args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code, *args, *PATHS], capture_output=True, text=True, timeout=60)


def test_killed_while_the_file_is_taken_in_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    """Dies before a call into SQLite or the system, one after the other; the last of them remove the file."""

    def made(name: str) -> Path:
        (tmp_path / name).mkdir()
        done = run(WAIT, str(tmp_path / name))
        assert done.returncode == 0, done.stderr
        return tmp_path / name / "deep" / "store.db"

    calls = int(run(KILLED_WHILE_TAKING_IN, f"sqlite:///{made('whole')}", "1000000").stdout)
    moments = {*range(1, calls, calls // scaled(5, 80)), *range(calls - scaled(4, 12), calls + 1)}
    killed = left = 0
    for n in sorted(moments):
        path = made(str(n))
        done = run(KILLED_WHILE_TAKING_IN, f"sqlite:///{path}", str(n))
        assert done.returncode == -signal.SIGKILL, done.stderr
        killed += 1
        books = audit_file(path)
        assert (books["spent"], books["in_doubt"]) in {(0, 60), (30, 0)}, "half of them were taken in"
        left += books["spent"] > 0 and path.with_name("store.db.unwritten").exists()
        with Store.open(f"sqlite:///{path}") as store:
            assert audit(store.db, 1) == {"cap": 10_000, "spent": 30, "reserved": 0, "in_doubt": 0}
            assert [store.reply(n).answer for n in range(1, 7)] == [f"answer {n}" for n in range(1, 7)]
        assert not path.with_name("store.db.unwritten").exists()
    assert killed == len(moments)
    assert left, "no kill fell between the commit and the removal of the file"


def test_what_another_store_waits_for_is_kept_aside_and_said(store: Store) -> None:
    with store.transaction():
        sent = [reserved(store, n) for n in range(3)]
    strange = replace(answered(sent[1]), sent_at="2025-01-01T00:00:00.000Z")
    Unwritten(store.path).put([answered(sent[0]), strange, answered(replace(sent[0], try_id=99)), answered(sent[2])])
    store.close()
    said: list[str] = []
    with Store.open(f"sqlite:///{store.path}", say=said.append) as opened:
        assert audit(opened.db, 1) == {"cap": 10_000, "spent": 10, "reserved": 10, "in_doubt": 0}
    aside = store.path.with_name("store.db.unwritten.refused")
    assert aside.exists()
    assert said == [
        f"warning: in {aside} are replies that fit no try in this store (2); they are left there",
        "taken in, since they could not be written when they came: replies to 2 tries",
    ]


def test_a_reply_that_no_row_can_hold_costs_no_other_one(store: Store) -> None:
    with store.transaction():
        sent = [reserved(store, n) for n in range(3)]
    bad: tuple[Any, ...] = (reply(), 2**70, "config", LATER)
    Unwritten(store.path).put([answered(sent[0]), Settlement("settle", sent[1].try_id, bad, NOW), answered(sent[2])])
    said: list[str] = []
    assert store.take_in(Unwritten(store.path), said.append) == 2
    assert audit(store.db, 1)["spent"] == 10
    assert len(said) == 1


def test_a_reply_of_another_version_costs_no_other_one(store: Store) -> None:
    with store.transaction():
        sent = [reserved(store, n) for n in range(3)]
    strange = replace(answered(sent[1]), more=({"reply": {"text": "of tomorrow"}}, 5, "config", LATER))
    unknown = replace(answered(sent[1]), more=({"failure": ["tomorrow", "words"]}, None, None, "none", LATER))
    Unwritten(store.path).put([answered(sent[0]), strange, unknown, answered(sent[2])])
    assert store.take_in(Unwritten(store.path), print) == 2
    assert audit(store.db, 1)["spent"] == 10


async def test_a_reply_that_no_row_can_hold_is_kept_and_its_caller_hears_of_it(store: Store) -> None:
    said: list[str] = []
    writer = Writer(store, said.append)
    sent = [await writer.do(reserved, n) for n in range(3)]
    bad = Settlement("settle", sent[1].try_id, (reply(), 2**70, "config", LATER))
    calls = (answered(sent[0]), bad, answered(sent[2]))
    got = await asyncio.gather(*(settle(writer, s) for s in calls), return_exceptions=True)
    assert (got[0], type(got[1]), got[2]) == ("written", OverflowError, "written")
    writer.close()
    assert audit(store.db, 1)["spent"] == 10
    assert "fit no try in this store (1)" in said[0]
    assert store.path.with_name("store.db.unwritten.refused").exists()


def test_a_store_that_cannot_take_them_in_leaves_the_file_as_it_is(store: Store) -> None:
    with store.transaction():
        sent = [reserved(store, n) for n in range(2)]
    Unwritten(store.path).put([answered(s, os.urandom(30_000).hex()) for s in sent])
    with full(store), pytest.raises(StoreUnusable, match="the disk is full"):
        store.take_in(Unwritten(store.path), print)
    assert len(waiting(store)) == 2
    assert audit(store.db, 1)["spent"] == 0
    store.take_in(Unwritten(store.path), print)
    assert audit(store.db, 1)["spent"] == 10


def test_what_was_taken_in_already_changes_nothing(store: Store) -> None:
    """A file that is still there after its settlements were taken in: killed before its removal."""
    with store.transaction():
        sent = [reserved(store, n) for n in range(2)]
    late, failed = (Settlement("settle_failure", s.try_id, (Cut("late"), None, None, "none", NOW), NOW) for s in sent)
    Unwritten(store.path).put([late, answered(sent[0]), failed])
    assert store.take_in(Unwritten(store.path), print) == 3
    with store.transaction():
        store.put_verdicts(sent[0].attempt_id, [], False, "wrong", NOW)
        assert store.settle_doubt(sent[1].try_id, 3, "user", NOW)
    before = list(store.db.iterdump())
    assert store.take_in(Unwritten(store.path), print) == 0
    assert list(store.db.iterdump()) == before
