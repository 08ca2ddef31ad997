"""Holds rendered rows in an Arrow table. The processes of a machine map one file of it and share its memory."""

import hashlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from finetune.rows.render import Example
from harvest.core.errors import DatasetError

SCHEMA = pa.schema({
    "ids": pa.list_(pa.int32()),
    "trained": pa.list_(pa.int32()),
    "id": pa.string(),
    "row": pa.int64(),
    "where": pa.string(),
    "question_id": pa.string(),
    "asked": pa.list_(pa.string()),
    "sha256": pa.string(),
})  # fmt: skip
"""The columns of the table, one example a line.

`trained` has the begin and the end of each run of trained tokens. `row` and `where` say which row of the dataset it is,
`asked` has the texts of its user, and `question_id` is the row's own or else a digest of those texts. `id` is the row's
own name in an export, or empty. `sha256` is the row's hash (harvest/proof/lines.py), or empty for rows that were made
here.
"""


def runs(mask: Sequence[int]) -> list[int]:
    """Returns [begin, end, begin, end, …] of the runs of ones in a mask."""
    edges = np.flatnonzero(np.diff(np.frombuffer(bytes(mask), np.int8), prepend=0, append=0))
    found: list[int] = edges.tolist()
    return found


def mask_of(trained: Sequence[int], tokens: int) -> bytearray:
    """Returns the mask [tokens] whose runs of ones are `trained`, one byte a token."""
    mask = bytearray(tokens)
    for begin, end in zip(trained[::2], trained[1::2], strict=True):
        mask[begin:end] = b"\1" * (end - begin)
    return mask


def example_of(ids: pa.ListScalar, trained: pa.ListScalar) -> Example:
    """Returns the example in two fields of a line of the table."""
    held = array("i", ids.values.to_numpy().tobytes())
    return Example(held, array("b", mask_of(trained.as_py(), len(held))))


def digest_of(examples: Sequence[Example]) -> str:
    """Returns the checksum of what is trained: of every token id and every bit of the mask, in order."""
    h = hashlib.sha256()
    for e in examples:
        h.update(len(e).to_bytes(8, "little") + e.ids.tobytes() + e.mask.tobytes())
    return f"sha256:{h.hexdigest()}"


class LeftOut(NamedTuple):
    """A row, or one turn of a row, that is not trained."""

    row: int
    sha256: str
    """Empty: the row could not be read."""
    id: str
    question_id: str
    why: str


@dataclass(frozen=True, eq=False)
class Examples(Sequence[Example]):
    """The examples that will be trained, as a view of a table (SCHEMA). An example is made when it is asked for."""

    table: pa.Table
    digest: str
    """The checksum of what is trained, as `digest_of` makes it."""
    dropped: tuple[str, ...] = ()
    """One line for each row that is left out because it is too long."""
    notes: tuple[str, ...] = ()
    """Sentences about the whole dataset, for example that fewer rows were mixed in than the recipe asks for."""
    origins: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """How many rows have which teacher, source, licence and terms: {"teacher": {"r1": 324}, …}."""
    left_out: tuple[LeftOut, ...] = ()
    """Every row that is left out: those of `dropped`, and those that could not be trained."""
    manifests: tuple[str, ...] = ()
    """The manifest of each dataset that the rows come from, as a path; "" where a dataset has none."""
    at: tuple[int, ...] | None = None
    """The lines of the table that are in view, in order; None means all."""

    @classmethod
    def of(cls, examples: Sequence[Example]) -> "Examples":
        """Returns examples that are in memory already, numbered from 0, each with a question of its own."""
        columns = {
            "ids": [e.ids for e in examples],
            "trained": [runs(e.mask) for e in examples],
            "id": [""] * len(examples),
            "row": range(len(examples)),
            "where": [f"row {n}" for n in range(len(examples))],
            "question_id": list(map(str, range(len(examples)))),
            "asked": [[] for _ in examples],
            "sha256": [""] * len(examples),
        }
        return cls(pa.table(columns, schema=SCHEMA), digest_of(examples))

    def __len__(self) -> int:
        return self.table.num_rows if self.at is None else len(self.at)

    @overload
    def __getitem__(self, n: int) -> Example: ...
    @overload
    def __getitem__(self, n: slice) -> list[Example]: ...
    def __getitem__(self, n: int | slice) -> "Example | list[Example]":
        if isinstance(n, slice):
            return [self[k] for k in range(len(self))[n]]
        line = range(len(self))[n] if self.at is None else self.at[n]
        return example_of(self.table["ids"][line], self.table["trained"][line])

    def __iter__(self) -> Iterator[Example]:
        return (self[n] for n in range(len(self)))

    def _column(self, name: str) -> pa.ChunkedArray:
        column = self.table[name]
        return column if self.at is None else column.take(pa.array(self.at, pa.int64()))

    @cached_property
    def lengths(self) -> list[int]:
        """Returns how many tokens each example has."""
        lengths = pc.list_value_length(self.table["ids"]).to_numpy()
        found: list[int] = (lengths if self.at is None else lengths[list(self.at)]).tolist()
        return found

    @cached_property
    def trained_lengths(self) -> list[int]:
        """Returns how many tokens of each example are trained."""
        return [sum(edges[1::2]) - sum(edges[::2]) for edges in self._column("trained").to_pylist()]

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """Returns the row of the dataset that each example comes from, counted from 0."""
        return tuple(self._column("row").to_pylist())

    @cached_property
    def question_ids(self) -> list[str]:
        """Returns what each example asks: the row's `question_id`, else a digest of the texts that ask."""
        found: list[str] = self._column("question_id").to_pylist()
        return found

    @cached_property
    def trained_tokens(self) -> int:
        edges = self._column("trained").combine_chunks().flatten().to_numpy()
        return int((edges[1::2] - edges[::2]).sum())

    def asked(self) -> Iterator[tuple[int, str, list[str]]]:
        """Yields for each example: the number of its row, the place of that row in words, and the texts of its user."""
        columns = (self._column(name).to_pylist() for name in ("row", "where", "asked"))
        return zip(*columns, strict=True)

    def subset(self, at: Sequence[int]) -> "Examples":
        """Returns the examples with these numbers, in this order, over the same table."""
        lines = tuple(at) if self.at is None else tuple(self.at[n] for n in at)
        chosen = hashlib.sha256(f"{self.digest} {lines}".encode()).hexdigest()
        return replace(self, at=lines, digest=f"sha256:{chosen}")

    def refuse_none(self, source: str) -> None:
        """Raises DatasetError when there is no row to train."""
        if not len(self):
            why = f"all {len(self.dropped)} rows are longer than render.max_tokens" if self.dropped else "no rows"
            why = "; ".join(self.notes) or why
            raise DatasetError(f"{source}: nothing to train: {why}")

    def summary(self) -> dict[str, Any]:
        """Returns how many rows and tokens there are, how many tokens are trained, and how long the rows are."""
        lengths = sorted(self.lengths)
        at = [lengths[min(len(lengths) - 1, int(len(lengths) * q))] if lengths else None for q in (0.5, 0.95, 1)]
        return {
            "rows": len(lengths),
            "dropped": len(self.dropped),
            "tokens": sum(lengths),
            "trained_tokens": self.trained_tokens,
            "row_tokens": {
                "mean": round(sum(lengths) / len(lengths), 1) if lengths else None,
                "p50": at[0],
                "p95": at[1],
                "max": at[2],
            },
        }
