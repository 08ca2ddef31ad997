"""Reads JOB.toml, and checks all of its parts before anything begins.

The run and the recipes are checked as their own commands check them.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from finetune.job.kinds import KINDS, Count, Overrides, PlannedTraining, Source, words_of
from finetune.measure.benchmarks import BENCHMARKS
from finetune.measure.sampling import PRESETS
from harvest.core.config import RunConfig, load
from harvest.core.errors import ConfigError
from harvest.core.files import runs_folder
from harvest.core.nouns import Question
from harvest.core.settings import OneRow, Section, folder_of, nearest, override, read_toml, validated
from harvest.questions.hub import HUB
from harvest.questions.sources import GYM

Share = Annotated[float, Field(gt=0, le=1)]


def _several(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


def _known_preset(name: str) -> str:
    if name not in PRESETS:
        raise ValueError(f"there is no such preset{nearest(name, PRESETS)}")
    return name


class Training(Section):
    """[[train]]: one training, by one command of finetune."""

    command: str = "sft"
    """The command of finetune: "sft", "distill" (teachers' probabilities beside text), "prefer" (shorter answers), or
    "init" (cuts a smaller student out of a model)."""
    recipe: Annotated[str | dict[str, Any], OneRow("required")]
    """The RECIPE.toml, relative to this file, or a table with the settings of a recipe. With a key `file`, the table's
    settings are put over those of that recipe. Without `data` in the table the training learns from the job's run;
    without `student`, a second training goes on with what the one before it trained; without `output`, the student is
    put into data/students/. For "init" the table has `student`, `layers`, and what else `finetune init` takes: `keep`,
    `most_rows`, `max_tokens`."""

    @model_validator(mode="after")
    def _known_command(self) -> "Training":
        if self.command not in KINDS:
            raise ValueError(f"command {self.command!r}: no training has this name{nearest(self.command, KINDS)}")
        return self


class Evaluation(Section):
    """[evaluate], or several [[evaluate]]: questions, and who is asked. The settings are those of `finetune eval`."""

    questions: str | tuple[str, ...]
    """The held-out questions, as in RUN.toml, or a benchmark by its name; each of several is measured alone."""
    questions_columns: dict[str, str] | None = None
    """The columns of the questions' rows that hold our fields under other names, as in RUN.toml."""
    who: Annotated[tuple[Literal["before", "after", "each", "teacher"], ...], BeforeValidator(_several)] = (
        "before",
        "after",
    )
    """Who is asked: "before" is the student that the first training begins with, "after" the one of the last training,
    "each" the students of all trainings, "teacher" the run's teacher, within the run's cap."""
    limit: Count | None = None
    """Only so many of the questions are asked."""
    prompt: str | None = None
    """The prompt, as in RUN.toml. Without it: a benchmark's own, else the run's."""
    preset: Annotated[str, AfterValidator(_known_preset)] | None = None
    """How answers are drawn, by name, as `finetune eval --preset` takes it."""
    samples: Count | None = None
    """Answers for each question. Without it: 1."""
    max_tokens: Count | None = None
    """Most tokens of an answer. Without it: 1024."""
    temperature: Annotated[float, Field(ge=0, le=10)] | None = None
    """0 is greedy. Without it: 0."""
    top_p: Share | None = None
    top_k: Count | None = None
    min_p: Share | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31, strict=True)] | None = None
    engine: Literal["auto", "transformers", "vllm"] | None = None
    """Who answers with a student of this machine."""
    batch_size: Count | None = None
    """Rows at once, for transformers. Without it: what fits."""
    tensor_parallel: Count | None = None
    """GPUs of each copy, for vLLM."""
    data_parallel: Count | None = None
    """Copies, for vLLM."""
    concurrency: Count | None = None
    """Most requests in flight, for vLLM and for the teacher."""

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.questions,) if isinstance(self.questions, str) else self.questions


