"""The folder of a run: which run a command means, and the files that commands write there."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harvest.core.config import DEFAULT_STORE
from harvest.core.errors import ConfigError, InputError
from harvest.core.files import runs_folder


def find_run(given: str, store: str | None) -> tuple[str, str]:
    """(name, store URL) of RUN, which is a run's name or its folder.

    The URL is `store` where the user gave one, else what the run's config.json says, else the default. Raises
    ConfigError where a path is given that is no run's folder.
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
    """Turns an OSError into an InputError that names the file, or `place` where the error names none."""
    try:
        yield
    except OSError as e:
        raise InputError(f"{e.filename or place}: cannot be written: {e.strerror}") from None


def has_dataset(name: str) -> bool:
    """Whether the run's dataset was written into its folder before."""
    return (runs_folder() / name / "dataset").is_dir()
