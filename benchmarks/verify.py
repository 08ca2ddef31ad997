"""Measures how fast stored answers are judged again, and in how much memory: python benchmarks/verify.py [N …]

For each N it makes that many answers, imports them (reading, storing, judging) and judges them all again, by the
real commands on a store of its own in a temporary folder, and prints one row. The answers are plain numbers after a
chain of 200 words. `--symbolic` makes a share of them formulas, which go to the checking processes.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHAIN = "so we add the two numbers and look at what is left of it " * 14


def rows(n: int, symbolic: float) -> Iterator[dict[str, str]]:
    every = round(1 / symbolic) if symbolic else 0
    for i in range(n):
        answer, stated = str(2 * i + 1), str(2 * i + 1 if i % 3 else 2 * i)
        if every and i % every == 0:
            answer, stated = f"x^2+{i}x", f"{i}x+x^2"
        yield {
            "id": f"q{i}",
            "question": f"What is {i} + {i + 1}?",
            "answer": answer,
            "response": f"<think>\n{CHAIN}\n</think>\n\nThe answer is \\boxed{{{stated}}}.",
        }


def measured(folder: Path, *args: str) -> tuple[float, float, str]:
    """(seconds, peak memory of the command's own process in MB, stdout)"""
    env = {**os.environ, "WINNOW_RUNS": str(folder / "runs"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "harvest", *args, "--store", f"sqlite:///{folder}/store.db"]
    began, peak = time.monotonic(), 0.0
    with (folder / "out").open("w+") as out:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=out)
        while process.poll() is None:
            peak = max(peak, peak_mb(process.pid))
            time.sleep(0.05)
        if process.returncode:
            raise SystemExit(f"harvest {args[0]} ended with {process.returncode}")
        out.seek(0)
        return time.monotonic() - began, peak, out.read()


def peak_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError, ValueError):
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", nargs="*", type=int, default=[10_000, 100_000], metavar="N")
    parser.add_argument(
        "--symbolic", type=float, default=0.0, metavar="SHARE", help="share of answers that are formulas"
    )
    args = parser.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, symbolic {args.symbolic:.1%}\n")
    print("| answers | import, s | a second | peak, MB | verify, s | a second | peak, MB | store, MB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for n in args.n:
        with tempfile.TemporaryDirectory(prefix="verify-") as name:
            folder = Path(name)
            with (folder / "a.jsonl").open("w") as f:
                f.writelines(json.dumps(row) + "\n" for row in rows(n, args.symbolic))
            import_s, import_mb, _ = measured(folder, "import", "a.jsonl", "--name", "r", "--json")
            verify_s, verify_mb, said = measured(folder, "verify", "r", "--again", "--json")
            if json.loads(said)["judged"] != n:
                raise SystemExit(f"judged {json.loads(said)['judged']} of {n}")
            store_mb = (folder / "store.db").stat().st_size / 2**20
            print(
                f"| {n:,} | {import_s:.1f} | {n / import_s:,.0f} | {import_mb:.0f}"
                f" | {verify_s:.1f} | {n / verify_s:,.0f} | {verify_mb:.0f} | {store_mb:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
