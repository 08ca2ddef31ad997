"""Says when a session stops asking, and why. The signals themselves are handled in session.py."""

from collections.abc import Callable
from dataclasses import dataclass

from harvest.asking.buying.about_answers import AboutAnswers
from harvest.asking.buying.buyer import Buyer
from harvest.asking.buying.counters import Counters
from harvest.asking.planning.plan import Rules
from harvest.core.errors import CapReached, Overbilled, TeacherRefused, WinnowError
from harvest.core.nouns import STUDENT

INTERRUPTED = 130
STATUS: dict[type[WinnowError], str] = {
    CapReached: "stopped_at_cap",
    Overbilled: "overbilled",
    TeacherRefused: "refused",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """Says how a session ended: the status in the report, the exit code, and what to tell the user."""

    status: str
    exit_code: int
    words: str | None = None
    reason: WinnowError | None = None
    is_last: bool = True
    """Whether no other process was collecting the run when this session ended."""

    @property
    def stopped_by(self) -> str | None:
        """What the teacher did to end the session (`TeacherRefused.stopped_by` and its subclasses); None: nothing."""
        return self.reason.stopped_by if isinstance(self.reason, TeacherRefused) else None


class Stopping:
    """Knows who may still be asked. `buyers` (by place) and `about_answers` are set as soon as they exist."""

    def __init__(self, rules: Rules, counters: Counters) -> None:
        self.buyers: dict[int, Buyer] = {}
        self.about_answers: list[AboutAnswers] = []
        self.reason: WinnowError | None = None
        """Why the session stopped before everything was done."""
        self.interrupted = False
        self.is_stopping = False
        self.when_stopping: list[Callable[[], None]] = []
        """Functions that are called when the session stops."""
        self._counters = counters
        # Every new question is asked of these first: without one of them none can be.
        self._needed = {STUDENT} if rules.student else set[int]()
        self._needed |= {0} if rules.mode == "cascade" else set()

    def stop(self, reason: WinnowError | None = None) -> None:
        """Stops all asking. Requests in flight are waited for, since they are paid for."""
        if self.reason is None or isinstance(reason, Overbilled):
            self.reason = reason
        self.is_stopping = self._counters.stopping = True
        for about in self.about_answers:
            about.stop(capped=isinstance(reason, CapReached))
        for buyer in self.buyers.values():
            buyer.stop()
        for call in self.when_stopping:
            call()

    def interrupt(self) -> None:
        """Stops the session for the user; the next session goes on from here."""
        self.interrupted = True
        self.stop()

    def buyer_ended(self, buyer: Buyer, reason: WinnowError) -> None:
        """Notes that nothing more can be asked of one teacher, or of the student.

        No dearer teacher is asked instead: questions that need this one wait for the next session. Asking ends when
        every new question needs this teacher or student, or when no teacher is left.
        """
        was_open = buyer.is_open
        buyer.stop()
        left = any(b.is_open for place, b in self.buyers.items() if place != STUDENT)
        if isinstance(reason, Overbilled) or not left or any(buyer is self.buyers[place] for place in self._needed):
            self.stop(reason)
        elif was_open and not self.is_stopping:  # once, though many of its tries may end so
            self._counters.warnings.append(f"{reason}; the others go on, and what needs it stays open")

    def about_ended(self, stays: str, buyer: Buyer, reason: WinnowError) -> None:
        """Notes that nothing more can be asked of the judging or the rewriting model. The checks' verdicts and the
        answers as they came stand then, which `stays` says in words."""
        was_open = buyer.is_open
        buyer.stop()
        if isinstance(reason, Overbilled):
            self.stop(reason)
        elif was_open and isinstance(reason, TeacherRefused):
            self._counters.warnings.append(f"{buyer.name} answers nobody, {stays}: {reason}")

    def ending(self) -> Ending:
        """Returns how the session ended and why: the user stopped it, or `reason` did, or else the gravest reason for
        which one teacher or the student was no longer asked."""
        ended = [b.reason for b in self.buyers.values() if b.reason is not None]
        reason = self.reason or min(ended, key=lambda e: not isinstance(e, TeacherRefused), default=None)
        if self.interrupted and (reason is None or self.reason is None):
            return Ending("interrupted", INTERRUPTED, "the same command goes on from here")
        if reason is None:
            return Ending("complete", 0)
        status = next((status for kind, status in STATUS.items() if isinstance(reason, kind)), "interrupted")
        return Ending(status, reason.exit_code, str(reason), reason)

    def limited_by(self) -> str:
        """Returns what kept the session from asking faster, for the report."""
        buyers = self.buyers.values()
        if any(buyer.was_short_of_money for buyer in buyers):
            return "cap"
        paces = [replica.pace for buyer in buyers for replica in buyer.fleet.replicas]
        if any(pace.announced for pace in paces):
            return "announced limit"
        if any(pace.refused for pace in paces):
            return "refusals"
        teachers = [b.run.config.teacher for b in buyers]
        is_theirs = bool(teachers) and all(t.local is not None or t.mode == "batch" for t in teachers)
        return "teacher" if is_theirs else "concurrency"
