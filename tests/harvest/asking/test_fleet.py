"""Several addresses of one model as one teacher: who takes which request, and what becomes of a replica that is slow,
dead, hangs, refuses everything or serves another model."""

import asyncio
import heapq
import json
import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from books import audit_file
from conftest import Place, scaled
from hypothesis import given
from hypothesis import strategies as st
from scripted_endpoint import Asked, Endpoint, Say

from harvest.asking.buying.breaker import LONGEST_REST_S, SHORT_WAIT_S, Breaker, Over
from harvest.asking.buying.concurrency_limiter import ConcurrencyLimiter
from harvest.asking.buying.fleet import Fleet, Replica
from harvest.asking.buying.pace import START, Pace
from harvest.core.errors import AttemptFailed, ConfigError, Cut, Passing, RunRefused
from harvest.core.settings import validated
from harvest.core.teachers import Teacher

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]
DEAD = -1.0
"""In place of a replica's latency: every request fails at once."""


def fleet_of(n: int, ceiling: int = 64) -> Fleet:
    breakers = (Breaker(has_answered=True, replicas=n) for _ in range(n))
    return Fleet([Replica(Pace(ceiling), breaker, f"http://r{k}") for k, breaker in enumerate(breakers)], ceiling)


# ---- the rules, by a simulated clock


@dataclass
class Simulated:
    """Requests about questions, `samples` of each, at replicas that take `latency_s` for an answer."""

    fleet: Fleet
    latency_s: dict[Replica, float]
    dies_s: dict[Replica, float] = field(default_factory=dict)
    now_s: float = 0.0
    answers: Counter[Replica] = field(default_factory=Counter)
    failures: Counter[Replica] = field(default_factory=Counter)
    lost: int = 0
    homes: dict[int, set[Replica]] = field(default_factory=dict)

    def run(self, questions: int, samples: int = 1) -> float:
        """Returns the seconds until the last answer."""
        waiting = [(q, frozenset[Replica]()) for q in range(questions) for _ in range(samples)][::-1]
        out: list[tuple[float, int, Replica, float, int, frozenset[Replica]]] = []
        n = 0
        while waiting or out:
            while waiting:
                question, tried = waiting[-1]
                replica = self.fleet.choose(self.now_s, question, tried)
                if replica is None:
                    break
                waiting.pop()
                self.fleet.sent(replica, question, self.now_s)
                n += 1
                heapq.heappush(out, (self._ends_s(replica), n, replica, self.now_s, question, tried))
            if not out:
                self.now_s += 0.1
                continue
            self.now_s, _, replica, sent_s, question, tried = heapq.heappop(out)
            replica.in_flight -= 1
            if self._is_dead(replica):
                self._fails(replica, sent_s)
                if len(tried) == 4:
                    self.lost += 1
                else:
                    waiting.append((question, tried | {replica}))
                continue
            self.answers[replica] += 1
            self.homes.setdefault(question, set()).add(replica)
            replica.answered(sent_s, self.now_s)
            replica.pace.answered(100)
            replica.breaker.answered(self.now_s)
        return self.now_s

    def _is_dead(self, replica: Replica) -> bool:
        return self.latency_s[replica] == DEAD or self.now_s >= self.dies_s.get(replica, 1e9)

    def _ends_s(self, replica: Replica) -> float:
        latency_s = 0.01 if self._is_dead(replica) else self.latency_s[replica]
        return min(self.now_s + latency_s, max(self.now_s + 0.01, self.dies_s.get(replica, 1e9)))

    def _fails(self, replica: Replica, sent_s: float) -> None:
        self.failures[replica] += 1
        replica.breaker.failed(Cut("killed"), sent_s, self.now_s)
        if replica.breaker.over is not None:
            replica.breaker.rest(self.now_s)


