"""Measures the stages of selection at full size: python benchmarks/selection_stages.py FOLDER N [--uncompared]

Takes the sketches that `selection_size.py --keep FOLDER` left, and puts enough changed copies of them beside each other
to have N. Then it goes through the stages of `select` as the command does, and compares questions by their texts in the
store (with --uncompared it compares none and calls all different, to measure the memory alone). Reading is left out: it
needs the same memory for any number of answers. Prints seconds and the largest resident memory.
"""

import argparse
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from harvest.core.config import Select  # noqa: E402
from harvest.selection import near_duplicates  # noqa: E402
from harvest.selection.candidates import Candidates, Questions  # noqa: E402
from harvest.selection.pipeline import PAIRS_AT_ONCE  # noqa: E402
from harvest.selection.sketch_maker import features_of  # noqa: E402
from harvest.selection.sketches import DTYPES, Kind, Notes, Sketches, read_file  # noqa: E402
from harvest.selection.stages import select  # noqa: E402
from harvest.selection.summary import plain_text  # noqa: E402
from harvest.store import Store  # noqa: E402


def sketches(folder: Path, kind: Kind) -> tuple[Sketches, Notes]:
    found: list[Sketches] = []
    notes = Notes()
    for path in sorted(folder.glob(f"store.db.sketches/*-{kind[0]}*/*.sketch")):
        if (read := read_file(path, kind)) is not None:
            found.append(read[0])
            notes.add(read[1])
    return np.concatenate(found), notes


def copies(of: Sketches, kind: Kind, n: int) -> Sketches:
    """[n]: copy c of a sketch has its ids after all before it, and all hashes turned by a number of its own."""
    step, out = len(of), np.empty(n, DTYPES[kind])
    for at in range(0, n, step):
        part = out[at : at + step]
        part[:] = of[: len(part)]
        part["id"] += at
        turn = np.uint64(at * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)
        part["text"] ^= turn
        part["signature"] ^= np.uint16(int(turn) >> 20 & 0xFFFF)
        if kind == "questions":
            numbers = part["numbers"]
            numbers[numbers != 0] ^= turn | np.uint64(1)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--uncompared", action="store_true")
    parser.add_argument("n", type=int, nargs="?", default=1_000_000)
    args = parser.parse_args()
    began = time.monotonic()
    attempts, notes = sketches(args.folder, "attempts")
    asked, beside = sketches(args.folder, "questions")
    read = min(len(attempts), len(asked))
    print(f"{read:,} sketches of answers and questions, laid out to {args.n:,}", flush=True)
    many, many_asked = copies(attempts[:read], "attempts", args.n), copies(asked[:read], "questions", args.n)
    faulty = np.isin(attempts["id"][:read], np.array(sorted(notes.faults), np.int64))
    contaminated = np.isin(asked["id"][:read], np.array(sorted(beside.asked), np.int64))
    place = np.arange(args.n)
    candidates = Candidates(
        many["id"], place, many["text"], many["signature"], np.full(args.n, 2000, np.int64), faulty[place % read],
        np.full(args.n, np.nan), np.full(args.n, np.nan), np.zeros(args.n, bool),
    )  # fmt: skip
    known = Questions(
        many_asked["id"], many_asked["text"], many_asked["gold"], many_asked["numbers"], many_asked["many"],
        many_asked["signature"], np.array([f"d{i % 20}" for i in range(args.n)]), np.full(args.n, ""),
        contaminated[place % read], np.full(args.n, np.nan),
    )  # fmt: skip
    compared = 0
    with Store.open(f"sqlite:///{args.folder}/store.db", write=False) as store:

        def same(pairs: NDArray[np.int64], answered_alike: bool) -> Iterator[bool]:
            nonlocal compared
            if args.uncompared:
                compared += len(pairs)
                yield from (False for _ in range(len(pairs)))
                return
            rule = near_duplicates.same_task if answered_alike else near_duplicates.same_question
            for at in range(0, len(pairs), PAIRS_AT_ONCE):
                rows = asked["id"][pairs[at : at + PAIRS_AT_ONCE] % read]
                bodies = dict(store.question_bodies(np.unique(rows).tolist()))
                known_now = {row: features_of(body) for row, body in bodies.items()}
                for a, b in rows.tolist():
                    compared += 1
                    yield rule(known_now[a], known_now[b])

        def say(words: str) -> None:
            print(f"{time.monotonic() - began:6.0f} s  {words}", flush=True)

        settings = Select(near_questions=True, balance="domains", traces=args.n // 10)
        outcome = select(candidates, known, settings, same, say)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    how = "not compared" if args.uncompared else "compared"
    print(f"{time.monotonic() - began:6.0f} s  done: {compared:,} pairs of questions {how}, {most:,.0f} MB at most")
    print(plain_text(str(dict(Counter(outcome.reason.tolist())))))


if __name__ == "__main__":
    main()
