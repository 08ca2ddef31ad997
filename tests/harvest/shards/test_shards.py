"""Selection from an export by shards: the same as from the store, whatever the number of files and workers; kills, new
settings, judging anew, Parquet, and Slurm by a stand-in."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from test_import import Imports, imports
from test_select import CHAIN, HATS, outcomes, row

from harvest.core.errors import ConfigError, InputError
from harvest.selection.settings import changed_settings
from harvest.shards.executors import steps_of
from harvest.shards.job import ShardsJob, job_of
from harvest.shards.reading import rows_of

pytest.importorskip("datatrove")
__all__ = ["imports"]  # the fixture

AGAINST = "Anna has 31 apples and buys 17 more at the market. How many apples does she have?"


def mixed_rows(n: int = 60) -> list[dict[str, Any]]:
    """Answers of which some are copies of each other, some loops, some wrong, and some ask an evaluation's question."""
    rows = []
    for k in range(n):
        a, b = 3 + k // 2 if k % 6 == 5 else 3 + k, 4 + k % 7
        one = row(f"q{k}", a, b)
        if k % 10 == 3:
            one = row(f"q{k}", a, b, chain="I add the numbers again and again. " * 60)
        if k % 10 == 6:
            one |= {"question": AGAINST, "answer": "48", "response": one["response"].replace(f"{a + b}}}", "48}")}
        if k % 10 == 8:
            one |= {"response": one["response"].replace("\\boxed{", "\\boxed{1")}
        if k % 10 == 9:
            one = rows[-5] | {"id": f"q{k}", "response": rows[-5]["response"].replace("and", "and then", 1)}
        rows.append(one)
    return rows


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    path = tmp_path / "evaluation.jsonl"
    path.write_text(json.dumps({"id": "apples", "question": AGAINST, "answer": "48"}) + "\n")
    return path


def exported(imports: Imports, to: Path, files: int, form: str = "jsonl") -> list[dict[str, Any]]:
    """Exports all answers of the run and lays the rows out in so many files. Returns the rows."""
    whole = to.with_name(f"{to.name}-whole")
    imports.run("export", "r", "--which", "all", "--format", form, "--to", str(whole))
    to.mkdir()
    if form == "parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(whole / "train.parquet")
        size = -(-len(table) // files)
        for n in range(files):
            pq.write_table(table.slice(n * size, size), to / f"train-{n:05}-of-{files:05}.parquet")
        return list(table.to_pylist())
    lines = (whole / "train.jsonl").read_text().splitlines(keepends=True)
    size = -(-len(lines) // files)
    for n in range(files):
        (to / f"train-{n:05}-of-{files:05}.jsonl").write_text("".join(lines[n * size : (n + 1) * size]))
    return [json.loads(line) for line in lines]


def job(
    export: Path, to: Path, *given: tuple[str, str], judges: bool = False, questions: Sequence[str] = ()
) -> ShardsJob:
    to.mkdir(exist_ok=True)
    return job_of(export, to, changed_settings({}, given, None), questions=questions, judges=judges, unsafe_code=False)


def run_all(job: ShardsJob) -> None:
    """Runs every task in this process, as an executor would."""
    for step in steps_of(job, is_quiet=False):
        for rank in range(step.tasks):
            step(None, rank, step.tasks)


def became(job: ShardsJob, rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Maps each candidate's question to "" if it is selected, else to the reason."""
    found, at = {}, 0
    for path in map(Path, job.files):
        n = len(path.read_text().splitlines()) if path.suffix == ".jsonl" else _parquet_rows(path)
        name = job.name_of(job.files.index(str(path)))
        for line in (job.outcomes_folder / f"{name}.outcome").read_text().splitlines():
            place, reason, _, _ = json.loads(line)
            found[rows[at + place]["question_id"]] = reason or ""
        at += n
    return found


def _parquet_rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


def selected(to: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(to.glob("*.jsonl")) for line in path.read_text().splitlines()]


GIVEN = (("select.traces", "20"), ("select.seed", "4"))


def as_flags(given: Sequence[tuple[str, str]]) -> list[str]:
    return [word for name, value in given for word in (f"--{name}", value)]


@pytest.mark.parametrize(
    ("more", "reasons"),
    [
        ({"select.pool": "accepted", "select.near_questions": "true"}, {"near_duplicate_question"}),
        ({"select.pool": "all", "select.near_questions": "false"}, {"near_duplicate"}),
    ],
    ids=["accepted", "all"],
)
def test_shards_select_what_one_process_selects_from_the_store(
    more: dict[str, str], reasons: set[str], imports: Imports, evaluation: Path, tmp_path: Path
) -> None:
    given = (*GIVEN, ("select.against", str(evaluation)), *more.items())
    imports.run("import", imports.file("a.jsonl", mixed_rows()), "--name", "r")
    imports.run("select", "r", *as_flags(given))
    from_store = outcomes(imports)
    assert {"", "contaminated", "repetition", "not_chosen", *reasons} <= set(from_store.values())
    rows = exported(imports, tmp_path / "export", 7)
    of = job(tmp_path / "export", tmp_path / "to", *given)
    run_all(of)
    assert became(of, rows) == from_store
    kept = {r["question_id"] for r in selected(Path(of.to))}
    assert kept == {q for q, reason in from_store.items() if not reason}
    assert all(r["selected"] and r["unselected"] is None for r in selected(Path(of.to)))


def test_the_command_on_two_workers_gives_the_same_and_does_nothing_twice(
    imports: Imports, evaluation: Path, tmp_path: Path
) -> None:
    imports.run("import", imports.file("a.jsonl", mixed_rows()), "--name", "r")
    exported(imports, tmp_path / "export", 5)
    given = [*as_flags(GIVEN), "--select.against", str(evaluation)]
    out, _ = imports.run("shards", str(tmp_path / "export"), "--to", str(tmp_path / "to"), "--workers", "2", *given)
    one = job(tmp_path / "export", tmp_path / "one", *GIVEN, ("select.against", str(evaluation)))
    run_all(one)
    assert selected(tmp_path / "to") == selected(tmp_path / "one")
    assert "**selected**" in out
    assert "60 rows were read from 5 files" in out
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "to").rglob("*") if p.is_file()}
    _, err = imports.run("shards", str(tmp_path / "export"), "--to", str(tmp_path / "to"), *given)
    assert "nothing has changed" in err
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "to").rglob("*") if p.is_file()}


