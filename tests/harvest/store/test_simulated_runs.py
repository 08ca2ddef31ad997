"""The cap: thousands of simulated runs, in virtual time, on the real store; and planted faults that must be found.

A simulated teacher answers late, expensively, twice or never, and keeps its own bill; the process dies between any two
steps. After each step the books must be right, the bill must be within the books, and the books within the cap.
"""

import heapq
import importlib.util
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from urllib.request import urlopen

import pytest
from books import audit, audit_file
from conftest import BARS, Place, scaled, sums
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import harvest.store.attempts
from harvest.core.errors import FAILURES, Cut, Late, Passing, RowRefused, Throttled
from harvest.core.money import Usage
from harvest.core.nouns import Ask, Question, Reply
from harvest.store import Store

NOW = "2026-11-24T12:00:00.000Z"
DEADLINE = 10
FATES = (
    "answer",
    "answer",
    "answer",
    "throttled",
    "passing",
    "cut",
    "late",
    "lost",
    "row",
    "filter",
    "no usage",
    "dear",
)


@dataclass(frozen=True)
class Fate:
    """What becomes of one try."""

    kind: str
    latency: int
    """Ticks until the reply, or the failure, is there. Past the DEADLINE it is late."""
    worst: int
    share: int
    """Of its worst case that it is billed, in percent."""

    @property
    def cost(self) -> int:
        return self.worst * self.share // 100 + (self.worst + 1 if self.kind == "dear" else 0)


@dataclass(frozen=True)
class World:
    cap: int
    at_once: int
    fates: tuple[Fate, ...]
    crashes: tuple[int, ...]
    """The process dies before its n-th step."""


fates = st.builds(Fate, st.sampled_from(FATES), st.integers(1, 25), st.integers(1, 400), st.integers(0, 100))
worlds = st.builds(
    World,
    st.integers(0, 4_000),
    st.integers(1, 8),
    st.lists(fates, min_size=1, max_size=25).map(tuple),
    st.lists(st.integers(1, 60), max_size=3, unique=True).map(tuple),
)


