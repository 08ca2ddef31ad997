"""Measures programs a second, cold and warm, on all cores: `python benchmarks/sandbox.py [--soak N] [SHARED]`.

A program reads a number and prints it plus one; its output is compared. "python" is the interpreter alone, and
"bubblewrap" the same in an empty bubblewrap: no sandbox of this kind can be faster. "HumanEval" checks the reference
solutions in two jails each, through the pool of checks as `collect` does. With --soak N, N programs run in one jail,
and what they leave behind (processes, descriptors, mounts, memory) is printed after every tenth of them.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from harvest.checks import ROW_RULES, CheckPool, gold_problems
from harvest.questions.sources import read_questions
from harvest.sandbox import Jail, Kind, Limits, isolation, run_script

CODE = "print(int(input()) + 1)\n"


def programs(kind: Kind, n: int) -> None:
    if kind == "warm":
        with Jail() as jail:
            for i in range(n):
                assert run_script(jail, [CODE], b"%d" % i, Limits()).stdout == b"%d\n" % (i + 1)
        return
    for i in range(n):
        with Jail("cold") as jail:
            assert run_script(jail, [CODE], b"%d" % i, Limits()).stdout == b"%d\n" % (i + 1)


def bare(command: list[str], n: int) -> None:
    for i in range(n):
        done = subprocess.run([*command, "-I", "-S", "-c", CODE], input=b"%d" % i, stdout=subprocess.PIPE, check=True)
        assert done.stdout == b"%d\n" % (i + 1)


def measure(what: str, work: Callable[..., None], given: object, n: int, cores: int) -> None:
    with ProcessPoolExecutor(cores, mp_context=get_context("fork")) as pool:
        list(pool.map(work, [given] * cores, [2] * cores))
        began = time.monotonic()
        list(pool.map(work, [given] * cores, [n] * cores))
        took = time.monotonic() - began
    print(json.dumps({"what": what, "cores": cores, "programs": n * cores, "a_second": round(n * cores / took)}))


def human_eval(shared: Path) -> None:
    questions = list(read_questions("humaneval/HumanEval.jsonl", shared / "data", ROW_RULES))
    with CheckPool() as pool:
        gold_problems(questions[:8], pool)
        began = time.monotonic()
        passed = sum(problem is None for problem in gold_problems(questions, pool))
        took = time.monotonic() - began
    print(json.dumps({"what": "HumanEval", "passed": passed, "a_second": round(len(questions) / took)}))


def soak(n: int) -> None:
    with Jail() as jail:
        for i in range(n + 1):
            assert run_script(jail, [CODE], b"%d" % i, Limits()).stdout == b"%d\n" % (i + 1)
            if i % max(1, n // 10) == 0:
                print(json.dumps({"programs": i, **footprint(jail)}), flush=True)


def footprint(jail: Jail) -> dict[str, int]:
    """What the jail and this process hold: nothing of it may grow."""
    parents, zombies = {}, 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            parents[int(entry.name)] = int(parent)
            zombies += state == "Z" and int(parent) in (os.getpid(), jail.pid)
    zygote = next(pid for pid, parent in parents.items() if parent == jail.pid)
    return {
        "processes": sum(parent in (os.getpid(), jail.pid, zygote) for parent in parents.values()),
        "zombies": zombies,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())) + len(list(Path(f"/proc/{zygote}/fd").iterdir())),
        "mounts": len(Path(f"/proc/{zygote}/mounts").read_text().splitlines()),
        "zygote_kb": resident_kb(zygote),
        "own_kb": resident_kb(os.getpid()),
    }


def resident_kb(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", nargs="?", type=Path, default=Path("../shared"))
    parser.add_argument("--soak", type=int, metavar="N")
    args = parser.parse_args()
    print(isolation(), file=sys.stderr)
    if args.soak:
        soak(args.soak)
        return
    cores, python = len(os.sched_getaffinity(0)), isolation().layout.python
    measure("python", bare, [python], 100, cores)
    measure("bubblewrap", bare, ["bwrap", "--unshare-all", "--ro-bind", "/", "/", python], 100, cores)
    measure("cold", programs, "cold", 150, cores)
    measure("warm", programs, "warm", 1000, cores)
    if (args.shared / "data/humaneval").is_dir():
        human_eval(args.shared)


if __name__ == "__main__":
    main()
