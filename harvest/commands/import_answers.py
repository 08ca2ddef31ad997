"""`harvest import` makes answers that were paid for elsewhere attempts of a run, and judges them.

If a line is bad, nothing is stored, unless the user wants bad lines to be skipped. Each line becomes one attempt, which
is known by the line's place and content. So the same file adds nothing a second time, and an import that was stopped
goes on when it is started again.
"""

import hashlib
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harvest.checks import ROW_RULES, CheckPool
from harvest.checks.majority import Majority
from harvest.commands.export import write_dataset
from harvest.commands.progress import Warnings, say, steps
from harvest.commands.report import write_report_of
from harvest.commands.run_folder import find_run, writing_to
from harvest.commands.select_traces import say_if_changed, select_as_set
from harvest.commands.verify import judge_answers
from harvest.core.clock import now
from harvest.core.config import DEFAULT_STORE, Checks, RunConfig
from harvest.core.errors import ConfigError, InputError, RowFaults
from harvest.core.files import RUN_NAME, runs_folder, write_settings
from harvest.core.nouns import Question
from harvest.core.settings import validated
from harvest.core.teachers import Teacher
from harvest.endpoint import prompt as prompts
from harvest.endpoint.reply import read_document
from harvest.judging.acceptance import NO_GOLD
from harvest.judging.verification import Counts
from harvest.questions.files import Record, Records, content_key
from harvest.questions.imported_answers import ImportedAnswer, NoAnswer, read_answer, shown_names
from harvest.questions.rows import BadRow, MissingQuestion, has_gold, question_of
from harvest.questions.sources import read_rows
from harvest.report.markdown_page import markdown
from harvest.store import Store, StoredRun, stored_settings

PAGE = 256
PAGE_CHARACTERS = 16_000_000
PROMPT = "---\nfor: questions as they were asked elsewhere\nreasoning: endpoint\n---\n## user\n{question}\n"
"""The prompt of an imported run: only the question's text. A line's own system message is stored with its answer."""


@dataclass(slots=True)
class LineCounts:
    """Counts what became of the lines that were read so far."""

    lines: int = 0
    new: int = 0
    there: int = 0
    """How many lines had been imported before."""
    without_answer: int = 0
    """How many lines are of requests that failed."""
    bad: int = 0
    torn: list[str] = field(default_factory=list)
    """Each text names file and line of a last line whose end is missing."""

    def as_json(self) -> dict[str, int]:
        return asdict(self) | {"torn": len(self.torn)}

    def in_words(self) -> str:
        words = {
            "new": "new answers", "there": "imported before", "without_answer": "of requests that brought no answer",
            "bad": "bad", "torn": "torn off at the end",
        }  # fmt: skip
        counts = self.as_json()
        shown = ", ".join(f"{counts[k]:,} {w}" for k, w in words.items() if counts[k] or k == "new")
        return f"{self.lines:,} lines: {shown}"


@dataclass(frozen=True, slots=True)
class GoldAnswers:
    """Says where a line that holds no gold answer gets one from."""

    file: str | None = None
    """The user named this file of questions. Its questions are in the store while the import runs. None: there is no
    such file."""
    by_majority: bool = False
    """If True, and there is no gold answer anywhere, an answer is judged by what most answers to its question agree
    on."""


Entry = tuple[Record, Question, ImportedAnswer]
"""(the line, its question, its answer)"""
OnRead = Callable[[Records, LineCounts], None]
"""A function that is called now and then while a file is read."""


def import_answers(
    files: Sequence[Path],
    name: str,
    url: str,
    *,
    questions: Path | None,
    skip_bad_rows: bool,
    majority: str | None,
    require: Sequence[str] | None,
    unsafe_code: bool,
    as_json: bool,
) -> int:
    """Imports files into the run `name`, judges, selects, reports and exports, and returns the exit code.

    Raises an InputError before anything is stored when a line is bad and `skip_bad_rows` is False. After Ctrl-C, what
    was stored is kept, and the same command goes on from there.
    """
    sources = [Records(f) for f in files]
    with Store.open(url, say=say) as store, CheckPool(unsafe_code=unsafe_code) as pool:
        before = run_before(store, name, from_public=False)
        checks = checks_of(before, majority, require)
        settings = settings_of(name, [f.absolute() for f in files], url, Path(), checks)
        counts, judged, skip = LineCounts(), Counts(), Warnings("skipped: ")
        gold = GoldAnswers(None if questions is None else str(questions), checks.without_gold == "majority")
        if gold.file is not None:
            shelve(store, gold.file, skip if skip_bad_rows else None, checks.without_gold)
        if not skip_bad_rows:
            with _reading("reading") as on_read:
                check_lines(store, 0 if before is None else before.id, sources, gold, on_read)
        with imported_run(store, settings) as run_id:
            say_if_changed(before, store.run(run_id))
            with _reading("storing") as on_read:
                store_lines(store, run_id, sources, gold, counts, skip, on_read)
            judge_answers(store, run_id, pool, judged)
        skip.close("bad lines skipped")
        for torn in counts.torn:
            say(f"warning: {torn}; whoever writes the file has not finished it: import it again then")
        report, dataset = selected_and_written(store, name)
    if as_json:
        said = {"run": name, "lines": counts.as_json(), "judged": judged.judged, "dataset": str(dataset)}
        print(json.dumps(said | {"report": report}, ensure_ascii=False))
    else:
        print(markdown(report))
        print(counts.in_words())
    if without_gold := report["traces"]["rejected"].get(NO_GOLD, 0):
        say(without_gold_words(name, files, without_gold))
    return 0


