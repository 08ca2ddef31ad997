"""MinHash: estimates how much two texts share from a signature of 128 small numbers each. Pure.

The signatures are made of runs of three words, and are the same on every machine and under every version of numpy. Two
texts share about 0.85 where one word in forty was edited, and 0.75 where all sentences stand in another order; two
answers of one teacher to the same question share 0.05 to 0.3. Each number is 16 bits of a minimum, so two different
minima look the same once in 65,536.
"""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

VERSION = "2"
PERMUTATIONS = 128
WORDS_IN_A_ROW = 3
KNOWN_WORDS = 200_000
"""How many words' hashes are remembered before all are forgotten."""
AT_ONCE = 1024
"""How many hashes are multiplied at once: 128 times as many products fit in a core's cache."""
U64 = NDArray[np.uint64]
U16 = NDArray[np.uint16]

_SIGNS = "-+*/=^<>%|!"
"""The signs of sums, which count as words."""
_BLANKED = str.maketrans({c: " " for c in map(chr, range(128)) if not (c.isalnum() or c == "_" or c in _SIGNS)})
_ASCII = bytes(range(128))
_LAYOUT = frozenset(
    ("left", "right", "displaystyle", "text", "textbf", "textit", "mathrm", "mathbf", "mbox", "quad", "qquad")
)
"""Words of LaTeX for layout, which do not count."""
_RESPELLED = {"dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "cdot": "*", "times": "*", "×": "*", "÷": "/"}


def mixed(values: U64) -> U64:
    """The values with their bits mixed, as SplitMix64 does it."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""The step between two states of SplitMix64."""
_STATES = np.uint64(20261125) + GOLDEN * np.arange(1, 2 * PERMUTATIONS + 1, dtype=np.uint64)
_CONSTANTS = (mixed(_STATES) >> np.uint64(32)).astype(np.uint32)[:, None]
_FACTORS, _SUMMANDS = _CONSTANTS[:PERMUTATIONS] | np.uint32(1), _CONSTANTS[PERMUTATIONS:]
"""Random constants, which no library's version changes. They have 32 bits, which processors multiply eight or more at a
time: a text of 8 KB takes 0.09 ms, and would take 1.2 ms with 64 bits."""


def hash64(text: str) -> int:
    """64 bits of a text."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class _Hashes(dict[str, int]):
    """Hashes by word, made when they are first asked for; 0 for a word of layout."""

    def __missing__(self, word: str) -> int:
        self[word] = value = 0 if word in _LAYOUT else hash64(_RESPELLED.get(word, word)) or 1
        return value


_hashes = _Hashes()


def words(text: str) -> list[str]:
    """The words of a text in small letters, and the signs of sums: what `\\w+|[-+*/=^<>%|!]` finds.

    `re` takes three times as long.
    """
    text = text.casefold()
    if not text.isascii():
        others = text.encode("utf-8", "surrogatepass").translate(None, _ASCII).decode("utf-8", "surrogatepass")
        for character in set(others):
            if not character.isalnum():
                text = text.replace(character, " ")
    if text.isascii():
        text = text.translate(_BLANKED)
    else:
        for character in set(text).intersection(map(chr, _BLANKED)):
            text = text.replace(character, " ")
    for sign in _SIGNS:
        if sign in text:
            text = text.replace(sign, f" {sign} ")
    return text.split()


def word_hashes(found: Iterable[str]) -> U64:
    """The hashes of words, without those of layout."""
    if len(_hashes) > KNOWN_WORDS:
        _hashes.clear()
    values: U64 = np.fromiter(map(_hashes.__getitem__, found), np.uint64)
    return np.asarray(values[values != 0])


def in_a_row(hashes: U64, n: int = WORDS_IN_A_ROW) -> U64:
    """A hash of each run of `n` words; a shorter text has one hash of all its words."""
    n = max(1, min(n, len(hashes)))
    count = len(hashes) - n + 1
    rows = hashes[:count].copy()
    for i in range(1, n):
        rows = mixed(rows) + hashes[i : i + count]
    return mixed(rows)


def signature(rows: U64) -> U16:
    """The signature, [128], of a text that is made of these hashes; zeros for an empty one."""
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
    """The signature of several texts, read one after the other."""
    return signature(in_a_row(np.concatenate([word_hashes(words(t)) for t in texts])))


def similarity(a: U16, b: U16) -> NDArray[np.float64]:
    """[n] estimates from two [n, 128]: of all runs of words that either text holds, the share that both hold. The
    standard deviation is 0.04."""
    return np.asarray((a == b).mean(axis=1))


def band(signatures: U16, at: int, rows: int) -> U64:
    """[n]: a hash of `rows` numbers of each signature, from `at` on. Similar texts have some band in common, others
    hardly ever."""
    found = np.zeros(len(signatures), np.uint64)
    for i in range(at, at + rows):
        found = mixed(found ^ signatures[:, i].astype(np.uint64) + np.uint64(i))
    return found


def pairs_of(keys: U64, rank: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    """[m, 2]: pairs of places with the same key, the one with the smaller rank first.

    Where many places have one key, each is paired with the first and with the `window` before it. So the pairs of a
    frequent key grow with the number of its places, not with its square.
    """
    at = np.lexsort((rank, keys))
    before = np.arange(len(keys)) - np.searchsorted(keys[at], keys[at])  # how many stand before it with the same key
    later = np.flatnonzero(before)
    found = [np.stack((later - before[later], later), 1)]
    for back in range(1, window + 1):
        later = np.flatnonzero(before > back)
        if not len(later):
            break
        found.append(np.stack((later - back, later), 1))
    pairs: NDArray[np.int64] = at[np.concatenate(found)]
    return pairs
