"""Selects candidates in stages: what was withdrawn, filters, a student's scores, duplicates, evaluations, difficulty,
answers per question, long traces, size. Pure.

The same candidates, settings and seed give the same selection, whatever the order in which the answers came: every
random choice depends on the seed and the texts alone.
"""

from collections.abc import Callable

import numpy as np

from harvest.core.config import Select
from harvest.selection.balance import beyond_limit, drawn, is_hard_enough, too_many_long
from harvest.selection.candidates import F64, I64, SELECTED, Candidates, Outcome, Questions, Reason, SameQuestion
from harvest.selection.deduplication import exact_duplicates, near_duplicate_questions, near_duplicates
from harvest.selection.minhash import GOLDEN, U64, mixed

VERSION = "3"
"""The version of the stages. It is stored with each selection."""


def select(
    of: Candidates, questions: Questions, settings: Select, same: SameQuestion, say: Callable[[str], None]
) -> Outcome:
    """Goes through the stages in order, and returns the outcome for each candidate.

    Later stages do not see the candidates that an earlier stage left out. `say` tells the user what is being done.
    """
    n = len(of.attempt)
    outcome = Outcome(np.full(n, SELECTED, object), np.zeros(n, np.int64))
    chance = _chance(of, questions, settings.seed)
    rank = _rank(of, chance, settings)
    alive = ~of.fault & ~of.withdrawn
    outcome.reason[of.fault] = Reason.FILTERED.value
    outcome.reason[of.withdrawn] = Reason.WITHDRAWN.value

    def drop(which: I64, reason: Reason, instead: I64 | None = None) -> None:
        outcome.reason[which] = reason.value
        if instead is not None:
            outcome.instead[which] = of.attempt[instead]
        alive[which] = False

    if settings.takes_scores:
        drop(np.flatnonzero(alive & np.isnan(of.surprisal)), Reason.NO_SCORE)
        if settings.surprisal_most is not None:
            drop(np.flatnonzero(alive & (of.surprisal > float(settings.surprisal_most))), Reason.SURPRISING)
    if settings.exact:
        say("exact duplicates")
        drop(*exact_duplicates(of, questions, rank, alive))
    if settings.near_questions:
        say("questions that are nearly the same")
        drop(*near_duplicate_questions(of, questions, rank, alive, same))
    if settings.near:
        say("traces that are nearly the same")
        drop(*near_duplicates(of, questions, rank, alive, same, float(settings.near_similarity)))
    drop(np.flatnonzero(alive & questions.contaminated[of.question]), Reason.CONTAMINATED)
    drop(np.flatnonzero(alive & ~is_hard_enough(of, questions, settings)), Reason.DIFFICULTY)
    if settings.per_question is not None:
        drop(beyond_limit(of, questions, rank, alive, settings.per_question), Reason.TOO_MANY)
    if settings.long_tokens is not None:
        drop(too_many_long(of, rank, alive, settings.long_tokens, settings.short_per_long), Reason.TOO_LONG)
    if settings.traces is not None or settings.tokens is not None:
        say("choosing")
        left = np.flatnonzero(alive)
        chosen = np.zeros(n, bool)
        chosen[drawn(of, questions, settings, left, chance)] = True
        drop(left[~chosen[left]], Reason.NOT_CHOSEN)
    return outcome


def _chance(of: Candidates, questions: Questions, seed: int) -> U64:
    """Returns [n]: a random number for each candidate. It depends on the seed and the texts alone."""
    start = mixed(np.array([seed]).astype(np.uint64) + GOLDEN)
    return mixed(mixed(start ^ questions.text[of.question]) ^ of.text[:, 0])


def _rank(of: Candidates, chance: U64, settings: Select) -> I64:
    """Returns [n]: the rank of each candidate.

    The one with the smaller rank is kept of two duplicates, or of two answers to one question.
    """
    places = np.arange(len(of.attempt))
    by: dict[str, I64 | U64 | F64] = {
        "first": places, "shortest": of.tokens, "longest": -of.tokens, "random": chance,
        "rsr": of.rsr, "surprisal": of.surprisal,
    }  # fmt: skip
    rank = np.empty_like(places)
    rank[np.argsort(by[settings.prefer], kind="stable")] = places
    return rank
