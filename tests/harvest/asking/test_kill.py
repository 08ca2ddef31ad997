"""`collect` is killed with SIGKILL at random moments and at every named step. It asks for no stored answer again, and
the bill is never above the books.

The real command runs over real sockets. Each answer that the endpoint made is either stored or in doubt.
"""

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest
from books import audit_file, tries_by_question
from conftest import Place, scaled, sums
from dies import STEPS, die_at
from scripted_endpoint import Asked, Endpoint, Say

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]


def check(p: Place, teacher: Endpoint) -> tuple[int, int]:
    """The store of a dead or a finished process against the bill: (tries answered, tries in doubt or still out)."""
    books = audit_file(p.store)
    held = books["spent"] + books["reserved"] + books["in_doubt"]
    assert teacher.billed_pusd <= held <= books["cap"]
    tries = tries_by_question(p.store)
    texts = {r["question"]: r["id"] for r in sums(5_000)}
    for text, made in teacher.made().items():
        of_it = tries.get(texts[text], [])
        known = sum(state in ("answered", "in_doubt", "sent") or bool(doubt) for state, _, doubt in of_it)
        assert made <= known, f"{texts[text]}: {made} answers made, {of_it} in the store"
    states = [state for of_it in tries.values() for state, _, _ in of_it]
    return states.count("answered"), states.count("in_doubt") + states.count("sent")


def answered(p: Place) -> set[str]:
    """Questions whose answer is in the store."""
    if not p.store.exists():
        return set()
    with closing(sqlite3.connect(p.store)) as db:
        try:
            rows = db.execute(
                "SELECT question.name FROM attempt JOIN question ON question.id = question_id"
                " WHERE answer_try IS NOT NULL"
            ).fetchall()
        except sqlite3.OperationalError:
            return set()
    return {name for (name,) in rows}


def reap(process: "subprocess.Popen[str]") -> None:
    process.communicate(timeout=30)


def finish(p: Place, teacher: Endpoint, rows: int) -> None:
    """The same command once more: it goes on, ends, and has asked for nothing that was stored."""
    stored, before = answered(p), len(teacher.asked)
    code, _, err = p.collect()
    assert code == 0, err[-2000:]
    asked = {f"q{a.question.split()[2]}" for a in teacher.asked[before:]}
    assert not asked & stored, f"asked again for {asked & stored}"
    report = p.report
    assert report["questions"]["solved"] == rows
    assert len(answered(p)) == rows
    n_answered, in_doubt = check(p, teacher)
    assert n_answered == rows, "an answer was bought twice"
    assert report["attempts"]["in_doubt"] == in_doubt
    books = audit_file(p.store)
    assert books["reserved"] == 0
    assert teacher.billed_pusd <= books["spent"] + books["in_doubt"] <= books["cap"]
    assert books["spent"] == rows * Say().cost_pusd


@pytest.mark.parametrize("step", [s for s in STEPS if "settling" not in s])
def test_killed_at_a_step_nothing_is_lost_and_nothing_bought_twice(
    step: str, endpoint: Endpoints, place: Places
) -> None:
    """One at a time, so that each figure is known exactly: the third try dies at the step.

    A reply makes room before it is settled, so each reservation is in one transaction with the settlement before it.
    On a busy machine it may be in the next one, and then the second answer is stored in any case.
    """
    teacher = endpoint(lambda _: Say(delay_s=0.02))
    p = place(teacher.url, 6, teacher__max_concurrency=1)
    process = p.start(before=partial(die_at, step, 3))
    reap(process)
    assert process.returncode == -signal.SIGKILL
    time.sleep(0.1)
    third_reserved = step not in ("before intent", "in intent")
    second_stored = third_reserved or len(answered(p)) == 2
    third_made = step in ("after receive", "before settle", "in settle", "after settle")
    third_stored = fourth_reserved = step == "after settle"
    stored = 1 + second_stored + third_stored
    doubt = (not second_stored) + (third_reserved and not third_stored) + fourth_reserved
    assert len(answered(p)) == stored
    assert check(p, teacher) == (stored, doubt)
    assert len(teacher.bill) == 2 + third_made
    finish(p, teacher, 6)
    assert p.report["attempts"]["in_doubt"] == doubt
    assert len(teacher.bill) == 6 + (not second_stored) + (third_made and not third_stored)


