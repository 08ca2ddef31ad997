"""Selects which candidates are trained on, stage by stage: duplicates, evaluations, difficulty, limits, balance. Pure.

Arrays come in; a reason and a replacement for each candidate go out. The same candidates, settings and seed give the
same selection, whatever order the answers came in: every random choice depends on the seed and the texts alone.
"""

import numpy as np

from harvest.core.config import Select
from harvest.selection.balance import beyond_limit, drawn, is_hard_enough
from harvest.selection.candidates import (
    CONTAMINATED,
    DIFFICULTY,
    FILTERED,
    I64,
    NOT_CHOSEN,
    SELECTED,
    TOO_MANY,
    Candidates,
    Outcome,
    Questions,
    SameQuestion,
    Say,
)
from harvest.selection.deduplication import exact_duplicates, near_duplicate_questions, near_duplicates
from harvest.selection.minhash import U64, mixed

VERSION = "2"
"""The version of the stages, written with each selection."""


def select(of: Candidates, questions: Questions, settings: Select, same: SameQuestion, say: Say) -> Outcome:
    """Goes through the stages in order. A candidate that one stage took out is not looked at by the later ones."""
    n = len(of.attempt)
    outcome = Outcome(np.full(n, SELECTED, "U24"), np.zeros(n, np.int64))
    chance = _chance(of, questions, settings.seed)
    rank = _rank(of, chance, settings)
    alive = ~of.fault
    outcome.reason[of.fault] = FILTERED

    def drop(which: I64, reason: str, instead: I64 | None = None) -> None:
        outcome.reason[which] = reason
        if instead is not None:
            outcome.instead[which] = of.attempt[instead]
        alive[which] = False

    if settings.exact:
        say("exact duplicates")
        drop(*exact_duplicates(of, questions, rank, alive))
    if settings.near_questions:
        say("questions that are nearly the same")
        drop(*near_duplicate_questions(of, questions, rank, alive, same))
    if settings.near:
        say("traces that are nearly the same")
        drop(*near_duplicates(of, questions, rank, alive, same, float(settings.near_similarity)))
    drop(np.flatnonzero(alive & questions.contaminated[of.question]), CONTAMINATED)
    drop(np.flatnonzero(alive & ~is_hard_enough(of, questions, settings)), DIFFICULTY)
    if settings.per_question is not None:
        drop(beyond_limit(of, questions, rank, alive, settings.per_question), TOO_MANY)
    if settings.traces is not None or settings.tokens is not None:
        say("choosing")
        left = np.flatnonzero(alive)
        chosen = np.zeros(n, bool)
        chosen[drawn(of, questions, settings, left, chance)] = True
        drop(left[~chosen[left]], NOT_CHOSEN)
    return outcome


def _chance(of: Candidates, questions: Questions, seed: int) -> U64:
    """[n]: a random number for each candidate, which depends on the seed and the texts alone."""
    start = mixed(np.full(len(of.attempt), seed, np.int64).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    return mixed(mixed(start ^ questions.text[of.question]) ^ of.text[:, 0])


def _rank(of: Candidates, chance: U64, settings: Select) -> I64:
    """[n]: of two duplicates, or of two answers to one question, the candidate with the smaller rank is kept."""
    n = len(of.attempt)
    by: dict[str, list[I64 | U64]] = {
        "first": [np.arange(n)],
        "shortest": [np.arange(n), of.tokens],
        "longest": [np.arange(n), -of.tokens],
        "random": [np.arange(n), chance],
    }
    rank = np.empty(n, np.int64)
    rank[np.lexsort(by[settings.prefer])] = np.arange(n)
    return rank
