"""Looks a run's questions up in public sets before a teacher is asked, and puts the answers there into the run.

They are judged like any other answer, before the first request leaves. A question that one of them answers right is not
asked; any other is. What was looked up is noted, so that the next start looks up nothing twice.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harvest.asking.planning.run import Run
from harvest.core.clock import now
from harvest.core.config import Reuse, RunConfig
from harvest.core.errors import InputError
from harvest.core.nouns import Question, Reply
from harvest.core.printable import one_line
from harvest.endpoint import prompt as prompts
from harvest.endpoint.prompt import text_of
from harvest.endpoint.reply import read_document
from harvest.local.weights import cache_folder
from harvest.questions.imported_answers import NoAnswer, read_answer
from harvest.questions.public_index import asks_the_same, found_in, hashes_of, index_of
from harvest.questions.public_rows import PublicTable, tables_of
from harvest.questions.public_sets import UNKNOWN, PublicAnswer, answer_key, answers_of, fits, public_source
from harvest.questions.question_key import VERSION
from harvest.questions.rows import BadRow, has_gold, judged_together
from harvest.store import Store, stored_settings

LOOKED_UP = "public looked up"
"""The kind of the store's events that hold what a run's questions were looked up in, and what was found."""
SHELF_PROMPT = "---\nfor: questions as they were asked elsewhere\nreasoning: endpoint\n---\n## user\n{question}\n"
PAGE = 5_000
"""So many questions are read at once."""
AT_ONCE = 128
"""So many rows of a set are read and stored in one transaction."""
Step = Callable[[int, int | None, str], None]
"""A function that is called now and then with (how much is done, of how much, what is going on)."""


@dataclass(frozen=True, slots=True)
class ToLookUp:
    """The questions that are looked up, each with a number of its own."""

    pages: Callable[[], Iterator[Sequence[tuple[int, Question]]]]
    """Gives them all."""
    some: Callable[[Sequence[int]], Mapping[int, Question]]
    """Gives those with these numbers."""


@dataclass(slots=True)
class Found:
    """Counts what a lookup found."""

    looked_up: int = 0
    """How many questions were looked up."""
    rows: int = 0
    """How many rows with a question the sets have."""
    of_question: Counter[int] = field(default_factory=Counter)
    """How many answers may be taken to each question that has one."""
    taken: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """How many answers may be taken, by (set, licence, teacher)."""
    left_out: Counter[str] = field(default_factory=Counter)
    """How many answers were left out, by the reason in words."""

    def as_json(self) -> dict[str, Any]:
        counts = {"looked_up": self.looked_up, "rows": self.rows, "questions": len(self.of_question)}
        return counts | {"answers": self.taken.total(), "left_out": dict(self.left_out)}

    def in_words(self) -> str:
        """Returns a line that says what was found, and why answers were left out."""
        questions = f" to {len(self.of_question):,} of {self.looked_up:,} questions" if self.looked_up else ""
        of = "; ".join(
            f"{n:,} of {teacher} in {name} ({licence})" for (name, licence, teacher), n in self.taken.items()
        )
        left = ", ".join(f"{n:,} {why}" for why, n in self.left_out.most_common())
        is_unstated = _by("licence", UNKNOWN) in self.left_out
        helps = ' (to take what states no licence, name "unknown" in reuse.licences)' if is_unstated else ""
        return (
            f"public: {self.rows:,} rows have answers{questions}"
            f"{f': {of}' if of else ''}{f'. Left out: {left}{helps}' if left else ''}"
        )


@dataclass(frozen=True, slots=True)
class Match:
    """A public answer to a question, which may be taken."""

    number: int
    question: Question
    answer: PublicAnswer
    reply: Reply


def tables(config: RunConfig, base: Path) -> list[PublicTable]:
    """Returns the tables of a run's public sets. Raises InputError if one of them is none, or cannot be read."""
    sources = [public_source(said, base) for said in config.reuse.public]
    return [table for source in sources for table in tables_of(source)]


def may_be_looked_up(question: Question) -> bool:
    """Whether a public answer to a question can be judged by itself."""
    return has_gold(question) and not judged_together(question)


def look_up(
    questions: ToLookUp, among: Sequence[PublicTable], reuse: Reuse, found: Found, step: Step
) -> Iterator[list[Match]]:
    """Yields the answers to the questions among these tables, a few at a time, and counts them in `found`."""
    numbers: list[NDArray[np.int64]] = []
    hashes: list[NDArray[np.uint64]] = []
    for page in questions.pages():
        these = [(number, text_of(question)) for number, question in page if may_be_looked_up(question)]
        numbers.append(np.array([number for number, _ in these], dtype=np.int64))
        hashes.append(hashes_of([text for _, text in these]))
        found.looked_up += len(page)
    if not found.looked_up:
        return
    number_of, of_all = np.concatenate(numbers), np.concatenate(hashes)
    for table in among:
        index = index_of(table, cache_folder() / "public", partial(_indexed, step, table))
        found.rows += len(index)
        askers: dict[int, list[int]] = {}
        for nth, place in found_in(index, of_all):
            askers.setdefault(place, []).append(int(number_of[nth]))
        rows = table.at(sorted(askers))
        done = 0
        while some := list(islice(rows, AT_ONCE)):
            known = questions.some(sorted({number for place, _ in some for number in askers[place]}))
            yield [
                match
                for place, row in some
                for number in askers[place]
                for match in _matches(number, known[number], table, place, row, reuse, found)
            ]
            done += len(some)
            step(done, len(askers), f"{done:,} rows of {table.name} taken")


