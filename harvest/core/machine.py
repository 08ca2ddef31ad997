"""Says which release of winnow runs here, and what this machine or this Python lacks for it."""

import errno
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harvest.core.printable import printable

DISTRIBUTION = "winnow-distill"
"""The name that pip knows winnow by. `winnow` on PyPI is another project."""
OLDEST_PYTHON = (3, 11)


def release() -> str:
    """Returns the version of the installed package."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:  # a checkout that is not installed
        return "(a checkout)"


def unfit(platform: str = sys.platform, python: tuple[int, ...] = sys.version_info[:2]) -> str | None:
    """Returns why winnow cannot run here at all, and what to do; None if it can."""
    if platform == "win32":
        return (
            "winnow does not run on Windows itself, which has no fcntl (the store's lock), no resource (the limits of a"
            " check) and no SIGHUP: install it in WSL 2, where all of it runs"
        )
    if python < OLDEST_PYTHON:
        return f"winnow needs Python 3.11 or newer; {sys.executable} is {'.'.join(map(str, python))}"
    return None


def refused_by_the_system(e: OSError) -> str | None:
    """Returns what to do about a file that this user may not read or write; None if the fault is another one."""
    if e.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or e.filename is None:
        return None
    return printable(
        f"{e.filename}: {(e.strerror or '').lower()}: give this user the right, or name another place (WINNOW_CACHE for"
        " models that were downloaded, WINNOW_RUNS for runs, HF_HOME for what is of the hub)"
    )


def missing_package(e: ModuleNotFoundError) -> str | None:
    """Returns what to do about a package that this Python does not have; None if the missing module is one of ours."""
    name = (e.name or "").partition(".")[0]
    if name in ("harvest", "finetune", "winnow", ""):
        return None
    checkout = Path(__file__).resolve().parents[2]
    own = checkout / ".venv"
    if (own / "bin/python").exists() and Path(sys.prefix).resolve() != own.resolve():
        remedy = f"winnow is installed in another one: source {own / 'bin/activate'}"
    elif (checkout / "Makefile").is_file():
        remedy = f"`make install` in {checkout} puts all of them into {own}, then: source {own / 'bin/activate'}"
    else:
        remedy = f"pip install {DISTRIBUTION}"
    return f"this Python ({sys.executable}) has no package {name!r}. {remedy}"
