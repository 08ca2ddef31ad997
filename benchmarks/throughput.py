"""Measures requests a second, CPU a request and memory, against the floor and against other clients, all in turn.

    python benchmarks/throughput.py [--rows 6000] [--in-flight 200] [--rounds 3] [--curator PYTHON]

winnow has everything on: it reserves and settles under a cap in its store, checks each sum, reports and exports. Its
figure is that of the whole command, start-up and export included; `asking` is the rate while it asked. The floor and
the other clients store nothing safely and judge nothing. `--curator` names a Python that has bespokelabs-curator
installed (its dependencies do not fit beside ours). The endpoint shares the cores with the client. Each figure is the
median of the rounds.
"""

import argparse
import importlib.util
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from measure import HERE, Bench, Cost, books, cost_of, endpoint, table


def asking_rate(bench: Bench) -> float:
    """Answers a second between the first request and the last answer, out of the store."""
    with sqlite3.connect(bench.folder / "store.db") as db:
        first, last, n = db.execute("SELECT min(sent_at), max(ended_at), count(*) FROM try").fetchone()
    span = datetime.fromisoformat(last) - datetime.fromisoformat(first)
    return float(n / span.total_seconds())


def winnow(rows: int, in_flight: int, flags: list[str]) -> tuple[Cost, float]:
    with endpoint(*flags) as url, tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), rows, url, in_flight)
        cost = bench.collect()
        accepted, answered = bench.report()["traces"]["accepted"], books(url)["answered"]
        assert accepted == answered == rows, (accepted, answered)
        return cost, asking_rate(bench)


def other(kind: str, rows: int, in_flight: int, flags: list[str], python: str = sys.executable) -> Cost:
    with endpoint(*flags) as url:
        cost = cost_of([python, str(HERE / "clients.py"), kind, url, str(rows), str(in_flight)])
        assert books(url)["distinct"] == rows
        return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--in-flight", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-s", type=float, default=0.23)
    parser.add_argument("--words", type=int, default=800)
    parser.add_argument("--curator", metavar="PYTHON")
    args = parser.parse_args()
    flags = ["--latency-s", str(args.latency_s), "--words", str(args.words)]
    clients = ["sockets", "aiohttp", *(["openai"] if importlib.util.find_spec("openai") else [])]
    costs: dict[str, list[Cost]] = {}
    asking: list[float] = []
    for _ in range(args.rounds):
        for kind in clients:
            costs.setdefault(kind, []).append(other(kind, args.rows, args.in_flight, flags))
        if args.curator:
            costs.setdefault("curator", []).append(other("curator", args.rows, args.in_flight, flags, args.curator))
        cost, rate = winnow(args.rows, args.in_flight, flags)
        costs.setdefault("winnow", []).append(cost)
        asking.append(rate)
    rates = {k: args.rows / statistics.median(c.wall_s for c in cs) for k, cs in costs.items()}
    rows = [["client", "requests/s", "of the floor", "CPU ms a request", "memory MB"]]
    for kind, cs in costs.items():
        cpu_ms = statistics.median(c.cpu_s for c in cs) * 1000 / args.rows
        memory = max(c.memory_mb for c in cs)
        share = rates[kind] / rates["sockets"]
        rows.append([kind, f"{rates[kind]:.0f}", f"{share:.2f}", f"{cpu_ms:.2f}", f"{memory:.0f}"])
        if kind == "winnow":
            rate = statistics.median(asking)
            rows.append(["winnow, asking", f"{rate:.0f}", f"{rate / rates['sockets']:.2f}", "", ""])
    machine = f"{len(os.sched_getaffinity(0))} cores shared with the endpoint, {platform.machine()}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}, Python {platform.python_version()}")
    print(
        f"{args.rows} rows, {args.in_flight} in flight, {args.words} words, {args.latency_s} s, median of {args.rounds}"
    )
    print(table(rows))
    whole, while_asking = rates["winnow"] / rates["sockets"], statistics.median(asking) / rates["sockets"]
    print(f"winnow: {whole:.2f} of the floor for the whole command, {while_asking:.2f} while asking")


if __name__ == "__main__":
    main()
