"""Sketches are made while a run asks; whatever stops that, the selection makes the missing ones."""

import time
from pathlib import Path

import numpy as np
import pytest
from test_import import Imports, imports
from test_select import outcomes, row

from harvest.selection import sketch_pool
from harvest.selection.sketch_pool import SketchesWhileAsking
from harvest.selection.sketches import Kind, read_file
from harvest.store import Store

__all__ = ["imports"]  # the fixture
N = 90


@pytest.fixture
def judged(imports: Imports, monkeypatch: pytest.MonkeyPatch) -> tuple[Imports, list[int]]:
    """(a run whose sketches and selection are gone, as when its answers have just been judged; its attempts)"""
    monkeypatch.setattr(sketch_pool, "JUDGED_BATCH", 40)
    imports.run("import", imports.file("a.jsonl", [row(f"q{a}", a, 4) for a in range(10, 10 + N)]), "--name", "r")
    for path in sketch_files(imports):
        path.unlink()
    with Store.open(f"sqlite:///{imports.store}") as store, store.transaction():
        store.db.execute("DELETE FROM selection_outcome")
        store.db.execute("DELETE FROM selection")
        ids = [attempt for attempt, _, _ in store.selection_pool(store.run_id("r"), "accepted")]
    assert len(ids) == N
    return imports, ids


def sketch_files(imports: Imports, kind: str = "") -> list[Path]:
    return sorted(Path(f"{imports.store}.sketches").glob(f"*-{kind}*/*.sketch"))


def sketched(imports: Imports, kind: Kind) -> list[int]:
    """The ids in all whole files of a kind."""
    found = [read for path in sketch_files(imports, kind[0]) if (read := read_file(path, kind)) is not None]
    return sorted(np.concatenate([sketches["id"] for sketches, _ in found]).tolist()) if found else []


def run_id(imports: Imports) -> int:
    with Store.open(f"sqlite:///{imports.store}", write=False) as store:
        return store.run_id("r")


def test_what_is_judged_while_asking_is_not_read_again(judged: tuple[Imports, list[int]]) -> None:
    imports, ids = judged
    with SketchesWhileAsking(f"sqlite:///{imports.store}", run_id(imports), rejected_too=False) as sketches:
        for attempt in ids:
            sketches.take(attempt, accepted=True)
        sketches.take(10**6, accepted=False)
    assert sketched(imports, "attempts") == ids
    assert len(sketched(imports, "questions")) == N
    before = {path: path.stat().st_mtime_ns for path in sketch_files(imports)}
    imports.run("select", "r")
    assert {path: path.stat().st_mtime_ns for path in sketch_files(imports)} == before
    assert set(outcomes(imports).values()) == {""}


def test_a_few_answers_start_no_process(judged: tuple[Imports, list[int]]) -> None:
    imports, ids = judged
    with SketchesWhileAsking(f"sqlite:///{imports.store}", run_id(imports), rejected_too=False) as sketches:
        for attempt in ids[:39]:
            sketches.take(attempt, accepted=True)
    assert sketch_files(imports) == []


@pytest.mark.parametrize("when", ["before it has begun", "after a batch"])
def test_a_process_that_dies_holds_nobody_up(judged: tuple[Imports, list[int]], when: str) -> None:
    imports, ids = judged
    with SketchesWhileAsking(f"sqlite:///{imports.store}", run_id(imports), rejected_too=False) as sketches:
        for attempt in ids:
            sketches.take(attempt, accepted=True)
        deadline = time.monotonic() + 60
        while (when == "after a batch" and not sketch_files(imports)) or not sketches._pool._processes:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        sketches._pool._processes[0].kill()
    imports.run("select", "r")
    assert sketched(imports, "attempts") == ids
    assert set(outcomes(imports).values()) == {""}


def test_an_interrupt_ends_the_processes(judged: tuple[Imports, list[int]]) -> None:
    imports, ids = judged

    sketches = SketchesWhileAsking(f"sqlite:///{imports.store}", run_id(imports), rejected_too=False)

    def interrupted() -> None:
        with sketches:
            for attempt in ids:
                sketches.take(attempt, accepted=True)
            while not sketches._pool._processes:
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(process.poll() is not None for process in sketches._pool._processes)
    imports.run("select", "r")
    assert set(outcomes(imports).values()) == {""}
