"""Reads CSV and Arrow files and a dataset's folder by the library `datasets`."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harvest.core.errors import QuestionError
from harvest.core.printable import first_line

if TYPE_CHECKING:
    import datasets

TABLES = {".csv": "csv", ".tsv": "csv", ".arrow": "arrow"}
"""The files that `datasets` reads, by suffix, each with the name of its reader."""
RECORDS = (".jsonl", ".ndjson", ".json", ".parquet")
DELIMITERS = ",;\t|"
SAVED = ("dataset_info.json", "dataset_dict.json")
"""One of these lies in a folder that `save_to_disk` wrote."""

Rows = Iterator[tuple[str, Mapping[str, Any]]]
"""Yields (file and number of the row, row)."""


def table_rows(path: Path) -> Rows:
    """Yields the rows of a CSV or Arrow file. Raises QuestionError."""
    import datasets

    kind = TABLES[path.suffix]
    options = {"sep": delimiter_of(path)} if kind == "csv" else {}
    try:
        table = datasets.load_dataset(kind, data_files=str(path), split="train", **options)
    except (datasets.exceptions.DatasetsError, ValueError, OSError) as e:
        raise QuestionError(f"{path}: datasets cannot load it: {first_line(e)}") from None
    yield from _numbered(path, table)


def delimiter_of(path: Path) -> str:
    """Returns the character that divides the first line of a CSV file into most columns; a comma if none divides it."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as f:
        head = f.readline(1 << 16)
    return max(DELIMITERS, key=lambda character: len(next(csv.reader([head], delimiter=character), [])))


def dataset_rows(folder: Path) -> Rows:
    """Yields the rows of a folder that holds one dataset: as `save_to_disk` writes it, or with a card that says which
    files belong to it. Of several splits, `train` is read. Raises QuestionError."""
    import datasets

    saved = any((folder / name).is_file() for name in SAVED)
    try:
        if saved:
            found = datasets.load_from_disk(str(folder))
            table = found["train"] if isinstance(found, datasets.DatasetDict) else found
        else:
            table = datasets.load_dataset(str(folder.absolute()), split="train")  # it takes no "."
    except KeyError:
        raise QuestionError(f"{folder}: has no split train; name the folder of one split, or its file") from None
    except (datasets.exceptions.DatasetsError, ValueError, OSError) as e:
        raise QuestionError(f"{folder}: datasets cannot load it: {first_line(e)}") from None
    yield from _numbered(folder, table)


def files_of(folder: Path) -> list[Path] | None:
    """Returns the files with questions in a folder, in the order of their names; None if it holds one dataset.

    If names of files or folders tell splits apart (`train.jsonl`, `test.jsonl`), the files of `train` are returned, as
    `datasets` tells them apart. Raises QuestionError when there are none.
    """
    from datasets.data_files import DataFilesList, EmptyDatasetError, get_data_patterns

    if any((folder / name).is_file() for name in SAVED) or _has_card(folder):
        return None
    base = str(folder.absolute())
    try:
        patterns = {str(split): of_split for split, of_split in get_data_patterns(base).items()}
    except EmptyDatasetError:
        patterns = {}
    named = DataFilesList.from_patterns(patterns["train"], base) if "train" in patterns else ()
    files = sorted(path for path in map(Path, named) if path.suffix in TABLES or _unpacked(path).suffix in RECORDS)
    if not files:
        splits = f" for training (there are {', '.join(patterns)})" if patterns.keys() - {"train"} else ""
        raise QuestionError(
            f"{folder}: no file of questions in it{splits}. Files are {', '.join((*TABLES, *RECORDS))}; the last"
            f" {len(RECORDS)} also as .gz and .zst"
        )
    return files


def _has_card(folder: Path) -> bool:
    """Whether the folder's README.md says which files belong to the dataset."""
    card = folder / "README.md"
    head = card.read_text("utf-8", "replace")[: 1 << 16] if card.is_file() else ""
    return head.startswith("---") and "\nconfigs:" in head.partition("\n---")[0]


def _unpacked(path: Path) -> Path:
    return path.with_suffix("") if path.suffix in (".gz", ".zst") else path


def _numbered(path: Path, table: "datasets.Dataset") -> Rows:
    return ((f"{path}, row {n}", row) for n, row in enumerate(table))
