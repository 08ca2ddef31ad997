"""Questions from files, from foreign layouts and from reasoning-gym, and the prompts around them."""

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from harvest.checks import ROW_RULES
from harvest.core.config import load
from harvest.core.errors import PromptError, QuestionError
from harvest.core.nouns import Question
from harvest.core.settings import read_toml
from harvest.endpoint import prompt as prompts
from harvest.questions.datasets_on_disk import delimiter_of
from harvest.questions.sources import Tally, read_questions, read_rows

BASE = ROOT / "recipes"


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "q.jsonl"
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def test_an_id_of_the_content_is_the_same_in_every_order(tmp_path: Path) -> None:
    write(tmp_path, {"question": "What is 1 + 1?", "answer": "2"})
    (first,) = read_questions("q.jsonl", tmp_path, ROW_RULES)
    write(tmp_path, {"answer": "2", "question": "What is 1 + 1?"})
    (second,) = read_questions("q.jsonl", tmp_path, ROW_RULES)
    assert first == second
    assert first.id.startswith("q-")


def test_gsm8k_and_math_are_read_as_they_are(shared: Path) -> None:
    gsm8k = list(read_questions("gsm8k/test.jsonl", shared / "data", ROW_RULES))
    assert len(gsm8k) == 1319
    assert gsm8k[0].answer == "18"
    assert {q.check for q in gsm8k} == {"math"}
    math = list(read_questions("math/math500.jsonl", shared / "data", ROW_RULES))
    assert len(math) == 500
    assert math[0].answer
    assert math[0].domain == "math"


def test_every_bad_row_is_named_with_file_line_and_field(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"question": "What is 1 + 1?", "answer": "2"},
        {"qestion": "What is 2 + 2?", "answer": "4"},
        {"question": "What is 3 + 3?"},
        "[1, 2]",
        {"question": "", "answer": "5"},
        {"id": "a", "question": "What is 4 + 4?", "answer": "8"},
        {"id": "a", "question": "What is 5 + 5?", "answer": "10"},
        {"question": "x", "answer": "1", "check": "nosuch"},
    )
    with path.open("a") as f:
        f.write('{"question": "torn')
    with pytest.raises(QuestionError) as e:
        list(read_questions("q.jsonl", tmp_path, ROW_RULES))
    lines = str(e.value).splitlines()
    for line, words in {
        2: "'qestion'",
        3: "answer",
        4: "object",
        5: "question",
        7: "'a'",
        8: "nosuch",
        9: "torn",
    }.items():
        assert any(f"{path}, line {line}:" in said and words in said for said in lines), (line, words)
    assert not any("line 1:" in said or "line 6:" in said for said in lines)


def test_bad_rows_can_be_skipped_and_are_counted(tmp_path: Path) -> None:
    write(tmp_path, {"question": "What is 1 + 1?", "answer": "2"}, "{", {"question": "What is 2 + 2?", "answer": 4})
    skipped: list[str] = []
    kept = list(read_questions("q.jsonl", tmp_path, ROW_RULES, skip_bad_rows=skipped.append))
    assert [q.answer for q in kept] == ["2", "4"]
    assert len(skipped) == 1


def test_a_repeated_question_comes_once(tmp_path: Path) -> None:
    row = {"question": "What is 1 + 1?", "answer": "2"}
    write(tmp_path, row, row)
    assert len(list(read_questions("q.jsonl", tmp_path, ROW_RULES))) == 1


def test_the_demo_trains_on_nothing_that_it_is_measured_on() -> None:
    trained = {q.question for q in read_questions(load(BASE / "demo.toml").questions, BASE, ROW_RULES)}
    held_out = read_toml(BASE / "jobs/demo.toml#evaluate")["questions"]
    assert len(held_out) == 2
    for source in held_out:
        asked = {q.question for q in read_questions(source, ROOT, ROW_RULES)}
        assert len(asked) >= 60
        assert not asked & trained, source


def test_the_same_seed_makes_the_same_questions() -> None:
    source = "reasoning-gym:chain_sum?n=20&seed=5"
    assert list(read_questions(source, BASE, ROW_RULES)) == list(read_questions(source, BASE, ROW_RULES))