class Simulation:
    """One run, by the rules of `collect`: reserve, send, settle; near the cap, wait for what others give back."""

    def __init__(self, kind: type[Store], folder: Path, world: World) -> None:
        self.kind, self.world = kind, world
        self.url = f"sqlite:///{folder / 'store.db'}"
        self.store = kind.open(self.url)
        with self.store.transaction():
            self.run = self.store.put_run("r", {}, world.cap, NOW)
            for n in range(len(world.fates)):
                self.store.put_question(self.run, Question(id=str(n), question="?", answer="1", check="math"))
            self.store.begin_session(self.run, NOW)
        rows = self.store.db.execute("SELECT id FROM question WHERE run_id = ? ORDER BY id", (self.run,))
        self.questions = [r[0] for r in rows]
        self.queue = list(range(len(world.fates)))[::-1]
        self.events: list[tuple[int, int, str, int, int]] = []
        self.now = self.steps = self.serial = self.bill = self.booked = 0
        self.out: set[int] = set()
        self.overbilled = self.stopped = False

    def go(self) -> dict[str, int]:
        while not self.stopped:
            self._send()
            if not self.events:
                break
            self._step()
        while self.events:
            self._step(asking=False)
        with self.store.transaction():
            self.store.hold_unsettled(self.run, NOW)
        self._look()
        books = audit(self.store.db, self.run, overbilled=self.overbilled)
        self.store.close()
        return books

    def _send(self) -> None:
        while self.queue and len(self.out) < self.world.at_once and not self.overbilled:
            n = self.queue[-1]
            fate = self.world.fates[n]
            with self.store.transaction():
                key = f"sha256:{n}"
                held = self.store.reserve(self.run, self.questions[n], Ask(0, 100), key, fate.worst, NOW)
            self._look()
            if hasattr(held, "reply"):
                raise AssertionError("an answer that is stored was asked for again")
            if held is None:
                self.stopped = not self.out
                return
            self.queue.pop()
            self.out.add(n)
            # A provider bills when it has made the answer, whether or not anybody is still there to hear it. What is
            # beyond the limit nobody can know before the reply is here.
            made = fate.kind in ("answer", "cut", "late", "lost", "filter", "no usage", "dear")
            self._later(fate.latency, "bill", n, min(fate.cost, fate.worst) if made else 0)
            if fate.kind == "lost" or fate.latency > DEADLINE or fate.kind == "late":
                self._later(DEADLINE, "deadline", n, held.try_id)
            if fate.kind != "lost":
                self._later(
                    max(fate.latency, DEADLINE + 1) if fate.kind == "late" else fate.latency, "reply", n, held.try_id
                )

    def _later(self, ticks: int, what: str, n: int, value: int) -> None:
        self.serial += 1
        heapq.heappush(self.events, (self.now + ticks, self.serial, what, n, value))

    def _step(self, asking: bool = True) -> None:
        self.steps += 1
        if asking and self.steps in self.world.crashes:
            return self._crash()
        self.now, _, what, n, value = heapq.heappop(self.events)
        fate = self.world.fates[n]
        if what == "bill":
            self.bill += value
        elif what == "deadline":
            with self.store.transaction():
                self.store.settle_failure(value, Late("late"), None, None, "config", NOW)
            if fate.kind == "lost":
                self.out.discard(n)
        else:
            self.out.discard(n)
            self._settle(n, fate, value)
        self._look()

    def _settle(self, n: int, fate: Fate, try_id: int) -> None:
        cost = fate.cost
        self.bill += max(0, cost - fate.worst)
        known = Reply(answer="1", usage=Usage(1, None, 1, None, cost))
        failures: dict[str, Any] = {"throttled": Throttled, "passing": Passing, "cut": Cut, "row": RowRefused}
        with self.store.transaction():
            if fate.kind in failures:
                self.store.settle_failure(try_id, failures[fate.kind]("as scripted"), None, None, "config", NOW)
            elif fate.kind == "filter":
                self.store.settle_failure(try_id, RowRefused("filtered"), known, cost, "config", NOW)
                self.booked += cost
            elif fate.kind == "no usage":
                self.store.settle(try_id, Reply(answer="1"), None, "config", NOW)
            else:
                over = self.store.settle(try_id, known, cost, "config", NOW)
                self.booked += cost
                assert over == (cost > fate.worst)
                self.overbilled |= over
        if FAILURES.get(fate.kind) in (Throttled, Passing) and self.steps < 200:
            self.queue.insert(0, n)

    def _crash(self) -> None:
        """Everything in memory is gone; what the teacher is at, it finishes and bills."""
        self.store.db.execute("BEGIN IMMEDIATE")
        if self.queue:
            n = self.queue[-1]
            self.store.reserve(self.run, self.questions[n], Ask(0, 100), f"sha256:{n}", 1, NOW)
        self.store.close()
        self.store = self.kind.open(self.url)
        with self.store.transaction():
            self.store.begin_session(self.run, NOW)
        self.events = [e for e in self.events if e[2] == "bill"]
        heapq.heapify(self.events)
        self.queue += [n for n in self.out if self.world.fates[n].kind != "lost"]
        self.out = set()
        self._look()

    def _look(self) -> None:
        books = audit(self.store.db, self.run, overbilled=self.overbilled)
        assert books["spent"] == self.booked, "what was paid is not what was booked"
        held = books["spent"] + books["reserved"] + books["in_doubt"]
        assert self.bill <= held, f"the teacher billed {self.bill}, the books know of {held}"


