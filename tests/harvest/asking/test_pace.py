"""How fast and how many requests leave, in virtual time, at endpoints with several kinds of limits."""

import heapq
import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvest.asking.buying.pace import LONGEST_WAIT_S, START, Pace
from harvest.endpoint import Announced, announced


@dataclass
class Window:
    """Takes `limit` requests in any `span_s`, and refuses the rest."""

    limit: int
    span_s: float
    says: bool = False
    taken: deque[float] = field(default_factory=deque)

    def takes(self, now_s: float) -> tuple[bool, Announced]:
        while self.taken and now_s - self.taken[0] > self.span_s:
            self.taken.popleft()
        left = self.limit - len(self.taken)
        reset = self.span_s - (now_s - self.taken[0]) if self.taken else 0.0
        if left > 0:
            self.taken.append(now_s)
        return left > 0, Announced(max(0, left - 1), reset) if self.says else Announced()


@dataclass
class Ended:
    wall_s: float
    refusals: int
    peak: int


def drive(pace: Pace, window: Window | None, n: int, latency_s: float, in_flight_limit: int = 10**9) -> Ended:
    """Asks n questions in virtual time, each again until it is taken."""
    chance = random.Random(7)
    now, out, left, refusals, peak, done = 0.0, 0, n, 0, 0, 0
    events: list[tuple[float, int, float, bool, Announced]] = []
    tick = 0
    while done < n:
        while left and pace.may_send(out, now):
            pace.sent(now)
            out, left, peak = out + 1, left - 1, max(peak, out + 1)
            taken, said = window.takes(now) if window else (out <= in_flight_limit, Announced())
            takes_s = latency_s * chance.lognormvariate(0, 0.3) if taken else 0.01
            tick += 1
            heapq.heappush(events, (now + takes_s, tick, now, taken, said))
        wait = pace.wait_s(now)
        until = now + wait if left and wait > 0 else float("inf")
        if events and events[0][0] <= until:
            now, _, sent_s, taken, said = heapq.heappop(events)
            out -= 1
            if taken:
                done += 1
                pace.answered()
            else:
                left, refusals = left + 1, refusals + 1
                pace.refused_at(sent_s, now, None)
            pace.heard(said, sent_s, now)
        else:
            assert until < float("inf"), "nothing is out and nothing will come"
            now = max(until, now + 1e-6)
        assert now < 10_000
    return Ended(now, refusals, peak)


def test_it_starts_small_and_climbs_to_the_ceiling() -> None:
    pace = Pace(256)
    assert pace.limit == START
    ended = drive(pace, None, 5000, 1.0)
    assert pace.limit == 256
    assert ended.peak == 256
    assert ended.refusals == 0


def test_long_answers_do_not_make_the_climb_long() -> None:
    pace, now, out = Pace(2000), 0.0, 0
    while now < 15:
        while pace.may_send(out, now):
            pace.sent(now)
            out += 1
        now += max(pace.wait_s(now), 0.01)
    assert out == 2000


def test_a_ceiling_below_the_start_holds_from_the_first_request() -> None:
    assert drive(Pace(3), None, 50, 1.0).peak == 3


@pytest.mark.parametrize("latency_s", [0.05, 0.3, 3.0])
@pytest.mark.parametrize("span_s", [2.0, 10.0])
def test_a_silent_limit_is_found_and_kept(span_s: float, latency_s: float) -> None:
    ended = drive(Pace(256), Window(int(20 * span_s), span_s), 2000, latency_s)
    assert ended.refusals < 0.08 * 2000
    assert ended.wall_s < (2000 / 20 + latency_s) / 0.93


@pytest.mark.parametrize("latency_s", [0.05, 0.3, 3.0])
def test_an_announced_limit_is_kept_with_few_refusals(latency_s: float) -> None:
    pace = Pace(256)
    ended = drive(pace, Window(40, 2.0, says=True), 2000, latency_s)
    assert pace.announced
    assert ended.refusals < 0.05 * 2000
    assert ended.wall_s < (2000 / 20 + latency_s) / 0.93


def test_an_endpoint_that_holds_only_so_many_at_once_is_not_flooded() -> None:
    ended = drive(Pace(256), None, 1000, 1.0, in_flight_limit=50)
    assert ended.refusals < 0.2 * 1000
    assert ended.wall_s < 1000 / 50 / 0.7


