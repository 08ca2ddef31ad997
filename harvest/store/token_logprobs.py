"""Packs the log-probabilities of a reply's tokens for the store, and reads them as the same value.

Numbers of one column stand together, and their first bytes before their second bytes: so zstd finds more that repeats.
"""

import struct

import zstandard

from harvest.core.nouns import TokenLogprobs

HEAD = struct.Struct("<BIIII")
"""The form's version, N tokens (of which ids are there if the next is not 0), ids, K, pieces."""
VERSION = 1
PIECE = struct.Struct("<iH")
"""The head of a piece: its id, and how many bytes follow."""
ID_BYTES, LOGPROB_BYTES, TOP_BYTES = 4, 4, 2
LEVEL = 3
LONGEST_PIECE = 2**16 - 1


def packed(of: TokenLogprobs) -> bytes:
    """Returns the log-probabilities as bytes for the store."""
    pieces = b"".join(PIECE.pack(i, len(p)) + p for i, p in of.pieces.items() if len(p) <= LONGEST_PIECE)
    count = sum(len(p) <= LONGEST_PIECE for p in of.pieces.values())
    parts = (
        HEAD.pack(VERSION, of.tokens, of.ids is not None, of.width, count),
        _planes(of.logprobs, LOGPROB_BYTES),
        _planes(of.ids or b"", ID_BYTES),
        _planes(of.top_ids, ID_BYTES),
        _planes(of.top_logprobs, TOP_BYTES),
        pieces,
    )
    return zstandard.compress(b"".join(parts), LEVEL)


def unpacked(body: bytes) -> TokenLogprobs:
    """Returns the log-probabilities that `packed` packed. Raises ValueError for another version's bytes."""
    data = zstandard.decompress(body)
    version, tokens, has_ids, width, count = HEAD.unpack_from(data)
    if version != VERSION:
        raise ValueError(f"log-probabilities of version {version}: a newer winnow wrote them")
    at = HEAD.size

    def take(numbers: int, size: int) -> bytes:
        nonlocal at
        at += numbers * size
        return _numbers(data[at - numbers * size : at], size)

    logprobs = take(tokens, LOGPROB_BYTES)
    ids = take(tokens if has_ids else 0, ID_BYTES)
    top_ids = take(tokens * width, ID_BYTES)
    top_logprobs = take(tokens * width, TOP_BYTES)
    pieces = {}
    for _ in range(count):
        token, size = PIECE.unpack_from(data, at)
        at += PIECE.size + size
        pieces[token] = data[at - size : at]
    return TokenLogprobs(logprobs, ids if has_ids else None, width, top_ids, top_logprobs, pieces)


def _planes(numbers: bytes, size: int) -> bytes:
    """Returns the first byte of each number, then the second byte of each, and so on."""
    return b"".join(numbers[n::size] for n in range(size))


def _numbers(planes: bytes, size: int) -> bytes:
    """Returns the numbers whose bytes `_planes` put apart."""
    numbers, count = bytearray(len(planes)), len(planes) // size
    for n in range(size):
        numbers[n::size] = planes[n * count : (n + 1) * count]
    return bytes(numbers)
