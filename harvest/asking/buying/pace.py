"""Says how fast to ask one endpoint, and how many requests to have in flight at once. The code is pure: it is told what
happened and when (in seconds of any clock), and says whether the next request may leave.

There are two limits. The first is how many requests are *in flight*. It starts small and goes up to the user's ceiling:
with each reply, and with each second in which as many requests are in flight as the limit allows. (A reasoning answer
takes a minute, so with replies alone it would take many minutes to reach the ceiling.) The second is how many *requests
a second* leave. There is no such limit until the endpoint refuses, or announces that nothing is left. Then single
probes find the moment at which the endpoint takes requests again. What it took from the first request to that moment
gives the rate. From there the rate changes by small steps: up while nothing is refused, and down at a refusal, but only
once for all requests that were sent before the last step (additive increase, multiplicative decrease: Chiu and Jain
1989).
"""

from dataclasses import dataclass

from harvest.endpoint.announced_limits import Announced

START = 16
"""How many requests may be in flight at first."""
LONGEST_WAIT_S = 60.0
"""The longest time in seconds that a wait of any kind takes, whatever the endpoint says."""
FIRST_PROBE_S = 0.05
"""The wait in seconds before the first probe after a refusal that names no time. Each further wait is PROBE_GROWTH
times as long."""
PROBE_GROWTH = 1.5
SETTLED_S = 0.25
"""A probe counts as taken if it was not refused within this many seconds. If four times the duration of the last
refusal is longer, that time counts instead."""
EVIDENCE, EVIDENCE_S = 8, 5.0
"""A rate is set only if this many requests were taken, or if the taking lasted for this many seconds."""
FULL = 8
"""After this many refusals in a row, we assume that the endpoint takes nothing now."""
OLD_S = 120.0
"""If the requests were taken over more than this many seconds, the rate measured from them is too old: it may not show
a limit that was just lowered."""
SLOWEST = 0.01
"""The lowest rate, in requests a second."""
DECREASE = 0.96
"""The factor by which the rate goes down at a refusal."""
NOTHING_LEFT = 0.99
"""The factor by which the rate goes down, without a refusal, when the endpoint announces that nothing is left."""
INCREASE_A_SECOND = 0.01
"""The share by which the rate goes up in each second without a refusal."""
CLIMB, CLIMB_EVERY_S = 1.5, 1.0
"""The factor by which the limit in flight goes up when it is reached, and how often that happens, in seconds."""
BURST_S = 0.1
"""After a pause, as many requests may leave at once as the rate allows in this many seconds."""


