"""Exports as their readers load them: every layout, both formats, shards, hostile text, and a stop in the middle."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from conftest import ROOT
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_import import Imports, completion, imports, line

from finetune.rows.conversation import conversation
from finetune.rows.dataset import BadRow, read_rows
from finetune.rows.faults import RowFault
from finetune.rows.layout import LAYOUTS as MARKS_OF_FINETUNE
from finetune.rows.layout import turn
from harvest.commands.export import write_export
from harvest.core.chain_marks import SOLUTION, TRAINING_MARKS
from harvest.core.config import Export, load
from harvest.core.errors import ConfigError, InputError
from harvest.core.foreign_json import clean
from harvest.core.nouns import Outcome, Verdict
from harvest.export.layouts import LAYOUTS, training_columns, training_part
from harvest.export.rows import columns_of
from harvest.export.shards import Shards
from harvest.store import Store

__all__ = ["imports"]  # the fixture

THINK = MARKS_OF_FINETUNE["think"]
WAYS = [
    Export(layout=layout, format=form, **more)  # type: ignore[arg-type]
    for layout in LAYOUTS
    for form in ("jsonl", "parquet")
    for more in (
        {},
        {"marks": "sky-t1"},
        {"reasoning": "none"},
        *(
            [{"reasoning": "apart", "reasoning_field": f} for f in ("reasoning_content", "thinking", "reasoning")]
            if LAYOUTS[layout].turn_apart
            else []
        ),
    )
]
"""Every way to write a row."""


def bought(imports: Imports, n: int = 6, reasoning: str = "One\u2028and the next.", **more: Any) -> None:
    rows = [
        line(i, completion(f"It is \\boxed{{{2 * i + 1}}}", reasoning=f"{reasoning} {i}"), licence="MIT", **more)
        for i in range(n)
    ]
    imports.take(imports.file("a.jsonl", rows))


def exported(imports: Imports, to: str = "out", **given: Any) -> int:
    """How many rows, of all that was accepted (the filters refuse odd texts); in this process, which saves starting
    Python for each."""
    url, given = f"sqlite:///{imports.store}", {"which": "accepted"} | given
    _, n, _ = write_export("r", url, to=imports.folder / to, given=given)
    return n


def loaded(folder: Path) -> "datasets.Dataset":
    return datasets.load_dataset(str(folder), split="train", cache_dir=str(folder.parent / "cache"))


def test_the_marks_are_those_that_finetune_reads() -> None:
    theirs = {n: (m.open, m.close, m.answer_open, m.answer_close) for n, m in MARKS_OF_FINETUNE.items()}
    assert theirs == TRAINING_MARKS


# ---- what is written comes back

MARKED = sorted({m.strip() for before, after, _, _ in TRAINING_MARKS.values() for m in (before, after)} | {SOLUTION[1]})
texts = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.sampled_from(
            [*MARKED, "\u2028", "\x85", "\r\n", "\x00", "\ud800", "\ufeff", "<|im_end|>", '"', "\\", "---", "a" * 99]
        ),
    ),
    min_size=1,
    max_size=5,
).map("".join)
spoken = texts.filter(lambda t: bool(clean(t).strip()))


def read_back(folder: Path) -> list[Any]:
    return [value for _, _, value in read_rows(str(folder))]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@given(
    asked=st.tuples(st.none() | spoken, spoken),
    answers=st.lists(st.tuples(st.none() | spoken, spoken), min_size=1, max_size=3),
    data=st.data(),
)
@example(asked=(None, "q"), answers=[("a </think> b", "c </think> d <|end_of_thought|> e")], data=None)
@example(asked=("s", "q"), answers=[("a", "b <|end_of_thought|> c <|begin_of_solution|> d")], data=None)
@example(asked=("s", "q"), answers=[("<think> a", "b </think> c"), (None, "d")], data=None)
@settings(max_examples=60)
def test_every_layout_comes_back_as_the_same_conversation(
    form: str,
    tmp_path_factory: pytest.TempPathFactory,
    asked: tuple[str | None, str],
    answers: list[tuple[str | None, str]],
    data: Any,
) -> None:
    ways = [w for w in WAYS if w.format == form]
    for way in ways if data is None else [data.draw(st.sampled_from(ways))]:
        folder = tmp_path_factory.mktemp("way")
        before = [{"role": role, "content": text} for role, text in zip(("system", "user"), asked, strict=True) if text]
        columns = {**training_columns(way), "reasoning": "string", "answer": "string"}
        shards = Shards(folder, form, columns, 400)
        for reasoning, answer in answers:
            kept = None if way.reasoning == "none" else reasoning
            row = training_part(before, reasoning, answer, way) | {"reasoning": kept, "answer": answer}
            shards.put(row, len(answer))
        shards.close()
        values = read_back(folder)
        assert len(values) == len(answers)
        for value, (reasoning, answer) in zip(values, answers, strict=True):
            chain = None if way.reasoning == "none" or reasoning is None else clean(reasoning)
            assert_the_same(value, before, chain, clean(answer))


def assert_the_same(value: Any, before: list[dict[str, str]], reasoning: str | None, answer: str) -> None:
    """The conversation as it was, or refused by name where its text quotes marks; never another one."""
    assert not isinstance(value, BadRow), value
    refused = None
    quotes = any(mark in text for mark in MARKED for text in (reasoning or "", answer))
    try:
        messages = conversation(value, THINK)
        got = turn(messages[-1]["content"], THINK)
    except RowFault as fault:
        refused = fault
    if refused is not None:
        assert quotes, refused
        assert refused.kind in ("chain", "answer")
        return
    assert [dict(m) for m in messages[:-1]] == [{**m, "content": clean(m["content"])} for m in before]
    want = answer if reasoning is None else THINK.write(reasoning, answer)
    if reasoning is None and quotes:
        return  # an answer that begins in a mark reads as a chain, whoever wrote it
    assert got == want


def test_a_row_of_many_megabytes_comes_back_whole(tmp_path: Path) -> None:
    huge = "\u2028é" * 1_000_000
    for form in ("jsonl", "parquet"):
        way = Export(format=form)
        (folder := tmp_path / form).mkdir()
        shards = Shards(folder, form, training_columns(way), 1_000_000)
        for k in range(3):
            shards.put(training_part([{"role": "user", "content": f"q{k}"}], huge, f"a{k}", way), len(huge))
        assert len(shards.close()) == (3 if form == "jsonl" else 1), "Parquet packs a text that repeats itself"
        rows = read_back(folder)
        assert [r["messages"][0]["content"] for r in rows] == ["q0", "q1", "q2"]
        assert all(r["messages"][1]["content"] == THINK.write(huge, f"a{k}") for k, r in enumerate(rows))


# ---- the real readers


def test_datasets_loads_every_layout_with_the_types_of_the_card(imports: Imports) -> None:
    bought(imports, reasoning="quoting </think> and \x00 and \ud83d\ude00.")
    for layout, known in LAYOUTS.items():
        rows = []
        for form in ("jsonl", "parquet"):
            to = f"{layout}-{form}"
            assert exported(imports, to, layout=layout, format=form) == 6
            rows.append(loaded(imports.folder / to))
        assert rows[0].to_list() == rows[1].to_list()
        assert rows[0].features == rows[1].features
        if layout == "axolotl":  # which hands the path to `datasets`, and that finds no name in "."
            [entry] = yaml.safe_load((imports.folder / to / "axolotl.yaml").read_text())["datasets"]
            assert loaded(imports.folder / entry["path"]).to_list() == rows[1].to_list()
        assert rows[0][0][known.prompt_column] == {
            "name": "imported",
            "sha256": rows[0][0][known.prompt_column]["sha256"],
        }


def test_several_files_are_one_dataset(imports: Imports) -> None:
    bought(imports, 30, reasoning="long " * 20_000)
    for form in ("jsonl", "parquet"):
        exported(imports, shard_mb=1, format=form)
        names = sorted(p.name for p in (imports.folder / "out").iterdir())
        files = [n for n in names if n.startswith("train")]
        if form == "jsonl":
            assert len(files) > 3
            assert files == [f"train-{i:05}-of-{len(files):05}.jsonl" for i in range(len(files))]
            assert all(p.stat().st_size < 1_300_000 for p in (imports.folder / "out").glob("train*"))
        assert [r["question_id"] for r in loaded(imports.folder / "out")] == [f"q{i}" for i in range(30)]
        assert [v["question_id"] for v in read_back(imports.folder / "out")] == [f"q{i}" for i in range(30)]


def test_a_file_that_is_missing_is_noticed(imports: Imports) -> None:
    bought(imports, 30, reasoning="long " * 20_000)
    exported(imports, shard_mb=1)
    next((imports.folder / "out").glob("train-00001-of-*.jsonl")).unlink()
    with pytest.raises(FileNotFoundError):
        loaded(imports.folder / "out")


def test_the_training_part_alone_is_what_openai_takes(imports: Imports) -> None:
    bought(imports)
    exported(imports, columns="training", reasoning="none")
    rows = [json.loads(row) for row in (imports.folder / "out/train.jsonl").read_text().splitlines()]
    assert rows[0] == {
        "messages": [
            {"role": "user", "content": "What is 0 + 1?"},
            {"role": "assistant", "content": "It is \\boxed{1}"},
        ]
    }


def test_an_export_without_a_row_is_whole(imports: Imports) -> None:
    imports.take(imports.file("a.jsonl", [line(1, "\\boxed{0}")]))
    assert exported(imports) == 0
    assert (imports.folder / "out/train.jsonl").read_bytes() == b""
    assert exported(imports, format="parquet") == 0
    assert read_back(imports.folder / "out") == []


# ---- settings


DO_NOT_FIT: tuple[tuple[dict[str, str], str], ...] = (
    ({"layout": "sharegpt", "reasoning": "apart"}, "would drop it"),
    ({"marks": "sky-t1", "reasoning": "none"}, "no marks are written"),
    ({"reasoning_field": "thinking"}, 'under reasoning = "apart" alone'),
)


def test_settings_that_do_not_fit_are_one_line(imports: Imports) -> None:
    imports.take(imports.file("a.jsonl", [line(1)]))
    for words, said in DO_NOT_FIT:
        with pytest.raises(ConfigError, match=said):
            exported(imports, **words)
    _, err = imports.run("export", "r", "--to", imports.folder / "out", "--shard-mb", "0", code=2)
    assert "shard_mb" in err
    assert err.count("\n") == 1
    assert not (imports.folder / "out").exists()


def test_a_run_says_how_its_dataset_is_written(tmp_path: Path) -> None:
    toml = tmp_path / "r.toml"
    toml.write_text(
        'questions = "q.jsonl"\n[teacher]\nlocal = "x"\n'
        '[export]\nlayout = "trl"\nreasoning = "apart"\nformat = "parquet"\n'
    )
    assert load(toml).export == Export(layout="trl", reasoning="apart", format="parquet")
    with pytest.raises(ConfigError, match="would drop it"):
        load(toml, [("export.layout", "llama-factory")])


# ---- in place of the one before


STOPPED = """
import sys, time
from pathlib import Path
from harvest.core.config import Export
from harvest.endpoint import prompt as prompts
from harvest.export.dataset_folder import write_folder
from harvest.report.run_report import run_report
from harvest.store import Store

