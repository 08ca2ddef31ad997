"""Marks that wait in a file beside the store: each is on the disk when it is set, and is taken once."""

import threading
from pathlib import Path

import pytest

from harvest.core.nouns import Outcome
from harvest.store import Mark, WaitingMarks

AT = "2026-11-24T12:00:00.000Z"


def mark(n: int, outcome: Outcome = Outcome.RIGHT, note: str = "") -> Mark:
    return Mark(n, f"sha256:{n}", outcome, note, AT)


@pytest.fixture
def waiting(tmp_path: Path) -> WaitingMarks:
    return WaitingMarks(tmp_path / "store.db")


def test_marks_come_back_as_they_were_set_and_are_taken_once(waiting: WaitingMarks) -> None:
    marks = [mark(1), mark(2, Outcome.WRONG, "a line\nand \ud800 half a pair"), mark(1, Outcome.UNSURE)]
    for one in marks:
        waiting.put(one)
    marks[1] = mark(2, Outcome.WRONG, "a line\nand \N{REPLACEMENT CHARACTER} half a pair")
    assert waiting.found() == marks
    assert waiting.path.stat().st_mode & 0o777 == 0o600
    with waiting.taken() as (found, _):
        assert list(found) == marks
    assert waiting.found() == []
    assert not waiting.path.exists()


def test_marks_wait_on_when_the_store_cannot_take_them(waiting: WaitingMarks) -> None:
    waiting.put(mark(1))
    with pytest.raises(RuntimeError), waiting.taken():
        raise RuntimeError("the disk is full")
    assert waiting.found() == [mark(1)]


def test_a_torn_line_and_a_mark_of_another_store_are_put_aside(waiting: WaitingMarks) -> None:
    waiting.put(mark(1))
    with waiting.path.open("ab") as file:
        # What the store could not take would be in the way of every later mark.
        for odd in ('"outcome": "timeout"', '"note": "\\ud800"', '"attempt_id": 1e400', f'"attempt_id": {1 << 63}'):
            whole = {"attempt_id": "1", "key": '"k"', "outcome": '"right"', "note": '""', "at": '"now"'}
            name, _, value = odd.partition(": ")
            whole[name.strip('"')] = value
            file.write(("{" + ", ".join(f'"{k}": {v}' for k, v in whole.items()) + "}\n").encode())
        file.write(b'{"attempt_id": 2, "key": "sha')
    waiting.put(mark(3))
    with waiting.taken() as (found, refused):
        assert list(found) == [mark(1), mark(3)]
        refused.append(found[1])
    lines = waiting.refused.read_text().splitlines()
    assert len(lines) == 6
    assert lines[4].startswith('{"attempt_id": 2, "key": "sha')
    assert '"attempt_id": 3' in lines[5]


def test_nothing_is_lost_while_several_add_and_one_takes(waiting: WaitingMarks) -> None:
    each, threads = 40, 3
    taken: list[int] = []

    def add(first: int) -> None:
        for n in range(first, first + each):
            waiting.put(mark(n))

    adding = [threading.Thread(target=add, args=(n * each,)) for n in range(threads)]
    for thread in adding:
        thread.start()
    while any(thread.is_alive() for thread in adding) or waiting.found():
        with waiting.taken() as (found, _):
            taken += [m.attempt_id for m in found]
    assert sorted(taken) == list(range(each * threads))


def test_a_link_in_place_of_the_file_is_not_followed(waiting: WaitingMarks, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("mine")
    waiting.path.symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic"):
        waiting.put(mark(1))
    assert (tmp_path / "other").read_text() == "mine"