def test_a_slow_and_a_dead_replica_take_little_from_the_healthy_ones() -> None:
    alone = fleet_of(2)
    alone_s = Simulated(alone, dict.fromkeys(alone.replicas, 1.0)).run(6_000)
    fleet = fleet_of(4)
    one, two, slow, killed = fleet.replicas
    sim = Simulated(fleet, {one: 1.0, two: 1.0, slow: 10.0, killed: 1.0}, {killed: 5.0})
    together_s = sim.run(6_000)
    assert sim.answers.total() == 6_000
    assert sim.lost == 0
    assert 0 < sim.answers[slow] < 6_000 / 20, "the slow one has as many in flight as the others"
    assert together_s < alone_s * 1.1
    in_flight_at_the_kill = 64 / 4 * 1.5
    assert sim.failures[killed] < in_flight_at_the_kill + 30, "a dead replica is asked again and again"


def test_one_slow_answer_does_not_make_a_slow_replica() -> None:
    fleet = fleet_of(2)
    for replica, took_s in zip(fleet.replicas, (0.3, 0.05), strict=True):
        fleet.sent(replica, None, 0.0)
        replica.in_flight -= 1
        replica.answered(0.0, took_s)
    took = Counter[Replica]()
    for _ in range(20):
        replica = fleet.choose(0.3)
        assert replica is not None
        fleet.sent(replica, None, 0.3)
        took[replica] += 1
    assert min(took.values()) >= 4


def test_without_a_fault_all_replicas_answer_alike() -> None:
    fleet = fleet_of(4)
    sim = Simulated(fleet, dict.fromkeys(fleet.replicas, 1.0))
    sim.run(2_000)
    assert max(sim.answers.values()) < 1.2 * min(sim.answers.values())


def test_a_replica_that_fails_at_once_is_no_black_hole() -> None:
    fleet = fleet_of(3)
    sim = Simulated(fleet, {replica: (DEAD if n == 0 else 1.0) for n, replica in enumerate(fleet.replicas)})
    sim.run(1_000)
    assert sim.lost == 0
    assert sim.failures[fleet.replicas[0]] < 25


def test_the_samples_of_a_question_go_to_one_replica() -> None:
    fleet = fleet_of(4)
    sim = Simulated(fleet, dict.fromkeys(fleet.replicas, 1.0))
    sim.run(500, samples=4)
    alone = sum(len(homes) == 1 for homes in sim.homes.values())
    assert alone > 450, f"{alone} of 500 questions were asked at one replica alone"
    assert max(sim.answers.values()) < 1.3 * min(sim.answers.values())


def test_more_samples_than_one_replica_has_room_for_go_to_the_others() -> None:
    fleet = fleet_of(4)
    for replica in fleet.replicas:
        replica.pace.limit = 64
    took = Counter[Replica]()
    for _ in range(64):
        replica = fleet.choose(0.0, 7)
        assert replica is not None
        fleet.sent(replica, 7, 0.0)
        took[replica] += 1
    assert max(took.values()) == 20, "a share and a quarter of it"
    assert took.total() == 64
    assert fleet.choose(0.0, 7) is None, "max_concurrency is the teacher's"


def test_a_silent_replica_gets_no_more_than_it_has() -> None:
    """It answered, and now hangs: what it does not answer says how long it takes."""
    fleet = fleet_of(2, 1000)
    quick, silent = fleet.replicas
    for replica in fleet.replicas:
        replica.pace.limit = 500
        fleet.sent(replica, None, 0.0)
        replica.in_flight -= 1
        replica.answered(0.0, 1.0)
    fleet.sent(silent, None, 1.0)
    for second in range(1, 40):
        for _ in range(10 if second < 10 else 200):
            replica = fleet.choose(float(second), None)
            assert replica is not None
            fleet.sent(replica, None, float(second))
        for _ in range(quick.in_flight):
            quick.in_flight -= 1
            quick.answered(float(second), second + 0.9)
    assert silent.in_flight < 20


def test_a_probe_leaves_when_it_is_due_however_slow_the_replica_was() -> None:
    fleet = fleet_of(2)
    quick, down = fleet.replicas
    for replica, took_s in ((down, 100.0), (quick, 0.1)):
        for _ in range(20):
            replica.answered(0.0, took_s)
    for _ in range(15):
        down.breaker.failed(Cut("down"), 0.0, 0.0)
    assert not down.is_up
    assert fleet.choose(0.5) is quick
    assert fleet.choose(1.5) is down
    fleet.sent(down, None, 1.5)
    assert fleet.choose(1.6) is quick, "one probe at a time"


