"""Collects traces from a script, a notebook or an event loop, by the command `collect`."""

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from harvest.commands.run_folder import find_run
from harvest.core.config import RunConfig, load
from harvest.core.errors import CapReached, ConfigError
from harvest.core.files import runs_folder, settings_path, write_in_run
from harvest.core.settings import validated
from harvest.questions.hub import HUB
from harvest.questions.sources import GYM
from winnow.process import called, setting_words
from winnow.run import Run

Rows = Iterable[Mapping[str, Any]]
Amount = str | int | float | Decimal
SETTINGS, QUESTIONS = "settings.json", "questions.jsonl"


def collect(
    questions: str | Path | Rows,
    *,
    teacher: str | Mapping[str, Any] | None = None,
    budget_usd: Amount | None = None,
    name: str | None = None,
    skip_bad_rows: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Asks the teacher, checks and stores the answers, and returns the run. Called again, it goes on where it stopped.

    `questions` are rows (a list of mappings, a dataset, a table of pandas), a file, a source as in RUN.toml
    ("reasoning-gym:…", "hub:…"), or a RUN.toml itself. `teacher` has the settings of [teacher], or is the name of an
    embedded model. `budget_usd` is the cap. `name` is the run's; rows need one. `settings` are those of RUN.toml, by
    section: `sampling={"max_tokens": 16384}, prompt="steps"`. Paths among them are absolute, or relative to RUN.toml.

    A run that stopped at its cap is returned as it is (`run.is_complete`). Raises InputError when something is wrong
    before anything was asked, TeacherRefused and Overbilled when asking had to stop (what came is stored: `open_run`),
    and KeyboardInterrupt.
    """
    words, config = _prepared(questions, teacher, budget_usd, name, settings)
    called("harvest", ["collect", *words, *_flags(skip_bad_rows)], quiet=quiet, ends=(0, CapReached.exit_code))
    return _run_of(config)


def foresee(
    questions: str | Path | Rows,
    *,
    teacher: str | Mapping[str, Any] | None = None,
    budget_usd: Amount | None = None,
    name: str | None = None,
    skip_bad_rows: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Returns what `collect` with the same arguments would ask and may cost, and asks nothing: `questions`, `open`,
    `answers_at_most`, `usd_at_most`, `usd_at_most_of_one`, `cap_usd`, `spent_usd`, `at_once`, and more."""
    words, _ = _prepared(questions, teacher, budget_usd, name, settings)
    words += ["--dry-run", *_flags(skip_bad_rows)]
    return called("harvest", ["collect", *words], quiet=True, ends=(0, CapReached.exit_code))


def open_run(name: str | Path, store: str | None = None) -> Run:
    """Returns a run that is there already, by its name or its folder. `store` as `--store`.

    Raises InputError when this folder has neither store nor runs. `Run`'s methods raise StoreUnusable when there is no
    run of that name.
    """
    found, url = find_run(str(name), store)
    return Run(found, _absolute(url), (runs_folder() / found).absolute())


def _prepared(
    questions: str | Path | Rows,
    teacher: str | Mapping[str, Any] | None,
    budget_usd: Amount | None,
    name: str | None,
    settings: Mapping[str, Any],
) -> tuple[list[str], RunConfig]:
    """Returns (the words after `collect`, the run's settings). Writes rows, and settings that stand in no file of the
    user's, into the run's folder. Raises ConfigError."""
    given = dict(settings)
    if teacher is not None:
        given["teacher"] = {"local": teacher} if isinstance(teacher, str) else dict(teacher)
    if budget_usd is not None:
        given["budget"] = {**given.get("budget", {}), "usd": str(budget_usd)}
    if name is not None:
        given["name"] = name
    path = settings_path(str(questions)) if isinstance(questions, str | Path) else None
    if path is not None and str(path).partition("#")[0].endswith(".toml"):
        words = setting_words(given)
        pairs = [(word[2:].partition("=")[0], word.partition("=")[2]) for word in words]
        return [str(path), *words], load(path, pairs)
    if isinstance(questions, str | Path):
        given["questions"] = _source(str(questions))
        given.setdefault("name", Path(str(questions).partition("?")[0].replace(":", "-")).stem)
    else:
        if name is None:
            raise ConfigError("name: rows have none, so name the run: collect(rows, name=…)")
        given["questions"] = QUESTIONS
    if str(given.get("prompt", "")).endswith(".md"):
        given["prompt"] = str(Path(given["prompt"]).absolute())
    config = validated(RunConfig, given, "collect()")
    if not isinstance(questions, str | Path):
        text = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in _rows(questions))
        write_in_run(config.name, QUESTIONS, text)
    write_in_run(config.name, SETTINGS, json.dumps(given, ensure_ascii=False, indent=2, default=str) + "\n")
    return [str(runs_folder() / config.name / SETTINGS)], config


def _source(questions: str) -> str:
    return questions if questions.startswith((GYM, HUB)) else str(Path(questions).absolute())


def _rows(questions: Any) -> Rows:
    """Returns rows as mappings; a table of pandas is looped over by its rows, not by its columns."""
    is_table = hasattr(questions, "columns") and hasattr(questions, "to_dict")
    found: Rows = questions.to_dict("records") if is_table else questions
    return found


def _flags(skip_bad_rows: bool) -> list[str]:
    return ["--skip-bad-rows"] if skip_bad_rows else []


def _run_of(config: RunConfig) -> Run:
    return Run(config.name, _absolute(config.store), (runs_folder() / config.name).absolute())


def _absolute(url: str) -> str:
    """Returns the URL of a store that stays the same in another working directory."""
    path = url.removeprefix("sqlite:///")
    return f"sqlite:///{Path(path).absolute()}" if url.startswith("sqlite:///") else url
