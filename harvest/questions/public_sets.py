"""Reads public sets of answers: which ones are known (data/public_sets.toml), and the answers that a row holds.

A row in hand becomes lines in our own layout, which `imported_answers.py` reads, so an answer from a public set is read
as any other answer that was bought elsewhere.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from harvest.core.errors import InputError
from harvest.core.files import package_folder
from harvest.core.foreign_json import as_dict, as_list
from harvest.core.nouns import content_hash
from harvest.questions.hub import HUB
from harvest.questions.imported_answers import ROLES
from harvest.questions.rows import BadRow

QUESTION_COLUMNS = ("question", "problem")
CONVERSATION_COLUMNS = ("conversations", "messages")
"""The columns that hold the question in a file of no known set, the likeliest first."""
FILES = (".parquet", ".jsonl", ".json", ".jsonl.gz", ".jsonl.zst", ".json.gz", ".json.zst")
"""How the names of files end that are read from a folder."""
UNKNOWN = "unknown"
"""The licence, or the teacher, of an answer if nobody says one."""


class PublicSet(BaseModel):
    """A public set of answers: where it is, who wrote it, under which licence, and what its columns hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """The set's name on the hub."""
    card: str | None = None
    """The address of the page that describes the set."""
    licence: str | None = None
    teacher: str | None = None
    teacher_column: str | None = None
    split: str = "train"
    question: str | None = None
    answers: tuple[str, ...] = ()
    finish: str | None = None
    conversation: str | None = None
    gold: str | None = None

    def scanned(self, columns: Mapping[str, Any], where: str) -> str:
        """Returns the column that holds the question. Raises InputError if it is not among the columns."""
        likely = [self.question or self.conversation] if self.question or self.conversation else []
        found = next((c for c in likely or (*QUESTION_COLUMNS, *CONVERSATION_COLUMNS) if c in columns), None)
        if found is None:
            wanted = f"no column {likely[0]!r}, which {self.name} has" if likely else "no column with questions"
            there = ", ".join(map(str, columns)) or "none"
            raise InputError(f"{where}: {wanted} (there are: {there[:300]})")
        return found


@dataclass(frozen=True, slots=True)
class PublicSource:
    """A public set that a run looks questions up in: all of its files, or the hub's dataset."""

    said: str
    """How the user named it."""
    set: PublicSet
    files: tuple[Path, ...] = ()
    hub: str | None = None
    """The dataset's name for `hub_table`; None: it is in `files`."""


@dataclass(frozen=True, slots=True)
class PublicAnswer:
    """One answer of a public set."""

    set: str
    card: str | None
    licence: str
    """UNKNOWN: neither the set nor the row says one."""
    teacher: str
    """UNKNOWN: neither the set nor the row says who wrote the answer."""
    row: str
    """Which row of the set it is, for people."""
    line: dict[str, Any] = field(repr=False)
    """The answer in our own layout."""

    def origin(self) -> dict[str, str | None]:
        """Returns where the answer is from, for the store and for exports."""
        return {"set": self.set, "card": self.card, "licence": self.licence, "teacher": self.teacher, "row": self.row}


@cache
def known_sets() -> Mapping[str, PublicSet]:
    """Returns the table of public sets, by name."""
    rows = tomllib.loads((package_folder("data") / "public_sets.toml").read_text("utf-8"))["set"]
    return {row["name"]: PublicSet.model_validate(row) for row in rows}


def public_source(said: str, base: Path) -> PublicSource:
    """Returns the public set that `said` names: the name of a known set, `NAME=FILES` if its files lie here,
    `hub:owner/name?…`, or files alone (a path, a folder, or a pattern with *), relative to `base`.

    Raises InputError if it names none.
    """
    name, is_given, place = said.partition("=")
    if said.startswith(HUB):
        path = said.removeprefix(HUB).partition("?")[0]
        found = known_sets().get(path, PublicSet(name=path))
        return PublicSource(said, found, hub=said)
    if is_given and not (base / said).exists():
        return PublicSource(said, known_set(name), _files(said, place, base))
    if (known := known_sets().get(said)) is not None:
        return PublicSource(said, known, hub=f"{HUB}{known.name}?split={known.split}")
    if files := _found(said, base):
        return PublicSource(said, PublicSet(name=Path(said).name), files)
    raise InputError(f"{said}: neither files nor a public set that winnow knows{_nearest(said)}")


def known_set(name: str) -> PublicSet:
    """Returns the set of the table with this name. Raises InputError, with the nearest names, if there is none."""
    if (found := known_sets().get(name)) is None:
        raise InputError(f"{name}: winnow knows no public set of this name{_nearest(name)}")
    return found


def _nearest(name: str) -> str:
    """Returns in words which known sets have a name like this one."""
    by_small = {known.casefold(): known for known in known_sets()} | {
        known.rpartition("/")[2].casefold(): known for known in known_sets()
    }
    small = name.casefold()
    close = difflib.get_close_matches(small, by_small, 3, 0.6) or [k for k in by_small if small and small in k][:3]
    names = dict.fromkeys(by_small[k] for k in close)
    return f"; did you mean {' or '.join(names)}?" if names else f". Known are: {', '.join(known_sets())}"


