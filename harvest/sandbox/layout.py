"""Finds the Python that runs in the jail, and the few files of the host that this Python needs.

The files are the interpreter, its standard library, and the shared libraries that both load. In the jail they lie under
/py and /lib. There are no site-packages.
"""

import base64
import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

INSIDE = ("wire", "stage", "zygote")
_LEFT_OUT = re.compile(
    r"_tkinter|_curses|readline|_ssl|_hashlib|_sqlite3|_?gdbm|_?dbm|_bz2|_lzma|_uuid|nis|_test|xx|_crypt"
)
"""The extension modules that programs in the jail do not get, so that the jail does not need their libraries."""
_QUERY = """
import base64, importlib.util, json, marshal, sys, sysconfig
pyc = {}
for name, source in json.load(sys.stdin).items():
    code = compile(source, "/py/winnow/" + name + ".py", "exec")
    pyc[name] = base64.b64encode(importlib.util.MAGIC_NUMBER + b"\\1" + bytes(11) + marshal.dumps(code)).decode()
print(json.dumps({
    "stdlib": sysconfig.get_path("stdlib"), "platform": sysconfig.get_path("platstdlib"), "lib": sys.platlibdir,
    "version": sys.version.split()[0], "at_least": sys.version_info >= (3, 11), "pyc": pyc,
}))
"""


class NoLayout(Exception):
    """Is raised when an interpreter cannot run in a jail. The message says why."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Holds what a jail's file system contains. Each of `binds` is (path on the host, path in the jail)."""

    python: str
    """The interpreter's path on the host."""
    version: str
    binds: tuple[tuple[str, str], ...]
    empty: tuple[str, ...]
    """The folders of the jail whose content is hidden: an empty folder is mounted over each."""
    inside: tuple[tuple[str, bytes], ...]
    """Winnow's own files, each as (name, code compiled for this interpreter)."""


def interpreters() -> list[str]:
    """Returns the paths of interpreters in the order to try them: winnow's own interpreter, then the system's."""
    own = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    system = [os.path.realpath(p) for p in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(p).exists()]
    return list(dict.fromkeys([own, *system]))


@cache
def layout_of(python: str) -> Layout:
    """Returns the layout of a jail in which the interpreter at this path runs.

    Raises NoLayout when the interpreter is too old, does not answer, lies in a folder that only root may open while
    winnow runs as root (the jail runs as another user), or has libraries that cannot be listed.
    """
    if os.geteuid() == 0 and not all(p.stat().st_mode & stat.S_IXOTH for p in Path(python).parents):
        raise NoLayout(f"{python}: only root may open its folder, and the jail runs as another user")
    sources = {name: Path(__file__).with_name(f"{name}.py").read_text("utf-8") for name in INSIDE}
    try:
        found = json.loads(_output([python, "-I", "-S", "-c", _QUERY], json.dumps(sources)))
    except ValueError as error:
        raise NoLayout(f"{python}: says nothing of itself: {error}") from None
    if not found["at_least"]:
        raise NoLayout(f"{python}: Python {found['version']}, and 3.11 is needed")
    standard, platform = os.path.realpath(found["stdlib"]), os.path.realpath(found["platform"])
    name = Path(standard).name
    extensions = [str(p) for p in sorted(Path(platform, "lib-dynload").glob("*.so")) if not _LEFT_OUT.match(p.name)]
    library = f"/py/{found['lib']}/{name}"
    binds = [(python, f"/py/bin/{Path(python).name}"), (standard, library)]
    if platform != standard:
        binds.append((f"{platform}/lib-dynload", f"{library}/lib-dynload"))
    binds += _libraries([python, *extensions])
    empty = tuple(f"{library}/{f}" for f in ("site-packages", "dist-packages") if Path(standard, f).is_dir())
    inside = tuple((f"{n}.pyc", base64.b64decode(data)) for n, data in found["pyc"].items())
    return Layout(python, found["version"], tuple(binds), empty, inside)


def _libraries(binaries: list[str]) -> list[tuple[str, str]]:
    """Returns the loader and the shared libraries of `binaries`, each as (path on the host, path in the jail)."""
    listed = _output(["ldd", *binaries], "")
    places: dict[str, str] = {}
    for line in listed.splitlines():
        if match := re.match(r"\s+(\S+) => (/\S+) \(0x", line):
            places.setdefault(f"/lib/{Path(match[1]).name}", os.path.realpath(match[2]))
        elif match := re.match(r"\s+(/\S+) \(0x", line):
            places.setdefault(match[1], os.path.realpath(match[1]))
    return [(source, place) for place, source in sorted(places.items())]


def _output(command: list[str], text: str) -> str:
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, env=environment, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoLayout(f"{command[0]}: {error}") from None
    if not done.stdout:
        raise NoLayout(f"{command[0]}: {done.stderr.strip()[-300:] or f'exit code {done.returncode}'}")
    return done.stdout