def simulate(kind: type[Store], world: World) -> dict[str, int]:
    """The books at its end. Raises AssertionError at the first step after which something is wrong."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder:
        return Simulation(kind, Path(folder), world).go()


@settings(max_examples=scaled(200, 10_000))
@given(worlds)
def test_no_run_passes_its_cap_by_one_picodollar(world: World) -> None:
    simulate(Store, world)


@settings(max_examples=scaled(25, 500))
@given(st.integers(1, 400), st.integers(1, 100), st.integers(1, 8), st.integers(20, 60), st.integers(1, 9))
def test_where_nothing_fails_the_cap_is_used(worst: int, share: int, at_once: int, fits: int, latency: int) -> None:
    """At least 95%, where one worst case is at most a twentieth of the cap."""
    cap = worst * fits
    cost = max(1, worst * share // 100)
    if cap // cost > 400:
        return
    enough = cap // cost + 2 * fits
    fate = Fate("answer", latency, worst, -(-100 * cost // worst))
    world = World(cap, at_once, (fate,) * enough, ())
    books = simulate(Store, world)
    assert books["spent"] >= 0.95 * cap
    assert books["spent"] <= cap


# ---- faults seeded into a copy of the money's statements: the properties above find each


SEEDED = {
    "reserves without the guard": ("head.cap < :x +", "head.cap < 0 * :x *"),
    "the guard forgets what is in doubt": ("sum(spent + in_doubt + reserved)", "sum(spent + reserved)"),
    "the guard is off by one": ("head.cap < :x", "head.cap + 1 < :x"),
    "settling frees twice": ("reserved - ?, in_doubt = in_doubt - ? +", "reserved - 2 * ?, in_doubt = in_doubt - ? +"),
    "a crash forgets what was out": ("(held, held, run_id)", "(held, 0, run_id)"),
    "a late reply refunds nothing": ('(0, row["doubt"] or 0, row', "(0, 0, row"),
    "a cost beyond the reservation is cut to it": (
        'self._book(row, cost_pusd or 0, doubt or 0)\n        self._end_try(try_id, "answered"',
        "cost_pusd = None if cost_pusd is None else min(cost_pusd, held)\n"
        '        self._book(row, cost_pusd or 0, doubt or 0)\n        self._end_try(try_id, "answered"',
    ),
    "an unknown cost is no cost": ('held if cost_pusd is None and source != "none" else None', "None"),
    "a cut connection is free": ("held if cost_pusd is None and may_be_billed else None", "None"),
    "reserves nothing": ('{"x": worst_pusd, "run": run_id}', '{"x": 0, "run": run_id}'),
}


def with_fault(name: str, folder: Path) -> type[Store]:
    """A store whose statements on attempts and tries are their own source with one change."""
    old, new = SEEDED[name]
    source = Path(harvest.store.attempts.__file__).read_text("utf-8")
    assert source.count(old) >= 1, f"the seeded fault {name!r} no longer fits the source: seed it anew"
    path = folder / "faulty_attempts.py"
    path.write_text(source.replace(old, new), "utf-8")
    spec = importlib.util.spec_from_file_location("faulty_attempts", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["faulty_attempts"] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["faulty_attempts"]
    return type("FaultyStore", (module.Attempts, Store), {})


@pytest.mark.parametrize("name", SEEDED)
def test_a_fault_seeded_into_the_statements_is_found(name: str, tmp_path: Path) -> None:
    faulty = with_fault(name, tmp_path)

    def breaks(world: World) -> bool:
        try:
            simulate(faulty, world)
        except AssertionError:
            return True
        return False

    found = find(
        worlds, breaks, settings=settings(max_examples=2_000, phases=[Phase.generate], derandomize=True, database=None)
    )
    simulate(Store, cast(World, found))


# ---- the real thing


def test_a_real_run_with_thousands_in_flight_keeps_its_cap(place: Any) -> None:
    """2,000 in flight in `make bars`; the command itself, over sockets, with a fifth of the tries failing."""
    at_once, n = scaled(100, 2_000), scaled(1_000, 30_000)
    tool_at, latency_s = str(Path(__file__).parents[2] / "scripted_endpoint.py"), str(6.0 if BARS else 0.25)
    faults = ("--fault", "half=0.05", "--fault", "passing=0.05", "--fault", "no_usage=0.05", "--fault", "late=0.02")
    tool = subprocess.Popen(
        [sys.executable, tool_at, "--latency-s", latency_s, *faults],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert tool.stdout is not None
        port = int(tool.stdout.readline())
        cap = Decimal(n) * Decimal("0.00034") * Decimal("0.75")
        p: Place = place(
            f"http://127.0.0.1:{port}/v1", sums(n), teacher__max_concurrency=at_once,
            teacher__timeout_s=40 if BARS else 3, budget__usd=str(cap),
        )  # fmt: skip
        code, _, err = p.collect(timeout_s=560 if BARS else 60)
        assert code == 3, err[-1000:]
        with urlopen(f"http://127.0.0.1:{port}/bill") as answer:
            bill = json.load(answer)
    finally:
        tool.kill()
        tool.communicate()
    books = audit_file(p.store)
    assert books["reserved"] == 0
    assert bill["billed_pusd"] <= books["spent"] + books["in_doubt"] <= books["cap"]
    assert 0.7 * at_once <= bill["peak"] <= at_once  # after a fruitless try the others wait for an answer
    assert p.report["pace"]["peak_in_flight"] <= 1.25 * bill["peak"], "what waits for money is not in flight"
    assert p.report["pace"]["limited_by"] == "cap"
