"""The check "code" runs the program of the answer's last fenced block against tests (asserts) or cases (input, output).

The program runs in a jail (harvest/sandbox). A program cannot make itself pass by what it prints, exits with, patches
or overrides. The outputs for cases are compared here, outside the jail. Tests run in a second jail, which calls the
program through a proxy that returns plain values.
"""

import ast
import atexit
import json
import re
import resource
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, Literal

from harvest.answers.stated import after_thinking
from harvest.checks.check import Check, Finding, Work, no_answer, shown
from harvest.checks.expected import print_differs, value_differs
from harvest.core.errors import SandboxUnavailable
from harvest.core.nouns import Outcome, Question
from harvest.sandbox import (
    BrokenTests,
    Failed,
    Jail,
    JailBroken,
    Kind,
    Limits,
    Served,
    TimeUp,
    run_script,
    run_tests,
    served,
)

MOST_CODE = 200_000
"""A program with more characters than this is not executed."""
TESTS_S, CASE_S, CASES_S = 10.0, 6.0, 60.0
"""The default limits of `Code` in seconds: for all tests, for one case, and for all cases of a question.

LiveCodeBench has the same six seconds for a case."""
_STARS = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json"
)
FUNCTION_PREAMBLE = "\n".join(
    [
        *[f"from {module} import *" for module in (*_STARS.split(), "builtins", "typing")],
        f"import {_STARS.replace(' ', ', ')}, fractions, time",
        "sys.setrecursionlimit(50000)",
    ]
)
"""The imports that LiveCodeBench and APPS put before every solution.

Their order matters, because a later import hides equal names of earlier imports."""
_FENCE = re.compile(r"^([ \t]*+)(`{3,}+|~{3,}+)([^`\n]*+)$", re.MULTILINE)
"""Matches a line that opens or closes a fenced block. The pattern never backtracks (`*+`), because an answer may be
hostile, and the pattern is used in the process that owns the money."""


def last_block(answer: str) -> str | None:
    """Returns the content of the last closed fenced block; None if none is closed, or if a later block stays open."""
    found, opened = None, None
    for mark in _FENCE.finditer(answer):
        if opened is None:
            opened = mark
        elif mark[2].startswith(opened[2]) and not mark[3].strip():
            indent = len(opened[1])
            lines = answer[opened.end() + 1 : mark.start()].split("\n")
            found = "\n".join(line[indent:] if not line[:indent].strip() else line for line in lines)
            opened = None
    return None if opened is not None else found


def defines(source: str, name: str) -> bool:
    """Whether the source is Python that defines a function or class with the name `name` at its top level."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name for node in tree.body)


def _context(work: Work) -> list[str]:
    """Returns the question as source code if it is Python that defines the entry point, as in HumanEval; else [].

    The answer and the tests may then use the imports and the other functions of the question.
    """
    return [work["question"]] if work["entry"] and defines(work["question"], work["entry"]) else []


def code_fault(question: Question) -> str | None:
    """Returns what a code question lacks, after the field's name; None if its answers can be checked."""
    tests, entry = question.tests, question.entry_point
    if not tests and not question.cases:
        return "tests: missing, and there are no cases either: the check needs one of them"
    if entry is not None and not re.fullmatch(r"[A-Za-z_]\w*(\(\)\.[A-Za-z_]\w*)?", entry):
        return f"entry_point: {shown(entry)} is no name"
    for number, case in enumerate(question.cases or (), 1):
        if not ({"stdin", "stdout"} <= case.keys() or {"arguments", "returns"} <= case.keys()):
            return f"cases: number {number} has no stdin and stdout"
        if "arguments" in case and not (_is_json(case["arguments"], list) and _is_json(case["returns"]) and entry):
            return f"cases: number {number} needs arguments as a JSON list, returns as JSON, and an entry_point"
    for test in [tests] if isinstance(tests, str) else tests or ():
        try:
            tree = ast.parse(test)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return f"tests: not Python: {type(error).__name__}: {shown(str(error))}"
        if not entry and any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in tree.body):
            return "entry_point: missing, and check(candidate) needs the name of what it checks"
    return None


def _is_json(text: str, kind: type = object) -> bool:
    try:
        return isinstance(json.loads(text), kind)
    except (ValueError, RecursionError):
        return False


