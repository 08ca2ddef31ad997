"""Measures memory and CPU from 1,000 questions on, the ledger against the endpoint's bill, and the restart.

    python benchmarks/soak.py [--rows 1000 10000 100000] [--faults 0.02] [--in-flight 500] [--words 100]

A share of the requests ends in a 500 or a cut connection. These are tried again, and the cut ones are held in doubt.
The ledger is right where what it calls spent is the bill of the answers that arrived whole, to the picodollar, and
what is in doubt is no less than the bill of those that were cut. For the restart one question is added to the run and
the command is given again: the figure is the time from its start to that question's request.
"""

import argparse
import json
import os
import platform
import sqlite3
import sys
import tempfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from measure import Bench, books, endpoint, table

PICO = 10**12


def first_request_s(bench: Bench, since: datetime) -> float:
    with sqlite3.connect(bench.folder / "store.db") as db:
        sent_at = db.execute("SELECT min(sent_at) FROM try WHERE sent_at > ?", (since.isoformat(),)).fetchone()[0]
    return (datetime.fromisoformat(sent_at) - since).total_seconds()


def reopened(bench: Bench, n: int) -> None:
    """The last question of the store as if it had never been asked."""
    with sqlite3.connect(bench.folder / "store.db") as db:
        db.execute("UPDATE question SET status = 'open' WHERE name = ?", (f"q{n - 1}",))
        (attempt,) = db.execute(
            "SELECT attempt.id FROM attempt JOIN question ON question.id = question_id WHERE name = ?", (f"q{n - 1}",)
        ).fetchone()
        db.execute("DELETE FROM verdict WHERE attempt_id = ?", (attempt,))
        db.execute("DELETE FROM reply WHERE try_id IN (SELECT id FROM try WHERE attempt_id = ?)", (attempt,))
        db.execute("DELETE FROM try WHERE attempt_id = ?", (attempt,))
        db.execute("DELETE FROM attempt WHERE id = ?", (attempt,))


def soaked(n: int, args: argparse.Namespace) -> list[str]:
    flags = ["--latency-s", str(args.latency_s), "--words", str(args.words), "--faults", str(args.faults)]
    with endpoint(*flags) as url, tempfile.TemporaryDirectory(dir=args.folder) as folder:
        bench = Bench(Path(folder), n, url, args.in_flight)
        cost = bench.collect()
        report, bill = bench.report(), books(url)
        spent = int(Decimal(report["money"]["spent_usd"]) * PICO)
        doubt = int(Decimal(report["money"]["in_doubt_usd"]) * PICO)
        whole, cut = bill["whole_pusd"], bill["made_pusd"] - bill["whole_pusd"]
        answered, accepted = report["attempts"]["answered"], report["traces"]["accepted"]
        right = spent == whole and doubt >= cut and bill["distinct"] == n and answered == accepted == n
        reopened(bench, n)
        began = datetime.now(UTC)
        bench.collect()
        return [
            f"{n:,}", f"{bill['requests']:,}", f"{bill['requests'] / cost.wall_s:.0f}",
            f"{cost.cpu_s * 1000 / bill['requests']:.2f}", f"{cost.memory_mb:.0f}", "equal" if right else "DIFFERS",
            f"{first_request_s(bench, began):.2f}",
        ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--in-flight", type=int, default=500)
    parser.add_argument("--latency-s", type=float, default=0.2)
    parser.add_argument("--words", type=int, default=100)
    parser.add_argument("--faults", type=float, default=0.02)
    parser.add_argument("--folder", help="where the runs are made, and removed again; default: the system's")
    args = parser.parse_args()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {len(os.sched_getaffinity(0))} cores shared with the endpoint,", end=" ")
    print(f"{platform.machine()}, Python {platform.python_version()}")
    print(f"{args.in_flight} in flight, {args.words} words, {args.latency_s} s, {args.faults:.1%} faults")
    rows = [["questions", "requests", "a second", "CPU ms a request", "memory MB", "ledger and bill", "restart s"]]
    for n in args.rows:
        rows.append(soaked(n, args))
        print(json.dumps(dict(zip(rows[0], rows[-1], strict=True))), file=sys.stderr, flush=True)
    print(table(rows))
    if any("DIFFERS" in row for row in rows):
        raise SystemExit("the ledger is not the bill")


if __name__ == "__main__":
    main()
