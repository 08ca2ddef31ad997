"""Answers paid for elsewhere into a run of the store: files read, matched with their gold answers, stored.

Nothing is stored while a line is bad, unless bad lines are to be skipped. Each line is an attempt of its own, keyed
by its place and content, so that the same file adds nothing a second time and an interrupted import goes on.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harvest.checks.majority import Majority
from harvest.core.clock import now
from harvest.core.config import Checks
from harvest.core.errors import ConfigError, QuestionError
from harvest.core.nouns import Question
from harvest.endpoint import prompt as prompts
from harvest.questions.files import Record, Records, content_key
from harvest.questions.paid_answers import Bought, NoAnswer, read_bought, shown_names
from harvest.questions.sources import SHOWN_FAULTS, BadRow, has_gold, question_of, read_rows
from harvest.store.store import Store

PAGE = 256
PAGE_CHARACTERS = 16_000_000
PROMPT = "---\nfor: questions as they were asked elsewhere\nreasoning: endpoint\n---\n## user\n{question}\n"
"""An imported answer was asked for in its own words: the question's text, and the system message beside it."""


@dataclass(slots=True)
class Intake:
    """What became of the lines so far."""

    lines: int = 0
    new: int = 0
    there: int = 0
    """Imported before."""
    without_answer: int = 0
    """Of requests that failed."""
    bad: int = 0
    torn: list[str] = field(default_factory=list)
    """Last lines whose end is missing, by file and line."""

    def as_json(self) -> dict[str, int]:
        return asdict(self) | {"torn": len(self.torn)}


@dataclass(slots=True)
class Gold:
    """Whether a file of questions stands behind the lines, and its name; and what becomes of a line without gold."""

    file: str | None = None
    by_majority: bool = False


Told = Callable[[Records, Intake], None]


def checks_of(store: Store, name: str, majority: str | None, require: Sequence[str] | None = None) -> Checks:
    """How the run judges: by `majority` where there is no gold answer, and by the verdicts that `require` names; else
    as an earlier import into it did. Raises ConfigError."""
    checks = dict((store.config_of(name) or {}).get("checks", {}))
    if require is not None:
        checks["require"] = require
        try:
            Checks.model_validate({"require": require})
        except ValidationError as e:
            fault = e.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            raise ConfigError(f"--require {','.join(require)}: {fault}") from None
    if majority is not None:
        checks |= {"without_gold": "majority", "majority": majority}
    try:
        return Checks.model_validate(checks)
    except ValidationError as e:
        fault = e.errors(include_url=False)[0]["msg"]
        raise ConfigError(f"--majority {majority}: {fault}: a share such as 0.5") from None


def settings_of(name: str, files: Sequence[Path], url: str, base: Path, checks: Checks) -> dict[str, Any]:
    """The run's settings as they are stored: all that a collected run has, unknown where nobody said."""
    prompt = prompts.parse(PROMPT, "imported", "the imported run's prompt")
    sampling = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "reasoning_effort")
    return {
        "name": name,
        "imported": True,
        "questions": [str(f) for f in files],
        "prompt": prompt.name,
        "prompt_sha256": prompt.sha256,
        "prompt_text": prompt.text,
        "store": url,
        "teacher": dict.fromkeys(("model", "local", "base_url", "revision", "terms")),
        "sampling": dict.fromkeys(sampling) | {"extra": {}},
        "budget": {"usd": None},
        "checks": checks.model_dump(mode="json"),
        "price_source": "log",
        "base": str(base.absolute()),
    }


def refuse_collected(store: Store, name: str) -> None:
    """Raises ConfigError where a run of that name asked a teacher itself."""
    before = store.config_of(name)
    if before is not None and not before.get("imported"):
        raise ConfigError(f"run {name!r} asked a teacher itself, and no run mixes two: import under another name")


def put_imported_run(store: Store, settings: Mapping[str, Any]) -> int:
    """The run's id; a run that is there already keeps the files that it came from, and what `harvest select` set."""
    name = settings["name"]
    before = store.config_of(name) or {}
    kept: dict[str, Any] = {
        section: before[section] for section in ("filters", "rewrite", "select", "export") if section in before
    }
    files = dict.fromkeys([*before.get("questions", []), *settings["questions"]])
    with store.transaction():
        return store.put_run(name, {**settings, **kept, "questions": list(files)}, None, now())


def shelve(store: Store, source: str, base: Path, skip: Callable[[str], None] | None, without_gold: str) -> None:
    """Puts a file of questions where lines without a gold answer look theirs up. Raises QuestionError."""
    with store.transaction():
        rows = read_rows(source, base, skip_bad_rows=skip, without_gold=without_gold)
        store.shelve((question, _text_hash(question.question)) for _, question in rows)


