"""Chooses the trainings from which it is fitted where the next dollars go, and counts what they train on. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finetune.run import ScoredAnswer
from finetune.tryout.buying import Setup
from finetune.tryout.cells import Cell

HELD_OUT_SHARE, MOST_HELD_OUT = 0.1, 50
"""This share of the questions, and no more than so many, is read for the held-out loss and trained by nobody."""


@dataclass(frozen=True, slots=True)
class Subsets:
    """The accepted answers of a run, question by question in an order that the questions alone decide."""

    traces: Sequence[Sequence[int]]
    """The answers to each question that may be trained on."""
    held_out: Sequence[int]
    """The answers that are read for the held-out loss."""

    @property
    def several(self) -> bool:
        """Whether some question has several traces."""
        return any(len(t) > 1 for t in self.traces)

    def cell(self, questions: int, epochs: float, seed: int, *, all_traces: bool = False) -> Cell:
        """Returns the training on one trace of each of the first `questions` questions, or on all their traces."""
        chosen = [a for t in self.traces[:questions] for a in (t if all_traces else t[:1])]
        return Cell(tuple(sorted(chosen)), epochs, seed)

    def now(self, epochs: float) -> Setup:
        """Returns the training on all there is."""
        total = sum(len(t) for t in self.traces)
        return Setup(len(self.traces), total / max(1, len(self.traces)), epochs)


def subsets_of(answers: Sequence[ScoredAnswer]) -> Subsets:
    """Returns the accepted answers that the student can be trained on, divided by question.

    Larger subsets hold the smaller ones, and a run that grew keeps the order of the questions that it had.
    """
    by_question: dict[int, list[int]] = {}
    for a in answers:
        if a.accepted and a.score.tokens:
            by_question.setdefault(a.question, []).append(a.attempt_id)
    order = sorted(by_question, key=lambda q: hashlib.sha256(str(q).encode()).digest())
    held_out = round(min(MOST_HELD_OUT, HELD_OUT_SHARE * len(order)))
    return Subsets([by_question[q] for q in order[held_out:]], [by_question[q][0] for q in order[:held_out]])


def planned(
    of: Subsets, sizes: Sequence[int], epochs: Sequence[float], now_epochs: float, seed: int
) -> dict[Cell, int]:
    """Maps each training that is made to its number of questions.

    Every size is trained with `now_epochs`, and the largest one with each of `epochs`. Where questions have several
    traces, the two largest sizes are trained on all of them too.
    """
    largest = max(sizes)
    found: Mapping[Cell, int] = {
        **{of.cell(n, now_epochs, seed): n for n in sizes},
        **{of.cell(largest, e, seed): largest for e in epochs},
        **({of.cell(n, now_epochs, seed, all_traces=True): n for n in sorted(sizes)[-2:]} if of.several else {}),
    }
    return dict(found)


def usual(questions: int, epochs: float) -> tuple[list[int], list[float]]:
    """Returns (numbers of questions, numbers of epochs) for a plan of five trainings.

    >>> usual(200, 2)
    ([50, 100, 200], [1.0, 2.0, 4.0])
    """
    return sorted({max(1, questions // 4), max(1, questions // 2), questions}), sorted({
        max(0.5, epochs / 2), float(epochs), 2.0 * epochs
    })  # fmt: skip
