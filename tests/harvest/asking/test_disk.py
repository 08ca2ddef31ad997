"""The real command on a full disk, beside a program that holds the store's lock, and killed meanwhile: no answer that
arrived whole is bought again."""

import os
import random
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from books import audit_file
from conftest import Place
from scripted_endpoint import Asked, Endpoint, Say

from harvest.store.writing.unwritten import Unwritten

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]


def incompressible(_: Asked) -> Say:
    chance = random.Random()
    return Say(chain=" ".join(f"{chance.getrandbits(28):x}" for _ in range(1_200)), output_tokens=2_500, delay_s=0.2)


def bought_again(teacher: Endpoint) -> int:
    """How many answers were made for a request that had one already."""
    return len(teacher.asked) - len({a.digest for a in teacher.asked})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.getuid():
        pytest.skip("needs root, to mount a small disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", folder], capture_output=True).returncode:
        pytest.skip("needs a mount, which is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_on_a_full_disk_it_stops_with_one_line_and_goes_on_once_there_is_room(
    small_disk: Path, endpoint: Endpoints, place: Places
) -> None:
    teacher = endpoint(incompressible)
    p = place(teacher.url, 600, teacher__max_concurrency=64, sampling__max_tokens=4_000, budget__usd="100.00")
    p.settings["store"] = f"sqlite:///{small_disk / 'store.db'}"
    code, _, err = p.collect()
    assert code == 2, err
    assert len([line for line in err.splitlines() if re.search(r"disk is full", line)]) == 1, err
    assert "error: store" in err
    assert "free some space and start again" in err
    assert "Traceback" not in err
    assert "the next start takes them in" in err
    asked = len(teacher.asked)
    assert asked < 600, "the disk never filled up"
    code, _, err = p.collect()
    assert code == 2, "the disk is as full as before"
    assert len(teacher.asked) == asked
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    code, _, err = p.collect()
    assert code == 0, err
    assert "taken in, since they could not be written when they came" in err
    assert p.report["traces"]["accepted"] == 600
    assert p.report["attempts"]["in_doubt"] == 0
    assert bought_again(teacher) == 0
    books = audit_file(small_disk / "store.db")
    assert books["spent"] == teacher.billed_pusd
    assert not list(small_disk.glob("*.unwritten*"))


def test_on_a_full_disk_there_is_room_that_was_set_aside(small_disk: Path) -> None:
    from stores import reply

    from harvest.store import Settlement

    unwritten = Unwritten(small_disk / "store.db")
    unwritten.set_aside(64)
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "other").write_bytes(bytes(free))
    with pytest.raises(OSError, match="No space"):
        (small_disk / "more").write_bytes(b"x" * 5_000)
    random_text = random.Random(1).randbytes(1_000).hex()
    unwritten.put([Settlement("settle", n, (reply(random_text), 5, "config", "")) for n in range(64)])
    ((path, found),) = unwritten.found()
    assert path == small_disk / "store.db.unwritten"
    assert len(found) == 64


def held(p: Place) -> sqlite3.Connection:
    """Another program that holds the write lock of the store."""
    other = sqlite3.connect(p.store, isolation_level=None, timeout=30)
    other.execute("BEGIN IMMEDIATE")
    return other


def settled(p: Place) -> int:
    """How many answers are in the store, or wait in the file beside it."""
    with closing(sqlite3.connect(p.store)) as db:
        (stored,) = db.execute("SELECT count(*) FROM try WHERE state = 'answered'").fetchone()
    return int(stored) + sum(len(found) for _, found in Unwritten(p.store).found())


def wait_until(what: Callable[[], bool]) -> None:
    began_s = time.monotonic()
    while not what():
        assert time.monotonic() - began_s < 60, "it never came so far"
        time.sleep(0.02)


def test_a_lock_that_another_program_holds_is_waited_for(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda _: Say(delay_s=0.05))
    p = place(teacher.url, 150, teacher__max_concurrency=20)
    process = p.start()
    wait_until(lambda: len(teacher.asked) > 30)
    with closing(held(p)):
        time.sleep(5)
        asked = len(teacher.asked)
        assert asked < 150
    code, _, err = p.ended(process, 60)
    assert code == 0, err
    assert len([line for line in err.splitlines() if "write lock" in line]) == 1, err
    assert p.report["traces"]["accepted"] == 150
    assert p.report["attempts"]["in_doubt"] == 0
    assert bought_again(teacher) == 0


def test_killed_while_it_waits_for_the_lock_no_answer_is_lost(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda _: Say(delay_s=0.05))
    p = place(teacher.url, 60, teacher__max_concurrency=20)
    process = p.start()
    wait_until(lambda: len(teacher.asked) > 15)
    unwritten = p.store.with_name("store.db.unwritten")
    with closing(held(p)):
        wait_until(lambda: len(teacher.bill) == len(teacher.asked) == settled(p))
        sent = len(teacher.asked)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len(teacher.bill) == sent < 60
    code, _, err = p.collect()
    assert code == 0, err
    assert "taken in, since they could not be written when they came" in err
    assert bought_again(teacher) == 0
    assert audit_file(p.store)["spent"] == teacher.billed_pusd
    assert not unwritten.exists()
