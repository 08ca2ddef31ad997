"""Gives rendered rows their soft targets: finds them once, keeps them beside the rendered rows, and counts them."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from finetune.recipe import Distill, Recipe
from finetune.rows.cache import examples, made_once
from finetune.rows.examples import Examples
from finetune.rows.template import Tokenizer
from finetune.run import Run
from finetune.student import find, identity
from finetune.train.soft_targets.scoring import compare, scored
from finetune.train.soft_targets.stored import Stored, left_out
from finetune.train.soft_targets.table import COLUMNS, Given, batch_of, kept, parts_of, with_columns, within
from finetune.train.soft_targets.vocabulary import pieces_of
from harvest.core.errors import ConfigError, DatasetError
from harvest.local.weights import cache_folder
from harvest.store import without_password

STORED = "stored"
"""The teacher's name in a recipe that means the log-probabilities in the run's store."""
TARGETS, FOUND = "targets.arrow", "found.json"
ROWS_A_BATCH = 64
VERSION = 1
"""Soft targets that another version of this room found are found again."""


def settings_of(recipe: Recipe) -> Distill:
    return recipe.distill or Distill()


def with_targets(
    recipe: Recipe, tokenizer: Tokenizer, runs: Sequence[Run], say: Callable[[str], None] = lambda _: None
) -> Examples:
    """Returns every row of the recipe's data, checked and rendered, with the soft targets that its teachers give.

    `runs` are the runs whose exports the recipe's data are. `say` is told how many rows and tokens have targets.

    Raises what `examples` raises, ConfigError when teacher and student have different tokenizers, and DatasetError when
    no row has a target.
    """
    return targeted(examples(recipe, tokenizer), recipe, tokenizer, runs, say)


def targeted(
    made: Examples, recipe: Recipe, tokenizer: Tokenizer, runs: Sequence[Run], say: Callable[[str], None]
) -> Examples:
    """Returns the examples with their soft targets. It raises what `with_targets` raises."""
    settings, teachers = settings_of(recipe), _check_teachers(recipe, runs)
    pieces = pieces_of(tokenizer)
    place = _place(made, settings, teachers, runs)
    made_once(place, lambda folder: _find(made, settings, teachers, pieces, runs, folder))
    with pa.memory_map(str(place / TARGETS)) as file:
        found = with_columns(made, pa.ipc.open_stream(file).read_all())
    noted = json.loads((place / FOUND).read_text("utf-8"))
    if settings.share and teachers == (STORED,):
        wrote = {line: teacher for teacher, lines in noted["teacher_of"].items() for line in lines}
        out = left_out(wrote, settings.share, recipe.train.seed)
        say(f"{len(out):,} of {len(found):,} rows are left out, so that each teacher has its share")
        found = found.subset([n for n in range(len(found)) if n not in out])
    parts = parts_of(found)
    why = "; ".join(
        f"{rows:,} {'row' if rows == 1 else 'rows'}: {reason}" for reason, rows in sorted(noted["without"].items())
    )
    if not parts.tokens_with:
        raise DatasetError(f"{recipe.data}: no row has a soft target ({why or 'no row is one of the run'}): take sft")
    say(parts.in_words() + (f" ({why})" if why else ""))
    return found


def _check_teachers(recipe: Recipe, runs: Sequence[Run]) -> Sequence[str]:
    """Returns the teachers' names. Raises ConfigError when there is no run whose store could hold log-probabilities,
    and when shares are given and are not those of the teachers that are averaged."""
    settings = settings_of(recipe)
    teachers = settings.teachers or (STORED,)
    if STORED in teachers and not runs:
        raise ConfigError(
            f"{recipe.data}: no run's export, so no store holds log-probabilities: name distill.teachers, or take a run"
        )
    named = {t for t in teachers if t != STORED}
    if settings.share and named and (missing := named - settings.share.keys()):
        raise ConfigError(f"distill.share: names no share for {', '.join(sorted(missing))}: name all, or leave it out")
    return teachers


def _place(made: Examples, settings: Distill, teachers: Sequence[str], runs: Sequence[Run]) -> Path:
    parts = {
        "version": VERSION,
        "examples": made.digest,
        "rows": hashlib.sha256("\0".join(made.table["id"].to_pylist()).encode()).hexdigest(),
        "teachers": [t if t == STORED else [t, identity(find(t))] for t in teachers],
        "runs": [
            [run.name, without_password(run.url), run.logprobs_held()] for run in (runs if STORED in teachers else ())
        ],
        **settings.model_dump(include={"top_k", "share", "tokenizers", "logprobs_are_raw"}),
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "rows" / f"soft-{digest[:32]}"


def _find(
    made: Examples,
    settings: Distill,
    teachers: Sequence[str],
    pieces: Sequence[bytes],
    runs: Sequence[Run],
    folder: Path,
) -> None:
    """Writes the targets of each line of the table of examples into a folder."""
    lines = made.table.num_rows
    stored = Stored(made, pieces, settings)
    sources: list[Iterator[Given | None]] = [
        _in_order(stored.given(runs), lines) if teacher == STORED else scored(teacher, made, pieces, settings.top_k)
        for teacher in teachers
    ]
    with pa.OSFile(str(folder / TARGETS), "wb") as file, pa.ipc.new_stream(file, COLUMNS) as writer:
        for begin in range(0, lines, ROWS_A_BATCH):
            rows = [
                [kept(within(g, len(pieces)), settings.top_k) for g in (next(s) for s in sources) if g is not None]
                for _ in range(begin, min(begin + ROWS_A_BATCH, lines))
            ]
            writer.write_batch(batch_of(rows, _Shares(settings.share)))
    wrote: dict[str, list[int]] = {}
    for line, teacher in sorted(stored.teacher_of.items()):
        wrote.setdefault(teacher, []).append(line)
    (folder / FOUND).write_text(json.dumps({"without": stored.without, "teacher_of": wrote}), "utf-8")


class _Shares(dict[str, float]):
    """Each teacher's share; all are equal where none is given."""

    def __missing__(self, teacher: str) -> float:
        if self:
            raise ConfigError(f"distill.share: names no share for {teacher}: name all, or leave it out")
        return 1.0


def _in_order(found: Iterator[tuple[int, Given | None]], lines: int) -> Iterator[Given | None]:
    """Gives what was found for each line from 0 on. What comes before its turn waits in memory: rows of an export have
    the order of the store."""
    waiting: dict[int, Given | None] = {}
    for line in range(lines):
        while line not in waiting and (later := next(found, None)) is not None:
            waiting[later[0]] = later[1]
        yield waiting.pop(line, None)


def foretold(
    made: Examples, recipe: Recipe, tokenizer: Tokenizer, runs: Sequence[Run], say: Callable[[str], None]
) -> dict[str, Any]:
    """Returns what can be said of the soft targets before a teacher has scored a row. It raises what `with_targets`
    raises, so far as it comes to that."""
    settings, pieces = settings_of(recipe), pieces_of(tokenizer)
    _check_teachers(recipe, runs)
    if scorers := [t for t in settings.teachers if t != STORED]:
        for teacher in scorers:
            compare(teacher, pieces)
        return {"to_score": {teacher: {"rows": len(made), "tokens": sum(made.lengths)} for teacher in scorers}}
    return described(targeted(made, recipe, tokenizer, runs, say))


def described(made: Examples) -> dict[str, Any]:
    """Returns what the report says of the soft targets of the examples in view."""
    return parts_of(made).as_json()
