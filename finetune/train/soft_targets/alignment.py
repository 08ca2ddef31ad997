"""Finds which tokens of a rendered row the teacher itself sampled, at the same place of the same text."""

from collections.abc import Sequence
from itertools import accumulate


def aligned(
    ids: Sequence[int],
    begin: int,
    sampled: Sequence[int],
    pieces: Sequence[bytes],
    texts: Sequence[str],
) -> list[tuple[int, int]]:
    """Returns (place in `ids`, place in `sampled`) of each token that student and teacher write at the same place.

    `ids` is a rendered row whose answer begins at `begin`; `sampled` are the tokens that the teacher wrote; `pieces`
    has the bytes of each token. `texts` are the chain and the answer. The row and the teacher's tokens both hold these
    texts in this order, each with its own marks around them.

    A token that crosses the border of a text is left out, and so is a token that only one of the two has. The end token
    is included if it is the same in both and directly follows the answer in both.
    """
    if any(i >= len(pieces) for i in sampled):
        return []
    ours, theirs = _ends(ids[begin:], pieces), _ends(sampled, pieces)
    row, said = (b"".join(pieces[i] for i in some) for some in (ids[begin:], sampled))
    by_place = {end - len(pieces[i]): n for n, (i, end) in enumerate(zip(sampled, theirs, strict=True)) if pieces[i]}
    found: list[tuple[int, int]] = []
    at_row = at_said = n = 0
    for text in (t.encode() for t in texts):
        from_row, from_said = row.find(text, at_row), said.find(text, at_said)
        if not text or from_row < 0 or from_said < 0:
            return found
        at_row, at_said = from_row + len(text), from_said + len(text)
        while n < len(ours) and ours[n] <= at_row:
            start = ours[n] - len(pieces[ids[begin + n]])
            there = by_place.get(start - from_row + from_said) if start >= from_row else None
            if there is not None and sampled[there] == ids[begin + n]:
                found.append((begin + n, there))
            n += 1
    if _ends_alike(ids[begin:], sampled, ours, theirs, at_row, at_said):
        found.append((len(ids) - 1, len(sampled) - 1))
    return found


def _ends(ids: Sequence[int], pieces: Sequence[bytes]) -> list[int]:
    """Returns where the bytes of each token end."""
    return list(accumulate(len(pieces[i]) for i in ids))


def _ends_alike(
    ids: Sequence[int], sampled: Sequence[int], ours: Sequence[int], theirs: Sequence[int], at: int, at_said: int
) -> bool:
    """Whether both end with the same token, directly after the answer that ends at `at` and `at_said`."""
    if len(ids) < 2 or len(sampled) < 2 or ids[-1] != sampled[-1]:
        return False
    return ours[-2] == at and theirs[-2] == at_said