def _files(said: str, place: str, base: Path) -> tuple[Path, ...]:
    if not (found := _found(place, base)):
        raise InputError(f"{said}: there are no files at {base / place}")
    return found


def _found(place: str, base: Path) -> tuple[Path, ...]:
    """Returns the files that a path, a folder or a pattern names, in the order of their names."""
    path = (base / place).absolute()
    if path.is_file():
        return (path,)
    if path.is_dir():
        return tuple(sorted(p for p in path.rglob("*") if p.name.endswith(FILES) and p.is_file()))
    folder = Path(path.anchor)
    return tuple(sorted(p for p in folder.glob(str(path.relative_to(path.anchor))) if p.is_file()))


def question_text(column: str, value: object) -> str | None:
    """Returns the question in the value of the column that holds it; None if there is no single question."""
    if column not in CONVERSATION_COLUMNS and isinstance(value, str):
        return value
    turns = _turns(value)
    asked = [text for role, text in turns if role == "user"]
    return asked[0] if len(asked) == 1 else None


def _turns(value: object) -> list[tuple[str, str]]:
    """Returns (role, text) of each turn of a conversation."""
    found = []
    for turn in map(as_dict, as_list(value)):
        role = ROLES.get(str(turn.get("role") or turn.get("from")))
        text = turn.get("content") if "content" in turn else turn.get("value")
        if role is not None and isinstance(text, str):
            found.append((role, text))
    return found


def answers_of(of: PublicSet, row: Mapping[str, Any], where: str) -> Iterator[PublicAnswer]:
    """Yields the answers in a row of a public set. Raises BadRow if it has no question, or no answer."""
    column = of.scanned(row, where)
    question = question_text(column, row.get(column))
    if question is None:
        raise BadRow(f"{column}: not one question")
    licence = of.licence or _text(row, "licence", "license") or UNKNOWN
    named = [of.teacher_column] if of.teacher_column else []
    teacher = (
        of.teacher or _text(row, *named, "model", "generation_model") or _text(as_dict(row.get("teacher")), "model")
    )
    line: dict[str, Any] = {"question": question, "model": teacher, "licence": licence, "source": of.name}
    gold = row.get(of.gold) if of.gold else row.get("gold", row.get("answer") if "response" in row else None)
    if gold is not None:
        line["answer"] = gold
    responses = list(_responses(of, row, column))
    if not responses:
        raise BadRow("no answer in a column that is known")
    for response, finish_reason in responses:
        of_this = line | {"response": response, "finish_reason": finish_reason}
        yield PublicAnswer(of.name, of.card, licence, teacher or UNKNOWN, where, of_this)


def _responses(of: PublicSet, row: Mapping[str, Any], column: str) -> Iterator[tuple[object, object]]:
    """Yields (answer, finish reason) of each answer in a row. An answer is a text or a message; a reason may be
    None."""
    if of.answers:
        finish = as_list(row.get(of.finish)) if of.finish else []
        for name in of.answers:
            value = row.get(name)
            texts = [value] if isinstance(value, str) else as_list(value)
            reasons = [*finish, *([None] * len(texts))] if len(finish) == len(texts) else [None] * len(texts)
            yield from (one for one in zip(texts, reasons, strict=False) if isinstance(one[0], str) and one[0].strip())
        return
    reason = row.get("finish_reason")
    if column in CONVERSATION_COLUMNS or column == of.conversation:
        turns = _turns(row.get(column))
        if turns and turns[-1][0] == "assistant":
            yield turns[-1][1], reason
    elif row.get("response") is not None:
        yield row["response"], reason
    elif turns := _turns(next((row[name] for name in CONVERSATION_COLUMNS if row.get(name)), None)):
        if turns[-1][0] == "assistant":
            yield turns[-1][1], reason
    elif isinstance(text := row.get("answer"), str) and ("reasoning" in row or "gold" in row):
        chain = row.get("reasoning")
        yield {"content": text, "reasoning_content": chain if isinstance(chain, str) else None}, reason


def _text(row: Mapping[str, Any], *names: str) -> str | None:
    return next((value for name in names if isinstance(value := row.get(name), str) and value.strip()), None)


def fits(licence: str, teacher: str, licences: tuple[str, ...], teachers: tuple[str, ...]) -> str | None:
    """Returns which of the two settings leaves an answer out: "licence" or "teacher"; None: it may be taken.

    No licences: any that is stated. No teachers: anybody. Case does not count, nor does the owner before a slash in a
    teacher's name.
    """
    may = {_plain(name) for name in licences}
    if _plain(licence) not in may if may else licence == UNKNOWN:
        return "licence"
    wanted = {form for name in teachers for form in (name.casefold(), _plain(name))}
    return "teacher" if wanted and not {teacher.casefold(), _plain(teacher)} & wanted else None


def _plain(name: str) -> str:
    return name.strip().casefold().rpartition("/")[2]


def answer_key(answer: PublicAnswer, question_id: str) -> str:
    """Returns the key of an attempt: the same answer of the same set to the same question has one key, in any run."""
    line = answer.line
    said = line["response"] if isinstance(line["response"], str) else dict(line["response"])
    return content_hash({"public": answer.set, "question": question_id, "asked": line["question"], "said": said})