def test_nothing_leaves_before_the_moment_that_the_endpoint_named() -> None:
    pace = Pace(100)
    pace.sent(0.0)
    pace.refused_at(sent_s=0.0, now_s=1.0, retry_after_s=5.0)
    assert not pace.may_send(0, 5.9)
    assert pace.may_send(0, 6.0)


def test_an_endpoint_cannot_silence_it_for_days() -> None:
    pace = Pace(100)
    pace.sent(0.0)
    pace.refused_at(0.0, 1.0, retry_after_s=86_400.0)
    assert pace.may_send(0, 1.0 + LONGEST_WAIT_S)
    pace.heard(Announced(0, 86_400.0), 1.0, 1.0)
    assert pace.may_send(0, 1.0 + LONGEST_WAIT_S)


@pytest.mark.parametrize("n", [12, 400])
def test_refusals_by_chance_do_not_stop_it(n: int) -> None:
    chance = random.Random(3)

    class Moody(Window):
        def takes(self, now_s: float) -> tuple[bool, Announced]:
            return chance.random() > 0.2, Announced()

    assert drive(Pace(256), Moody(0, 0), n, 0.1).wall_s < 60


def test_a_limit_of_a_few_a_minute_is_kept() -> None:
    ended = drive(Pace(256), Window(20, 60.0), 100, 0.5)
    assert ended.wall_s < 360
    assert ended.refusals < 100


def test_what_was_found_serves_the_next_start() -> None:
    window = Window(40, 2.0)
    ended = drive(Pace(256, limit=20.0, rate=19.0), window, 400, 0.3)
    assert ended.refusals < 20


@given(st.lists(st.tuples(st.sampled_from(["sent", "answered", "refused", "heard"]), st.floats(0, 30)), max_size=60))
def test_it_never_falls_silent_for_good(history: list[tuple[str, float]]) -> None:
    pace, now, last_sent = Pace(64), 0.0, 0.0
    for what, x in history:
        now += x
        match what:
            case "sent":
                pace.sent(now)
                last_sent = now
            case "answered":
                pace.answered(int(x))
            case "refused":
                pace.refused_at(last_sent, now, x if x > 15 else None)
            case "heard":
                pace.heard(Announced(0, x, 0, x), last_sent, now)
        assert 1 <= pace.limit <= 64
    for _ in range(20):
        now += pace.wait_s(now) + 1e-6
        if pace.may_send(0, now):
            break
    assert pace.may_send(0, now)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, Announced()),
        (
            {"x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s",
             "x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6m0s"},
            Announced(59, 1, 149984, 360),
        ),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2m59.56s"}, Announced(0, 179.56)),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}, Announced(0, 0.02)),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1700000005000"}, Announced(0, 5)),
        (
            {"anthropic-ratelimit-requests-remaining": "4",
             "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:30Z"},
            Announced(4, 10),
        ),
        ({"x-ratelimit-remaining-requests": "many", "x-ratelimit-reset-requests": "soon"}, Announced()),
        ({"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "1e999"}, Announced()),
    ],
)  # fmt: skip
def test_limits_are_read_as_providers_write_them(headers: dict[str, str], said: Announced) -> None:
    assert announced(headers, 1_700_000_000.0) == said


@given(st.dictionaries(st.sampled_from(["x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"]), st.text()))
def test_no_header_breaks_it(headers: dict[str, str]) -> None:
    announced(headers, 1_700_000_000.0)


def test_what_another_process_found_holds_until_we_find_a_rate_ourselves() -> None:
    pace = Pace(64)
    pace.told(10.0, 5.0, 2.0, 7.0)
    assert (pace.rate, pace.limit) == (2.0, 7.0)
    assert pace.quiet_s(12.0) == 3.0
    assert not pace.may_send(0, 14.9)
    assert pace.may_send(0, 15.1), "the endpoint asked for quiet, and the quiet is over"
    pace.told(20.0, -1.0, 9.0, 50.0)
    assert pace.rate == pytest.approx(2.0, rel=0.1)
    assert (pace.limit, pace.quiet_s(20.0)) == (7.0, 0.0)
    blocked = Pace(64)
    blocked.refused_at(0.0, 1.0, None)
    blocked.told(1.5, 0.0, 9.0, 50.0)
    assert blocked.rate is None, "we are looking for it"
