"""Measures how close to an endpoint's limit winnow comes, and how many requests are refused on the way.

    python benchmarks/pace.py [--rows 2000] [--rate 20]

The endpoint takes so many requests a second, counted over any two seconds, and refuses the rest with 429. In the first
run its headers say what is left and when to come again; in the second they say nothing. The share of the ceiling is
that of the whole command: start-up, the last answers and the export included.
"""

import argparse
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from measure import Bench, books, endpoint, table


def paced(args: argparse.Namespace, announce: bool) -> list[str]:
    flags = ["--rate", str(args.rate), "--latency-s", str(args.latency_s), "--words", "50"]
    with endpoint(*flags, *(["--announce"] if announce else [])) as url, tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), args.rows, url, in_flight=256)
        cost = bench.collect()
        bill = books(url)
        refused = bill.get("refused", 0)
        return [
            "announced" if announce else "silent",
            f"{bench.report()['traces']['accepted']:,} of {args.rows:,}",
            f"{cost.wall_s:.1f}",
            f"{args.rows / cost.wall_s / args.rate:.1%}",
            f"{refused}",
            f"{refused / bill['requests']:.1%}",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--latency-s", type=float, default=0.3)
    args = parser.parse_args()
    print(f"{datetime.now(UTC):%Y-%m-%d}: {args.rate:g} requests a second, {args.latency_s:g} s an answer")
    rows = [["the limit is", "accepted", "wall s", "of the ceiling", "refused", "of requests"]]
    print(table([*rows, paced(args, announce=True), paced(args, announce=False)]))


if __name__ == "__main__":
    main()
