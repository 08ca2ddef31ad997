"""A stranger checks where a student's rows come from: what holds, what was tampered with, what a withdrawal touches."""

import io
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from hashlib import sha256
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import ROOT, scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from proofs import Proofs, checked, proofs

from finetune.commands.arguments import parser
from finetune.commands.verify_student import run
from finetune.proof.check import price_of
from finetune.proof.withdrawal import touched_by
from harvest.core.errors import InputError, WinnowError
from harvest.proof.faults import Faults
from harvest.proof.manifest import COPIES, NAME, marks_of, root_of
from harvest.proof.withdrawal import withdrawal_of

__all__ = ["proofs"]  # the fixture


def verify(*words: str | Path) -> tuple[int, str, str]:
    """The command in this process: (exit code, stdout, stderr)."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = run(parser().parse_args(["verify-student", *map(str, words)]), [])
        except WinnowError as e:
            code = e.exit_code
            err.write(f"error: {e}\n")
    return code, out.getvalue(), err.getvalue()


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def student(proofs: Proofs) -> Path:
    return proofs.student("student", held_out=0.3)


def test_all_holds_from_the_trained_tokens_to_the_answer_in_the_store(proofs: Proofs, student: Path) -> None:
    code, out, _ = verify(student, proofs.dataset, "--store", proofs.url)
    assert code == 0, out
    assert "sources: a: 5; b: 5" in out
    assert "licences: MIT: 9; unknown: 1" in out
    assert "$0.045, the price of 1 unknown" in out
    assert "10 answers compared with run r in the store" in out
    assert "made anew from the store: the same 10 rows" in out
    assert "not checked" not in out
    assert out.splitlines()[-1] == "all that was checked holds"


def test_a_row_of_a_student_leads_to_its_tokens_its_price_and_its_verdict(proofs: Proofs, student: Path) -> None:
    header, *rows, sums, _ = lines_of(student / NAME)
    name = header["data"][0]["manifest"].removeprefix("sha256:") + ".manifest"
    of_data = lines_of(student / COPIES / name)[1:-2]
    texts = lines_of(proofs.dataset / "train.jsonl")
    lines = (proofs.dataset / "train.jsonl").read_bytes().splitlines()
    assert {row["fate"] for row in rows} == {"trained", "held_out", "left_out"}
    assert (sums["trained"] + sums["held_out"], sums["left_out"]) == (9, 1)
    for row in rows:
        origin, text = of_data[row["data_row"]], texts[row["data_row"]]
        assert row["sha256"] == origin["sha256"] == sha256(lines[row["data_row"]]).hexdigest()
        assert (row["question_id"], origin["response_id"]) == (text["question_id"], text["teacher"]["response_id"])
        assert origin["cost_usd"] == text["cost_usd"]
        assert origin["verdicts"] == [{"check": "math", "version": text["verdicts"][0]["version"], "passed": True}]
        ids = text["messages"][-1]["content"].encode()
        if row["fate"] != "left_out":
            tokens = b"".join(i.to_bytes(4, "little") for i in ids) + b"\0" + b"\1" * (len(ids) - 1)
            assert row["tokens_sha256"] == sha256(tokens).hexdigest()
            assert (row["tokens"], row["trained_tokens"]) == (len(ids), len(ids) - 1)
    assert (of_data[9]["cost_usd"], of_data[9]["licence"]) == (None, None)  # unknown, and said so
    assert "One and" not in (student / NAME).read_text() + (student / COPIES / name).read_text()  # no text twice


def test_a_stranger_has_the_root_from_coreutils_alone(proofs: Proofs) -> None:
    line = ["sh", "-c", f"head -n -1 {NAME} | sha256sum"]
    whole = subprocess.run(line, cwd=proofs.dataset, text=True, capture_output=True, check=True)
    assert root_of(proofs.dataset / NAME) == f"sha256:{whole.stdout.split()[0]}"
    assert str(root_of(proofs.dataset / NAME)) in (proofs.dataset / "README.md").read_text()


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_stranger_rebuilds_dataset_and_report_from_store_and_manifest(form: str, tmp_path: Path) -> None:
    ours = Proofs(tmp_path / "ours" if (tmp_path / "ours").mkdir() is None else tmp_path, form)
    there = tmp_path / "stranger"
    there.mkdir()
    shutil.copy(ours.imports.store, there / "store.db")
    shutil.copy(ours.dataset / NAME, there / NAME)
    shutil.copytree(ours.folder / "runs", tmp_path / "runs")
    shutil.rmtree(ours.folder)
    code, out, _ = verify(there / NAME, "--store", f"sqlite:///{there}/store.db")
    assert code == 0, out
    assert "made anew from the store: the same 10 rows" in out
    env = {**os.environ, "WINNOW_RUNS": str(there / "runs"), "PYTHONPATH": str(ROOT)}
    store = ("--store", f"sqlite:///{there}/store.db")
    for words in (("select", "r"), ("report", "r"), ("export", "r", "--which", "accepted", "--to", "again")):
        done = forked.run(
            "harvest", *words, *(("--format", form) if "--to" in words else ()), *store, cwd=there, env=env
        )
        assert done.returncode == 0, done.stderr
    assert root_of(there / "again" / NAME) == root_of(there / NAME)
    rebuilt, first = (json.loads((p / "r/report.json").read_text()) for p in (there / "runs", tmp_path / "runs"))
    assert {**rebuilt, "selection": None} == {**first, "selection": None}  # the selection says when it was made


# ---- tampering


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value in a JSON value that holds no other."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    yield from (leaf for key, inner in inside for leaf in leaves(inner, (*path, key)))
    if not isinstance(value, dict | list):
        yield path


def another(value: Any, r: random.Random) -> Any:
    """Another value in its place: near to it, of another type, or nothing."""
    near: list[Any] = [None, True, 7, "", "other", [], {"a": 1}]
    if isinstance(value, str):
        near += [value + " ", value[:-1], value.swapcase(), value[::-1]]
    if isinstance(value, bool):
        near += [not value]
    elif isinstance(value, int):
        near += [value + 1, -value - 1, str(value)]
    return r.choice([one for one in near if one != value or type(one) is not type(value)])


def tampered(path: Path, r: random.Random) -> tuple[int, str]:
    """Changes one value of one line of a file. Returns (the line's number, the name of the top-level field)."""
    lines = path.read_text().splitlines()
    n = r.randrange(len(lines))
    value = json.loads(lines[n])
    leaf = r.choice(list(leaves(value)))
    inner = value
    for key in leaf[:-1]:
        inner = inner[key]
    inner[leaf[-1]] = another(inner[leaf[-1]], r)
    lines[n] = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    path.write_text("\n".join(lines) + "\n")
    return n, str(leaf[0])


def test_every_tampered_field_is_caught_with_its_file_its_row_and_its_field(proofs: Proofs, student: Path) -> None:
    copy = next((student / COPIES).glob("*.manifest"))
    files = [proofs.dataset / "train.jsonl", proofs.dataset / NAME, student / NAME, copy]
    whole = {path: path.read_bytes() for path in files}
    known = {"id", "question_id", "accepted", "reason", "cost_usd", "source", "licence", "teacher_terms", "asked_at"}
    for seed in range(scaled(100, 1000)):
        r = random.Random(seed)
        path = r.choice(files)
        n, name = tampered(path, r)
        _, faults = checked(student, proofs.dataset)
        path.write_bytes(whole[path])
        said = [(fault.file, fault.row, fault.field) for fault in faults.kept]
        assert faults.total, (seed, path, n, name)
        if path.name == "train.jsonl":
            fields = {name} if name in known else {*known, "verdicts", "sha256", "first_response_id"} | TEACHERS
            assert any(str(path) == f and n == row and field in fields for f, row, field in said), (seed, name, said)
            continue
        row = n - 1 if 0 < n < len(whole[path].splitlines()) - 2 else None
        fields = {name, "marks"} if name != "marks" else {field for _, _, field in said}
        assert any((str(path) == f and row == there and field in fields) or (field == "root" and row is None)
                   for f, there, field in said), (seed, path, n, name, said)  # fmt: skip
    assert not checked(student, proofs.dataset)[1].total


TEACHERS = {"teacher", "served_model", "served_by", "response_id"}


def rewritten(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> str:
    """Changes a manifest as somebody does who knows how it is made: marks, and root, fit again. Returns the root."""
    lines = lines_of(path)[:-1]
    for line in lines:
        line.pop("marks")
    change(lines)
    text = "".join(
        json.dumps({**line, "marks": marks_of(line)}, ensure_ascii=False, separators=(",", ":")) + "\n"
        for line in lines
    )
    root = f"sha256:{sha256(text.encode()).hexdigest()}"
    path.write_text(text + json.dumps({"root": root}) + "\n")
    return root


def test_a_manifest_that_was_rewritten_whole_is_caught_by_what_stands_beside_it(proofs: Proofs, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(proofs.dataset, data)

    def cheaper(lines: list[dict[str, Any]]) -> None:
        lines[3]["cost_usd"] = "0.001"
        lines[-1]["cost_usd"] = "0.043"

    before = root_of(data / NAME)
    root = rewritten(data / NAME, cheaper)
    said = [fault.words() for fault in checked(data)[1].kept]
    assert len(said) == 2, said
    assert said[0] == f"{data}/train.jsonl, row 2, cost_usd: is not what the manifest says (stored 0.001, found 0.003)"
    assert f"README.md, root: names another root (stored {before}, found {root})" in said[1]
    # Whoever rewrites all of it is found by the root that was published, and by nothing else.
    (data / "README.md").unlink()
    text = (data / "train.jsonl").read_text().replace('"cost_usd":"0.003"', '"cost_usd":"0.001"')
    (data / "train.jsonl").write_text(text)
    digest = sha256(text.splitlines()[2].encode()).hexdigest()

    def consistent(lines: list[dict[str, Any]]) -> None:
        lines[3]["sha256"] = digest
        lines[-1]["dataset_sha256"] = sha256("".join(line["sha256"] for line in lines[1:-1]).encode()).hexdigest()

    rewritten(data / NAME, consistent)
    assert not checked(data)[1].total
    code, out, _ = verify(data, "--root", str(before))
    assert code == 2
    assert f"root: is not the manifest with the root that was published (stored {before}" in out
    code, out, _ = verify(data, "--store", proofs.url)
    assert code == 2
    assert f"{data}, row 2, cost_usd: is not what the store says (stored 0.003, found 0.001)" in out


def test_a_student_that_claims_other_rows_is_caught_by_the_copy_of_its_datas_manifest(
    student: Path, tmp_path: Path
) -> None:
    there = tmp_path / "student"
    shutil.copytree(student, there)

    def claims(lines: list[dict[str, Any]]) -> None:
        lines[2]["sha256"], lines[3]["question_id"], lines[4]["data_row"] = "0" * 64, "q-other", 99

    rewritten(there / NAME, claims)
    said = {(fault.row, fault.field) for fault in checked(there)[1].kept}
    assert said == {(1, "sha256"), (2, "question_id"), (3, "data_row")}


def test_the_store_names_the_column_of_a_text_that_was_changed(proofs: Proofs, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(proofs.dataset, data)
    text = (data / "train.jsonl").read_text()
    (data / "train.jsonl").write_text(text.replace("One and 4 more.", "One and 4 less.", 1))
    code, out, _ = verify(data, "--store", proofs.url)
    assert code == 2
    assert "train.jsonl, row 4, sha256: is not what was written: its text, or another column" in out
    assert "train.jsonl, row 4, messages[1].content: is not what the store says" in out
    assert "(stored <think>" in out
    assert "One and 4 less." in out


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda lines: lines[:3] + lines[4:], "row 3, sha256: has a row that is in no file"),
        (lambda lines: [*lines[:3], lines[5], *lines[3:]], "row 3: is in no row of the manifest"),
        (lambda lines: lines[:-2], "row 9, sha256: has a row that is in no file"),
        (lambda lines: [*lines, "{}"], "row 10: is in no row of the manifest"),
        (lambda lines: [*lines[:3], "torn", *lines[4:]], "row 3, sha256: cannot be read as a row"),
    ],
)
def test_rows_that_are_gone_or_were_added_are_named(
    proofs: Proofs, tmp_path: Path, change: Callable[[list[str]], list[str]], fault: str
) -> None:
    data = tmp_path / "data"
    shutil.copytree(proofs.dataset, data)
    lines = (data / "train.jsonl").read_text().splitlines()
    (data / "train.jsonl").write_text("\n".join(change(lines)) + "\n")
    said = [one.words() for one in checked(data)[1].kept]
    assert any(fault in words for words in said), said
    assert len(said) <= 2, said  # the other rows are not taken for changed ones


def test_weights_that_were_swapped_are_named(student: Path, tmp_path: Path) -> None:
    there = tmp_path / "student"
    shutil.copytree(student, there)
    (there / "model.safetensors").write_bytes(b"others")
    (there / "adapter.bin").write_bytes(b"more")
    said = [(fault.file, fault.field) for fault in checked(there)[1].kept]
    assert said == [(f"{there}/adapter.bin", "sha256"), (f"{there}/model.safetensors", "sha256")]


# ---- hostile manifests

HOSTILE = [
    b"", b"\n", b"null\n", b"[]\n", b"{}\n", b'{"root":1}\n', b"\xff\xfe\n", b"{" * 5000,
    b'{"manifest":1,"kind":"student"}\n',
    b'{"manifest":1,"kind":"dataset","marks":[]}\n{"row":0}\n{"rows":' + b"9" * 6000 + b'}\n{"root":"x"}\n',
    b'{"manifest":1,"kind":["student"]}\n', b'{"manifest":1,"kind":"dataset"}\n{"root":' + b"9" * 6000 + b"}\n",
    b'{"manifest":1,"kind":"student","data":[{"manifest":"sha256:../../etc/passwd"},7],"teachers":{},"began_with":[]}\n',
    b'{"manifest":1,"kind":"student","data":' + b"[" * 150 + b"]" * 150 + b"}\n",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("name", ["dataset", "student"])
def test_a_hostile_manifest_is_a_fault_and_no_traceback(
    text: bytes, name: str, proofs: Proofs, student: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    shutil.copytree(proofs.dataset if name == "dataset" else student, there)
    (there / NAME).write_bytes(text)
    assert checked(there)[1].total
    assert all(fault.words().isprintable() for fault in checked(there)[1].kept)
    faults = Faults()
    touched_by([str(there)], withdrawal_of(["source=a"], Path()), faults)
    assert faults.total


@given(data=st.data())
@settings(max_examples=60)
def test_a_manifest_with_any_line_in_it_is_a_fault(data: Any, proofs: Proofs, student: Path) -> None:
    path = student / NAME
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3)
    )
    line = st.dictionaries(st.sampled_from([*json.loads(lines[1]), "rows", "manifest", "kind", "data"]), values)
    n, new = data.draw(st.integers(0, len(lines) - 1)), data.draw(line.map(json.dumps).map(str.encode) | st.binary())
    lines[n] = new.replace(b"\n", b"") + b"\n"
    path.write_bytes(b"".join(lines))
    try:
        faults = checked(student)[1]
        touched_by([str(student)], withdrawal_of(["source=a"], Path()), Faults())
    finally:
        path.write_bytes(whole)
    assert faults.total
    assert all(fault.words().isprintable() for fault in faults.kept)


@pytest.mark.parametrize("cut", [0.2, 0.6, 0.99])
def test_a_torn_manifest_is_named(cut: float, proofs: Proofs, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(proofs.dataset, data)
    whole = (data / NAME).read_bytes()
    (data / NAME).write_bytes(whole[: int(cut * len(whole))])
    assert any("it has no end" in fault.why for fault in checked(data)[1].kept)
    assert price_of(checked(data)[0][0]).startswith("of unknown cost") == (cut < 0.9), (
        "with the sums torn off, never zero"
    )


def test_what_has_no_manifest_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, out, err = verify(tmp_path / "empty")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "has no winnow.manifest" in err
    assert verify(tmp_path / "nowhere")[2].count("\n") == 1
    assert verify(tmp_path, "--withdraw", "colour=red")[2].startswith("error: 'colour=red': write FIELD=VALUE")


# ---- withdrawal


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Proofs:
    """A student, one merged out of it, one that stands on that, and one that stands on none."""
    proofs = Proofs(tmp_path_factory.mktemp("family"))
    first = proofs.student("students/first" if (proofs.folder / "students").mkdir() is None else "")
    merged = proofs.merged("students/merged", first)
    proofs.student("students/second", began_with=str(merged))
    return proofs


def test_a_withdrawn_source_names_its_rows_and_what_must_be_trained_again(family: Proofs, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    code, out, _ = verify(family.folder / "students", "--withdraw", "source=b", "--rows", rows)
    assert code == 0
    said = out.splitlines()
    assert said[0].startswith("dataset of run r: 5 of 10 rows are withdrawn (source=b)")
    students = family.folder / "students"
    assert said[1:5] == [
        "train again, in this order:",
        f"  {students}/first: 4 of its 10 rows are withdrawn and were trained",
        f"  {students}/merged: stands on {students}/first",
        f"  {students}/second: 4 of its 10 rows are withdrawn and were trained; stands on {students}/merged",
    ]
    assert """without = ["source=b"]""" in said[6]
    assert said[7] == """  or: winnow select r --select.without '["source=b"]'"""
    found = [json.loads(one) for one in rows.read_text().splitlines()]
    of_first = {one["id"] for one in found if one["of"] == f"{students}/first" and one["fate"] == "trained"}
    texts = lines_of(family.dataset / "train.jsonl")
    assert of_first == {row["id"] for row in texts[:9] if row["source"] == "b"}


@pytest.mark.parametrize(
    ("words", "rows"),
    [(["source=a"], 5), (["licence="], 1), (["response=chat-3"], 1), (["question=q1", "question=q4"], 2),
     (["question=@ids.txt"], 2), (["source=a", "response=chat-3"], 6), (["teacher=some-reasoner"], 10),
     (["source=c"], 0)],
)  # fmt: skip
def test_a_withdrawal_by_each_word(words: list[str], rows: int, family: Proofs, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("q2\n\nq7\nunknown\n")
    faults = Faults()
    found = touched_by([str(family.dataset)], withdrawal_of(words, tmp_path), faults)
    assert ([one.withdrawn for one in found], faults.total) == ([rows], 0)


def test_select_leaves_out_what_was_withdrawn(family: Proofs) -> None:
    setting = '["source=b", "response=chat-2"]'
    family.imports.run("select", "r", "--select.without", setting)
    family.imports.run("export", "r", "--to", family.folder / "without")
    assert [row["source"] for row in lines_of(family.folder / "without/train.jsonl")] == ["a"] * 4
    family.imports.run("select", "r", "--select.without", '["colour=red"]', code=2)
    faults = Faults()
    found = touched_by([str(family.folder / "without")], withdrawal_of(["source=b"], Path()), faults)
    assert [(one.rows, one.withdrawn) for one in found] == [(4, 0)]


def test_only_held_out_rows_are_no_reason_to_train_again(tmp_path: Path) -> None:
    proofs = Proofs(tmp_path)
    student = proofs.student("student", held_out=0.3)
    held = next(row for row in lines_of(student / NAME)[1:-2] if row["fate"] == "held_out")
    code, out, _ = verify(student, "--withdraw", f"question={held['question_id']}")
    assert code == 0
    assert "train again" not in out
    assert f"{student}: 1 rows" in out


def test_it_loads_no_torch(student: Path) -> None:
    code = f"import sys; from finetune.__main__ import main; main(['verify-student', {str(student)!r}]); "
    done = subprocess.run(
        [sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_folder_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no winnow\.manifest"):
        touched_by([str(tmp_path)], withdrawal_of(["source=a"], Path()), Faults())
