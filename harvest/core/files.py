"""Where the files of winnow and of its runs are, and writing a file whole."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What a run's name must look like: it is the name of a folder too."""


def package_folder(name: str) -> Path:
    """The folder `prompts`, `recipes` or `data`: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def runs_folder() -> Path:
    """The folder that holds the folders of all runs."""
    return Path(os.environ.get("WINNOW_RUNS", "data/runs"))


def write_whole(path: Path, text: str) -> None:
    """Writes the file in one step, readable by its owner alone: a crash leaves the old file or the new one.

    Raises OSError.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    part.replace(path)


def write_in_run(run: str, file: str, text: str) -> None:
    """Writes one file into the run's folder, which is made where it is not there. Raises OSError."""
    folder = runs_folder() / run
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(folder / file, text)


def write_settings(run: str, settings: Mapping[str, Any]) -> None:
    """Writes config.json, which names the run's store to the commands that come later. Raises OSError."""
    write_in_run(run, "config.json", json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
