"""Where questions come from: JSONL, Parquet, a dataset folder, or reasoning-gym; foreign layouts become ours.

A bad row is named with file, line and field, all of them at once, and nothing is asked until they are gone.
"""

import codecs
import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from pydantic import ValidationError

from harvest.checks import CHECKS, check_name_for, judged_together
from harvest.checks.majority import Majority
from harvest.checks.programs import code_fault
from harvest.core.errors import MissingExtra, QuestionError
from harvest.core.nouns import Question, content_hash
from harvest.questions.foreign_rows import BadLayout, own_layout

FIELDS = tuple(Question.model_fields)
SHOWN_FAULTS = 20
GYM = "reasoning-gym:"


class BadRow(ValueError):
    """Why one row is none, with its field; `read` adds file and line."""


class MissingQuestion(BadRow):
    """The row has no field `question`."""


def read_questions(
    sources: str | Iterable[str], base: Path, *, skip_bad_rows: Callable[[str], None] | None = None
) -> Iterator[Question]:
    """`read_rows` without the places."""
    return (question for _, question in read_rows(sources, base, skip_bad_rows=skip_bad_rows))


def read_rows(
    sources: str | Iterable[str],
    base: Path,
    *,
    skip_bad_rows: Callable[[str], None] | None = None,
    without_gold: str = "refuse",
    may_skip: bool = True,
) -> Iterator[tuple[str, Question]]:
    """(file and line, question) of one source or several, one by one, in order; a repeated question comes once.

    Files are relative to `base`. Raises QuestionError at the end with a line for each bad row (the first 20
    and a count), so a caller that stores as it reads must do so in one transaction. With `skip_bad_rows` each
    fault goes there instead. `without_gold`: as `checks.without_gold` says. `may_skip`: whether the command that reads
    has a flag to go on without bad rows.
    """
    faults: list[str] = []
    total_faults = 0
    seen: dict[str, bytes] = {}
    for source in [sources] if isinstance(sources, str) else sources:
        for where, row in _rows(source, base):
            try:
                if isinstance(row, BadRow):
                    raise row
                question = question_of(row, by_majority=without_gold == "majority")
                digest = hashlib.sha256(question.model_dump_json(exclude={"id"}).encode()).digest()[:8]
                if (before := seen.get(question.id)) is not None:
                    if before != digest:
                        raise BadRow(f"id: {question.id!r} names another question already")
                    continue
                seen[question.id] = digest
            except BadRow as e:
                line = f"{where}: {e}"
                if skip_bad_rows:
                    skip_bad_rows(line)
                    continue
                total_faults += 1
                if len(faults) < SHOWN_FAULTS:
                    faults.append(line)
            else:
                yield where, question
    if total_faults:
        more = f"\n… and {total_faults - len(faults)} more" if total_faults > len(faults) else ""
        remedy = "Mend the rows, or pass --skip-bad-rows to go on without them." if may_skip else "Mend the rows."
        raise QuestionError("\n".join(faults) + more + "\n" + remedy)


def fingerprint(source: str | Iterable[str], base: Path) -> str | None:
    """Names the content of a source that is one file, so that a run need not read it again; None for any other."""
    if not isinstance(source, str) or source.startswith(GYM) or not (path := base / source).is_file():
        return None
    try:
        with path.open("rb") as f:
            return f"sha256:{hashlib.file_digest(f, 'sha256').hexdigest()}"
    except OSError as e:
        raise QuestionError(f"{path}: cannot be read: {e.strerror}") from None


def question_of(row: Mapping[str, Any], *, needs_gold: bool = True, by_majority: bool = False) -> Question:
    """One row, ours or of a known foreign layout, as a Question. Raises BadRow that names the field.

    `needs_gold`: a row without the gold answer that its check judges by is a bad one. `by_majority`: it is not, and
    is judged by what most of its answers agree on.
    """
    try:
        data = {k: v for k, v in own_layout(row).items() if k in FIELDS and v is not None}
    except BadLayout as e:
        raise BadRow(str(e)) from None
    text = data.get("question")
    if text is None:
        close = difflib.get_close_matches("question", [str(k) for k in row], 1, 0.6)
        hint = f" (there is {close[0]!r})" if close else ""
        raise MissingQuestion(f"question: missing{hint}")
    if not isinstance(text, str) or not text.strip():
        raise BadRow("question: not a text, or empty")
    for key in ("id", "answer", "domain", "source", "licence", "difficulty"):
        value = data.get(key)
        if isinstance(value, bool | int | float):
            data[key] = str(value).lower() if isinstance(value, bool) else str(value)
    given_id = data.pop("id", None)
    if given_id == "":
        raise BadRow("id: empty")
    try:
        data["check"] = data.get("check") or check_name_for(data)
        data["id"] = given_id if given_id is not None else "q-" + content_hash(data).removeprefix("sha256:")[:16]
        question = Question.model_validate(data)
        if by_majority and question.check != "code" and not has_gold(question):
            question = question.model_copy(update={"check": Majority.name})
        question.model_dump_json().encode()
    except UnicodeEncodeError:
        raise BadRow("half a surrogate pair stands in it, which is no text: write the character itself") from None
    except (ValidationError, ValueError, TypeError) as e:
        raise BadRow(_first_fault(e)) from None
    if question.check not in CHECKS:
        raise BadRow(f"check: no check {question.check!r}; there are {', '.join(sorted(CHECKS))}")
    if question.check == "code":
        if needs_gold and (fault := code_fault(question)):
            raise BadRow(fault)
        return question
    needs_answer = needs_gold and question.check not in ("reasoning_gym", Majority.name)
    if needs_answer and (question.answer is None or not question.answer.strip()):
        raise BadRow("answer: missing, and the check needs one")
    return question