def test_other_settings_of_selection_read_no_file_again(imports: Imports, tmp_path: Path) -> None:
    imports.run("import", imports.file("a.jsonl", mixed_rows()), "--name", "r")
    exported(imports, tmp_path / "export", 3)
    first, second = (job(tmp_path / "export", tmp_path / "to", ("select.traces", n)) for n in ("20", "5"))
    run_all(first)
    read = {p: p.stat().st_mtime_ns for p in first.read_folder.iterdir()}
    run_all(second)
    assert read == {p: p.stat().st_mtime_ns for p in second.read_folder.iterdir()}
    assert len(selected(tmp_path / "to")) == 5
    run_all(first)
    assert len(selected(tmp_path / "to")) == 20
    path = Path(first.files[0])
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    changed = job(tmp_path / "export", tmp_path / "to", ("select.traces", "20"))
    assert changed.read_folder != first.read_folder, "a changed export is read again"
    path.unlink()
    run_all(job(tmp_path / "export", tmp_path / "to", ("select.traces", "20")))
    assert len(list((tmp_path / "to").glob("*.jsonl"))) == 2, "of the file that is gone nothing is left"


def test_all_that_decides_what_reading_gives_reads_anew(evaluation: Path, tmp_path: Path) -> None:
    export = tmp_path / "export"
    export.mkdir()
    (export / "a.jsonl").write_text("{}\n")
    to = tmp_path / "to"
    read = [
        job(export, to).read_folder, job(export, to, ("select.pool", "all")).read_folder,
        job(export, to, ("filters.format", "false")).read_folder,
        job(export, to, ("select.against", str(evaluation))).read_folder,
        job(export, to, questions=[str(evaluation)]).read_folder, job(export, to, judges=True).read_folder,
    ]  # fmt: skip
    evaluation.write_text(evaluation.read_text().replace("48", "49"))
    read.append(job(export, to, ("select.against", str(evaluation))).read_folder)
    read.append(job(export, to, questions=[str(evaluation)]).read_folder)
    assert len(set(read)) == len(read)


