"""Answers paid for elsewhere become attempts of a run: hostile lines, kills, and the same file twice."""

import gzip
import json
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import forked
import pytest
from books import audit_file
from conftest import ROOT, scaled

SKY = (
    "<|begin_of_thought|>\n\nOne and two.\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n\\boxed{3}\n\n"
    "<|end_of_solution|>"
)


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
        words = [*map(str, args), "--store", f"sqlite:///{self.store}"]
        return forked.Forked("harvest", *words, cwd=self.folder, env=self.env)

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


ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 1 + 2?"}]
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
    toml.write_text(
        f'questions = "{file}"\n[teacher]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "m"\n[budget]\nusd = "none"'
    )
    _, err = imports.run("collect", toml, code=2)
    assert "holds imported answers" in err
    _, err = imports.run("import", file, "--name", "../r", code=2)
    assert "--name" in err


def test_answers_without_a_gold_answer_end_with_how_to_judge_them(imports: Imports) -> None:
    rows = [{"question": "What is 1 + 1?", "response": f"\\boxed{{{n}}}"} for n in (2, 2, 2, 3)]
    answers = imports.file("a.jsonl", rows)
    _, err = imports.run("import", answers, "--name", "r")
    said = err.splitlines()[-1]
    assert "warning: 4 answers have no gold answer to be judged by" in said
    for again in (
        f"import {answers} --name r-judged --questions F",
        f"import {answers} --name r-judged --majority 0.5",
    ):
        assert f"`python -m harvest {again}`" in said
    out, err = imports.run(*f"import {answers} --name r-judged --majority 0.5 --json".split())
    assert json.loads(out)["report"]["traces"]["accepted"] == 3
    assert "no gold answer" not in err
    _, err = imports.run("import", answers, "--name", "r", "--majority", "0.5", code=2)
    assert "import it under another --name" in err


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
