"""Breaks the code one place at a time, and looks whether a test notices: python benchmarks/mutants.py STEP FOLDER

    cover FOLDER                           runs the tests of some rooms under coverage: which test runs which line
    break FOLDER [--seed 0] [--most 500]   draws mutants, and runs for each the tests that run its line
    table FOLDER                       prints what became of the mutants, as Markdown

FOLDER holds what the steps leave: `break` goes on where it was stopped. The code is broken in a copy of the last
commit, under FOLDER. Needs `pip install coverage pytest-cov`. mutmut and cosmic-ray were looked at: the one sees only
tests in its own process, the other runs one command for every mutant; neither breaks SQL, where most of the store's
logic is.

Each group of files gives the same number of mutants; places are drawn evenly (mutant_places.py). First run the tests
that run the broken line in their own process, quickest first; then the group's files of tests
that start commands. A test that fails, or takes ten times as long, has killed the mutant.
"""

import argparse
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from mutant_places import Mutant, mutants_of

OTHERS = ("aiohttp", "datasets", "genai_prices", "httpx", "jinja2", "numpy", "openai", "pydantic")
REWRITE = "ignore::pytest.PytestAssertRewriteWarning"  # OTHERS bring plugins of pytest along
for _package in OTHERS:
    importlib.import_module(_package)  # none of ours: each fork imports the broken code itself

ROOT = Path(__file__).parents[1]
ROOMS = ("harvest/core", "harvest/store", "harvest/judging", "finetune/rows", "harvest/endpoint", "harvest/asking")
GROUPS: dict[str, tuple[str, str]] = {
    "money": (
        "harvest/core/money.py harvest/core/claims.py harvest/endpoint/price.py harvest/endpoint/price_list.py"
        " harvest/asking/accounts.py harvest/asking/buying/pricing.py harvest/asking/buying/cap.py",
        "asking/test_cap.py asking/test_untrue_claims.py endpoint/test_price.py commands/test_settle.py",
    ),
    "store": (
        "harvest/store",
        "store/test_books.py store/test_both_stores.py report/test_report.py commands/test_settle.py"
        " selection/test_select.py asking/test_workers.py",
    ),
    "plan": (
        "harvest/asking/planning/plan.py harvest/asking/planning/expected_yield.py harvest/asking/question_queue.py"
        " harvest/asking/planning/strata.py",
        "asking/test_plan.py asking/test_question_order.py asking/test_asking.py",
    ),
    "reply": (
        "harvest/endpoint/reply.py harvest/endpoint/response.py harvest/endpoint/stream.py",
        "endpoint/test_reply.py endpoint/test_client.py endpoint/test_streamed_run.py",
    ),
    "judging": (
        "harvest/judging",
        "judging/test_verification.py judging/test_required.py judging/test_model_judge.py judging/test_marks.py"
        " judging/test_model_rewriting.py",
    ),
    "render": ("finetune/rows/render.py finetune/rows/conversation.py finetune/rows/template.py", ""),
}
"""The files that are broken, and the files of tests that start commands."""
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
FEW, QUICK_S = 300, 25.0
"""So many tests of its own process are run for a mutant at most, and so many seconds of them."""


