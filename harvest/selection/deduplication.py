"""Deduplication: exact and near-duplicate answers, and near-duplicate questions. Pure.

Pairs that may be duplicates are found by locality-sensitive hashing: bands of the MinHash signatures. Each pair is then
compared.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from harvest.selection.candidates import (
    BOOL,
    EXACT,
    I64,
    NEAR,
    NEAR_QUESTION,
    Candidates,
    Questions,
    SameQuestion,
)
from harvest.selection.minhash import U64, band, mixed, pairs_of, similarity

TRACE_BANDS, TRACE_ROWS = 32, 4
"""Two traces that share 0.6 are compared with a chance of 98.8%; at 0.7 it is 99.98%, at 0.1 it is 0.3%."""
QUESTION_BANDS, QUESTION_ROWS = 42, 3
"""Two questions that share 0.5 of their words are compared with a chance of 99.6%."""
QUESTION_SIMILARITY = 0.2
"""Questions with the same few numbers are compared only where they share at least this much. It leaves out nine pairs
in ten, and one true copy in a thousand."""
PAIRS_AT_ONCE, MOST_PAIRS_WAITING = 100_000, 10_000_000
WINDOW = 40
"""Of many texts with the same hash, each is compared with the first one and with this many before it."""
SMALL_GROUP = 100
"""Questions with the same numbers are all compared with each other, where there are no more of them than this."""

Duplicates = tuple[I64, str, I64]
"""(candidates that are not selected, the reason, the candidates that are kept in their place)"""


def exact_duplicates(of: Candidates, questions: Questions, rank: I64, alive: BOOL) -> Duplicates:
    """Answers with the same text to questions with the same text, whatever ids the questions have."""
    at = np.flatnonzero(alive)
    at = at[np.lexsort((rank[at], of.text[at, 1], of.text[at, 0], questions.text[of.question[at]]))]
    keys = np.column_stack((questions.text[of.question[at]], of.text[at]))
    starts = np.concatenate((np.ones(min(1, len(at)), bool), (keys[1:] != keys[:-1]).any(axis=1)))
    first = at[np.maximum.accumulate(np.where(starts, np.arange(len(at)), 0))] if len(at) else at
    return at[~starts], EXACT, first[~starts]


def near_duplicates(
    of: Candidates, questions: Questions, rank: I64, alive: BOOL, same: SameQuestion, least: float
) -> Duplicates:
    """Answers that share at least `least`, to questions with the same numbers and no different gold answers."""
    at = np.flatnonzero(alive)
    numbers, gold = questions.numbers[of.question], questions.gold[of.question]

    def likely() -> Iterator[NDArray[np.int64]]:
        for n in range(TRACE_BANDS):
            keys = band(of.signature[at], n * TRACE_ROWS, TRACE_ROWS)
            for pair in _pairs_with_same_numbers(keys, numbers[at], rank[at]):
                pairs = at[pair]
                near = similarity(of.signature[pairs[:, 0]], of.signature[pairs[:, 1]]) >= least
                a, b = gold[pairs[:, 0]], gold[pairs[:, 1]]
                yield pairs[near & ((a == b) | (a == 0) | (b == 0))]

    pairs = _each_once(likely())
    pairs = pairs[_may_ask_the_same(questions, of.question[pairs])]
    asked = of.question[pairs]
    other = questions.text[asked[:, 0]] != questions.text[asked[:, 1]]
    duplicate = ~other
    duplicate[other] = np.fromiter(same(asked[other], True), bool, int(other.sum()))
    dropped, instead = _dropped_by_rank(pairs[duplicate], rank)
    return dropped, NEAR, instead


def near_duplicate_questions(
    of: Candidates, questions: Questions, rank: I64, alive: BOOL, same: SameQuestion
) -> Duplicates:
    """All answers to a question that an earlier question asks already. The best answer by rank to the earlier question
    stands in their place."""
    at = np.unique(of.question[alive])
    order = np.arange(len(questions.row))
    pairs = _each_once(at[pair] for pair in _likely_questions(questions, at, order))
    gold = questions.gold[pairs]
    pairs = pairs[(gold[:, 0] == gold[:, 1]) | (gold == 0).any(axis=1)]
    dropped, instead = _dropped_by_rank(pairs[np.fromiter(same(pairs, False), bool, len(pairs))], order)
    stands_for = np.full(len(questions.row), -1, np.int64)
    stands_for[dropped] = instead
    best = np.full(len(questions.row), -1, np.int64)
    living = np.flatnonzero(alive)
    living = living[np.argsort(-rank[living], kind="stable")]
    best[of.question[living]] = living  # the last one written stays: it has the smallest rank
    gone = np.flatnonzero(alive & (stands_for[of.question] >= 0))
    return gone, NEAR_QUESTION, best[stands_for[of.question[gone]]]


def _likely_questions(questions: Questions, at: I64, order: I64) -> Iterator[NDArray[np.int64]]:
    """Pairs of places in `at` that are worth a comparison: the same text; the same numbers, where these are many and
    rare; the same numbers and similar words."""
    yield pairs_of(questions.text[at], order[at], WINDOW)
    many = np.flatnonzero(questions.many[at])
    for keys, place in _readings(questions.numbers[at[many]]):
        _, inverse, count = np.unique(keys, return_inverse=True, return_counts=True)
        small = count[inverse] <= SMALL_GROUP
        yield many[place[small]][pairs_of(keys[small], order[at[many[place[small]]]], SMALL_GROUP)]
    for n in range(QUESTION_BANDS):
        keys = band(questions.signature[at], n * QUESTION_ROWS, QUESTION_ROWS)
        for pair in _pairs_with_same_numbers(keys, questions.numbers[at], order[at]):
            signatures = questions.signature[at[pair]]
            yield pair[similarity(signatures[:, 0], signatures[:, 1]) >= QUESTION_SIMILARITY]


def _readings(numbers: U64) -> Iterator[tuple[U64, I64]]:
    """(hashes, places): the numbers of all questions with and without frames in one list, or nothing where none has
    any. A question is listed once for each of its readings."""
    place, reading = np.nonzero(numbers)
    if len(place):
        yield numbers[place, reading], place


def _pairs_with_same_numbers(keys: U64, numbers: U64, rank: I64) -> Iterator[NDArray[np.int64]]:
    """Pairs of places with the same key and the same numbers, with or without a frame."""
    _, inverse, count = np.unique(keys, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(count[inverse] > 1)
    for hashes, place in _readings(numbers[shared]):
        at = shared[place]
        yield at[pairs_of(mixed(keys[at] ^ hashes), rank[at], WINDOW)]


def _may_ask_the_same(questions: Questions, pairs: I64) -> BOOL:
    """[m]: False for two questions that share few words and few numbers.

    It bounds the work: a million answers "yes" are near-duplicates of each other, and their questions cannot each be
    compared with forty others by their texts.
    """
    a, b = pairs[:, 0], pairs[:, 1]
    may = (questions.text[a] == questions.text[b]) | (questions.many[a] & questions.many[b])
    doubtful = np.flatnonzero(~may)
    for at in range(0, len(doubtful), PAIRS_AT_ONCE):
        some = doubtful[at : at + PAIRS_AT_ONCE]
        may[some] = similarity(questions.signature[a[some]], questions.signature[b[some]]) >= QUESTION_SIMILARITY
    return np.asarray(may)


def _each_once(found: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Each pair once. Bands find the same pairs again, so the pairs are merged before they become too many."""
    waiting: list[NDArray[np.int64]] = []
    n = 0
    for pairs in found:
        waiting.append(pairs)
        n += len(pairs)
        if n > MOST_PAIRS_WAITING:
            waiting, n = [_merged(waiting)], 0
    return _merged(waiting)


def _merged(found: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    pairs = np.concatenate(found) if found else np.zeros((0, 2), np.int64)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return np.unique(pairs, axis=0) if len(pairs) else pairs.reshape(0, 2)


def _dropped_by_rank(pairs: NDArray[np.int64], rank: I64) -> tuple[I64, I64]:
    """(dropped, what is kept in their place): in the order of ranks, each is dropped that is a duplicate of one kept.

    Duplicates are not followed in chains: the two ends of a chain may have nothing in common.
    """
    early, late = pairs[:, 0], pairs[:, 1]
    swapped = rank[early] > rank[late]
    early, late = np.where(swapped, late, early), np.where(swapped, early, late)
    at = np.lexsort((rank[early], rank[late]))
    instead: dict[int, int] = {}
    for a, b in zip(early[at].tolist(), late[at].tolist(), strict=True):
        if a not in instead and b not in instead:
            instead[b] = a
    return np.array(list(instead), np.int64), np.array(list(instead.values()), np.int64)
