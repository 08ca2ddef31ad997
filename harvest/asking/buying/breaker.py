"""The circuit breaker of one endpoint: says when an endpoint that brings nothing is asked no more. Pure: it is told
what happened and when (in seconds of any clock), and says whether the next request may leave.

    first reply  nothing was ever answered: one request at a time
    closed       the endpoint answers. After each fruitless try, fewer requests may be in flight
    down         nothing but single probes leave, further and further apart
    over         the endpoint was waited for long enough, or refuses every row: nothing more is asked
    resting      as over, but other replicas answer: a single probe leaves after each rest

A try is fruitless if it brought no answer, whether it was billed or not. A refusal for asking too fast or for the row's
own content is not fruitless: the endpoint is there.
"""

import re
from dataclasses import dataclass
from enum import Enum

from harvest.core.errors import AttemptFailed, Late, RowRefused, RunRefused, Throttled

MOST_FRUITLESS = 30
"""The fruitless tries in a row and the requests in flight are together at most this number. If the fruitless tries
alone reach it, the endpoint counts as down."""
MOST_ALIKE = 30
"""If an endpoint that has never answered refuses this many rows in a row in the same words, it refuses every row."""
MOST_PROBES = 8
SHORT_WAIT_S = 45.0
"""An outage that is waited for no longer than this is watched by probes alone. In a longer one `GET /models` is asked
too, which costs nothing."""
FEWEST_FRUITLESS = 5
"""A replica counts as down after its share of MOST_FRUITLESS, but not after fewer than so many."""
LONGEST_REST_S = 900.0
"""The first rest lasts SHORT_WAIT_S, each further one twice as long, and none longer than this."""
REFUSED_TOO_LONG_S = 900.0
"""An endpoint may refuse every request for asking too fast for this many seconds, or for outage_wait_s if longer."""


class Over(Enum):
    """Why nothing more is asked."""

    DOWN = "down"
    THROTTLED = "throttled"
    REFUSES_ROWS = "refuses every row"


