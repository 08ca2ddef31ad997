"""Finds the run that a command line names, and knows the files that commands write into the run's folder."""

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harvest.core.config import DEFAULT_STORE
from harvest.core.errors import ConfigError, InputError
from harvest.core.files import RUNS, runs_folder, write_whole
from harvest.core.printable import printable


def find_run(given: str, store: str | None) -> tuple[str, str]:
    """Returns (name, URL of the store) of a run. `given` is the run's name or the path of its folder.

    The URL is `store` if the user gave one, else the one in the run's config.json, else the default. Raises ConfigError
    when `given` is a path but no run's folder, or when config.json cannot be read.
    """
    path = Path(given)
    folder = path if _is_there(path / "config.json") else runs_folder() / given
    name, url = folder.name, store
    try:
        settings: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        name, url = settings["name"], url or settings["store"]
    except OSError:
        if "/" in given:
            raise ConfigError(f"{given}: no run's folder (there is no config.json in it)") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{folder / 'config.json'}: not what winnow wrote; name the store with --store") from None
    url = url or DEFAULT_STORE
    refuse_elsewhere(url)
    return name, url


def refuse_elsewhere(url: str) -> None:
    """Raises InputError when the store is the default one and this folder has none.

    The message names the nearest folder above that has a store or runs. A store of the user's own is left to
    `Store.open`.
    """
    here, store = Path.cwd(), Path(DEFAULT_STORE.removeprefix("sqlite:///"))
    if url != DEFAULT_STORE or _is_there(store) or _is_there(runs_folder()):
        return
    above = next((p for p in here.parents if _is_there(p / store) or _is_there(p / RUNS)), None)
    remedy = (
        f"the nearest folder above that has one is {above}: cd {shlex.quote(str(above))}, and the same command"
        if above
        else "go to the folder in which the run was collected, or name its store: --store sqlite:////path/of/winnow.db"
    )
    raise InputError(printable(f"{here} has neither {store} nor {RUNS}; {remedy}"))


def _is_there(path: Path) -> bool:
    """Whether there is something that this user may see."""
    try:
        return path.exists()
    except OSError:
        return False


def begun_elsewhere(file: Path, store: str, *, is_new: bool) -> str | None:
    """Notes the working directory in which a RUN.toml was run, and returns a warning if the run is new in this store
    and begun in that of another directory.

    Only a relative `store` depends on the working directory. The notes are a file in the user's state folder; where it
    cannot be read or written, there is no warning.
    """
    path = Path(store.removeprefix("sqlite:///"))
    if path.is_absolute() or not store.startswith("sqlite:///"):
        return None
    here, key, noted = str(Path.cwd()), str(file.resolve()), dict[str, str]()
    with suppress(OSError, ValueError, TypeError, RuntimeError):
        notes = state_folder() / "run-in.json"
        if notes.is_file():
            found = json.loads(notes.read_text("utf-8"))
            noted = {k: v for k, v in dict(found).items() if isinstance(v, str) and Path(k).is_file()}
        notes.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(notes, json.dumps(noted | {key: here}, indent=1))
    before = Path(noted.get(key, here)) / path
    if not is_new or noted.get(key, here) == here or not before.is_file():
        return None
    return printable(
        f"{file} was last run in {noted[key]}, with the store there. Here a new store and a new cap begin. To go on"
        f" there: --store sqlite:///{before}"
    )


def state_folder() -> Path:
    """Returns the folder in which winnow keeps notes for this user."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state").absolute() / "winnow"


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
