"""What selection knows of each question and of each candidate, as arrays, and what it says of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harvest.selection.minhash import U16, U64

SELECTED, FILTERED = "", "filtered"
EXACT, NEAR, NEAR_QUESTION = "exact_duplicate", "near_duplicate", "near_duplicate_question"
CONTAMINATED, TOO_MANY, DIFFICULTY, NOT_CHOSEN = "contaminated", "answers_per_question", "difficulty", "not_chosen"
STAGES = (FILTERED, EXACT, NEAR_QUESTION, NEAR, CONTAMINATED, DIFFICULTY, TOO_MANY, NOT_CHOSEN)
"""The reasons why a candidate is not selected, in the order in which the stages look for them."""

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
BOOL = NDArray[np.bool_]


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
    """[q, FRAMES] hashes of its numbers and formulas, as it stands and without frames; 0 where there are fewer."""
    many: BOOL
    """Whether it has so many numbers that two questions with the same numbers are always compared."""
    signature: U16
    """[q, 128], the MinHash signature of its words and pairs of words."""
    domain: NDArray[np.str_]
    difficulty: NDArray[np.str_]
    contaminated: BOOL
    """Whether an evaluation asks it too."""
    failed: F64
    """The share of its judged answers that were not accepted (the student's own answers, where it was asked). NaN where
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
    """[n, 128], the MinHash signature of chain and answer."""
    tokens: I64
    """Output tokens; an estimate where the endpoint counted none."""
    fault: BOOL
    """Whether a filter refuses it."""


@dataclass(slots=True)
class Outcome:
    """For each candidate, [n]: why it is not selected, or SELECTED; and the attempt that is kept in its place, or 0."""

    reason: NDArray[np.str_]
    instead: I64


Say = Callable[[str], None]
"""Tells the user what is being done."""
SameQuestion = Callable[[I64, bool], Iterator[bool]]
"""Says of pairs of questions, [m, 2] places in `Questions`, whether the two ask the same. The flag is True where their
answers are nearly the same."""
