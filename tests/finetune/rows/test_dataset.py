"""Every row that would train wrongly is named before the first step, with its place in the file."""

import json
from pathlib import Path
from typing import Any

import pytest
from students import chat, smol_tokenizer, sums

from finetune.recipe import Recipe
from finetune.rows.cache import examples
from finetune.rows.conversation import conversation
from finetune.rows.dataset import read_rows, run_folder
from finetune.rows.examples import Examples
from finetune.rows.layout import LAYOUTS
from finetune.rows.show import examples_of_row
from harvest.core.errors import DatasetError

THINK = LAYOUTS["think"]
Q = {"role": "user", "content": "What is 3 + 3?"}


def said(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def recipe_for(data: Path, **render: Any) -> Recipe:
    return Recipe.model_validate(
        {"student": "s", "data": str(data), "output": "out", "render": {"max_tokens": 256, **render}}
    )


def written(folder: Path, rows: list[Any], name: str = "train.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    return folder


FAULTS = [
    ([Q, said("")], "message 1 (assistant) is empty"),
    ([Q, said(" \n")], "message 1 (assistant) is empty"),
    ([Q], "no assistant turn"),
    ([said("6"), Q], "wrong order of roles: assistant, user"),
    ([Q, Q, said("6")], "wrong order of roles"),
    ([Q, said("6"), Q], "does not end with an assistant's turn"),
    ([Q, said("<think>\n3 + 3 = 6")], "the chain is open"),
    ([Q, said("3\n</think>\n\n6")], "was never opened"),
    ([Q, said("<think>\n3 + 3 = 6\n</think>\n")], "no answer after the chain"),
    ([Q, said(None)], "content is null"),
    ([Q, said(["6"])], "content is list, not text"),
    ([Q, {"role": "tool", "content": "x"}, said("6")], "role 'tool'"),
    ([Q, {"role": "assistant", "content": "", "reasoning_content": "3 + 3"}], "no answer after the chain"),
    ([Q, {"role": "assistant", "content": "x", "tool_calls": [{}]}], "tool calls"),
    ([], "an empty one"),
    (None, "has neither `messages` nor"),
    ([Q, said("6 " * 600)], "over the limit of 256"),
]


def test_a_chain_that_the_content_does_not_hold_is_lost(tmp_path: Path) -> None:
    whole = {"messages": [Q, said("<think>\n3 + 3 = 6\n</think>\n\n6")], "reasoning": " 3 + 3 = 6\n"}
    assert conversation(whole, THINK)
    assert conversation({**whole, "reasoning": None}, THINK)
    data = written(tmp_path, [whole, {"messages": [Q, said("6")], "reasoning": "3 + 3 = 6"}])
    with pytest.raises(DatasetError, match=r"row 1 .*the chain is lost"):
        examples(recipe_for(data), smol_tokenizer())


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"messages": [{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": "a"}]}', "surrogate"),
        (f'{{"messages": {"9" * 5000}}}', "cannot be read"),
        ('{"messages": ' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_a_hostile_line_is_a_fault_with_its_place(tmp_path: Path, line: str, why: str) -> None:
    (tmp_path / "train.jsonl").write_text(line + "\n")
    with pytest.raises(DatasetError, match=why) as e:
        examples(recipe_for(tmp_path), smol_tokenizer())
    assert "row 0 (train.jsonl line 1)" in str(e.value)
    (tmp_path / "rows.json").write_text(f"[{line}]")
    with pytest.raises(DatasetError, match=r"rows\.json: "):
        examples(recipe_for(tmp_path / "rows.json"), smol_tokenizer())


@pytest.mark.parametrize("at", [2, 40, -30])
def test_a_damaged_parquet_file_is_one_line(tmp_path: Path, at: int) -> None:
    from pyarrow import Table, parquet

    file = tmp_path / "train.parquet"
    parquet.write_table(Table.from_pylist([{"messages": m} for m in sums(50)]), file)
    body = bytearray(file.read_bytes())
    body[at : at + 20] = b"\xff" * 20
    file.write_bytes(body)
    with pytest.raises(DatasetError, match=r"train\.parquet") as e:
        examples(recipe_for(file), smol_tokenizer())
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(("messages", "why"), FAULTS)
def test_a_planted_fault_is_found_with_its_row(messages: Any, why: str, tmp_path: Path) -> None:
    data = written(tmp_path / "d", [{"messages": m} for m in [*sums(8), messages]])
    with pytest.raises(DatasetError) as e:
        examples(recipe_for(data, too_long="refuse"), smol_tokenizer())
    assert str(e.value).count("\n") == 0
    assert "row 8 (train.jsonl line 9): " in str(e.value)
    assert why in str(e.value)


def test_all_faults_are_named_at_once_alike_ones_in_one_line_with_their_rows_and_a_count(tmp_path: Path) -> None:
    bad = [{"messages": [Q, said(None)]}] * 23
    data = written(tmp_path, [{"messages": sums(1)[0]}, *bad])
    with pytest.raises(DatasetError) as e:
        examples(recipe_for(data), smol_tokenizer())
    lines = str(e.value).splitlines()
    assert len(lines) == 2
    assert "row 1 (train.jsonl line 2): " in lines[0]
    assert "content is null (so row 2, row 3, " in lines[0]
    assert "row 20); " in lines[0]
    assert lines[1] == "and 3 more rows like these"


def test_reasons_that_differ_by_more_than_a_number_have_a_line_each(tmp_path: Path) -> None:
    bad = [[Q], [said("a")], [Q], [Q, Q, said("a")]]
    data = written(tmp_path, [{"messages": m} for m in [*sums(1), *bad]])
    with pytest.raises(DatasetError) as e:
        examples(recipe_for(data), smol_tokenizer())
    assert [line.split("): ")[0].rsplit(": ")[-1] for line in str(e.value).splitlines()] == [
        "row 1 (train.jsonl line 2",
        "row 2 (train.jsonl line 3",
        "row 4 (train.jsonl line 5",
    ]
    assert "(so row 3)" in str(e.value).splitlines()[0]


@pytest.mark.parametrize(
    ("tail", "why"),
    [
        (b'{"messages": [{"role": "us', "torn"),
        (b"not json\n", "not JSON (Expecting value at column 1)"),
        (b'"\xff"\n', "not UTF-8"),
        (b"[1, 2]\n", "not a JSON object"),
        (b"[" * 100_000 + b"\n", "nested too deeply"),
    ],
)
def test_a_line_that_is_no_row_is_named(tail: bytes, why: str, tmp_path: Path) -> None:
    data = written(tmp_path, [{"messages": m} for m in sums(3)])
    with (data / "train.jsonl").open("ab") as f:
        f.write(b"\n" + tail)
    with pytest.raises(DatasetError, match=r"row 3 \(train.jsonl line 5\)") as e:
        examples(recipe_for(data), smol_tokenizer())
    assert why in str(e.value)


def test_rows_that_are_too_long_are_left_out_by_name_and_the_rest_is_trained(tmp_path: Path) -> None:
    data = written(tmp_path, [{"messages": m} for m in [*sums(2), chat("q", "a " * 600), *sums(1)]])
    made = examples(recipe_for(data), smol_tokenizer())
    assert made.rows == (0, 1, 3)
    assert len(made.dropped) == 1
    assert made.dropped[0].startswith("row 2 (train.jsonl line 3): ")
    assert made.summary()["rows"] == 3


def test_where_every_row_is_too_long_nothing_can_be_trained(tmp_path: Path) -> None:
    data = written(tmp_path, [{"messages": chat("q", "a " * 600)}])
    with pytest.raises(DatasetError, match="all 1 rows are longer"):
        examples(recipe_for(data), smol_tokenizer())


def test_prompt_and_completion_are_a_conversation_too() -> None:
    want = chat("Hi", "Ho")
    assert conversation({"prompt": "Hi", "completion": "Ho"}, THINK) == want
    assert conversation({"prompt": want[:1], "completion": want[1:]}, THINK) == want


def test_a_chain_in_a_field_of_its_own_is_not_lost() -> None:
    row = {"messages": [Q, {"role": "assistant", "content": "6", "reasoning_content": "3 + 3 = 6"}]}
    assert conversation(row, THINK)[1]["content"] == "<think>\n3 + 3 = 6\n</think>\n\n6"


def test_the_same_rows_from_jsonl_json_and_parquet(tmp_path: Path) -> None:
    from pyarrow import Table, parquet

    rows = [{"messages": m} for m in sums(5)]
    written(tmp_path / "lines", rows)
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "shards").mkdir()
    for n, part in enumerate((rows[:3], rows[3:])):
        parquet.write_table(Table.from_pylist(part), tmp_path / "shards" / f"train-0000{n}-of-00002.parquet")
    made = [
        examples(recipe_for(tmp_path / p), smol_tokenizer())
        for p in ("lines", "lines/train.jsonl", "rows.json", "shards")
    ]
    assert len({m.digest for m in made}) == 1
    assert made[0].rows == (0, 1, 2, 3, 4)


def test_the_digest_sees_what_is_trained_and_in_which_order(tmp_path: Path) -> None:
    def made(rows: list[Any], **render: Any) -> Examples:
        return examples(recipe_for(written(tmp_path, [{"messages": m} for m in rows]), **render), smol_tokenizer())

    digests = {made(sums(3)).digest, made(sums(3)[::-1]).digest, made(sums(3), reasoning="sky-t1").digest}
    assert len(digests) == 3
    assert made(sums(3)).digest in digests


def test_a_run_is_read_through_its_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINNOW_RUNS", str(tmp_path))
    run = tmp_path / "sums"
    run.mkdir()
    (run / "config.json").write_text('{"name": "sums", "store": "sqlite:///x.db", "questions": "q.jsonl"}')
    with pytest.raises(DatasetError, match="python -m harvest export sums"):
        next(read_rows(str(run)))
    written(run / "dataset", [{"messages": m} for m in sums(2)])
    assert sum(1 for _ in read_rows(str(run))) == sum(1 for _ in read_rows("sums")) == 2
    assert run_folder(str(run)) == run_folder("sums") == run_folder(str(run / "dataset")) == run
    assert run_folder(str(tmp_path)) is None


def test_data_that_is_not_there_or_not_to_be_chosen_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file, folder or run"):
        next(read_rows(str(tmp_path / "nothere")))
    for name in ("a.jsonl", "b.jsonl"):
        written(tmp_path / "two", [], name)
    with pytest.raises(DatasetError, match=r"there are: a.jsonl, b.jsonl"):
        next(read_rows(str(tmp_path / "two")))


def test_one_row_by_its_place(tmp_path: Path) -> None:
    data = written(tmp_path, [{"messages": m} for m in [*sums(2), [Q]]])
    assert examples_of_row(recipe_for(data), smol_tokenizer(), 1)[0].trained_tokens > 0
    with pytest.raises(DatasetError, match=r"row 2 .*no assistant turn"):
        examples_of_row(recipe_for(data), smol_tokenizer(), 2)[0]
    with pytest.raises(DatasetError, match=r"no row 7: .* the last is 2"):
        examples_of_row(recipe_for(data), smol_tokenizer(), 7)[0]


def test_real_traces_come_through_whole(shared: Path, tmp_path: Path) -> None:
    """Chains of a real teacher: what is trained decodes to chain and answer, byte for byte, and ends."""
    lines = (shared / "data/traces/qwen3.jsonl").read_text("utf-8").splitlines()
    rows = [r for r in map(json.loads, lines) if r["reasoning"] and r["answer"].strip()][:150]
    contents = [f"<think>\n{r['reasoning']}\n</think>\n\n{r['answer']}" for r in rows]
    data = written(tmp_path, [{"messages": chat(r["question"], c)} for r, c in zip(rows, contents, strict=True)])
    tokenizer = smol_tokenizer()
    made = examples(recipe_for(data, max_tokens=100_000), tokenizer)
    for example, content in zip(made, contents, strict=True):
        trained = [i for i, m in zip(example.ids, example.mask, strict=True) if m]
        assert tokenizer.decode(trained) == content + "<|im_end|>"
