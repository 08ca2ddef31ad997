"""Reads a dataset of the hub that is named as `hub:owner/name?config=…&split=…&revision=…&column=value`.

Each further name is a column. Rows whose value in that column is none of the values (with commas between them) are left
out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from harvest.core.errors import InputError
from harvest.core.printable import first_line

HUB = "hub:"


@dataclass(frozen=True, slots=True)
class HubDataset:
    """The dataset that such a name means."""

    name: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    wanted: tuple[tuple[str, frozenset[str]], ...] = ()
    """(column, the values of which a row has one), for each column that is named."""


def hub_dataset(source: str) -> HubDataset:
    """Returns the dataset that `source` means. Raises InputError when it is not named as above."""
    name, _, query = source.removeprefix(HUB).partition("?")
    if name.count("/") != 1 or not all(name.split("/")):
        raise InputError(f"{source}: write {HUB}owner/name, and settings after a question mark")
    given = dict(parse_qsl(query, keep_blank_values=True))
    known = {key: given.pop(key) for key in ("config", "split", "revision") if key in given}
    wanted = tuple((column, frozenset(values.split(","))) for column, values in given.items())
    return HubDataset(name, **known, wanted=wanted)


def hub_rows(source: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields (place, row) for each row that is wanted. A row keeps its number in the whole dataset.

    Raises InputError when the dataset or a column does not exist.
    """
    asked, table = hub_dataset(source), hub_table(source)
    for column, _ in asked.wanted:
        if column not in table.column_names:
            raise InputError(f"{source}: no column {column!r} (there are: {', '.join(table.column_names)})")
    for n, row in enumerate(table):
        if all(str(row[column]) in values for column, values in asked.wanted):
            yield f"{asked.name}, row {n}", row


@cache
def hub_table(source: str) -> Any:
    """Returns the whole dataset, as `datasets` keeps it on this machine. Raises InputError when it is not to be had."""
    import datasets

    asked = hub_dataset(source)
    try:
        return datasets.load_dataset(asked.name, asked.config, split=asked.split, revision=asked.revision)
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as e:
        raise InputError(f"{source}: neither here nor to be had from the hub: {first_line(e)}") from None
