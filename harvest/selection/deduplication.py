"""Finds exact and near-duplicate answers, and near-duplicate questions (deduplication). Pure.

Locality-sensitive hashing, by bands of the MinHash signatures, finds pairs that may be duplicates. Each pair is then
compared. A frame is the first or last few sentences of a question.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from harvest.selection.candidates import BOOL, F64, I64, Candidates, Questions, Reason, SameQuestion
from harvest.selection.minhash import U16, U64, band, mixed, pairs_of, similarity

TRACE_BANDS, TRACE_ROWS = 32, 4
"""With these numbers, the chance that two traces are compared is 98.8% if they share 0.6 of their sequences of words,
99.98% if they share 0.7, and 0.3% if they share 0.1."""
QUESTION_BANDS, QUESTION_ROWS = 42, 3
"""With these numbers, two questions that share 0.5 of their words are compared with a chance of 99.6%."""
QUESTION_SIMILARITY = 0.2
"""Two questions with the same few numbers are compared only if they share at least this part of their words. This
leaves out nine pairs in ten, and one true copy in a thousand."""
PAIRS_AT_ONCE, MOST_PAIRS_WAITING = 100_000, 2_000_000
WINDOW = 40
"""If many texts have the same hash, each is compared with the first text and with this many texts before it."""
SMALL_GROUP = 100
"""If at most this many questions have the same numbers, each is compared with all of them."""

Duplicates = tuple[I64, Reason, I64]
"""(candidates that are not selected, the reason, candidates that are kept instead). Both arrays hold indices into
`Candidates` and have the same length."""


def exact_duplicates(of: Candidates, questions: Questions, rank: I64, alive: BOOL) -> Duplicates:
    """Finds answers with the same text to questions with the same text, whatever ids the questions have."""
    at = np.flatnonzero(alive)
    at = at[np.lexsort((rank[at], of.text[at, 1], of.text[at, 0], questions.text[of.question[at]]))]
    keys = np.column_stack((questions.text[of.question[at]], of.text[at]))
    is_first = np.ones(len(at), bool)
    is_first[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    first = at[is_first][np.cumsum(is_first) - 1]
    return at[~is_first], Reason.EXACT, first[~is_first]


def near_duplicates(
    of: Candidates, questions: Questions, rank: I64, alive: BOOL, same: SameQuestion, least: float
) -> Duplicates:
    """Finds answers that are near-duplicates of an answer with a smaller rank.

    Two answers are near-duplicates if they share at least `least` (0 to 1) of their sequences of words. The questions
    of both answers must have the same numbers, and must not have two different gold answers.
    """
    at = np.flatnonzero(alive)
    gold = questions.gold[of.question]

    def likely() -> Iterator[I64]:
        for n in range(TRACE_BANDS):
            keys = band(of.signature, at, n * TRACE_ROWS, TRACE_ROWS)
            pairs = at[_pairs_with_same_numbers(keys, questions.numbers, of.question[at], rank[at])]
            near = _similarity(of.signature, pairs) >= least
            a, b = gold[pairs[:, 0]], gold[pairs[:, 1]]
            yield pairs[near & ((a == b) | (a == 0) | (b == 0))]

    pairs = _each_once(likely())
    pairs = pairs[_may_ask_the_same(questions, of.question[pairs])]
    asked = of.question[pairs]
    other = questions.text[asked[:, 0]] != questions.text[asked[:, 1]]
    duplicate = ~other
    duplicate[other] = np.fromiter(same(asked[other], True), bool, int(other.sum()))
    dropped, instead = _dropped_by_rank(pairs[duplicate], rank)
    return dropped, Reason.NEAR, instead


def near_duplicate_questions(
    of: Candidates, questions: Questions, rank: I64, alive: BOOL, same: SameQuestion
) -> Duplicates:
    """Finds all answers to questions that repeat an earlier question.

    The candidate that is kept instead is the smallest-rank answer to the earlier question.
    """
    at = np.unique(of.question[alive])
    pairs = _each_once(at[pair] for pair in _likely_questions(questions, at))
    gold = questions.gold[pairs]
    pairs = pairs[(gold[:, 0] == gold[:, 1]) | (gold == 0).any(axis=1)]
    dropped, instead = _dropped_by_rank(pairs[np.fromiter(same(pairs, False), bool, len(pairs))], questions.row)
    stands_for = np.full(len(questions.row), -1, np.int64)
    stands_for[dropped] = instead
    best = np.full(len(questions.row), -1, np.int64)
    living = np.flatnonzero(alive)
    living = living[np.argsort(-rank[living], kind="stable")]
    best[of.question[living]] = living  # the last one written stays: it has the smallest rank
    gone = np.flatnonzero(alive & (stands_for[of.question] >= 0))
    return gone, Reason.NEAR_QUESTION, best[stands_for[of.question[gone]]]


def _likely_questions(questions: Questions, at: I64) -> Iterator[I64]:
    """Gives pairs of questions that are worth a comparison, as pairs of indices into `at`.

    Both questions of a pair have the same text; or they share many numbers, and few other questions have the same
    numbers; or they have the same numbers and similar words.
    """
    yield pairs_of(questions.text[at], at, WINDOW)
    many = np.flatnonzero(questions.many[at])
    keys, place = _readings(questions.numbers[at[many]])
    is_rare = _places_with_same_key(keys) <= SMALL_GROUP
    rare = many[place[is_rare]]
    yield rare[pairs_of(keys[is_rare], at[rare], SMALL_GROUP)]
    for n in range(QUESTION_BANDS):
        keys = band(questions.signature, at, n * QUESTION_ROWS, QUESTION_ROWS)
        pairs = _pairs_with_same_numbers(keys, questions.numbers, at, at)
        yield pairs[_similarity(questions.signature, at[pairs]) >= QUESTION_SIMILARITY]


def _readings(numbers: U64) -> tuple[U64, I64]:
    """Returns (hashes of numbers, indices of their questions), each of shape [k].

    A question appears once as a whole, and once for each way to leave out frames (first or last sentences).
    """
    place, reading = np.nonzero(numbers)
    return numbers[place, reading], place


def _places_with_same_key(keys: U64) -> I64:
    """Returns [n]: how often each key occurs in `keys`."""
    _, inverse, count = np.unique(keys, return_inverse=True, return_counts=True)
    return np.asarray(count[inverse])


def _similarity(signatures: U16, pairs: I64) -> F64:
    """Returns [m]: how much the texts of each pair share, by their signatures. `pairs`, [m, 2], are indices."""
    found = np.zeros(len(pairs))
    for at in range(0, len(pairs), PAIRS_AT_ONCE):
        a, b = pairs[at : at + PAIRS_AT_ONCE].T
        found[at : at + PAIRS_AT_ONCE] = similarity(signatures[a], signatures[b])
    return found


def _pairs_with_same_numbers(keys: U64, numbers: U64, asked: I64, rank: I64) -> I64:
    """Returns pairs of indices whose keys, and whose numbers (with or without a frame), are the same. `asked` is the
    index in `numbers` of each key's question."""
    shared = np.flatnonzero(_places_with_same_key(keys) > 1)
    hashes, place = _readings(numbers[asked[shared]])
    at = shared[place]
    pairs: I64 = at[pairs_of(mixed(keys[at] ^ hashes), rank[at], WINDOW)]
    return pairs