@dataclass(slots=True)
class Pace:
    """Keeps the pace of one endpoint."""

    ceiling: int
    """The user's max_concurrency."""
    limit: float = 0.0
    """How many requests may be in flight now."""
    rate: float | None = None
    """How many requests may leave in a second; None if the endpoint has not limited them so far."""
    refused: bool = False
    """Whether the endpoint ever refused a request for coming too fast."""
    announced: bool = False
    """Whether we ever had to wait for a limit that the endpoint announced."""
    tokens_a_request: float = 0.0
    """How many tokens an answer has on average, for limits on tokens."""
    _quiet_until_s: float = 0.0
    _epoch_s: float = -1.0
    _taken: int = 0
    _blocked: bool = False
    _probe_sent_s: float = -1.0
    _last_refused_s: float = 0.0
    _probe_gap_s: float = FIRST_PROBE_S
    _refusal_takes_s: float = 0.0
    _allowance: float = 1.0
    _reckoned_s: float = 0.0
    _cut_s: float = -1.0
    _climbed_s: float = 0.0
    _found: float = 0.0
    _in_a_row: int = 0
    _named_until_s: float = -1.0

    def __post_init__(self) -> None:
        self.limit = self.limit or float(min(self.ceiling, START))
        self._found = self.rate or 0.0

    def may_send(self, in_flight: int, now_s: float) -> bool:
        """Whether a request may leave now, while `in_flight` requests are in flight."""
        if now_s < self._quiet_until_s:
            return False
        if in_flight >= int(self.limit) and not self._climbs(now_s):
            return False
        if self._blocked:
            return self._probe_sent_s < 0 or self._probe_is_taken(now_s)
        if self.rate is None:
            return True
        return self._allowance_at(now_s) >= 1

    def wait_s(self, now_s: float) -> float:
        """Returns how many seconds it takes until the clock alone lets the next request leave. 0: the request waits for
        a reply, not for time."""
        quiet = self._quiet_until_s - now_s
        if self._blocked and self._probe_sent_s >= 0:
            return max(quiet, self._probe_sent_s + self._settled_s() - now_s, 0.001)
        if self.rate is not None and not self._blocked and (lacks := 1 - self._allowance_at(now_s)) > 0:
            return max(quiet, lacks / self.rate)
        climb = self._climbed_s + CLIMB_EVERY_S - now_s if self.limit < self.ceiling else 0.0
        return max(quiet, climb, 0.0)

    def _climbs(self, now_s: float) -> bool:
        """Raises the limit in flight, at most once a second, unless probes are being sent or the ceiling is reached.
        Returns whether it did."""
        if self._blocked or self.limit >= self.ceiling or now_s - self._climbed_s < CLIMB_EVERY_S:
            return False
        self.limit = min(float(self.ceiling), self.limit * CLIMB)
        self._climbed_s = now_s
        return True

    def quiet_s(self, now_s: float) -> float:
        """Returns for how many more seconds the endpoint has asked for quiet."""
        return max(0.0, self._quiet_until_s - now_s)

    def told(self, now_s: float, wait_s: float, rate: float | None, limit: float) -> None:
        """Takes in what another process found at the same endpoint: for how long it is to be left in peace, and, where
        we have found no limit yet, at which rate and with how many in flight it takes that process's requests."""
        if wait_s > 0:
            self._quiet_until_s = max(self._quiet_until_s, now_s + min(wait_s, LONGEST_WAIT_S))
        if rate is not None and self.rate is None and not self._blocked:
            self.rate = self._found = max(SLOWEST, rate)
            self.limit = max(1.0, min(self.limit, limit))
            self._allowance, self._reckoned_s, self._cut_s = 1.0, now_s, now_s

    def sent(self, now_s: float) -> None:
        """Notes that a request leaves now."""
        if self._epoch_s < 0:
            self._epoch_s = self._climbed_s = now_s
        if self._blocked:
            if self._probe_sent_s >= 0:
                self._unblock(now_s)
            else:
                self._probe_sent_s = now_s
        if self.rate is not None:
            self._allowance = self._allowance_at(now_s) - 1
            self._reckoned_s = now_s
        self._taken += 1

    def withdrawn(self, sent_s: float) -> None:
        """Notes that the request which the pace let go at `sent_s` was not sent after all."""
        self._taken -= 1
        if sent_s == self._probe_sent_s:
            self._probe_sent_s = -1.0

    def answered(self, tokens: int | None = None) -> None:
        """Notes a reply, and how many tokens its answer has."""
        self.limit = min(float(self.ceiling), self.limit + (1 if self.refused or self.announced else 3))
        self._in_a_row = 0
        if tokens is not None:
            self.tokens_a_request += (tokens - self.tokens_a_request) * (0.05 if self.tokens_a_request else 1.0)

    def refused_at(self, sent_s: float, now_s: float, retry_after_s: float | None) -> None:
        """Notes that a request sent at `sent_s` was refused for coming too fast."""
        self.refused = True
        self._taken -= 1
        self._refusal_takes_s = now_s - sent_s
        if retry_after_s is not None:
            self._named_until_s = now_s + min(retry_after_s, LONGEST_WAIT_S)
            self._quiet_until_s = max(self._quiet_until_s, self._named_until_s)
        if self._blocked:
            if sent_s == self._probe_sent_s:
                self._probe_again(sent_s, now_s)
        elif self.rate is None:
            self._block(sent_s, now_s)
        else:
            self._slow_down(sent_s, now_s)

    def heard(self, said: Announced, sent_s: float, now_s: float) -> None:
        """Notes what the endpoint announced that it had left when it took the request that was sent at `sent_s`.

        If nothing was left, no request leaves for a time: at most until the endpoint says that its limit is filled up
        again.
        """
        resets = []
        if said.requests is not None and said.requests < 1 and said.requests_reset_s is not None:
            resets.append(said.requests_reset_s)
        if said.tokens is not None and said.tokens < self.tokens_a_request and said.tokens_reset_s is not None:
            resets.append(said.tokens_reset_s)
        if not resets:
            return
        self.announced = True
        until = sent_s + min(max(resets), LONGEST_WAIT_S)
        if until > now_s:
            if self.rate is None and not self._blocked:
                self._block(now_s, now_s)
            if self._blocked or self.rate is None:
                self._named_until_s = max(self._named_until_s, until)
            else:
                until = min(until, now_s + 2 / self.rate)
            self._quiet_until_s = max(self._quiet_until_s, until)
        if self.rate is not None and not self._blocked and now_s - self._cut_s > CLIMB_EVERY_S:
            self.rate = max(SLOWEST, self._found / 2, self.rate * NOTHING_LEFT)
            self._cut_s = now_s

    def _slow_down(self, sent_s: float, now_s: float) -> None:
        """Lowers the rate a little, once for all requests sent before the last step, and never below half of the rate
        that the probes found: a refusal may have another cause than our speed. After many refusals in a row, with no
        answer between them, the rate is found anew."""
        if self.rate is None:
            return
        self._in_a_row += 1
        if self._in_a_row >= FULL:
            self._block(sent_s, now_s)
        elif sent_s > self._cut_s:
            self.rate = max(SLOWEST, self._found / 2, self.rate * DECREASE)
            self._cut_s = now_s
            self._quiet_until_s = max(self._quiet_until_s, now_s + min(1 / self.rate, 1.0))

    def _block(self, sent_s: float, now_s: float) -> None:
        """Stops all requests except single probes."""
        self._blocked, self._probe_sent_s = True, -1.0
        self._last_refused_s, self._probe_gap_s = sent_s, FIRST_PROBE_S
        self._quiet_until_s = max(self._quiet_until_s, now_s + self._probe_gap_s)

    def _probe_again(self, sent_s: float, now_s: float) -> None:
        self._last_refused_s, self._probe_sent_s = sent_s, -1.0
        self._quiet_until_s = max(self._quiet_until_s, now_s + self._probe_gap_s)
        self._probe_gap_s = min(self._probe_gap_s * PROBE_GROWTH, LONGEST_WAIT_S / 4)

    def _settled_s(self) -> float:
        return max(SETTLED_S, 4 * self._refusal_takes_s)

    def _probe_is_taken(self, now_s: float) -> bool:
        return now_s - self._probe_sent_s >= self._settled_s()

    def _unblock(self, now_s: float) -> None:
        """Ends the probing: at some moment between the last refusal and the probe that was taken, the endpoint began to
        take requests again. Sets the rate if there is enough evidence for it."""
        full_until_s = max(self._last_refused_s, min(self._named_until_s, self._probe_sent_s))
        again_s = (full_until_s + self._probe_sent_s) / 2
        span_s, taken = again_s - self._epoch_s, self._taken - 1
        self._blocked, self._probe_sent_s, self._in_a_row = False, -1.0, 0
        if taken < EVIDENCE and span_s < EVIDENCE_S:
            self.limit = max(1.0, self.limit / 2)
            self._epoch_s, self._taken = now_s, 0
            return
        rate = max(taken, 1) / max(span_s, 0.05)
        if self.rate is not None and span_s > OLD_S:
            rate = min(rate, self.rate / 2)
        self.rate = self._found = max(SLOWEST, rate)
        self._epoch_s, self._taken = again_s, 1
        self._allowance, self._reckoned_s, self._cut_s = 1.0, now_s, now_s

    def _allowance_at(self, now_s: float) -> float:
        """Returns how many requests may leave at once. Also raises the rate a little: the more time has passed, the
        more."""
        if self.rate is None:
            return 1.0
        passed = max(0.0, now_s - self._reckoned_s)
        calm = max(0.0, now_s - max(self._cut_s, 0.0))
        self.rate += self.rate * INCREASE_A_SECOND * min(passed, 1.0) * (1 + calm / 20)
        self._allowance = min(self._allowance + passed * self.rate, max(1.0, self.rate * BURST_S))
        self._reckoned_s = now_s
        return self._allowance
