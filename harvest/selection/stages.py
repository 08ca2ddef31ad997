"""Which candidates are trained on: duplicates, evaluation questions, answers a question, difficulty, balance, number.

Pure: arrays in, a reason and a place for each candidate out. The same candidates, settings and seed give the same
selection, whatever order the answers came in: what is random hangs on the text and the seed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from harvest.core.config import Select
from harvest.selection.minhash import U16, U64, band, mixed, pairs_of, similarity

VERSION = "2"
KEPT, FILTERED = "", "filtered"
EXACT, NEAR, NEAR_QUESTION = "exact_duplicate", "near_duplicate", "near_duplicate_question"
CONTAMINATED, TOO_MANY, DIFFICULTY, NOT_CHOSEN = "contaminated", "answers_per_question", "difficulty", "not_chosen"
STAGES = (FILTERED, EXACT, NEAR_QUESTION, NEAR, CONTAMINATED, DIFFICULTY, TOO_MANY, NOT_CHOSEN)
"""In the order in which they are gone through."""

TRACE_BANDS, TRACE_ROWS = 32, 4
"""Two traces that share 0.6 are looked at with 98.8%, 0.7 with 99.98%; 0.1 with 0.3%."""
QUESTION_BANDS, QUESTION_ROWS = 42, 3
"""Two questions that share 0.5 of their words are looked at with 99.6%."""
QUESTION_SIMILARITY = 0.2
"""Of few numbers alike, questions that share less are not compared: nine in ten, and one true copy in a thousand."""
PAIRS_AT_ONCE, PAIRS_WAITING = 100_000, 10_000_000
WINDOW = 40
"""Of many that look alike each is compared with the first and so many before it."""
SMALL = 100
"""Questions that reckon with the same numbers are all compared with each other up to so many."""
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
BOOL = NDArray[np.bool_]
FRAMES = 6
"""Readings of a question without a frame that are kept."""


@dataclass(frozen=True, slots=True)
class Questions:
    """What selection knows of each question, [q]."""

    row: I64
    """Ascending: the order in which the run was given them."""
    text: U64
    """A hash of its text, whatever its case and spaces."""
    gold: U64
    """A hash of its gold answer in one spelling, 0 where it is unknown."""
    numbers: U64
    """[q, FRAMES] hashes of what it reckons with, as it stands and without frames; 0 where there are fewer."""
    many: BOOL
    """Whether it reckons with so much that this alone is worth a look."""
    signature: U16
    """[q, 128], of its words and pairs of words."""
    domain: NDArray[np.str_]
    difficulty: NDArray[np.str_]
    contaminated: BOOL
    failed: F64
    """Share of its judged answers that were not accepted; the student's own, where it was asked. NaN: nobody knows."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What selection knows of each candidate, [n], in the order of their questions, teachers and samples."""

    attempt: I64
    question: I64
    """Its place in `Questions`."""
    text: U64
    """[n, 2]: a digest of its chain and answer, whatever their case and spaces."""
    signature: U16
    """[n, 128], of chain and answer."""
    tokens: I64
    """Output tokens; an estimate where nobody counted them."""
    fault: BOOL
    """A filter refuses it."""


@dataclass(slots=True)
class Outcome:
    """[n] each: why a candidate is not selected, KEPT where it is, and the attempt that took its place, or 0."""

    reason: NDArray[np.str_]
    instead: I64


Told = Callable[[str], None]
Same = Callable[[I64, bool], Iterator[bool]]
"""Whether two questions are the same one, of pairs [m, 2] of places; `answered_alike`: their answers nearly are."""


def select(of: Candidates, questions: Questions, settings: Select, same: Same, told: Told) -> Outcome:
    """Goes through the stages in order; what an earlier one took out is not looked at again."""
    n = len(of.attempt)
    outcome = Outcome(np.full(n, KEPT, "U24"), np.zeros(n, np.int64))
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
        told("exact duplicates")
        drop(*_exact(of, questions, rank, alive))
    if settings.near_questions:
        told("questions that are nearly the same")
        drop(*_near_questions(of, questions, rank, alive, same))
    if settings.near:
        told("traces that are nearly the same")
        drop(*_near(of, questions, rank, alive, same, float(settings.near_similarity)))
    drop(np.flatnonzero(alive & questions.contaminated[of.question]), CONTAMINATED)
    drop(np.flatnonzero(alive & ~_hard_enough(of, questions, settings)), DIFFICULTY)
    if settings.per_question is not None:
        drop(_beyond(of, questions, rank, alive, settings.per_question), TOO_MANY)
    if settings.traces is not None or settings.tokens is not None:
        told("choosing")
        left = np.flatnonzero(alive)
        chosen = np.zeros(n, bool)
        chosen[_chosen(of, questions, settings, left, chance)] = True
        drop(left[~chosen[left]], NOT_CHOSEN)
    return outcome


