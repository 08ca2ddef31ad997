"""What a check is, and the few things that all of them share."""

from collections.abc import Mapping
from typing import Any, Protocol

from harvest.core.nouns import Outcome, Question, Verdict
from harvest.core.printable import one_line

Work = Mapping[str, Any]
"""JSON values that a worker process needs to finish a judgement; see `Check.work`."""

Finding = tuple[Outcome, str]


class Check(Protocol):
    """A way to judge answers. One file, one row in the table, a new version for new verdicts."""

    name: str
    version: str

    def quick(self, question: Question, answer: str) -> Finding | Work:
        """The finding, where it is safe and cheap to get; else the work that a killable process finishes.

        Runs in the process that owns the money and the store: it never evaluates what a model wrote, and its
        time is linear in the answer's length.
        """
        ...

    def work(self, work: Work) -> Finding:
        """Finishes what `quick` put off. Runs in a worker alone: may hang, swell or die."""
        ...

    def prepare(self) -> None:
        """Imports what `work` needs, so that the time it takes is not counted against an answer."""
        ...

    def own_answer(self, question: Question) -> str | None:
        """The gold answer as a teacher would state it. None: there is none to judge by."""
        ...


def verdict(check: Check, finding: Finding) -> Verdict:
    outcome, detail = finding
    return Verdict(check.name, check.version, outcome, detail)


def shown(text: str, most: int = 80) -> str:
    """A short line of what a model wrote, for a verdict's detail."""
    return one_line(text, most)
