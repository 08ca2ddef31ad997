"""Runs the tasks on datatrove's executors: processes of this machine, Slurm, or Ray.

Which tasks are done is said by the files that they leave, not by datatrove's own marks: a file may be gone, or made
under other settings.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from loguru import logger

from harvest.core.errors import InputError, WinnowError
from harvest.shards.files import read_path, write_whole
from harvest.shards.job import WORK, ShardsJob
from harvest.shards.merging import SUMMARY, merge
from harvest.shards.reading import read_file
from harvest.shards.writing import finish, write_file, written_path


@dataclass(frozen=True, slots=True)
class Slurm:
    """Where the tasks run on a cluster with Slurm."""

    partition: str
    time: str
    memory_gb: int
    python: str
    """The command that activates a Python with winnow on a node; empty: the node's shell has it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the work, as datatrove calls it: with the number of a task and the number of all tasks."""

    name: str
    job: ShardsJob
    tasks: int
    is_quiet: bool
    """Whether an error of the user's is left in a file, for the command to say, in place of a traceback in a log."""

    def __call__(self, _data: Any, rank: int, world_size: int) -> None:
        if self.is_done(rank):
            return
        try:
            DO[self.name](self.job, rank)
        except WinnowError as e:
            write_whole(self.fault_path(rank), [str(e).encode("utf-8", "replace")])
            if not self.is_quiet:
                raise
        else:
            self.fault_path(rank).unlink(missing_ok=True)

    def is_done(self, rank: int) -> bool:
        return DONE[self.name](self.job, rank)

    def fault_path(self, rank: int) -> Path:
        return Path(self.job.to, WORK, "faults", f"{self.name}-{rank:05d}")


DO: dict[str, Callable[[ShardsJob, int], None]] = {
    "read": read_file,
    "merge": lambda job, _: merge(job),
    "write": write_file,
    "finish": lambda job, _: finish(job),
}
ALONE = ("merge", "finish")
"""The steps that one task does for all files."""
DONE: dict[str, Callable[[ShardsJob, int], bool]] = {
    "read": lambda job, rank: read_path(job.read_folder, rank).exists(),
    "merge": lambda job, _: (job.outcome_folder / SUMMARY).exists(),
    "write": lambda job, rank: written_path(job, rank).exists(),
    "finish": lambda job, _: job.is_current(),
}


def steps_of(job: ShardsJob, *, is_quiet: bool) -> list[Step]:
    """Returns the steps in their order. Each begins when the one before it has ended."""
    n = len(job.files)
    return [Step(name, job, 1 if name in ALONE else n, is_quiet) for name in DO]


class _ByFiles:
    """Makes an executor of datatrove's believe the files that the tasks leave."""

    pipeline: list[Step]

    def is_rank_completed(self, rank: int) -> bool:
        return self.pipeline[0].is_done(rank)

    def get_incomplete_ranks(self, ranks: Iterable[int] | None = None, skip_completed: bool | None = None) -> list[int]:
        step = self.pipeline[0]
        return [rank for rank in (range(step.tasks) if ranks is None else ranks) if not step.is_done(rank)]


class _Local(_ByFiles, LocalPipelineExecutor):  # type: ignore[misc]
    pass


class _Slurm(_ByFiles, SlurmPipelineExecutor):  # type: ignore[misc]
    pass


class _Ray(_ByFiles, RayPipelineExecutor):  # type: ignore[misc]
    pass


def run_local(job: ShardsJob, workers: int, say: Callable[[str], None]) -> None:
    """Runs the tasks in so many processes of this machine. Raises InputError with the faults of the tasks that could
    not do their work; the other tasks' work is kept."""
    logger.disable("datatrove")
    for step in steps_of(job, is_quiet=True):
        left = [rank for rank in range(step.tasks) if not step.is_done(rank)]
        if not left:
            continue
        if step.name in ALONE:
            step(None, 0, 1)
        else:
            say(f"{step.name}: {len(left):,} of {step.tasks:,} files, {min(workers, len(left))} at once")
            _Local(**_args(step), workers=min(workers, len(left))).run()
        _raise_faults(step, left)


def run_ray(job: ShardsJob, workers: int, memory_gb: int) -> None:
    """Runs the tasks on a Ray cluster, which the environment names (`RAY_ADDRESS`)."""
    import ray

    ray.init(ignore_reinit_error=True)
    for step in steps_of(job, is_quiet=False):
        _Ray(**_args(step), workers=min(workers, step.tasks), mem_per_cpu_gb=memory_gb).run()


def submit_slurm(job: ShardsJob, workers: int, slurm: Slurm) -> None:
    """Submits the tasks to Slurm. Each step waits for the one before it. Returns when all are submitted."""
    before = None
    for step in steps_of(job, is_quiet=False):
        before = _Slurm(
            **_args(step), time=slurm.time, partition=slurm.partition, workers=min(workers, step.tasks), qos="",
            mem_per_cpu_gb=slurm.memory_gb, job_name=f"winnow-{step.name}", env_command=slurm.python or None,
            depends=before,
        )  # fmt: skip
    assert before is not None
    before.run()


def _args(step: Step) -> dict[str, Any]:
    logs = Path(step.job.to, WORK, "logs", f"{step.name}-{step.job.key}")
    return {"pipeline": [step], "tasks": step.tasks, "logging_dir": str(logs), "skip_completed": True}


def _raise_faults(step: Step, ranks: list[int]) -> None:
    faults = [step.fault_path(rank).read_text("utf-8") for rank in ranks if step.fault_path(rank).exists()]
    missing = [rank for rank in ranks if not step.is_done(rank) and not step.fault_path(rank).exists()]
    if missing:
        faults.append(f"{len(missing)} of {step.tasks} tasks ended early (killed, or out of memory): {step.name}")
    if faults:
        raise InputError("\n".join(faults[:20]))
