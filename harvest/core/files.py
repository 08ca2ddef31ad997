"""Says where the files of winnow and of its runs lie, and writes a file whole."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Matches every valid name of a run, which is also the name of a folder."""


RUNS = "data/runs"
"""The folder of all runs, in the working directory, where WINNOW_RUNS names no other."""


def package_folder(name: str) -> Path:
    """Returns the path of the folder `prompts`, `recipes` or `data`.

    In an installed package the folder lies inside the package, in a checkout beside it.
    """
    package = Path(__file__).resolve().parents[1]
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def settings_path(named: str) -> Path:
    """Returns the path of a TOML file that the command line names, or of a table in it (`job.toml#run`).

    If there is no such file, and a built-in recipe has this name, the recipe's path is returned. So
    `recipes/jobs/demo.toml`, `jobs/demo.toml` and `jobs/demo` name the same file in every folder.
    """
    file, mark, table = named.partition("#")
    if Path(named).exists() or Path(file).exists() or ".." in Path(file).parts:
        return Path(named)
    recipe = package_folder("recipes") / file.removeprefix("recipes/")
    for path in (recipe, recipe.with_name(f"{recipe.name}.toml")):
        if path.suffix == ".toml" and path.is_file():
            return Path(f"{path}{mark}{table}")
    return Path(named)


def runs_folder() -> Path:
    """Returns the folder that holds the folders of all runs."""
    return Path(os.environ.get("WINNOW_RUNS", RUNS))


def write_whole(path: Path, text: str) -> None:
    """Writes `text` to the file in one step: after a crash, the file holds either its old text or the new one.

    Only the file's owner can read it. Raises OSError.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    part.replace(path)


def write_in_run(run: str, file: str, text: str) -> None:
    """Writes one file into the run's folder, and makes the folder if it does not exist. Raises OSError."""
    folder = runs_folder() / run
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(folder / file, text)


def write_settings(run: str, settings: Mapping[str, Any]) -> None:
    """Writes the run's config.json, in which later commands find the run's store. Raises OSError."""
    write_in_run(run, "config.json", json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
