"""The sandbox from outside: no program gets out, nothing is left behind, and honest programs run as anywhere."""

import json
import os
import platform
import random
import signal
import struct
import subprocess
import sys
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, scaled
from hypothesis import given
from hypothesis import strategies as st

from harvest.commands.sandbox import Attack, Result, corpus, run_all
from harvest.core.errors import SandboxUnavailable
from harvest.sandbox import Jail, JailBroken, Kind, Limits, Ran, TimeUp, isolation, run_script, wire
from harvest.sandbox.seccomp import program_filter

NONE_HERE = ""
try:
    isolation()
except SandboxUnavailable as error:
    NONE_HERE = f"needs a sandbox (`make system`): {error}"
isolated = pytest.mark.skipif(bool(NONE_HERE), reason=NONE_HERE)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
ALLOW, KILL, DENY, AGAIN, UNKNOWN = 0x7FFF0000, 0x80000000, 0x00050001, 0x0005000B, 0x00050026


@pytest.fixture(scope="module")
def jail() -> Iterator[Jail]:
    with Jail() as warm:
        yield warm


def run(jail: Jail, code: str, stdin: str = "", **limits: Any) -> Ran:
    return run_script(jail, [code], stdin.encode(), Limits(**{"wall_s": 5.0, **limits}))


# ---- attacks


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    kinds = Counter(attack.kind for attack in corpus())
    assert kinds["break-out"] >= 20
    assert kinds["exhaustion"] >= 15
    assert kinds["forgery"] >= 25


def _through(attacks: list[Attack], kind: Kind = "warm") -> list[Result]:
    """What gets through: twice, where it was for its time alone, since others use this machine."""
    failed = [r for r in run_all(attacks, kind) if r.why]
    late = {r.name for r in failed if r.why.startswith("it took")}
    again = run_all([a for a in attacks if a.name in late], kind)
    return [r for r in failed if r.name not in late] + [r for r in again if r.why]


@isolated
def test_every_attack_is_held() -> None:
    assert _through(corpus()) == []


@isolated
def test_every_attack_is_held_by_a_jail_for_each_program() -> None:
    assert _through([a for a in corpus() if a.kind != "exhaustion"], "cold") == []


