"""Which rows go together into one batch."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from harvest.asking.batch.slices import FULL, MONEY, Limits, Slice, custom_id, key_of
from harvest.core.nouns import Ask, content_hash
from harvest.store import RowToSend

ROWS = st.lists(st.tuples(st.integers(0, 1_000), st.integers(1, 500)), min_size=1, max_size=60)
"""Rows as (worst case in picodollars, bytes)."""


@given(rows=ROWS, most=st.integers(1, 20), most_bytes=st.integers(1, 3_000), room=st.none() | st.integers(0, 5_000))
def test_a_slice_keeps_to_its_limits_and_to_the_cap(
    rows: list[tuple[int, int]], most: int, most_bytes: int, room: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = Slice("s", Path(folder) / "deep" / "s.jsonl", Limits(most, most_bytes), room)
        for n, (worst, size) in enumerate(rows):
            row, line = RowToSend(n, Ask(0, 10), f"sha256:{n}", worst), b"x" * (size - 1) + b"\n"
            lacks = made.takes(row, len(line))
            if lacks is None:
                made.add(row, line)
            elif lacks == FULL:
                assert len(made.rows) == most or made.size_bytes + size > most_bytes
            else:
                assert lacks == MONEY
                assert room is not None
                assert made.worst_pusd + worst > room
        made.close()
        assert len(made.rows) <= most
        assert made.size_bytes <= most_bytes or len(made.rows) == 1, "one row always goes"
        assert room is None or made.worst_pusd <= room
        assert made.worst_pusd == sum(row.worst_pusd for row in made.rows)
        written = made.file.read_bytes() if made.rows else b""
        assert written.count(b"\n") == len(made.rows)
        assert len(written) == made.size_bytes
        made.discard()
        assert not made.file.exists()


@given(rows=st.integers(1, 10_000), most=st.integers(1, 10_000))
def test_a_slice_that_was_refused_makes_the_next_ones_smaller_and_never_empty(rows: int, most: int) -> None:
    limits = Limits(most, 1)
    sizes = []
    while limits.rows > 1:
        limits.halve_rows(rows)
        sizes.append(limits.rows)
    assert all(size < rows or rows == 1 for size in sizes)
    assert limits.rows == 1


def test_a_custom_id_is_what_every_provider_takes_and_leads_back_to_the_key() -> None:
    key = content_hash({"a": 1})
    assert len(custom_id(key)) == 64
    assert custom_id(key).isalnum()
    assert key_of(custom_id(key)) == key
