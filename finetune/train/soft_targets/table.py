"""Holds the soft targets of rendered rows: further columns of the table of examples, and what is said of them."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from finetune.rows.examples import Examples

Places = np.ndarray[Any, np.dtype[np.int32]]
Numbers = np.ndarray[Any, np.dtype[np.float32]]

COLUMNS = pa.schema({
    "soft_at": pa.list_(pa.int32()),
    "soft_ids": pa.list_(pa.int32()),
    "soft_logprobs": pa.list_(pa.float32()),
    "soft_teachers": pa.list_(pa.string()),
    "soft_counts": pa.list_(pa.int32()),
})  # fmt: skip
"""The columns of soft targets, one example a line.

`soft_at` [M] has the places in `ids` of the tokens that have a target. `soft_ids` and `soft_logprobs` have K numbers
for each of them, one after another; an id of -1 is missing. `soft_teachers` names the teachers that gave them, and
`soft_counts` has the number of tokens that each of these gave.
"""


class Given(NamedTuple):
    """What one teacher gave to the tokens of one row."""

    teacher: str
    at: Places
    """[M], the places in the row's `ids`, ascending."""
    ids: Places
    """[M, K], the most likely tokens. -1 is missing."""
    logprobs: Numbers
    """[M, K], their log-probabilities at temperature 1. -inf is missing."""


def kept(given: Given, top_k: int) -> Given:
    """Returns the `top_k` most likely tokens of each place, without the places that have none."""
    order = np.argsort(-given.logprobs, axis=1, kind="stable")[:, :top_k]
    ids, logprobs = np.take_along_axis(given.ids, order, 1), np.take_along_axis(given.logprobs, order, 1)
    some = ids[:, 0] >= 0 if ids.shape[1] else np.zeros(len(ids), bool)
    return Given(given.teacher, given.at[some], ids[some], logprobs[some])


def within(given: Given, tokens: int) -> Given:
    """Returns `given` without the token ids that are not below `tokens`. The student's tokenizer does not have these
    tokens, but a teacher's logits may have columns for them.

    The probability of a token that is taken out counts with that of all tokens which the teacher did not name.
    """
    unknown = given.ids >= tokens
    ids, logprobs = np.where(unknown, np.int32(-1), given.ids), np.where(unknown, np.float32(-np.inf), given.logprobs)
    return Given(given.teacher, given.at, ids, logprobs)


def averaged(several: Sequence[Given], share: Mapping[str, float]) -> tuple[Places, Places, Numbers]:
    """Returns (at, ids, log-probabilities) of the mean of what several teachers gave to one row.

    Each place has the mean of the probabilities of those teachers that gave some there, by their shares, over all
    tokens that any of them named. A token that a teacher did not name has nothing of that teacher: its probability is
    among those that no token has.
    """
    if len(several) == 1:
        return several[0].at, several[0].ids, several[0].logprobs
    at = np.unique(np.concatenate([g.at for g in several]))
    width = sum(g.ids.shape[1] for g in several)
    ids, mass = np.full((len(at), width), -1, np.int32), np.zeros((len(at), width))
    weight, begin = np.zeros((len(at), 1)), 0
    for g in several:
        lines, end = np.searchsorted(at, g.at), begin + g.ids.shape[1]
        ids[lines, begin:end] = g.ids
        mass[lines, begin:end] = share[g.teacher] * np.exp(g.logprobs.astype(np.float64))
        weight[lines] += share[g.teacher]
        begin = end
    order = np.argsort(ids, axis=1, kind="stable")
    ids, mass = np.take_along_axis(ids, order, 1), np.take_along_axis(mass, order, 1)
    is_first = np.concatenate([np.ones((len(at), 1), bool), ids[:, 1:] != ids[:, :-1]], 1)
    column = np.cumsum(is_first, 1) - 1
    line = np.broadcast_to(np.arange(len(at))[:, None], ids.shape)
    tokens, sums = np.full(ids.shape, -1, np.int32), np.zeros(ids.shape)
    tokens[line, column] = ids
    np.add.at(sums, (line, column), np.where(ids >= 0, mass, 0))
    with np.errstate(divide="ignore"):
        logprobs = np.log(sums / weight).astype(np.float32)
    found = kept(Given("", at, np.where(sums > 0, tokens, -1).astype(np.int32), logprobs), width)
    return found.at, found.ids, found.logprobs


def batch_of(rows: Sequence[Sequence[Given]], share: Mapping[str, float]) -> pa.RecordBatch:
    """Returns the columns for rows, each with what its teachers gave (none of them: the row has no targets)."""
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS.names}
    for several in rows:
        several = [g for g in several if len(g.at)]
        at, ids, logprobs = averaged(several, share) if several else (np.empty(0), np.empty(0), np.empty(0))
        columns["soft_at"].append(at.astype(np.int32))
        columns["soft_ids"].append(ids.astype(np.int32).ravel())
        columns["soft_logprobs"].append(logprobs.astype(np.float32).ravel())
        columns["soft_teachers"].append([g.teacher for g in several])
        columns["soft_counts"].append([len(g.at) for g in several])
    return pa.RecordBatch.from_pydict(columns, COLUMNS)


def with_columns(examples: Examples, targets: pa.Table) -> Examples:
    """Returns the examples with their soft targets, which have a line for each line of the table of examples."""
    h = hashlib.sha256(examples.digest.encode())
    for name in ("soft_at", "soft_ids", "soft_logprobs"):
        for values in targets[name].chunks:
            h.update(values.flatten().to_numpy().tobytes() + values.value_lengths().to_numpy().tobytes())
    table = examples.table
    for name in COLUMNS.names:
        table = table.append_column(COLUMNS.field(name), targets[name])
    return replace(examples, table=table, digest=f"sha256:{h.hexdigest()}")


@dataclass(slots=True)
class Parts:
    """How many rows and tokens each teacher gave targets to, and how many have none."""

    rows: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    rows_with: int = 0
    tokens_with: int = 0
    rows_in_all: int = 0
    tokens_in_all: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "teachers": {name: {"rows": self.rows[name], "tokens": self.tokens[name]} for name in sorted(self.rows)},
            "rows_with_targets": self.rows_with,
            "rows_without_targets": self.rows_in_all - self.rows_with,
            "tokens_with_targets": self.tokens_with,
            "tokens_without_targets": self.tokens_in_all - self.tokens_with,
        }

    def in_words(self) -> str:
        by = ", ".join(f"{name} {self.rows[name]:,} rows" for name in sorted(self.rows))
        return (
            f"soft targets for {self.tokens_with:,} of {self.tokens_in_all:,} trained tokens in {self.rows_with:,} of"
            f" {self.rows_in_all:,} rows ({by or 'no teacher'}); the others learn from their text alone"
        )


def parts_of(examples: Examples) -> Parts:
    """Returns what the teachers gave to the examples in view."""
    parts = Parts(rows_in_all=len(examples), tokens_in_all=examples.trained_tokens)
    for teachers, counts, tokens in _lines(examples):
        parts.rows.update(teachers)
        parts.tokens.update(dict(zip(teachers, counts, strict=True)))
        parts.rows_with += tokens > 0
        parts.tokens_with += tokens
    return parts


def _lines(examples: Examples) -> Iterator[tuple[list[str], list[int], int]]:
    at = pc.list_value_length(examples.table["soft_at"])
    columns = (examples.table["soft_teachers"], examples.table["soft_counts"], at)
    teachers, counts, tokens = (c.to_pylist() for c in columns)
    for n in range(len(tokens)) if examples.at is None else examples.at:
        yield teachers[n], counts[n], tokens[n]
