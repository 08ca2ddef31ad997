"""Writes the dataset folder as a whole: the files of rows, a card, and the files that a trainer needs.

The folder is written under another name, and then takes the place of the folder of an earlier export.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harvest.asking.planning.teacher_terms import terms_of
from harvest.core.config import Export, teachers_of
from harvest.core.errors import InputError
from harvest.core.files import write_whole
from harvest.core.machine import release
from harvest.core.money import usd
from harvest.core.settings import validated
from harvest.endpoint import Prompt
from harvest.export.card import card
from harvest.export.card_header import Written
from harvest.export.card_tables import file_name
from harvest.export.census import Census
from harvest.export.layouts import files_beside
from harvest.export.rows import columns_of, rows
from harvest.export.shards import Shards
from harvest.proof.manifest import NAME, ManifestWriter
from harvest.store import Store, StoredRun, StoredSelection

OURS = re.compile(
    r"README\.md|winnow\.manifest|train(-\d{5,}-of-\d{5,})?\.(jsonl|parquet)|dataset_info\.json|axolotl\.yaml"
)
"""Matches the names of the files that an export writes."""
PROGRESS_ROWS = 500
"""The number of rows after which progress is shown again."""


def write_folder(
    store: Store, run: StoredRun, prompt: Prompt, to: Path, settings: Export, report: Mapping[str, Any],
    progress: Callable[[int], None],
) -> Census:  # fmt: skip
    """Writes the dataset folder `to`, and returns the census of its rows. An earlier export at `to` is replaced.

    `progress` is called now and then with the number of rows written so far. Raises InputError when `to` exists and is
    neither an export of winnow nor an empty folder, or when the selection rewrote answers by other rules than today's.
    """
    to = to.absolute()
    _tidy(to)
    _refuse_other_things(to)
    part = _beside(to, "part")
    part.mkdir(parents=True, mode=0o700)
    census, columns = Census(), columns_of(settings)
    try:
        shards = Shards(part, settings.format, columns, settings.shard_mb * 1_000_000)
        newest, whole = store.newest_selection(run.id), hashlib.sha256()
        with ManifestWriter(part / NAME, manifest_header(run, settings, newest)) as manifest:
            for row, characters, origin in rows(store, run, prompt, settings, census):
                digest = shards.put(row, characters)
                whole.update(digest.encode())
                manifest.put({"sha256": digest, **origin})
                if census.rows % PROGRESS_ROWS == 0:
                    progress(census.rows)
            root = manifest.end(manifest_sums(whole.hexdigest(), census))
        files = shards.close()
        for name, text in files_beside(settings, to.name).items():
            write_whole(part / name, text)
        size = sum((part / name).stat().st_size for name in files)
        written = Written(to.name, files, size, columns, root, f"sha256:{whole.hexdigest()}")
        write_whole(part / "README.md", card(run, report, settings, census, written, newest, version=release()))
        _put_in_place(part, to)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return census


def manifest_header(run: StoredRun, settings: Export, newest: StoredSelection | None) -> dict[str, Any]:
    """Returns what the manifest says of all rows: the run, its teachers, and the settings that make the same rows."""
    selection = None
    if newest is not None and settings.which == "selected":
        selection = {**newest.settings, "against": [file_name(str(name)) for name in newest.settings["against"]]}
    asked = [(teacher, terms_of(teacher)) for teacher in teachers_of(run.settings)]
    return {
        "kind": "dataset",
        "winnow": release(),
        "run": run.name,
        "imported": run.imported,
        "export": settings.model_dump(mode="json"),
        "selection": selection,
        "prompt": {"name": Path(run.config.prompt).stem, "sha256": run.prompt_sha256},
        "teachers": [
            {
                "model": teacher["model"] or teacher["local"],
                "base_url": teacher["base_url"] or ("local" if teacher["local"] else None),
                "terms": terms.words,
                "terms_said_by": terms.said_by,
                "terms_page": terms.page,
            }
            for teacher, terms in asked
        ],
    }


def manifest_sums(dataset_sha256: str, census: Census) -> dict[str, Any]:
    """Returns the sums at a manifest's end. `dataset_sha256` is the hash over the hashes of all rows, in order."""
    return {
        "dataset_sha256": dataset_sha256,
        "accepted": census.accepted,
        "cost_usd": usd(census.cost_pusd),
        "without_cost": census.without_cost,
    }


def export_settings(run: StoredRun, given: Mapping[str, Any]) -> Export:
    """Returns the run's [export] with the settings of the command line, `given`, put over it.

    Raises ConfigError when a setting is wrong, or when two settings do not fit together.
    """
    return validated(Export, {**run.config.export.model_dump(), **given}, "export")


def _refuse_other_things(to: Path) -> None:
    """Raises InputError when `to` exists and is neither an export of winnow nor an empty folder."""
    if not to.exists():
        return
    names = {p.name for p in to.iterdir()} if to.is_dir() else {to.name}
    if names and not (all(map(OURS.fullmatch, names)) and _is_our_card(to / "README.md")):
        raise InputError(f"{to}: holds other things than an export; name a new folder with --to")


def _is_our_card(path: Path) -> bool:
    try:
        with path.open("rb") as f:
            return b"\ntags: [reasoning, distillation, winnow]\n" in f.read(4096)
    except OSError:
        return False


def _beside(to: Path, kind: str) -> Path:
    return to.with_name(f".{to.name}.{os.getpid()}.{kind}")


def _put_in_place(part: Path, to: Path) -> None:
    """Puts the finished folder in the place of the earlier export.

    The earlier export comes back if an error or Ctrl-C stops this in between.
    """
    old = _beside(to, "old")
    try:
        if to.exists():
            to.replace(old)
        part.replace(to)
    finally:
        if old.exists() and not to.exists():
            old.replace(to)
    shutil.rmtree(old, ignore_errors=True)


def _tidy(to: Path) -> None:
    """Clears up what a killed export left.

    Removes unfinished folders. If nothing is at `to`, puts the earlier export back there.
    """
    left = re.compile(rf"\.{re.escape(to.name)}\.(\d+)\.(part|old)")
    for path in list(to.parent.glob(".*")):
        if (m := left.fullmatch(path.name)) is None or _is_alive(int(m[1])):
            continue
        if m[2] == "old" and not to.exists():
            path.replace(to)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    """Whether another process than this one has the id `pid`."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return pid != os.getpid()