def _may_ask_the_same(questions: Questions, pairs: I64) -> BOOL:
    """Returns [m]: False for each pair of questions that share few words and few numbers.

    This bounds the work: a million answers "yes" are near-duplicates of each other, and each of their questions cannot
    be compared with forty other questions by text.
    """
    a, b = pairs[:, 0], pairs[:, 1]
    may = (questions.text[a] == questions.text[b]) | (questions.many[a] & questions.many[b])
    may[~may] = _similarity(questions.signature, pairs[~may]) >= QUESTION_SIMILARITY
    return np.asarray(may)


def _each_once(found: Iterable[I64]) -> I64:
    """Returns each pair once.

    Different bands find the same pairs again, so the pairs are merged before they become too many.
    """
    waiting = [np.zeros(0, np.int64)]
    n = 0
    for pairs in found:
        a, b = pairs[pairs[:, 0] != pairs[:, 1]].T
        waiting.append(a << 32 | b)  # one number for both indices
        n += len(a)
        if n > MOST_PAIRS_WAITING:
            waiting, n = [np.unique(np.concatenate(waiting))], 0
    each = np.unique(np.concatenate(waiting))
    return np.column_stack((each >> 32, each & 0xFFFFFFFF))


def _dropped_by_rank(pairs: I64, rank: I64) -> tuple[I64, I64]:
    """Returns (members of pairs that are dropped, the members that are kept instead), both of the same length.

    It goes through the pairs in the order of ranks, and drops a member if it is a duplicate of a member that is kept. A
    member whose only duplicates were dropped is kept: the two ends of a chain of duplicates may have nothing in common.
    """
    pairs = np.take_along_axis(pairs, np.argsort(rank[pairs], axis=1), axis=1)  # the smaller rank first
    instead: dict[int, int] = {}
    for a, b in pairs[np.lexsort((rank[pairs[:, 0]], rank[pairs[:, 1]]))].tolist():
        if a not in instead and b not in instead:
            instead[b] = a
    return np.array(list(instead), np.int64), np.array(list(instead.values()), np.int64)