class Code(Check):
    """The check "code"."""

    name = "code"
    version = "1"

    def __init__(self, tests_s: float = TESTS_S, case_s: float = CASE_S, cases_s: float = CASES_S) -> None:
        """Sets the limits in seconds: `tests_s` for all tests, `case_s` for one case, `cases_s` for all cases."""
        self._limits = {"tests_s": tests_s, "case_s": case_s, "cases_s": cases_s}
        self.limit_s = 2 * max(tests_s, cases_s + case_s)
        """The pool gives up after this many seconds. The limits above end a program long before that."""

    def quick(self, question: Question, answer: str) -> Finding | Work:
        if not question.tests and not question.cases:
            return Outcome.ERROR, "the question has neither tests nor cases"
        code = last_block(after_thinking(answer) or "")
        if code is None or not code.strip():
            return no_answer("no fenced block of code that is closed")
        if len(code) > MOST_CODE:
            return Outcome.ERROR, f"the code is longer than {MOST_CODE:,} characters"
        return self._work(question) | {"code": code}

    def loading(self, question: Question) -> Finding | Work:
        """Returns work that only loads a question's tests, to see whether they can be loaded.

        It is for questions without a reference solution. If the question has only cases, there is nothing to load, so
        the finding is RIGHT at once.
        """
        if question.tests:
            return self._work(question)
        return Outcome.RIGHT, "cases alone, and no reference to try on them"

    def work(self, work: Work) -> Finding:
        """Runs the program and returns the finding. Never raises. If the sandbox fails, the outcome is ERROR."""
        outcome, detail = _finding(work)
        return outcome, f"{detail} (UNSAFE: run without isolation)" if work.get("jail") == "unsafe" else detail

    def prepare(self) -> None:
        """Lifts the worker's limit on the size of files, because the worker makes the jail's files under this limit."""
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    def own_answer(self, question: Question) -> str | None:
        """Returns the reference solution in a fenced block; None if the question has no reference solution."""
        if question.answer is None:
            return None
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", question.answer)), default=0))
        return f"{fence}python\n{question.answer}\n{fence}"

    def _work(self, question: Question) -> dict[str, Any]:
        tests = question.tests
        return {
            "limits": self._limits,
            "question": question.question,
            "tests": [tests] if isinstance(tests, str) else list(tests or ()),
            "entry": question.entry_point,
            "cases": [dict(case) for case in question.cases or ()],
        }


@cache
def jail_for(which: Literal["candidate", "tests"], kind: Kind) -> Jail:
    """Returns the jail for candidates or for tests. Both jails are kept as long as this process lives."""
    jail = Jail(kind)
    atexit.register(jail.close)
    return jail


def _finding(work: Work) -> Finding:
    for last_try in (False, True):
        try:
            found = _finding_of_tests(work) if work["tests"] else _finding_of_cases(work)
            if found[0] is Outcome.RIGHT and work["tests"] and work["cases"]:
                found = _finding_of_cases(work)
            return found
        except TimeUp:
            return Outcome.TIMEOUT, f"not done within {work['limits']['tests_s']:g} s"
        except BrokenTests as error:
            return Outcome.ERROR, str(error)
        except SandboxUnavailable as error:
            return Outcome.ERROR, f"the check cannot run here: {error}"
        except JailBroken as error:
            if last_try:
                return Outcome.ERROR, f"the sandbox failed: {error}"
    raise AssertionError("two tries, and neither ended")


def _finding_of_tests(work: Work) -> Finding:
    tests, entry, limits = work["tests"], work["entry"], Limits(wall_s=work["limits"]["tests_s"])
    testing, context = jail_for("tests", work.get("jail", "warm")), _context(work)
    if "code" not in work:
        run_tests(None, testing, tests, entry, context, limits)
        return Outcome.RIGHT, "the tests load"
    try:
        sources = [*context, work["code"]]
        with served(jail_for("candidate", work.get("jail", "warm")), sources, limits, limits.wall_s) as candidate:
            if entry and entry.isidentifier() and entry not in candidate.names:
                return Outcome.WRONG, f"the code defines no {entry}"
            found = run_tests(candidate, testing, tests, entry, context, limits)
    except Failed as error:
        return Outcome.WRONG, shown(str(error), 300)
    if found.why is not None:
        return Outcome.WRONG, shown(found.why, 300)
    if found.passed != len(tests):
        return Outcome.ERROR, f"{found.passed} of {len(tests)} tests came back"
    if not found.calls:
        return Outcome.ERROR, "the tests never called the code"
    many = f"{len(tests)} of {len(tests)} asserts" if len(tests) > 1 else "the tests"
    return Outcome.RIGHT, f"passed {many}, {found.calls} call{'s' * (found.calls != 1)}"


