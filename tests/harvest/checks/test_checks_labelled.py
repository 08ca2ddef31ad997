"""Checks on labelled answers: the set of benchmarks/check_cases.py, answers derived from public data, and the examples
of docs/checks.md, which are run so that the page stays true.
"""

import json
import re
import sys
from collections.abc import Iterator
from decimal import localcontext
from pathlib import Path

import pytest

from harvest.checks import CheckPool
from harvest.core.nouns import Outcome, Question

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))

from check_cases import Case, derived, written  # noqa: E402  (a module of scripts, not of a package)

OPTIONS = {"math": (0.995, 0.97), "choice": (0.98, 0.95), "text": (0.98, 0.95)}
"""The least precision and recall of each check (issue 6)."""


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with CheckPool(workers=2, timeout_s=10) as started:
        yield started


def passes(pool: CheckPool, case: Case) -> bool:
    question = Question(id="1", question=case.question, answer=case.gold, check=case.check, choices=case.choices)
    return pool.check_now(question, case.answer).passed


def check_against_bars(pool: CheckPool, cases: list[Case], name: str) -> None:
    cases = [case for case in cases if case.check == name]
    said = [passes(pool, case) for case in cases]
    false = [(case.gold, case.answer) for case, passed in zip(cases, said, strict=True) if passed and not case.right]
    missed = [(case.gold, case.answer) for case, passed in zip(cases, said, strict=True) if case.right and not passed]
    right = sum(case.right for case in cases)
    precision, recall = OPTIONS[name]
    assert right > 15
    assert len(cases) - right > 15
    assert len(false) <= (1 - precision) * sum(said), false
    assert len(missed) <= (1 - recall) * right, missed


@pytest.mark.parametrize("name", OPTIONS)
def test_our_own_labelled_answers_meet_the_bar(pool: CheckPool, name: str) -> None:
    check_against_bars(pool, list(written()), name)


@pytest.mark.parametrize("name", OPTIONS)
def test_answers_derived_from_public_data_meet_the_bar(pool: CheckPool, shared: Path, name: str) -> None:
    check_against_bars(pool, [case for case in derived(200) if case.source != "MATH-500 solutions"], name)


ROW = re.compile(
    r"^\| `(?P<gold>[^`]+)` \| `+(?P<answer>.+?)`+ \| (?P<verdict>[a-z ]+) \|(?: `(?P<question>[^`]+)` \|)?$"
)
CHECK_OF = {"Where the result stands": "math", "Maths": "math", "Choice": "choice", "Text, yes and no": "text"}


def examples() -> Iterator[tuple[str, str, str, str, str]]:
    section = ""
    for line in (ROOT / "docs/checks.md").read_text(encoding="utf-8").split("\n"):
        section = line.removeprefix("## ") if line.startswith("## ") else section
        if section in CHECK_OF and line.startswith("| `"):
            row = ROW.match(line)
            assert row is not None, line
            answer = row["answer"].replace("⏎", "\n")
            answer = f"```{answer}```" if answer.startswith("python") else answer
            question = (row["question"] or "?").replace("⏎", "\n")
            yield CHECK_OF[section], question, row["gold"], answer, row["verdict"]


@pytest.mark.parametrize(("check", "question", "gold", "answer", "verdict"), list(examples()))
def test_each_example_of_the_page_is_judged_as_it_says(
    pool: CheckPool, check: str, question: str, gold: str, answer: str, verdict: str
) -> None:
    said = pool.check_now(Question(id="1", question=question, answer=gold, check=check), answer)
    assert said.outcome is Outcome(verdict.replace(" ", "_")), said.detail


def test_the_page_has_examples_of_each_check_and_each_verdict() -> None:
    found = list(examples())
    assert {check for check, *_ in found} == {"math", "choice", "text"}
    assert {verdict for *_, verdict in found} == {"right", "wrong", "no answer", "error"}


# ---- reasoning-gym

TASK_NAMES = """
    basic_arithmetic chain_sum calendar_arithmetic complex_arithmetic count_bits decimal_arithmetic gcd lcm
    fraction_simplification leg_counting number_format power_function prime_factorization products simple_equations
    simple_geometry spell_backward letter_counting word_sorting number_sorting base_conversion caesar_cipher countdown
    palindrome binary_matrix rotate_matrix spiral_matrix zebra_puzzles family_relationships needle_haystack
    number_sequence propositional_logic time_intervals course_schedule shortest_path largest_island aiw list_functions
"""
TASKS = TASK_NAMES.split()


@pytest.mark.parametrize("task", TASKS)
def test_a_task_of_reasoning_gym_takes_its_gold_answer_and_no_other(pool: CheckPool, task: str) -> None:
    reasoning_gym = pytest.importorskip("reasoning_gym", reason="needs the extra gym")
    from reasoning_gym.factory import DATASETS

    if task not in DATASETS:
        pytest.skip(f"this reasoning-gym has no {task}")
    with localcontext():  # a task may set the precision of decimals
        made = reasoning_gym.create_dataset(task, size=1, seed=7)[0]
    entry = json.loads(json.dumps(made, default=str))
    gold = str(entry["answer"])
    row = Question(id="1", question="?", check="reasoning_gym", reasoning_gym={"task": task, "entry": entry})
    if "\n" not in gold:
        assert pool.check_now(row, f"<think>hm</think>\n\nSo the answer is \\boxed{{{gold}}}.").passed
        assert pool.check_now(row, f"First this, then that.\n\nThe answer is {gold}").passed
    assert pool.check_now(row, f"First this, then that.\n\nAnswer:\n{gold}").passed
    wrong = pool.check_now(row, "The answer is \\boxed{0 of them, it seems}")
    assert wrong.outcome in (Outcome.WRONG, Outcome.ERROR), wrong.detail
    assert pool.check_now(row, f"The answer is \\boxed{{{gold}").outcome is Outcome.NO_ANSWER
