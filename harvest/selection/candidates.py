"""The arrays that selection works on: what is known of each question and each candidate, and the outcome."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from harvest.selection.minhash import U16, U64

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
BOOL = NDArray[np.bool_]
SELECTED = ""
"""Stands in place of a reason where a candidate is selected."""


class Reason(StrEnum):
    """Why a candidate is not selected, in the order of the stages."""

    FILTERED = "filtered"
    EXACT = "exact_duplicate"
    NEAR_QUESTION = "near_duplicate_question"
    NEAR = "near_duplicate"
    CONTAMINATED = "contaminated"
    DIFFICULTY = "difficulty"
    TOO_MANY = "answers_per_question"
    NOT_CHOSEN = "not_chosen"


@dataclass(frozen=True, slots=True)
class Questions:
    """What selection knows of each question. Every array has shape [q] unless it says otherwise."""

    row: I64
    """The question's row in the store, ascending: the order in which the run was given its questions."""
    text: U64
    """A hash of the question's text; case and spaces do not count."""
    gold: U64
    """A hash of its gold answer in one spelling, 0 where it is unknown."""
    numbers: U64
    """[q, FRAMES]: a hash of all its numbers and formulas, and one for each way to leave out a frame; the rest is 0."""
    many: BOOL
    """Whether it has so many numbers that it is compared with every question that has the same ones."""
    signature: U16
    """[q, 128]: the MinHash signature of its words and pairs of words."""
    domain: NDArray[np.str_]
    difficulty: NDArray[np.str_]
    contaminated: BOOL
    """Whether an evaluation asks it too."""
    failed: F64
    """The share of its judged answers that were wrong; of the student's answers, where the student was asked. NaN where
    no answer was judged."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What selection knows of each candidate, ordered by question, teacher and sample. Arrays have shape [n]."""

    attempt: I64
    question: I64
    """The place of its question in `Questions`."""
    text: U64
    """[n, 2]: a digest of chain and answer; case and spaces do not count."""
    signature: U16
    """[n, 128]: the MinHash signature of chain and answer."""
    tokens: I64
    """Output tokens; an estimate where the endpoint counted none."""
    fault: BOOL
    """Whether a filter refuses it."""


@dataclass(slots=True)
class Outcome:
    """What selection decides about each candidate. Arrays have shape [n]."""

    reason: NDArray[np.str_]
    """A Reason, or SELECTED."""
    instead: I64
    """The attempt that is selected in place of a duplicate, else 0."""


SameQuestion = Callable[[I64, bool], Iterator[bool]]
"""Decides for each pair of questions whether the two ask the same. Takes the pairs, [m, 2] places in `Questions`, and
whether their answers are nearly the same."""
