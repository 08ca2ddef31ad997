"""Says what there is to do: the export's files, the settings, and the folders of what is made of them."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harvest.checks import CHECKS
from harvest.core.config import Filters, Select
from harvest.core.errors import ConfigError, InputError
from harvest.core.nouns import content_hash
from harvest.filters import versions as filter_versions
from harvest.selection import minhash, near_duplicates, stages
from harvest.selection.decontamination import evaluations_of
from harvest.selection.settings import SelectionSettings
from harvest.selection.sketches import FRAMES
from harvest.shards.files import VERSION

WORK = ".shards"
"""The folder, in the target folder, in which tasks leave their files."""
FORMS = (".jsonl", ".parquet", ".jsonl.gz", ".jsonl.zst")


@dataclass(frozen=True, slots=True)
class ShardsJob:
    """Describes one selection from the files of an export. It is sent to every task."""

    files: tuple[str, ...]
    """The export's files in order, each with its absolute path."""
    to: str
    """The folder of the dataset, absolute."""
    select: Select
    filters: Filters
    base: str
    """The folder in which the command was started. Paths in `select` and `questions` are relative to it: a task on
    another node works in another folder."""
    questions: tuple[str, ...]
    """Files with the questions, for the fields that an export does not have (choices, tests)."""
    judges: bool
    """Whether each answer is judged again by today's checks."""
    unsafe_code: bool
    read_key: str
    """Names everything that decides what reading a file gives."""
    key: str
    """Names everything that decides what is selected."""

    @property
    def read_folder(self) -> Path:
        return Path(self.to, WORK, f"read-{self.read_key}")

    @property
    def outcome_folder(self) -> Path:
        return Path(self.to, WORK, f"selected-{self.key}")

    @property
    def summary_path(self) -> Path:
        """The file that says what the dataset in the target folder is."""
        return Path(self.to, WORK, "selection.json")

    @property
    def outcomes_folder(self) -> Path:
        """The folder of the files that say what became of each row."""
        return Path(self.to, WORK, "outcomes")

    def name_of(self, rank: int) -> str:
        """Returns the name of the dataset's file with the selected rows of the export's file number `rank`."""
        name = Path(self.files[rank]).name
        return name.removesuffix(".gz").removesuffix(".zst")

    def is_current(self) -> bool:
        """Whether the dataset is there, as this job would make it."""
        try:
            return bool(json.loads(self.summary_path.read_bytes())["key"] == self.key)
        except (OSError, ValueError, KeyError):
            return False


def job_of(
    export: Path, to: Path, settings: SelectionSettings, *, questions: Sequence[str], judges: bool, unsafe_code: bool
) -> ShardsJob:
    """Returns the job for an export's folder. Raises InputError when there is no file in it, or when an evaluation
    cannot be read, and ConfigError for settings that need the store."""
    _refuse_what_needs_the_store(settings)
    files = sorted(p for p in export.iterdir() if p.name.endswith(FORMS)) if export.is_dir() else []
    if not files:
        raise InputError(f"{export}: no folder with .jsonl or .parquet files, as `harvest export` writes them")
    _refuse_other_things(to, files)
    evaluations = evaluations_of(settings.select.against, Path.cwd(), settings.select.against_columns)
    asked = [[e.name, [[key, q.gold, *q.whole] for key, q in e.questions]] for e in evaluations]
    states = [(p.name, (s := p.stat()).st_size, s.st_mtime_ns) for p in files]
    checks = {name: check.version for name, check in CHECKS.items()} if judges else {}
    read = [
        VERSION, states, asked, settings.filters.model_dump(mode="json"), filter_versions(settings.filters), checks,
        FRAMES, minhash.VERSION, near_duplicates.VERSION, settings.select.pool, [_state(name) for name in questions],
    ]  # fmt: skip
    read_key = _short(read)
    key = _short([read_key, settings.select.model_dump(mode="json"), stages.VERSION])
    paths = tuple(str(p.absolute()) for p in files)
    return ShardsJob(
        paths, str(to.absolute()), settings.select, settings.filters, str(Path.cwd()), tuple(questions), judges,
        unsafe_code, read_key, key,
    )  # fmt: skip


def _short(value: Any) -> str:
    return content_hash(value)[7:23]


def _state(name: str) -> list[Any]:
    if not os.path.exists(name):  # noqa: PTH110 - it may be no path, but the name of a dataset of the hub
        return [name]
    state = Path(name).stat()
    return [name, state.st_size, state.st_mtime_ns]


def _refuse_what_needs_the_store(settings: SelectionSettings) -> None:
    needed: Mapping[str, bool] = {
        "select.min_failed": settings.select.min_failed is not None,
        "select.student": settings.select.takes_scores,
        "rewrite.on": settings.rewrite.on,
        "rewrite.model": settings.rewrite.model is not None,
    }
    for name, is_set in needed.items():
        if is_set:
            raise ConfigError(f"{name}: needs the run's store, which shards do not have: `harvest select` has it")


def _refuse_other_things(to: Path, files: Sequence[Path]) -> None:
    if to.exists() and not to.is_dir():
        raise InputError(f"{to}: a file; name a folder with --to")
    if to.exists() and any(p.resolve().parent == to.resolve() for p in files):
        raise InputError(f"{to}: is the export itself; name another folder with --to")
    if to.exists() and (names := {p.name for p in to.iterdir()}) and WORK not in names:
        raise InputError(f"{to}: holds other things than a selection; name a new folder with --to")
