"""Measures how large a run can be selected from: python benchmarks/selection_size.py [N] [--kills K] [--cores 2]

Makes a run of N answers of 8 KB each in a store of its own. Real sentences stand in random order, so that texts overlap
as real texts do; one in ten is a copy of another with one word in forty changed, and one in fifty asks a question of
an evaluation. Then the real command selects: once without a kill, and with --kills K killed K times at moments spread
over the first run's time, then finished. With --kill-after S the first starts are killed after S seconds each and the
last one goes on to the end, which saves a second reading at full size. Prints seconds, the largest resident memory of
all processes together, how much was read at each kill, the disk, and with --kills whether the selection is the same.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import zstandard

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from harvest.endpoint import prompt as prompts  # noqa: E402
from harvest.selection.pipeline import BATCH  # noqa: E402
from harvest.store import Store  # noqa: E402

CHARS = 8_000


def sentences(shared: Path) -> list[str]:
    rows = [json.loads(line) for line in (shared / "traces/misguided_attention.jsonl").open()]
    return sorted({s for r in rows for s in re.split(r"(?<=[.?!])\s+", r["reasoning"]) if 20 < len(s) < 300})


def text(pool: list[str], r: random.Random) -> str:
    said = ""
    while len(said) < CHARS:
        said += " ".join(r.choices(pool, k=100)) + " "
    return said[:CHARS]


def edited(chain: str, r: random.Random) -> str:
    words = chain.split(" ")
    for _ in range(len(words) // 40):
        words[r.randrange(len(words))] = "so"
    return " ".join(words)


def make(folder: Path, n: int, shared: Path) -> None:
    """One answer a question, straight into the tables: a million through the importer would measure the importer."""
    pool, r, packer = sentences(shared), random.Random(7), zstandard.ZstdCompressor(level=3)
    asked = [json.loads(line)["question"] for line in (shared / "gsm8k/test.jsonl").open()]
    prompt = prompts.load("boxed")
    config = {
        "name": "big", "imported": True, "questions": [], "store": f"sqlite:///{folder}/store.db", "base": str(folder),
        "prompt": "boxed", "prompt_sha256": prompt.sha256, "prompt_text": prompt.text, "sampling": {}, "checks": {},
        "teacher": dict.fromkeys(("model", "local", "base_url", "revision", "terms")), "budget": {"usd": None},
    }  # fmt: skip
    with Store.open(f"sqlite:///{folder}/store.db") as store, store.transaction():
        run = store.put_run("big", config, None, "2026-11-25T00:00:00.000Z")
    db = sqlite3.connect(folder / "store.db", isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    recent: list[tuple[str, str]] = []
    db.execute("BEGIN")
    for i in range(1, n + 1):
        if recent and r.random() < 0.1:
            question, chain = r.choice(recent)
            chain = edited(chain, r)
        else:
            question = (
                f"{r.choice(asked)} Explain." if r.random() < 0.02
                else f"{r.choice(pool)} {r.choice(pool)} There are {r.randrange(10**6)} of {r.choice(pool)} How many?"
            )  # fmt: skip
            chain = text(pool, r)
            if len(recent) < 5000:
                recent.append((question, chain))
            else:
                recent[r.randrange(5000)] = (question, chain)
        body = {"id": f"q{i}", "question": question, "check": "text", "domain": f"d{i % 20}"}
        db.execute("INSERT INTO question (id, run_id, name, body, status) VALUES (?, ?, ?, ?, 'solved')",
                   (i, run, f"q{i}", json.dumps(body)))  # fmt: skip
        db.execute(
            "INSERT INTO attempt (id, run_id, question_id, kind, sample, max_tokens, key, state, answer_try,"
            " accepted) VALUES (?, ?, ?, 'teacher', 0, 0, ?, 'answered', ?, 1)",
            (i, run, i, f"k{i}", i),
        )
        db.execute("INSERT INTO try (id, attempt_id, run_id, state, reserved, sent_at, output_tokens, cost_source)"
                   " VALUES (?, ?, ?, 'answered', 0, '', 2000, 'log')", (i, i, run))  # fmt: skip
        reply = json.dumps({"answer": "The answer is \\boxed{7}.", "reasoning": chain}).encode()
        db.execute("INSERT INTO reply (try_id, body) VALUES (?, ?)", (i, packer.compress(reply)))
        if i % 10_000 == 0:
            db.execute("COMMIT")
            db.execute("BEGIN")
            print(f"\r{i:,} made", end="", file=sys.stderr)
    db.execute("COMMIT")
    db.close()


def memory_mb(pid: int) -> float:
    """Resident memory now of a process and of all that it started."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        own = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    except (OSError, IndexError, ValueError):
        return 0.0
    return own + sum(memory_mb(int(c)) for c in children)


