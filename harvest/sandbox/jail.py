"""Starts and drives one jail: a bubblewrap process, and in it a zygote that forks for each program (zygote.py).

    winnow ── bwrap ── zygote ── program      user, PID, network, IPC, UTS and mount namespaces by bwrap; for each
                                              program PID, IPC and mount again, an empty /tmp, limits, seccomp

A jail serves one thread. It ends when the process that started it ends, for whatever reason: bubblewrap dies with its
parent, and the zygote ends when its socket closes.
"""

import contextlib
import marshal
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from harvest.core.errors import SandboxUnavailable
from harvest.sandbox.group import Group
from harvest.sandbox.layout import Layout, NoLayout, interpreters, layout_of
from harvest.sandbox.seccomp import machine, program_filter

START_S = 20.0
"""The seconds that a jail may take to start. On a busy machine a start takes seconds."""
KILL_S = 0.25
"""The seconds that a zygote may take to kill a program. After that the whole jail is killed."""
CLOSE_S = 1.0
NOBODY = 65534
THREADS = 64
"""The most threads that one program may have."""
GROUP_SPARE_MB = 64
"""The megabytes (MiB) that the cgroup allows for the zygote itself and for what the kernel holds for a program."""
Kind = Literal["warm", "cold", "unsafe"]


class JailBroken(Exception):
    """Is raised when the jail itself failed, so that there is no verdict on the program."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Holds the limits on what one program may use."""

    wall_s: float = 10.0
    memory_mb: int = 1024
    """The limit of a program's address space, in MiB. A program has one process, so this limits all of its memory
    except the files in /tmp (`files_mb`)."""
    files_mb: int = 32
    """The limit, in MiB, of each file that a program writes, and of all files in its /tmp together."""
    output_bytes: int = 8 << 20


@dataclass(slots=True)
class Running:
    """Stands for one program in a jail: its number there, the channel to it, and when its time is up."""

    number: int
    channel: socket.socket
    deadline: float
    """The moment when the program's time is up, on the clock of time.monotonic()."""
    status: int | None = None
    """How the program's process ended: its exit code, or minus the number of the signal. None means that no end was
    noticed yet."""

    def left_s(self) -> float:
        return self.deadline - time.monotonic()


