"""Finds the rows that the name of a dataset means, and reads them."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from finetune.recipe import Recipe
from finetune.rows.faults import RowFault
from harvest.core.errors import DatasetError, InputError
from harvest.core.files import runs_folder
from harvest.proof.manifest import NAME
from harvest.questions.files import Records
from harvest.questions.hub import HUB, hub_rows, hub_table

SUFFIXES = (".jsonl", ".json", ".parquet")


class BadRow(RowFault):
    """Says that a row could not even be read, and why."""

    def __init__(self, reason: str) -> None:
        super().__init__("unreadable", reason)


# ---- a name → rows


def recipe_rows(
    recipe: Recipe, note: Callable[[str], None] | None = None
) -> Iterator[tuple[int, str, "Mapping[str, Any] | BadRow"]]:
    """Yields the rows of the recipe's data, then those of `mix`: (row number, place, row). The rows of `mix` are
    numbered on from the last row of the data.

    The trainer shuffles the rows. `note` is called with a sentence when a dataset of `mix` has fewer rows than the
    recipe asks for.

    Raises DatasetError when a dataset does not exist.
    """
    row = -1
    for row, where, value in read_rows(recipe.data):
        yield row, where, value
    rows = row + 1
    for mixed in recipe.mix:
        there = sum(1 for _ in read_rows(mixed.data))
        draw = random.Random(f"{recipe.train.seed}/{mixed.data}")
        wanted = round(rows * mixed.per_row)
        if there < wanted and note is not None:
            share = f"per_row = {mixed.per_row:g} of {rows:,} rows"
            note(f"mix: {mixed.data} has {there:,} rows, {wanted:,} were asked for ({share}): all of it is taken, once")
        chosen = set(draw.sample(range(there), min(there, wanted)))
        for n, where, value in read_rows(mixed.data):
            if n in chosen:
                row += 1
                yield row, f"row {row}, which is {where} of {mixed.data}", value


def read_rows(data: str) -> Iterator[tuple[int, str, "Mapping[str, Any] | BadRow"]]:
    """Yields (row number, place, value) for each row of a run, an export, a file or a hub's dataset.

    A place is, for example, "row 8 (train.jsonl line 9)". Raises DatasetError when `data` names none of these.
    """
    for row, (where, value) in enumerate(_rows(data)):
        yield row, f"row {row} ({where})" if where else f"row {row}", value


def _rows(data: str) -> Iterator[tuple[str, "Mapping[str, Any] | BadRow"]]:
    files = _files(data)
    if files is None:
        yield from _hub_rows(data)
        return
    for file in files:
        yield from _file_rows(file)


def contents_of(recipe: Recipe) -> list[tuple[str, int]]:
    """Returns (name and checksum, bytes) of each file that the recipe's rows come from, `mix` included.

    Raises DatasetError when a dataset does not exist.
    """
    found = []
    for data in (recipe.data, *(m.data for m in recipe.mix)):
        files = _files(data)
        if files is None:
            table = _hub_table(data)
            found.append((f"{data} {table._fingerprint}", 0))
            named = [(Path(file["filename"]), data) for file in table.cache_files]
        else:
            named = [(f, f.name) for f in files]
        found += [(f"{name} {_checksum(file)}", file.stat().st_size) for file, name in named]
    return found


def manifests_of(recipe: Recipe) -> tuple[str, ...]:
    """Returns the path of the manifest beside each dataset of the recipe; "" where there is none.

    Raises DatasetError when a dataset does not exist.
    """
    return tuple(manifest_beside(data) for data in (recipe.data, *(m.data for m in recipe.mix)))


def manifest_beside(data: str) -> str:
    """Returns the path of the manifest beside the files that a dataset's name means; "" where there is none."""
    files = _files(data) or [Path()]
    there = files[0].with_name(NAME) if files[0].name else Path()
    return str(there) if there.is_file() else ""


def _checksum(file: Path) -> str:
    try:
        with file.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as e:
        raise DatasetError(f"{file}: cannot be read: {e.strerror}") from None


def _files(data: str) -> list[Path] | None:
    """Returns the files that a dataset's name means; None when it means a dataset of the hub."""
    if data.startswith(HUB):
        return None
    path = Path(data)
    if not path.exists() and (runs_folder() / data).is_dir():
        path = runs_folder() / data
    if path.is_dir():
        return _files_in(path)
    if path.is_file():
        return [path]
    if data.count("/") == 1 and not data.startswith((".", "/")):
        return None
    raise DatasetError(f"{data}: no such file, folder or run")


def run_folder(data: str) -> Path | None:
    """Returns the folder of the run that `data` names or lies in; None when there is no such run."""
    path = Path(data)
    for folder in (path, runs_folder() / data, path.parent, path.parent.parent):
        if (folder / "config.json").is_file() and "questions" in _json_object(folder / "config.json"):
            return folder
    return None


def _json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _files_in(folder: Path) -> list[Path]:
    if run_folder(str(folder)) == folder:
        export = folder / "dataset"
        if not export.is_dir():
            raise DatasetError(f"{folder}: this run has no export yet: python -m harvest export {folder.name}")
        folder = export
    found = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file())
    train = [p for p in found if p.name.startswith("train")]
    if not train and len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise DatasetError(f"{folder}: no train.jsonl or train*.parquet, nor one single data file (there are: {names})")
    return train or found


def _file_rows(path: Path) -> Iterator[tuple[str, "Mapping[str, Any] | BadRow"]]:
    try:
        for record in Records(path, exact=False):
            place = record.where.replace(f"{path}, ", f"{path.name} ", 1)
            yield place, BadRow(str(record.value)) if isinstance(record.value, Exception) else record.value
    except DatasetError:
        raise
    except InputError as e:
        raise DatasetError(str(e)) from None


def _hub_rows(name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        yield from hub_rows(name)
    except InputError as e:
        raise DatasetError(str(e)) from None


def _hub_table(name: str) -> Any:
    try:
        return hub_table(name)
    except InputError as e:
        raise DatasetError(str(e)) from None