def test_a_killed_command_goes_on_with_the_files_that_are_left(imports: Imports, tmp_path: Path) -> None:
    imports.run("import", imports.file("a.jsonl", mixed_rows()), "--name", "r")
    exported(imports, tmp_path / "export", 12)
    to = tmp_path / "to"
    words = [sys.executable, "-m", "harvest", "shards", str(tmp_path / "export"), "--to", str(to), "--workers", "1"]
    process = subprocess.Popen(words, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
    while not list(to.glob(".shards/read-*/*.npz")) and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    of = job(tmp_path / "export", to)
    whole = {p: p.stat().st_mtime_ns for p in of.read_folder.glob("*.npz")}
    assert whole
    assert not of.is_current()
    run_all(of)
    for path, mtime_ns in whole.items():
        assert path.stat().st_mtime_ns == mtime_ns, "a finished file is read again"
    one = job(tmp_path / "export", tmp_path / "one")
    run_all(one)
    assert selected(to) == selected(tmp_path / "one")


def test_answers_are_judged_again_by_todays_checks(imports: Imports, tmp_path: Path) -> None:
    imports.run("import", imports.file("a.jsonl", mixed_rows(20)), "--name", "r")
    rows = exported(imports, tmp_path / "export", 2)
    for path in sorted((tmp_path / "export").glob("*.jsonl")):  # as if an older check had called all of them wrong
        lines = [json.loads(line) | {"accepted": False, "reason": "wrong"} for line in path.read_text().splitlines()]
        lines[0]["reason"], cut = "truncated", lines[0]["question_id"]
        lines[1]["verdicts"].append({"check": "human", "version": "1", "passed": False, "detail": "no", "share": None})
        marked = lines[1]["question_id"]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    unjudged = job(tmp_path / "export", tmp_path / "unjudged")
    run_all(unjudged)
    assert selected(Path(unjudged.to)) == []
    judged = job(tmp_path / "export", tmp_path / "judged", ("select.near", "false"), judges=True)
    run_all(judged)
    found = {r["question_id"]: r for r in selected(Path(judged.to))}
    assert found
    assert cut not in found, "an answer that was cut is not judged"
    assert marked not in found, "nor one that a person has judged"
    right = {r["question_id"] for r in rows if r["accepted"]}
    assert found.keys() <= right
    for name, one in found.items():
        assert one["accepted"] is True
        assert one["reason"] is None
        assert [v["check"] for v in one["verdicts"]].count("math") == 1, "the new verdict takes the old one's place"
        assert one["verdicts"][-1] | {"detail": ""} == {
            "check": "math", "version": one["verdicts"][-1]["version"], "passed": True, "detail": "", "share": None,
        }, name  # fmt: skip


def test_answers_are_judged_by_the_questions_of_the_source(imports: Imports, tmp_path: Path) -> None:
    """A gold answer that was mended since the export."""
    rows = [row(f"q{k}", 3 + k, 4 + 2 * k) for k in range(6)]
    imports.run("import", imports.file("a.jsonl", rows), "--name", "r")
    exported(imports, tmp_path / "export", 2)
    mended = [{k: r[k] for k in ("id", "question", "answer", "check")} for r in rows]
    mended[4]["answer"] = "1"
    source = tmp_path / "questions.jsonl"
    source.write_text("".join(json.dumps(one) + "\n" for one in mended))
    off = (("select.near", "false"), ("select.near_questions", "false"))
    of = job(tmp_path / "export", tmp_path / "to", *off, judges=True, questions=[str(source)])
    run_all(of)
    assert {r["question_id"] for r in selected(tmp_path / "to")} == {"q0", "q1", "q2", "q3", "q5"}


def test_parquet_in_is_parquet_out_with_the_same_columns(imports: Imports, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    imports.run("import", imports.file("a.jsonl", mixed_rows(20)), "--name", "r")
    rows = exported(imports, tmp_path / "export", 3, "parquet")
    of = job(tmp_path / "export", tmp_path / "to")
    run_all(of)
    tables = [pq.read_table(p) for p in sorted((tmp_path / "to").glob("*.parquet"))]
    assert len(tables) == 3
    assert all(t.schema == pq.read_schema(of.files[0]) for t in tables)
    kept = {r["question_id"] for t in tables for r in t.to_pylist()}
    assert kept == {q for q, reason in became(of, rows).items() if not reason}


def test_a_task_in_another_folder_finds_the_evaluation_and_the_questions(
    imports: Imports, evaluation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another node of a cluster. Both were named relative to where the command was started."""
    rows = [row(f"q{k}", 3 + k, 4 + 2 * k) for k in range(4)]
    rows[2] |= {
        "question": AGAINST,
        "answer": "48",
        "response": rows[2]["response"].replace("\\boxed{13}", "\\boxed{48}"),
    }
    imports.run("import", imports.file("a.jsonl", rows), "--name", "r")
    exported(imports, tmp_path / "export", 1)
    source = tmp_path / "questions.jsonl"
    source.write_text("".join(json.dumps({k: r[k] for k in ("id", "question", "answer")}) + "\n" for r in rows))
    monkeypatch.chdir(tmp_path)
    against = ("select.against", evaluation.name)
    of = job(tmp_path / "export", tmp_path / "to", against, judges=True, questions=[source.name])
    monkeypatch.chdir("/")
    run_all(of)
    assert {r["question_id"] for r in selected(tmp_path / "to")} == {"q0", "q1", "q3"}


def test_two_questions_of_one_id_are_two_questions(imports: Imports, evaluation: Path, tmp_path: Path) -> None:
    """As in the exports of two runs that lie in one folder."""
    export = tmp_path / "export"
    export.mkdir()
    given = {"question_id": "q1", "answer": "\\boxed{7}", "accepted": True, "reasoning": CHAIN.format(a=3, b=4, c=7)}
    clean = {"question": HATS.format(a=3, b=4), "gold": "7"}
    asked = {
        "question": AGAINST,
        "gold": "48",
        "answer": "\\boxed{48}",
        "reasoning": "31 apples and 17 more are 48 of them.",
    }
    for name, more in (("one", clean), ("two", asked)):
        (export / f"{name}.jsonl").write_text(json.dumps(given | more) + "\n")
    of = job(export, tmp_path / "to", ("select.against", str(evaluation)), ("filters.format", "false"))
    run_all(of)
    assert [r["question"] for r in selected(tmp_path / "to")] == [clean["question"]]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ('{"messages": []}', "question_id, answer or accepted is missing"),
        ('{"question_id": "a", "answer": "1", "accepted": true, "question": ""}', "question: not a text, or empty"),
    ],
)
def test_a_row_that_is_none_is_named(line: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question_id": "a", "answer": "1", "accepted": true, "question": "What is 1?"}\n' + line + "\n")
    with pytest.raises(InputError, match=rf"a\.jsonl, line 2: .*{re.escape(words)}"):
        list(rows_of(path, 0, {}))


def test_after_a_bad_row_the_other_files_are_kept(imports: Imports, tmp_path: Path) -> None:
    imports.run("import", imports.file("a.jsonl", mixed_rows(12)), "--name", "r")
    exported(imports, tmp_path / "export", 3)
    bad = tmp_path / "export" / "train-00001-of-00003.jsonl"
    bad.write_text(bad.read_text() + "{\n")
    args = ["shards", str(tmp_path / "export"), "--to", str(tmp_path / "to"), "--workers", "2"]
    _, err = imports.run(*args, code=2)
    assert "train-00001-of-00003.jsonl, line 5" in err
    assert len(list((tmp_path / "to").glob(".shards/read-*/*.npz"))) == 2
    assert not list((tmp_path / "to").glob("*.jsonl"))


@pytest.mark.parametrize(
    "setting", [("select.min_failed", "0.5"), ("rewrite.on", "true")], ids=lambda setting: str(setting[0])
)
def test_a_setting_that_needs_the_store_is_refused(setting: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="needs the run's store"):
        job(tmp_path, tmp_path / "to", setting)


def test_folders_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder with"):
        job(tmp_path / "none", tmp_path / "to")
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "a.jsonl").write_text("{}\n")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other things"):
        job(tmp_path / "export", tmp_path / "theirs")
    with pytest.raises(InputError, match="is the export itself"):
        job(tmp_path / "export", tmp_path / "export")


SBATCH = """#!{python}
# Runs each task of the job at once, in order, as Slurm would once the jobs before it have ended.
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
first, last = re.search(r"--array=(\\d+)-(\\d+)", script).groups()
if "launch_pickled_pipeline" in script:
    for task in range(int(first), int(last) + 1):
        env = os.environ | {{"SLURM_ARRAY_TASK_ID": str(task), "SLURM_NODELIST": "localhost", "RUN_OFFSET": "0"}}
        subprocess.run(["bash", sys.argv[-1]], env=env, check=True, stdout=sys.stderr)
print("Submitted batch job 7")
"""


def test_on_slurm_the_jobs_wait_for_each_other_and_give_the_same(imports: Imports, tmp_path: Path) -> None:
    imports.run("import", imports.file("a.jsonl", mixed_rows(20)), "--name", "r")
    exported(imports, tmp_path / "export", 2)
    tools = tmp_path / "bin"
    tools.mkdir()
    texts = {
        "sbatch": SBATCH.format(python=sys.executable),
        "srun": '#!/bin/bash\nwhile [[ "$1" == -* ]]; do [[ "$1" == -n ]] && shift; shift; done\nexec "$@"\n',
        "scontrol": "#!/bin/bash\necho localhost\n",
        "launch_pickled_pipeline": f"#!{sys.executable}\n"
        "from datatrove.tools.launch_pickled_pipeline import main\nmain()\n",
    }
    for name, text in texts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    imports.env["PATH"] = f"{tools}:{os.environ['PATH']}"
    args = ["shards", str(tmp_path / "export"), "--to", str(tmp_path / "to")]
    _, err = imports.run(*args, "--slurm", "cpu", "01:00:00")
    assert "submitted: 2 files to read" in err
    one = job(tmp_path / "export", tmp_path / "one")
    run_all(one)
    assert selected(tmp_path / "to") == selected(tmp_path / "one")
    out, _ = imports.run(*args)
    assert "**selected**" in out
