"""Measures short trainings. Each is a cell that can be killed and gone on with, and whose result is kept.

A cell trains the student on some answers of a run, asks it the held-out questions, and reads held-out traces with it.
Its folder lies under the run's folder, named by a digest of all that decides the result. When the result is there, the
trained weights are removed.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from finetune.measure.details import read_details
from finetune.recipe import Recipe, recipe_of
from finetune.rows.template import recipe_tokenizer
from finetune.run import Run
from finetune.student import find, identity
from finetune.tryout.scoring import surprisal_of
from finetune.tryout.teachers import toml
from harvest.core.errors import InputError
from harvest.core.files import runs_folder, write_whole
from harvest.core.nouns import content_hash
from harvest.questions.sources import fingerprint
from harvest.report.evaluations import by_question

VERSION = 1
"""What another version of this file measured is measured again."""
RESULT = "result.json"


@dataclass(frozen=True, slots=True)
class Cell:
    """One short training: on which answers of the run, how often, with which seed. Without answers nothing is trained:
    the student is measured as it is."""

    attempts: tuple[int, ...] = ()
    epochs: float = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """What a cell brought."""

    right: dict[str, float]
    """Maps each held-out question to the share of its answers that are right."""
    ended: float
    """The share of answers that end."""
    loss: float | None
    """The mean surprisal of the held-out traces, in nats a token; None: there are none."""
    wall_s: float

    @property
    def accuracy(self) -> float:
        return sum(self.right.values()) / len(self.right)


@dataclass(frozen=True, slots=True)
class Bench:
    """Measures cells that differ in their answers, epochs and seed alone."""

    run: Run
    recipe: Recipe
    """The student and the settings of its training. Data, output, epochs and seed are the cells'."""
    questions: str
    """The held-out questions, as `finetune eval --questions` takes them."""
    start: Callable[[Sequence[str]], int]
    """Runs `python WORDS…` and returns its exit code."""
    max_tokens: int | None = None
    """The most tokens of an answer to a held-out question; None: as `finetune eval` has it."""
    held_out: Sequence[int] = field(default=())
    """The answers of the run that are read for the held-out loss. No cell may train on one of them."""

    def result(self, cell: Cell) -> Result | int:
        """Returns the result of a cell, which is measured if it is not there; the exit code of a command that failed.

        Raises InputError when the folder of the cell cannot be written.
        """
        assert not set(cell.attempts) & set(self.held_out)
        rows = "".join(
            json.dumps(row, ensure_ascii=False) + "\n" for _, row in self.run.training_rows(sorted(cell.attempts))
        )
        folder = runs_folder() / self.run.name / "cells" / self._key(cell, rows)
        try:
            if (folder / RESULT).is_file():
                return Result(**json.loads((folder / RESULT).read_text("utf-8"))["result"])
            folder.mkdir(parents=True, exist_ok=True)
            return self._measured(cell, rows, folder)
        except OSError as e:
            raise InputError(f"{e.filename or folder}: cannot be written: {e.strerror}") from None

    def _key(self, cell: Cell, rows: str) -> str:
        stored = self.run.stored()
        what = {
            "version": VERSION, "rows": rows, "epochs": cell.epochs, "seed": cell.seed,
            "questions": [self.questions, fingerprint(self.questions, Path())],
            "prompt": stored.prompt_sha256, "max_tokens": self.max_tokens, "held_out": list(self.held_out),
            "student": identity(find(self.recipe.student)),
            "recipe": self.recipe.model_dump(
                mode="json", exclude={"data": True, "output": True, "student": True, "train": {"epochs", "seed"}}
            ),
        }  # fmt: skip
        return content_hash(what).removeprefix("sha256:")[:16]

    def _measured(self, cell: Cell, rows: str, folder: Path) -> Result | int:
        began, student = time.monotonic(), folder / "student"
        name = str(student) if cell.attempts else self.recipe.student
        write_whole(folder / "prompt.md", self.run.stored().prompt_text)
        if cell.attempts:
            write_whole(folder / "train.jsonl", rows)
            recipe = folder / "recipe.toml"
            write_whole(recipe, "\n".join(toml(self._settings(cell, folder))) + "\n")
            if code := self.start(["-m", "finetune", "sft", str(recipe)]):
                return code
        answers = folder / "answers.jsonl"
        words = ["-m", "finetune", "eval", name, "--questions", self.questions, "--prompt", str(folder / "prompt.md")]
        words += ["--details", str(answers)]
        words += [] if self.max_tokens is None else ["--max-tokens", str(self.max_tokens)]
        if code := self.start(words):
            return code
        loss = None
        if self.held_out:
            trained = self.recipe.model_copy(update={"student": name})
            loss = surprisal_of(name, [row for _, row in self.run.training_rows(self.held_out)], trained)
        result = _read(answers, loss, time.monotonic() - began)
        about = {"traces": len(cell.attempts), "epochs": cell.epochs, "seed": cell.seed, "result": asdict(result)}
        write_whole(folder / RESULT, json.dumps(about))
        shutil.rmtree(student, ignore_errors=True)
        return result

    def _settings(self, cell: Cell, folder: Path) -> dict[str, Any]:
        given = self.recipe.model_dump(mode="json", exclude_unset=True)
        train = {**given.get("train", {}), "epochs": cell.epochs, "seed": cell.seed}
        return {**given, "data": str(folder / "train.jsonl"), "output": str(folder / "student"), "train": train}


def _read(answers: Path, loss: float | None, wall_s: float) -> Result:
    rows = read_details(answers)
    ended = sum(row["outcome"] not in ("unfinished", "looping") for row in rows) / len(rows)
    return Result(by_question(rows), ended, loss, round(wall_s, 1))


def base_recipe(settings: Mapping[str, Any], source: str, overrides: Sequence[tuple[str, str]]) -> Recipe:
    """Returns the recipe of a bench out of the settings of a RECIPE.toml, whose data and output are the cells'.

    Raises ConfigError when something is wrong with it.
    """
    recipe = recipe_of({**settings, "data": "unused", "output": "unused"}, source, overrides, train=True)
    recipe_tokenizer(recipe)  # a student that is not there is found before anything is trained
    return recipe


def equal_tokens(traces: Mapping[int, Sequence[tuple[int, int]]]) -> dict[int, list[int]]:
    """Returns for each key the traces that are trained, so that all train about the same number of tokens.

    `traces` maps a key to (the attempt's id, its trained tokens). The traces with the smallest ids are taken, up to as
    many tokens as the key with the fewest has.

    >>> equal_tokens({0: [(1, 10), (2, 10), (3, 10)], 1: [(4, 15), (5, 10)]})
    {0: [1, 2], 1: [4, 5]}
    """
    most = min(sum(tokens for _, tokens in of) for of in traces.values())
    found: dict[int, list[int]] = {}
    for key, of in traces.items():
        total = 0
        for attempt_id, tokens in sorted(of):
            total += tokens
            if total > most:
                break
            found.setdefault(key, []).append(attempt_id)
    return found
