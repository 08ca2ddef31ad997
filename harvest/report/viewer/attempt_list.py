"""Makes the list of attempts that the page filters and sorts: columns of numbers, and the texts that these mean.

A list of 100,000 attempts is about 5 MB of JSON, so the page holds all of it and no filter waits for the server.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harvest.core.config import configs
from harvest.core.nouns import PUBLIC, STUDENT
from harvest.store import Store, StoredRun

ACCEPTED, REJECTED, NOT_JUDGED, NO_ANSWER = "accepted", "rejected", "not judged", "no answer"
STANDINGS = (ACCEPTED, REJECTED, NOT_JUDGED, NO_ANSWER)
MARKS = ("", "right", "wrong", "unsure")
Chosen = tuple[Store, str]
"""An open store, and the name of a run in it."""


class Texts:
    """Numbers texts in the order in which they come, so that a column holds numbers."""

    def __init__(self, first: Iterable[str] = ()) -> None:
        self._codes = {text: code for code, text in enumerate(first)}

    def code(self, text: str) -> int:
        return self._codes.setdefault(text, len(self._codes))

    def coded(self, column: Sequence[str | None]) -> list[int]:
        """Returns the numbers of a column. None has the number of the empty text."""
        codes = {text: self.code(text or "") for text in dict.fromkeys(column)}
        return [codes[text] for text in column]

    @property
    def texts(self) -> list[str]:
        return list(self._codes)


def attempt_list(runs: Iterable[Chosen], waiting: Mapping[tuple[int, int], str]) -> bytes:
    """Returns the list of the runs' attempts as JSON. Columns that have texts hold an index into `texts` of their name.

    `waiting` maps (index of the run, attempt id) to a mark that its store has not taken in yet.
    """
    texts = {
        "teacher": Texts(), "reason": Texts([""]), "domain": Texts([""]), "standing": Texts(STANDINGS),
        "mark": Texts(MARKS),
    }  # fmt: skip
    names = ("run", "id", "question", "teacher", "sample", "standing", "reason", "tokens", "cost", "mark", "disagree")
    columns: dict[str, list[int | None]] = {name: [] for name in names}
    questions: dict[str, list[Any]] = {"name": [], "domain": []}
    run_names = []
    for at, (store, name) in enumerate(runs):
        run = store.run(name)
        run_names.append(name)
        places: dict[int, int] = {}
        for row, question, domain in store.question_labels(run.id):
            places[row] = len(questions["name"])
            questions["name"].append(question)
            questions["domain"].append(texts["domain"].code(domain or ""))
        teachers = _teachers(run)
        listed = store.listed(run.id)
        marks: dict[int, str | None] = {i: mark for i, (mark, _) in listed.said.items()}
        marks |= {i: mark for (of, i), mark in waiting.items() if of == at}
        disagree = {i for i, (_, disagrees) in listed.said.items() if disagrees}
        standing = [_standing(*pair) for pair in zip(listed.state, listed.accepted, strict=True)]
        columns["run"] += [at] * len(listed.id)
        columns["id"] += listed.id
        columns["question"] += [places[row] for row in listed.question_id]
        columns["teacher"] += texts["teacher"].coded([teachers.get(place, "unknown") for place in listed.teacher])
        columns["sample"] += listed.sample
        columns["standing"] += texts["standing"].coded(standing)
        columns["reason"] += texts["reason"].coded(listed.reason)
        columns["tokens"] += listed.output_tokens
        columns["cost"] += listed.cost_pusd
        columns["mark"] += texts["mark"].coded([marks.get(i) for i in listed.id])
        columns["disagree"] += [int(i in disagree) for i in listed.id]
    found = {"texts": {name: t.texts for name, t in texts.items()}, "questions": questions, "columns": columns}
    return json.dumps({"runs": run_names, **found}, separators=(",", ":")).encode("ascii")


def _standing(state: str, accepted: int | None) -> str:
    if state == "failed":
        return NO_ANSWER
    return NOT_JUDGED if accepted is None else ACCEPTED if accepted else REJECTED


def _teachers(run: StoredRun) -> dict[int, str]:
    """Maps the index of each teacher, and STUDENT, to the name of its model."""
    if not run.has_teacher:
        return {0: "imported"} if run.imported else {}
    return {PUBLIC: "public set"} | {
        place: ("student " if place == STUDENT else "") + str(one.teacher.model or one.teacher.local or "unknown")
        for place, one in configs(run.config).items()
    }
