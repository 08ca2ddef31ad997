"""Code questions: reference solutions pass, broken ones fail, and values keep their types."""

import ast
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Place
from hypothesis import given
from hypothesis import strategies as st
from scripted_endpoint import Endpoint, Say
from test_sandbox import NONE_HERE, below, isolated, parents, until

from harvest.checks import ROW_RULES, CheckPool, gold_problems
from harvest.checks.programs import Code, jail_for, last_block
from harvest.core.errors import QuestionError
from harvest.core.nouns import Outcome, Question, Verdict
from harvest.questions.sources import read_questions


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with CheckPool() as pool:
        yield pool


def fenced(code: str) -> str:
    return f"Here it is.\n\n```python\n{code}\n```\n"


def said(pool: CheckPool, code: str, **question: Any) -> Verdict:
    return pool.check_now(Question(id="q", question="?", check="code", **question), fenced(code))


# ---- HumanEval and MBPP


@isolated
def test_every_reference_of_humaneval_passes(shared: Path, pool: CheckPool) -> None:
    questions = list(read_questions("humaneval/HumanEval.jsonl", shared / "data", ROW_RULES))
    assert len(questions) == 164
    assert {q.check for q in questions} == {"code"}
    assert [p for p in gold_problems(questions, pool) if p] == []


@isolated
def test_every_reference_of_humaneval_fails_when_its_last_return_is_broken(shared: Path, pool: CheckPool) -> None:
    questions = list(read_questions("humaneval/HumanEval.jsonl", shared / "data", ROW_RULES))
    begun = [pool.begin(q, fenced(_broken(q.answer or "", q.entry_point or ""))) for q in questions]
    outcomes = {q.id: verdict().outcome for q, verdict in zip(questions, begun, strict=True)}
    assert [q for q, outcome in outcomes.items() if outcome is not Outcome.WRONG] == []


def _broken(code: str, entry: str) -> str:
    tree = ast.parse(code)
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == entry)
    last = max((n for n in ast.walk(function) if isinstance(n, ast.Return)), key=lambda n: n.lineno)
    last.value = ast.Constant(None)
    return ast.unparse(ast.fix_missing_locations(tree))


@isolated
def test_a_completion_that_leaves_out_what_the_question_has_defined_passes(shared: Path, pool: CheckPool) -> None:
    question = next(
        q
        for q in read_questions("humaneval/HumanEval.jsonl", shared / "data", ROW_RULES)
        if q.entry_point == "decode_cyclic"
    )
    code = "def decode_cyclic(s: str):\n    return encode_cyclic(encode_cyclic(s))"
    assert pool.check_now(question, fenced(code)).outcome is Outcome.RIGHT


@isolated
def test_every_reference_of_mbpp_passes(shared: Path, pool: CheckPool) -> None:
    questions = list(read_questions("mbpp/mbpp.jsonl", shared / "data", ROW_RULES))
    assert len(questions) == 974
    assert [p for p in gold_problems(questions, pool) if p] == []


def test_mbpp_tells_the_teacher_one_assert_and_keeps_the_others(shared: Path) -> None:
    question = next(iter(read_questions("mbpp/mbpp.jsonl", shared / "data", ROW_RULES)))
    assert isinstance(question.tests, tuple)
    assert [test in question.question for test in question.tests] == [True, False, False]
    assert question.entry_point == "min_cost"


# ---- functions and asserts

ADD = {"tests": ("assert add(1, 2) == 3", "assert add(0.5, 0.5) == 1.0"), "entry_point": "add"}


@isolated
@pytest.mark.parametrize(
    ("code", "outcome", "detail"),
    [
        ("def add(a, b):\n    return a + b", Outcome.RIGHT, "2 of 2 asserts"),
        ("add = lambda a, b: a + b", Outcome.RIGHT, "2 of 2"),
        ("def add(a, b):\n    return a - b", Outcome.WRONG, "assert add(1, 2) == 3"),
        ("def plus(a, b):\n    return a + b", Outcome.WRONG, "defines no add"),
        ("def add(a, b)\n    return a + b", Outcome.WRONG, "SyntaxError"),
        ("def add(a, b):\n    return a / 0", Outcome.WRONG, "ZeroDivisionError"),
        ("raise ValueError('no')", Outcome.WRONG, "line 1: ValueError: no"),
        ("def add(a, b):\n    return [0] * 10**9", Outcome.WRONG, ""),
    ],
)
def test_asserts(pool: CheckPool, code: str, outcome: Outcome, detail: str) -> None:
    verdict = said(pool, code, **ADD)
    assert (verdict.outcome, detail in verdict.detail) == (outcome, True), verdict