def test_a_slow_replica_that_was_not_asked_for_long_gets_one_request() -> None:
    fleet = fleet_of(2)
    quick, slow = fleet.replicas
    for _ in range(20):
        quick.answered(99.0, 100.0)
        slow.answered(0.0, 100.0)
    fleet.sent(quick, None, 100.0)
    quick.answered(100.0, 119.0)
    assert fleet.choose(119.0) is quick
    assert fleet.choose(120.5) is slow
    fleet.sent(slow, None, 120.5)
    assert fleet.choose(120.5) is quick, "one, and no more"


def test_a_fleet_has_a_rate_when_all_who_answer_have_one() -> None:
    fleet = fleet_of(3)
    one, two, three = fleet.replicas
    assert fleet.rate is None
    one.pace.rate, two.pace.rate = 2.0, 3.0
    assert fleet.rate is None
    three.refusal = RunRefused("another model")
    assert fleet.rate == 5.0


@given(st.data())
def test_a_request_goes_to_no_replica_that_must_not_have_it(data: st.DataObject) -> None:
    n, ceiling = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 20))
    fleet, now_s = fleet_of(n, ceiling), 0.0
    out: list[tuple[Replica, float]] = []
    for _ in range(data.draw(st.integers(1, 60))):
        now_s += data.draw(st.floats(0, 3))
        if out and data.draw(st.booleans()):
            replica, sent_s = out.pop(data.draw(st.integers(0, len(out) - 1)))
            replica.in_flight -= 1
            failure = data.draw(st.sampled_from([None, Cut("x"), Passing("x"), RunRefused("x")]))
            if failure is None:
                replica.answered(sent_s, now_s)
                replica.breaker.answered(now_s)
            else:
                _heed(replica, failure, sent_s, now_s)
            continue
        tried = frozenset(r for r in fleet.replicas if data.draw(st.booleans()))
        ups = [r for r in fleet.replicas if r.is_up]
        question = data.draw(st.integers(0, 3))
        chosen = fleet.choose(now_s, question, tried)
        if chosen is None:
            continue
        assert fleet.in_flight < ceiling
        assert chosen.refusal is None
        assert chosen not in tried or not set(ups) - tried, "it has failed there, and others are up"
        fleet.sent(chosen, question, now_s)
        out.append((chosen, now_s))
    assert fleet.in_flight == len(out) <= ceiling


def _heed(replica: Replica, failure: AttemptFailed, sent_s: float, now_s: float) -> None:
    if isinstance(failure, RunRefused):
        replica.refusal = failure
    replica.breaker.failed(failure, sent_s, now_s)
    if replica.breaker.over is not None:
        replica.breaker.rest(now_s)


def test_a_replica_that_rests_is_probed_more_and_more_rarely_and_comes_back() -> None:
    breaker, now_s, probes = Breaker(has_answered=True, replicas=4), 0.0, []
    while now_s < 3_600:
        if breaker.may_send(0, now_s):
            breaker.sent(now_s)
            was_resting = breaker.is_resting
            breaker.failed(Cut("down"), now_s, now_s)
            if breaker.over is Over.DOWN:
                breaker.rest(now_s)
            if was_resting:
                probes.append(now_s)
        now_s += 1.0
    gaps = [b - a for a, b in pairwise(probes)]
    assert gaps == sorted(gaps)
    assert gaps[0] == pytest.approx(2 * SHORT_WAIT_S, abs=2)
    assert gaps[-1] == pytest.approx(LONGEST_REST_S, abs=2)
    breaker.answered(now_s)
    assert not breaker.is_resting
    assert breaker.may_send(3, now_s)


# ---- settings


