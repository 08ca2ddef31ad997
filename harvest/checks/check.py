"""Defines what a check is, and holds what all checks share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from harvest.core.nouns import Outcome, Question, Verdict
from harvest.core.printable import one_line

Work = Mapping[str, Any]
"""The JSON values that a worker process needs to finish a check (`Check.work`)."""

Finding = tuple[Outcome, str]
"""(the outcome, the reason in words)."""


class Check(ABC):
    """A way to judge answers.

    Each check has one file and one row in the table. It gets a new version whenever its verdicts change.
    """

    name: str
    version: str
    limit_s: float | None = None
    """The most seconds that `work` may take in a worker. None: the limit of the pool holds."""

    @abstractmethod
    def quick(self, question: Question, answer: str) -> Finding | Work:
        """Returns the finding if that is safe and cheap; else the work for a process that can be killed.

        This method runs in the process that owns the money and the store. So it never evaluates what a model wrote, and
        its time is linear in the answer's length.
        """

    def work(self, work: Work) -> Finding:
        """Finishes the work that `quick` returned, and returns the finding.

        This method runs only in a worker. It may hang, take all memory, or die.
        """
        raise NotImplementedError(f"the check {self.name!r} leaves no work to a worker")

    def prepare(self) -> None:
        """Imports what `work` needs, so that no answer's time limit covers the imports."""
        return None

    def own_answer(self, question: Question) -> str | None:
        """Returns the gold answer as a teacher would state it; None if the question has no gold answer."""
        return None if question.answer is None else f"\\boxed{{{question.answer}}}"

    def verdict(self, finding: Finding) -> Verdict:
        """Returns the verdict: the finding with the check's name and version."""
        return Verdict(self.name, self.version, *finding)


def right_or_wrong(right: bool, detail: str) -> Finding:
    return (Outcome.RIGHT if right else Outcome.WRONG), detail


def no_answer(why: str) -> Finding:
    """Returns the finding for an answer that states no result."""
    return Outcome.NO_ANSWER, f"no final answer found: {why}"


def two_answers(which: str) -> Finding:
    """Returns the finding for an answer that states two different results."""
    return Outcome.WRONG, f"two different answers: {which}"


def shown(text: str, most: int = 80) -> str:
    """Returns a model's text as one line of at most `most` characters, for the detail of a verdict."""
    return one_line(text, most)
