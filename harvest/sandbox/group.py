"""Limits the memory and the processes of a whole jail by a cgroup, if this user may make a cgroup.

No safety depends on the cgroup. A program has one process, whose address space is limited, and a /tmp of a fixed size.
The cgroup is a second fence: it also counts what the kernel holds for a program (page tables, pipes, inodes).
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

_ROOT = Path("/sys/fs/cgroup")
_GONE_S = 0.2
_V2, _V1 = "memory.max", "memory.limit_in_bytes"
"""The names of the file that sets the memory limit, in version 2 and in version 1 of cgroups."""


class Group:
    """Stands for one cgroup of version 2, or for one cgroup in each hierarchy of version 1.

    This process makes the cgroup, and removes it.
    """

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders

    @classmethod
    def made(cls, name: str, memory_bytes: int, processes: int) -> Self | None:
        """Makes a cgroup with these limits.

        Returns None if this user may not make a cgroup, or if the kernel does not list a process's children.
        """
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
        """Moves a process into the cgroup. Processes that it forks later are in the cgroup too.

        Raises OSError when the kernel refuses.
        """
        for folder in self._folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Removes the cgroup when its last process has ended. Gives up after 0.2 s."""
        deadline = time.monotonic() + _GONE_S
        while left := [folder for folder in self._folders if folder.exists()]:
            for folder in left:
                with suppress(OSError):
                    folder.rmdir()
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)


def _places() -> list[tuple[list[Path], str]]:
    """Returns where a cgroup might be made, as (parent folders, name of the file that sets the memory limit).

    The parents are this process's own cgroup, or the root of all cgroups.
    """
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
    """Removes cgroups that a killed winnow left. If the process that made a cgroup is gone, the cgroup is empty."""
    for left in parent.glob("winnow-*-*"):
        maker = left.name.split("-")[1]
        if maker.isdigit() and not Path("/proc", maker).exists():
            with suppress(OSError):
                left.rmdir()