@pytest.mark.parametrize("step", [s for s in STEPS if "failure" in s])
def test_killed_while_a_failure_is_settled(step: str, endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda a: Say(cut_at=60) if a.n == 2 else Say())
    p = place(teacher.url, 6, teacher__max_concurrency=1)
    process = p.start(before=partial(die_at, step, 1))
    reap(process)
    assert process.returncode == -signal.SIGKILL
    assert check(p, teacher) == (2, 1)
    finish(p, teacher, 6)
    assert p.report["attempts"]["in_doubt"] == 1
    assert len(teacher.bill) == 7
    assert p.report["attempts"]["failed"] == ({"cut": 1} if step.startswith("after") else {})


@pytest.mark.parametrize("moment", ["received", "half sent", "sent"])
def test_killed_by_the_endpoint_in_the_middle_of_an_answer(moment: str, endpoint: Endpoints, place: Places) -> None:
    """The endpoint itself decides when its client dies: once it has the request, half out, all out."""
    pids: list[int] = []

    def kill() -> None:
        while not pids:
            time.sleep(0.01)
        with suppress(ProcessLookupError):
            os.kill(pids[0], signal.SIGKILL)

    def script(asked: Asked) -> Say:
        if asked.n != 5:
            return Say(delay_s=0.02)
        if moment == "received":
            kill()
            return Say()
        return Say(on_half=kill) if moment == "half sent" else Say(on_sent=kill)

    teacher = endpoint(script)
    p = place(teacher.url, 12, teacher__max_concurrency=3)
    process = p.start()
    pids.append(process.pid)
    reap(process)
    assert process.returncode == -signal.SIGKILL
    time.sleep(0.2)
    stored, doubt = check(p, teacher)
    assert stored < 12
    assert 1 <= doubt <= 6, "three out, and as many that had come and were not written down"
    finish(p, teacher, 12)
    assert len(teacher.bill) <= 12 + p.report["attempts"]["in_doubt"]


def test_killed_at_random_moments_again_and_again(endpoint: Endpoints, place: Places) -> None:
    """200 times in `make bars`: while it starts, asks, settles, ends."""
    chance = random.Random(4)
    teacher = endpoint(lambda _: Say(delay_s=chance.uniform(0.02, 0.3)))
    kills, rows = scaled(6, 200), scaled(400, 5_000)
    p = place(teacher.url, rows, teacher__max_concurrency=20, budget__usd="50.00")
    landed = 0
    for _ in range(kills * 3):
        stored, before = answered(p), len(teacher.asked)
        process = p.start()
        began = time.monotonic()
        if chance.random() < 0.85:
            # most deaths while it asks; the rest while it starts
            while len(teacher.asked) == before and process.poll() is None and time.monotonic() - began < 30:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.25))
        else:
            time.sleep(chance.uniform(0, 1.2))
        landed += process.poll() is None
        process.kill()
        reap(process)
        asked = {f"q{a.question.split()[2]}" for a in teacher.asked[before:]}
        assert not asked & stored, f"asked again for {asked & stored}"
        if p.store.exists() and stored:
            check(p, teacher)
        if landed == kills:
            break
    assert landed == kills
    assert len(answered(p)) < rows, "it was done before it had died so often"
    time.sleep(0.5)
    finish(p, teacher, rows)
    assert len(teacher.bill) == len(teacher.asked), "every request that arrived was answered, heard or not"
    never_left = p.report["attempts"]["answered"] + p.report["attempts"]["in_doubt"] - len(teacher.bill)
    assert 0 <= never_left <= 20 * kills


def test_the_children_of_a_killed_run_end_with_it(endpoint: Endpoints, place: Places) -> None:
    hard = [{"id": f"h{n}", "question": f"hard {n}", "answer": f"\\frac{{\\sqrt{{{n + 2}}}}}{{x+1}}"} for n in range(4)]
    teacher = endpoint(lambda _: Say(text="\\boxed{\\sqrt{2}/(1+x)}", delay_s=0.5))
    p = place(teacher.url, hard, sampling__samples=8)
    process = p.start()
    began = time.monotonic()
    while not (children := children_of(process.pid)) and process.poll() is None and time.monotonic() - began < 30:
        time.sleep(0.02)
    assert children, "no judge was started: nothing is tested"
    process.kill()
    reap(process)
    while any(Path(f"/proc/{c}").exists() for c in children) and time.monotonic() - began < 40:
        time.sleep(0.05)
    assert not [c for c in children if Path(f"/proc/{c}").exists()]


def children_of(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(c) for c in task.read_text().split()]
    return found
