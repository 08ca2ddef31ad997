"""Measures a run in batches: python benchmarks/batches.py [N ...] [--rows 50000]

For each N, N questions go to the fake endpoint with Files and Batches (shared/tools/batch_endpoint.py) in slices of
`--rows`, and the real command asks, checks, stores, selects, reports and exports. Prints how long it took, how many
batches were made, the memory of `collect` when a tenth, a half and all of the questions had ended and at most (while it
selects, reports and exports), and what the run booked, which must be the endpoint's bill to the last digit.
"""

import argparse
import json
import os
import platform
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from measure import table

ROOT = Path(__file__).resolve().parents[1]


def stats(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats") as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def memory_mb(pid: int) -> int:
    """What a process has of its own: not what it has in common with others, nor pages of files that are read."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/status").read_text().split("RssAnon:")[1].split()[0]) // 1024
    return 0


def ended_questions(store: Path) -> int:
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM question WHERE status != 'open'").fetchone()[0])
    return 0


def measure(n: int, rows: int, shared: Path, keep: Path | None) -> list[str]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = (keep or Path(scratch)) / f"{n}"
        folder.mkdir(parents=True)
        with (folder / "questions.jsonl").open("w") as f:
            for i in range(n):
                row = {"id": f"q{i}", "question": f"What is {i} + {i + 1}?", "answer": str(2 * i + 1)}
                f.write(json.dumps(row) + "\n")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        command = [sys.executable, str(shared / "tools/batch_endpoint.py"), "--port", str(port), "--tokens", "10"]
        command += ["--seconds", "1", "--validate", "0.1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as endpoint:
            assert endpoint.stdout is not None
            try:
                endpoint.stdout.readline()
                return _measured(folder, n, rows, port)
            finally:
                endpoint.kill()


def _measured(folder: Path, n: int, rows: int, port: int) -> list[str]:
    (folder / "run.toml").write_text(f"""
name = "bar"
questions = "questions.jsonl"
[teacher]
base_url = "http://127.0.0.1:{port}/v1"
model = "m"
mode = "batch"
batch_discount = "0.5"
batch_rows = {rows}
batch_poll_s = 0.2
price_usd_per_mtok = {{ input = "1", output = "10" }}
[sampling]
max_tokens = 100
[budget]
usd = "100000"
""")
    words = [sys.executable, "-m", "harvest", "collect", str(folder / "run.toml"), "--json"]
    words += ["--store", f"sqlite:///{folder}/store.db"]
    env = os.environ | {"WINNOW_RUNS": str(folder / "runs"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    at, peak_mb, began_s = dict[float, int](), 0, time.monotonic()
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        run = subprocess.Popen(words, stdout=out, stderr=err, env=env, cwd=folder)
        while not (ended := os.wait4(run.pid, os.WNOHANG))[0]:
            peak_mb = max(peak_mb, now_mb := memory_mb(run.pid))
            done = ended_questions(folder / "store.db") / n
            at |= {share: peak_mb for share in (0.1, 0.5, 1.0) if done >= share and share not in at}
            (folder / "memory").open("a").write(f"{time.monotonic() - began_s:.0f} s {done:.3f} {now_mb} MB\n")
            time.sleep(0.5 if n < 50_000 else 3.0)
    wall_s, cpu_s = time.monotonic() - began_s, ended[2].ru_utime + ended[2].ru_stime
    run.returncode = os.waitstatus_to_exitcode(ended[1])
    if run.returncode:
        raise SystemExit((folder / "err").read_text()[-2000:])
    money, found = json.loads((folder / "out").read_text())["money"], stats(port)
    booked = Decimal(money["spent_usd"])
    assert not Decimal(money["in_doubt_usd"])
    assert booked == Decimal(found["bill_usd"]), (booked, found["bill_usd"])
    assert found["answered"] == n
    assert not found["repeat_bodies"]
    memory = [f"{at.get(share, 0):,}" for share in (0.1, 0.5, 1.0)]
    return [f"{n:,}", f"{found['creates']}", f"{wall_s:,.0f}", f"{cpu_s:,.0f}", *memory, f"{peak_mb:,}", f"{booked}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("n", type=int, nargs="*", default=[20_000, 100_000])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument(
        "--keep", type=Path, help="a new folder that keeps the store, what was said, and the memory at each moment"
    )
    args = parser.parse_args()
    shared = Path(os.environ.get("WINNOW_SHARED", ROOT.parent / "shared"))
    load, cores = f"{os.getloadavg()[0]:.1f}", len(os.sched_getaffinity(0))
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {cores} cores at a load of {load}, {platform.machine()}, {args.rows:,} a batch"
    )
    heads = ["rows", "batches", "s", "CPU s", "MB at 10%", "at 50%", "at 100%", "at most", "USD booked = billed"]
    for n in args.n:
        print(table([heads, measure(n, args.rows, shared, args.keep)]), flush=True)


if __name__ == "__main__":
    main()
