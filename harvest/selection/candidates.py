"""Defines the arrays that selection works on: the facts of each question and candidate, and the outcome."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from harvest.selection.minhash import U16, U64

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
BOOL = NDArray[np.bool_]
LABELS = NDArray[np.object_]
"""Texts of which many are the same: each one is in memory once."""
SELECTED = ""
"""This text takes the place of a reason if a candidate is selected."""


class Reason(StrEnum):
    """Why a candidate is not selected. The members are in the order of the stages."""

    WITHDRAWN = "withdrawn"
    FILTERED = "filtered"
    NO_SCORE = "no_student_score"
    SURPRISING = "too_surprising"
    EXACT = "exact_duplicate"
    NEAR_QUESTION = "near_duplicate_question"
    NEAR = "near_duplicate"
    CONTAMINATED = "contaminated"
    DIFFICULTY = "difficulty"
    TOO_MANY = "answers_per_question"
    TOO_LONG = "too_many_long"
    NOT_CHOSEN = "not_chosen"


@dataclass(frozen=True, slots=True)
class Questions:
    """Holds what selection knows of each question. An array has shape [q] unless its own text says otherwise."""

    row: I64
    """The question's row in the store. Rows ascend in the order in which the run was given its questions."""
    text: U64
    """A hash of the question's text. Case and spaces do not change the hash."""
    gold: U64
    """A hash of the question's gold answer, brought to one spelling. It is 0 if the gold answer is unknown."""
    numbers: U64
    """[q, FRAMES]: hashes of the question's numbers and formulas. The first hash is of all of them, each further hash
    of those that remain without a frame (first or last sentences, as `Problem 12.`). Unused elements are 0."""
    many: BOOL
    """Whether the question has so many numbers that it is compared with every question that has the same numbers."""
    signature: U16
    """[q, 128]: the MinHash signature of the question's words and pairs of words."""
    domain: LABELS
    difficulty: LABELS
    contaminated: BOOL
    """Whether an evaluation asks the same question."""
    failed: F64
    """The share of the question's judged answers that were wrong, from 0 to 1. If a student was asked, only the
    student's answers count. The share is NaN if no answer was judged."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Holds what selection knows of each candidate, ordered by question, teacher and sample.

    An array has shape [n] unless its own text says otherwise.
    """

    attempt: I64
    question: I64
    """The index of the candidate's question in the arrays of `Questions`."""
    text: U64
    """[n, 2]: a digest of chain and answer. Case and spaces do not change the digest."""
    signature: U16
    """[n, 128]: the MinHash signature of chain and answer."""
    tokens: I64
    """The number of output tokens. It is an estimate if the endpoint sent no count."""
    fault: BOOL
    """Whether a filter refuses the candidate."""
    surprisal: F64
    """The mean negative log-probability of a token by the student that the settings name, in nats. NaN: no score."""
    rsr: F64
    """The Rank-Surprisal Ratio by that student. NaN: no score."""
    withdrawn: BOOL
    """Whether the setting `without` names the candidate."""


@dataclass(slots=True)
class Outcome:
    """Holds what selection decides about each candidate. Arrays have shape [n]."""

    reason: LABELS
    """A Reason if the candidate is not selected, else SELECTED."""
    instead: I64
    """For a duplicate, the id of the attempt that is kept in its place. Else 0."""


SameQuestion = Callable[[I64, bool], Iterator[bool]]
"""A function that decides for each pair of questions whether both ask the same. It takes the pairs, [m, 2], as indices
into the arrays of `Questions`, and whether the two answers of each pair are nearly the same."""
