"""How long it takes to look questions up in a public set of a million rows, and how much memory.

    python benchmarks/public_lookup.py --shared ../shared --rows 1000000 --questions 100000

Made-up rows in OpenR1-Math's layout: real questions of GSM8K and MATH, each with a number of its own behind it, and two
short generations. Half of the questions are in the set, in another spelling. Four starts, each a process of its own: on
Parquet the first makes the index and the second has it, and so again on JSON lines. Then precision on
20,000 generated near misses, and recall on respelled real questions (tests/near_misses.py).
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from near_misses import near_misses, respelled  # noqa: E402 - needs the path above

from harvest.asking.planning.public_answers import Found, ToLookUp, look_up  # noqa: E402
from harvest.core.config import Reuse  # noqa: E402
from harvest.core.nouns import Question  # noqa: E402
from harvest.questions.public_rows import tables_of  # noqa: E402
from harvest.questions.public_sets import public_source  # noqa: E402
from harvest.questions.question_key import question_key  # noqa: E402

SET = "open-r1/OpenR1-Math-220k"
CHUNK, FILES = 10_000, 10


def real_questions(shared: Path) -> list[str]:
    rows = [
        json.loads(line)
        for name in ("gsm8k", "math")
        for line in (shared / f"data/{name}/train.jsonl").read_text("utf-8").splitlines()
    ]
    return [row.get("question") or row["problem"] for row in rows]


def asked(questions: Sequence[str], i: int) -> str:
    return f"{questions[i % len(questions)]} (Case {i}.)"


def write_set(folder: Path, questions: Sequence[str], rows: int) -> None:
    """Writes the set as Parquet files, and once more as one file of JSON lines."""
    generations = ["<think>\nI add them.\n</think>\n\nIt is \\boxed{3}.", "<think>\nElse.\n</think>\n\n\\boxed{3}"]
    with (folder / "all.jsonl").open("w") as lines:
        for n in range(FILES):
            writer = None
            for begin in range(n * rows // FILES, (n + 1) * rows // FILES, CHUNK):
                texts = [asked(questions, i) for i in range(begin, min(begin + CHUNK, (n + 1) * rows // FILES))]
                table = pa.table(
                    {"problem": texts, "answer": ["3"] * len(texts), "generations": [generations] * len(texts)}
                )
                writer = writer or pq.ParquetWriter(folder / f"train-{n:05}.parquet", table.schema)
                writer.write_table(table)
                lines.writelines(
                    json.dumps({"problem": t, "answer": "3", "generations": generations}) + "\n" for t in texts
                )
            if writer is not None:
                writer.close()


def one_start(files: str, shared: Path, rows: int, wanted: int) -> None:
    """Looks the questions up, and prints seconds by the clock and of CPU, matches and memory as JSON."""
    questions, draw = real_questions(shared), random.Random(1)
    numbers = [draw.randrange(2 * rows) for _ in range(wanted)]
    texts = [asked(questions, i) for i in numbers]

    def one(n: int) -> Question:
        return Question(id=str(n), question=texts[n].replace(". ", ".  ") + "\n", answer="3", check="math")

    def pages() -> Iterator[list[tuple[int, Question]]]:
        for begin in range(0, wanted, 5_000):
            yield [(n, one(n)) for n in range(begin, min(begin + 5_000, wanted))]

    before = time.monotonic(), time.process_time()
    found = Found()
    tables = list(tables_of(public_source(f"{SET}={files}", Path())))
    answers = 0
    for some in look_up(ToLookUp(pages, lambda ns: {n: one(n) for n in ns}), tables, Reuse(), found, lambda *_: None):
        answers += len(some)
    print(
        json.dumps(
            {
                "seconds": time.monotonic() - before[0],
                "cpu_s": time.process_time() - before[1],
                "rows": found.rows,
                "found": len(found.of_question),
                "in_the_set": len([i for i in numbers if i < rows]),
                "answers": answers,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    p.add_argument("--rows", type=int, default=1_000_000)
    p.add_argument("--questions", type=int, default=100_000)
    p.add_argument("--start", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.start:
        one_start(args.start, args.shared, args.rows, args.questions)
        return
    questions = real_questions(args.shared)
    print("| start | rows | questions | found, of those in it | seconds | CPU s | peak MB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write_set(Path(folder), questions, args.rows)
        env = {**os.environ, "WINNOW_CACHE": f"{folder}/cache"}
        for name, files in (
            ("Parquet, first", "*.parquet"), ("Parquet, second", "*.parquet"), ("JSON lines, first", "all.jsonl"),
            ("JSON lines, second", "all.jsonl"),
        ):  # fmt: skip
            words = [sys.executable, __file__, "--start", f"{folder}/{files}", "--shared", str(args.shared)]
            words += ["--rows", str(args.rows), "--questions", str(args.questions)]
            got = json.loads(subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout)
            print(
                f"| {name} | {got['rows']:,} | {args.questions:,} | {got['found']:,} of {got['in_the_set']:,} |"
                f" {got['seconds']:.1f} | {got['cpu_s']:.1f} | {got['peak_mb']:,.0f} |",
                flush=True,
            )
    wrong = sum(question_key(one) == question_key(other) for _, one, other in near_misses(questions, 20_000, 7))
    draw = random.Random(2)
    right = sum(question_key(q) == question_key(respelled(q, draw)) for q in questions)
    print(f"\nnear misses taken for the question: {wrong} of 20,000")
    print(f"respelled questions found: {right:,} of {len(questions):,} ({100 * right / len(questions):.1f}%)")


if __name__ == "__main__":
    main()
