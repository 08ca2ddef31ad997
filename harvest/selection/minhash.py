"""Estimates how much two texts share, by MinHash: each text has a signature of 128 small numbers. Pure.

A signature is made from the sequences of three words in a text. It is the same on every machine and under every version
of numpy. Two texts share about 0.85 of their sequences if one word in forty was edited, and 0.75 if all sentences stand
in another order; two answers of one teacher to the same question share 0.05 to 0.3. Each number is 16 bits of a
minimum, so two different minima look the same once in 65,536.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import chain

import numpy as np
from numpy.typing import NDArray

VERSION = "2"
PERMUTATIONS = 128
WORDS_IN_A_ROW = 3
KNOWN_WORDS = 200_000
"""The number of words whose hashes are remembered. If there are more, all hashes are forgotten."""
AT_ONCE = 1024
"""The number of hashes that are multiplied at once. Their products, 128 for each hash, fit in a core's cache."""
U64 = NDArray[np.uint64]
U16 = NDArray[np.uint16]

_SIGNS = "-+*/=^<>%|!"
"""The signs of arithmetic, which count as words."""
_BLANKED = str.maketrans({c: " " for c in map(chr, range(128)) if not (c.isalnum() or c == "_" or c in _SIGNS)})
_ASCII = bytes(range(128))
_LAYOUT = frozenset(
    ("left", "right", "displaystyle", "text", "textbf", "textit", "mathrm", "mathbf", "mbox", "quad", "qquad")
)
"""Words of LaTeX that only set the layout. They do not count as words."""
_RESPELLED = {"dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "cdot": "*", "times": "*", "×": "*", "÷": "/"}


def mixed(values: U64) -> U64:
    """Returns the values with their bits mixed, as SplitMix64 mixes them."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""The difference between one state of SplitMix64 and the next."""
_STATES = np.uint64(20261125) + GOLDEN * np.arange(1, 2 * PERMUTATIONS + 1, dtype=np.uint64)
_CONSTANTS = (mixed(_STATES) >> np.uint64(32)).astype(np.uint32)[:, None]
_FACTORS, _SUMMANDS = _CONSTANTS[:PERMUTATIONS] | np.uint32(1), _CONSTANTS[PERMUTATIONS:]
"""Random constants, which are the same under every version of a library. They have 32 bits, because processors multiply
eight or more such numbers at a time: a text of 8 KB takes 0.09 ms, and would take 1.2 ms with 64 bits."""


def hash64(text: str) -> int:
    """Returns a hash of a text, in 64 bits."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class _Hashes(dict[str, int]):
    """Maps words to hashes. A hash is made when it is first asked for. A word of LaTeX layout has the hash 0."""

    def __missing__(self, word: str) -> int:
        self[word] = value = 0 if word in _LAYOUT else hash64(_RESPELLED.get(word, word)) or 1
        return value


_hashes = _Hashes()


def words(text: str) -> list[str]:
    """Returns the words of a text in small letters, and the signs of arithmetic: what `\\w+|[-+*/=^<>%|!]` finds.

    A regular expression would take three times as long.
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
    """Returns the hashes of words. Words of LaTeX layout have the hash 0."""
    if len(_hashes) > KNOWN_WORDS:
        _hashes.clear()
    return np.fromiter(map(_hashes.__getitem__, found), np.uint64)


def in_a_row(hashes: U64) -> U64:
    """Returns a hash of each sequence of WORDS_IN_A_ROW words.

    A text of fewer words has one hash, of all its words.
    """
    n = max(1, min(WORDS_IN_A_ROW, len(hashes)))
    count = len(hashes) - n + 1
    rows = hashes[:count].copy()
    for i in range(1, n):
        rows = mixed(rows) + hashes[i : i + count]
    return mixed(rows)


def signatures(rows: U64, of: NDArray[np.int64], n: int) -> U16:
    """Returns the signatures, [n, 128], of n texts from the hashes of their sequences; zeros for an empty text.

    `of` holds the index of each hash's text, in ascending order.
    """
    lowest = np.full((n, PERMUTATIONS), np.iinfo(np.uint32).max, np.uint32)
    short = (rows >> np.uint64(32)).astype(np.uint32)
    for at in range(0, len(short), AT_ONCE):
        products = short[None, at : at + AT_ONCE] * _FACTORS
        products += _SUMMANDS
        here = of[at : at + AT_ONCE]
        if here[0] == here[-1]:
            np.minimum(lowest[here[0]], products.min(axis=1), out=lowest[here[0]])
        else:
            texts, first = np.unique(here, return_index=True)
            lowest[texts] = np.minimum(lowest[texts], np.minimum.reduceat(products, first, axis=1).T)
    # A smallest product's bits are as good as random only after mixing.
    found = (mixed(lowest.astype(np.uint64)) & np.uint64(0xFFFF)).astype(np.uint16)
    found[np.bincount(of, minlength=n) == 0] = 0
    return found


def of_text(*texts: str) -> U16:
    """Returns one signature for several texts, as if they were one text. It is made of words in a row."""
    hashes = np.concatenate([word_hashes(words(t)) for t in texts])
    rows = in_a_row(hashes[hashes != 0])
    return np.asarray(signatures(rows, np.zeros(len(rows), np.int64), 1)[0])


def of_words(texts: Sequence[Sequence[str]]) -> U16:
    """Returns the signatures, [n, 128], of n texts, each given as its words. They are made of words and pairs of
    words."""
    of = np.repeat(np.arange(len(texts)), [len(found) for found in texts])
    hashes = word_hashes(chain.from_iterable(texts))
    of, hashes = of[hashes != 0], hashes[hashes != 0]
    rows, same = mixed(hashes), of[:-1] == of[1:]
    pairs = mixed(rows[:-1] + hashes[1:])[same]
    both = np.concatenate((of, of[:-1][same]))
    order = np.argsort(both, kind="stable")
    return signatures(np.concatenate((rows, pairs))[order], both[order], len(texts))


def similarity(a: U16, b: U16) -> NDArray[np.float64]:
    """Returns [n] estimates, 0 to 1, of how much two texts share, from two arrays of signatures, [n, 128].

    The share is that of the sequences which both texts hold, among all sequences of the two. An estimate's standard
    deviation is 0.04.
    """
    return np.asarray((a == b).mean(axis=1))


def band(signatures: U16, which: NDArray[np.int64], at: int, rows: int) -> U64:
    """Returns [n]: a hash of `rows` numbers, from index `at` on, of each signature at the indices `which`, [n].

    Similar texts have the same hash in at least one band. Texts that are not similar hardly ever do.
    """
    found = np.zeros(len(which), np.uint64)
    for i in range(at, at + rows):
        found = mixed(found ^ signatures[which, i].astype(np.uint64) + np.uint64(i))
    return found


def pairs_of(keys: U64, rank: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    """Returns [m, 2]: pairs of indices into `keys` whose keys are the same. The index with the smaller rank is first.

    If many indices have one key, each is paired with the first of them and with the `window` indices before it. So the
    number of pairs grows with the number of indices, not with the square of that number.
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
