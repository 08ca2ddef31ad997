"""The circuit breaker alone: what an outage may cost, how long it is waited for, and that asking goes on after it."""

import itertools
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvest.asking.buying.breaker import (
    MOST_ALIKE,
    MOST_FRUITLESS,
    MOST_PROBES,
    REFUSED_TOO_LONG_S,
    SHORT_WAIT_S,
    Breaker,
    Over,
)
from harvest.core.errors import AttemptFailed, Cut, Gateway, Late, Passing, RowRefused, Throttled

FRUITLESS = st.sampled_from((Cut, Gateway, Late, Passing))


@dataclass
class Asking:
    """A crowd that sends whatever the breaker lets go, on a clock of its own."""

    breaker: Breaker
    ceiling: int
    now_s: float = 0.0
    sent: int = 0
    probes: list[float] = field(default_factory=list)
    in_flight: list[float] = field(default_factory=list)

    def send(self) -> None:
        while len(self.in_flight) < self.ceiling and self.breaker.may_send(len(self.in_flight), self.now_s):
            self.now_s += 1e-6  # each is known by when it was let go
            if self.breaker.is_down:
                self.probes.append(self.now_s)
            self.breaker.sent(self.now_s)
            self.in_flight.append(self.now_s)
            self.sent += 1

    def end(self, failure: AttemptFailed | None, which: int = 0, after_s: float = 0.01) -> None:
        self.now_s += after_s
        sent_s = self.in_flight.pop(which)
        if failure is None:
            self.breaker.answered(self.now_s)
        else:
            self.breaker.failed(failure, sent_s, self.now_s)

    def until_over(self, failure: AttemptFailed, after_s: float = 0.01) -> None:
        while self.breaker.over is None:
            self.send()
            if self.in_flight:
                self.end(failure, after_s=after_s)
            else:
                wait_s = self.breaker.wait_s(self.now_s)
                assert wait_s > 0, "nothing is in flight, and no time is named at which something may leave"
                self.now_s += wait_s


@given(
    ceiling=st.integers(1, 300),
    answers=st.integers(1, 50),
    kind=FRUITLESS,
    after_s=st.floats(0.001, 100),
    wait_s=st.floats(0, 100_000),
    seed=st.integers(0, 99),
)
def test_an_outage_at_any_time_costs_what_is_in_flight_or_thirty_and_eight_probes_one_at_a_time(
    ceiling: int, answers: int, kind: type[AttemptFailed], after_s: float, wait_s: float, seed: int
) -> None:
    chance = random.Random(seed)
    asking = Asking(Breaker(outage_wait_s=wait_s), ceiling)
    for _ in range(answers):
        asking.send()
        asking.end(None, chance.randrange(len(asking.in_flight)))
    asking.send()
    before, in_flight = asking.sent, len(asking.in_flight)
    asking.until_over(kind("x"), after_s)
    assert asking.breaker.over is Over.DOWN
    sent = asking.sent - before - len(asking.probes)
    assert in_flight + sent <= max(MOST_FRUITLESS, in_flight)
    assert len(asking.probes) <= MOST_PROBES == 8
    down_s = asking.breaker.down_since_s
    assert down_s is not None
    assert all(at_s - down_s <= wait_s + 0.01 for at_s in asking.probes)
    assert asking.now_s - down_s <= max(wait_s, in_flight * after_s) + 2 * after_s + 0.1


@given(ceiling=st.integers(2, 300), fruitless=st.integers(0, 60), kind=FRUITLESS, fate=st.integers(0, 2))
def test_an_answer_ends_an_outage_and_the_crowd_goes_on(
    ceiling: int, fruitless: int, kind: type[AttemptFailed], fate: int
) -> None:
    asking = Asking(Breaker(has_answered=True), ceiling)
    for _ in range(fruitless):
        asking.send()
        if not asking.in_flight:
            asking.now_s += asking.breaker.wait_s(asking.now_s)
            continue
        asking.end(kind("x"), min(fate, len(asking.in_flight) - 1))
    asking.now_s += asking.breaker.wait_s(asking.now_s)
    asking.send()
    asking.end(None)
    asking.send()
    assert len(asking.in_flight) == ceiling
    assert not asking.breaker.is_down
    asking.until_over(kind("x"))
    assert len(asking.probes) >= MOST_PROBES, "the next outage is probed as often as the first"


