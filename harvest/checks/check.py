"""What a check is, and what all checks share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from harvest.core.nouns import Outcome, Question, Verdict
from harvest.core.printable import one_line

Work = Mapping[str, Any]
"""JSON values that a worker process needs to finish a check; see `Check.work`."""

Finding = tuple[Outcome, str]
"""The outcome, and the reason in words."""


class Check(ABC):
    """A way to judge answers. Each has one file, one row in the table, and a new version when its verdicts change."""

    name: str
    version: str
    limit_s: float | None = None
    """How long `work` may take in a worker. None: as long as the pool allows."""

    @abstractmethod
    def quick(self, question: Question, answer: str) -> Finding | Work:
        """The finding, where that is safe and cheap; else the work for a process that can be killed.

        It runs in the process that owns the money and the store. So it never evaluates what a model wrote, and its
        time is linear in the answer's length.
        """

    def work(self, work: Work) -> Finding:
        """Finishes the work that `quick` returned. It runs only in a worker, and may hang, take all memory or die."""
        raise NotImplementedError(f"the check {self.name!r} leaves no work to a worker")

    def prepare(self) -> None:
        """Imports what `work` needs, so that the time for it does not count for an answer."""
        return None

    def own_answer(self, question: Question) -> str | None:
        """The gold answer as a teacher would state it; None where the question has none."""
        return None if question.answer is None else f"\\boxed{{{question.answer}}}"

    def verdict(self, finding: Finding) -> Verdict:
        """The finding with the check's name and version."""
        return Verdict(self.name, self.version, *finding)


def right_or_wrong(right: bool, detail: str) -> Finding:
    return (Outcome.RIGHT if right else Outcome.WRONG), detail


def no_answer(why: str) -> Finding:
    """For an answer that states no result."""
    return Outcome.NO_ANSWER, f"no final answer found: {why}"


def two_answers(which: str) -> Finding:
    """For an answer that states two different results."""
    return Outcome.WRONG, f"two different answers: {which}"


def shown(text: str, most: int = 80) -> str:
    """A short line of what a model wrote, for a verdict's detail."""
    return one_line(text, most)
