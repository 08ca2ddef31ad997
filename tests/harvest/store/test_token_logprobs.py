"""What the store keeps of the log-probabilities of tokens, and how many bytes it takes."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from stores import NOW, reply, reserved, store_with_a_run

from harvest.core.nouns import TokenLogprobs
from harvest.store.token_logprobs import VERSION, packed, unpacked


def numbers(kind: str, values: list[float]) -> bytes:
    return struct.pack(f"<{len(values)}{kind}", *values)


def logprobs(tokens: int, width: int, pieces: dict[int, bytes] | None = None) -> TokenLogprobs:
    ids = [n * 7 % 150_000 for n in range(tokens * width)]
    return TokenLogprobs(
        numbers("f", [-0.5] * tokens),
        numbers("i", ids[:: max(1, width)]) if width else None,
        width,
        numbers("i", ids),
        numbers("e", [-1.0] * (tokens * width)),
        pieces or {},
    )


@given(st.integers(0, 5), st.integers(0, 3), st.dictionaries(st.integers(0, 200_000), st.binary(max_size=9)))
def test_what_is_packed_comes_back(tokens: int, width: int, pieces: dict[int, bytes]) -> None:
    of = logprobs(tokens, width, pieces)
    assert unpacked(packed(of)) == of


def test_a_piece_that_is_too_long_is_left_out_and_another_version_is_refused() -> None:
    of = logprobs(2, 1, {1: b"a", 2: b"x" * 70_000})
    assert unpacked(packed(of)) == replace(of, pieces={1: b"a"})
    newer = bytes([VERSION + 1]) + zstandard.decompress(packed(of))[1:]
    with pytest.raises(ValueError, match="a newer winnow"):
        unpacked(zstandard.compress(newer))


def test_an_answers_log_probabilities_are_read_back_apart_from_its_reply(tmp_path: Path) -> None:
    with store_with_a_run(tmp_path) as store:
        of = logprobs(3, 2, {0: b"a"})
        with store.transaction():
            first, other = reserved(store, 0), reserved(store, 1)
            store.settle(first.try_id, replace(reply(), logprobs=of), 5, "config", NOW)
            store.settle(other.try_id, reply(), 5, "config", NOW)
        assert store.token_logprobs(first.attempt_id) == [of]
        assert store.token_logprobs(other.attempt_id) == []
        assert store.reply(first.try_id).logprobs is None
