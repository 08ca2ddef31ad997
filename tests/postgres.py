"""A PostgreSQL server of our own for tests: a cluster in a temporary folder, on this machine alone."""

import atexit
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from functools import cache
from itertools import count
from pathlib import Path

import pytest

PROGRAMS = ("initdb", "pg_ctl", "postgres")
_names = count()


class Cluster:
    """A running server with no password, and without fsync unless it is "on", under a user that is not root. It is gone
    with the process."""

    def __init__(self, programs: Path, fsync: str = "off") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="winnow-pg-"))
        self._programs, self._fsync, self._owner = programs, fsync, {}
        if os.geteuid() == 0:  # as whom the server refuses to run
            user = next(pwd.getpwnam(n) for n in ("postgres", "nobody") if n in {u.pw_name for u in pwd.getpwall()})
            self._owner = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port: int = s.getsockname()[1]
        self._run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self.start()
        atexit.register(self.end)

    def database(self) -> str:
        """The URL of a new and empty database."""
        import psycopg

        name = f"t{next(_names)}"
        with psycopg.connect(f"postgresql://postgres@127.0.0.1:{self.port}/postgres", autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name}")
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def restart(self) -> None:
        self._run(*self._control("restart", "-m", "fast"))

    def stop(self) -> None:
        self._run("pg_ctl", "-D", "data", "-m", "fast", "-w", "stop")

    def crash(self) -> None:
        """Ends the server at once: what it has not written is lost."""
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")

    def start(self) -> None:
        self._run(*self._control("start"))

    def end(self) -> None:
        if not self.folder.exists():
            return
        if (self.folder / "data" / "postmaster.pid").exists():
            self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _control(self, *what: str) -> list[str]:
        settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        settings += f" -c fsync={self._fsync}"
        return ["pg_ctl", "-D", "data", "-l", "log", "-w", "-t", "60", "-o", settings, *what]

    def _run(self, program: str, *args: str) -> None:
        env = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        subprocess.run(
            [self._programs / program, *args], cwd=self.folder, env=env, check=True, timeout=90,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._owner,
        )  # fmt: skip


def programs() -> Path | None:
    """The folder of PostgreSQL's server programs; None: they are not installed."""
    found = [Path(p).parent for p in (shutil.which("initdb"),) if p]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True)
    return next((folder for folder in found if all((folder / p).exists() for p in PROGRAMS)), None)


@cache
def cluster() -> Cluster:
    """The server of this process of tests. Skips the test where there are no server programs."""
    if (folder := programs()) is None:
        pytest.skip("needs PostgreSQL's server programs: `make system` installs them")
    return Cluster(folder)
