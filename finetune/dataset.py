"""Exports, runs and other people's datasets → conversations, each checked, and the examples made of them.

All faults of a dataset at once, each with its row (counted from 0) and what is wrong with it. Nothing is
mended: a row that cannot be trained as it is stops the training before its first step.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.config import Recipe
from finetune.render import CHAIN_FIELDS, Example, Layout, Tokenizer, render, turn
from harvest.config import runs_folder
from harvest.errors import DatasetError, TooLong
from harvest.trace import Message

SHOWN_FAULTS = 20
SUFFIXES = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True, slots=True)
class Examples:
    """The rows that will be trained. `rows[i]` is the dataset's row of `examples[i]`, counted from 0."""

    examples: tuple[Example, ...]
    rows: tuple[int, ...]
    dropped: tuple[str, ...]
    """One line for each row left out because it is too long."""

    @property
    def digest(self) -> str:
        """What is trained, as a checksum: every id and every bit of the mask, in order."""
        h = hashlib.sha256()
        for e in self.examples:
            h.update(len(e).to_bytes(8, "little") + e.ids.tobytes() + e.mask.tobytes())
        return f"sha256:{h.hexdigest()}"

    def summary(self) -> dict[str, Any]:
        """Counts: rows, tokens in all, trained, and of a row (mean, median, 95%, most)."""
        lengths = sorted(map(len, self.examples))
        at = [lengths[min(len(lengths) - 1, int(len(lengths) * q))] for q in (0.5, 0.95, 1)]
        return {
            "rows": len(lengths),
            "dropped": len(self.dropped),
            "tokens": sum(lengths),
            "trained_tokens": sum(e.trained_tokens for e in self.examples),
            "row_tokens": {
                "mean": round(sum(lengths) / len(lengths), 1),
                "p50": at[0],
                "p95": at[1],
                "max": at[2],
            },
        }


def examples(recipe: Recipe, tokenizer: Tokenizer) -> Examples:
    """Every row of the recipe's data, checked and rendered.

    Raises DatasetError with a line for each fault (the first 20, then a count), and where nothing is left.
    """
    kept: list[Example] = []
    rows: list[int] = []
    dropped: list[str] = []
    faults = Faults(recipe.data)
    for row, where, value in read_rows(recipe.data):
        try:
            example = _example(value, recipe, tokenizer)
        except TooLong as e:
            if recipe.render.too_long == "refuse":
                faults.add(f"{where}: {e}")
            else:
                dropped.append(f"{where}: {e}")
            continue
        except (DatasetError, ValueError) as e:
            faults.add(f"{where}: {e}")
            continue
        kept.append(example)
        rows.append(row)
    faults.stop()
    if not kept:
        why = f"all {len(dropped)} rows are longer than render.max_tokens" if dropped else "no rows"
        raise DatasetError(f"{recipe.data}: nothing to train: {why}")
    return Examples(tuple(kept), tuple(rows), tuple(dropped))


def one_example(recipe: Recipe, tokenizer: Tokenizer, row: int) -> Example:
    """One row, by its place. Raises DatasetError, TooLong."""
    last = -1
    for last, where, value in read_rows(recipe.data):
        if last == row:
            try:
                return _example(value, recipe, tokenizer)
            except (DatasetError, ValueError) as e:
                raise DatasetError(f"{recipe.data}: {where}: {e}") from None
    raise DatasetError(f"{recipe.data}: no row {row}: rows are counted from 0 and the last is {last}")


def _example(value: "Mapping[str, Any] | BadRow", recipe: Recipe, tokenizer: Tokenizer) -> Example:
    layout = recipe.render.layout(tokenizer)
    example = render(conversation(value, layout), tokenizer, recipe.render.max_tokens, layout)
    if not example.trained_tokens:
        raise DatasetError("nothing of it would be trained")
    return example


class Faults:
    """Collects lines, the first twenty and a count, and raises them together."""

    def __init__(self, source: str) -> None:
        self.source, self.lines, self.count = source, list[str](), 0

    def add(self, line: str) -> None:
        self.count += 1
        if self.count <= SHOWN_FAULTS:
            self.lines.append(f"{self.source}: {line}")

    def stop(self) -> None:
        if self.count:
            more = self.count - len(self.lines)
            tail = [f"and {more} more rows like these"] if more else []
            raise DatasetError("\n".join([*self.lines, *tail]))


# ---- a row → messages


class BadRow(ValueError):
    """A row that could not even be read, and why."""


def conversation(row: "Mapping[str, Any] | BadRow", layout: Layout) -> list[Message]:
    """The messages of a row that has `messages`, or `prompt` and `completion`; checked, nothing mended.

    A prompt or completion that is a string is one user's or one assistant's message. A chain that stands in a
    field of its own is put before its answer. Raises ValueError with what is wrong.
    """
    if isinstance(row, BadRow):
        raise row
    if row.get("messages") is not None:
        given = row["messages"]
    elif "prompt" in row and "completion" in row:
        given = [*_as_messages(row["prompt"], "user"), *_as_messages(row["completion"], "assistant")]
    else:
        raise ValueError(f"has neither `messages` nor `prompt` and `completion` (it has {', '.join(row) or 'nothing'})")
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise ValueError("`messages` is no list of messages, or an empty one")
    messages = [_message(k, m) for k, m in enumerate(given)]
    _check_roles([m["role"] for m in messages])
    for k, m in enumerate(messages):
        if not m["content"].strip() and m["role"] != "system":
            raise ValueError(f"message {k} ({m['role']}) is empty")
        if m["role"] == "assistant":
            try:
                turn(m["content"], layout)
            except ValueError as e:
                raise ValueError(f"message {k} (assistant): {e}") from None
    reasoning = row.get("reasoning")
    if isinstance(reasoning, str) and reasoning.strip() not in messages[-1]["content"]:
        raise ValueError("the chain is lost: the row's `reasoning` does not stand in the assistant's last message")
    return messages


