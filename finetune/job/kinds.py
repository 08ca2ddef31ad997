"""The commands that a [[train]] of JOB.toml may name. A command that takes a recipe is one entry in KINDS."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from finetune.recipe import Recipe, recipe_of
from finetune.student import find, identity
from harvest.core.settings import Section, override, read_toml, validated

Count = Annotated[int, Field(ge=1, strict=True)]
Overrides = Sequence[tuple[str, str]]


def words_of(overrides: Overrides) -> list[str]:
    """Returns settings of the command line as its words: `--budget.usd 5`."""
    return [word for key, text in overrides for word in (f"--{key}", text)]


@dataclass(frozen=True, slots=True)
class Source:
    """The settings of one command: the file, or a table in it, and what is put over it."""

    path: Path
    overrides: Overrides = ()

    @property
    def words(self) -> list[str]:
        """Returns the words of a command line that name these settings."""
        return [str(self.path), *words_of(self.overrides)]


class Cut(Section):
    """The settings of `finetune init` in a job, in place of a recipe's."""

    student: str
    """The model that is cut."""
    output: str
    """The folder of the smaller model."""
    layers: Count
    """How many layers are kept."""
    keep: Literal["even", "importance"] = "even"
    """Which layers: evenly spaced ones, or those that change their input most."""
    data: str
    """The rows on which importance is measured. Without it: the job's run."""
    most_rows: Count = 64
    """How many of them."""
    max_tokens: Count = 2048
    """Longer rows are left out."""

    def is_there(self) -> bool:
        """Returns whether the output holds this very cut of the student's weights."""
        try:
            cut_from = json.loads((Path(self.output) / "config.json").read_text("utf-8"))["cut_from"]
            wanted = (identity(find(self.student)), self.layers, self.keep)
            return (cut_from["weights"], len(cut_from["kept"]), cut_from["keep"]) == wanted
        except (OSError, ValueError, KeyError, TypeError):
            return False


@dataclass(frozen=True, slots=True)
class PlannedTraining:
    """One training: its recipe, and the words of its command after `finetune`."""

    command: str
    source: Source
    recipe: Recipe
    """Of `init`, which has no recipe, this one has the student and the output."""
    words: Sequence[str]
    takes_run: bool = True
    """Whether the command takes `--run`, whose report gets the training."""
    cut: Cut | None = None


Kind = Callable[[Source, bool], PlannedTraining]
"""A function that reads the settings of a command; the second argument is that of `read_job`. It raises ConfigError."""


def _with_recipe(command: str, section: str | None = None) -> Kind:
    """Returns the kind of a command that takes a RECIPE.toml, and a section of it that only this command takes."""

    def planned(source: Source, train: bool) -> PlannedTraining:
        data = {**({section: {}} if section else {}), **read_toml(source.path)}
        recipe = recipe_of(data, str(source.path), source.overrides, train)
        return PlannedTraining(command, source, recipe, [command, *source.words])

    return planned


def _init(source: Source, _: bool) -> PlannedTraining:
    data = read_toml(source.path)
    override(Cut, data, source.overrides)
    cut = validated(Cut, data, str(source.path))
    words = ["init", cut.student, "--layers", str(cut.layers), "--to", cut.output, "--keep", cut.keep]
    if cut.keep == "importance":
        words += ["--rows", cut.data, "--most-rows", str(cut.most_rows), "--max-tokens", str(cut.max_tokens)]
    recipe = Recipe(student=cut.student, data=cut.data, output=cut.output)
    return PlannedTraining("init", source, recipe, words, takes_run=False, cut=cut)


KINDS: dict[str, Kind] = {
    "sft": _with_recipe("sft"),
    "distill": _with_recipe("distill", "distill"),
    "prefer": _with_recipe("prefer", "prefer"),
    "init": _init,
}