def _indexed(step: Step, table: PublicTable, rows: int) -> None:
    step(rows, None, f"{rows:,} rows of {table.name} indexed")


def _matches(
    number: int, question: Question, table: PublicTable, place: int, row: Mapping[str, Any], reuse: Reuse, found: Found
) -> Iterator[Match]:
    """Yields the answers of one row that ask and answer one question, if they may be taken."""
    try:
        for nth, answer in enumerate(answers_of(table.of, row, f"{table.name}, {table.unit} {place}")):
            if nth == 0 and not asks_the_same(answer.line["question"], text_of(question)):
                return  # two hashes that are equal by chance
            if found.of_question[number] >= reuse.per_question:
                found.left_out["beyond reuse.per_question"] += 1
            elif (reply := reply_of(answer, reuse, found)) is not None:
                found.of_question[number] += 1
                yield Match(number, question, answer, reply)
    except (BadRow, NoAnswer) as e:
        found.left_out[unreadable(e)] += 1


def unreadable(fault: Exception) -> str:
    """Returns in words why a row brings nothing."""
    return f"rows ({one_line(str(fault), 60)})"


def reply_of(answer: PublicAnswer, reuse: Reuse, found: Found) -> Reply | None:
    """Returns a public answer as a reply that says where it is from; None if `reuse` leaves it out. Raises BadRow or
    NoAnswer."""
    if (why := fits(answer.licence, answer.teacher, reuse.licences, reuse.teachers)) is not None:
        found.left_out[_by(why, answer.licence if why == "licence" else answer.teacher)] += 1
        return None
    reply = read_answer(answer.line, read_document).reply
    found.taken[answer.set, answer.licence, answer.teacher] += 1
    return replace(reply, extra={**reply.extra, "public": answer.origin()})


def _by(setting: str, value: str) -> str:
    return f"by {setting} ({value})"


def put_public_answers(run: Run, store: Store, step: Step, say: Callable[[str], None]) -> None:
    """Puts public answers to a run's questions into the run, if that was not done yet for these sets, settings and
    questions. Public answers that the settings no longer allow are withdrawn first.

    Raises InputError when a set cannot be read. After a kill, the next start goes on.
    """
    reuse = run.config.reuse
    before = store.events(run.id, LOOKED_UP)[-1:]
    if not reuse.public and not before:
        return
    settings = {**reuse.model_dump(mode="json"), "questions": sum(store.question_statuses(run.id).values())}
    try:
        among = tables(run.config, run.base or Path())
    except InputError as e:
        if not before or before[0]["asked"] | settings != before[0]["asked"]:
            raise
        say(f"warning: reuse.public: {e}. What was taken from it stays")
        return
    asked = settings | {"version": VERSION, "tables": [table.identity() for table in among]}
    if before and before[0]["asked"] == asked:
        return
    names = {table.of.name for table in among}
    gone = [
        a for a in store.public_attempts(run.id)
        if a.set not in names or fits(a.licence, a.teacher, reuse.licences, reuse.teachers) is not None
    ]  # fmt: skip
    with store.transaction():
        store.withdraw(gone)
    if gone:
        say(f"public: {len(gone):,} answers no longer fit [reuse] and are withdrawn: their questions are open again")
    found = Found()
    shelf_id = _shelf(run, store) if among else 0
    for matches in look_up(_stored_questions(run, store), among, reuse, found, step):
        with store.transaction():
            for m in matches:
                key = answer_key(m.answer, m.question.id)
                store.put_public(run.id, shelf_id, m.number, m.question, key, m.reply, now())
    with store.transaction():
        store.add_event(run.id, LOOKED_UP, {"asked": asked, "found": found.as_json()}, now())
    if among:
        say(found.in_words())


def _stored_questions(run: Run, store: Store) -> ToLookUp:
    def pages() -> Iterator[Sequence[tuple[int, Question]]]:
        after = 0
        while page := store.lookup_questions(run.id, after, PAGE):
            yield page
            after = page[-1][0]

    def some(rows: Sequence[int]) -> Mapping[int, Question]:
        return {row: Question.model_validate_json(body) for row, body in store.question_bodies(rows)}

    return ToLookUp(pages, some)


def shelf_name(run: str) -> str:
    """Returns the name of the run that holds what the run `run` took from public sets."""
    return f"{run[:90]}-public"


def _shelf(run: Run, store: Store) -> int:
    """Returns the run on whose shelf the public answers stand: a run of imported answers, under this run."""
    prompt = prompts.parse(SHELF_PROMPT, "imported", "the prompt of public answers")
    name = shelf_name(run.config.name)
    settings = stored_settings(
        run.config.model_copy(update={"name": name, "prompt": prompt.name, "questions": run.config.reuse.public}),
        prompt_text=prompt.text, prompt_sha256=prompt.sha256, endpoints={}, base=run.base or Path(),
        price_source="public",
    )  # fmt: skip
    with store.transaction():
        return store.put_run(name, settings, None, now(), run.config.name)
