"""`harvest shards` selects from an export that is too large for one process, by tasks on this machine, Slurm or Ray."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

from harvest.commands.progress import say
from harvest.core.errors import InputError, MissingExtra
from harvest.selection.settings import changed_settings
from harvest.selection.sketch_pool import cores
from harvest.selection.summary import in_words
from harvest.shards.job import ShardsJob, job_of


def shards(
    export: Path, to: Path, overrides: Sequence[tuple[str, str]], *, preset: str | None, questions: Sequence[str],
    judges: bool, unsafe_code: bool, workers: int | None, slurm: Sequence[str] | None, ray: bool, memory_gb: int,
    python: str, as_json: bool,
) -> int:  # fmt: skip
    """Selects from the files of an export, prints what was selected, and returns the exit code."""
    _needs("datatrove", "shards")
    settings = changed_settings({}, overrides, preset)
    job = job_of(export, to, settings, questions=questions, judges=judges, unsafe_code=unsafe_code)
    to.mkdir(parents=True, exist_ok=True)
    if job.is_current():
        say("nothing has changed since the newest selection")
    elif slurm is not None:
        from harvest.shards.executors import Slurm, submit_slurm

        submit_slurm(job, workers or len(job.files), Slurm(slurm[0], slurm[1], memory_gb, python))
        say(f"submitted: {len(job.files):,} files to read. The same command, when all jobs have ended, says the result")
        return 0
    elif ray:
        from harvest.shards.executors import run_ray

        _needs("ray")
        run_ray(job, workers or len(job.files), memory_gb)
    else:
        from harvest.shards.executors import run_local

        run_local(job, workers or cores(), say)
    _print(job, as_json=as_json)
    return 0


def _needs(package: str, extra: str | None = None) -> None:
    if importlib.util.find_spec(package) is None:
        if extra is not None:
            raise MissingExtra("`harvest shards`", extra)
        raise InputError(f"--ray: the package {package} is not installed: pip install {package}")


def _print(job: ShardsJob, *, as_json: bool) -> None:
    said = json.loads(job.summary_path.read_bytes())
    if as_json:
        print(json.dumps({"to": job.to, "rows": said["rows"], **said["summary"]}, ensure_ascii=False))
        return
    print("\n".join(in_words(said["summary"])))
    print(f"\n{said['rows']:,} rows were read from {len(job.files):,} files; the selected ones are in {job.to}")