def drawn(root: Path, seed: int, most: int) -> list[Mutant]:
    """Returns mutants, one of each group in turn: a place is drawn, then what is done to it."""
    of_group: list[list[Mutant]] = []
    for group, (names, _) in GROUPS.items():
        chance = random.Random(f"{seed} {group}")
        paths = (p for n in names.split() for p in ([root / n] if n.endswith(".py") else (root / n).rglob("*.py")))
        files = sorted(str(path.relative_to(root)) for path in paths)
        places: dict[tuple[str, int, int], list[Mutant]] = defaultdict(list)
        for file in files:
            for mutant in mutants_of(root, group, file):
                places[file, mutant.start, mutant.end].append(mutant)
        picked = [chance.choice(places[key]) for key in sorted(places)]
        chance.shuffle(picked)
        of_group.append(picked[: -(-most // len(GROUPS))])
    return [m for turn in zip(*of_group, strict=False) for m in turn][:most]


def lines_and_tests(folder: Path) -> tuple[dict[tuple[str, int], set[str]], dict[str, float]]:
    """Returns the tests that run each line in their own process, and how many seconds each test takes that passes."""
    from coverage import CoverageData

    tests: dict[tuple[str, int], set[str]] = defaultdict(set)
    seconds: dict[str, float] = {}
    for found in folder.glob("*.xml"):
        for case in ET.parse(found).getroot().iter("testcase"):
            if not {"failure", "error", "skipped"} & {part.tag for part in case}:
                path = str(case.get("classname")).replace(".", "/")
                seconds[f"{path}.py::{case.get('name')}"] = float(case.get("time") or 0)
    for found in folder.glob("*.cov"):
        data = CoverageData(str(found))
        data.read()
        for file in data.measured_files():
            name = str(Path(file).relative_to(folder / "copy"))
            for line, contexts in data.contexts_by_lineno(file).items():
                tests[name, line] |= {c.rpartition("|")[0] for c in contexts} & seconds.keys()
    return tests, seconds


def chosen(mutant: Mutant, tests: dict[tuple[str, int], set[str]], seconds: dict[str, float]) -> list[str]:
    """Returns the tests that run a mutant's line in their own process, quickest first."""
    running = tests.get((mutant.file, mutant.line), set()) or set().union(
        *(found for (file, _), found in tests.items() if file == mutant.file)
    )
    found, spent = list[str](), 0.0
    for test in sorted(running, key=lambda t: (seconds[t], t))[:FEW]:
        if (spent := spent + seconds[test]) < QUICK_S:
            found.append(test)
    return found


def notices(folder: Path, tests: list[str], limit_s: float) -> str | None:
    """Runs tests in the copy, in a fork of this process, which has imported what they need of others. Returns which
    of them failed first; None if all passed."""
    sys.stdout.flush()
    if (pid := os.fork()) == 0:
        os.setsid()
        os.dup2(os.open(folder / "said", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 1)
        os.dup2(1, 2)
        os.chdir(folder / "copy")
        sys.path.insert(0, str(folder / "copy"))
        os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder / "copy")}
        os._exit(pytest.main(["-q", "-p", "no:cacheprovider", "-W", REWRITE, "-x", *tests]))
    until_s = time.monotonic() + limit_s
    while not (ended := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < until_s:
        time.sleep(0.1)
    if not ended[0]:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return "it hangs"
    if os.waitstatus_to_exitcode(ended[1]) in (0, 5):
        return None
    said = (folder / "said").read_text(errors="replace")
    failed = (row[7:].split(" - ")[0] for row in said.splitlines() if row.startswith(("FAILED", "ERROR")))
    return next(failed, said[-200:])


def break_all(folder: Path, seed: int, most: int, quick: bool) -> None:
    subprocess.run(["git", "checkout", "--quiet", "--", "."], check=True, cwd=folder / "copy")  # what a kill left
    tests, seconds = lines_and_tests(folder)
    done = {json.dumps(json.loads(row)["mutant"]) for row in _results(folder)}
    quick_ones = sorted(seconds, key=lambda test: seconds[test])[: len(seconds) // 2]
    if said := notices(folder, quick_ones[::10], 900):
        sys.exit(f"without a mutant, a test fails: {said}")
    for mutant in drawn(folder / "copy", seed, most):
        if json.dumps(asdict(mutant)) in done:
            continue
        path = folder / "copy" / mutant.file
        whole, began = path.read_bytes(), time.monotonic()
        try:
            path.write_bytes(whole[: mutant.start] + mutant.text.encode() + whole[mutant.end :])
            own = chosen(mutant, tests, seconds)
            if quick and not own:
                continue
            killer = notices(folder, own, 120 + 10 * sum(seconds[t] for t in own)) if own else None
            for file in () if killer or quick else GROUPS[mutant.group][1].split():
                if killer := notices(folder, [f"tests/harvest/{file}"], 600):
                    break
        finally:
            path.write_bytes(whole)
        row = {
            "mutant": asdict(mutant),
            "killer": killer,
            "own": len(own),
            "quick": quick,
            "s": round(time.monotonic() - began, 1),
        }
        with (folder / "results.jsonl").open("a") as to:
            to.write(json.dumps(row) + "\n")


def cover(folder: Path) -> None:
    if not (folder / "copy").exists():
        subprocess.run(["git", "worktree", "add", "--detach", str(folder / "copy")], check=True, cwd=ROOT)
    (folder / "rc").write_text("[run]\nsource = harvest,finetune\n")
    for room in ROOMS:
        name = room.replace("/", "-")
        env = {**os.environ, "COVERAGE_FILE": str(folder / f"{name}.cov"), "OMP_NUM_THREADS": "1"}
        words = [
            "--cov",
            f"--cov-config={folder / 'rc'}",
            "--cov-context=test",
            "--cov-report=",
            f"--junitxml={folder / name}.xml",
        ]
        subprocess.run([*PYTEST, *words, f"tests/{room}"], cwd=folder / "copy", env=env, check=False)


def _results(folder: Path) -> list[str]:
    path = folder / "results.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def table(folder: Path) -> Iterator[str]:
    rows = [json.loads(row) for row in _results(folder)]
    yield "| group | mutants | killed | share |\n| --- | ---: | ---: | ---: |"
    for group in (*GROUPS, None):
        of = [r for r in rows if group in (None, r["mutant"]["group"])]
        killed = sum(r["killer"] is not None for r in of)
        yield f"| {group or 'all'} | {len(of)} | {killed} | {killed / max(1, len(of)):.1%} |"
    yield "\n| survivor | what was changed |\n| --- | --- |"
    for row in rows:
        if row["killer"] is None:
            m = row["mutant"]
            line = (folder / "copy" / m["file"]).read_text().splitlines()[m["line"] - 1].strip().replace("|", "\\|")
            yield f"| `{m['file']}:{m['line']}` | {m['kind'].replace('|', chr(92) + '|')}: `{line[:100]}` |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("step", choices=("cover", "break", "table"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="only tests that run the line in their own process")
    given = parser.parse_args()
    given.folder = given.folder.absolute()
    if given.step == "cover":
        cover(given.folder)
    elif given.step == "break":
        break_all(given.folder, given.seed, given.most, given.quick)
    else:
        print("\n".join(table(given.folder)))