@isolated
def test_a_program_without_an_end_is_a_timeout_and_not_wrong() -> None:
    check = Code(tests_s=0.5)
    question = Question(id="q", question="?", check="code", **ADD)
    work = check.quick(question, fenced("def add(a, b):\n    while True: pass"))
    assert not isinstance(work, tuple)
    with jail_for("candidate", "warm"), jail_for("tests", "warm"):
        assert check.work(work)[0] is Outcome.TIMEOUT


@isolated
@pytest.mark.parametrize(
    "judged_by",
    [
        {"tests": "def check(candidate):\n    assert candidate(1) == 1\n    import time\n    time.sleep(1.5)"},
        {"cases": ({"arguments": "[1]", "returns": "1"},)},
    ],
)
def test_loading_and_judging_share_one_limit(judged_by: dict[str, Any]) -> None:
    check = Code(tests_s=2.5, case_s=2.5)
    question = Question(id="q", question="?", check="code", entry_point="f", **judged_by)
    nap = "import time\ntime.sleep(1.5)\n"
    work = check.quick(question, fenced(f"{nap}def f(x):\n    time.sleep({'cases' in judged_by} * 1.5)\n    return x"))
    assert not isinstance(work, tuple)
    with jail_for("candidate", "warm"), jail_for("tests", "warm"):
        assert check.work(work)[0] is Outcome.TIMEOUT


@isolated
@pytest.mark.parametrize(
    ("tests", "code"),
    [
        ("assert list(f(3)) == [0, 1, 2]", "def f(n):\n    yield from range(n)"),
        ("assert next(f(3)) == 0", "import itertools\ndef f(n):\n    return itertools.count()"),
        ("assert f(2) == (1, [2.0], {3}, {'a': b'4'}, None, True, 1 + 2j)",
         "def f(n):\n    return 1, [2.0], {3}, {'a': b'4'}, None, True, 1 + 2j"),
        ("assert type(f(0)) is bool and type(f(1)) is int and type(f(2)) is float",
         "def f(n):\n    return [True, 1, 1.0][n]"),
        ("assert f(3000) % 10 == 0 and f(3000) > 10 ** 9000", "import math\ndef f(n):\n    return math.factorial(n)"),
        ("from collections import Counter\nassert f('aab') == Counter('aab')",
         "from collections import Counter\nf = Counter"),
        ("assert f(Node(1, Node(2))) == 3",
         "class Node:\n    def __init__(self, v, n=None):\n        self.v, self.n = v, n\n"
         "def f(node):\n    return node.v + f(node.n) if node else 0"),
        ("n = Node(5)\nn.next = Node(7)\nassert f(n).value == 7",
         "class Node:\n    def __init__(self, value):\n        self.value = value\ndef f(node):\n    return node.next"),
        ("assert f(5)(6) == 11", "def f(n):\n    return lambda m: n + m"),
        ("assert f(int) == 'int'", "def f(t):\n    return t.__name__"),
        ("try:\n    f(1)\nexcept ValueError as e:\n    assert 'odd' in str(e)\nelse:\n    assert False",
         "class Mine(ValueError): pass\ndef f(n):\n    raise Mine('odd')"),
        ("assert f(x=1, y=[2]) == [1, 2]", "def f(*, x, y):\n    return [x, *y]"),
        ("assert math.isclose(f(2), math.sqrt(2))", "def f(n):\n    return n ** 0.5"),
    ],
)  # fmt: skip
def test_values_of_many_kinds_reach_the_tests(pool: CheckPool, tests: str, code: str) -> None:
    verdict = said(pool, code, tests=tests, entry_point="f")
    assert verdict.passed, verdict


