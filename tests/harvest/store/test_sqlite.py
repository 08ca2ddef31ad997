"""The store's file: full disks, other processes, files that are not ours, and a process that is killed."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from books import audit
from conftest import ROOT
from stores import NOW, reply, reserved, store_with_a_run

from harvest.core.errors import StoreUnusable
from harvest.store import Store, is_being_written


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with store_with_a_run(tmp_path) as opened:
        yield opened


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
from stores import NOW, question
from test_sqlite import fill
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


def test_who_asks_whether_a_store_is_being_written_keeps_nobody_from_writing(tmp_path: Path) -> None:
    with store_with_a_run(tmp_path) as opened:
        url = opened.db.url
        assert is_being_written(url)
    assert not is_being_written(url)
    Store.open(url).close()
    assert not is_being_written(f"sqlite:///{tmp_path}/none.db")


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
