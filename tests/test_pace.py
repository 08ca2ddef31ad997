"""How many at once, in virtual time: fast where nothing is refused, and no faster than a limit allows."""

import heapq
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from harvest.pace import LONGEST_WAIT_S, START, Pace


def test_it_starts_small_and_climbs_to_the_ceiling() -> None:
    pace = Pace(256)
    assert pace.limit == START
    for _ in range(240):
        pace.answered()
    assert pace.limit == 256
    pace.answered()
    assert pace.limit == 256


def test_a_ceiling_below_the_start_holds_from_the_first_request() -> None:
    pace = Pace(3)
    assert pace.may_send(2, 0.0)
    assert not pace.may_send(3, 0.0)


def test_the_refusals_of_one_round_slow_it_once() -> None:
    pace = Pace(100, limit=100.0)
    for _ in range(50):
        pace.refused_at(sent_s=0.0, now_s=1.0, retry_after_s=None)
    assert pace.limit == 70
    pace.refused_at(sent_s=1.5, now_s=2.0, retry_after_s=None)
    assert round(pace.limit) == 49


def test_nothing_leaves_before_the_moment_that_the_endpoint_named() -> None:
    pace = Pace(100)
    pace.refused_at(sent_s=0.0, now_s=1.0, retry_after_s=5.0)
    assert not pace.may_send(0, 5.9)
    assert pace.may_send(0, 6.0)


def test_an_endpoint_cannot_silence_it_for_days() -> None:
    pace = Pace(100)
    pace.refused_at(0.0, 1.0, retry_after_s=86_400.0)
    assert pace.may_send(0, 1.0 + LONGEST_WAIT_S)


def test_after_a_refusal_it_climbs_by_one_a_round() -> None:
    pace = Pace(1000, limit=100.0)
    pace.refused_at(0.0, 1.0, None)
    before = pace.limit
    for _ in range(int(before)):
        pace.answered()
    assert 0.9 < pace.limit - before <= 1.0


@settings(max_examples=300)
@given(
    st.integers(1, 500),
    st.lists(
        st.tuples(
            st.booleans(), st.floats(0, 2), st.floats(0, 5), st.none() | st.floats(0, 10_000, allow_infinity=False)
        ),
        max_size=100,
    ),
)
def test_the_limit_stays_between_one_and_the_ceiling_and_silence_ends(
    ceiling: int, events: list[tuple[bool, float, float, float | None]]
) -> None:
    pace = Pace(ceiling)
    now = 0.0
    for refused, later, ago, after in events:
        now += later
        if refused:
            pace.refused_at(now - ago, now, after)
        else:
            pace.answered()
        assert 1 <= pace.limit <= ceiling
        assert pace.quiet_until_s <= now + LONGEST_WAIT_S
    assert pace.may_send(0, now + LONGEST_WAIT_S)


@dataclass
class Bucket:
    """An endpoint that answers `rate` requests a second, after `latency_s`, and refuses the rest at once."""

    rate: float
    latency_s: float
    tokens: float = field(init=False)
    at_s: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = self.rate

    def takes(self, now_s: float) -> bool:
        self.tokens = min(self.rate, self.tokens + (now_s - self.at_s) * self.rate)
        self.at_s = now_s
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def rates(bucket: Bucket, pace: Pace, seconds: float, retry_after_s: float | None) -> tuple[float, float]:
    """(answers a second, refusals per answer) over the second half of so many virtual seconds."""
    now, in_flight, answers, refusals = 0.0, 0, 0, 0
    events: list[tuple[float, int, bool, float]] = []
    n = 0
    while now < seconds:
        while pace.may_send(in_flight, now):
            took = bucket.takes(now)
            n += 1
            heapq.heappush(events, (now + (bucket.latency_s if took else 0.02), n, took, now))
            in_flight += 1
        if not events or (not in_flight and pace.quiet_until_s > now):
            now = pace.quiet_until_s
            continue
        now, _, took, sent = heapq.heappop(events)
        in_flight -= 1
        late = now > seconds / 2
        if took:
            pace.answered()
            answers += late
        else:
            pace.refused_at(sent, now, retry_after_s)
            refusals += late
    return answers / (seconds / 2), refusals / max(1, answers)


def test_an_endpoint_without_limits_is_used_to_the_ceiling() -> None:
    rate, refused = rates(Bucket(1e9, 0.5), Pace(200), 60, None)
    assert rate > 0.95 * 200 / 0.5
    assert refused == 0


def test_a_limit_of_twenty_a_second_is_used_and_mostly_respected() -> None:
    for after in (None, 0.2):
        rate, refused = rates(Bucket(20, 0.5), Pace(256), 300, after)
        assert rate > 0.7 * 20, after
        assert refused < 0.5, after