@isolated
def test_what_a_call_does_to_its_arguments_stays_in_the_jail(pool: CheckPool) -> None:
    verdict = said(
        pool, "def f(x):\n    x.clear()\n    return []", tests="x = [3, 1]\nassert f(x) == sorted(x)", entry_point="f"
    )
    assert verdict.outcome is Outcome.WRONG


@isolated
def test_a_method_of_a_solution_is_what_an_entry_point_may_name(pool: CheckPool) -> None:
    code = "class Solution:\n    def twice(self, n: int) -> int:\n        return 2 * n"
    tests = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(n=5) == 10"
    assert said(pool, code, tests=tests, entry_point="Solution().twice").passed


@isolated
@pytest.mark.parametrize(
    "tests", ["def check(candidate):\n    pass", "assert True", "def check(candidate):\n    assert 1 + 1 == 2"]
)
def test_tests_that_never_call_the_code_prove_nothing(pool: CheckPool, tests: str) -> None:
    assert said(pool, "def f():\n    return 1", tests=tests, entry_point="f").outcome is Outcome.ERROR


@isolated
def test_tests_that_do_not_load_are_an_error_and_not_wrong(pool: CheckPool) -> None:
    tests = ("import no_such_module", "assert f() == 1")
    assert said(pool, "def f():\n    return 1", tests=tests, entry_point="f").outcome is Outcome.ERROR


@isolated
@pytest.mark.parametrize(
    "argument",
    ["lambda x: x", "__import__('datetime').date(2020, 1, 1)", "[0] * 3_000_000", "eval('[' * 150 + ']' * 150)"],
)
def test_an_argument_that_cannot_cross_is_an_error_and_no_fault_of_the_program(pool: CheckPool, argument: str) -> None:
    tests = f"def check(candidate):\n    try:\n        assert candidate({argument}) == 1\n    except Exception: pass"
    verdict = said(pool, "def f(x):\n    return 1", tests=tests, entry_point="f")
    assert verdict.outcome is Outcome.ERROR, verdict


@isolated
def test_names_too_long_to_tell_are_the_programs_fault(pool: CheckPool) -> None:
    said_by_it = """'["ready",["f","' + 'é' * 1_000_000 + '"]]'"""
    code = f"import os\nm = ({said_by_it}).encode()\nm = len(m).to_bytes(4, 'big') + m\nwhile m: m = m[os.write(3, m):]"
    verdict = said(pool, code, tests="assert f(1) == 1", entry_point="f")
    assert (verdict.outcome, "names more" in verdict.detail) == (Outcome.WRONG, True), verdict


# ---- cases


@isolated
@pytest.mark.parametrize(
    ("code", "outcome", "detail"),
    [
        ("print(sum(map(int, input().split())))", Outcome.RIGHT, "3 of 3 cases"),
        ("a, b = map(int, input().split())\nprint(a - b)", Outcome.WRONG, "case 1 of 3: line 1: printed “-1”"),
        ("a, b = map(int, input().split())\nprint(a + b if a < 10 else 0)", Outcome.WRONG, "case 3 of 3"),
        ("print(3)\nimport sys\nsys.exit(1)", Outcome.WRONG, "exit code 1"),
        ("print(3)\nraise KeyError(1)", Outcome.WRONG, "KeyError"),
        ("pass", Outcome.WRONG, "printed 0 lines, expected 1"),
        ("while True: print('x' * 1000)", Outcome.WRONG, "more than"),
    ],
)
def test_cases_of_input_and_output(pool: CheckPool, code: str, outcome: Outcome, detail: str) -> None:
    cases = tuple({"stdin": f"{a} {b}\n", "stdout": f"{a + b}\n"} for a, b in ((1, 2), (3, 4), (10, 20)))
    verdict = said(pool, code, cases=cases)
    assert (verdict.outcome, detail in verdict.detail) == (outcome, True), verdict


@isolated
@pytest.mark.parametrize(
    "code",
    [
        "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.detach())\nprint(15)",
        "import codecs, sys\nsys.stdout = codecs.getwriter('utf-8')(sys.stdout.detach())\nprint(15)",
        "import sys\nout = sys.stdout.detach()\nout.write(b'15')\nout.flush()",
        "import sys\nprint(15)\nsys.stdout = None",
        "import sys\nprint(15)\ndel sys.stdout",
        "import sys\nclass Out:\n    write, flush = sys.stdout.write, sys.stdout.flush\nsys.stdout = Out()\nprint(15)",
    ],
)
def test_what_stands_for_standard_output_at_the_end_is_flushed_as_python_does(pool: CheckPool, code: str) -> None:
    verdict = said(pool, code, cases=({"stdin": "", "stdout": "15"},))
    assert verdict.passed, verdict


