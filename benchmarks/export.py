"""Measures the speed and the memory of an export: python benchmarks/export.py [N] [--shared DIR]

Makes a run of N answers of 8 KB each in a store of its own, as `selection_size.py` does, and exports it by the real
command: each format in one file and in several, every row with all its columns; then all layouts over a tenth of it.
Prints rows a second, seconds of CPU, the largest memory of the process, and the size of the files; says so where a
row is missing from the files. A warm-up of a tenth comes first, because the first command reads the store from disk.
"""

import argparse
import json
import platform
import shutil
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from measure import Cost, cost_of
from selection_size import CHARS, make

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from harvest.core.teachers import Sampling  # noqa: E402
from harvest.export.layouts import LAYOUTS  # noqa: E402
from harvest.store import Store  # noqa: E402

MB = 1_000_000


def made(folder: Path, n: int, shared: Path) -> None:
    folder.mkdir()
    make(folder, n, shared)
    with Store.open(f"sqlite:///{folder}/store.db") as store, store.transaction():
        run_id = store.run_id("big")
        store.put_settings(run_id, {**store.run("big").settings, "sampling": Sampling().model_dump(mode="json")})


def rows_in(folder: Path) -> int:
    """Counted in the files themselves."""
    found = 0
    for path in folder.glob("train*"):
        if path.suffix == ".parquet":
            found += pq.ParquetFile(path).metadata.num_rows
        else:
            with path.open("rb") as f:
                found += sum(block.count(b"\n") for block in iter(lambda: f.read(1 << 20), b""))
    return found


def export(folder: Path, n: int, *flags: str) -> tuple[Cost, int, int]:
    """(what it cost, files, bytes). Raises SystemExit where a row is missing."""
    to = folder / "out"
    shutil.rmtree(to, ignore_errors=True)
    command = [sys.executable, "-m", "harvest", "export", "big", "--to", str(to), *flags]
    command += ["--store", f"sqlite:///{folder}/store.db"]
    cost = cost_of(command, {"WINNOW_RUNS": str(folder / "runs"), "PYTHONPATH": str(ROOT)})
    if (there := rows_in(to)) != n:
        raise SystemExit(f"{flags}: {there} rows of {n}")
    files = list(to.glob("train*"))
    return cost, len(files), sum(p.stat().st_size for p in files)


def line(name: str, n: int, cost: Cost, files: int, size: int) -> str:
    speed = f"{n / cost.wall_s:,.0f} | {1000 * cost.cpu_s / n:.2f} | {cost.wall_s:.0f}"
    return f"| {name} | {speed} | {cost.memory_mb:,.0f} | {files} | {size / MB:,.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", nargs="?", type=int, default=100_000)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared/data")
    args = parser.parse_args()
    few = max(1, args.n // 10)
    with tempfile.TemporaryDirectory() as place:
        whole, tenth = Path(place) / "whole", Path(place) / "tenth"
        made(tenth, few, args.shared)
        export(tenth, few)
        made(whole, args.n, args.shared)
        said = {"rows": args.n, "characters a chain": CHARS, "python": platform.python_version()}
        print(f"\n{json.dumps(said)}\n")
        head = "rows a second | ms of CPU a row | s | MB of memory | files | MB written"
        print(f"| {args.n:,} rows | {head} |\n| --- |{' ---: |' * 6}")
        for form in ("jsonl", "parquet"):
            for name, size in (("one file", "1000000"), ("files of 200 MB", "200")):
                flags = ("--format", form, "--shard-mb", size)
                print(line(f"{form}, {name}", args.n, *export(whole, args.n, *flags)), flush=True)
        shutil.rmtree(whole)
        print(f"\n| {few:,} rows | {head} |\n| --- |{' ---: |' * 6}")
        for layout in LAYOUTS:
            print(line(layout, few, *export(tenth, few, "--layout", layout)), flush=True)
        print(line("trl, training part alone", few, *export(tenth, few, "--layout", "trl", "--columns", "training")))


if __name__ == "__main__":
    main()
