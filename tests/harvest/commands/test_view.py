"""`harvest view`: its words and errors, marks that other commands take in, and marks as cases."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from conftest import ROOT, Place
from looked_at import AT, make_store
from scripted_endpoint import Asked, Endpoint, Say

from harvest.core.nouns import Outcome
from harvest.store import Mark, Store, WaitingMarks

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]


def harvest(folder: Path, *args: str) -> tuple[int, str, str]:
    env = {**os.environ, "WINNOW_RUNS": str(folder / "runs"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "harvest", *args]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


def put(path: Path, attempt: int, outcome: str, note: str = "") -> None:
    """Sets a mark as the viewer does while another process writes to the store."""
    with Store.open(f"sqlite:///{path}", write=False) as store:
        key = store.key_of(attempt)
    assert key is not None
    WaitingMarks(path).put(Mark(attempt, key, Outcome(outcome), note, AT))


def test_collect_takes_in_marks_and_selection_report_and_dataset_follow(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda asked: Say("It is \\boxed{7}." if "1 + 2" in asked.question else None))
    p = place(teacher.url, 3)
    assert p.collect()[0] == 0
    with Store.open(p.url, write=False) as store:
        listed = store.listed(1)
        standing = dict(zip(listed.id, listed.accepted, strict=True))
    right = [i for i, accepted in standing.items() if accepted]
    wrong = [i for i, accepted in standing.items() if not accepted]
    put(p.store, right[0], "wrong")
    put(p.store, wrong[0], "right")
    code, _, err = p.collect()
    assert "taken in from `harvest view`: 2 marks" in err
    assert not WaitingMarks(p.store).path.exists()
    rows = [json.loads(line) for line in next((p.run_folder / "dataset").rglob("train.jsonl")).read_text().splitlines()]
    with Store.open(p.url, write=False) as store:
        after = dict(zip(*((listed := store.listed(1)).id, listed.accepted), strict=True))
    assert (after[right[0]], after[wrong[0]]) == (0, 1)
    assert len(rows) == sum(bool(accepted) for accepted in after.values())
    assert {v["check"] for row in rows for v in row["verdicts"]} == {"math", "human"}
    assert p.report["traces"]["accepted"] == len(rows)
    assert code == 0


def test_a_mark_that_is_set_while_collect_asks_is_taken_in_before_it_selects(
    endpoint: Endpoints, place: Places
) -> None:
    marked: list[int] = []

    def script(asked: Asked) -> Say:
        if asked.n and not marked:  # the first answer is there before the others are asked for
            with Store.open(p.url, write=False) as store:
                marked.extend(store.listed(1).id[:1])
            for attempt in marked:
                put(p.store, attempt, "wrong")
        return Say()

    p = place(endpoint(script).url, 3)
    code, _, err = p.collect()
    assert (code, len(marked)) == (0, 1)
    assert "taken in from `harvest view`: 1 mark" in err
    with Store.open(p.url, write=False) as store:
        listed = store.listed(1)
        selected = [a.id for a in store.answered_attempts(1, "selected")]
    assert dict(zip(listed.id, listed.accepted, strict=True))[marked[0]] == 0
    assert len(selected) == 2
    assert p.report["traces"]["accepted"] == 2


def test_marks_become_cases(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    ids = make_store(f"sqlite:///{store}")
    for name, outcome, note in (
        ("wrong", "right", "the price was misread"),
        ("long", "wrong", ""),
        ("right", "unsure", ""),
    ):
        put(store, ids[name], outcome, note)
    where = ("--store", f"sqlite:///{store}")
    code, out, _ = harvest(tmp_path, "view", "apples", "--export-cases", "cases.jsonl", *where)
    assert (code, out) == (
        0,
        "cases.jsonl: 0 cases; left out: 0 marked unsure, 3 marks that wait for a command that writes\n",
    )
    assert harvest(tmp_path, "verify", "apples", *where)[0] == 0
    code, out, _ = harvest(tmp_path, "view", "--export-cases", "cases.jsonl", "--json", *where)
    assert json.loads(out) == {"file": "cases.jsonl", "cases": 2, "unsure": 1, "waiting": 0}
    cases: list[dict[str, Any]] = [json.loads(line) for line in (tmp_path / "cases.jsonl").read_text().splitlines()]
    assert [(c["question"]["id"], c["answer"], c["gold"], c["verdict"], c["note"]) for c in cases] == [
        ("apples", "She gets \\boxed{2}.", "12", "right", "the price was misread"),
        ("sum", "The sum is \\boxed{78}.", "78", "wrong", ""),
    ]


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    make_store(f"sqlite:///{tmp_path / 'store.db'}")
    here = ("--store", "sqlite:///store.db")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        for args, words in (
            (("nosuch", *here), "no run 'nosuch'"),
            (("--store", "sqlite:///none.db"), "no such file"),
            (("apples", *here, "--port", port), f"--port {port}: cannot be served there"),
            (("apples", *here, "--port", "70000"), "--port 70000"),
            (("apples", *here, "--to", "store.db/copy"), "cannot be written"),
        ):
            code, _, err = harvest(tmp_path, "view", *args)
            assert code in (1, 2), args
            assert words in err, args
            assert len(err.splitlines()) == 1, args
