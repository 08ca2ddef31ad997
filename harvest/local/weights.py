"""Keeps the weights of the embedded teacher in a cache. They are downloaded and hashed only once.

The weights lie in the cache as `<model>/<file>`. Beside them lies `<file>.sha256`, in the form of the program
sha256sum. `<file>.sha256` is written only after the whole download was hashed, and only then the download gets the name
`<file>`. So a later start compares with the table only the sha256 in `<file>.sha256` and the size of `<file>`.
"""

import contextlib
import fcntl
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

from harvest.core.errors import TeacherUnavailable
from harvest.local.download import PlaceFailed, Progress, file_sha256, file_size, take
from harvest.local.models import Model, find

log = logging.getLogger(__name__)

LINE_EVERY_S = 10.0
"""The seconds between two lines of progress, which are printed if no terminal shows a bar."""


def cache_folder() -> Path:
    """Returns the folder of the cache.

    It is WINNOW_CACHE if that variable is set, else the folder winnow in XDG_CACHE_HOME, else ~/.cache/winnow.
    """
    if named := os.environ.get("WINNOW_CACHE"):
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "winnow"


def checksum(name: str) -> str:
    """Returns the sha256 of a model's weights, in hexadecimal. It is part of the key of a local teacher's attempts.

    If the table has no sha256 for the model, the weights are fetched, and the sha256 of the file is returned.
    Raises the errors of `fetch`.
    """
    model = find(name)
    return model.sha256 or _beside(fetch(model), "sha256").read_text().split()[0]


def fetch(model: str | Model, *, progress: Progress | None = None) -> Path:
    """Returns the path of a model's weights in the cache. Downloads them if they are not in the cache yet.

    The model's download sources are tried in order. All of them append to one partial file, so a fetch that breaks off
    is continued by the next. Processes that want the same file take turns. If `progress` is None, a bar or a line now
    and then goes to stderr.

    Raises ConfigError when the model table lacks the name. Raises TeacherUnavailable when no source gives the file, the
    disk has no room, or the cache cannot be written.
    """
    model = find(model) if isinstance(model, str) else model
    folder = cache_folder() / model.name
    path = folder / model.file
    if _is_there(path, model):
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            tell = progress or stack.enter_context(shown_progress(model))
            stack.enter_context(_locked(folder, lambda: tell(file_size(_beside(path, "partial")), model.size)))
            if not _is_there(path, model):
                _download(model, path, tell)
    except OSError as fault:
        raise TeacherUnavailable(
            f"the weights of {model.name} cannot be written to {folder}: {fault.strerror or fault};"
            " WINNOW_CACHE names another folder"
        ) from fault
    return path


@contextlib.contextmanager
def shown_progress(model: Model) -> Iterator[Progress]:
    """Shows the progress of a fetch on stderr: a bar in a terminal, else a line every LINE_EVERY_S seconds."""
    console = Console(stderr=True)
    if not console.is_terminal:
        said_at = time.monotonic()

        def say(have: int, whole: int | None) -> None:
            nonlocal said_at
            if time.monotonic() - said_at >= LINE_EVERY_S:
                said_at = time.monotonic()
                share = f" of {whole / 1e6:,.0f}" if whole else ""
                console.print(f"fetching {model.name}: {have / 1e6:,.0f}{share} MB", highlight=False)

        yield say
        return
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bars(TextColumn("{task.description}"), *columns, console=console, transient=True) as bars:
        task = bars.add_task(f"fetching {model.name}", total=model.size)
        yield lambda have, whole: bars.update(task, completed=have, total=whole)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}.{ending}")


def _is_there(path: Path, model: Model) -> bool:
    sidecar = _beside(path, "sha256")
    if not path.is_file() or not sidecar.is_file():
        return False
    known = (sidecar.read_text().split() or [""])[0]
    return model.sha256 in (None, known) and model.size in (None, file_size(path))


@contextlib.contextmanager
def _locked(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds the folder's lock, which only one process can have at a time.

    Calls `waiting` now and then until this process gets the lock. The kernel frees the lock when its process ends.
    """
    with (folder / ".lock").open("w") as lock:
        for attempt in itertools.count():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 0:
                    log.warning("another process is fetching into %s: waiting for it", folder)
                waiting()
                time.sleep(0.2)
        yield


def _download(model: Model, path: Path, tell: Progress) -> None:
    partial, faults = _beside(path, "partial"), []
    if model.sha256 and file_size(path) == model.size and file_sha256(path) == model.sha256:
        _write_sidecar(path, model.sha256)  # somebody put the file here by hand
        return
    if file_size(partial) == model.size and file_sha256(partial) != model.sha256:
        partial.unlink()  # whole, and wrong: the machine went down while it was written
    for place in model.places:
        try:
            wanted = take(model, place, partial, tell)
            found = file_sha256(partial)
            if found != wanted:
                partial.unlink()
                raise PlaceFailed(f"sent other bytes: their sha256 is {found}, not {wanted}")
        except PlaceFailed as fault:
            faults.append(f"{place}: {fault}")
            log.warning("%s cannot be had from %s: %s", model.file, place, fault)
            continue
        _write_sidecar(path, wanted)
        partial.replace(path)
        return
    raise TeacherUnavailable(
        f"the weights of {model.name} cannot be had from {'; nor from '.join(faults)}. Where there is no network,"
        f" put {model.file} into {path.parent} by hand"
    )


def _write_sidecar(path: Path, sha256: str) -> None:
    new = _beside(path, "sha256.new")
    new.write_text(f"{sha256}  {path.name}\n")
    new.replace(_beside(path, "sha256"))