@isolated
@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("def f(xs: List[int]) -> int:\n    return sum(xs)", Outcome.RIGHT),
        ("class Solution:\n    def f(self, xs):\n        return reduce(lambda a, b: a + b, xs, 0)", Outcome.RIGHT),
        ("def f(xs):\n    return float(sum(xs))", Outcome.WRONG),
        ("def f(xs):\n    return str(sum(xs))", Outcome.WRONG),
        ("def g(xs):\n    return sum(xs)", Outcome.WRONG),
        ("class Solution:\n    pass", Outcome.WRONG),
    ],
)
def test_cases_of_arguments_and_value(pool: CheckPool, code: str, outcome: Outcome) -> None:
    cases = tuple({"arguments": json.dumps([xs]), "returns": json.dumps(sum(xs))} for xs in ([1, 2], [], [5]))
    verdict = said(pool, code, cases=cases, entry_point="f")
    assert verdict.outcome is outcome, verdict


@isolated
@pytest.mark.parametrize(
    ("name", "code", "outcome"),
    [
        ("f", "def f(n):\n    return isqrt(n * n) + pow(n, 0, 7) - 1", Outcome.RIGHT),
        ("f", "def f(n):\n    return itemgetter(0)([n]) + len(ascii_lowercase) - 26", Outcome.RIGHT),
        ("f", "def f(n):\n    return int(fractions.Fraction(n)) + 0 * datetime.datetime(1, 1, 1).year", Outcome.RIGHT),
        ("f", "def f(n):\n    def g(k):\n        return 1 + g(k - 1) if k else 0\n    return g(5000) - 5000 + n",
         Outcome.RIGHT),
        ("abs", "class Solution:\n    def abs(self, n):\n        return n", Outcome.RIGHT),
        ("index", "def f(n):\n    return n", Outcome.WRONG),
    ],
)  # fmt: skip
def test_a_function_has_what_its_sites_import_but_for_the_entry_point(
    pool: CheckPool, name: str, code: str, outcome: Outcome
) -> None:
    verdict = said(pool, code, cases=({"arguments": "[4]", "returns": "4"},), entry_point=name)
    assert verdict.outcome is outcome, verdict


# ---- the block of code


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("```python\nx = 1\n```", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```py\nx = 1\n```\nand\n```python\nx = 2\n```\ndone", "x = 2\n"),
        ("~~~python\nx = 1\n~~~", "x = 1\n"),
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''\n"),
        ("1. so:\n   ```python\n   if x:\n       y\n   ```", "if x:\n    y\n"),
        ("```python\nx = 1\n```\n```python\nx = 2", None),
        ("x = 1", None),
        ("`x = 1`", None),
        ("```python x = 1```", None),
    ],
)
def test_code_is_the_last_fenced_block(answer: str, code: str | None) -> None:
    assert last_block(answer) == (code if code is None else code.removesuffix("\n")) or last_block(answer) == code


@given(st.text(alphabet="`~ab \n"))
def test_any_text_has_a_block_or_none(answer: str) -> None:
    last_block(answer)


@pytest.mark.parametrize("piece", ["`", "~", " ", "```", "~~~ ", "```python\n", "\t", "~`", "``` `\n"])
def test_a_hostile_answer_is_searched_in_linear_time(piece: str) -> None:
    for answer in (piece * 300_000, "```" + piece * 300_000 + "`", "~~~" + piece * 300_000 + "`"):
        last_block(answer)


def test_an_answer_without_code_is_no_answer(pool: CheckPool) -> None:
    for answer in ("I do not know.", "", "```python\n\n```", "```python\ndef f("):
        verdict = pool.check_now(Question(id="q", question="?", check="code", **ADD), answer)
        assert verdict.outcome is Outcome.NO_ANSWER


# ---- a run