@isolated
@as_root
def test_every_attack_is_held_where_winnow_is_not_run_by_root() -> None:
    if not all(p.stat().st_mode & 1 for p in (ROOT / "harvest/sandbox/stage.py").parents):
        pytest.skip("the checkout lies where other users cannot look")
    script = (
        "import json, os\n"
        "from harvest.commands import sandbox as attacks\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "def held(corpus): return [[r.name, r.why] for r in attacks.run_all(corpus)]\n"
        "first = held(attacks.corpus())\n"
        "late = [name for name, why in first if why.startswith('it took')]\n"
        "again = held([a for a in attacks.corpus() if a.name in late])\n"
        "print(json.dumps([pair for pair in first if pair[0] not in late] + again))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(done.stdout)
    assert len(results) == len(corpus())
    assert [r for r in results if r[1]] == []


# ---- what is left


@isolated
def test_after_many_programs_nothing_is_left_and_nothing_has_grown() -> None:
    code = "import os, sys\nopen('/tmp/x', 'w').write('y' * 100_000)\nx = [0] * 100_000\nprint(len(x) + int(input()))\n"
    with Jail() as jail:
        for _ in range(50):
            run(jail, code, "1")
        before = _footprint(jail)
        for n in range(scaled(300, 10_000)):
            assert run(jail, code, str(n)).stdout == f"{100_000 + n}\n".encode()
        after = _footprint(jail)
    assert after["children"] == before["children"]
    assert after["descriptors"] == before["descriptors"]
    assert after["mounts"] == before["mounts"]
    assert after["zygote_kb"] <= before["zygote_kb"] + 2048
    assert after["own_kb"] <= before["own_kb"] + 8192


def _footprint(jail: Jail) -> dict[str, Any]:
    assert jail.pid is not None
    zygote = next(pid for pid, parent in parents().items() if parent == jail.pid)
    return {
        "children": sum(parent in (jail.pid, zygote, os.getpid()) for parent in parents().values()),
        "descriptors": (_count(f"/proc/{zygote}/fd"), _count("/proc/self/fd")),
        "mounts": len(Path(f"/proc/{zygote}/mounts").read_text().splitlines()),
        "zygote_kb": _resident_kb(zygote),
        "own_kb": _resident_kb(os.getpid()),
    }


def _count(folder: str) -> int:
    return len(list(Path(folder).iterdir()))


def _resident_kb(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def parents() -> dict[int, int]:
    """Each process that is alive or a zombie, and its parent."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
    return found


@isolated
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_no_process_outlives_winnow_however_it_ends(end: signal.Signals) -> None:
    script = (
        "from harvest.sandbox import *\n"
        "jail = Jail()\nrun_script(jail, ['1'], b'', Limits())\nprint('up', flush=True)\n"
        "run_script(jail, ['import time\\ntime.sleep(600)'], b'', Limits(wall_s=600))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT) as winnow:
        assert winnow.stdout is not None
        assert winnow.stdout.readline() == b"up\n"
        assert until(lambda: len(below(winnow.pid)) >= 3), "bubblewrap, the zygote and the program"
        there = below(winnow.pid)
        winnow.send_signal(end)
    assert until(lambda: not there & parents().keys()), f"{there & parents().keys()} are still there"


def below(ancestor: int) -> set[int]:
    of = parents()
    found: set[int] = set()
    while more := {pid for pid, parent in of.items() if parent in found | {ancestor}} - found:
        found |= more
    return found


def until(holds: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# ---- failures of the machinery


@isolated
def test_a_jail_that_was_killed_is_no_verdict_and_the_next_program_runs(jail: Jail) -> None:
    run(jail, "1")
    assert jail.pid is not None
    os.kill(jail.pid, signal.SIGKILL)
    try:
        ran = run(jail, "print(1)")
    except JailBroken:
        ran = run(jail, "print(1)")
    assert ran.stdout == b"1\n"


@isolated
def test_a_program_past_its_limit_is_late_and_the_next_one_runs(jail: Jail) -> None:
    began = time.monotonic()
    with pytest.raises(TimeUp):
        run(jail, "while True: pass", wall_s=0.3)
    assert time.monotonic() - began < 5
    assert run(jail, "print(1)").stdout == b"1\n"


def test_without_bubblewrap_it_says_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harvest", "sandbox"],
        capture_output=True, text=True, cwd=ROOT, env={"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "make system" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@isolated
def test_the_command_gives_a_table_and_json(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harvest", "sandbox", "--json", "--limit", "0.3"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert done.returncode == (1 if said["through"] else 0)
    assert len(said["results"]) == said["attacks"] == len(corpus())
    assert "bubblewrap" in said["isolation"]


# ---- programs that mean well


@isolated
@pytest.mark.parametrize(
    ("code", "stdin", "printed"),
    [
        ("print(int(input()) + int(input()))", "1\n2", "3\n"),
        ("import sys\nprint(sum(map(int, sys.stdin)))", "1\n2\n3\n", "6\n"),
        ("import sys\nsys.stdout.write(sys.stdin.buffer.read().decode().upper())", "añb", "AÑB"),
        ("print(sum(map(int, open(0).read().split())))", "1 2 3", "6\n"),
        ("import os\nos.write(1, os.read(0, 100))", "raw", "raw"),
        ("import sys\ninput = sys.stdin.readline\nprint(int(input()))", "7\n", "7\n"),
        ("import sys\nprint('x', end='')\nsys.exit()", "", "x"),
        ("print(1)\nexit()\nprint(2)", "", "1\n"),
        ("def main():\n    print(__name__)\nif __name__ == '__main__':\n    main()", "", "__main__\n"),
        ("import threading, sys\nsys.setrecursionlimit(10**6)\nthreading.stack_size(2**26)\ndef f(n):\n"
         "    return n and 1 + f(n - 1)\nt = threading.Thread(target=lambda: print(f(20000)))\nt.start()",
         "", "20000\n"),
        ("from concurrent.futures import ThreadPoolExecutor as T\nprint(sum(T(4).map(int, '123')))", "", "6\n"),
        ("import atexit, io, sys\nsys.stdout = io.StringIO()\n"
         "atexit.register(lambda: sys.__stdout__.write(sys.stdout.getvalue()))\nprint('late')", "", "late\n"),
        ("import numbers, heapq, bisect, re, random, fractions, decimal, datetime, statistics, zlib, hashlib\n"
         "print(hashlib.sha256(b'').hexdigest()[:8], fractions.Fraction(1, 3))", "", "e3b0c442 1/3\n"),
        ("import tempfile\nf = tempfile.TemporaryFile('w+')\nf.write('x')\nf.seek(0)\nprint(f.read())", "", "x\n"),
        ("import sys\nprint('x')\nsys.stdout.close()", "", "x\n"),
        ("print(2 ** 20000 % 1000, len(str(10 ** 4000)))", "", "376 4001\n"),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nprint(P(1))", "", "P(x=1)\n"),
        ("import pickle\nclass A:\n    pass\nprint(type(pickle.loads(pickle.dumps(A()))).__name__)", "", "A\n"),
        ("print('\\u2713', '\\ud800'.encode('utf-8', 'replace'))", "", "✓ b'?'\n"),
    ],
)  # fmt: skip
def test_programs_run_as_they_do_anywhere(jail: Jail, code: str, stdin: str, printed: str) -> None:
    ran = run(jail, code, stdin)
    assert (ran.stdout.decode(), ran.status) == (printed, 0), ran.stderr.decode()


@isolated
@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("1 / 0", 1, "line 1: ZeroDivisionError"),
        ("x = 1\nx.y", 1, "line 2: AttributeError"),
        ("def f(:", 1, "SyntaxError"),
        ("import sys\nsys.exit(3)", 3, ""),
        ("raise SystemExit('no')", 1, ""),
        ("import os\nos.abort()", -signal.SIGABRT, ""),
    ],
)
def test_a_program_that_fails_says_how(jail: Jail, code: str, status: int, said: str) -> None:
    ran = run(jail, code)
    assert said in ran.stderr.decode()
    assert ran.status == status or (status < 0 and ran.status < 0)


@isolated
@pytest.mark.parametrize("size", [0, 1, 65536, 3_000_000])
def test_input_and_output_arrive_byte_for_byte(jail: Jail, size: int) -> None:
    data = random.Random(size).randbytes(size)
    ran = run_script(jail, ["import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"], data, Limits())
    assert ran.stdout == data[::-1]


# ---- the filter, where it cannot be run


def _judged(filter_bytes: bytes, audit: int, number: int, *arguments: int) -> int:
    """What the kernel would do: a machine for the four instructions that the filter uses."""
    data = struct.pack("<IIQ6Q", number, audit, 0, *(*arguments, *[0] * (6 - len(arguments))))
    lines = list(struct.iter_unpack("=HBBI", filter_bytes))
    at = accumulator = 0
    while True:
        code, jump_true, jump_false, value = lines[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x15:
            at += jump_true if accumulator == value else jump_false
        elif code == 0x45:
            at += jump_true if accumulator & value else jump_false
        else:
            assert code == 0x06
            return value


X86, ARM = ("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)
THREAD = 0x3D0F00


@pytest.mark.parametrize(
    ("machine", "number", "arguments", "verdict"),
    [
        (X86, 0, (), ALLOW), (ARM, 63, (), ALLOW),  # read
        (X86, 59, (), DENY), (ARM, 221, (), DENY),  # execve
        (X86, 322, (), DENY), (ARM, 281, (), DENY),  # execveat
        (X86, 57, (), DENY), (X86, 58, (), DENY),  # fork, vfork
        (X86, 56, (THREAD,), ALLOW), (ARM, 220, (THREAD,), ALLOW),  # a thread
        (X86, 56, (17,), AGAIN), (ARM, 220, (17,), AGAIN),  # a process
        (X86, 56, (THREAD | 0x10000000,), DENY), (ARM, 220, (THREAD | 0x20000,), DENY),  # in a namespace of its own
        (X86, 435, (), UNKNOWN), (ARM, 435, (), UNKNOWN),  # clone3
        (X86, 41, (), DENY), (ARM, 198, (), DENY),  # socket
        (X86, 101, (), DENY), (ARM, 117, (), DENY),  # ptrace
        (X86, 62, (1,), ALLOW), (X86, 62, (2,), DENY), (ARM, 129, (2,), DENY), (ARM, 129, (0xFFFFFFFF,), DENY),  # kill
        (X86, 157, (22,), DENY), (ARM, 167, (22,), DENY), (X86, 157, (15,), ALLOW),  # prctl
        (X86, 72, (0, 1031), DENY), (ARM, 25, (0, 1031), DENY), (X86, 72, (0, 3), ALLOW),  # fcntl
        (X86, 16, (0, 0x5412), DENY), (ARM, 29, (0, 0x5412), DENY), (ARM, 29, (0, 0x5413), ALLOW),  # ioctl
        (X86, 319, (), DENY), (ARM, 279, (), DENY),  # memfd_create
        (X86, 425, (), DENY), (X86, 0x40000000, (), DENY), (X86, 9999, (), DENY),
    ],
)  # fmt: skip
def test_the_filter_on_either_processor(
    machine: tuple[str, int], number: int, arguments: tuple[int, ...], verdict: int
) -> None:
    name, audit = machine
    assert _judged(program_filter(name), audit, number, *arguments) == verdict


@pytest.mark.parametrize("name", ["x86_64", "aarch64"])
def test_calls_of_another_architecture_kill(name: str) -> None:
    for audit in (0x40000003, 0x40000028, 0, 0xC00000B7 if name == "x86_64" else 0xC000003E):
        assert _judged(program_filter(name), audit, 0) == KILL


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the table of x86_64")
def test_the_filter_is_small_enough_for_the_kernel() -> None:
    assert len(program_filter()) // 8 < 4096


# ---- values on the wire

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.complex_numbers(allow_nan=False) | st.builds(range, st.integers(-99, 99), st.integers(-99, 99)),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.sets(st.integers() | st.text())
    | st.frozensets(st.integers()) | st.dictionaries(st.integers() | st.text(), inner)
    | st.lists(inner).map(deque) | st.dictionaries(st.text(), inner).map(OrderedDict)
    | st.dictionaries(st.text(), st.integers()).map(Counter) | st.binary().map(bytearray),
    max_leaves=20,
)  # fmt: skip


def _exact(value: Any) -> Any:
    """The value with its types written out, since 1 == True == 1.0."""
    if isinstance(value, dict):
        return type(value), {_exact(k): _exact(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return type(value), frozenset(map(_exact, value))
    if isinstance(value, list | tuple | deque):
        return type(value), tuple(map(_exact, value))
    return type(value), value if not isinstance(value, bytearray) else bytes(value)


@given(plain)
def test_plain_values_cross_with_their_exact_types(value: Any) -> None:
    came = wire.decode(wire.loads(wire.dumps(wire.encode(value))[4:]))
    assert repr(_exact(came)) == repr(_exact(value)) or _exact(came) == _exact(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from("ltsfdCODibBcrqTh"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_whatever_comes_is_a_value_or_refused(tree: Any) -> None:
    try:
        wire.decode(tree)
    except wire.BadWire:
        return


@given(st.binary())
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    try:
        wire.loads(data)
    except wire.BadWire:
        return


@pytest.mark.parametrize("value", [object(), type("I", (int,), {})(1), lambda: 1, (x for x in ()), defaultdict])
def test_what_is_no_plain_data_does_not_cross(value: object) -> None:
    with pytest.raises(wire.BadWire):
        wire.encode(value)


# ---- all that is in a jail, together


@isolated
def test_memory_is_limited_together_where_a_cgroup_can_be_made() -> None:
    if not isolation().cgroup:
        pytest.skip("no cgroup can be made here: it takes root, or a delegated one")
    code = (
        "import os, mmap\nkept = []\ntry:\n    while True:\n        kept.append(mmap.mmap(-1, 1 << 24))\n"
        "        kept[-1][::4096] = b'x' * 4096\nexcept (MemoryError, OSError):\n    pass\n"
        "try:\n    for n in range(100):\n        open(f'/tmp/{n}', 'wb').write(bytes(1 << 20))\n"
        "except OSError:\n    pass\n"
        "try:\n    while True:\n        _, end = os.pipe()\n        os.set_blocking(end, False)\n"
        "        os.write(end, bytes(65536))\nexcept OSError:\n    pass\nprint('full')"
    )

    def groups() -> set[Path]:
        return set(Path("/sys/fs/cgroup").glob(f"**/winnow-{os.getpid()}-*"))

    before = groups()
    with Jail() as jail:
        ran = run(jail, code)
        assert jail.pid is not None
        zygote = next(pid for pid, parent in parents().items() if parent == jail.pid)
        assert f"winnow-{os.getpid()}-{jail.pid}" in Path(f"/proc/{zygote}/cgroup").read_text()
        assert run(jail, "print(1)").stdout == b"1\n"
    assert ran.stdout == b"full\n" or ran.status < 0
    assert groups() == before
