"""Reads the questions of an evaluation: those of a source as in RUN.toml, or a benchmark's."""

import difflib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from finetune.measure.benchmarks import BENCHMARKS, benchmark_named, benchmark_questions
from harvest.checks import ROW_RULES
from harvest.core.errors import InputError, QuestionError
from harvest.core.nouns import Question
from harvest.questions.rows import NO_COLUMNS, judged_together
from harvest.questions.sources import read_rows

Read = Callable[[str, int | None, Mapping[str, str]], list[Question]]
"""A function like `asked_questions`."""


def reading_once() -> Read:
    """Returns a function like `asked_questions` that reads each source only once.

    If a source cannot be read, later calls raise the same error without another try.
    """
    found: dict[tuple[str, int | None, str], list[Question] | InputError] = {}

    def read(source: str, limit: int | None, columns: Mapping[str, str]) -> list[Question]:
        key = source, limit, json.dumps(columns, sort_keys=True)
        if key not in found:
            try:
                found[key] = asked_questions(source, limit, columns)
            except InputError as e:
                found[key] = e
        if isinstance(there := found[key], InputError):
            raise there
        return there

    return read


def asked_questions(source: str, limit: int | None, columns: Mapping[str, str] = NO_COLUMNS) -> list[Question]:
    """Returns the first `limit` questions of the file or the benchmark that `source` names; None: all.

    `columns` is the setting `questions_columns`: which columns of a file hold our fields.

    Raises QuestionError for any bad row of the file, also after the limit. Raises InputError when there is no question,
    or when one of the returned questions has no gold answer.
    """
    if (benchmark := benchmark_named(source)) is not None:
        every_question = benchmark_questions(benchmark)
    else:
        near = difflib.get_close_matches(Path(source).name.casefold(), BENCHMARKS, 1, 0.8)
        if near and ":" not in source and not Path(source).exists():  # hub:… and reasoning-gym:… are no files
            raise QuestionError(f"{source}: no such file, and no benchmark of that name; did you mean {near[0]!r}?")
        every_question = [q for _, q in read_rows(source, Path(), ROW_RULES, may_skip=False, columns=columns)]
    questions = every_question[:limit]
    if not questions:
        raise InputError(f"{source}: not one question in it")
    if (without := next((q for q in questions if judged_together(q)), None)) is not None:
        raise InputError(f"{source}: question {without.id!r} has no gold answer to measure a student by")
    return questions