def without_gold_words(name: str, files: Sequence[Path], answers: int) -> str:
    """Returns what to do about imported answers that no gold answer judges."""
    what = "1 answer has" if answers == 1 else f"{answers:,} answers have"
    again = f"python -m harvest import {shlex.join(map(str, files))} --name {name}-judged"
    return (
        f"warning: {what} no gold answer to be judged by. With gold answers in a file: `{again} --questions F`. Where"
        f" questions have several answers, by what most of them say: `{again} --majority 0.5`. To ask such questions"
        ' afresh: a RUN.toml with checks.without_gold = "majority" and sampling.samples = 4'
    )


def run_before(store: Store, name: str, *, from_public: bool) -> StoredRun | None:
    """Joins the run that is imported into, and returns it as an earlier import left it; None: it is new. Raises an
    InputError if the name is none, or if the run has answers of another kind."""
    if not RUN_NAME.fullmatch(name):
        raise InputError(f"--name {name!r}: letters, digits, dots, dashes and underscores alone (it names a folder)")
    store.join(name, alone=True)
    before = store.find_run(name)
    if before is not None and not before.imported:
        raise ConfigError(f"run {name!r} asked a teacher itself, and no run mixes two: import under another name")
    if before is not None and before.from_public != from_public:
        has, given = ("public answers", "bought") if before.from_public else ("answers that were bought", "public")
        raise ConfigError(f"run {name!r} has {has}, and these are {given}: import them under another name")
    return before


def selected_and_written(store: Store, name: str) -> tuple[dict[str, Any], Path]:
    """Selects, reports and exports after an import. Returns (the report, the dataset's folder)."""
    select_as_set(store, name)
    with writing_to(runs_folder() / name):
        report = write_report_of(store, name, live=False)
        dataset, _ = write_dataset(store, name, report)
    return report, dataset


@contextmanager
def _reading(name: str) -> Iterator[OnRead]:
    """Shows how much of a file has been read."""
    with steps(name) as step:
        yield lambda records, counts: step(
            records.done_bytes, records.total_bytes, f"{counts.lines:,} lines of {records.name}"
        )


@contextmanager
def imported_run(store: Store, settings: dict[str, Any]) -> Iterator[int]:
    """Notes in the store that an import begins, yields the run's id, and notes that the import has ended.

    The run's folder is written first, so that it names the store even when the import is killed.
    """
    name = settings["name"]
    run_id = put_imported_run(store, settings)
    with writing_to(runs_folder() / name):
        write_settings(name, store.run(run_id).settings)
    with store.transaction():
        session_id = store.begin_session(run_id, now())
    status = "interrupted"
    try:
        yield run_id
        status = "complete"
    finally:
        with store.transaction():
            store.end_session(session_id, status, 0, "", now())


def store_of(name: str, given: str | None) -> str:
    """Returns the URL of the store to import into.

    It is `given` if that is set, else the store of the run if the run is there, else the default store.
    """
    if given is None and (runs_folder() / name / "config.json").is_file():
        return find_run(name, None)[1]
    return given or DEFAULT_STORE


def checks_of(before: StoredRun | None, majority: str | None, require: Sequence[str] | None) -> Checks:
    """Returns how the run judges: like an earlier import into it, but what the command line says takes precedence.

    `majority` is the share of answers that must agree when there is no gold answer. `require` names the verdicts that
    an answer needs. Raises ConfigError.
    """
    checks: dict[str, Any] = {} if before is None else before.config.checks.model_dump()
    if require is not None:
        validated(Checks, {"require": require}, f"--require {','.join(require)}")
        checks["require"] = require
    if majority is not None:
        checks |= {"without_gold": "majority", "majority": majority}
    return validated(Checks, checks, "" if majority is None else f"--majority {majority}")


def settings_of(name: str, files: Sequence[Path], url: str, base: Path, checks: Checks) -> dict[str, Any]:
    """Returns the run's settings as the store keeps them. They have the form of a collected run's settings."""
    prompt = prompts.parse(PROMPT, "imported", "the imported run's prompt")
    config = RunConfig(
        name=name,
        questions=tuple(map(str, files)),
        prompt=prompt.name,
        store=url,
        teacher=Teacher(local="none"),
        checks=checks,
    )
    return stored_settings(
        config, prompt_text=prompt.text, prompt_sha256=prompt.sha256, endpoints={}, base=base, price_source="log"
    )


