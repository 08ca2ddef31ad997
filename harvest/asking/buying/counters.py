"""Counts what one session of asking has done so far, for the display. The report's figures come from the store
instead."""

from dataclasses import dataclass, field

from harvest.asking.buying.cap import SharedCap


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
    rejected: int = 0
    by_student: int = 0
    """How many questions the student solved."""
    failed_tries: int = 0
    reused: int = 0
    """How many answers the store had already, so that nothing was sent for them."""
    output_tokens: int = 0
    in_flight: int = 0
    """How many tries are sent, or about to be sent, and not answered yet."""
    peak_in_flight: int = 0
    stopping: bool = False
    """Whether asking has stopped, so that only the requests in flight are waited for."""
    warnings: list[str] = field(default_factory=list)