@isolated
def test_a_run_over_code_keeps_what_passes(place: Callable[..., Place], endpoint: Callable[..., Endpoint]) -> None:
    rows = [
        {"id": "right", "question": "Write add(a, b).", **ADD, "answer": "def add(a, b):\n    return a + b"},
        {"id": "wrong", "question": "Write sub(a, b).", "tests": ["assert sub(3, 2) == 1"], "entry_point": "sub"},
        {"id": "none", "question": "Read n, print n.", "cases": [{"stdin": "1", "stdout": "1"}]},
    ]
    answers = {"add": "def add(a, b):\n    return a + b", "sub": "def sub(a, b):\n    return a * b"}

    def teach(asked: Any) -> Say:
        name = next((n for n in answers if n in asked.question), None)
        return Say(fenced(answers[name])) if name else Say("I pass.")

    at = place(endpoint(teach).url, rows, prompt="code")
    code, _, err = at.collect()
    assert code == 0, err
    assert at.report["traces"]["accepted"] == 1
    assert at.report["traces"]["rejected"] == {"no_answer": 1, "wrong": 1}


@isolated
def test_a_reference_that_fails_its_own_tests_stops_the_run_before_it_costs_anything(
    place: Callable[..., Place], endpoint: Callable[..., Endpoint]
) -> None:
    teacher = endpoint()
    rows = [
        {"id": "a", "question": "Write add.", **ADD, "answer": "def add(a, b):\n    return a"},
        {"id": "b", "question": "Write f.", "tests": "import no_such_module\ndef check(c): pass", "entry_point": "f"},
    ]
    code, _, err = place(teacher.url, rows).collect()
    assert code == 2
    assert "line 1: answer: the gold answer does not pass" in err
    assert "line 2" in err
    assert "no_such_module" in err
    assert not teacher.asked


def test_where_nothing_isolates_code_is_refused_and_only_a_flag_runs_it(
    place: Callable[..., Place], endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    code = "def add(a, b):\n    return a + b"
    teacher = endpoint(lambda asked: Say(fenced(code)))
    at = place(teacher.url, [{"id": "a", "question": "Write add.", **ADD, "answer": code}])
    at.env["PATH"] = str(tmp_path)
    status, _, err = at.collect()
    assert status == 2
    assert "make system" in err
    assert not teacher.asked
    status, _, err = at.collect("--checks.unsafe_code", "true")
    assert status == 0, err
    line = json.loads((at.run_folder / "dataset/train.jsonl").read_text())
    assert "UNSAFE" in line["verdicts"][0]["detail"]


def test_the_reason_to_skip_names_the_remedy() -> None:
    assert not NONE_HERE or "make system" in NONE_HERE


def test_a_bad_file_of_code_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "?", "tests": "def check(", "entry_point": "f"}\n')
    with pytest.raises(QuestionError, match=r"line 1: tests: not Python"):
        list(read_questions("q.jsonl", tmp_path, ROW_RULES))


@isolated
def test_no_program_outlives_a_run_that_is_killed(
    place: Callable[..., Place], endpoint: Callable[..., Endpoint]
) -> None:
    rows = [{"id": "a", "question": "Read n, print n.", "cases": [{"stdin": "1", "stdout": "1"}]}]
    at = place(endpoint(lambda asked: Say(fenced("import time\ntime.sleep(600)"))).url, rows)
    with at.start() as winnow:
        try:
            assert until(lambda: len(below(winnow.pid)) >= 4), "worker, bubblewrap, zygote and program"
            there = below(winnow.pid)
        finally:
            winnow.kill()
        winnow.communicate()
    assert until(lambda: not there & parents().keys()), f"{there & parents().keys()} are still there"


@isolated
def test_a_pool_that_closes_takes_its_jails_away() -> None:
    def groups() -> set[Path]:
        return set(Path("/sys/fs/cgroup").glob("**/winnow-*-*"))

    before, others = groups(), parents().keys()
    with CheckPool(workers=1) as pool:
        assert said(pool, "def add(a, b):\n    return a + b", **ADD).passed
        ours = below(os.getpid()) - others
    assert not ours & parents().keys()
    assert [g for g in groups() - before if int(g.name.split("-")[1]) in ours] == []