@given(st.lists(st.tuples(st.sampled_from(("fails", "throttled", "row")), st.floats(0, 5)), max_size=28))
def test_until_the_first_reply_one_is_in_flight(fates: list[tuple[str, float]]) -> None:
    asking = Asking(Breaker(), 100)
    failures: dict[str, AttemptFailed] = {"fails": Gateway("x"), "throttled": Throttled("x"), "row": RowRefused("x")}
    for fate, after_s in fates:
        asking.send()
        assert len(asking.in_flight) == 1
        asking.end(failures[fate], after_s=after_s)
    asking.send()
    asking.end(None)
    asking.send()
    assert len(asking.in_flight) == 100


def test_a_free_endpoint_and_one_that_is_known_are_asked_by_the_crowd_at_once() -> None:
    for breaker in (Breaker(is_free=True), Breaker(has_answered=True)):
        asking = Asking(breaker, 16)
        asking.send()
        assert len(asking.in_flight) == 16


def test_a_first_reply_that_is_late_is_probed_for_at_once() -> None:
    """Thirty deadlines one after the other would be half a day."""
    asking = Asking(Breaker(), 16)
    asking.until_over(Late("x"), after_s=900)
    assert asking.sent == 2
    assert asking.breaker.over is Over.DOWN


def test_refusals_for_speed_are_no_outage_until_they_last_for_too_long() -> None:
    asking = Asking(Breaker(has_answered=True), 16)
    while asking.now_s < REFUSED_TOO_LONG_S - 1:
        asking.send()
        asking.end(Throttled("x"), after_s=0.5)
        assert not asking.breaker.is_down
        assert asking.breaker.over is None
    asking.until_over(Throttled("x"), after_s=0.5)
    assert asking.breaker.over is Over.THROTTLED
    patient = Asking(Breaker(outage_wait_s=7_200, has_answered=True), 1)
    patient.until_over(Throttled("x"), after_s=10)
    assert 7_200 <= patient.now_s < 7_300


def test_equal_refusals_of_rows_end_it_before_any_answer_only() -> None:
    def refusals(breaker: Breaker, words: str, n: int) -> Over | None:
        for number in range(n):
            breaker.failed(RowRefused(words.format(number)), 0.0, 1.0)
        return breaker.over

    asked = "max_tokens is 16384, and this prompt has {} tokens"
    assert refusals(Breaker(), asked, MOST_ALIKE) is Over.REFUSES_ROWS
    assert refusals(Breaker(), asked, MOST_ALIKE - 1) is None
    assert refusals(Breaker(has_answered=True), asked, 1000) is None
    mixed = Breaker()
    for word in ("flagged", "too long") * 50:
        mixed.failed(RowRefused(word), 0.0, 1.0)
    assert mixed.over is None


@pytest.mark.parametrize("wait_s", [45.0, 3_600.0, 43_200.0])
def test_probes_come_further_and_further_apart(wait_s: float) -> None:
    asking = Asking(Breaker(outage_wait_s=wait_s, has_answered=True), 1)
    asking.until_over(Passing("x"))
    down_s = asking.breaker.down_since_s or 0.0
    times = [at_s - down_s for at_s in asking.probes]
    assert times[0] == pytest.approx(1.0, abs=0.05)
    assert times[-1] == pytest.approx(wait_s, rel=0.01)
    ratios = [b / a for a, b in itertools.pairwise(times)]
    assert max(ratios) == pytest.approx(min(ratios), rel=0.05)


def test_where_the_models_are_listed_again_a_probe_leaves_at_once_and_the_last_waits_for_the_end() -> None:
    asking = Asking(Breaker(outage_wait_s=3_600, has_answered=True), 1)
    while not asking.breaker.is_down:
        asking.send()
        asking.end(Passing("x"))
    for _ in range(2 * MOST_PROBES):
        asking.breaker.heard_models(False)
        asking.breaker.heard_models(True)
        asking.breaker.heard_models(True)
        asking.send()
        if asking.in_flight:
            asking.end(Passing("x"))
    assert len(asking.probes) == MOST_PROBES - 1
    assert asking.breaker.over is None
    asking.until_over(Passing("x"))
    assert len(asking.probes) == MOST_PROBES
    assert asking.now_s > 3_600
    assert SHORT_WAIT_S < 3_600