def _chance(of: Candidates, questions: Questions, seed: int) -> U64:
    """[n]: random, from the seed and the texts alone."""
    start = mixed(np.full(len(of.attempt), seed, np.int64).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    return mixed(mixed(start ^ questions.text[of.question]) ^ of.text[:, 0])


def _rank(of: Candidates, chance: U64, settings: Select) -> I64:
    """[n]: of two duplicates or answers to a question, the one with the smaller rank stays."""
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


Dropped = tuple[I64, str, I64]


def _exact(of: Candidates, questions: Questions, rank: I64, alive: BOOL) -> Dropped:
    """The same text under the same question, whatever ids the question has."""
    at = np.flatnonzero(alive)
    at = at[np.lexsort((rank[at], of.text[at, 1], of.text[at, 0], questions.text[of.question[at]]))]
    keys = np.column_stack((questions.text[of.question[at]], of.text[at]))
    starts = np.concatenate((np.ones(min(1, len(at)), bool), (keys[1:] != keys[:-1]).any(axis=1)))
    first = at[np.maximum.accumulate(np.where(starts, np.arange(len(at)), 0))] if len(at) else at
    return at[~starts], EXACT, first[~starts]


def _near(of: Candidates, questions: Questions, rank: I64, alive: BOOL, same: Same, least: float) -> Dropped:
    """Nearly the same text, under questions that reckon with the same and do not have different gold answers."""
    at = np.flatnonzero(alive)
    numbers, gold = questions.numbers[of.question], questions.gold[of.question]

    def likely() -> Iterator[NDArray[np.int64]]:
        for n in range(TRACE_BANDS):
            keys = band(of.signature[at], n * TRACE_ROWS, TRACE_ROWS)
            for pair in _with_frames(keys, numbers[at], rank[at]):
                pairs = at[pair]
                alike = similarity(of.signature[pairs[:, 0]], of.signature[pairs[:, 1]]) >= least
                a, b = gold[pairs[:, 0]], gold[pairs[:, 1]]
                yield pairs[alike & ((a == b) | (a == 0) | (b == 0))]

    pairs = _gathered(likely())
    pairs = pairs[_may_ask_the_same(questions, of.question[pairs])]
    asked = of.question[pairs]
    other = questions.text[asked[:, 0]] != questions.text[asked[:, 1]]
    alike = ~other
    alike[other] = np.fromiter(same(asked[other], True), bool, int(other.sum()))
    dropped, instead = _greedy(pairs[alike], rank)
    return dropped, NEAR, instead


def _near_questions(of: Candidates, questions: Questions, rank: I64, alive: BOOL, same: Same) -> Dropped:
    """All answers to a question that an earlier one asks already; the first by rank of the earlier stands for them."""
    at = np.unique(of.question[alive])
    order = np.arange(len(questions.row))
    pairs = _gathered(at[pair] for pair in _likely_questions(questions, at, order))
    gold = questions.gold[pairs]
    pairs = pairs[(gold[:, 0] == gold[:, 1]) | (gold == 0).any(axis=1)]
    dropped, instead = _greedy(pairs[np.fromiter(same(pairs, False), bool, len(pairs))], order)
    stands_for = np.full(len(questions.row), -1, np.int64)
    stands_for[dropped] = instead
    best = np.full(len(questions.row), -1, np.int64)
    living = np.flatnonzero(alive)
    living = living[np.argsort(-rank[living], kind="stable")]
    best[of.question[living]] = living  # the last written, which has the smallest rank
    gone = np.flatnonzero(alive & (stands_for[of.question] >= 0))
    return gone, NEAR_QUESTION, best[stands_for[of.question[gone]]]


def _likely_questions(questions: Questions, at: I64, order: I64) -> Iterator[NDArray[np.int64]]:
    """Pairs of places in `at`: the same text; the same numbers, if there are many and they are rare; the same numbers
    and alike words."""
    yield pairs_of(questions.text[at], order[at], WINDOW)
    many = np.flatnonzero(questions.many[at])
    for frame in _frames(questions.numbers[at[many]]):
        keys, place = frame
        _, inverse, count = np.unique(keys, return_inverse=True, return_counts=True)
        small = count[inverse] <= SMALL
        yield many[place[small]][pairs_of(keys[small], order[at[many[place[small]]]], SMALL)]
    for n in range(QUESTION_BANDS):
        keys = band(questions.signature[at], n * QUESTION_ROWS, QUESTION_ROWS)
        for pair in _with_frames(keys, questions.numbers[at], order[at]):
            signatures = questions.signature[at[pair]]
            yield pair[similarity(signatures[:, 0], signatures[:, 1]) >= QUESTION_SIMILARITY]


def _frames(numbers: U64) -> Iterator[tuple[U64, I64]]:
    """(hashes, places): all readings of all questions in one list, each question under a hash once."""
    place, reading = np.nonzero(numbers)
    if len(place):
        yield numbers[place, reading], place


def _with_frames(keys: U64, numbers: U64, rank: I64) -> Iterator[NDArray[np.int64]]:
    """Pairs of places whose key is the same and that reckon with the same, with or without a frame."""
    _, inverse, count = np.unique(keys, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(count[inverse] > 1)
    for hashes, place in _frames(numbers[shared]):
        at = shared[place]
        yield at[pairs_of(mixed(keys[at] ^ hashes), rank[at], WINDOW)]


def _may_ask_the_same(questions: Questions, pairs: I64) -> BOOL:
    """[m]: False for two questions that share few words and few numbers. A million answers "yes" are alike, and their
    questions cannot each be compared with forty others by their texts."""
    a, b = pairs[:, 0], pairs[:, 1]
    certain = (questions.text[a] == questions.text[b]) | (questions.many[a] & questions.many[b])
    doubtful = np.flatnonzero(~certain)
    for at in range(0, len(doubtful), PAIRS_AT_ONCE):
        some = doubtful[at : at + PAIRS_AT_ONCE]
        certain[some] = similarity(questions.signature[a[some]], questions.signature[b[some]]) >= QUESTION_SIMILARITY
    return np.asarray(certain)


def _gathered(found: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Each pair once. Bands find the same pairs again, so what was found is put together before it is too much."""
    kept: list[NDArray[np.int64]] = []
    waiting = 0
    for pairs in found:
        kept.append(pairs)
        waiting += len(pairs)
        if waiting > PAIRS_WAITING:
            kept, waiting = [_unique(kept)], 0
    return _unique(kept)


def _unique(found: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    pairs = np.concatenate(found) if found else np.zeros((0, 2), np.int64)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return np.unique(pairs, axis=0) if len(pairs) else pairs.reshape(0, 2)


def _greedy(pairs: NDArray[np.int64], rank: I64) -> tuple[I64, I64]:
    """(dropped, what stays in its place): by rank, one is dropped that is like one that stays.

    Not by chains of likeness, at whose ends texts may be that are nothing like each other.
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


def _hard_enough(of: Candidates, questions: Questions, settings: Select) -> BOOL:
    enough = np.ones(len(questions.row), bool)
    if settings.difficulty:
        wanted = [d.casefold() for d in settings.difficulty]
        enough &= np.isin(np.char.lower(questions.difficulty), wanted)
    if settings.min_failed is not None:
        with np.errstate(invalid="ignore"):
            enough &= questions.failed >= float(settings.min_failed)  # False where nobody knows
    return np.asarray(enough[of.question])


def _beyond(of: Candidates, questions: Questions, rank: I64, alive: BOOL, most: int) -> I64:
    """Candidates that have `most` others of the same question before them."""
    at = np.flatnonzero(alive)
    group = questions.text[of.question[at]]
    at = at[np.lexsort((rank[at], group))]
    group = questions.text[of.question[at]]
    starts = np.concatenate((np.ones(min(1, len(at)), bool), group[1:] != group[:-1]))
    first = np.maximum.accumulate(np.where(starts, np.arange(len(at)), 0)) if len(at) else at
    return at[np.arange(len(at)) - first >= most]


def _chosen(of: Candidates, questions: Questions, settings: Select, left: I64, chance: U64) -> I64:
    """As many of `left` as there is room for, drawn one by one."""
    kept: list[int] = []
    tokens = 0
    for i in _drawn(of, questions, settings, left, chance):
        tokens += int(of.tokens[i])
        full = settings.traces is not None and len(kept) == settings.traces
        if full or (settings.tokens is not None and tokens > settings.tokens):
            break
        kept.append(i)
    return np.array(kept, np.int64)


def _drawn(of: Candidates, questions: Questions, settings: Select, left: I64, chance: U64) -> Iterator[int]:
    """Places in the order they are drawn in: of a domain drawn evenly where `balance` says so; in a domain at random,
    or with a chance that halves from the longest trace to the next (s1, data/filter.ipynb)."""
    random = Random(settings.seed)
    domain = questions.domain[of.question[left]] if settings.balance == "domains" else np.zeros(len(left), "U1")
    rooms: list[list[int]] = []
    for name in np.unique(domain):
        room = left[domain == name]
        by = (chance[room], of.tokens[room]) if settings.favour == "longer" else (chance[room],)
        rooms.append(room[np.lexsort(by)].tolist())  # the longest last: near the end a list gives and closes fast
    while rooms:
        n = int(random.random() * len(rooms))
        room = rooms[n]
        yield room.pop(len(room) - 1 - _halving(random, len(room)) if settings.favour == "longer" else -1)
        if not room:
            del rooms[n]


def _halving(random: Random, n: int) -> int:
    """0 with a chance of about 1/2, 1 with 1/4, and so on, below n."""
    while True:
        at = 0
        while random.random() < 0.5:
            at += 1
        if at < n:
            return at