class Jail:
    """Stands for one jail. The jail starts when it is first used, and again after it broke.

    A warm jail has imported what programs import, and forks for each program. A cold jail becomes the program, so it
    runs only one program. An unsafe jail is a warm jail without bubblewrap and seccomp: the program is a process of the
    user's, held only by its limits.
    """

    def __init__(self, kind: Kind = "warm") -> None:
        self._kind: Kind = kind
        self._group: Group | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, job: dict[str, Any], limits: Limits, standard: tuple[int, int, int]) -> Running:
        """Starts a program. `standard` are the program's descriptors 0, 1 and 2.

        Raises JailBroken when the jail does not start or does not answer.
        """
        self._start()
        assert self._control is not None
        self._number += 1
        memory, files = limits.memory_mb << 20, limits.files_mb << 20
        words = f"run {self._number} {memory} {int(limits.wall_s) + 2} {files} {files} {THREADS}"
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [words.encode()], [theirs.fileno(), *standard])
                ours.settimeout(limits.wall_s)
                body = marshal.dumps(job, 2)
                running = Running(self._number, ours, time.monotonic() + limits.wall_s)
            except OSError as error:
                ours.close()
                self.kill()
                raise JailBroken(f"the jail does not answer: {error}") from None
        # Where the program died already, `reap` finds it.
        with contextlib.suppress(OSError):
            ours.sendall(len(body).to_bytes(4, "big") + body)
        ours.setblocking(False)
        return running

    @property
    def pid(self) -> int | None:
        """The id of the process that holds the jail. It is None before the jail is started and after the jail ended."""
        return self._process.pid if self._process is not None else None

    def fileno(self) -> int:
        """Returns a descriptor that becomes readable when a program has ended or the jail has ended."""
        assert self._control is not None
        return self._control.fileno()

    def reap(self, running: Running) -> int:
        """Waits until the program has ended. Returns its exit code, or minus the number of the signal that ended it.

        Raises TimeoutError when the program's time is up, and JailBroken when the jail died.
        """
        if running.status is None:
            if not self._readable(running.left_s()):
                raise TimeoutError
            running.status = self._end(running)
        return running.status

    def stop(self, running: Running) -> None:
        """Ends a program at once, whatever the program is doing."""
        running.channel.close()
        if running.status is not None or self._control is None:
            return
        if self._kind == "cold":
            self.kill()
            return
        try:
            self._control.send(b"kill %d" % running.number)
            if not self._readable(KILL_S):
                raise JailBroken("the zygote does not answer")
            running.status = self._end(running)
        except (OSError, JailBroken):
            self.kill()

    def close(self) -> None:
        """Ends the jail by closing its socket, at which the zygote ends. Kills the jail if that takes over a second."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            if _ends(self._process.pid, CLOSE_S):
                self._process.wait()
            else:
                self.kill()
        self._clear()

    def kill(self) -> None:
        """Kills the jail, and everything in the jail, at once."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._clear()

    def _clear(self) -> None:
        if self._group is not None:
            self._group.remove()
        self._control = self._process = self._group = None

    def _end(self, running: Running) -> int:
        assert self._control is not None
        assert self._process is not None
        if self._kind == "cold":
            code = self._process.wait() if _ends(self._process.pid, KILL_S) else 128 + signal.SIGKILL
            self.kill()
            return code if code <= 128 else 128 - code
        try:
            words = self._control.recv(4096).split()
        except OSError as error:
            words = [str(error).encode()]
        if len(words) != 3 or words[:2] != [b"ended", b"%d" % running.number]:
            self.kill()
            raise JailBroken("the jail died")
        return os.waitstatus_to_exitcode(int(words[2]))

    def _readable(self, seconds: float) -> bool:
        assert self._control is not None
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self.kill()
        try:
            self._spawn(None if self._kind == "unsafe" else isolation().layout)
            if self._kind == "warm":
                self._join_group()
        except OSError as error:
            self.kill()
            raise JailBroken(f"the jail does not start: {error}") from None

    def _join_group(self) -> None:
        """Limits the whole jail by a cgroup, if this user may make a cgroup.

        Cold jails are not limited in this way, because making a cgroup for each program would take too long.
        """
        assert self._process is not None
        memory = (Limits().memory_mb + Limits().files_mb + GROUP_SPARE_MB) << 20
        name = f"winnow-{os.getpid()}-{self._process.pid}"
        self._group = Group.made(name, memory, THREADS + 2)
        if self._group is not None:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            self._group.take(int(children[0]))

    def _spawn(self, layout: Layout | None) -> None:
        """Starts the jail and waits until the jail is ready. `layout` is None for an unsafe jail.

        Raises OSError, with the last line that the jail wrote, when the jail does not become ready.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control, said = ours, os.memfd_create("winnow-jail")
        opened: list[int] = []
        answer = b""
        try:
            mode = "cold" if self._kind == "cold" else "warm"
            if layout is None:
                zygote = str(Path(__file__).with_name("zygote.py"))
                command = [sys.executable, "-I", "-S", "-B", zygote, "unsafe", mode]
            else:
                command = [*_command(layout, opened), "isolated", mode]
            user = NOBODY if layout is not None and os.geteuid() == 0 else None
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=said,
                pass_fds=opened,
                env={},
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else (),
            )
            theirs.close()
            ours.settimeout(START_S)
            with contextlib.suppress(ConnectionError):
                ours.send(program_filter() if layout else b"none")
                answer = ours.recv(64)
            if answer != b"ready":
                os.lseek(said, 0, os.SEEK_SET)
                words = os.read(said, 4096).decode("utf-8", "replace").strip()
                raise OSError(words.splitlines()[-1] if words else "it ended at once")
        finally:
            theirs.close()
            for descriptor in (*opened, said):
                os.close(descriptor)


def _ends(pid: int, seconds: float) -> bool:
    """Whether a child process ends within `seconds`.

    Returns as soon as the child has ended. Popen.wait would be later, since it sleeps between two looks.
    """
    watched = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(watched)


def _command(layout: Layout, opened: list[int]) -> list[str]:
    """Returns the command that starts bubblewrap and the zygote, without the zygote's own arguments.

    The descriptors that bubblewrap must get are added to `opened`.
    """
    arguments = [
        shutil.which("bwrap") or "bwrap", "--unshare-all", "--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY),
        "--hostname", "jail", "--die-with-parent", "--as-pid-1", "--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN",
        "--clearenv",
    ]  # fmt: skip
    for source, place in layout.binds:
        arguments += ["--ro-bind", source, place]
    for folder in layout.empty:
        arguments += ["--size", "4096", "--tmpfs", folder, "--remount-ro", folder]
    for device in ("/dev/null", "/dev/urandom"):
        arguments += ["--dev-bind", device, device]
    for name, descriptor in _ours(layout):
        opened.append(os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY))
        arguments += ["--file", str(opened[-1]), f"/py/winnow/{name}"]
    return [
        *arguments, "--dir", "/tmp", "--remount-ro", "/", "--chdir", "/",
        f"/py/bin/{Path(layout.python).name}", "-I", "-S", "-B", "/py/winnow/zygote.pyc",
    ]  # fmt: skip


@cache
def _ours(layout: Layout) -> list[tuple[str, int]]:
    """Returns winnow's own files for the jail, each as (name, descriptor of a file in memory).

    The descriptors stay open.
    """
    files = []
    for name, data in layout.inside:
        descriptor = os.memfd_create(f"winnow-{name}")
        os.write(descriptor, data)
        files.append((name, descriptor))
    return files


@dataclass(frozen=True, slots=True)
class Isolation:
    """Holds what isolates programs on this machine."""

    layout: Layout
    bubblewrap: str
    as_user: str
    cgroup: bool
    """Whether a cgroup also limits the memory and the processes of a jail."""

    def __str__(self) -> str:
        fences = f"{self.bubblewrap} with seccomp{' and a cgroup' if self.cgroup else ''}"
        return f"{fences}, as {self.as_user}, no network, Python {self.layout.version} from {self.layout.python}"


@cache
def isolation() -> Isolation:
    """Returns what isolates programs on this machine, after a jail was started as a trial.

    Raises SandboxUnavailable, which says what to install, when programs cannot be isolated.
    """
    if not sys.platform.startswith("linux"):
        raise SandboxUnavailable("code checks need Linux: programs are run in bubblewrap. Use a container or a VM")
    if machine() is None:
        raise SandboxUnavailable(f"code checks have no seccomp filter for this processor ({os.uname().machine})")
    if (found := shutil.which("bwrap")) is None:
        raise SandboxUnavailable(
            "code checks need an isolated place to run programs: install bubblewrap (`make system`, or apt-get install"
            " bubblewrap)"
        )
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    why: list[str] = []
    for python in interpreters():
        jail = Jail("cold")
        try:
            layout = layout_of(python)
            jail._spawn(layout)
        except (NoLayout, OSError, ValueError) as error:
            why.append(f"{python}: {error}")
        else:
            user = f"uid {NOBODY}" if os.geteuid() == 0 else f"uid {os.geteuid()} (seen as {NOBODY})"
            group = Group.made(f"winnow-{os.getpid()}-0", 1 << 30, THREADS)
            if group is not None:
                group.remove()
            return Isolation(layout, version or "bubblewrap", user, group is not None)
        finally:
            jail.kill()
    raise SandboxUnavailable(
        f"code checks: bubblewrap is there ({version}) but cannot isolate: {'; '.join(why)}. It needs user namespaces:"
        " `sysctl kernel.unprivileged_userns_clone=1`, `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, and"
        " in a container, that it may create them (docker: --security-opt seccomp=unconfined)"
    )