@dataclass(slots=True)
class Breaker:
    """The circuit breaker of one endpoint in one start."""

    now_s: float = 0.0
    """When this start began."""
    outage_wait_s: float = SHORT_WAIT_S
    has_answered: bool = False
    """Whether an answer ever came, in this start or an earlier one."""
    is_free: bool = False
    """Whether answers cost nothing. Then the first reply is not waited for."""
    another_answered: bool = False
    """Whether another replica of the endpoint has answered and kept to `max_tokens`. That counts for this one too."""
    replicas: int = 1
    """How many replicas serve the endpoint, each with a breaker of its own. Together they may bring nothing as often as
    one alone."""
    fruitless: int = 0
    """How many tries in a row brought nothing."""
    down_since_s: float | None = None
    over: Over | None = None
    _answered_s: float = 0.0
    _probes: int = 0
    _probe_sent_s: float | None = None
    _is_up: bool = False
    _probe_now: bool = False
    _refusal: str = ""
    _alike: int = 0
    _rests: int = 0
    _rest_until_s: float = 0.0

    def __post_init__(self) -> None:
        self._answered_s = self.now_s

    @property
    def is_down(self) -> bool:
        return self.down_since_s is not None

    @property
    def is_resting(self) -> bool:
        """Whether the endpoint was waited for long enough and is asked again all the same, from time to time."""
        return self._rests > 0

    @property
    def awaits_first_reply(self) -> bool:
        """Whether requests leave one at a time, since an endpoint that never answered may ignore `max_tokens`."""
        return not (self.has_answered or self.another_answered or self.is_free)

    def may_send(self, in_flight: int, now_s: float) -> bool:
        """Whether a request may leave now, while `in_flight` requests are in flight."""
        if self.awaits_first_reply and in_flight:
            return False
        if self.down_since_s is not None:
            return self._probe_sent_s is None and (self._probe_now or now_s >= self._next_probe_s())
        return not self.fruitless or self.fruitless + in_flight < self._share_of(MOST_FRUITLESS)

    def wait_s(self, now_s: float) -> float:
        """Returns how many seconds it takes until the clock alone lets the next request leave. 0: it waits for
        something else, or for nothing."""
        if self.down_since_s is None or self._probe_sent_s is not None or self._probe_now:
            return 0.0
        return max(0.0, self._next_probe_s() - now_s)

    def sent(self, now_s: float) -> None:
        """Notes that a request leaves now."""
        if self.down_since_s is not None:
            self._probes += 1
            self._probe_sent_s, self._probe_now = now_s, False

    def withdrawn(self, sent_s: float) -> None:
        """Notes that the request which was let go at `sent_s` was not sent after all, or says nothing of an outage."""
        if sent_s == self._probe_sent_s:
            self._probes -= 1
            self._probe_sent_s = None

    def answered(self, now_s: float) -> None:
        """Notes an answer."""
        self.has_answered, self._answered_s = True, now_s
        self.fruitless = self._probes = self._alike = 0
        self.down_since_s = self._probe_sent_s = None
        self._is_up = self._probe_now = False
        self._rests = 0

    def rest(self, now_s: float) -> None:
        """Leaves an endpoint that is `over` out for a while, since others answer in its place."""
        self.over = None
        if now_s >= self._rest_until_s or not self._rests:
            self._rest_until_s = now_s + min(SHORT_WAIT_S * 2**self._rests, LONGEST_REST_S)
            self._rests += 1
        self._probes = self._alike = 0
        if self.down_since_s is None:
            self.down_since_s = now_s

    def _share_of(self, most: int) -> int:
        return max(FEWEST_FRUITLESS, most // self.replicas)

    def failed(self, failure: AttemptFailed, sent_s: float, now_s: float) -> None:
        """Notes how the request that was let go at `sent_s` failed. Sets `over` when nothing more is asked."""
        if isinstance(failure, Throttled | RowRefused | RunRefused):
            self.withdrawn(sent_s)
            if isinstance(failure, Throttled) and now_s - self._answered_s > max(
                REFUSED_TOO_LONG_S, self.outage_wait_s
            ):
                self.over = Over.THROTTLED
            if isinstance(failure, RowRefused) and failure.reply is None and not self.has_answered:
                self._refused(failure.message)
            return
        self.fruitless += 1
        if sent_s == self._probe_sent_s:
            self._probe_sent_s = None
        # An endpoint whose first reply does not come in time may be one that never answers in time.
        if self.down_since_s is None and (
            self.fruitless >= self._share_of(MOST_FRUITLESS) or (self.awaits_first_reply and isinstance(failure, Late))
        ):
            self.down_since_s = now_s
        if self.down_since_s is not None and self._probe_sent_s is None:
            waited = now_s >= self.down_since_s + self.outage_wait_s
            self.over = Over.DOWN if waited or self._probes >= MOST_PROBES else self.over

    def heard_models(self, is_up: bool) -> None:
        """Notes whether the endpoint answers `GET /models`. When it does so again, a probe leaves at once; the last
        probe is kept for the end of the wait."""
        self._probe_now = self._probe_now or (is_up and not self._is_up and self._probes < MOST_PROBES - 1)
        self._is_up = is_up

    def _next_probe_s(self) -> float:
        """Returns when the next probe is due. Each is due a constant factor later after the outage's begin than the one
        before, the first after a second, the last at the end of the wait. One that rests is probed after that."""
        if self._rests:
            return self._rest_until_s
        step = max(self.outage_wait_s, SHORT_WAIT_S) ** (1 / (MOST_PROBES - 1))
        share: float = step ** (self._probes + 1 - MOST_PROBES)
        return (self.down_since_s or 0.0) + self.outage_wait_s * share

    def _refused(self, message: str) -> None:
        words = re.sub(r"\w*\d\w*", "#", message)  # the same refusal tells each row's own numbers
        self._alike = self._alike + 1 if words == self._refusal else 1
        self._refusal = words
        if self._alike >= self._share_of(MOST_ALIKE):
            self.over = Over.REFUSES_ROWS