def test_a_list_of_addresses_is_one_teacher_and_its_first_names_it() -> None:
    settings = {"base_url": ["http://a:1/v1", "http://b:1/v1"], "model": "m"}
    teacher = validated(Teacher, settings)
    assert teacher.base_url == "http://a:1/v1"
    assert teacher.addresses == ("http://a:1/v1", "http://b:1/v1")
    assert validated(Teacher, teacher.model_dump(mode="json")) == teacher, "as the store has it"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"mode": "batch"}, "is for one endpoint"),
        ({"replicas": ["http://c/v1"]}, "keep one"),
        ({"base_url": ["http://a/v1", "http://a/v1/"]}, "an address twice"),
        ({"base_url": ["http://a/v1", "a/v1"]}, "no http"),
        ({"base_url": ["http://a/v1", "http://me:secret@a/v1"]}, "a user or a password"),
        ({"base_url": []}, "needs either"),
        ({"base_url": None, "local": "x", "model": None, "replicas": ["http://c/v1"]}, "no `base_url`"),
    ],
)
def test_a_fleet_that_cannot_be_is_refused_in_one_line(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        validated(Teacher, {"base_url": ["http://a/v1", "http://b/v1"], "model": "m"} | more)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_an_address_with_another_price_is_no_replica(place: Places) -> None:
    urls = ["http://127.0.0.1:1/v1", "https://api.deepseek.com/v1"]
    p = place(
        urls, 2, teacher__price_usd_per_mtok=None, teacher__model="deepseek-reasoner", teacher__terms="accepted: x"
    )
    code, _, err = p.collect()
    assert code == 2
    assert "https://api.deepseek.com/v1 has another price than http://127.0.0.1:1/v1" in err
    assert "[[teachers]]" in err


# ---- real runs


def made(*replicas: Endpoint) -> Counter[str]:
    """How many answers were made for each question, at all replicas."""
    return sum((Counter(replica.made()) for replica in replicas), Counter[str]())


def check_bill(p: Place, *replicas: Endpoint) -> None:
    """No answer is bought twice beyond those whose first try is in doubt."""
    report = p.report
    twice = sum(n - 1 for n in made(*replicas).values())
    assert twice <= report["attempts"]["in_doubt"]
    booked = p.money("spent") + p.money("in_doubt")
    assert sum(replica.billed_pusd for replica in replicas) <= booked * 10**12


def test_a_killed_and_a_slow_replica_lose_no_answer(endpoint: Endpoints, place: Places, here: Any) -> None:
    dying = Endpoint(lambda a: Say(delay_s=0.02)).__enter__()
    end = threading.Thread(target=dying.__exit__, args=(None, None, None))

    def kills(asked: Asked) -> Say:
        if asked.n == 15:
            end.start()
        return Say(delay_s=0.02)

    one, two, slow = endpoint(kills), endpoint(lambda _: Say(delay_s=0.02)), endpoint(lambda _: Say(delay_s=0.4))
    replicas = [one, two, slow, dying]
    p = place([r.url for r in replicas], 300, teacher__max_concurrency=24, sampling__tries=4)
    assert here(p) == 0
    end.join()
    report = p.report
    assert report["questions"]["solved"] == 300
    check_bill(p, *replicas)
    shown = {r["base_url"]: r for r in report["teachers"][0]["replicas"]}
    assert list(shown) == [r.url for r in replicas]
    assert sum(r["answered"] for r in shown.values()) == 300
    for replica in replicas:
        assert shown[replica.url]["answered"] + shown[replica.url]["in_doubt"] >= len(replica.bill)
    assert shown[slow.url]["answered"] < shown[one.url]["answered"]
    assert set(shown[dying.url]["failed"]) <= {"cut", "passing", "late"}
    assert shown[dying.url]["failed"]
    assert "| replica |" in (p.run_folder / "report.md").read_text()
    rows = [json.loads(line) for line in (p.run_folder / "dataset" / "train.jsonl").read_text().splitlines()]
    served = Counter(row["teacher"]["base_url"] for row in rows)
    assert served == {url: r["answered"] for url, r in shown.items() if r["answered"]}


def test_the_first_reply_of_one_replica_counts_for_all(endpoint: Endpoints, place: Places, here: Any) -> None:
    """They have a price, so the first reply is waited for. One replica's comes late, and none takes its share."""
    quick, late = endpoint(lambda _: Say(delay_s=0.1)), endpoint(lambda a: Say(delay_s=2.0 if a.n == 0 else 0.1))
    p = place([quick.url, late.url], 40, teacher__max_concurrency=40)
    assert here(p) == 0
    assert len(late.asked) > 10, (len(quick.asked), len(late.asked))
    third = endpoint(lambda a: Say(delay_s=2.0 if a.n == 0 else 0.1))
    grown = place([quick.url, late.url, third.url], 100, teacher__max_concurrency=40)
    assert here(grown) == 0
    assert len(third.asked) > 10, "also one that is new in a later start"


def test_more_replicas_later_buy_nothing_anew(endpoint: Endpoints, place: Places, here: Any) -> None:
    one, two = endpoint(), endpoint()
    p = place(one.url, 20)
    assert here(p) == 0
    assert len(one.bill) == 20
    grown = place([one.url, two.url], 40)
    assert here(grown) == 0
    assert sum(made(one, two).values()) == 40
    other = place([one.url, two.url], 40, folder="place", name="again")
    assert here(other) == 0
    assert other.report["attempts"]["reused"] == 40
    assert here(place(one.url, 40)) == 0, "taken out again"
    assert sum(made(one, two).values()) == 40


def test_a_later_start_knows_of_each_replica_that_it_answered_and_what_all_demand(
    endpoint: Endpoints, place: Places, here: Any
) -> None:
    words = "Unsupported parameter: 'temperature' is not supported."

    def picky(asked: Asked) -> Say:
        refused = Say(status=400, error="unsupported_parameter", message=words)
        return refused if "temperature" in asked.body else Say(delay_s=0.02)

    replicas = [endpoint(picky), endpoint(picky)]
    urls = [r.url for r in replicas]
    p = place(urls, 20)
    assert here(p) == 0
    with closing(sqlite3.connect(p.store)) as db:
        heard = [json.loads(data) for (data,) in db.execute("SELECT data FROM event WHERE kind = 'first reply'")]
    assert sorted(one.get("replica", urls[0]) for one in heard) == sorted(urls)
    before = [len(r.asked) for r in replicas]
    assert here(place(urls, 60)) == 0
    later = [r.asked[n:] for r, n in zip(replicas, before, strict=True)]
    assert all(later)
    assert not any("temperature" in asked.body for of_one in later for asked in of_one)


def test_another_first_address_is_refused(endpoint: Endpoints, place: Places) -> None:
    one, two = endpoint(), endpoint()
    assert place([one.url, two.url], 2).collect()[0] == 0
    code, _, err = place([two.url, one.url], 2).collect()
    assert code == 2
    assert "teacher.base_url" in err


def test_replicas_that_are_all_down_end_the_run_as_one_endpoint_does(endpoint: Endpoints, place: Places) -> None:
    replicas = [endpoint(lambda a: Say() if a.n < 5 else Say(reset=True, made=True)) for _ in range(3)]
    p = place([r.url for r in replicas], 100, teacher__outage_wait_s=0.6)
    code, _, err = p.collect()
    assert code == 4
    assert "outage_wait_s = 0.6 is over" in err
    assert p.report["run"]["stopped_by"] == "outage"
    assert all(len(r.asked) <= 5 + 38 for r in replicas), "no more than of one endpoint alone"
    check_bill(p, *replicas)
    for replica in replicas:
        replica.script = lambda _: Say()
    assert p.collect()[0] == 0
    assert p.report["questions"]["solved"] == 100


@pytest.mark.parametrize(
    "said",
    [
        Say(status=404, error="model_not_found", message="The model `mock` does not exist."),
        Say(status=401, error="invalid_api_key"),
    ],
)
def test_a_replica_that_serves_another_model_is_left_out_with_a_warning(
    said: Say, endpoint: Endpoints, place: Places
) -> None:
    good, wrong = endpoint(), endpoint(lambda _: said)
    p = place([wrong.url, good.url], 30)
    code, _, err = p.collect()
    assert code == 0
    assert p.report["questions"]["solved"] == 30
    assert len(wrong.asked) <= 16
    assert f"the teacher at {wrong.url} refuses for good" in err
    assert "the other replicas go on" in err
    good.script = lambda _: said
    p = place([wrong.url, good.url], 60)
    code, _, err = p.collect()
    assert code == 4, "all refuse for good"
    assert p.report["run"]["status"] == "refused"


def test_a_replica_that_fails_every_request_costs_no_answer(endpoint: Endpoints, place: Places, here: Any) -> None:
    good, bad = endpoint(lambda _: Say(delay_s=0.01)), endpoint(lambda _: Say(status=500, error="server_error"))
    p = place([bad.url, good.url], 150, sampling__tries=2)
    assert here(p) == 0
    assert p.report["questions"]["solved"] == 150
    assert p.report["teachers"][0]["replicas"][0]["failed"] == {"passing": len(bad.asked)}
    assert len(bad.asked) < 30


def test_a_replica_that_hangs_costs_what_it_has_in_flight_and_no_answer(
    endpoint: Endpoints, place: Places, here: Any
) -> None:
    good, hung = endpoint(lambda _: Say(delay_s=0.01)), endpoint(lambda _: Say(delay_s=3600))
    p = place([hung.url, good.url], 60, teacher__timeout_s=1, sampling__tries=2)
    assert here(p) == 0
    assert p.report["questions"]["solved"] == 60
    assert len(hung.asked) <= START, "as many as any endpoint gets at first, and no second time"
    assert p.report["attempts"]["in_doubt"] == len(hung.asked)


def test_a_replica_that_comes_back_is_asked_again(endpoint: Endpoints, place: Places, here: Any) -> None:
    back = endpoint(lambda a: Say(status=500, error="server_error") if a.n < 17 else Say())
    good = endpoint(lambda _: Say(delay_s=0.0 if len(back.bill) > 3 else 0.15))
    p = place([good.url, back.url], 200, teacher__max_concurrency=4, sampling__tries=4)
    assert here(p) == 0
    assert p.report["questions"]["solved"] == 200
    assert len(back.bill) > 3


def test_each_try_names_its_replica_and_why_tells_it(endpoint: Endpoints, place: Places) -> None:
    refusing, good = endpoint(lambda _: Say(status=500, error="server_error")), endpoint()
    p = place([refusing.url, good.url], 1)
    assert p.collect()[0] == 0
    with closing(sqlite3.connect(p.store)) as db:
        tries = db.execute("SELECT replica, state FROM try ORDER BY id").fetchall()
    assert tries == [(None, "failed"), (good.url, "answered")]
    code, out, _ = p.harvest("why", "r", "q0", "--store", p.url)
    assert code == 0
    assert all(f"by the replica {e.url}" in out for e in (refusing, good)), out


def models(context_tokens: int) -> Callable[[str], tuple[int, Any]]:
    card = {"id": "mock", "root": "org/mock-32b", "max_model_len": context_tokens}
    return lambda path: (200, {"data": [card]}) if path.endswith("/models") else (404, {})


def test_doctor_asks_each_replica_and_compares_them(endpoint: Endpoints, place: Places) -> None:
    one, two = endpoint(), endpoint()
    one.look_up = two.look_up = models(32_768)
    p = place([one.url, two.url])
    code, out, _ = p.harvest("doctor", str(p.toml))
    assert code == 0
    assert len(one.asked) == len(two.asked) == 1
    assert "are alike: each serves org/mock-32b with 32,768 tokens of context" in out
    two.look_up = models(4_096)
    code, out, _ = p.harvest("doctor", str(p.toml), "--json")
    examined = json.loads(out)["asked"]
    assert [e["name"] for e in examined] == [f"the teacher at {url}" for url in (one.url, two.url)]
    (said,) = (f for e in examined for f in e["findings"] if f["name"] == "replicas")
    assert said["good"] is False
    assert f"{two.url} serves org/mock-32b with 4,096 tokens" in said["words"]
    two.script = lambda _: Say(status=404, error="model_not_found")
    code, _, err = p.harvest("doctor", str(p.toml))
    assert code == 4
    assert two.url in err


def test_a_killed_collect_goes_on_with_its_fleet_and_buys_nothing_twice(endpoint: Endpoints, place: Places) -> None:
    running: list[Any] = []

    def kills(asked: Asked) -> Say:
        if asked.n == 25:
            running[0].kill()
        return Say(delay_s=0.02)

    replicas = [endpoint(lambda _: Say(delay_s=0.02)), endpoint(kills), endpoint(lambda _: Say(delay_s=0.1))]
    p = place([r.url for r in replicas], 120, teacher__max_concurrency=20)
    running.append(p.start())
    running[0].communicate(timeout=30)
    assert running[0].returncode == -9
    code, _, err = p.collect()
    assert code == 0, err[-2000:]
    assert p.report["questions"]["solved"] == 120
    assert p.report["attempts"]["in_doubt"] <= 20
    check_bill(p, *replicas)
    with closing(sqlite3.connect(p.store)) as db:
        (keys,) = db.execute("SELECT count(DISTINCT key) FROM attempt").fetchone()
    assert keys == 120


def test_a_replica_with_a_shorter_context_costs_no_row(endpoint: Endpoints, place: Places) -> None:
    short = endpoint(lambda _: Say(status=400, error="context_length_exceeded", message="at most 64 tokens"))
    good = endpoint(lambda _: Say(delay_s=0.02))
    p = place([good.url, short.url], 300, teacher__max_concurrency=8, sampling__tries=1)
    code, _, err = p.collect()
    assert code == 0
    assert p.report["questions"]["solved"] == 300
    assert len(short.asked) <= 15 + 8, "its share of 30 refusals, and what was in flight by then"
    assert f"the teacher at {short.url} refuses every row" in err
    assert err.count("the other replicas go on") == 1


async def test_a_try_that_waits_for_another_replica_holds_up_no_other() -> None:
    fleet = fleet_of(2, 8)
    one, two = fleet.replicas
    two.pace.refused_at(0.0, asyncio.get_running_loop().time(), 60.0)
    limiter = ConcurrencyLimiter(fleet)
    waits = asyncio.create_task(limiter.slot(1, [one]).__aenter__())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        for question in range(20):
            async with limiter.slot(question) as slot:
                assert slot.replica is one
    assert not waits.done()
    limiter.open()
    await waits


@pytest.mark.parametrize("seed", range(scaled(1, 25)))
def test_kills_and_faults_of_all_kinds_never_cost_more_than_the_books_say(
    seed: int, endpoint: Endpoints, place: Places
) -> None:
    chance = random.Random(seed)
    faults = (
        Say(reset=True, made=True), Say(cut_at=120), Say(status=500, error="server_error"), Say(usage=False),
        Say(status=429, error="rate_limit_exceeded", headers={"retry-after-ms": "50"}), Say(delay_s=3),
    )  # fmt: skip
    shares = [chance.choice((0.0, 0.1, 0.5, 0.9)) for _ in range(3)]
    kill_at = chance.randrange(10, 60)
    running: list[Any] = []

    def script(share: float) -> Callable[[Asked], Say]:
        def say(_: Asked) -> Say:
            if running and sum(len(r.asked) for r in replicas) >= kill_at:
                running.pop().kill()
            return chance.choice(faults) if chance.random() < share else Say(delay_s=chance.uniform(0.005, 0.03))

        return say

    replicas = [endpoint(script(share)) for share in (*shares, 0.1)]
    p = place([r.url for r in replicas], 150, teacher__timeout_s=1, teacher__max_concurrency=24, sampling__tries=6)
    running.append(p.start())
    process = running[0]
    process.communicate(timeout=60)
    for _ in range(4):
        code, _, err = p.collect()
        assert code in (0, 4), err[-2000:]
        books = audit_file(p.store)
        assert sum(r.billed_pusd for r in replicas) <= books["spent"] + books["in_doubt"] <= books["cap"]
        if p.report["questions"]["solved"] == 150:
            break
    assert p.report["questions"]["solved"] == 150
    check_bill(p, *replicas)