def select(folder: Path, shared: Path, cores: int, kill_after_s: float | None = None) -> tuple[float, float, str]:
    """(seconds, MB at most, a digest of the selection; empty where it was killed)"""
    command = ["taskset", "-c", ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))]
    command += [sys.executable, "-m", "harvest", "select", "big", "--json", "--store", f"sqlite:///{folder}/store.db"]
    command += ["--select.near_questions", "true", "--select.against", str(shared / "gsm8k/test.jsonl")]
    command += ["--select.balance", "domains", "--select.traces", "100000"]
    env = {**os.environ, "WINNOW_RUNS": str(folder / "runs"), "PYTHONPATH": str(ROOT)}
    began, most = time.monotonic(), 0.0
    with (folder / "out").open("w+") as out:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=out)
        while process.poll() is None:
            most = max(most, memory_mb(process.pid))
            time.sleep(0.2)
            if kill_after_s is not None and time.monotonic() - began > kill_after_s:
                process.send_signal(signal.SIGKILL)
                process.wait()
                return time.monotonic() - began, most, ""
        out.seek(0)
        if process.returncode:
            raise SystemExit(f"select ended with {process.returncode}")
        said = json.loads(out.read())
    print(json.dumps({k: said[k] for k in ("candidates", "selected", "unselected")}), file=sys.stderr)
    db = sqlite3.connect(folder / "store.db")
    digest = hashlib.sha256()
    for row in db.execute("SELECT attempt_id, reason, instead, detail FROM selection_outcome WHERE selection_id ="
                          " (SELECT max(id) FROM selection) ORDER BY attempt_id"):  # fmt: skip
        digest.update(repr(row).encode())
    return time.monotonic() - began, most, digest.hexdigest()[:16]


def read(folder: Path) -> str:
    """How much of the run lies in sketches that are whole."""
    files = [p for p in (folder / "store.db.sketches").rglob("*.sketch") if not p.name.startswith(".")]
    rows = {kind: BATCH * sum(f"-{kind}" in p.parent.name for p in files) for kind in ("a", "q")}
    return f"up to {rows['a']:,} answers and {rows['q']:,} questions"


def sketches_mb(folder: Path) -> float:
    return sum(p.stat().st_size for p in (folder / "store.db.sketches").rglob("*.sketch")) / 2**20


def forget(folder: Path) -> None:
    """As if nothing had ever been selected."""
    import shutil

    shutil.rmtree(folder / "store.db.sketches", ignore_errors=True)
    db = sqlite3.connect(folder / "store.db")
    with db:
        db.execute("DELETE FROM selection_outcome")
        db.execute("DELETE FROM selection")
    db.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", nargs="?", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--kill-after", type=float, nargs="*", default=[], metavar="S")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--keep", type=Path, help="make the run here, or take the one that is here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="selection-size-") as name:
        folder = args.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "made").exists():
            make(folder, args.n, args.shared.absolute())
            (folder / "made").touch()
        print(f"{args.n:,} answers of {CHARS:,} characters, {args.cores} of {os.cpu_count()} cores,"
              f" {platform.machine()}, Python {platform.python_version()}\n")  # fmt: skip
        print("| | seconds | MB at most | read at its end | selection |\n| --- | ---: | ---: | --- | --- |", flush=True)

        def row(name: str, kill_after_s: float | None = None) -> tuple[float, str]:
            seconds, most, digest = select(folder, args.shared.absolute(), args.cores, kill_after_s)
            print(f"| {name} | {seconds:,.1f} | {most:,.0f} | {read(folder)} | {digest} |", flush=True)
            return seconds, digest

        for at in args.kill_after:
            row(f"killed after {at:,.0f} s", at)
        seconds, digest = row("gone on to the end" if args.kill_after else "once through")
        size = sketches_mb(folder)
        row("again, nothing changed")
        if args.kills:
            forget(folder)
            for k in range(args.kills):
                row("killed", seconds * (k + 0.5) / args.kills / 2)
            _, after = row(f"finished after {args.kills} kills")
            if after != digest:
                raise SystemExit("the selection after the kills is another one")
        store = (folder / "store.db").stat().st_size / 2**20
        print(f"\nStore {store:,.0f} MB, sketches {size:,.0f} MB.")


if __name__ == "__main__":
    main()
