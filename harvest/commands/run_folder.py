"""Finds the run that a command line names, and knows the files that commands write into the run's folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harvest.core.config import DEFAULT_STORE
from harvest.core.errors import ConfigError, InputError
from harvest.core.files import runs_folder


def find_run(given: str, store: str | None) -> tuple[str, str]:
    """Returns (name, URL of the store) of a run. `given` is the run's name or the path of its folder.

    The URL is `store` if the user gave one, else the one in the run's config.json, else the default. Raises ConfigError
    when `given` is a path but no run's folder, or when config.json cannot be read.
    """
    path = Path(given)
    folder = path if (path / "config.json").is_file() else runs_folder() / given
    name, url = folder.name, store
    try:
        settings: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        name, url = settings["name"], url or settings["store"]
    except OSError:
        if "/" in given:
            raise ConfigError(f"{given}: no run's folder (there is no config.json in it)") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{folder / 'config.json'}: not what winnow wrote; name the store with --store") from None
    return name, url or DEFAULT_STORE


@contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """Turns an OSError into an InputError that names the file, or `place` when the error names no file."""
    try:
        yield
    except OSError as e:
        raise InputError(f"{e.filename or place}: cannot be written: {e.strerror}") from None


def has_dataset(name: str) -> bool:
    """Returns whether the run's folder holds a dataset already."""
    return (runs_folder() / name / "dataset").is_dir()
