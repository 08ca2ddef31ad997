"""Measures selection by shards: python benchmarks/shards.py [N] [--files 64] [--workers 1 2] [--keep FOLDER]

Makes an export of N rows of 8,000 characters: real sentences in random order, one row in ten a copy of another with one
word in forty changed, one question in fifty out of GSM8K's test, which is the evaluation. Then the real command selects
with each number of workers, near-duplicate questions and the evaluation included. Prints seconds, the largest
memory of one process, and whether all selections are the same.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from measure import cost_of
from selection_size import edited, sentences, text

ROOT = Path(__file__).parents[1]


def make(folder: Path, n: int, files: int, shared: Path) -> None:
    pool, r = sentences(shared), random.Random(7)
    asked = [json.loads(line)["question"] for line in (shared / "gsm8k/test.jsonl").open()]
    recent: list[tuple[str, str]] = []
    folder.mkdir(parents=True)
    for k in range(files):
        with (folder / f"train-{k:05}-of-{files:05}.jsonl").open("w") as f:
            for i in range(k * n // files, (k + 1) * n // files):
                if recent and r.random() < 0.1:
                    question, chain = r.choice(recent)
                    chain = edited(chain, r)
                else:
                    question = f"{r.choice(pool)} There are {r.randrange(10**6)} of {r.choice(pool)} How many?"
                    question = f"{r.choice(asked)} Explain." if r.random() < 0.02 else question
                    chain = text(pool, r)
                    recent.append((question, chain))
                    if len(recent) > 5000:
                        recent[r.randrange(5000)] = recent.pop()
                row = {
                    "messages": [{"role": "user", "content": question}], "id": f"a{i}", "question_id": f"q{i}",
                    "question": question, "reasoning": chain, "answer": "The answer is \\boxed{7}.", "gold": None,
                    "domain": f"d{i % 20}", "sample": 0, "usage": {"output_tokens": 2000}, "accepted": True,
                    "verdicts": [{"check": "text", "version": "1", "passed": True, "detail": ""}],
                }  # fmt: skip
                f.write(json.dumps(row) + "\n")


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.jsonl")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("n", type=int, nargs="?", default=100_000)
    parser.add_argument("--files", type=int, default=64)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    shared = Path(os.environ.get("WINNOW_SHARED", ROOT.parent / "shared"))
    load, cores = f"{os.getloadavg()[0]:.1f}", len(os.sched_getaffinity(0))
    print(f"{datetime.now(UTC):%Y-%m-%d}, {cores} cores at a load of {load}, {platform.machine()}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        export = folder / "export"
        if not export.exists():
            make(export, args.n, args.files, shared)
        for workers in args.workers:
            to = folder / f"to-{workers}-{time.time_ns()}"
            words = [sys.executable, "-m", "harvest", "shards", str(export), "--to", str(to), "--workers", str(workers)]
            words += ["--json", "--select.near_questions", "true", "--select.against", str(shared / "gsm8k/test.jsonl")]
            cost = cost_of(words, {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
            said = json.loads(cost.stdout)
            print(
                f"{workers} workers: {args.n:,} rows in {cost.wall_s:,.0f} s,"
                f" {cost.memory_mb:,.0f} MB the largest process, {said['selected']:,} selected {said['unselected']},"
                f" {digest(to)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
