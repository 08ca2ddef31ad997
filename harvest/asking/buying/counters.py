"""What one session of asking has done so far, for the display. The report's figures come from the store."""

from dataclasses import dataclass, field

from harvest.asking.buying.cap import SharedCap


@dataclass(slots=True)
class Counters:
    """The figures of the run when the session began, and counted on from there."""

    run: str
    """The run's name."""
    cap: SharedCap
    questions: int = 0
    ended: int = 0
    """Questions that are solved or given up."""
    accepted: int = 0
    rejected: int = 0
    by_student: int = 0
    """Questions that the student solved."""
    failed_tries: int = 0
    reused: int = 0
    """Answers that the store had already, so that nothing was sent for them."""
    output_tokens: int = 0
    in_flight: int = 0
    """Tries that are sent, or about to be, and not answered."""
    peak_in_flight: int = 0
    stopping: bool = False
    """Whether nothing more is asked and only what is in flight is waited for."""
    warnings: list[str] = field(default_factory=list)