def test_a_task_that_sets_the_precision_of_decimals_sets_it_for_itself_alone() -> None:
    assert len(list(read_questions("reasoning-gym:decimal_arithmetic?n=2", BASE, ROW_RULES))) == 2
    assert Decimal(2) / 3 == Decimal("0." + "6" * 27 + "7")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("reasoning-gym:no_such_task", "no_such_task"),
        ("reasoning-gym:chain_sum?min_trms=3", "min_trms"),
        ("nothere.jsonl", "nothere.jsonl: no such file"),
    ],
)
def test_a_source_that_is_none_is_one_line(source: str, words: str) -> None:
    with pytest.raises(QuestionError) as e:
        list(read_questions(source, BASE, ROW_RULES))
    assert words in str(e.value)


@given(st.text(min_size=1).filter(str.strip))
def test_a_question_is_never_a_template(text: str) -> None:
    question = Question(id="q", question=text, answer="1", check="math")
    for name in ("boxed", "steps"):
        asked = prompts.load(name).messages(question)
        assert asked[-1] == {"role": "user", "content": text}


def test_worked_examples_are_the_teachers_alone() -> None:
    question = Question(id="q", question="What is 1 + 1?", answer="2", check="math")
    prompt = prompts.load("steps")
    assert [m["role"] for m in prompt.messages(question)] == ["system", "user", "assistant", "user"]
    assert [m["role"] for m in prompt.student_messages(question)] == ["system", "user"]


def test_boxed_holds_no_worked_example() -> None:
    question = Question(id="q", question="What is 1 + 1?", answer="2", check="math")
    assert [m["role"] for m in prompts.load("boxed").messages(question)] == ["system", "user"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("## user\n{question}", "front matter"),
        ("---\nfor: x\n---\n## user\nno place\n", "{question}"),
        ("---\nfor: x\n---\n## user\n{question}\n## assistant\nno\n", "## user"),
        ("---\nfor: x\nreasoning: nowhere\n---\n## user\n{question}\n", "nowhere"),
    ],
)
def test_a_prompt_that_is_none_names_the_file(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mine.md").write_text(text)
    with pytest.raises(PromptError) as e:
        prompts.load("mine.md", tmp_path)
    assert "mine.md" in str(e.value)
    assert words in str(e.value)


def test_a_folder_without_data_is_named_though_it_is_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(QuestionError, match="no file of questions in it"):
        list(read_questions(".", Path(), ROW_RULES))


def test_each_file_of_a_folder_is_read_as_it_would_be_alone(tmp_path: Path) -> None:
    folder = tmp_path / "sets"
    (folder / "more").mkdir(parents=True)
    rows = [{"question": f"{word}?", "answer": "a"} for word in "abcdefg"]
    (folder / "1.jsonl").write_text(json.dumps(rows[0]) + "\n")
    (folder / "2.json").write_text(json.dumps(rows[1:3]))
    (folder / "3.jsonl.gz").write_bytes(gzip.compress(json.dumps(rows[3]).encode()))
    (folder / "4.csv").write_text("question;answer\ne?;a\n")
    pq.write_table(pa.Table.from_pylist(rows[5:6]), folder / "5.parquet")
    (folder / "more/6.tsv").write_text("question\tanswer\ng?\ta\n")
    (folder / "notes.md").write_text("---\ntitle: not a row\n---\n")
    found = list(read_rows("sets", tmp_path, ROW_RULES))
    assert [q.question for _, q in found] == ["a?", "b?", "c?", "d?", "e?", "f?", "g?"]
    assert found[2][0] == f"{folder}/2.json, entry 1"
    assert found[4][0] == f"{folder}/4.csv, row 0"


def test_a_folder_of_splits_is_read_for_training_and_a_saved_dataset_as_it_was_saved(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"question": f"{split}?", "answer": "a"}) + "\n")
    assert [q.question for q in read_questions(".", tmp_path, ROW_RULES)] == ["train?"]
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(QuestionError, match=r"for training \(there are test\)"):
        list(read_questions(".", tmp_path, ROW_RULES))
    saved = datasets.Dataset.from_list([{"question": "saved?", "answer": "a"}])
    saved.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": saved}).save_to_disk(str(tmp_path / "several"))
    datasets.DatasetDict({"test": saved}).save_to_disk(str(tmp_path / "tests"))
    for name in ("one", "several"):
        assert [q.question for q in read_questions(name, tmp_path, ROW_RULES)] == ["saved?"]
    with pytest.raises(QuestionError, match="has no split train"):
        list(read_questions("tests", tmp_path, ROW_RULES))


