"""Reads a dataset of the hub that is named as `hub:owner/name?config=…&split=…&revision=…&n=…&seed=…&column=value`.

`n` rows are chosen among those that are wanted, by `seed`; without `n`, all of them come. Each further name is a
column. Rows whose value in that column is none of the values (with commas between them) are left out.
"""

import hashlib
import heapq
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from harvest.core.errors import InputError
from harvest.core.printable import first_line

HUB = "hub:"
CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class HubDataset:
    """A dataset of the hub, and which of its rows are wanted, as read from a name `hub:owner/name?…`."""

    name: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    wanted: tuple[tuple[str, frozenset[str]], ...] = ()
    """(column, the values of which a row has one), for each column that is named."""
    n: int | None = None
    """How many of the wanted rows are chosen; None: all."""
    seed: int = 1


def hub_dataset(source: str) -> HubDataset:
    """Returns the dataset that `source` means. Raises InputError if it has another form than `hub:owner/name?…`."""
    name, _, query = source.removeprefix(HUB).partition("?")
    if name.count("/") != 1 or not all(name.split("/")):
        raise InputError(f"{source}: write {HUB}owner/name, and settings after a question mark")
    given = dict(parse_qsl(query, keep_blank_values=True))
    config, split, revision = (given.pop(key, None) for key in ("config", "split", "revision"))
    n, seed = (_whole_number(source, key, given.pop(key)) if key in given else None for key in ("n", "seed"))
    wanted = tuple((column, frozenset(values.split(","))) for column, values in given.items())
    return HubDataset(name, config, split or "train", revision, wanted, n, 1 if seed is None else seed)


def _whole_number(source: str, key: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or (key == "n" and int(text) == 0):
        raise InputError(f"{source}: {key} is a whole number, not {text[:40]!r}")
    return int(text)


def hub_rows(source: str, *, streamed: bool = False) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields (place, row) for each row that is wanted and chosen, in the dataset's order. A row keeps its number in the
    whole dataset.

    If `streamed`, no copy of the dataset is kept on this machine; only a choice of `n` rows is held in memory. Raises
    InputError when the dataset or a column does not exist.
    """
    asked = hub_dataset(source)
    rows = _wanted(source, asked, streamed=streamed)
    if asked.n is not None:
        # The rows with the smallest hashes: the same choice whatever is streamed, and n + m rows hold the first n.
        chosen = heapq.nsmallest(asked.n, ((_draw(asked.seed, number), number, row) for number, row in rows))
        rows = ((number, row) for _, number, row in sorted(chosen, key=lambda one: one[1]))
    for number, row in rows:
        yield f"{asked.name}, row {number}", row


def _draw(seed: int, number: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{number}".encode(), digest_size=16).digest()


def _wanted(source: str, asked: HubDataset, *, streamed: bool) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields (number, row) for each row that has one of the values that are asked for."""
    table = _stream(asked) if streamed else hub_table(source)
    try:
        rows = iter(hub_table(source) if table is None else table)
        first = next(rows, None)
        for column, _ in asked.wanted:
            if first is not None and column not in first:
                raise InputError(f"{source}: no column {column!r} (there are: {', '.join(first)})")
        for number, row in enumerate(rows if first is None else chain((first,), rows)):
            if all(str(row[column]) in values for column, values in asked.wanted):
                yield number, row
    except (OSError, ValueError) as e:  # the hub went away while its dataset was read
        raise InputError(f"{source}: cannot be read to its end: {first_line(e)}") from None


def _stream(asked: HubDataset) -> Any | None:
    """Returns the dataset as a stream; None when it cannot be streamed, so that only a whole copy can be had."""
    import datasets

    try:
        return _load(asked, streaming=True)
    except (datasets.exceptions.DatasetsError, OSError, ValueError, NotImplementedError, RuntimeError):
        return None


@cache
def hub_table(source: str) -> Any:
    """Returns the whole dataset, as `datasets` keeps it on this machine. Raises InputError when it is not to be had."""
    import datasets

    try:
        return _load(hub_dataset(source), streaming=False)
    except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError) as e:
        raise InputError(f"{source}: neither here nor to be had from the hub: {first_line(e)}") from None


def _load(asked: HubDataset, *, streaming: bool) -> Any:
    """Loads the dataset. One that is made by a script (APPS, TACO), which `datasets` no longer runs, is read from the
    hub's own copy in Parquet."""
    import datasets

    try:
        return datasets.load_dataset(
            asked.name, asked.config, split=asked.split, revision=asked.revision, streaming=streaming
        )
    except RuntimeError as e:
        if "scripts are no longer supported" not in str(e):
            raise
    root = asked.name if Path(asked.name).is_dir() else f"hf://datasets/{asked.name}@refs%2Fconvert%2Fparquet"
    # A set that is too large for the hub has only its first part there, in the folder partial-<split>.
    files = f"{root}/{asked.config or 'default'}/*{asked.split}/*.parquet"
    return datasets.load_dataset("parquet", data_files=files, split="train", streaming=streaming)


def unreachable() -> str | None:
    """Returns why the hub cannot be reached from here; None if it can, or if a proxy stands between.

    The hub's library tries for 23 seconds to find that out.
    """
    if any(os.environ.get(name) or os.environ.get(name.upper()) for name in ("http_proxy", "https_proxy", "all_proxy")):
        return None
    parts = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname or "", port), CONNECT_S).close()
    except OSError as e:
        return f"{parts.hostname} cannot be reached from here ({e.strerror or e})"
    return None


@cache
def hub_licence(name: str, revision: str | None = None) -> str | None:
    """Returns the licence that the dataset's card names; None when there is no card, or no licence in it."""
    from huggingface_hub import DatasetCard, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        path = Path(name, "README.md")
        if not path.is_file():
            path = Path(hf_hub_download(name, "README.md", repo_type="dataset", revision=revision))
        card = DatasetCard.load(path, ignore_metadata_errors=True).data
    except (HfHubHTTPError, OSError, ValueError):
        return None
    named = card.get("license_name") if card.get("license") == "other" else card.get("license")
    words = [str(one) for one in (named if isinstance(named, list) else [named]) if one]
    return ", ".join(words) or None