url, to = sys.argv[1:]
with Store.open(url, write=False) as store:
    run = store.run("r")
    prompt = prompts.parse(run.prompt_text, "p", "p")
    def told(n):
        print(n, flush=True)
        time.sleep(60)
    write_folder(store, run, prompt, Path(to), Export(), run_report(store.figures(run.id), live=False), told)
"""


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_a_stop_leaves_the_old_one_whole_and_the_next_one_tidies(imports: Imports, by: int) -> None:
    bought(imports, 3)
    exported(imports)
    whole = {p.name: p.read_bytes() for p in (imports.folder / "out").iterdir()}
    imports.take(imports.file("b.jsonl", [line(i) for i in range(3, 600)]))
    command = [sys.executable, "-c", STOPPED, f"sqlite:///{imports.store}", str(imports.folder / "out")]
    with subprocess.Popen(command, env=imports.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"500\n"
        left = [p for p in imports.folder.iterdir() if p.name.endswith(".part")]
        assert [p.name for p in left] == [f".out.{process.pid}.part"]
        process.send_signal(by)
        process.wait(20)
    assert {p.name: p.read_bytes() for p in (imports.folder / "out").iterdir()} == whole
    assert bool(list(imports.folder.glob(".out.*"))) == (by == signal.SIGKILL)
    assert exported(imports) == 600
    assert not list(imports.folder.glob(".out.*"))


def test_one_that_was_on_its_way_out_when_the_power_went_comes_back(imports: Imports) -> None:
    bought(imports, 2)
    exported(imports)
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    old = imports.folder / f".out.{int(gone.stdout)}.old"
    (imports.folder / "out").replace(old)
    imports.run("export", "r", "--to", imports.folder / "out", "--reasoning-field", "thinking", code=2)
    assert not (imports.folder / "out").exists(), "a command that refuses does nothing"
    assert exported(imports) == 2
    assert not old.exists()


def test_somebody_elses_dataset_is_never_replaced(imports: Imports) -> None:
    bought(imports, 1)
    theirs = imports.folder / "theirs"
    theirs.mkdir()
    (theirs / "train.jsonl").write_text("{}\n")
    (theirs / "README.md").write_text("---\ntags: [mine]\n---\n# Mine\n")
    _, err = imports.run("export", "r", "--to", theirs, code=2)
    assert "other things" in err
    assert (theirs / "train.jsonl").read_text() == "{}\n"
    (empty := imports.folder / "empty").mkdir()
    imports.run("export", "r", "--to", empty)
    assert (empty / "README.md").is_file()


# ---- what is selected, and what the teacher wrote before rules brought it into form


def test_the_selected_are_what_the_newest_selection_kept_and_a_rewritten_row_has_both_texts(imports: Imports) -> None:
    """`accepted` has every text as it came; `selected` follows the selection."""
    rows = [
        line(
            1,
            "Sure! Here is the solution:\n\nOne and two together are three, as counting on fingers shows.\n\n"
            "The final answer is \\boxed{3}.\n\nI hope this helps!",
        ),
        line(2, completion("\\boxed{5}", reasoning="loop " * 3000)),
    ]
    imports.take(imports.file("a.jsonl", rows))
    with Store.open(f"sqlite:///{imports.store}") as store, store.transaction():
        run_id = store.run_id("r")
        store.put_settings(run_id, {**store.run(run_id).settings, "rewrite": {"on": True}})
    imports.run("select", "r")
    assert exported(imports) == 2
    assert exported(imports, to="chosen", which="selected") == 1
    came = {v["question_id"]: v for v in read_back(imports.folder / "out")}
    [kept] = read_back(imports.folder / "chosen")
    assert kept["question_id"] == "q1"
    assert came["q1"]["original"] is None
    assert kept["original"] == {"reasoning": came["q1"]["reasoning"], "answer": came["q1"]["answer"]}
    assert "hope" in came["q1"]["answer"]
    content = kept["messages"][-1]["content"]
    assert "hope" not in content
    assert "Sure" not in content
    assert "\\boxed{3}" in content
    text = (imports.folder / "chosen/README.md").read_text()
    assert "| not selected: repetition | 1 | 1 |" in text
    assert "| rewritten into the format | 1 rows" in text
    assert "| seed | 0 |" in text
    assert "| filters and selection | not applied;" in (imports.folder / "out/README.md").read_text()
    assert [came[q]["unselected"] for q in ("q1", "q2")] == [None, "repetition"]
    told, _ = imports.run("why", "r", "q1")
    assert "it is trained on, rewritten" in told
    assert [line_.split("│")[1].strip() for line_ in told.splitlines() if " trained  " in line_]
    story = json.loads(imports.run("why", "r", "q1", "--json")[0])
    assert story["attempts"][0]["rewritten"] == {k: kept[k] for k in ("reasoning", "answer")}


def test_what_a_later_verdict_rejects_is_not_selected_and_what_came_later_is_told(imports: Imports) -> None:
    """Between a pass and the next one: the export is never wider than what is accepted."""
    imports.take(imports.file("a.jsonl", [line(i) for i in range(3)]))
    with Store.open(f"sqlite:///{imports.store}") as store, store.transaction():
        run_id = store.run_id("r")
        first, second = (r.id for r in list(store.answered_attempts(run_id, "selected"))[:2])
        verdict = Verdict(check="math", version="9", outcome=Outcome.WRONG, detail="found out")
        store.put_verdicts(first, [verdict], False, "wrong", "2026-01-01T00:00:00.000Z")
        newest = store.newest_selection(run_id)
        assert newest is not None
    assert exported(imports, which="selected") == 2
    report = json.loads(imports.run("report", "r", "--json")[0])
    assert report["traces"]["selected"] == 2
    assert report["traces"]["unselected"] == {"rejected_since": 1}
    assert any("rejected since: 1. `python -m harvest select r`" in words for words in report["warnings"])
    assert "| not selected: rejected since | 1 | 2 |" in (imports.folder / "out/README.md").read_text()
    assert "it was selected, and a later verdict rejects it" in imports.run("why", "r", "q0")[0]
    with Store.open(f"sqlite:///{imports.store}") as store, store.transaction():
        store.put_selection(run_id, "k", newest.settings, newest.said, [(second, None, None, None, False)], newest.at)
    _, err = imports.run("export", "r", "--to", imports.folder / "out")
    assert "warning: accepted after the newest selection: 1. `python -m harvest select r`" in err
    report = json.loads(imports.run("report", "r", "--json")[0])
    assert report["selection"]["stale"] in report["warnings"]
    assert "| newer than the selection | 1 | 1 |" in (imports.folder / "out/README.md").read_text()
    imports.run("select", "r")
    report = json.loads(imports.run("report", "r", "--json")[0])
    assert report["traces"]["selected"] == 2
    assert not any("newest selection" in words for words in report["warnings"])


def test_a_selection_from_all_answers_has_rejected_ones_and_says_so(imports: Imports) -> None:
    imports.take(imports.file("a.jsonl", [line(1), line(2, "It is \\boxed{0}")]))
    imports.run("select", "r", "--select.pool", "all")
    assert exported(imports, which="selected") == 2
    assert [(v["accepted"], v["selected"]) for v in read_back(imports.folder / "out")] == [(True, True), (False, True)]
    assert "**1 of them were not accepted**" in (imports.folder / "out/README.md").read_text()


def test_a_text_that_other_rules_had_rewritten_is_not_written_as_if_it_were_that_one(imports: Imports) -> None:
    bought(imports, 1)
    with Store.open(f"sqlite:///{imports.store}") as store, store.transaction():
        run_id = store.run_id("r")
        newest = store.newest_selection(run_id)
        assert newest is not None
        settings = newest.settings | {"rewrite": {"on": True, "version": "0"}}
        store.put_selection(run_id, "other", settings, newest.said, [], "2026-01-01T00:00:00.000Z")
    with pytest.raises(InputError, match="harvest select r"):
        exported(imports, which="selected")
    assert not list(imports.folder.glob("*out*"))
    assert exported(imports) == 1, "what was accepted is as it came"


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_full_disk_is_one_line_and_leaves_the_old_one_whole(imports: Imports, form: str) -> None:
    bought(imports, 3)
    exported(imports)
    whole = {p.name: p.read_bytes() for p in (imports.folder / "out").iterdir()}
    noise = {i: os.urandom(40_000).hex() for i in range(3, 12)}
    imports.take(imports.file("b.jsonl", [line(i, f"{n} \\boxed{{{2 * i + 1}}}") for i, n in noise.items()]))
    command = [sys.executable, "-m", "harvest", "export", "r", "--which", "accepted", "--format", form]
    command += ["--store", f"sqlite:///{imports.store}", "--to", str(imports.folder / "out")]
    limited = ["sh", "-c", 'ulimit -f 200; exec "$@"', "sh", *command]
    done = subprocess.run(limited, env=imports.env, cwd=imports.folder, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "cannot be written: File too large" in done.stderr
    assert {p.name: p.read_bytes() for p in (imports.folder / "out").iterdir()} == whole
    assert not list(imports.folder.glob(".out*"))


def test_the_page_shows_each_layout_as_it_is_written() -> None:
    page = (ROOT / "docs/export.md").read_text()
    shown = [json.loads(block) for block in re.findall(r"```json\n(.*?)\n```", page, re.DOTALL)]
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 2?"}]
    ways = [Export(layout="trl"), Export(layout="prompt-completion"), Export(layout="sharegpt")]
    ways += [Export(reasoning="apart")]
    assert shown == [training_part(asked, "One more than two.", "\\boxed{3}", way) for way in ways]
    known = set(columns_of(Export())) - {"messages"}
    assert known <= set(re.findall(r"`(\w+)`", page)), "every column is on the page"
    assert set(LAYOUTS) <= set(re.findall(r"`([\w-]+)`", page))
