"""How much two texts share, from 128 small numbers each. Pure; the same on every machine and under every numpy.

A MinHash of runs of three words: an edit of one word in forty leaves about 0.85 of them, all sentences in another order
about 0.75, and two answers of one teacher to the same question share 0.05 to 0.3. 16 bits of each minimum are kept:
two that differ look alike once in 65,536.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

VERSION = "2"
PERMUTATIONS = 128
WORDS_IN_A_ROW = 3
KNOWN_WORDS = 200_000
"""Words whose hash is kept; a text may hold any number of different ones."""
AT_ONCE = 1024
"""Hashes that are multiplied at once: 128 times as many fit in a core's cache."""
U64 = NDArray[np.uint64]
U16 = NDArray[np.uint16]

_WORD = re.compile(r"\w+|[-+*/=^<>%|!]")
_LAYOUT = frozenset(
    ("left", "right", "displaystyle", "text", "textbf", "textit", "mathrm", "mathbf", "mbox", "quad", "qquad")
)
"""Words of LaTeX that say nothing."""
_RESPELLED = {"dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "cdot": "*", "times": "*", "×": "*", "÷": "/"}


def _stream(seed: int) -> Iterator[int]:
    """SplitMix64: constants that no library's version changes."""
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = ((seed ^ seed >> 30) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        yield z ^ z >> 31


_constants = _stream(20261125)
_FACTORS = np.array([next(_constants) >> 32 | 1 for _ in range(PERMUTATIONS)], np.uint32)[:, None]
_SUMMANDS = np.array([next(_constants) >> 32 for _ in range(PERMUTATIONS)], np.uint32)[:, None]
"""Of 32 bits, which processors multiply eight or more at a time: 0.09 ms a text of 8 KB, and 1.2 ms with 64."""


def hash64(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class _Hashes(dict[str, int]):
    """Of words; 0 for one that says nothing."""

    def __missing__(self, word: str) -> int:
        self[word] = value = 0 if word in _LAYOUT else hash64(_RESPELLED.get(word, word)) or 1
        return value


_hashes = _Hashes()


def mixed(values: U64) -> U64:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def words(text: str) -> list[str]:
    """In small letters, with the signs of sums; LaTeX's layout and punctuation do not count."""
    return _WORD.findall(text.casefold())


def word_hashes(found: Iterable[str]) -> U64:
    if len(_hashes) > KNOWN_WORDS:
        _hashes.clear()
    values: U64 = np.fromiter(map(_hashes.__getitem__, found), np.uint64)
    known: U64 = values[values != 0]
    return known


def in_a_row(hashes: U64, n: int = WORDS_IN_A_ROW) -> U64:
    """A hash of each `n` in a row; of a shorter text, one of all of it."""
    n = max(1, min(n, len(hashes)))
    count = len(hashes) - n + 1
    rows = hashes[:count].copy()
    for i in range(1, n):
        rows = mixed(rows) + hashes[i : i + count]
    return mixed(rows)


def signature(rows: U64) -> U16:
    """[128], from hashes of what is in a text; zeros for an empty one."""
    if not len(rows):
        return np.zeros(PERMUTATIONS, np.uint16)
    short = (rows >> np.uint64(32)).astype(np.uint32)
    lowest = np.full(PERMUTATIONS, np.iinfo(np.uint32).max, np.uint32)
    for at in range(0, len(short), AT_ONCE):
        products = short[None, at : at + AT_ONCE] * _FACTORS
        products += _SUMMANDS
        np.minimum(lowest, products.min(axis=1), out=lowest)
    # A smallest product's bits are as good as random only after mixing.
    return (mixed(lowest.astype(np.uint64)) & np.uint64(0xFFFF)).astype(np.uint16)


def of_text(*texts: str) -> U16:
    """The signature of texts one after the other."""
    return signature(in_a_row(np.concatenate([word_hashes(words(t)) for t in texts])))


def similarity(a: U16, b: U16) -> NDArray[np.float64]:
    """[n] estimates from [n, 128] each: the share of what either holds that both do, give or take 0.04."""
    return np.asarray((a == b).mean(axis=1))


def band(signatures: U16, at: int, rows: int) -> U64:
    """[n]: a hash of `rows` numbers of each signature from `at` on; alike texts have one alike, others hardly."""
    found = np.zeros(len(signatures), np.uint64)
    for i in range(at, at + rows):
        found = mixed(found ^ signatures[:, i].astype(np.uint64) + np.uint64(i))
    return found


def pairs_of(keys: U64, order: Sequence[int] | NDArray[np.int64], window: int) -> NDArray[np.int64]:
    """[m, 2] places with the same key, the earlier by `order` first. Of many with one key, each is paired with the
    first and with `window` before it: a key that is everywhere does not make a square of pairs."""
    rank = np.asarray(order)
    at = np.lexsort((rank, keys))
    ordered = keys[at]
    starts = np.concatenate(([True], ordered[1:] != ordered[:-1])) if len(keys) else np.zeros(0, bool)
    first = np.maximum.accumulate(np.where(starts, np.arange(len(keys)), 0))
    found = [np.stack((first, np.arange(len(keys))), 1)[~starts]]
    for back in range(1, window + 1):
        later = np.flatnonzero(np.arange(len(keys)) - first > back)
        if not len(later):
            break
        found.append(np.stack((later - back, later), 1))
    pairs: NDArray[np.int64] = at[np.concatenate(found)]
    return pairs