class Rounds(Section):
    """[rounds]: the job buys in rounds. Each round asks the teacher some of the run's questions, trains on all traces
    so far, and measures. The next round asks what that student got wrong. All rounds share the run's cap."""

    questions: Count
    """How many questions a round buys at most."""
    most: Count = 4
    """How many rounds there are at most."""
    choose: Literal["failed", "random"] = "failed"
    """Which questions are bought from the second round on. `failed`: those that the student of the round before got
    wrong, the fewest right answers first. `random`: any."""
    looked_at: Count | None = None
    """How many questions that student answers on this machine, before those that it failed are bought. Without it:
    three times `questions`."""
    samples: Count = 1
    """How many answers that student gives to each of them: 1 is greedy, more are drawn at temperature 1. A question is
    bought where not all are right."""
    least_points_per_usd: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """A round that brings no more points of accuracy a dollar than this is the last one. Points are those of the first
    [evaluate] over the round before. Where nothing is billed, a round without a gain is the last one."""
    seed: Annotated[int, Field(ge=0, lt=2**31, strict=True)] = 0
    """Draws the order in which questions are looked at and bought."""


class Expected(Section):
    """[expect]: figures for --dry-run, used as long as the run has no answers of its own. Nothing else reads them."""

    questions: Count | None = None
    """How many questions there are. Without it --dry-run reads and counts them."""
    accepted: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The share of answers that is accepted."""
    input_tokens: Count | None = None
    """Tokens of a question with its prompt. Without it: a quarter of its bytes."""
    output_tokens: Count | None = None
    """Tokens of an answer with its chain. Without it the likely cost and the training's hours are not known."""
    traces: Count | None = None
    """How many traces are selected. Without it: as many as are accepted, or as [run.select] limits them."""
    rewritten: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of answers that [run.rewrite.model] rewrites."""
    rewritten_tokens: Count | None = None
    """Tokens of a text that is rewritten. Without it: as `output_tokens`."""
    parameters_b: Annotated[float, Field(gt=0)] | None = None
    """The student's weights in billions. Without it they are read from the student's configuration."""
    paid: dict[str, str] = Field(default_factory=dict)
    """What others paid, by the name of a stage (`collect`, `train`, …), in words. --dry-run shows it there."""


class Job(Section):
    """A job: one run, the trainings on it, and the evaluations."""

    run: Annotated[str | dict[str, Any], OneRow("required")]
    """The RUN.toml, relative to this file, or a table with the settings of RUN.toml: [run], [run.teacher], …. With a
    key `file`, the table's settings are put over those of that file."""
    at_cap: Literal["train", "stop"] = "train"
    """What the job does when the run's cap is reached before all questions are answered. `train`: it goes on with the
    traces that there are. `stop`: it ends with exit code 3, and goes on where it is started with a higher cap."""
    skip_bad_rows: bool = False
    """Whether questions that cannot be asked are counted and left out, where they would end the job."""
    rounds: Rounds | None = None
    train: tuple[Training, ...] = ()
    expect: Expected = Expected()
    evaluate: tuple[Evaluation, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_or_several(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        for name in RunConfig.model_fields:
            if name in data:
                raise ValueError(f"{name}: it is a part of the run: write [run.{name}]")
        return {**data, **{k: [data[k]] for k in ("train", "evaluate") if isinstance(data.get(k), Mapping)}}

    @model_validator(mode="after")
    def _has_students(self) -> "Job":
        students = {who for e in self.evaluate for who in e.who} - {"teacher"}
        if students and not self.train:
            raise ValueError(
                'evaluate: there is no [train], so there is no student to ask: add one, or who = ["teacher"]'
            )
        if self.rounds is not None and not {"after", "each"} & students:
            raise ValueError("rounds: no [evaluate] asks the student after a training, so no round could be measured")
        return self


@dataclass(frozen=True, slots=True)
class PlannedEvaluation:
    """One source of questions with the settings by which they are asked."""

    settings: Evaluation
    source: str
    """The source as `finetune eval` takes it in the working directory."""


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job whose settings have all been read."""

    path: Path
    overrides: Overrides
    settings: Job
    run_source: Source
    run: RunConfig
    folder: Path
    """The folder that paths in the run's settings are relative to."""
    trainings: Sequence[PlannedTraining] = field(default_factory=tuple)

    @property
    def words(self) -> list[str]:
        """Returns the words of a command line that put the same settings over the file."""
        return words_of(self.overrides)

    @property
    def evaluations(self) -> list[PlannedEvaluation]:
        """Returns the job's evaluations: one for each source of questions that an [[evaluate]] names."""
        base = self.path.parent
        return [PlannedEvaluation(e, _relative(source, base)) for e in self.settings.evaluate for source in e.sources]


def read_job(path: Path, overrides: Overrides = (), *, train: bool = False) -> PlannedJob:
    """Reads a JOB.toml and all that it names. Settings of the command line (`--run.budget.usd 5`) replace those there.

    If `train` is True, the further keys of each recipe's section [train] are also checked against TRL. Importing TRL
    takes seconds. Raises ConfigError with a line for each fault of each part.
    """
    data = read_toml(path)
    own, of_parts = _divided(overrides)
    override(Job, data, own)
    job = validated(Job, data, str(path))
    faults: list[str] = []

    def checked(read: Callable[[], Any]) -> Any:
        try:
            return read()
        except ConfigError as e:
            faults.extend(str(e).splitlines())
            return None

    run_source = _source(path, job.run, "run", of_parts.pop("run", []))
    config = checked(lambda: load(run_source.path, run_source.overrides))
    trainings: list[PlannedTraining] = []
    for n, stage in enumerate(job.train):
        table = f"train.{n}.recipe" if isinstance(data["train"], list) else "train.recipe"
        given = [
            *of_parts.pop(f"train.{n}.recipe", []),
            *(of_parts.pop("train.recipe", []) if len(job.train) == 1 else []),
        ]
        planned = checked(lambda: _planned(path, stage, table, given, config, trainings, len(job.train), train))  # noqa: B023
        if planned is not None:
            trainings.append(planned)
    if (
        config is not None
        and job.rounds is not None
        and (ours := {c for field, c in config.questions_columns.items() if field != c} & {*Question.model_fields})
    ):
        faults.append(f"{path}: rounds: questions_columns: {min(ours)!r} is a field of ours: rename the column first")
    if config is not None and job.rounds is not None and config.checks.without_gold == "majority":
        faults.append(f'{path}: rounds: checks.without_gold = "majority": a student is measured by gold answers')
    faults += [f"--{part}.{pairs[0][0]}: the job has no such training" for part, pairs in of_parts.items()]
    if faults:
        raise ConfigError("\n".join(faults))
    return PlannedJob(path, overrides, job, run_source, config, folder_of(run_source.path), trainings)


def _divided(overrides: Overrides) -> tuple[list[tuple[str, str]], dict[str, list[tuple[str, str]]]]:
    """Divides settings of the command line into those of the job itself, and those of each part that is read alone."""
    own: list[tuple[str, str]] = []
    of_parts: dict[str, list[tuple[str, str]]] = {}
    for key, text in overrides:
        words = key.split(".")
        at = words.index("recipe") + 1 if words[0] == "train" and "recipe" in words[:3] else 1
        if words[0] in ("run", "train") and (at > 1 or words[0] == "run") and len(words) > at:
            of_parts.setdefault(".".join(words[:at]), []).append((".".join(words[at:]), text))
        else:
            own.append((key, text))
    return own, of_parts


def _source(path: Path, given: str | dict[str, Any], table: str, overrides: Overrides) -> Source:
    return Source(_tidy(path.parent / given) if isinstance(given, str) else Path(f"{path}#{table}"), overrides)


def _tidy(path: Path) -> Path:
    """Returns a path without `..`, if that names the same file."""
    tidy = Path(os.path.normpath(path))
    return tidy if tidy.resolve() == path.resolve() else path


def _planned(
    path: Path,
    stage: Training,
    table: str,
    given: Overrides,
    config: RunConfig | None,
    before: Sequence[PlannedTraining],
    several: int,
    train: bool,
) -> PlannedTraining:
    """Returns a training whose recipe has what the job knows: the data, the student before it, and its output."""
    source = _source(path, stage.recipe, table, given)
    there = read_toml(source.path)
    said = {*(stage.recipe if isinstance(stage.recipe, dict) else ()), *(key for key, _ in given)}
    name = config.name if config is not None else "run"
    known: list[tuple[str, str]] = []
    if "data" not in said:
        known.append(("data", str(runs_folder() / name)))
    if "student" not in {*there, *said} and before:
        known.append(("student", before[-1].recipe.output))
    if "output" not in {*there, *said}:
        suffix = f"-{len(before)}-{stage.command}" if several > 1 else ""
        known.append(("output", f"data/students/{name}{suffix}"))
    source = Source(source.path, [*known, *given])
    return KINDS[stage.command](source, train)


def _relative(source: str, base: Path) -> str:
    """Returns the name of an evaluation's questions for a command that is started in the working directory."""
    if source.startswith((GYM, HUB)) or (source.casefold() in BENCHMARKS and not (base / source).exists()):
        return source
    return str(_tidy(base / source))
