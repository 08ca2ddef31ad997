"""What a check is, and what all checks share."""

from collections.abc import Mapping
from typing import Any, Protocol

from harvest.core.nouns import Outcome, Question, Verdict
from harvest.core.printable import one_line

Work = Mapping[str, Any]
"""JSON values that a worker process needs to finish a judgement; see `Check.work`."""

Finding = tuple[Outcome, str]


class Check(Protocol):
    """A way to judge answers. Each has one file, one row in the table, and a new version when its verdicts change."""

    name: str
    version: str

    def quick(self, question: Question, answer: str) -> Finding | Work:
        """The finding, where that is safe and cheap; else the work for a process that can be killed.

        It runs in the process that owns the money and the store. So it never evaluates what a model wrote, and its
        time is linear in the answer's length.
        """
        ...

    def work(self, work: Work) -> Finding:
        """Finishes the work that `quick` returned. It runs only in a worker, and may hang, take all memory or die."""
        ...

    def prepare(self) -> None:
        """Imports what `work` needs, so that the time for it does not count for an answer."""
        ...

    def own_answer(self, question: Question) -> str | None:
        """The gold answer as a teacher would state it; None where the question has none."""
        ...


def verdict(check: Check, finding: Finding) -> Verdict:
    outcome, detail = finding
    return Verdict(check.name, check.version, outcome, detail)


def shown(text: str, most: int = 80) -> str:
    """A short line of what a model wrote, for a verdict's detail."""
    return one_line(text, most)
