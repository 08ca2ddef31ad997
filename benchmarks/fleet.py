"""Measures a fleet of four replicas of which one is slow and one is killed, against the two healthy ones alone.

    python benchmarks/fleet.py [--rows 4000] [--in-flight 96] [--slower 10] [--kill-after-s 8] [--rounds 3]

Each replica is a process of its own, and both runs ask under the same max_concurrency. The rate is that from the first
request to the last answer, by the store. What is bought twice is counted by the books of the replicas that live; what
the killed one made is in doubt.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from measure import HERE, Bench, books, table
from throughput import asking_rate


@dataclass(frozen=True, slots=True)
class Replica:
    url: str
    process: "subprocess.Popen[str]"


@contextmanager
def replica(latency_s: float, words: int) -> Iterator[Replica]:
    flags = ["--latency-s", str(latency_s), "--words", str(words)]
    process = subprocess.Popen(
        [sys.executable, str(HERE / "fast_teacher.py"), *flags], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield Replica(f"http://127.0.0.1:{int(process.stdout.readline())}/v1", process)
    finally:
        process.kill()
        process.wait()


def asked(args: argparse.Namespace, latencies_s: Sequence[float], *, kills: bool) -> tuple[float, dict[str, Any], int]:
    """Returns (answers a second, the report, how many answers the living replicas made more than once). The last
    replica is the one that is killed."""
    with ExitStack() as stack:
        replicas = [stack.enter_context(replica(latency_s, args.words)) for latency_s in latencies_s]
        bench = Bench(Path(stack.enter_context(tempfile.TemporaryDirectory())), args.rows, "", args.in_flight)
        killer = threading.Timer(args.kill_after_s, replicas[-1].process.kill)
        if kills:
            killer.start()
        urls = ", ".join(f'"{one.url}"' for one in replicas)
        bench.collect("--teacher.base_url", f"[{urls}]")
        killer.cancel()
        report = bench.report()
        accepted = report["traces"]["accepted"]
        assert accepted == args.rows, f"{args.rows - accepted} answers are lost"
        living = [one for one in replicas if one.process.poll() is None]
        whole = sum(books(one.url)["answered"] for one in living)
        of_living = [r for r in report["teachers"][0]["replicas"] if r["base_url"] in {one.url for one in living}]
        return asking_rate(bench), report, whole - sum(r["answered"] for r in of_living)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--in-flight", type=int, default=96)
    parser.add_argument("--latency-s", type=float, default=1.5)
    parser.add_argument("--slower", type=float, default=10.0, help="how many times as long the slow one takes")
    parser.add_argument("--kill-after-s", type=float, default=8.0)
    parser.add_argument("--words", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rates: dict[str, list[float]] = {"the two healthy ones alone": [], "four, one slow, one killed": []}
    shown: list[list[str]] = []
    beyond = 0
    for _ in range(args.rounds):
        healthy = [args.latency_s] * 2
        rates["the two healthy ones alone"].append(asked(args, healthy, kills=False)[0])
        rate, report, unbooked = asked(args, [*healthy, args.slower * args.latency_s, args.latency_s], kills=True)
        rates["four, one slow, one killed"].append(rate)
        beyond += max(0, unbooked)
        shown = [["replica", "sent", "answered", "in doubt", "failed"]]
        for name, r in zip(("healthy", "healthy", "slow", "killed"), report["teachers"][0]["replicas"], strict=True):
            failed = ", ".join(f"{kind} {n}" for kind, n in r["failed"].items()) or "0"
            shown.append([name, *(str(r[n]) for n in ("sent", "answered", "in_doubt")), failed])
    machine = f"{len(os.sched_getaffinity(0))} cores shared with the replicas, {platform.machine()}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}, Python {platform.python_version()}")
    print(
        f"{args.rows} rows, {args.in_flight} in flight, {args.latency_s} s, the slow one {args.slower:g} times as long"
    )
    print(table([["run", "answers/s"], *([name, f"{statistics.median(r):.1f}"] for name, r in rates.items())]))
    alone, fleet = (statistics.median(r) for r in rates.values())
    print(f"with the faults: {fleet / alone:.3f} of the healthy ones (median of {args.rounds}); no answer lost;")
    print(f"{beyond} answers made and not booked. The last round:")
    print(table(shown))


if __name__ == "__main__":
    main()