def test_a_card_that_names_a_datasets_files_is_followed(tmp_path: Path) -> None:
    for name in ("mine", "other"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"question": f"{name}?", "answer": "a"}) + "\n")
    card = "---\nconfigs:\n- config_name: default\n  data_files: mine.jsonl\n---\n"
    (tmp_path / "README.md").write_text(card)
    assert [q.question for q in read_questions(".", tmp_path, ROW_RULES)] == ["mine?"]


@pytest.mark.parametrize(
    "head", ["question,answer", "question;answer", "question\tanswer", "question|answer", '"what, exactly";answer']
)
def test_the_character_that_divides_a_csv_file_is_found(head: str, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("\ufeff" + head + "\n")
    character = delimiter_of(tmp_path / "q.csv")
    assert head.endswith(f"{character}answer")


ROWS = [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(30)]


def renamed(**names: str) -> list[dict[str, str]]:
    """The rows with other names for their columns."""
    return [{names.get(key, key): value for key, value in row.items()} for row in ROWS]


@pytest.mark.parametrize("rows_in_file", [30, 3])
@pytest.mark.parametrize(
    ("name", "rows", "words"),
    [
        ("q.json", [row["question"] for row in ROWS], 'a text. A row is {"question": "…", "answer"'),
        ("q.jsonl", [row["question"] for row in ROWS], "not a JSON object but a text"),
        ("q.jsonl", renamed(answer="anwser"), 'questions_columns = { answer = "anwser" }'),
        ("q.jsonl", renamed(question="qestion"), 'questions_columns = { question = "qestion" }'),
        ("q.jsonl", renamed(question="instruction", answer="output"),
         'questions_columns = { question = "instruction", answer = "output" }'),
        ("q.jsonl", [{"conversations": [{"from": "human", "value": row["question"]}]} for row in ROWS],
         "harvest import FILE --name RUN"),
        ("q.jsonl", [{"question": row["question"]} for row in ROWS], 'checks.without_gold = "majority"'),
    ],
)  # fmt: skip
def test_a_fault_of_all_rows_is_one_line_with_what_helps(
    tmp_path: Path, name: str, rows: list[object], words: str, rows_in_file: int
) -> None:
    some = rows[:rows_in_file]
    text = json.dumps(some) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in some)
    (tmp_path / name).write_text(text)
    with pytest.raises(QuestionError) as e:
        list(read_questions(name, tmp_path, ROW_RULES))
    said = str(e.value)
    assert "\n" not in said
    assert words in said


def test_a_name_of_the_hub_is_told_how_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(QuestionError, match=r'questions = "hub:openai/gsm8k\?config=…&split=train"'):
        list(read_questions("openai/gsm8k", tmp_path, ROW_RULES))
    with pytest.raises(QuestionError, match=r"sets/q\.jsonl: no such file \(questions\)$"):
        list(read_questions("sets/q.jsonl", tmp_path, ROW_RULES))


def test_rows_that_repeat_and_questions_with_two_gold_answers_are_counted_and_named(tmp_path: Path) -> None:
    write(tmp_path, *ROWS, *ROWS[:5], {"question": "What is  3 + 1?", "answer": "5"})
    tally = Tally()
    asked = list(read_rows("q.jsonl", tmp_path, ROW_RULES, tally=tally))
    assert (len(asked), tally.rows, tally.repeated, len(tally.two_golds)) == (31, 36, 5, 1)
    repeated, twice = tally.words()
    assert repeated == "36 rows are 31 questions: 5 repeat others"
    assert "q.jsonl, line 36 asks what" in twice
    assert "q.jsonl, line 4 asks" in twice
    write(tmp_path, *ROWS)
    quiet = Tally()
    list(read_rows("q.jsonl", tmp_path, ROW_RULES, tally=quiet))
    assert quiet.words() == []


def test_aliases_are_read_as_texts_and_an_empty_list_is_none(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "answer": "a", "check": "text", "aliases": of} for n, of in enumerate((["b", 3], []))]
    write(tmp_path, *rows)
    assert [q.aliases for q in read_questions("q.jsonl", tmp_path, ROW_RULES)] == [("b", "3"), None]
    write(tmp_path, rows[0] | {"aliases": "b"})
    with pytest.raises(QuestionError, match="line 1: aliases"):
        list(read_questions("q.jsonl", tmp_path, ROW_RULES))
