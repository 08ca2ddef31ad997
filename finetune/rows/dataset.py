"""Makes the examples of a recipe: every row of its data, checked and rendered.

All faults of a dataset are reported at once, each with its row (counted from 0) and the reason. No row is repaired: a
row that cannot be trained as it is stops the training before its first step.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.progress import Counted
from finetune.recipe import Recipe
from finetune.rows.conversation import conversation
from finetune.rows.faults import Findings, RowFault
from finetune.rows.render import Example, render
from finetune.rows.template import Tokenizer, layout_of
from harvest.core.errors import DatasetError, InputError, TooLong
from harvest.core.files import runs_folder
from harvest.core.nouns import Message
from harvest.core.printable import first_line
from harvest.questions.files import Records

SUFFIXES = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples that will be trained. `rows[i]` is the row of `examples[i]` in the dataset, counted from 0."""

    examples: tuple[Example, ...]
    rows: tuple[int, ...]
    dropped: tuple[str, ...]
    """One line for each row that is left out because it is too long."""
    notes: tuple[str, ...] = ()
    """Sentences about the whole dataset, for example that fewer rows were mixed in than the recipe asks for."""

    @property
    def digest(self) -> str:
        """Returns the checksum of what is trained: of every token id and every bit of the mask, in order."""
        h = hashlib.sha256()
        for e in self.examples:
            h.update(len(e).to_bytes(8, "little") + e.ids.tobytes() + e.mask.tobytes())
        return f"sha256:{h.hexdigest()}"

    def refuse_none(self, source: str) -> None:
        """Raises DatasetError when there is no row to train."""
        if not self.examples:
            why = f"all {len(self.dropped)} rows are longer than render.max_tokens" if self.dropped else "no rows"
            raise DatasetError(f"{source}: nothing to train: {why}")

    def summary(self) -> dict[str, Any]:
        """Returns how many rows and tokens there are, how many tokens are trained, and how long the rows are."""
        lengths = sorted(map(len, self.examples))
        at = [lengths[min(len(lengths) - 1, int(len(lengths) * q))] if lengths else None for q in (0.5, 0.95, 1)]
        return {
            "rows": len(lengths),
            "dropped": len(self.dropped),
            "tokens": sum(lengths),
            "trained_tokens": sum(e.trained_tokens for e in self.examples),
            "row_tokens": {
                "mean": round(sum(lengths) / len(lengths), 1) if lengths else None,
                "p50": at[0],
                "p95": at[1],
                "max": at[2],
            },
        }


Look = Callable[[int, str, Mapping[str, Any], list[Message], Example], None]
"""Is called with each row that can be trained: its number, where it is, the row, its messages and its example."""


def examples(recipe: Recipe, tokenizer: Tokenizer) -> Examples:
    """Returns every row of the recipe's data, checked and rendered.

    Raises DatasetError with a line for each fault (the first 20, then a count), or when no row is left to train.
    """
    findings = Findings()
    made = survey(recipe, tokenizer, findings)
    findings.stop(recipe.data)
    made.refuse_none(recipe.data)
    return made


def survey(recipe: Recipe, tokenizer: Tokenizer, findings: Findings, look: Look | None = None) -> Examples:
    """Returns the rows that can be trained, which may be none.

    Every row that cannot be trained is put into `findings`.
    """
    kept: list[Example] = []
    rows: list[int] = []
    dropped: list[str] = []
    notes: list[str] = []
    counted = Counted("rows")
    for row, where, value in recipe_rows(recipe, notes.append):
        counted.step(row + 1)
        try:
            messages, example = _example(value, recipe, tokenizer)
        except TooLong as e:
            if recipe.render.too_long == "refuse":
                findings.add("too long", row, where, str(e))
            else:
                findings.add("left out", row, where, str(e))
                dropped.append(f"{where}: {e}")
            continue
        except RowFault as e:
            findings.add(e.kind, row, where, e.reason)
            continue
        if look is not None and not isinstance(value, BadRow):
            look(row, where, value, messages, example)
        kept.append(example)
        rows.append(row)
    return Examples(tuple(kept), tuple(rows), tuple(dropped), tuple(notes))


def some_examples(
    recipe: Recipe, tokenizer: Tokenizer, first: int, count: int
) -> Iterator[tuple[str, "Example | RowFault | TooLong"]]:
    """Yields (the row's place, its example or the reason why there is none) for `count` rows from `first` on.

    Yields fewer rows when the dataset ends before. Raises DatasetError when the dataset has no row `first`.
    """
    last = -1
    for last, where, value in recipe_rows(recipe):
        if first <= last < first + count:
            try:
                yield where, _example(value, recipe, tokenizer)[1]
            except (RowFault, TooLong) as e:
                yield where, e
        elif last >= first + count:
            return
    if last < first:
        raise DatasetError(f"{recipe.data}: no row {first}: rows are counted from 0 and the last is {last}")


def one_example(recipe: Recipe, tokenizer: Tokenizer, row: int) -> Example:
    """Returns the example of row number `row`.

    Raises DatasetError when the dataset has no such row or the row cannot be trained, TooLong when it is too long.
    """
    last = -1
    for last, where, value in recipe_rows(recipe):
        if last == row:
            try:
                return _example(value, recipe, tokenizer)[1]
            except DatasetError as e:
                raise DatasetError(f"{recipe.data}: {where}: {e}") from None
    raise DatasetError(f"{recipe.data}: no row {row}: rows are counted from 0 and the last is {last}")


def _example(
    value: "Mapping[str, Any] | BadRow", recipe: Recipe, tokenizer: Tokenizer
) -> tuple[list[Message], Example]:
    if isinstance(value, BadRow):
        raise value
    layout = layout_of(recipe.render, tokenizer)
    messages = conversation(value, layout)
    return messages, render(messages, tokenizer, recipe.render.max_tokens, layout)


class BadRow(RowFault):
    """Says that a row could not even be read, and why."""

    def __init__(self, reason: str) -> None:
        super().__init__("unreadable", reason)


# ---- a name → rows


def recipe_rows(
    recipe: Recipe, note: Callable[[str], None] | None = None
) -> Iterator[tuple[int, str, "Mapping[str, Any] | BadRow"]]:
    """Yields the rows of the recipe's data, then those of `mix`: (row number, place, row). The numbers go on.

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
    path = Path(data)
    if not path.exists() and (runs_folder() / data).is_dir():
        path = runs_folder() / data
    if path.is_dir():
        for file in _files(path):
            yield from _file_rows(file)
    elif path.is_file():
        yield from _file_rows(path)
    elif data.count("/") == 1 and not data.startswith((".", "/")):
        yield from (("", row) for row in _hub_rows(data))
    else:
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


def _files(folder: Path) -> list[Path]:
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


def _hub_rows(name: str) -> Iterator[Any]:
    from datasets import load_dataset

    try:
        rows = load_dataset(name, split="train")
    except (OSError, ValueError) as e:
        raise DatasetError(f"{name}: neither here nor to be had from the hub: {first_line(e)}") from None
    yield from rows
