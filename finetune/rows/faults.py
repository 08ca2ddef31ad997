"""Says what can be wrong with a row of a dataset: the kinds of faults, their remedies, and the rows that have them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from harvest.core.errors import DatasetError

SHOWN = 20
"""At most this many rows of one kind are named; further rows are only counted."""
NUMBER = re.compile(r"\d+")
"""Finds numbers in a reason, for example of a message or of tokens. Reasons that differ only in numbers are one
reason."""


class Kind(NamedTuple):
    """A kind of finding has a title that follows a number of rows, and a remedy that says what to do.

    A kind with `is_fault` stops the training.
    """

    title: str
    remedy: str
    is_fault: bool = True


KINDS = {
    "unreadable": Kind("cannot be read", "write the file again, one JSON object a line, in UTF-8"),
    "layout": Kind(
        "are of no known layout",
        "give `messages`, `conversations`, `prompt` and `completion`, or `instruction` and `output`",
    ),
    "roles": Kind(
        "have roles that cannot be trained",
        "roles go (system,) user, assistant, user, …: join neighbours of one role, rename or leave out others",
    ),
    "nothing": Kind("have nothing to train", "let each end with an assistant's turn, or leave it out"),
    "empty": Kind("have an empty message", "leave them out: an empty answer teaches to say nothing"),
    "content": Kind("have a content that is no text", "write the content as one text"),
    "tools": Kind("call tools", "leave them out: tool calls cannot be trained yet"),
    "chain": Kind(
        "have a chain without its end or its beginning",
        "leave out what was cut short; where the server's template wrote the opening mark, put it in front",
    ),
    "answer": Kind("have a chain and no answer", "leave them out, or ask again with more tokens"),
    "lost": Kind("have lost their chain", "put the row's `reasoning` before the answer, or export the run again"),
    "cut": Kind("were cut short by the teacher's limit", "leave them out, or ask again with more tokens"),
    "characters": Kind(
        "hold characters that the student's tokenizer does not keep", "leave the characters out, or the row"
    ),
    "no chain": Kind(
        "have no chain, though the student's template opens one",
        "leave them out, or take a student whose template opens none",
    ),
    "too long": Kind("are longer than render.max_tokens", 'raise it, or leave them out with render.too_long = "drop"'),
    "left out": Kind("are too long and left out", "raise render.max_tokens to keep them", is_fault=False),
    "duplicate": Kind("are the same as an earlier row", "keep one of each", is_fault=False),
    "overlap": Kind(
        "ask a question of the evaluation", "leave them out, else the evaluation measures memory", is_fault=False
    ),
    "chainless": Kind(
        "have no chain, though others have one", "leave them out, unless short answers are wanted", is_fault=False
    ),
    "quoted": Kind(
        "hold the text of the student's special tokens",
        "if a chat template was applied already, undo that: it is applied here, and the text is trained as text",
        is_fault=False,
    ),
    "loop": Kind("end in a loop", "leave them out: they teach answers without end", is_fault=False),
    "marks": Kind(
        "begin in marks around a chain that are not known",
        "name them in render.reasoning, or replace them by <think> and </think>",
        is_fault=False,
    ),
    "rejected": Kind("failed a check", "export with --which accepted, unless that is the experiment", is_fault=False),
}


class RowFault(DatasetError, ValueError):
    """Says that a row cannot be trained as it is, with the kind of fault (a key of KINDS) and the reason."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason

    def __str__(self) -> str:
        return self.reason


class Finding(NamedTuple):
    """What was found about one row. `row` counts from 0; `where` names the row and its line in the file."""

    row: int
    where: str
    reason: str


@dataclass(slots=True)
class Findings:
    """Keeps findings by kind: the first rows of each kind, and how many rows there are."""

    of: dict[str, list[Finding]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, row: int, where: str, reason: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        first = self.of.setdefault(kind, [])
        if len(first) < SHOWN:
            first.append(Finding(row, where, reason))

    @property
    def faults(self) -> int:
        """Returns how many rows cannot be trained."""
        return sum(n for kind, n in self.counts.items() if KINDS[kind].is_fault)

    def kinds(self) -> Iterator[tuple[str, Kind, int, list[Finding]]]:
        """Yields (kind, its words, the number of its rows, the first of its rows), faults first, then as in KINDS."""
        for kind, words in sorted(KINDS.items(), key=lambda item: not item[1].is_fault):
            if kind in self.counts:
                yield kind, words, self.counts[kind], self.of[kind]

    def stop(self, source: str) -> None:
        """Raises DatasetError when there are faults. The error has `lines`."""
        if lines := self.lines(source):
            raise DatasetError("\n".join(lines))

    def lines(self, source: str) -> list[str]:
        """Returns a line for each reason with its rows, and a count of further rows; none when there are no faults.

        Every kind has at least one line.
        """
        if not self.faults:
            return []
        by_reason: dict[tuple[str, str], list[Finding]] = {}
        for kind, found in self.of.items():
            for f in found if KINDS[kind].is_fault else ():
                by_reason.setdefault((kind, NUMBER.sub("0", f.reason)), []).append(f)
        groups = [(rows, kind) for (kind, _), rows in by_reason.items()]
        one_each = [next(g for g in groups if g[1] == kind) for kind in dict.fromkeys(kind for _, kind in groups)]
        others = sorted(g for g in groups if g not in one_each)
        shown = sorted([*one_each, *others][: max(SHOWN, len(one_each))])
        lines = [f"{source}: {_in_words(rows)}; {KINDS[kind].remedy}" for rows, kind in shown]
        more = self.faults - sum(len(rows) for rows, _ in shown)
        return [*lines, *([f"and {more} more rows like these"] if more else [])]


def _in_words(rows: Sequence[Finding]) -> str:
    first, *others = rows
    more = f" (so {', '.join(f'row {f.row}' for f in others)})" if others else ""
    return f"{first.where}: {first.reason}{more}"
