"""Measures a withdrawal from a large dataset and two students: python benchmarks/withdrawal.py [N]

Makes up the manifests of a dataset of N rows from 50 sources, of a student that trained on all of it, and of a second
student that began with the first. Then the real command withdraws one source. It checks each manifest whole, counts
rows, and names the students. Prints seconds of wall clock and of CPU, and the memory of the process. Ends with an
error if a count is not what was made up.
"""

import argparse
import json
import platform
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from measure import cost_of

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from harvest.proof.manifest import COPIES, NAME, ManifestWriter, copied  # noqa: E402

SOURCES = 50


def dataset(folder: Path, n: int) -> str:
    folder.mkdir()
    whole = sha256()
    with ManifestWriter(folder / NAME, {"kind": "dataset", "run": "big", "export": {}}) as manifest:
        for i in range(n):
            digest = sha256(b"%d" % i).hexdigest()
            whole.update(digest.encode())
            manifest.put(
                {
                    "sha256": digest, "id": digest[:32], "question_id": f"q-{digest[:16]}",
                    "attempt": f"sha256:{digest}",
                    "response_id": f"chatcmpl-{digest[:24]}", "first_response_id": None, "cost_usd": "0.001",
                    "accepted": True, "reason": None, "verdicts": [{"check": "math", "version": "5", "passed": True}],
                    "teacher": "some-reasoner", "served_model": "some-reasoner", "served_by": None,
                    "teacher_terms": "unknown", "source": f"source-{i % SOURCES}", "licence": "MIT",
                    "asked_at": "2026-11-29T05:51:18.287Z", "public": None, "rewritten": None, "reply_sha256": digest,
                }
            )  # fmt: skip
        sums = {"accepted": n, "cost_usd": str(n / 1000), "without_cost": 0, "dataset_sha256": whole.hexdigest()}
        return manifest.end(sums)


def student(folder: Path, n: int, data: Path, began_with: Path | None) -> None:
    folder.mkdir(parents=True)
    root = copied(data / NAME, folder / COPIES)
    before = None if began_with is None else copied(began_with / NAME, folder / COPIES)
    header = {
        "kind": "student", "method": "sft", "data": [{"name": "big", "manifest": root}],
        "began_with": {"name": str(began_with), "manifest": before}, "teachers": [],
    }  # fmt: skip
    with ManifestWriter(folder / NAME, header) as manifest:
        for i in range(n):
            digest = sha256(b"%d" % i).hexdigest()
            manifest.put(
                {
                    "data": 0, "data_row": i, "sha256": digest, "id": digest[:32], "question_id": f"q-{digest[:16]}",
                    "fate": "trained", "why": None, "pair": None, "tokens": 4000, "trained_tokens": 3900,
                    "tokens_sha256": digest,
                }
            )  # fmt: skip
        manifest.end({"trained": n, "held_out": 0, "left_out": 0, "weights": {}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", nargs="?", type=int, default=1_000_000)
    n = parser.parse_args().n
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        dataset(folder / "data", n)
        student(folder / "students/first", n, folder / "data", None)
        student(folder / "students/second", n, folder / "data", folder / "students/first")
        size = sum(path.stat().st_size for path in (folder / "data").iterdir())
        print(json.dumps({"rows": n, "python": platform.python_version(), "bytes a row": round(size / n)}), flush=True)
        command = [sys.executable, "-m", "finetune", "verify-student", str(folder / "students"), str(folder / "data")]
        command += ["--withdraw", "source=source-7", "--rows", str(folder / "rows.jsonl"), "--json"]
        cost = cost_of(command, {"PYTHONPATH": str(ROOT)})
        touched = {Path(one["name"]).name: one for one in json.loads(cost.stdout)["touched"]}
        rows = sum(1 for _ in (folder / "rows.jsonl").open())
        gone = len(range(7, n, SOURCES))
        if [touched[name]["withdrawn"] for name in ("data", "first", "second")] != [gone] * 3 or rows != 3 * gone:
            raise SystemExit(f"counted {touched} and {rows} rows, where {gone} of each were made up")
        print("| rows | withdrawn | s | s of CPU | MB of memory |\n| ---: | ---: | ---: | ---: | ---: |")
        print(f"| {n:,} | {gone:,} | {cost.wall_s:.1f} | {cost.cpu_s:.1f} | {cost.memory_mb:,.0f} |")


if __name__ == "__main__":
    main()