def put_imported_run(store: Store, settings: Mapping[str, Any]) -> int:
    """Writes the run into the store and returns its id.

    A run that exists already keeps the names of its earlier files, and its settings of selection and export.
    """
    name = settings["name"]
    run = store.find_run(name)
    before = {} if run is None else run.settings
    kept = {section: before[section] for section in ("filters", "rewrite", "select", "export") if section in before}
    files = dict.fromkeys([*before.get("questions", []), *settings["questions"]])
    with store.transaction():
        return store.put_run(name, {**settings, **kept, "questions": list(files)}, None, now())


def shelve(store: Store, source: str, skip: Callable[[str], None] | None, without_gold: str) -> None:
    """Puts a file of questions into the store, in which lines then look up their gold answers. Raises QuestionError."""
    with store.transaction():
        rows = read_rows(source, Path(), ROW_RULES, skip_bad_rows=skip, without_gold=without_gold)
        store.shelve((question, _text_hash(question.question)) for _, question in rows)


def check_lines(store: Store, run_id: int, files: Iterable[Records], gold: GoldAnswers, on_read: OnRead) -> None:
    """Reads all lines and stores no answer. Raises QuestionError when a line is bad.

    The message has the first bad lines, and says how many more there are. `run_id` is the run that an earlier import
    made; 0: there is no such run.
    """
    faults, counts = RowFaults(), LineCounts()
    for records in files:
        with store.transaction():
            for record, question, _ in _entries(store, records, gold, counts, faults.add):
                if not store.claim(run_id, question):
                    faults.add(f"{record.where}: {_taken(question)}")
                on_read(records, counts)
    faults.refuse("Nothing was imported. Mend the lines, or pass --skip-bad-rows.")


def store_lines(
    store: Store, run_id: int, files: Iterable[Records], gold: GoldAnswers, counts: LineCounts,
    skip: Callable[[str], None], on_read: OnRead,
) -> None:  # fmt: skip
    """Stores every line that is not in the store yet, one page in each transaction. Calls `skip` with each bad line."""
    for records in files:
        page: list[Entry] = []
        size = 0
        for record, question, bought in _entries(store, records, gold, counts, skip):
            page.append((record, question, bought))
            size += len(bought.reply.answer) + len(bought.reply.reasoning or "") + len(question.question)
            if len(page) == PAGE or size > PAGE_CHARACTERS:
                _store_page(store, run_id, page, counts, skip)
                page, size = [], 0
                on_read(records, counts)
        _store_page(store, run_id, page, counts, skip)
        on_read(records, counts)


def _store_page(
    store: Store, run_id: int, page: Iterable[Entry], counts: LineCounts,
    skip: Callable[[str], None],
) -> None:  # fmt: skip
    """Stores those lines of a page that are not stored yet, in one transaction. Counts them after the transaction has
    ended."""
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
    counts.new += new
    counts.there += there
    counts.bad += len(taken)
    for line in taken:
        skip(line)


def _entries(
    store: Store, records: Records, gold: GoldAnswers, counts: LineCounts, fault: Callable[[str], None]
) -> Iterator[Entry]:
    """Yields the lines that can be imported. Counts all other lines, and calls `fault` with each bad line."""
    for record in records:
        counts.lines += 1
        try:
            if isinstance(record.value, BadRow):
                raise record.value
            question, bought = _resolved(store, record.value, gold)
        except NoAnswer:
            counts.without_answer += 1
        except BadRow as e:
            if record.torn:
                counts.torn.append(f"{record.where}: {e}")
            else:
                counts.bad += 1
                fault(f"{record.where}: {e}")
        else:
            yield record, question, bought


def _resolved(store: Store, row: dict[str, Any], gold: GoldAnswers) -> tuple[Question, ImportedAnswer]:
    """Returns (a line's question, its answer).

    The line's own question is taken if it holds a gold answer. Else the question is looked up in the file of questions.
    If it is not there, the line's own question is taken without a gold answer. Raises BadRow, or NoAnswer.
    """
    bought = read_answer(row, read_document)
    try:
        question = question_of(bought.question, ROW_RULES, needs_gold=False)
    except MissingQuestion:
        if not bought.names:
            raise
        question = None
    if question is not None and has_gold(question):
        return question, bought
    text = None if question is None else _text_hash(question.question)
    if gold.file is not None and (known := store.shelved(bought.names, text)) is not None:
        return known, bought
    if question is not None:
        by_majority = gold.by_majority and question.check != "code"
        return question.model_copy(update={"check": Majority.name}) if by_majority else question, bought
    if gold.file is None:
        names = shown_names(bought.names)
        raise BadRow(f"question: not in the line, which names {names}: give the file that has it with --questions")
    raise BadRow(f"question: {gold.file} has no question {shown_names(bought.names)}")


def _text_hash(text: str) -> str:
    return hashlib.sha256(" ".join(text.split()).encode("utf-8", "surrogatepass")).hexdigest()


def _taken(question: Question) -> str:
    return (
        f"id: {question.id[:200]!r} names another question already, or this one with another gold answer or check:"
        " import it under another --name"
    )
