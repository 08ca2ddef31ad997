"""Questions by name from the hub: a share of the rows, the licence of the card, columns with other names.

`datasets` takes a folder of a dataset's name for the dataset, card and all.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Place
from scripted_endpoint import Endpoint

from harvest.checks import ROW_RULES
from harvest.core.errors import QuestionError
from harvest.core.nouns import Question
from harvest.questions.hub import hub_licence, hub_table
from harvest.questions.rows import NO_COLUMNS
from harvest.questions.sources import fingerprint, read_questions, read_rows

CARD = "---\nlicense: apache-2.0\nconfigs:\n- config_name: default\n  data_files: train.jsonl\n---\n"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    hub_licence.cache_clear()
    hub_table.cache_clear()
    return tmp_path


def dataset(name: str, rows: list[dict[str, Any]], card: str = CARD) -> None:
    folder = Path(name)
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "README.md").write_text(card)


def asked(source: str, columns: Mapping[str, str] = NO_COLUMNS) -> list[Question]:
    return [q for _, q in read_rows(source, Path(), ROW_RULES, columns=columns)]


def numina(n: int) -> list[dict[str, Any]]:
    sources = ("olympiads", "cn_k12", "amc_aime")
    return [
        {"source": sources[i % 3], "problem": f"What is {i} + 1?", "solution": f"It is \\boxed{{{i + 1}}}."}
        for i in range(n)
    ]


def test_a_share_is_drawn_among_the_rows_that_are_wanted(hub: Path) -> None:
    dataset("AI-MO/NuminaMath-CoT", numina(300))
    wanted = "hub:AI-MO/NuminaMath-CoT?split=train&source=olympiads,amc_aime"
    every = [q.question for q in asked(wanted)]
    few, more, other = ([q.question for q in asked(f"{wanted}&n={n}&seed={s}")] for n, s in ((20, 1), (30, 1), (20, 2)))
    assert len(every) == 200
    assert [q for q in every if q in few] == few
    assert set(few) < set(more) < set(every)
    assert set(other) != set(few)
    assert {q.source for q in asked(f"{wanted}&n=20")} == {"olympiads", "amc_aime"}


def test_a_row_without_source_and_licence_gets_those_of_the_card(hub: Path) -> None:
    dataset(
        "org/plain", [{"question": "1 + 1?", "answer": "2"}, {"question": "2 + 2?", "answer": "4", "license": "MIT"}]
    )
    assert [(q.source, q.licence) for q in asked("hub:org/plain")] == [
        ("hub:org/plain", "apache-2.0"), ("hub:org/plain", "MIT"),
    ]  # fmt: skip
    dataset(
        "org/own", [{"question": "1 + 1?", "answer": "2"}], CARD.replace("apache-2.0", "other\nlicense_name: own-1")
    )
    assert [q.licence for q in asked("hub:org/own")] == ["own-1"]


def test_the_sets_of_sky_t1_are_read_as_they_are(hub: Path) -> None:
    cases = json.dumps({"inputs": ["1 2\n"], "outputs": ["3\n"]})
    code = {"question": "Add.", "input_output": cases, "solutions": "[]", "starter_code": ""}
    dataset("org/taco", [code | {"difficulty": d} for d in ("EASY", "MEDIUM", "HARD")])
    assert [(q.check, q.difficulty) for q in asked("hub:org/taco?difficulty=MEDIUM")] == [("code", "MEDIUM")]
    thought, solution = (f"<|begin_of_{part}|>\n\n{{}}\n\n<|end_of_{part}|>" for part in ("thought", "solution"))
    text = thought.format(r"Is it \boxed{1}?") + "\n\n" + solution.format(r"So \boxed{7}.")
    dataset("org/still", [{"question": "What?", "combined_text": text, "domain": d} for d in ("physics", "math")])
    still = asked("hub:org/still?domain=physics")
    assert [(q.answer, q.check, q.domain) for q in still] == [("7", "math", "physics")]


def test_a_set_that_a_script_makes_is_read_from_the_hubs_copy_in_parquet(hub: Path) -> None:
    dataset("org/apps", [])
    Path("org/apps/apps.py").write_text("raise SystemExit('a script of others is never run')")
    rows = [{"question": f"{n} + 1?", "answer": str(n + 1)} for n in range(3)]
    for config in ("all", "introductory"):
        folder = Path("org/apps", config, "train")
        folder.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / "0000.parquet")
    assert [q.answer for q in asked("hub:org/apps?config=all")] == ["1", "2", "3"]
    with pytest.raises(QuestionError, match="nowhere"):
        asked("hub:org/apps?config=nowhere")


def test_columns_with_other_names_are_named_by_a_setting(hub: Path, tmp_path: Path) -> None:
    rows = [{"instruction": f"{n} + 1?", "output": str(n + 1)} for n in range(30)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"question": "instruction", "answer": "output"}
    assert [q.answer for q in asked("q.jsonl", columns)] == [str(n + 1) for n in range(30)]
    with pytest.raises(QuestionError) as e:
        asked("q.jsonl")
    assert str(e.value).count("\n") == 0
    assert str(e.value).endswith(
        "none of the first 20 rows has a question. question: missing: the nearest column is 'instruction'."
        ' Set questions_columns = { question = "instruction", answer = "output" } in RUN.toml, or rename the column'
    )
    with pytest.raises(
        QuestionError, match=r'the nearest column is \'output\'. Set questions_columns = \{ answer = "output"'
    ):
        asked("q.jsonl", {"question": "instruction"})
    with pytest.raises(
        QuestionError, match=r"no column 'task', which questions_columns names \(there are: instruction, output"
    ):
        asked("q.jsonl", {"question": "task"})
    with pytest.raises(QuestionError) as e:
        asked("q.jsonl", {"question": "instruction", "answer": "outputs"})
    assert str(e.value).endswith(
        "none of the first 20 rows has an answer. answer: missing, and the check needs one: no column 'outputs', which"
        " questions_columns names (there are: instruction, output); the nearest is 'output'"
    )


def test_a_number_of_rows_that_is_none_is_refused(hub: Path) -> None:
    for n in ("0", "-1", "many"):
        with pytest.raises(QuestionError, match="n is a whole number"):
            list(read_questions(f"hub:org/plain?n={n}", Path(), ROW_RULES))


def test_a_run_reads_a_set_of_the_hub_once(hub: Path) -> None:
    (hub / "q.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    once = fingerprint(["hub:org/plain?n=2", "q.jsonl"], hub)
    assert once == fingerprint(("hub:org/plain?n=2", "q.jsonl"), hub)
    assert once != fingerprint(["hub:org/plain?n=3", "q.jsonl"], hub)
    assert fingerprint(["hub:org/plain", "reasoning-gym:chain_sum?n=2"], hub) is None
    (hub / "q.jsonl").write_text('{"question": "1 + 2?", "answer": "3"}\n')
    assert once != fingerprint(["hub:org/plain?n=2", "q.jsonl"], hub)


def test_a_run_that_is_started_again_does_not_read_the_hub_again(
    endpoint: Callable[..., Endpoint], place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = place(endpoint().url, 1, questions="hub:org/plain")
    monkeypatch.chdir(there.folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    dataset("org/plain", [{"question": "What is 1 + 2?", "answer": "3"}, {"question": "no answer"}])
    assert there.collect()[0] == 2, "a row without an answer is named"
    assert there.collect("--skip-bad-rows")[0] == 0
    shutil.rmtree("org")
    assert there.collect("--skip-bad-rows")[0] == 0
    code, _, err = there.collect()
    assert (code, "org/plain" in err) == (2, True), "without the flag the bad row must be named again"
