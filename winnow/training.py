"""Trains and measures a student from a script or a notebook, by the commands `sft` and `eval`."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.recipe import Recipe
from harvest.core.errors import ConfigError
from harvest.core.files import runs_folder, settings_path, write_whole
from harvest.core.settings import validated
from winnow.process import called, setting_words
from winnow.run import Run


@dataclass(frozen=True)
class Evaluation:
    """How many of the questions a student answers right, with the 95% interval."""

    accuracy: float
    low: float
    high: float
    n: int
    """How many questions were asked."""
    mean_output_tokens: float | None
    gain: Mapping[str, Any] | None
    """The gain over the evaluation before training, in points with its interval; None where there is none."""
    warnings: tuple[str, ...]
    entry: Mapping[str, Any]
    """All of it, as report.json has it."""


@dataclass(frozen=True)
class Student:
    """A trained student in its folder."""

    folder: Path
    training: Mapping[str, Any]
    """The report's entry: `rows`, `tokens`, `loss_first`, `loss_last`, `wall_s`, `cost_usd`, …"""

    def evaluate(self, questions: str | Path | Iterable[Mapping[str, Any]], **flags: Any) -> Evaluation:
        """Asks the student these questions. As `winnow.evaluate`."""
        return evaluate(self, questions, **flags)


def train(
    data: Run | str | Path | None = None,
    student: str | None = None,
    output: str | Path | None = None,
    *,
    recipe: str | Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Student:
    """Trains a student on traces and returns it. Called again, it goes on from the last checkpoint.

    `data` is a run, an export, a file, or a dataset of the hub; `student` the hub's name, a folder, or an entry of the
    model table; `output` the folder of the trained student. `recipe` is a RECIPE.toml whose settings these take the
    place of. `settings` are those of RECIPE.toml, by section: `method="lora", train={"learning_rate": 1e-4}`. The
    training is one process: several GPUs are for `finetune job` or a launcher.

    Raises InputError when a setting or a row is wrong, and KeyboardInterrupt.
    """
    of_run = ["--run", data.name, "--store", data.store] if isinstance(data, Run) else []
    named = {"data": data.folder if isinstance(data, Run) else data, "student": student, "output": output}
    given = {**settings, **{key: str(value) for key, value in named.items() if value is not None}}
    if recipe is not None:
        words = [str(settings_path(str(recipe))), *setting_words(given)]
    else:
        checked = validated(Recipe, given, "train()")
        if checked.launch.strategy != "single":
            raise ConfigError("launch.strategy: train() is one process; a job starts several (docs/jobs.md)")
        path = Path(f"{checked.output}.recipe.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(given, ensure_ascii=False, indent=2, default=str) + "\n")
        words = [str(path)]
    block = called("finetune", ["sft", *words, *of_run], quiet=quiet)
    return Student(Path(block["output"]).absolute(), block)


def evaluate(
    student: Student | str | Path,
    questions: str | Path | Iterable[Mapping[str, Any]],
    *,
    run: Run | None = None,
    quiet: bool = False,
    **flags: Any,
) -> Evaluation:
    """Asks a student questions with known answers, and returns how many it answers right.

    `student` is a trained one, a folder, an adapter, the hub's name, or an endpoint's URL. `questions` are rows, a
    file, or a benchmark's name ("math-500"). `run` gets the evaluation into its report. `flags` are those of `finetune
    eval`: `samples=4, max_tokens=4096, preset="deepseek-r1", label="before"`.

    Raises InputError when something is wrong, and KeyboardInterrupt. Answers that are there are not asked again.
    """
    named = str(student.folder if isinstance(student, Student) else student)
    words = ["eval", named, "--questions", _file_of(questions)]
    words += ["--run", run.name, "--store", run.store] if run is not None else []
    for flag, value in flags.items():
        words += [f"--{flag.replace('_', '-')}", *map(str, value if isinstance(value, list | tuple) else [value])]
    entry = called("finetune", words, quiet=quiet)
    figures = {name: entry[name] for name in ("accuracy", "low", "high", "n", "mean_output_tokens", "gain")}
    return Evaluation(**figures, warnings=tuple(entry["warnings"]), entry=entry)


def _file_of(questions: str | Path | Iterable[Mapping[str, Any]]) -> str:
    """Returns a name that `--questions` takes. Rows are written into a file whose name tells their content."""
    if isinstance(questions, str | Path):
        return str(questions)
    text = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in questions)
    name = f"questions-{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"
    runs_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(runs_folder() / name, text)
    return str(runs_folder() / name)