def _finding_of_cases(work: Work) -> Finding:
    """Runs the cases one by one until a case fails, and returns the finding."""
    cases, began, most_s = work["cases"], time.monotonic(), work["limits"]["cases_s"]
    run = _run_calls if "arguments" in cases[0] else _run_scripts
    for number, outcome, why in run(work):
        if outcome is not Outcome.RIGHT:
            return outcome, f"case {number} of {len(cases)}: {why}"
        if time.monotonic() - began > most_s and number < len(cases):
            return Outcome.TIMEOUT, f"{number} of {len(cases)} cases took {most_s:g} s"
    return Outcome.RIGHT, f"passed {len(cases)} of {len(cases)} cases"


def _run_scripts(work: Work) -> Iterator[tuple[int, Outcome, str]]:
    """Starts the program anew for each case, so that no case sees what an earlier case left behind.

    Yields (number of the case, outcome, reason in words). The reason is empty when the outcome is RIGHT.
    """
    jail, limits = jail_for("candidate", work.get("jail", "warm")), Limits(wall_s=work["limits"]["case_s"])
    for number, case in enumerate(work["cases"], 1):
        try:
            ran = run_script(jail, [work["code"]], case["stdin"].encode("utf-8", "surrogatepass"), limits)
        except TimeUp:
            yield number, Outcome.TIMEOUT, f"not done within {limits.wall_s:g} s"
            return
        if ran.too_much:
            yield number, Outcome.WRONG, f"printed more than {limits.output_bytes:,} bytes"
        elif ran.status:
            said = ran.stderr.decode("utf-8", "replace").strip()
            how = f"exit code {ran.status}" if ran.status > 0 else f"killed by signal {-ran.status}"
            yield number, Outcome.WRONG, f"{how}{': ' * bool(said)}{shown(said, 200)}"
        elif why := print_differs(ran.stdout.decode("utf-8", "replace"), case["stdout"]):
            yield number, Outcome.WRONG, why
        else:
            yield number, Outcome.RIGHT, ""


def _run_calls(work: Work) -> Iterator[tuple[int, Outcome, str]]:
    """Loads the program once, and calls its entry point for each case.

    Yields (number of the case, outcome, reason in words). The reason is empty when the outcome is RIGHT.
    """
    # A name that the preamble imports is no definition of the entry point.
    hidden = f"globals().pop({work['entry']!r}, None)"
    sources = [FUNCTION_PREAMBLE, hidden, *_context(work), work["code"]]
    number, case_s = 1, work["limits"]["case_s"]
    try:
        limits = Limits(wall_s=work["limits"]["cases_s"])
        with served(jail_for("candidate", work.get("jail", "warm")), sources, limits, case_s) as candidate:
            function = _function(candidate, work["entry"])
            if function is None:
                yield number, Outcome.WRONG, f"the code defines no {work['entry']}"
                return
            for number, case in enumerate(work["cases"], 1):
                if number > 1:
                    candidate.within(case_s)
                value = partial(json.loads, object_hook=_with_integer_keys if case.get("keys") == "integers" else None)
                got = candidate.call(function(), value(case["arguments"]))
                why = value_differs(got, value(case["returns"]))
                if why and "or_returns" in case:
                    why = value_differs(got, value(case["or_returns"])) and why
                yield number, Outcome.WRONG if why else Outcome.RIGHT, why or ""
    except TimeUp:
        yield number, Outcome.TIMEOUT, f"not done within {case_s:g} s"
    except Failed as error:
        yield number, Outcome.WRONG, shown(str(error), 300)


def _with_integer_keys(found: dict[str, Any]) -> dict[Any, Any]:
    """Returns the dict with its keys as integers, because JSON writes integer keys as strings.

    If any key is no integer, returns the dict as it is.
    """
    try:
        return {int(key): value for key, value in found.items()}
    except ValueError:
        return found


def _function(candidate: Served, entry: str) -> Callable[[], str | int] | None:
    """Returns a function that gives what to call for a case.

    It gives the entry point, or the method of this name of a new `Solution` (LeetCode). Returns None if the program
    defines neither.
    """
    if entry in candidate.names:
        return lambda: entry
    if "Solution" in candidate.names:
        return lambda: candidate.method("Solution", entry)
    return None
