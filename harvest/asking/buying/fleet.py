"""Holds the replicas of one endpoint: addresses that serve the same model and are asked as one teacher. Most teachers
have one. The code is pure: it is told what happened and when (in seconds of any clock), and says which replica takes
the next request.

The replica with the least load takes it. A replica's load is the number of its requests in flight, times the square of
the time that an answer takes there. The square keeps requests away from a slow replica, where each one would hold a
place of max_concurrency for long, and still gives two that differ little about the same.

A question's further requests go to the replica that had the first one, as long as that has room: it may still hold the
question's prompt in its KV cache.
"""

import math
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from harvest.asking.buying.breaker import Breaker
from harvest.asking.buying.pace import Pace
from harvest.core.errors import AttemptFailed

NEWEST = 0.05
"""The least weight of the newest answer in a replica's mean time of an answer."""
FEW = 8
"""A replica's mean time counts as if so many more answers had come in the time of the quickest replica: one answer that
took long by chance does not say that the replica is slow."""
FORGOTTEN_S = 20.0
"""A replica that was not asked for so many seconds, since it was slow, gets one request: it may have become faster."""
FULL_SHARE = 1.25
"""A replica has no room for more requests of its questions when it has this many times its equal share in flight."""
QUESTIONS_KEPT = 16_384
"""For so many questions, the newest ones, it is known which replica had them first."""


@dataclass(slots=True, eq=False)
class Replica:
    """One address that serves the model, and what was found out about it."""

    pace: Pace
    breaker: Breaker
    address: str = ""
    refusal: AttemptFailed | None = None
    """Why the replica answers nothing at all, e.g. since it serves another model. It is asked no more in this
    session."""
    in_flight: int = 0
    answer_s: float | None = None
    """How long an answer takes, as a mean of the last ones. None: none came yet."""
    _heard_s: float = 0.0
    _answers: int = 0

    @property
    def is_left_out(self) -> bool:
        """Whether the replica refuses for good, or was down for so long that the run goes on without it."""
        return self.refusal is not None or self.breaker.is_resting

    @property
    def is_up(self) -> bool:
        return self.refusal is None and not self.breaker.is_down

    def may_send(self, now_s: float) -> bool:
        return self.breaker.may_send(self.in_flight, now_s) and self.pace.may_send(self.in_flight, now_s)

    def wait_s(self, now_s: float) -> float:
        """Returns how many seconds it takes until the clock alone lets the next request leave. 0: it waits for
        something else."""
        return max(self.pace.wait_s(now_s), self.breaker.wait_s(now_s))

    def sent(self, now_s: float) -> None:
        """Notes that a request leaves now."""
        if not self.in_flight:
            self._answers = min(self._answers, 1) if self._is_forgotten(now_s) else self._answers
            self._heard_s = now_s
        self.in_flight += 1
        self.pace.sent(now_s)
        self.breaker.sent(now_s)

    def answered(self, sent_s: float, now_s: float) -> None:
        """Notes that the request that left at `sent_s` was answered."""
        took_s, self._heard_s = now_s - sent_s, now_s
        self._answers += 1
        before_s = took_s if self.answer_s is None else self.answer_s
        self.answer_s = before_s + (took_s - before_s) * max(NEWEST, 1 / self._answers)

    def load(self, now_s: float, unknown_s: float) -> float:
        """Returns the replica's load with one more request. Without an answer for longer than one takes, an answer is
        expected to take as long as nothing came. `unknown_s` is the time of the quickest replica."""
        known = 0.0 if self._is_forgotten(now_s) else min(self._answers, 1 / NEWEST)
        mean_s = ((self.answer_s or 0.0) * known + unknown_s * FEW) / (known + FEW)
        silent_s = now_s - self._heard_s if self.in_flight else 0.0
        return (self.in_flight + 1) * max(mean_s, silent_s) ** 2

    def _is_forgotten(self, now_s: float) -> bool:
        return not self.in_flight and now_s - self._heard_s >= FORGOTTEN_S


class Fleet:
    """Knows all replicas of one endpoint, and which questions each one had."""

    def __init__(self, replicas: Sequence[Replica], ceiling: int) -> None:
        """`ceiling` is the most requests that may be in flight at all replicas together."""
        self.replicas, self.ceiling = list(replicas), ceiling
        self._had: OrderedDict[int, Replica] = OrderedDict()
        self.heed_first_reply()

    def heed_first_reply(self) -> None:
        """Lets the first reply of one replica count for all: the run waits for it once."""
        if any(replica.breaker.has_answered for replica in self.replicas):
            for replica in self.replicas:
                replica.breaker.another_answered = True

    @property
    def in_flight(self) -> int:
        return sum(replica.in_flight for replica in self.replicas)

    @property
    def limit(self) -> float:
        """How many requests may be in flight now."""
        return min(float(self.ceiling), sum(r.pace.limit for r in self.asked()))

    @property
    def rate(self) -> float | None:
        """How many requests may leave in a second; None if one of the replicas has not limited them."""
        rates = [r.pace.rate for r in self.asked()]
        return None if None in rates else sum(rate for rate in rates if rate is not None)

    def asked(self) -> list[Replica]:
        """Returns the replicas that have not refused for good."""
        return [r for r in self.replicas if r.refusal is None]

    def others_than(self, tried: Collection[Replica]) -> list[Replica]:
        """Returns the replicas that are up and not among those that were `tried`."""
        return [r for r in self.replicas if r.is_up and r not in tried]

    def choose(self, now_s: float, question_id: int | None = None, tried: Collection[Replica] = ()) -> Replica | None:
        """Returns the replica that takes the next request, which is about this question; None if none may take one now.

        A replica that is down takes a probe when one is due. Replicas in `tried` have failed this request: they take it
        again only if no other one is up.
        """
        if self.in_flight >= self.ceiling:
            return None
        found = self.asked()
        if self.others_than(tried):
            found = [r for r in found if r not in tried]
        first = None if question_id is None else self._had.get(question_id)
        if len(found) > 1:
            first = first if first is not None and self._has_room(first) else None
            unknown_s = min((r.answer_s for r in found if r.answer_s is not None), default=1.0)
            found.sort(key=lambda r: (r.is_up, r is not first, r.load(now_s, unknown_s)))
        return next((r for r in found if r.may_send(now_s)), None)

    def sent(self, replica: Replica, question_id: int | None, now_s: float) -> None:
        """Notes that a request about this question leaves for a replica now."""
        replica.sent(now_s)
        if question_id is not None and replica.is_up and len(self.replicas) > 1:
            self._had[question_id] = replica
            if len(self._had) > QUESTIONS_KEPT:
                self._had.popitem(last=False)

    def _has_room(self, replica: Replica) -> bool:
        share = math.ceil(FULL_SHARE * self.ceiling / max(1, len(self.others_than(()))))
        return replica.in_flight < min(int(replica.pace.limit), share)