def _as_messages(value: Any, role: str) -> Sequence[Any]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, Sequence):
        return value
    raise ValueError(f"`{'prompt' if role == 'user' else 'completion'}` is neither text nor a list of messages")


def _message(k: int, value: Any) -> Message:
    if not isinstance(value, Mapping):
        raise ValueError(f"message {k} is no table of role and content")
    role, content = value.get("role"), value.get("content")
    if role not in ("system", "user", "assistant"):
        raise ValueError(f"message {k}: role {role!r} is none of system, user, assistant")
    if content is None:
        raise ValueError(f"message {k} ({role}): content is null")
    if not isinstance(content, str):
        raise ValueError(f"message {k} ({role}): content is {type(content).__name__}, not text")
    if value.get("tool_calls"):
        raise ValueError(f"message {k} ({role}): tool calls cannot be trained yet")
    chain = next((value[f] for f in CHAIN_FIELDS if isinstance(value.get(f), str) and value[f].strip()), None)
    if chain is not None and role == "assistant":
        if not content.strip():
            raise ValueError(f"message {k} (assistant): no answer after the chain")
        content = f"<think>\n{chain}\n</think>\n\n{content}"
    if lone := re.search("[\ud800-\udfff]", content):
        raise ValueError(f"message {k} ({role}): half a character ({lone.group()!r}, a lone surrogate)")
    return {"role": role, "content": content}


def _check_roles(roles: Sequence[str]) -> None:
    if "assistant" not in roles:
        raise ValueError("no assistant turn: nothing would be trained")
    turns = roles[1:] if roles[0] == "system" else roles
    for k, role in enumerate(turns):
        if role != ("user", "assistant")[k % 2]:
            raise ValueError(f"wrong order of roles: {', '.join(roles)}; they go (system,) user, assistant, user, …")
    if roles[-1] != "assistant":
        raise ValueError("does not end with an assistant's turn")


# ---- a name → rows


def read_rows(data: str) -> Iterator[tuple[int, str, "Mapping[str, Any] | BadRow"]]:
    """(row, "row 8 (train.jsonl line 9)", value) of every row of a run, an export, a file or a hub's dataset.

    Raises DatasetError where there is no such thing.
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
    """The run that `data` is or lies in, else None."""
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
    readers: Mapping[str, Callable[[Path], Iterable[Any]]] = {".parquet": _parquet_rows, ".json": _json_rows}
    reader = readers.get(path.suffix)
    if reader is None:
        yield from _jsonl_rows(path)
        return
    for value in reader(path):
        yield path.name, value if isinstance(value, Mapping) else BadRow("is no JSON object")


def _jsonl_rows(path: Path) -> Iterator[tuple[str, "Mapping[str, Any] | BadRow"]]:
    try:
        with path.open("rb") as lines:
            for n, line in enumerate(lines, 1):
                if line.strip():
                    yield f"{path.name} line {n}", _json_row(line)
    except OSError as e:
        raise DatasetError(f"{path}: cannot be read: {e.strerror}") from None


def _json_row(line: bytes) -> "Mapping[str, Any] | BadRow":
    torn = "" if line.endswith(b"\n") else ": the line is torn, its end was never written"
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as e:
        return BadRow(f"is no UTF-8 (byte {e.start})")
    except json.JSONDecodeError as e:
        return BadRow(f"is no JSON{torn or f': {e.msg} at column {e.colno}'}")
    except ValueError as e:  # a number of thousands of digits
        return BadRow(f"cannot be read: {e}")
    except RecursionError:
        return BadRow("is nested too deeply")
    return value if isinstance(value, Mapping) else BadRow("is no JSON object")


def _json_rows(path: Path) -> Iterable[Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as e:
        raise DatasetError(f"{path}: cannot be read: {e.strerror}") from None
    except ValueError as e:
        raise DatasetError(f"{path}: not JSON: {e}") from None
    except RecursionError:
        raise DatasetError(f"{path}: is nested too deeply") from None
    if not isinstance(value, list):
        raise DatasetError(f"{path}: no list of rows")
    return value


def _parquet_rows(path: Path) -> Iterator[Any]:
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(1024):
                yield from batch.to_pylist()
    except (ArrowException, OSError, ValueError) as e:
        raise DatasetError(f"{path}: not Parquet, or damaged: {str(e).strip().splitlines()[0]}") from None


def _hub_rows(name: str) -> Iterator[Any]:
    from datasets import load_dataset

    try:
        rows = load_dataset(name, split="train")
    except (OSError, ValueError) as e:
        reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise DatasetError(f"{name}: neither here nor to be had from the hub: {reason}") from None
    yield from rows
