"""The stages of a job, each with the words of the command that does it."""

import json
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finetune.job.kinds import PlannedTraining
from finetune.job.settings import Evaluation, PlannedEvaluation, PlannedJob
from finetune.measure.engines import FOR_STUDENTS_HERE
from finetune.measure.vllm.command import gpus_gib
from finetune.run import standalone
from finetune.train.launch import launch_line
from harvest.endpoint import prompt as prompts
from harvest.store import without_passwords

FLAGS = tuple(name for name in Evaluation.model_fields if name not in ("questions", "who", "prompt"))
"""The settings of an evaluation that are flags of `finetune eval` by the same name."""
LAUNCHERS = {
    "python": (),
    "torchrun": ("-m", "torch.distributed.run"),
    "accelerate": ("-m", "accelerate.commands.accelerate_cli"),
}
"""The words by which Python starts what a launch line begins with."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage. `words` follow the name of the program, e.g. `-m harvest collect RUN.toml`.

    The stage `select` has none: `collect` selects when the last answer is in.
    """

    kind: Literal["collect", "select", "train", "evaluate", "report"]
    title: str
    about: str
    words: tuple[str, ...] = ()
    training: PlannedTraining | None = None
    evaluation: PlannedEvaluation | None = None

    @property
    def command(self) -> str:
        """Returns the stage's command as a user types it."""
        return shlex.join(["python", *without_passwords(self.words)[0]]) if self.words else ""


def stages_of(job: PlannedJob) -> list[Stage]:
    """Returns the stages of a job, in order."""
    return [*_stages(job)]


def _stages(job: PlannedJob) -> Iterator[Stage]:
    run, named = job.run.name, ("--run", job.run.name, "--store", job.run.store)
    skip = ["--skip-bad-rows"] if job.settings.skip_bad_rows else []
    yield Stage("collect", "collect", f"run {run}", ("-m", "harvest", "collect", *job.run_source.words, *skip))
    chosen = job.run.select.model_dump(mode="json", exclude_defaults=True)
    by = ", ".join(f"{k} = {json.dumps(v)}" for k, v in chosen.items())
    yield Stage("select", "select", f"accepted traces without duplicates{by and f'; {by}'}")
    for e in job.evaluations:
        for who in ("teacher", "before"):
            if who in e.settings.who:
                yield _evaluation(job, e, who)
    for n, training in enumerate(job.trainings):
        recipe, is_last = training.recipe, n == len(job.trainings) - 1
        about = f"{training.command}: {recipe.student} → {recipe.output}"
        yield Stage("train", "train", about, (*_started(training), *(named if training.takes_run else ())), training)
        for e in job.evaluations:
            if "each" in e.settings.who or (is_last and "after" in e.settings.who):
                yield _evaluation(job, e, "after" if is_last else "", recipe.output)
    yield Stage("report", "report", run, ("-m", "harvest", "report", run))


def _started(training: PlannedTraining) -> list[str]:
    """Returns the words that start a training as its launch.strategy asks, after the name of the program."""
    launch = training.recipe.launch
    gpus = launch.gpus if "gpus" in launch.model_fields_set else max(2, len(gpus_gib()))
    launcher, *words = shlex.split(launch_line(launch.strategy, gpus, training.words))
    return [*LAUNCHERS[launcher], *words]


def _evaluation(job: PlannedJob, e: PlannedEvaluation, label: str, student: str | None = None) -> Stage:
    student = student or ("teacher" if label == "teacher" else job.trainings[0].recipe.student)
    words = ["-m", "finetune", "eval", student, "--questions", e.source]
    words += ["--run", job.run.name, "--store", job.run.store]
    words += ["--label", label] if label else []
    if e.settings.prompt is not None:
        words += ["--prompt", prompt_of(e.settings.prompt, job.path.parent)]
    words += _flags(e.settings, FOR_STUDENTS_HERE if label == "teacher" else ())
    return Stage("evaluate", f"evaluate {label}".strip(), f"{student} on {e.source}", tuple(words), evaluation=e)


def looking(job: PlannedJob, e: Evaluation, student: str, questions: Path, answers: Path, samples: int) -> list[str]:
    """Returns the words of the command that asks a round's student the questions among which the next round chooses.

    It asks as the evaluation `e` does, under the run's prompt. No report gets it, since the questions are not held out.
    """
    run = standalone()
    words = ["-m", "finetune", "eval", student, "--questions", str(questions), "--details", str(answers)]
    words += ["--run", run.name, "--store", run.url, "--samples", str(samples)]
    words += ["--prompt", prompt_of(job.run.prompt, job.folder)]
    words += ["--temperature", "1"] if samples > 1 else []
    others = ("samples", "limit", "questions_columns", *(("temperature", "preset") if samples > 1 else ()))
    return words + _flags(e, others)


def _flags(e: Evaluation, without: Collection[str]) -> list[str]:
    words = []
    for name in FLAGS:
        if (value := getattr(e, name)) is not None and name not in without:
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            words += [f"--{name.replace('_', '-')}", text]
    return words


def prompt_of(name: str, base: Path) -> str:
    """Returns the name of a prompt for a command that is started in the working directory. Raises PromptError.

    A file's name is relative to `base`.
    """
    prompts.load(name, base)
    is_own = name.endswith(".md") or "/" in name
    return str(base / name) if is_own else name
