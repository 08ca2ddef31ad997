"""`harvest import --public` makes the answers of a public set attempts of a run, and judges them.

With questions, only their answers are taken; else all of the set's. A row that cannot be read is counted and left out:
the set is somebody else's. Started again, it goes on: an answer that the run has is not stored again.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from harvest.asking.planning.public_answers import Found, Match, Step, ToLookUp, look_up, reply_of, unreadable
from harvest.checks import ROW_RULES, CheckPool
from harvest.commands.import_answers import checks_of, imported_run, run_before, selected_and_written, settings_of
from harvest.commands.progress import say, steps
from harvest.commands.select_traces import say_if_changed
from harvest.commands.verify import judge_answers
from harvest.core.clock import now
from harvest.core.config import Reuse
from harvest.core.settings import validated
from harvest.judging.verification import Counts
from harvest.questions.imported_answers import NoAnswer
from harvest.questions.public_rows import PublicTable, tables_of
from harvest.questions.public_sets import PublicSource, answer_key, answers_of, known_set, public_source
from harvest.questions.rows import BadRow, question_of
from harvest.questions.sources import read_questions
from harvest.report.markdown_page import markdown
from harvest.store import FROM_PUBLIC, Store

AT_ONCE = 256
MOST_OF_A_QUESTION = 1_000_000


def import_public(
    said: str, files: Sequence[Path], name: str, url: str, *, questions: Path | None, licences: Sequence[str],
    teachers: Sequence[str], majority: str | None, require: Sequence[str] | None, unsafe_code: bool, as_json: bool,
) -> int:  # fmt: skip
    """Imports the public set `said` (from `files`, if there are some) into the run `name`, and returns the exit code.
    Raises an InputError before anything is stored if the set, or the questions, cannot be read."""
    given = {"public": [said], "licences": licences, "teachers": teachers, "per_question": MOST_OF_A_QUESTION}
    reuse = validated(Reuse, given, "--public")
    source = PublicSource(said, known_set(said), tuple(files)) if files else public_source(said, Path())
    tables = list(tables_of(source))
    for table in tables:
        table.column()
    wanted = None if questions is None else _read(questions)
    found, stored, judged = Found(), 0, Counts()
    with Store.open(url, say=say) as store, CheckPool(unsafe_code=unsafe_code) as pool:
        before = run_before(store, name, from_public=True)
        checks = checks_of(before, majority, require)
        by_majority = checks.without_gold == "majority"
        settings = settings_of(name, [Path(said)], url, Path(), checks)
        settings |= {"questions": [said], FROM_PUBLIC: True}
        with imported_run(store, settings) as run_id:
            say_if_changed(before, store.run(run_id))
            with steps("storing") as step:
                of = (tables, reuse, found, step)
                for some in look_up(wanted, *of) if wanted is not None else _all(*of, by_majority=by_majority):
                    stored += _store(store, run_id, some)
            judge_answers(store, run_id, pool, judged)
        report, dataset = selected_and_written(store, name)
    if as_json:
        counts = {"public": found.as_json() | {"new": stored}, "judged": judged.judged}
        print(json.dumps({"run": name, **counts, "dataset": str(dataset), "report": report}, ensure_ascii=False))
    else:
        print(markdown(report))
        print(f"{found.in_words()}; {stored:,} of the answers are new in this run")
    return 0


def _read(questions: Path) -> ToLookUp:
    """Returns the questions of a file."""
    every = list(read_questions(str(questions), Path(), ROW_RULES))
    return ToLookUp(lambda: iter([list(enumerate(every))]), lambda numbers: {n: every[n] for n in numbers})


def _all(
    tables: Sequence[PublicTable], reuse: Reuse, found: Found, step: Step, *, by_majority: bool
) -> Iterator[list[Match]]:
    """Yields the answers of all rows, each to the question that stands in its row."""
    for table in tables:
        rows = table.rows()
        while some := list(islice(rows, AT_ONCE)):
            found.rows += len(some)
            yield [match for place, row in some for match in _of_row(table, place, row, reuse, found, by_majority)]
            step(found.rows, None, f"{found.rows:,} rows of {table.name}")


def _of_row(table: PublicTable, place: int, row: Any, reuse: Reuse, found: Found, by_majority: bool) -> Iterator[Match]:
    """Yields the answers of one row that may be taken."""
    try:
        if row is None:
            raise BadRow("not an object")
        for answer in answers_of(table.of, row, f"{table.name}, {table.unit} {place}"):
            asked = {name: value for name, value in answer.line.items() if name != "response"}
            question = question_of(asked, ROW_RULES, needs_gold=False, by_majority=by_majority)
            if (reply := reply_of(answer, reuse, found)) is not None:
                yield Match(0, question, answer, reply)
    except (BadRow, NoAnswer) as e:
        found.left_out[unreadable(e)] += 1


def _store(store: Store, run_id: int, matches: Sequence[Match]) -> int:
    """Stores the answers that the run does not have yet, in one transaction. Returns how many."""
    new = 0
    with store.transaction():
        for m in matches:
            key = answer_key(m.answer, m.question.id)
            if not store.has_attempt(run_id, key):
                store.put_bought(run_id, m.question, key, m.reply, None, "public", None, now())
                new += 1
    return new
