"""How many requests at once. Pure: told what happened and when (seconds of any clock), it says how many may run.

Additive increase, multiplicative decrease, as TCP does it: doubling while nothing is refused, then one more for
each round of replies, down by three tenths at a refusal, and no more than once for the requests of one round.
Source: Chiu and Jain, "Analysis of the Increase and Decrease Algorithms" (1989); RFC 5681 for slow start.
"""

from dataclasses import dataclass, field

START = 16
DECREASE = 0.7
LONGEST_WAIT_S = 60.0


@dataclass(slots=True)
class Pace:
    """The state for one teacher. `ceiling` is the user's max_concurrency."""

    ceiling: int
    limit: float = 0.0
    """How many may be in flight now."""
    quiet_until_s: float = 0.0
    """No request leaves before this moment."""
    refusals_in_a_row: int = 0
    refused: bool = False
    """Whether any request was ever refused for coming too fast."""
    _climbing: bool = field(default=True)
    _cut_at_s: float = field(default=-1.0)

    def __post_init__(self) -> None:
        self.limit = self.limit or float(min(self.ceiling, START))

    def may_send(self, in_flight: int, now_s: float) -> bool:
        return in_flight < int(self.limit) and now_s >= self.quiet_until_s

    def answered(self) -> None:
        """A reply came that was no refusal."""
        self.refusals_in_a_row = 0
        step = 1.0 if self._climbing else 1.0 / self.limit
        self.limit = min(float(self.ceiling), self.limit + step)

    def refused_at(self, sent_s: float, now_s: float, retry_after_s: float | None) -> None:
        """A request sent at `sent_s` was refused for coming too fast.

        One round's refusals count once: only what was sent after the last decrease decreases again.
        """
        self.refused = True
        self.refusals_in_a_row += 1
        self._climbing = False
        if sent_s > self._cut_at_s:
            self.limit = max(1.0, self.limit * DECREASE)
            self._cut_at_s = now_s
        if retry_after_s is not None:
            self.quiet_until_s = max(self.quiet_until_s, now_s + min(retry_after_s, LONGEST_WAIT_S))
        elif self.limit <= 1.0:
            wait = min(LONGEST_WAIT_S, 0.5 * 2 ** min(self.refusals_in_a_row, 7))
            self.quiet_until_s = max(self.quiet_until_s, now_s + wait)
