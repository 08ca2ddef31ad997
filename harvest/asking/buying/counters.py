"""Counts what one session of asking has done so far, for the display. The report's figures come from the store
instead."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from harvest.asking.buying.cap import SharedCap

LONG_S = 5.0
"""What is waited for is shown after so many seconds."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Says what an endpoint's requests wait for."""

    what: str
    since: datetime
    longest_s: float | None = None
    """How long it is waited for at most; None: as long as it takes."""

    def words(self, at: datetime) -> str | None:
        """Returns a line like `the teacher is down since 14:02:11: waiting for 80 of 3,600 s`; None while the wait is
        short."""
        waited_s = (at - self.since).total_seconds()
        if waited_s < LONG_S:
            return None
        most = "" if self.longest_s is None else f" of {self.longest_s:,.0f}"
        return f"{self.what} since {self.since:%H:%M:%S}: waiting for {waited_s:,.0f}{most} s"


class Limits(Protocol):
    """Says how many requests may be in flight at an endpoint now and at most, and how many may leave in a second."""

    @property
    def ceiling(self) -> int: ...
    @property
    def limit(self) -> float: ...
    @property
    def rate(self) -> float | None: ...


@dataclass(slots=True)
class Counters:
    """Holds the run's figures: they start from what the store had when the session began, and are counted on from
    there."""

    run: str
    """The run's name."""
    cap: SharedCap
    questions: int = 0
    ended: int = 0
    """How many questions are solved or given up."""
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    """How many answers were rejected, by the reason."""
    is_priced: bool = True
    """Whether the price of everyone who is asked is known. If not, `cap.spent_pusd` is not the whole cost."""
    by_student: int = 0
    """How many questions the student solved."""
    by_public: int = 0
    """How many questions a public answer solved, so that no teacher was asked."""
    failed_tries: int = 0
    reused: int = 0
    """How many answers the store had already, so that nothing was sent for them."""
    output_tokens: int = 0
    in_flight: int = 0
    """How many tries are sent, or about to be sent, and not answered yet."""
    in_batches: int = 0
    """How many rows are in batches that have not ended."""
    peak_in_flight: int = 0
    stopping: bool = False
    """Whether asking has stopped, so that only the requests in flight are waited for."""
    paces: dict[str, Limits] = field(default_factory=dict)
    """How fast each endpoint is asked, by what messages call it."""
    waiting: dict[str, Waiting] = field(default_factory=dict)
    """What endpoints are waited for, by what messages call them."""
    warnings: list[str] = field(default_factory=list)
