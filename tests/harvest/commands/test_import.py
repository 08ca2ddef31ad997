"""`harvest import`: every layout of answers from elsewhere, hostile lines, kills, and the same file twice."""

import gzip
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from books import audit_file
from conftest import ROOT, scaled
from hypothesis import given
from hypothesis import strategies as st

from harvest.checks import ROW_RULES
from harvest.core.foreign_json import parse
from harvest.core.money import pusd
from harvest.endpoint.reply import read_document
from harvest.questions.files import Record, Records, content_key
from harvest.questions.imported_answers import ImportedAnswer, NoAnswer, read_answer
from harvest.questions.rows import BadRow, question_of


class Imports:
    """A folder with a store and runs of its own, and the command in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / "store.db"
        self.env = {**os.environ, "WINNOW_RUNS": str(folder / "runs"), "PYTHONPATH": str(ROOT)}

    def file(self, name: str, rows: list[Any]) -> Path:
        path = self.folder / name
        path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows))
        return path

    def start(self, *args: str | Path) -> "subprocess.Popen[str]":
        words = [str(a) for a in args]
        command = [sys.executable, "-m", "harvest", *words, "--store", f"sqlite:///{self.store}"]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *args: str | Path, code: int = 0) -> tuple[str, str]:
        process = self.start(*args)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, f"{args}: {process.returncode}\n{out[-2000:]}\n{err[-2000:]}"
        assert "Traceback" not in err
        return out, err

    def take(self, file: Path, *more: str | Path, code: int = 0) -> dict[str, Any]:
        out, _ = self.run("import", file, "--name", "r", "--json", *more, code=code)
        found: dict[str, Any] = json.loads(out) if code == 0 else {}
        return found

    def exported(self) -> list[dict[str, Any]]:
        self.run("export", "r", "--which", "all", "--to", self.folder / "out")
        return [json.loads(line) for line in (self.folder / "out/train.jsonl").read_text().splitlines()]


@pytest.fixture
def imports(tmp_path: Path) -> Imports:
    return Imports(tmp_path)


def line(i: int, response: Any = None, **more: Any) -> dict[str, Any]:
    right = f"The sum is \\boxed{{{2 * i + 1}}}"
    return {
        "id": f"q{i}",
        "question": f"What is {i} + {i + 1}?",
        "answer": str(2 * i + 1),
        "response": right if response is None else response,
    } | more


def completion(content: str, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "reasoning_content": more.pop("reasoning", None)}
    choice = {"index": 0, "message": message, "finish_reason": more.pop("finish_reason", "stop")}
    usage = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30} | more.pop("usage", {})
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1760000000,
        "model": "some-reasoner",
        "choices": [choice],
        "usage": usage,
    } | more


def read(row: Any) -> ImportedAnswer:
    """A row as it comes out of a file."""
    return read_answer(parse(json.dumps(row).encode()), read_document)


# ---- the layouts

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 1 + 2?"}]
SKY = (
    "<|begin_of_thought|>\n\nOne and two.\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n\\boxed{3}\n\n"
    "<|end_of_solution|>"
)


def test_a_line_of_the_contract_is_a_question_and_its_response() -> None:
    got = read(line(1, "<think>\none and two\n</think>\n\n\\boxed{3}"))
    assert question_of(got.question, ROW_RULES).id == "q1"
    assert (got.reply.reasoning, got.reply.answer) == ("one and two", "\\boxed{3}")
    assert (got.cost_pusd, got.cost_source, got.asked_at) == (None, "none", None)


def test_a_whole_chat_completion_is_read_like_a_live_answer() -> None:
    got = read(line(1, completion("\\boxed{3}", reasoning="one and two", usage={"cost": 0.00123})))
    assert (got.reply.reasoning, got.reply.answer, got.reply.finish_reason) == ("one and two", "\\boxed{3}", "stop")
    assert (got.reply.usage.input_tokens, got.reply.usage.output_tokens) == (10, 20)
    assert (got.reply.served_model, got.reply.response_id) == ("some-reasoner", "chatcmpl-1")
    assert (got.cost_pusd, got.cost_source) == (pusd(Decimal("0.00123")), "usage.cost")
    assert got.asked_at == "2025-10-09T08:53:20.000Z"


def test_batch_output_is_known_by_its_custom_id() -> None:
    body = completion("\\boxed{3}")
    got = read({"id": "batch_req_1", "custom_id": "q1", "response": {"status_code": 200, "body": body}, "error": None})
    assert (got.question, got.names[0], got.reply.answer) == ({}, "q1", "\\boxed{3}")


@pytest.mark.parametrize(
    "row",
    [
        {"custom_id": "a", "response": None, "error": {"code": "batch_expired", "message": "expired"}},
        {"custom_id": "a", "response": {"status_code": 429, "body": {"error": {"message": "slow down"}}}},
        {"question": "a?", "answer": "1", "response": {"error": {"message": "no"}}},
        {"id": "x", "status": "failure", "error_str": "no", "messages": ASKED, "response": None},
    ],
)
def test_a_request_that_failed_holds_no_answer(row: dict[str, Any]) -> None:
    with pytest.raises(NoAnswer):
        read(row)


def test_a_stored_completion_is_known_by_its_metadata_or_its_messages() -> None:
    alone = read(completion("\\boxed{3}", metadata={"question_id": "q1"}))
    assert (alone.question, alone.names) == ({}, ("q1",))
    whole = read(completion("\\boxed{3}", metadata={"answer": "3"}, messages=ASKED))
    assert whole.question == {"question": "What is 1 + 2?", "answer": "3"}
    assert whole.reply.extra["system"] == "Be brief."


LITELLM: dict[str, Any] = {
    "id": "chatcmpl-9",
    "trace_id": "t",
    "call_type": "acompletion",
    "response_cost": 0.000105,
    "response_cost_failure_debug_info": None,
    "status": "success",
    "custom_llm_provider": "deepseek",
    "total_tokens": 30,
    "prompt_tokens": 10,
    "completion_tokens": 20,
    "startTime": 1760000000.25,
    "model": "deepseek-reasoner",
    "metadata": {"requester_metadata": {"question_id": "q1"}, "spend_logs_metadata": None},
    "messages": ASKED,
    "response": {k: v for k, v in completion("\\boxed{3}").items() if k != "usage"},
    "error_str": None,
    "model_parameters": {"temperature": 0.7},
}


def test_a_log_of_litellm_says_who_served_when_and_for_how_much() -> None:
    got = read(LITELLM)
    assert got.question["question"] == "What is 1 + 2?"
    assert "id" not in got.question, "the log's id names the call, not the question"
    assert "q1" in got.names
    assert (got.cost_pusd, got.cost_source) == (105_000_000, "log")
    assert (got.reply.usage.input_tokens, got.reply.usage.output_tokens) == (10, 20)
    assert (got.reply.served_by, got.asked_at) == ("deepseek", "2025-10-09T08:53:20.250Z")
    assert got.reply.extra["system"] == "Be brief."


def test_litellms_table_of_spend_holds_json_in_texts() -> None:
    got = read(
        {
            "request_id": "1",
            "spend": 0.5,
            "messages": json.dumps(ASKED),
            "response": json.dumps(completion("\\boxed{3}")),
        }
    )
    assert (got.question["question"], got.reply.answer, got.cost_pusd) == ("What is 1 + 2?", "\\boxed{3}", 5 * 10**11)


def test_a_cost_that_litellm_could_not_reckon_is_unknown_not_zero() -> None:
    got = read(LITELLM | {"response_cost": 0, "response_cost_failure_debug_info": {"error_str": "no such model"}})
    assert (got.cost_pusd, got.cost_source) == (None, "none")
    assert read(LITELLM | {"response_cost": float("nan")}).cost_pusd is None
    assert read(LITELLM | {"response_cost": -1}).cost_pusd is None
    assert read(LITELLM | {"response_cost": 0}).cost_pusd == 0


def test_openrouters_stored_generation_with_its_figures() -> None:
    got = read(
        {
            "data": {
                "id": "gen-1",
                "model": "deepseek/deepseek-r1",
                "provider_name": "Novita",
                "total_cost": 0.0021,
                "created_at": "2026-10-01T12:00:00.5+00:00",
                "finish_reason": "stop",
                "native_tokens_prompt": 12,
                "native_tokens_completion": 34,
                "native_tokens_reasoning": 20,
                "input": {"messages": ASKED},
                "output": {"completion": "\\boxed{3}", "reasoning": "one and two"},
            }
        }
    )
    assert (got.question["question"], got.reply.reasoning, got.reply.answer) == (
        "What is 1 + 2?",
        "one and two",
        "\\boxed{3}",
    )
    assert (got.cost_pusd, got.reply.served_by, got.asked_at) == (2_100_000_000, "Novita", "2026-10-01T12:00:00.500Z")
    assert (got.reply.usage.input_tokens, got.reply.usage.output_tokens, got.reply.usage.reasoning_tokens) == (
        12,
        34,
        20,
    )


@pytest.mark.parametrize(
    ("row", "system"),
    [
        ({"conversations": [{"from": "human", "value": "1 + 2?"}, {"from": "gpt", "value": SKY}]}, None),
        (
            {
                "system": "Think.",
                "conversations": [{"from": "user", "value": "1 + 2?"}, {"from": "assistant", "value": SKY}],
            },
            "Think.",
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "Think."},
                    {"role": "user", "content": "1 + 2?"},
                    {"role": "assistant", "content": "\\boxed{3}", "reasoning_content": "One and two."},
                ]
            },
            "Think.",
        ),
    ],
)
def test_datasets_keep_the_chain_apart_and_the_system_message(row: dict[str, Any], system: str | None) -> None:
    got = read(row | {"answer": "3"})
    assert (got.question["question"], got.question["answer"]) == ("1 + 2?", "3")
    assert (got.reply.reasoning, got.reply.answer) == ("One and two.", "\\boxed{3}")
    assert got.reply.extra.get("system") == system


def test_a_thought_that_never_ends_has_no_answer() -> None:
    got = read(
        {"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "<|begin_of_thought|> so 3"}]}
    )
    assert (got.reply.reasoning, got.reply.answer) == ("so 3", "")


def test_our_own_export_can_come_back() -> None:
    row = {"messages": [*ASKED, {"role": "assistant", "content": "<think>\nc\n</think>\n\n\\boxed{3}"}]}
    got = read(row | {"question": "1 + 2?", "gold": "3", "answer": "\\boxed{3}", "question_id": "q1", "id": "abc"})
    question = question_of(got.question, ROW_RULES)
    assert (question.id, question.question, question.answer) == ("q1", "1 + 2?", "3")
    assert (got.reply.reasoning, got.reply.answer) == ("c", "\\boxed{3}")


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"question": "a?", "answer": "1"}, "response: missing"),
        ({"x": 1}, "no layout that is known here"),
        ({"question": "a?", "response": 5}, "response: neither"),
        ({"question": "a?", "response": {"x": 1}}, "response: no chat completion"),
        ({"messages": [*ASKED, *ASKED], "response": "1"}, "messages: 2 turns"),
        ({"messages": [{"role": "tool", "content": "x"}], "response": "1"}, "messages: a turn of 'tool'"),
        ({"conversations": [{"from": "human", "value": "x"}]}, "conversations: its last turn"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}], "response": "1"}, "more than text"),
    ],
)
def test_a_bad_line_names_its_field(row: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRow, match=field):
        read(row)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    "question", "answer", "response", "messages", "conversations", "custom_id", "object", "choices", "data", "input",
    "output", "metadata", "gold", "system", "response_cost", "usage", "startTime", "status", "id", "error",
)  # fmt: skip


@given(row=st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=8))
def test_whatever_a_line_holds_it_is_read_or_refused(row: dict[str, Any]) -> None:
    try:
        found = read(row)
    except (BadRow, NoAnswer):
        return
    assert isinstance(found.reply.answer, str)
    assert found.cost_pusd is None or found.cost_pusd >= 0
    found.reply.answer.encode()
    try:
        question_of(found.question, ROW_RULES, needs_gold=False)
    except BadRow:
        return


@given(base=st.sampled_from([LITELLM, line(1, completion("3")), completion("3", messages=ASKED)]), data=st.data())
def test_one_field_of_a_known_layout_may_be_anything(base: dict[str, Any], data: st.DataObject) -> None:
    row = dict(base)
    row[data.draw(st.sampled_from(sorted(row)))] = data.draw(json_values)
    try:
        read(row)
    except (BadRow, NoAnswer):
        return


# ---- files


def values(path: Path) -> list[Any]:
    return [r.value for r in Records(path)]


def test_packed_and_plain_json_lines_have_the_same_keys(tmp_path: Path) -> None:
    data = "".join(json.dumps(line(i)) + "\n" for i in range(50)).encode()
    (tmp_path / "a.jsonl").write_bytes(data)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(data))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(data))
    keys = [[content_key(r) for r in Records(p)] for p in sorted(tmp_path.iterdir())]
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys[0])) == 50


def test_an_array_is_read_entry_by_entry_however_it_is_spread(tmp_path: Path) -> None:
    rows = [line(i, "x" * 3000) for i in range(1000)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "b.json").write_text("\n " + json.dumps(rows, indent=2))
    assert values(tmp_path / "a.json") == values(tmp_path / "b.json") == rows


def test_a_page_of_a_list_is_its_entries(tmp_path: Path) -> None:
    page = {"object": "list", "data": [completion("1"), completion("2")], "has_more": False}
    (tmp_path / "a.json").write_text(json.dumps(page, indent=2))
    records = list(Records(tmp_path / "a.json"))
    assert [r.value["choices"][0]["message"]["content"] for r in records if isinstance(r.value, dict)] == ["1", "2"]
    assert len({content_key(r) for r in records}) == 2


def test_parquet_gives_the_same_rows_with_exact_money(tmp_path: Path) -> None:
    rows = [line(i, completion(f"\\boxed{{{2 * i + 1}}}", usage={"cost": 0.1})) for i in range(200)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=50)
    found = [read_answer(v, read_document) for v in values(tmp_path / "a.parquet")]
    assert [f.reply.answer for f in found] == [f"\\boxed{{{2 * i + 1}}}" for i in range(200)]
    assert {f.cost_pusd for f in found} == {10**11}


def test_a_torn_end_is_told_from_a_bad_line(tmp_path: Path) -> None:
    def last(name: str, data: bytes) -> Record:
        (tmp_path / name).write_bytes(data)
        return list(Records(tmp_path / name))[-1]

    whole = json.dumps(line(1)).encode() + b"\n"
    torn = [
        last("a.jsonl", whole + b'{"question": "wh'),
        last("a.json", b'[{"a": 1}, {"question": "wh'),
        last("b.json", b'[{"a": 1}, '),
        last("a.jsonl.gz", gzip.compress(whole * 5000)[:-20]),
    ]
    bad = [last("b.jsonl", whole + b"{]\n"), last("c.json", b'[{"a": 1}, {]}, {"b": 1}]'), last("c.jsonl", b"3\n")]
    assert all(r.torn and isinstance(r.value, BadRow) for r in torn)
    assert not any(r.torn for r in bad)
    assert all(isinstance(r.value, BadRow) for r in bad)


# ---- the command


def test_each_line_is_an_attempt_of_its_own_and_the_numbers_add_up(imports: Imports) -> None:
    rows = [
        line(1),
        line(1, "\\boxed{4}"),
        line(1),
        line(2, completion("\\boxed{5}", reasoning="two and three", usage={"cost": 0.25})),
        line(3, completion("half of", finish_reason="length", usage={"cost": 0.5})),
        line(4, completion("\\boxed{9}", finish_reason="content_filter")),
        line(5, ""),
        {"id": "q6", "question": "Who are you?", "response": "A model."},
        line(7, answer="\\frac{1}{"),
        {"custom_id": "q8", "response": {"status_code": 500}},
    ]
    said = imports.take(imports.file("a.jsonl", rows))
    assert said["lines"] == {"lines": 10, "new": 9, "there": 0, "without_answer": 1, "bad": 0, "torn": 0}
    got = [(r["question_id"], r["sample"], r["accepted"], r["reason"]) for r in imports.exported()]
    assert sorted(got, key=lambda g: (g[0], g[1])) == [
        ("q1", 0, True, None),
        ("q1", 1, False, "wrong"),
        ("q1", 2, True, None),
        ("q2", 0, True, None),
        ("q3", 0, False, "truncated"),
        ("q4", 0, False, "row"),
        ("q5", 0, False, "no_answer"),
        ("q6", 0, False, "no_gold"),
        ("q7", 0, False, "error"),
    ]
    report = said["report"]
    assert report["run"]["imported"]
    assert report["questions"] == {"total": 7, "asked": 7, "solved": 2, "given_up": 5, "open": 0}
    assert (
        report["traces"]["accepted"] + sum(report["traces"]["rejected"].values()) == report["attempts"]["answered"] == 9
    )
    money = report["money"]
    assert (money["cap_usd"], money["spent_usd"], money["unpriced_calls"]) == (None, "0.75", 7)
    assert sum(Decimal(v) for v in money["spent_on"].values()) == Decimal(money["spent_usd"])
    assert (money["spent_on"]["accepted_usd"], money["spent_on"]["truncated_usd"]) == ("0.25", "0.50")
    assert audit_file(imports.store)["spent"] == 75 * 10**10


def test_the_same_file_again_adds_nothing(imports: Imports) -> None:
    file = imports.file("a.jsonl", [line(i) for i in range(20)])
    first = imports.take(file)
    moved = imports.folder / "elsewhere" / "a.jsonl.gz"
    moved.parent.mkdir()
    moved.write_bytes(gzip.compress(file.read_bytes()))
    again = imports.take(moved)
    assert (again["lines"]["new"], again["lines"]["there"], again["judged"]) == (0, 20, 0)
    assert again["report"]["attempts"] == first["report"]["attempts"]
    longer = imports.file("a.jsonl", [line(i) for i in range(25)])
    assert imports.take(longer)["lines"]["new"] == 5


def test_gold_answers_are_found_by_custom_id_by_metadata_and_by_the_text(imports: Imports) -> None:
    gold = imports.file("gold.jsonl", [{k: v for k, v in line(i).items() if k != "response"} for i in range(4)])
    rows = [
        {"custom_id": "q1", "response": {"status_code": 200, "body": completion("\\boxed{3}")}, "error": None},
        completion("\\boxed{5}", metadata={"question_id": "q2"}),
        LITELLM | {"metadata": {}, "messages": [{"role": "user", "content": "What is 3  + 4?\n"}]},
    ]
    file = imports.file("log.jsonl", rows)
    _, err = imports.run("import", file, "--name", "r", code=2)
    assert "line 1: question: not in the line" in err
    assert "--questions" in err
    said = imports.take(file, "--questions", gold)
    assert said["lines"]["new"] == 3
    assert [(r["question_id"], r["accepted"], r["gold"]) for r in imports.exported()] == [
        ("q1", True, "3"),
        ("q2", True, "5"),
        ("q3", False, "7"),
    ]


def test_what_was_asked_under_a_system_message_is_trained_under_it(imports: Imports) -> None:
    rows = [
        {
            "system": "Think.",
            "answer": "3",
            "conversations": [{"from": "user", "value": "1 + 2?"}, {"from": "assistant", "value": SKY}],
        }
    ]
    imports.take(imports.file("sky.jsonl", rows))
    [row] = imports.exported()
    assert row["messages"] == [
        {"role": "system", "content": "Think."},
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": "<think>\nOne and two.\n</think>\n\n\\boxed{3}"},
    ]
    assert (row["accepted"], row["asked_at"], row["cost_usd"], row["sampling"]["max_tokens"]) == (
        True,
        None,
        None,
        None,
    )


HOSTILE = [
    '{"question": "\\ud800", "answer": "1", "response": "1"}\n',
    '{"id": "s", "question": "half", "answer": "1", "response": "\\ud800 \\\\boxed{1}"}\n',
    '{"id": "n", "question": "nul", "answer": "1", "response": "\\u0000\\u001b[2J \\\\boxed{1}"}\n',
    '{"id": "nan", "question": "nan", "answer": NaN, "response": "1"}\n',
    '{"id": "deep", "question": "deep", "answer": "1", "response": ' + "[" * 100_000 + "]" * 100_000 + "}\n",
    '{"id": "big", "question": "big", "answer": "1", "response": "' + "9" * 3_000_000 + '"}\n',
    '{"id": "int", "question": "int", "answer": ' + "9" * 5000 + ', "response": "1"}\n',
    "\x00\x01\n",
    "[1, 2]\n",
    "null\n",
    json.dumps(line(1)) + "\n",
    '{"id": "q1", "question": "something else", "answer": "1", "response": "1"}\n',
    '{"id": "t", "question": "torn", "ans',
]


def test_hostile_lines_are_named_or_read_and_the_next_is_judged_right(imports: Imports) -> None:
    file = imports.file("hostile.jsonl", HOSTILE)
    _, err = imports.run("import", file, "--name", "r", code=2)
    assert len([e for e in err.splitlines() if "hostile.jsonl, line" in e]) == 6, err
    assert "line 12: id: 'q1' names another question already" in err
    assert "Nothing was imported" in err
    with closing(sqlite3.connect(imports.store)) as db:
        assert db.execute("SELECT count(*) FROM run").fetchone() == (0,)
    out, err = imports.run("import", file, "--name", "r", "--skip-bad-rows", "--json")
    assert "line 13" in err
    assert json.loads(out)["lines"] == {"lines": 13, "new": 6, "there": 0, "without_answer": 0, "bad": 6, "torn": 1}
    got = {r["question_id"]: (r["accepted"], r["reason"]) for r in imports.exported()}
    assert got["q1"] == got["s"] == got["n"] == (True, None)
    assert not got["big"][0]
    why, _ = imports.run("why", "r", "n")
    assert "\x1b" not in why
    assert "\x00" not in why


def test_a_run_that_asked_a_teacher_takes_no_imports_and_the_other_way_round(imports: Imports) -> None:
    file = imports.file("a.jsonl", [line(1)])
    imports.take(file)
    toml = imports.folder / "r.toml"
    toml.write_text(f'questions = "{file}"\n[teacher]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "m"\n')
    _, err = imports.run("collect", toml, code=2)
    assert "holds imported answers" in err
    _, err = imports.run("import", file, "--name", "../r", code=2)
    assert "--name" in err


def test_a_file_that_is_not_there_is_one_line(imports: Imports) -> None:
    _, err = imports.run("import", imports.folder / "none.jsonl", "--name", "r", code=2)
    assert err.count("\n") == 1
    assert "none.jsonl: cannot be read" in err


def stored(path: Path) -> int:
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as db:
        try:
            return int(db.execute("SELECT count(*) FROM attempt").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def judged(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM verdict").fetchone()[0])


def wait_until(process: "subprocess.Popen[str]", path: Path, at_least: int, what: Any) -> None:
    until = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < until and (not path.exists() or what(path) < at_least):
        time.sleep(0.005)


def test_killed_while_storing_and_while_judging_it_goes_on(imports: Imports) -> None:
    n = scaled(3000, 50_000)
    rows = [line(i, f"\\boxed{{\\frac{{{2 * i + 1}}}{{2}}+x^2}}" if i % 50 == 0 else None) for i in range(n)]
    file = imports.file("a.jsonl", rows)
    process = imports.start("import", file, "--name", "r")
    wait_until(process, imports.store, 1, stored)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    had = stored(imports.store)
    assert had > 0
    folder = imports.folder / "runs/r"
    assert json.loads((folder / "config.json").read_text())["store"] == f"sqlite:///{imports.store}"
    process = imports.start("import", file, "--name", "r")
    wait_until(process, imports.store, 1, judged)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    had_judged = judged(imports.store)
    assert 0 < had_judged < n
    said = imports.take(file)
    assert said["report"]["attempts"]["answered"] == n
    assert said["judged"] == n - had_judged, "an answer judged before the kill is not judged again"
    assert said["report"]["traces"]["accepted"] + sum(said["report"]["traces"]["rejected"].values()) == n
    assert said["report"]["run"]["status"] == "complete"
    assert judged(imports.store) == n
    audit_file(imports.store)


def test_ctrl_c_is_no_traceback_and_can_go_on(imports: Imports) -> None:
    file = imports.file("a.jsonl", [line(i) for i in range(8000)])
    process = imports.start("import", file, "--name", "r")
    wait_until(process, imports.store, 1, stored)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "goes on from here" in err
    assert imports.take(file)["report"]["attempts"]["answered"] == 8000