def has_gold(question: Question) -> bool:
    """Whether there is anything to judge an answer by."""
    gold = question.answer is not None and question.answer.strip()
    return bool(gold or judged_together(question) or question.reasoning_gym or question.tests or question.cases)


def _first_fault(e: Exception) -> str:
    if isinstance(e, ValidationError):
        fault = e.errors(include_url=False)[0]
        return f"{'.'.join(str(p) for p in fault['loc'])}: {fault['msg']}"
    return str(e)


def _rows(source: str, base: Path) -> Iterator[tuple[str, Mapping[str, Any] | BadRow]]:
    if source.startswith(GYM):
        yield from _gym_rows(source)
        return
    path = base / source
    try:
        if not path.exists():
            raise QuestionError(f"{path}: no such file (questions)")
        if path.is_dir() or path.suffix in (".parquet", ".csv", ".arrow"):
            yield from _dataset_rows(path)
        else:
            yield from _json_rows(path)
    except OSError as e:
        raise QuestionError(f"{path}: cannot be read: {e.strerror}") from None


def _json_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any] | BadRow]]:
    with path.open("rb") as f:
        for n, raw in enumerate(f, 1):
            if not raw.strip():
                continue
            where = f"{path}, line {n}"
            try:
                row = json.loads(raw.removeprefix(codecs.BOM_UTF8))
            except (ValueError, RecursionError):
                torn = "; the line is torn off" if not raw.endswith(b"\n") else ""
                yield where, BadRow(f"not JSON{torn}")
                continue
            yield where, row if isinstance(row, dict) else BadRow("not a JSON object")


def _dataset_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any] | BadRow]]:
    import datasets

    kind = {".parquet": "parquet", ".csv": "csv", ".arrow": "arrow"}.get(path.suffix)
    try:
        if kind:
            table = datasets.load_dataset(kind, data_files=str(path), split="train")
        else:
            table = datasets.load_dataset(str(path.absolute()), split="train")  # it takes no "."
    except (datasets.exceptions.DatasetsError, ValueError, OSError) as e:
        raise QuestionError(f"{path}: datasets cannot load it: {str(e).splitlines()[0]}") from None
    for n, row in enumerate(table):
        yield f"{path}, row {n}", row


def _gym_rows(source: str) -> Iterator[tuple[str, Mapping[str, Any] | BadRow]]:
    """`reasoning-gym:chain_sum?n=200&seed=1&min_terms=3`: n and seed are size and seed, the rest the task's own."""
    task, _, query = source.removeprefix(GYM).partition("?")
    try:
        import reasoning_gym
    except ImportError:
        raise MissingExtra(f"questions = {source!r}", "gym") from None
    settings: dict[str, Any] = {}
    for key, text in parse_qsl(query, keep_blank_values=True):
        settings[{"n": "size"}.get(key, key)] = _number(text)
    settings.setdefault("size", 100)
    settings.setdefault("seed", 1)
    try:
        entries = list(reasoning_gym.create_dataset(task, **settings))
    except ValueError as e:
        raise QuestionError(f"questions = {source!r}: {e}") from None
    except (TypeError, AssertionError) as e:
        raise QuestionError(f"questions = {source!r}: the task does not take these settings: {e}") from None
    for n, entry in enumerate(entries):
        plain = re.fullmatch(r"-?\d+", str(entry["answer"]).strip()) is not None
        row: dict[str, Any] = {
            "question": entry["question"],
            "answer": str(entry["answer"]),
            "domain": "math" if plain else "reasoning",
            "source": f"{GYM}{task}",
            "licence": "Apache-2.0",
        }
        if not plain:
            row["reasoning_gym"] = {"task": task, "entry": json.loads(json.dumps(dict(entry), default=str))}
        yield f"{source}, row {n}", row


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)
