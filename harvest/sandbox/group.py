"""A cgroup for a jail that stays: its memory and its processes, all together, where this user may make one.

Nothing depends on it. A program has one process, whose address space is limited, and a /tmp of a fixed size; the
cgroup adds what the kernel holds for it (page tables, pipes, inodes), and a second fence.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

_ROOT = Path("/sys/fs/cgroup")
_GONE_S = 0.2


class _Files(NamedTuple):
    """The names of the two limits, in the second version of cgroups and in the first."""

    memory: str
    processes: str


_V2, _V1 = _Files("memory.max", "pids.max"), _Files("memory.limit_in_bytes", "pids.max")


class Group:
    """One cgroup, or one in each hierarchy of the first version, made and taken away by this process."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders

    @classmethod
    def made(cls, name: str, memory_bytes: int, processes: int) -> Self | None:
        """None where there are no cgroups, or none that this user may write, or a process's children cannot be read."""
        if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
            return None
        for parents, files in _places():
            folders = [parent / name for parent in parents]
            try:
                for folder in folders:
                    _sweep(folder.parent)
                    folder.mkdir()
                for limit, value in ((files.memory, memory_bytes), (files.processes, processes)):
                    next(f / limit for f in folders if (f / limit).exists()).write_text(str(value))
                return cls(folders)
            except (OSError, StopIteration):
                cls(folders).remove()
        return None

    def take(self, pid: int) -> None:
        """Moves a process in; what it forks is born there. Raises OSError."""
        for folder in self._folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Takes it away, once the last process in it is gone."""
        deadline = time.monotonic() + _GONE_S
        while left := [folder for folder in self._folders if folder.exists()]:
            for folder in left:
                with suppress(OSError):
                    folder.rmdir()
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)


def _places() -> list[tuple[list[Path], _Files]]:
    """Where one might be made: under this process's own cgroup, or under the root."""
    try:
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return []
    own = {controller: path for _, controllers, path in lines for controller in controllers.split(",")}
    places: list[tuple[list[Path], _Files]] = []
    if (_ROOT / "cgroup.controllers").exists():
        places = [([_ROOT / own.get("", "").lstrip("/")], _V2), ([_ROOT], _V2)]
    if "memory" in own and "pids" in own:
        places.append(([_ROOT / kind / own[kind].lstrip("/") for kind in ("memory", "pids")], _V1))
    return [(parents, files) for parents, files in places if all(os.access(p, os.W_OK) for p in parents)]


def _sweep(parent: Path) -> None:
    """Takes away what a killed winnow left: groups whose maker is gone are empty."""
    for left in parent.glob("winnow-*-*"):
        maker = left.name.split("-")[1]
        if maker.isdigit() and not Path("/proc", maker).exists():
            with suppress(OSError):
                left.rmdir()
