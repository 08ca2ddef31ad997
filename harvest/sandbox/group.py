"""A cgroup that limits the memory and the processes of a whole jail, where this user may make one.

Nothing depends on it. A program has one process, whose address space is limited, and a /tmp of a fixed size. The
cgroup counts also what the kernel holds for it (page tables, pipes, inodes), and is a second fence.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

_ROOT = Path("/sys/fs/cgroup")
_GONE_S = 0.2
_V2, _V1 = "memory.max", "memory.limit_in_bytes"
"""The name of the file with the limit of memory, in the second version of cgroups and in the first."""


class Group:
    """One cgroup, or one in each hierarchy of the first version. This process makes and removes it."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders

    @classmethod
    def made(cls, name: str, memory_bytes: int, processes: int) -> Self | None:
        """None where this user may write no cgroup, or a process's children cannot be read."""
        if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
            return None
        for parents, memory_file in _places():
            folders = [parent / name for parent in parents]
            try:
                for folder in folders:
                    _sweep(folder.parent)
                    folder.mkdir()
                for limit, value in ((memory_file, memory_bytes), ("pids.max", processes)):
                    next(f / limit for f in folders if (f / limit).exists()).write_text(str(value))
                return cls(folders)
            except (OSError, StopIteration):
                cls(folders).remove()
        return None

    def take(self, pid: int) -> None:
        """Moves a process in, and with it all that it will fork. Raises OSError."""
        for folder in self._folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Removes it, once the last process in it is gone."""
        deadline = time.monotonic() + _GONE_S
        while left := [folder for folder in self._folders if folder.exists()]:
            for folder in left:
                with suppress(OSError):
                    folder.rmdir()
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)


def _places() -> list[tuple[list[Path], str]]:
    """(parents, file of the memory limit) where one might be made: under this process's own cgroup, or the root."""
    try:
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return []
    own = {controller: path for _, controllers, path in lines for controller in controllers.split(",")}
    places: list[tuple[list[Path], str]] = []
    if (_ROOT / "cgroup.controllers").exists():
        places = [([_ROOT / own.get("", "").lstrip("/")], _V2), ([_ROOT], _V2)]
    if "memory" in own and "pids" in own:
        places.append(([_ROOT / kind / own[kind].lstrip("/") for kind in ("memory", "pids")], _V1))
    return [place for place in places if all(os.access(parent, os.W_OK) for parent in place[0])]


def _sweep(parent: Path) -> None:
    """Removes what a killed winnow left: a group whose maker is gone is empty."""
    for left in parent.glob("winnow-*-*"):
        maker = left.name.split("-")[1]
        if maker.isdigit() and not Path("/proc", maker).exists():
            with suppress(OSError):
                left.rmdir()