def check_lines(store: Store, name: str, files: Iterable[Records], gold: Gold, told: Told) -> None:
    """Reads all and stores nothing. Raises QuestionError with a line for each bad one (the first 20 and a count)."""
    run_id = store.run_id(name) if store.config_of(name) is not None else 0
    faults: list[str] = []
    intake = Intake()
    total = 0

    def fault(line: str) -> None:
        nonlocal total
        total += 1
        if total <= SHOWN_FAULTS:
            faults.append(line)

    for records in files:
        with store.transaction():
            for record, (question, _) in _entries(store, records, gold, intake, fault):
                if not store.claim(run_id, question):
                    fault(f"{record.where}: {_taken(question)}")
                told(records, intake)
    if total:
        more = f"\n… and {total - len(faults)} more" if total > len(faults) else ""
        raise QuestionError(
            "\n".join(faults) + more + "\nNothing was imported. Mend the lines, or pass --skip-bad-rows."
        )


def store_lines(
    store: Store, run_id: int, files: Iterable[Records], gold: Gold, intake: Intake, skip: Callable[[str], None],
    told: Told,
) -> None:  # fmt: skip
    """Stores every line that is not there yet, a page in a transaction; bad ones go to `skip`."""
    for records in files:
        page: list[tuple[Record, Question, Bought]] = []
        size = 0
        for record, (question, bought) in _entries(store, records, gold, intake, skip):
            page.append((record, question, bought))
            size += len(bought.reply.answer) + len(bought.reply.reasoning or "") + len(question.question)
            if len(page) == PAGE or size > PAGE_CHARACTERS:
                _store_page(store, run_id, page, intake, skip)
                page, size = [], 0
                told(records, intake)
        _store_page(store, run_id, page, intake, skip)
        told(records, intake)


def _store_page(
    store: Store, run_id: int, page: Iterable[tuple[Record, Question, Bought]], intake: Intake,
    skip: Callable[[str], None],
) -> None:  # fmt: skip
    new = there = 0
    taken: list[str] = []
    with store.transaction():
        for record, question, bought in page:
            key = content_key(record)
            if store.has_attempt(run_id, key):
                there += 1
            elif not store.claim(run_id, question):
                taken.append(f"{record.where}: {_taken(question)}")
            else:
                store.put_bought(
                    run_id, question, key, bought.reply, bought.cost_pusd, bought.cost_source, bought.asked_at, now()
                )
                new += 1
    intake.new += new
    intake.there += there
    intake.bad += len(taken)
    for line in taken:
        skip(line)


def _entries(
    store: Store, records: Records, gold: Gold, intake: Intake, fault: Callable[[str], None]
) -> Iterator[tuple[Record, tuple[Question, Bought]]]:
    for record in records:
        intake.lines += 1
        try:
            if isinstance(record.value, BadRow):
                raise record.value
            found = _resolved(store, record.value, gold)
        except NoAnswer:
            intake.without_answer += 1
        except BadRow as e:
            if record.torn:
                intake.torn.append(f"{record.where}: {e}")
            else:
                intake.bad += 1
                fault(f"{record.where}: {e}")
        else:
            yield record, found


def _resolved(store: Store, row: dict[str, Any], gold: Gold) -> tuple[Question, Bought]:
    """The line's own question where it holds a gold answer, else the shelf's, else its own without one."""
    bought = read_bought(row)
    try:
        question = question_of(bought.question, needs_gold=False)
    except BadRow as e:
        if not bought.names or not str(e).startswith("question: missing"):
            raise
        question = None
    if question is not None and has_gold(question):
        return question, bought
    if gold.file is not None:
        text = None if question is None else _text_hash(question.question)
        known = store.shelved(bought.names, text)
        if known is not None:
            return known, bought
    if question is not None:
        by_majority = gold.by_majority and question.check != "code"
        return question.model_copy(update={"check": Majority.name}) if by_majority else question, bought
    if gold.file is None:
        raise BadRow(
            f"question: not in the line, which names {shown_names(bought.names)}: give the file that has it with"
            " --questions"
        )
    raise BadRow(f"question: {gold.file} has no question {shown_names(bought.names)}")


def _text_hash(text: str) -> str:
    return hashlib.sha256(" ".join(text.split()).encode("utf-8", "surrogatepass")).hexdigest()


def _taken(question: Question) -> str:
    return f"id: {question.id[:200]!r} names another question already"
