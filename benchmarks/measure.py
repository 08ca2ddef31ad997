"""What the measurements of collecting share: an endpoint as a process, a run of N questions, the cost of a command."""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
KEY = "sk-benchmark-0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one command, start to end: wall clock and CPU in seconds, and the memory of its largest process in MB."""

    wall_s: float
    cpu_s: float
    memory_mb: float
    stdout: str


@contextmanager
def endpoint(*flags: str) -> Iterator[str]:
    """The address of `fast_teacher.py`, running as a process of its own."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "fast_teacher.py"), *flags], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()


def books(url: str) -> dict[str, int]:
    """What the endpoint was asked, and what it would have billed."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/books") as answer:
        found: dict[str, int] = json.load(answer)
    return found


def cost_of(command: Sequence[str], env: dict[str, str] | None = None, codes: tuple[int, ...] = (0,)) -> Cost:
    """Runs it to its end. Raises SystemExit with what it said where it ends with another code."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **(env or {})})
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode not in codes:
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}: {err.read()[-800:]}")
        return Cost(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, out.read())


def question(n: int) -> str:
    return f"What is {n} + {n + 1}? Put the answer in \\boxed{{}}."


class Bench:
    """A run of n sums in a folder of its own."""

    def __init__(self, folder: Path, n: int, url: str, in_flight: int, usd: str = "100000.00") -> None:
        self.folder, self.toml = folder, folder / "run.toml"
        with (folder / "questions.jsonl").open("w") as f:
            for i in range(n):
                f.write(json.dumps({"id": f"q{i}", "question": question(i), "answer": str(2 * i + 1)}) + "\n")
        self.toml.write_text(
            f'name = "bench"\nquestions = "questions.jsonl"\nstore = "{self.store}"\n'
            f'[teacher]\nbase_url = "{url}"\nmodel = "mock"\napi_key_env = "BENCH_API_KEY"\n'
            f"max_concurrency = {in_flight}\n"
            'price_usd_per_mtok = { input = "1.00", output = "10.00" }\n'
            f'[sampling]\nmax_tokens = 2048\ntries = 20\n[budget]\nusd = "{usd}"\n'
        )

    @property
    def store(self) -> str:
        return f"sqlite:///{self.folder / 'store.db'}"

    def collect(self, *more: str, codes: tuple[int, ...] = (0,)) -> Cost:
        """The whole command, from its start over the reading of questions to report and export."""
        env = {"BENCH_API_KEY": KEY, "WINNOW_RUNS": str(self.folder / "runs")}
        return cost_of([sys.executable, "-m", "harvest", "collect", str(self.toml), *more], env, codes)

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "runs/bench/report.json").read_text())
        return found


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need, the first one to the left."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = []
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)
