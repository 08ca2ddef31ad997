"""Foreign layouts of code questions become our fields, and a row that cannot be judged names its field."""

import base64
import json
import pickle
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from test_sandbox import isolated

from harvest.checks import ROW_RULES, CheckPool
from harvest.core.nouns import Outcome
from harvest.questions.rows import BadRow, question_of


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with CheckPool() as pool:
        yield pool


def fenced(code: str) -> str:
    return f"```python\n{code}\n```\n"


def test_apps_and_taco_are_read_as_they_are() -> None:
    scripts = question_of(
        {
            "problem_id": 7, "question": "Add.", "difficulty": "interview", "starter_code": "",
            "solutions": json.dumps(["print(sum(map(int, input().split())))"]),
            "input_output": json.dumps({"inputs": ["1 2\n", ["3 4"]], "outputs": ["3\n", ["7"]]}),
        },
        ROW_RULES,
    )  # fmt: skip
    assert (scripts.id, scripts.check, scripts.difficulty) == ("apps-7", "code", "interview")
    assert scripts.cases == ({"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "3 4", "stdout": "7"})
    assert scripts.answer == "print(sum(map(int, input().split())))"
    calls = question_of(
        {
            "question": "Twice.", "starter_code": "def f(x):\n", "solutions": "",
            "input_output": {"fn_name": "f", "inputs": [[1], [2]], "outputs": [[2], 4]},
        },
        ROW_RULES,
    )  # fmt: skip
    assert calls.entry_point == "f"
    first = {"arguments": "[1]", "returns": "[2]", "or_returns": "2"}
    assert calls.cases == (first, {"arguments": "[2]", "returns": "4"})
    assert "def f(x):" in calls.question
    assert calls.answer is None


@isolated
@pytest.mark.parametrize(("code", "passes"), [("def f(x):\n    return 2 * x", True), ("f = lambda x: [2 * x]", True),
                                             ("f = lambda x: [[2 * x]]", False)])  # fmt: skip
def test_apps_takes_a_value_or_a_list_of_it(pool: CheckPool, code: str, passes: bool) -> None:
    data = {"fn_name": "f", "inputs": [[1]], "outputs": [[2]]}
    question = question_of({"question": "Twice.", "input_output": data}, ROW_RULES)
    assert pool.check_now(question, fenced(code)).passed is passes


@isolated
@pytest.mark.parametrize(
    ("code", "passes"),
    [
        ("def f(d):\n    return {d[1]: 3}", True),
        ("from collections import Counter\ndef f(d):\n    return Counter([d[1]] * 3)", True),
        ("def f(d):\n    return {str(d[1]): 3}", False),
    ],
)
def test_apps_keys_that_json_made_strings_are_integers_again(pool: CheckPool, code: str, passes: bool) -> None:
    data = {"fn_name": "f", "inputs": [[{"1": 2}]], "outputs": [[{"2": 3}]]}
    question = question_of({"question": "Count.", "input_output": data}, ROW_RULES)
    assert pool.check_now(question, fenced(code)).passed is passes


@isolated
def test_one_value_of_several_is_not_the_list_of_them(pool: CheckPool) -> None:
    data = {"fn_name": "f", "inputs": [[1]], "outputs": [[2, 3]]}
    question = question_of({"question": "Two numbers.", "input_output": data}, ROW_RULES)
    assert pool.check_now(question, fenced("def f(x):\n    return 2")).outcome is Outcome.WRONG


def packed(value: object) -> str:
    """A value as LiveCodeBench packs its private cases, which are a text."""
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


def test_livecodebench_is_read_with_its_private_cases_and_loads_no_pickle() -> None:
    row = {
        "question_id": "3",
        "question_content": "Twice.",
        "starter_code": "class Solution:\n    def f(self, x):",
        "public_test_cases": json.dumps([{"input": "3\n[1]", "output": "6", "testtype": "functional"}]),
        "private_test_cases": packed(json.dumps([{"input": "4\n[1]", "output": "8", "testtype": "functional"}])),
        "metadata": json.dumps({"func_name": "f"}),
    }
    question = question_of(row, ROW_RULES)
    assert (question.id, question.entry_point) == ("lcb-3", "f")
    public, private = {"arguments": "[3,[1]]", "returns": "6"}, {"arguments": "[4,[1]]", "returns": "8"}
    assert question.cases == (public, private)
    for hostile in (print, ["a text"], ("[]", "[]"), b"[]"):
        with pytest.raises(BadRow, match="private_test_cases: a pickle of something else than one text"):
            question_of(row | {"private_test_cases": packed(hostile)}, ROW_RULES)
    for torn in ("eJxrYJ...", packed("[]")[:-8]):
        with pytest.raises(BadRow, match="private_test_cases: "):
            question_of(row | {"private_test_cases": torn}, ROW_RULES)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"check": "code"}, "tests: missing"),
        ({"tests": "def check(candidate):\n  assert candidate() == 1"}, "entry_point: missing"),
        ({"tests": "def check(", "entry_point": "f"}, "tests: not Python"),
        ({"tests": ["assert f() =="], "entry_point": "f"}, "tests: not Python"),
        ({"tests": ["assert f()"], "entry_point": "os.system('x')"}, "entry_point"),
        ({"cases": [{"stdin": "1"}]}, "cases: number 1"),
        ({"cases": [{"stdin": "1", "stdout": "1"}, {"input": "1"}]}, "cases: number 2"),
        ({"cases": [{"arguments": "[1", "returns": "1"}], "entry_point": "f"}, "cases: number 1"),
        ({"input_output": "{"}, "input_output: not JSON"),
        ({"input_output": {"inputs": ["1"], "outputs": []}}, "input_output"),
    ],
)
def test_a_code_row_that_cannot_be_judged_names_its_field(row: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRow) as error:
        question_of({"question": "?", **row}, ROW_RULES)
    assert words in str(error.value)
