"""Checks on labelled right, wrong and hostile answers; gold answers; and no worker is left by a killed parent."""

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvest.answers.quantities import parse_number
from harvest.checks import CHECKS, CheckPool, check_name_for, final_answer, gold_problems, split_at_final_box
from harvest.core.nouns import Outcome, Question, Verdict


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with CheckPool(workers=2) as started:
        yield started


def ask(gold: str, question: str = "How many?", check: str = "math", **more: object) -> Question:
    return Question.model_validate({"id": "1", "question": question, "answer": gold, "check": check, **more})


RIGHT = [
    # where the answer stands
    ("18", r"So she makes \boxed{18} dollars."),
    ("18", r"\boxed{7} is the first step. Adding 11 gives $$\boxed{18}$$"),
    ("18", r"\boxed{18}" + "\n\nLet me know if you have questions!"),
    ("18", r"\fbox{18}"),
    ("18", r"\boxed 18"),
    ("18", r"It is \boxed{18}, that is, \boxed{18.0}."),
    ("18", "The answer is 18"),
    ("18", "The answer is 18."),
    ("18", "The answer is: **18**."),
    ("18", "**Answer:** 18"),
    ("18", "**Answer**: $18$"),
    ("18", "### Final Answer\n\n18"),
    ("18", "The final answer is $18$. I hope it is correct."),
    ("18", "So the answer is:\n\n$$\n18\n$$"),
    ("18", "The final answer is:\n\\[\n18\n\\]"),
    ("26", "Q: …\nA: 26"),
    ("72", "48 + 24 = 72 clips.\n#### 72"),
    ("72", "She sold 48/2 = 24 clips in May.\nSo altogether 48 + 24 = 72\n#### 72\n"),
    ("72", "48 + 24 is\n72"),
    ("72", "48 + 24 = 72"),
    ("72", "Therefore, Natalia sold 72 clips altogether."),
    ("18", "She makes **$18** every day."),
    ("18", "The answer to the question is therefore 18 dollars."),
    ("18", "Answer: x = 18"),
    ("18", "<think>\nIt might be 17.\n</think>\n\nThe answer is 18."),
    ("18", "The correct answer is 18 because 9 times 2 is 18."),
    ("(2,\\infty)", "Therefore $x > 2$ is the solution."),
    ("x \\le 2", "Thus $x <= 2$ is our answer."),
    ("34", "Final Answer: The largest $n$ is 34."),
    (r"\text{odd}", "$odd$"),
    (r"The steps.\n\boxed{18}", r"\boxed{18}"),
    # plain numbers
    ("1000", r"\boxed{1,000}"),
    ("1000", r"\boxed{1,\! 000}"),
    (r"28\%", "The answer is $28$ percent."),
    ("1000", r"\boxed{1{,}000}"),
    ("1000", r"\boxed{1\,000}"),
    ("1,000", r"\boxed{1000}"),
    ("1000000", r"\boxed{1 million}"),
    ("18", r"\boxed{\$18.00}"),
    ("18", r"\boxed{18\text{ dollars}}"),
    ("18", r"\boxed{18 \text{ eggs per day}}"),
    ("18", r"\boxed{\text{18 dollars}}"),
    ("$18", r"\boxed{18}"),
    ("-7", "Answer: \N{MINUS SIGN}7"),
    ("50", r"\boxed{50\%}"),
    (r"50\%", r"\boxed{50}"),
    (r"50\%", r"\boxed{50 percent}"),
    ("0.5", r"\boxed{50\%}"),
    ("0.5", r"\boxed{\frac12}"),
    ("0.5", r"\boxed{.5}"),
    (r"\frac{3}{4}", r"\boxed{3/4}"),
    (r"\frac{3}{4}", r"\boxed{0.75}"),
    (r"\frac34", r"\boxed{\dfrac{3}{4}}"),
    (r"-\frac{1}{2}", r"\boxed{\frac{-1}{2}}"),
    (r"2\frac{1}{4}", r"\boxed{2 1/4}"),
    (r"2\frac{1}{4}", r"\boxed{2.25}"),
    ("9/4", r"\boxed{2\frac14}"),
    ("2.5", "Answer: 2½"),
    ("1500000", r"\boxed{1.5 \times 10^6}"),
    ("0.00032", r"\boxed{3.2\cdot 10^{-4}}"),
    ("60^\\circ", r"\boxed{60}"),
    ("60", r"\boxed{60^{\circ}}"),
    ("36", r"\boxed{36\text{ cm}^2}"),
    (r"428\text{ square centimeters}", r"\boxed{428\ \text{cm}^2}"),
    ("3", "The answer is three."),
    ("2516_8", r"\boxed{2516_{8}}"),
    ("2516_8", r"\boxed{2516}"),
    ("12345678901234567890123", r"\boxed{12345678901234567890123}"),
    # expressions
    (r"\frac{\pi}{2}", r"\boxed{\dfrac{\pi}{2}}"),
    (r"2\sqrt{3}", r"\boxed{\sqrt{12}}"),
    (r"\frac{\sqrt{2}}{2}", r"\boxed{\frac{1}{\sqrt{2}}}"),
    (r"\sqrt{2}", "The answer is sqrt(2)."),
    (r"3\pi", "Answer: 3π"),
    ("18", r"\boxed{2 \cdot 9}"),
    ("1024", r"\boxed{2^{10}}"),
    ("p - q", r"\boxed{-q + p}"),
    ("x^2+5x+4", r"\boxed{(x+1)(x+4)}"),
    ("y=-2x+1", r"\boxed{y = 1 - 2x}"),
    ("y=-2x+1", r"\boxed{-2x+1}"),
    ("3", r"\boxed{x = 3}"),
    ("x=3", r"\boxed{3}"),
    ("(1,2)", r"\boxed{(1, 2)}"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"\boxed{(3, \pi/2)}"),
    ("1, 2", r"\boxed{2, 1}"),
    ("1,-2", r"\boxed{-2 \text{ and } 1}"),
    ("3, 5", r"The solutions are \boxed{3} and \boxed{5}."),
    ("3, 5", r"$x = \boxed{3}$ or $x = \boxed{5}$"),
    (r"\{1,2,3\}", r"\boxed{\{3,2,1\}}"),
    (r"(-\infty,1]", r"\boxed{(-\infty, 1]}"),
    ("(2,\\infty)", r"\boxed{x > 2}"),
    ("[1,2]", r"\boxed{1 \le x \le 2}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\boxed{\begin{bmatrix} 1 \\ 2 \end{bmatrix}}"),
    (r"1 \pm \sqrt{2}", r"\boxed{1+\sqrt{2}, 1-\sqrt{2}}"),
    ("-8 + 2i", r"\boxed{2i - 8}"),
    (r"\frac{9}{\pi^2}(\sqrt{3}+3)", r"\boxed{\frac{9\sqrt{3}+27}{\pi^2}}"),
    # words
    (r"\text{Evelyn}", r"\boxed{Evelyn}"),
    (r"\text{Evelyn}", r"\boxed{\text{evelyn}}"),
    (r"\text{(C)}", r"\boxed{\text{C}}"),
    (r"\text{Wednesday}", "The answer is Wednesday."),
    (r"\text{no solution}", r"\boxed{\text{No solution}}"),
]

WRONG = [
    ("18", r"\boxed{19}"),
    ("18", r"\boxed{18} and then \boxed{19}"),
    ("18", r"\boxed{18} or \boxed{19}"),
    ("19", r"either \boxed{18} or \boxed{19}"),
    ("19", r"$\boxed{18}$. Alternatively, $\boxed{19}$."),
    ("19", r"\boxed{18}, or possibly, counting the dog, \boxed{19}"),
    ("18", r"\boxed{18 \text{ or } 19}"),
    ("18", r"\boxed{18, 19}"),
    ("18", "The answer is 18 or 20."),
    ("18", "The answer is either 18 or 20."),
    ("18", r"\boxed{18}" + "\n\nThe answer is 20."),
    ("18", "Answer: 18\nAnswer: 20"),
    ("20", "Answer: 18\nAnswer: 20"),
    ("50", r"\boxed{0.5}"),
    ("0.5", r"\boxed{50}"),
    (r"50\%", r"\boxed{5}"),
    (r"50\%", r"\boxed{0.05}"),
    ("0.5", r"\boxed{0.5\%}"),
    ("5", r"\boxed{5t}"),
    ("5", r"\boxed{5x}"),
    ("5x", r"\boxed{5}"),
    ("2s", r"\boxed{2}"),
    ("18", r"\boxed{-18}"),
    ("-18", r"\boxed{18}"),
    ("1000", r"\boxed{1}"),
    ("1000", r"\boxed{1.000}"),
    ("1234", r"\boxed{1,2,3,4}"),
    ("12", r"\boxed{1/2}"),
    ("5 \\text{ cm}", r"\boxed{5\text{ m}}"),
    ("$18", r"\boxed{18\text{ cents}}"),
    ("1/3", r"\boxed{0.33}"),
    ("1/3", r"\boxed{0.333333}"),
    (r"\sqrt{2}", r"\boxed{1.414}"),
    (r"\sqrt{2}", r"\boxed{1.41421356}"),
    ("0.5", r"\boxed{0.54}"),
    ("2.25", r"\boxed{2.2536}"),
    ("3.14", r"\boxed{3.1}"),
    ("18", r"\boxed{18.0001}"),
    ("(1,2)", r"\boxed{(2,1)}"),
    ("(1,2)", r"\boxed{[1,2]}"),
    ("[1,2)", r"\boxed{(1,2]}"),
    ("1,2", r"\boxed{1}"),
    ("1", r"\boxed{1,2}"),
    (r"\{1,2\}", r"\boxed{\{1,2,3\}}"),
    (r"\{1,2\}", r"\boxed{(1,2)}"),
    ("40_9", r"\boxed{40_8}"),
    ("10", r"\boxed{1010_2}"),
    ("x=3", r"\boxed{y=3}"),
    ("x^2+1", r"\boxed{x^2-1}"),
    ("x^2+1", r"\boxed{x^2+1=0}"),
    (r"\frac{\pi}{2}", r"\boxed{\frac{\pi}{3}}"),
    ("p - q", r"\boxed{q - p}"),
    (r"2\sqrt{3}", r"\boxed{3\sqrt{2}}"),
    ("y=-2x+1", r"\boxed{y=2x+1}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\boxed{\begin{pmatrix} 2 \\ 1 \end{pmatrix}}"),
    ("18", r"\boxed{\text{cannot be determined}}"),
    ("18", r"\boxed{not 18}"),
    ("18", r"\boxed{?}"),
    ("18", r"\boxed{\infty}"),
    (r"\text{Evelyn}", r"\boxed{\text{Alice}}"),
    (r"\text{A}", r"\boxed{\text{A or B}}"),
    ("18", r"\boxed{18 + 0.5}"),
    ("2", r"\boxed{2-1/2}"),
]

WRONG += [
    ("4", r"\boxed{\text{four hundred}}"),
    ("30", "The answer is thirty thousand."),
    ("6", "The answer is six point five."),
    ("4", r"\boxed{4\text{ hours and }20\text{ minutes}}"),
    ("x", r"\boxed{-x}"),
    ("-i", r"\boxed{i}"),
    ("n", r"\boxed{n!}"),
    ("x", r"\boxed{x'}"),
    ("xy", r"\boxed{-xy}"),
]

RIGHT += [
    ("4.5", "It took 4 hours and 30 minutes."),
    ("6.25", "They need 6 dollars and 25 cents."),
    ("4.5", "It took 4 and a half hours."),
    (r"4\text{ hours }30\text{ minutes}", r"\boxed{270\text{ minutes}}"),
    ("1400", "He bought fourteen hundred nails."),
    ("6", "They need six more chairs."),
    ("-i", "The answer is $-i$."),
    ("xy", r"\boxed{y\cdot x}"),
    ("x", r"\boxed{x^1}"),
]

RIGHT += [("(2, -3)", "The vertex is (2, -3)."), ("4:3", "The ratio is 4:3.")]

NO_ANSWER = [
    "",
    "   \n",
    r"So the result is \boxed{18",
    r"So the result is \boxed{\frac{18}{1}",
    r"First \boxed{7}. So the result is \boxed{18",
    r"So it is \boxed{}",
    "I think there may be 18 ducks, but it cannot be determined.",
    "Let me compute 9 times 2 and then",
    "There are 18 ducks and 20 geese in all.",
    "Is it 18?",
    "The answer is not 18.",
    "<think>\nThe answer is 18",
    "The result is either 18 or 20, I am not sure.",
]


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_a_right_answer_is_right(pool: CheckPool, gold: str, answer: str) -> None:
    said = pool.check_now(ask(gold), answer)
    assert said.outcome is Outcome.RIGHT, said.detail


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_a_wrong_answer_is_wrong(pool: CheckPool, gold: str, answer: str) -> None:
    said = pool.check_now(ask(gold), answer)
    assert said.outcome is Outcome.WRONG, said.detail


@pytest.mark.parametrize("answer", NO_ANSWER)
def test_an_answer_without_a_result_is_no_answer(pool: CheckPool, answer: str) -> None:
    said = pool.check_now(ask("18"), answer)
    assert said.outcome is Outcome.NO_ANSWER, said.detail


@pytest.mark.parametrize(
    "answer",
    [
        "It took 4 hours and 20 minutes.",
        "It took 4 hours, 20 minutes.",
        "It took **4 hours** and **20 minutes**.",
        "He earned $4 at home and $20 at work.",
        "He has 4 goats, 2 cows and a horse.",
        "It took 4 and a half hours.",
    ],
)
def test_the_first_of_several_quantities_is_not_the_answer(pool: CheckPool, answer: str) -> None:
    assert not pool.check_now(ask("4"), answer).passed


@pytest.mark.parametrize(
    ("question", "answer", "right"),
    [
        ("How fast is it, in km/h?", r"\boxed{9\text{ km/h}}", True),
        ("How fast is it, in km/h?", r"\boxed{9\text{ kilometers per hour}}", True),
        ("How fast is it, in km/h?", r"\boxed{9\text{ m/s}}", False),
        ("How fast is it, in miles per hour?", r"\boxed{9\text{ mph}}", True),
        ("How fast is it, in miles per hour?", r"\boxed{9\text{ km/h}}", False),
        ("What is the area, in square feet?", r"\boxed{9\text{ ft}^2}", True),
        ("What is the area, in square feet?", r"\boxed{9\text{ square yards}}", False),
        ("How warm is it in degrees Celsius?", r"\boxed{9^\circ\text{C}}", True),
        ("How warm is it in degrees Celsius?", r"\boxed{9^\circ}", True),
        ("How warm is it in degrees Celsius?", r"\boxed{9^\circ\text{F}}", False),
        ("Find the value of $n$.", r"\boxed{n=9}", True),
        ("Find the value of $n$.", r"\boxed{k=9}", False),
        ("What is $g(4)$?", r"\boxed{g(4)=9}", True),
        ("What is $g(4)$?", r"\boxed{g(2)=9}", False),
        (r"What is $3 \times 3$?", r"\boxed{3 \cdot 3}", False),
    ],
)
def test_another_unit_or_another_name_than_the_asked_is_wrong(
    pool: CheckPool, question: str, answer: str, right: bool
) -> None:
    assert pool.check_now(ask("9", question), answer).passed is right


def test_a_detail_says_what_was_found_and_what_was_wanted(pool: CheckPool) -> None:
    assert pool.check_now(ask("72"), r"\boxed{18}").detail == "boxed 18, gold 72"
    unclosed = pool.check_now(ask("72"), r"\boxed{72").detail
    assert unclosed == "no final answer found: the box is not closed"
    two = pool.check_now(ask("72"), "\\boxed{72}\nThe answer is 18.").detail
    assert two == "two different answers: boxed 72, then stated 18, gold 72"


ROUNDING = "Round your answer to the nearest hundredth."


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("3.14", r"\boxed{3.14159}", True),
        ("3.14", r"\boxed{\pi}", True),
        ("0.33", r"\boxed{\frac13}", True),
        ("1.41", r"\boxed{\sqrt{2}}", True),
        ("3.14", r"\boxed{3.15}", False),
        ("3.14", r"\boxed{3.1}", False),
        ("3.14", r"\boxed{3.149}", False),
        ("3", r"\boxed{3.2}", False),
        ("1/3", r"\boxed{0.33}", False),
    ],
)
def test_tolerance_is_only_for_a_rounded_decimal(pool: CheckPool, gold: str, answer: str, right: bool) -> None:
    assert pool.check_now(ask(gold, ROUNDING), answer).passed is right
    if "." in gold:
        assert not pool.check_now(ask(gold, "How much is it?"), answer).passed


def test_many_decimals_count_as_rounded(pool: CheckPool) -> None:
    assert pool.check_now(ask("1.4142", "What is it?"), r"\boxed{\sqrt{2}}").passed


# ---- the fast path, as properties

FORMS = [
    "{n}", "{n}.0", "{n}.", "+{n}", " {n} ", "{n:,}", "${n:,}$", "\\${n}", "{n} dollars", "{n}\\text{{ eggs}}",
    "{n}\\%", "x = {n}", "\\frac{{{n}}}{{1}}", "{n}/1", "{n}.00", "**{n}**", "{n}e0", "{n} \\times 10^0",
]  # fmt: skip


@given(n=st.integers(0, 10**30), form=st.sampled_from(FORMS), off=st.sampled_from([-1, 1]))
@settings(deadline=None)
def test_a_number_in_any_form_is_right_and_its_neighbour_never(n: int, form: str, off: int) -> None:
    answer = "So it is \\boxed{" + form.format(n=n) + "}"
    math, question = CHECKS["math"], "What percent is it?" if "%" in form else "How many are there?"
    assert math.quick(ask(str(n), question), answer)[0] is Outcome.RIGHT
    assert math.quick(ask(str(n + off), question), answer)[0] is Outcome.WRONG


@given(text=st.text(max_size=300))
@settings(deadline=None)
def test_any_text_gets_a_finding_or_work(text: str) -> None:
    for name, check in CHECKS.items():
        question = ask("18", check=name, choices=["17", "18"] if name == "choice" else None)
        for answer in (text, f"\\boxed{{{text}}}", f"The answer is {text}"):
            found = check.quick(question, answer)
            assert json.dumps(found) if isinstance(found, dict) else found[0] in Outcome


@given(top=st.integers(-(10**12), 10**12), bottom=st.integers(1, 10**6))
def test_a_fraction_is_read_exactly(top: int, bottom: int) -> None:
    for form in (f"{top}/{bottom}", f"\\frac{{{top}}}{{{bottom}}}"):
        number = parse_number(form)
        assert number is not None
        assert number.value * bottom == top


@pytest.mark.parametrize("text", ["1e999999999", "9" * 5000, "1e-999999999", "1/0", "1,2", "5x", "3 - 4", "", "1 5/2"])
def test_what_is_no_plain_number_is_left_to_others(text: str) -> None:
    assert parse_number(text) is None


# ---- where the answer stands


def test_the_final_answer_is_the_last_finished_box_or_what_is_stated() -> None:
    assert final_answer(r"\boxed{1} so $\boxed{\frac{1}{2}}$") == r"\frac{1}{2}"
    assert final_answer(r"\boxed{\{1, 2\}}") == r"\{1, 2\}"
    assert final_answer("The answer is **18**.") == "18"
    assert final_answer(r"\boxed{1") is None
    assert final_answer("") is None


@given(before=st.text(max_size=80), after=st.text(alphabet=st.characters(exclude_characters="\\"), max_size=40))
def test_splitting_at_the_box_loses_nothing(before: str, after: str) -> None:
    text = before + "\nSo it is \\boxed{18}." + after
    parts = split_at_final_box(text)
    if parts is not None:
        assert "".join(parts) == text
        assert "\\boxed{18}" in parts[1]
        assert parts[0].strip()


@pytest.mark.parametrize(
    ("text", "chain"),
    [
        ("3 + 4 = 7\n7 + 2 = 9\n\\boxed{9}", "3 + 4 = 7\n7 + 2 = 9\n"),
        ("3 + 4 = 7\n\\[\n\\boxed{7}\n\\]", "3 + 4 = 7\n"),
        ("3 + 4 = 7. So it is \\boxed{7}.", "3 + 4 = 7. "),
    ],
)
def test_the_chain_stands_before_the_box(text: str, chain: str) -> None:
    parts = split_at_final_box(text)
    assert parts is not None
    assert parts[0] == chain


@pytest.mark.parametrize("text", ["\\boxed{7}", "no box", "chain\n\\boxed{7", "So \\boxed{7}"])
def test_without_a_chain_or_a_finished_box_there_is_no_split(text: str) -> None:
    assert split_at_final_box(text) is None


# ---- hostile answers

SLOW_TO_SCAN = [
    "answer" + " " * 9_000, "the answer to " * 700, "answer " + "*_ " * 3_000, "5 " + "a" * 78 + "!",
    "5 " + "a." * 39 + "!",
    "Answer: 5" + " " * 9_000 + "x", "#" * 9_000, "A" * 9_000 + ":", "*" * 9_000, "$" * 9_001, "\\boxed{" * 1_300,
    "\\boxed{1}" * 1_000, "\\boxed{1} or " * 700, "." * 9_000, ". " * 5_000, "\\text{" * 1_500, "= " * 5_000,
    "1 " * 5_000,
    "1," * 5_000, "x" * 3_000_000, "\n" * 3_000_000, "(" * 1_000_000, "\\boxed{5}" + "y" * 3_000_000, "1" * 398 + "\n",
    "1" + " " * 398 + "\n", "a_" * 200 + "=", "yes " * 3_000, "(A) " * 3_000,
    "\\color{" * 1_400, "\\frac{" * 1_500, "\\text{a" * 1_200, "{1 \\over " * 900, "<answer>" * 1_200, "```\n" * 2_400,
    "```python\n" * 900, "`\\boxed" * 1_200, "<|im_start|>" * 800, "total " * 1_600 + "= 5", "a b " * 2_400 + "(",
    "\\begin{matrix}" * 600, "1 & 2 \\\\ " * 900, "x \\le " * 1_200, "x = " * 2_400, "1, " * 3_200, "1 or " * 1_900,
    "so " * 3_200, "is " * 3_200 + "18", "the area is " * 800, "1:" * 4_800, "B or " * 1_900, "B, " * 3_200,
    "If " * 3_200 + "the answer is 18", "\N{SUPERSCRIPT TWO}" * 9_000, "\N{ZERO WIDTH SPACE}" * 9_000,
    "\N{VULGAR FRACTION ONE HALF}" * 3_000, "答案" * 4_500, "hmm " * 2_400, "I cannot " * 1_100, "-" * 9_000,
    "all real numbers except " * 400, "for all " * 1_200, "\\{x : " * 1_500, "\\sqrt[3]" * 1_100, "7^{" * 2_800,
    "is not " * 1_300, "**" * 4_500, "(" * 60 + "1" + ")" * 60, "((1, " * 29 + "2" + "), 3)" * 29,
]  # fmt: skip


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_reading_an_answer_takes_no_time_whatever_it_is(name: str) -> None:
    listed = ["17", "18"] if name == "choice" else None
    question = ask("18", check=name, choices=listed, reasoning_gym={"task": "chain_sum", "entry": {"answer": "18"}})
    for text in SLOW_TO_SCAN:
        for answer in (text, f"The answer is {text}", f"\\boxed{{{text}}}"):
            started = time.process_time()
            CHECKS[name].quick(question, answer)
            assert time.process_time() - started < 0.4, answer[:40]


HOSTILE = [
    "9^{9^{9^{9^{9}}}}", "9**9**9**9**9", "10^{10^{10}}", "10**(10**10)", "(10^{10^{8}})!", "99999999!",
    "((((9!)!)!)!)!",
    "{" * 3000 + "1" + "}" * 3000, "(" * 3000 + "1" + ")" * 3000, "(" * 50 + "x" + ")" * 50 + "^2" * 40,
    r"\frac{1}{" * 40 + "2" + "}" * 40, r"\frac{1}{" * 2000 + "2" + "}" * 2000, r"\sqrt{" * 500 + "2" + "}" * 500,
    "9" * 20_000, "9" * 9_000 + "!", "x+" * 200_000 + "1", "1" * 2_000_000,
    r"\int_0^{\infty} e^{-x^{x^{x}}} \sin(x^x) dx",
    r"\sum_{n=1}^{10^{12}} \sin(n^n)", r"\prod_{n=1}^{10^{9}} (n^n+1)", "(x+y+z+w+1)^{5000}", "(a+b)^{99999} - 1",
    r"\binom{10^{9}}{5 \cdot 10^{8}}", "2^{2^{2^{2^{2^{2}}}}}", r"\left(" * 400 + "1" + r"\right)" * 400,
    r"\binom{10^{6}}{5 \cdot 10^{5}}^{1000}", "2^{100000} \\cdot 3^{100000}!", r"\sqrt[10^{9}]{10^{10^{9}}}",
    r"\pi^{\pi^{\pi^{\pi^{\pi^{\pi}}}}}",
    r"\sin(10^{10^{10}})", r"\ln(\ln(10^{10^{10^{10}}}))", r"\prod_{k=1}^{10^6} \prod_{j=1}^{10^6} (k+j)",
    r"\int_0^1 \int_0^1 \int_0^1 x^{y^{z}} dx dy dz",
    "x^{" * 59 + "x" + "}" * 59, "(x+1)^{" * 30 + "2" + "}" * 30,
    r"\begin{pmatrix}" + r"2^{99999} & 3^{99999} \\ " * 150 + r"1 & 1 \end{pmatrix}",
    ", ".join(rf"\sqrt{{{n}}}" for n in range(2, 190)), r"\{" + ", ".join(f"{n}!" for n in range(2000, 2150)) + r"\}",
    r"\pm" * 3000, "1:" * 4000 + "1",
    r"\lim_{n \to \infty} \sum_{k=1}^{n} \frac{1}{k^{k^{k}}}", "+".join(f"x_{{{n}}}^{{{n}}}" for n in range(1, 300)),
    "e^{e^{e^{e^{e^{e}}}}}",
    "1e999999999999", r"\gcd(9^{9^{9}}, 8^{8^{8}})", "__import__('os').system('touch owned')", "\\text{" * 5000,
    r"\begin{pmatrix}" + "1 & " * 3000 + r"1 \end{pmatrix}", "\x00\x01\ud800", r"\lim_{x \to 0} x^{-x^{-x^{-x^{-x}}}}",
]  # fmt: skip


def test_hostile_answers_end_in_time_and_the_next_is_judged_right() -> None:
    limit_s = 2.0
    with CheckPool(workers=1, timeout_s=limit_s) as pool:
        assert pool.check_now(ask(r"2\sqrt{3}"), r"\boxed{\sqrt{12}}").passed
        for expression in HOSTILE:
            started = time.monotonic()
            said = pool.check_now(ask(r"18\pi"), f"So \\boxed{{{expression}}}")
            took = time.monotonic() - started
            assert not said.passed, (expression[:60], said)
            assert len(said.detail) < 500
            # A worker that was killed has to start again before the limit counts: that is not the answer's time.
            after = time.monotonic()
            assert pool.check_now(ask(r"2\sqrt{3}"), r"\boxed{\frac{6}{\sqrt{3}}}").passed, expression[:60]
            restarted = time.monotonic() - after
            assert took < limit_s + 0.5, (expression[:60], took, restarted)


def test_hostile_answers_in_a_row_each_end_in_time() -> None:
    limit_s = 3.0
    with CheckPool(workers=1, timeout_s=limit_s) as pool:
        for tower in HOSTILE[:3]:
            started = time.monotonic()
            said = pool.check_now(ask(r"18\pi"), f"\\boxed{{{tower}}}")
            assert said.outcome in (Outcome.TIMEOUT, Outcome.ERROR)
            assert time.monotonic() - started < limit_s + 0.5


def test_a_tower_is_a_timeout_or_an_error_never_wrong(pool: CheckPool) -> None:
    for tower in HOSTILE[:8]:
        said = pool.check_now(ask(r"18\pi"), f"\\boxed{{{tower}}}")
        assert said.outcome in (Outcome.TIMEOUT, Outcome.ERROR), (tower[:40], said)


# ---- the workers


async def test_many_coroutines_share_one_judge() -> None:
    with CheckPool(workers=2) as pool:
        questions = [(ask(rf"{n}\sqrt{{3}}"), rf"\boxed{{\frac{{{3 * n}}}{{\sqrt{{3}}}}}}") for n in range(2, 40)]
        hostile = asyncio.create_task(pool.check(ask(r"18\pi"), r"\boxed{99999999!}"))
        said = await asyncio.gather(*(pool.check(question, answer) for question, answer in questions))
        assert all(verdict.passed for verdict in said)
        assert (await hostile).outcome in (Outcome.TIMEOUT, Outcome.ERROR)


async def test_a_cancelled_judgement_harms_no_other() -> None:
    with CheckPool(workers=1, timeout_s=2) as pool:
        tasks = [asyncio.create_task(pool.check(ask(r"\pi"), rf"\boxed{{{n}\pi/{n}}}")) for n in range(2, 8)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        said = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(v, Verdict) and v.passed for v in said] == [True, True, True, False, True, True]


PARENT = """
import sys, time
from harvest.checks import CheckPool
from harvest.core.nouns import Question
pool = CheckPool(workers=2, timeout_s=60)
q = Question(id="1", question="?", answer="18\\\\pi", check="math")
assert pool.check_now(q, "\\\\boxed{9\\\\pi + 9\\\\pi}").passed
import threading
threading.Thread(target=pool.check_now, args=(q, "\\\\boxed{99999999!}"), daemon=True).start()
time.sleep(0.5)
print("ready", flush=True)
time.sleep(60)
"""


def _children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_die_with_a_killed_parent_and_leave_its_pipes() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    workers = _children(parent.pid)
    assert workers
    os.kill(parent.pid, signal.SIGKILL)
    # Pipes that a worker kept open would hold this up; a busy worker has to die in the middle of its sum.
    out, err = parent.communicate(timeout=5)
    assert (out, err) == (b"", b"")
    deadline = time.monotonic() + 5
    while not all(_ended(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_that_is_killed_from_outside_is_replaced() -> None:
    with CheckPool(workers=1) as pool:
        assert pool.check_now(ask(r"\pi"), r"\boxed{2\pi/2}").passed
        for worker in _children(os.getpid()):
            if b"harvest.checks.worker" in Path(f"/proc/{worker}/cmdline").read_bytes():
                os.kill(worker, signal.SIGKILL)
        time.sleep(0.1)
        assert pool.check_now(ask(r"\pi"), r"\boxed{3\pi/3}").passed


def test_importing_the_checks_loads_no_algebra() -> None:
    code = "import sys, harvest.checks; print(sorted({'sympy', 'math_verify', 'reasoning_gym'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=Path(__file__).parents[3], check=True)
    assert done.stdout == b"[]\n"


def test_a_worker_sees_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    from harvest.checks.pool import _environment

    monkeypatch.setenv("SOME_API_KEY", "sk-secret")
    assert "sk-secret" not in _environment().values()


def test_a_closed_judge_refuses_and_leaves_no_process() -> None:
    pool = CheckPool(workers=1)
    assert pool.check_now(ask(r"\pi"), r"\boxed{2\pi/2}").passed
    pool.close()
    with pytest.raises(RuntimeError):
        pool.check_now(ask(r"\pi"), r"\boxed{2\pi/2}")


# ---- gold answers


def _rows(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def test_gsm8k_golds_pass_their_own_check(shared: Path, pool: CheckPool) -> None:
    rows = _rows(shared / "data/gsm8k/test.jsonl")
    for row in rows:
        gold = row["answer"].partition("####")[2].strip()
        assert check_name_for({"question": row["question"], "answer": gold}) == "math"
        assert gold_problems([ask(gold, row["question"])], pool)[0] is None
        assert pool.check_now(ask(gold, row["question"]), row["answer"]).passed
        assert not pool.check_now(ask(gold + "1", row["question"]), row["answer"]).passed


def test_math_500_golds_pass_their_own_check(shared: Path, pool: CheckPool) -> None:
    rows = _rows(shared / "data/math/math500.jsonl")
    failed = [row["answer"] for row in rows if gold_problems([ask(row["answer"], row["problem"])], pool)[0]]
    assert len(failed) <= len(rows) // 100, failed
    unsolved = [row for row in rows if not pool.check_now(ask(row["answer"], row["problem"]), row["solution"]).passed]
    assert len(unsolved) <= len(rows) // 50, [(r["answer"], final_answer(r["solution"])) for r in unsolved]


def test_another_question_s_answer_is_never_right(shared: Path, pool: CheckPool) -> None:
    rows = _rows(shared / "data/math/math500.jsonl")
    golds = sorted({row["answer"] for row in rows if not row["answer"].isdigit()})
    random.Random(7).shuffle(golds)
    taken = [
        (gold, other)
        for gold, other in itertools.pairwise(golds[:81])
        if pool.check_now(ask(gold), f"\\boxed{{{other}}}").passed
    ]
    assert taken == []


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (ask(""), "needs a gold answer"),
        (ask("18", check="maths"), "no check named 'maths'"),
        (ask("(E)", "Which?\n(A) one\n(B) two", "choice"), "names none of the options"),
        (ask("18", check="reasoning_gym"), "needs a gold answer"),
        (ask("\\frac{1}{"), "does not pass its own check"),
    ],
)
def test_a_gold_answer_that_cannot_pass_is_named(pool: CheckPool, row: Question, says: str) -> None:
    problem = gold_problems([row], pool)[0]
    assert problem is not None
    assert says in problem


def test_labelled_traces_are_judged_as_labelled(shared: Path, pool: CheckPool) -> None:
    rows = _rows(shared / "data/traces/qwen3.jsonl")
    rows = [row for row in rows if row["grader"] in ("numeric", "choice") and row["finish_reason"] == "stop"]
    numeric = [row for row in rows if row["grader"] == "numeric"]
    said = [pool.check_now(ask(row["gold"], row["question"]), row["answer"]) for row in numeric]
    assert all(verdict.outcome in (Outcome.RIGHT, Outcome.WRONG) for verdict in said)
    assert sum(verdict.passed for verdict in said) > 0.9 * len(numeric)
    # The same answers under another gold are wrong, all of them.
    for row, verdict in zip(numeric, said, strict=True):
        if verdict.passed:
            assert not pool.check_now(ask(str(int(row["gold"]) + 1), row["question"]), row["answer"]).passed


# ---- choice, text, reasoning-gym

OPTIONS = "Who is first?\nOptions:\n(A) Ana\n(B) Ben\n(C) Cara"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("The answer is (B).", Outcome.RIGHT),
        ("So the answer is B", Outcome.RIGHT),
        (r"\boxed{B}", Outcome.RIGHT),
        (r"\boxed{\text{(B)}}", Outcome.RIGHT),
        (r"\boxed{\text{B) Ben}}", Outcome.RIGHT),
        ("**Answer: (B) Ben**", Outcome.RIGHT),
        ("Answer: Ben", Outcome.RIGHT),
        ("The correct option is B.", Outcome.RIGHT),
        ("(A) and (C) are out.\n\n(B)", Outcome.RIGHT),
        ("b", Outcome.RIGHT),
        ("The answer is (C).", Outcome.WRONG),
        ("The answer is (B) or (C).", Outcome.WRONG),
        (r"\boxed{A} or \boxed{B}", Outcome.WRONG),
        (r"\boxed{B, C}", Outcome.WRONG),
        ("Answer: (B) Cara", Outcome.WRONG),
        ("Answer: Dan", Outcome.WRONG),
        ("Both Ana and Ben could be first.", Outcome.NO_ANSWER),
        ("A runner finishes first.", Outcome.NO_ANSWER),
        (r"\boxed{B", Outcome.NO_ANSWER),
        ("", Outcome.NO_ANSWER),
    ],
)
@pytest.mark.parametrize("gold", ["(B)", "B", "Ben"])
def test_a_choice_is_one_letter_or_its_words(pool: CheckPool, gold: str, answer: str, outcome: Outcome) -> None:
    listed = pool.check_now(ask(gold, OPTIONS, "choice"), answer)
    assert listed.outcome is outcome, listed.detail
    given = pool.check_now(ask(gold, "Who is first?", "choice", choices=["Ana", "Ben", "Cara"]), answer)
    assert given.outcome is outcome, given.detail


CONTEST = r"How many?\n$\textbf{(A)}\ 3\qquad\textbf{(B)}\ \frac{5}{2}\qquad\textbf{(C)}\ 9$"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (r"\boxed{B}", Outcome.RIGHT),
        (r"\boxed{\textbf{B}}", Outcome.RIGHT),
        (r"\boxed{\textbf{(B)}\ \frac{5}{2}}", Outcome.RIGHT),
        (r"\boxed{5/2}", Outcome.RIGHT),
        ("The answer is (B).", Outcome.RIGHT),
        (r"\boxed{C}", Outcome.WRONG),
        (r"\boxed{\textbf{(B)}\ 3}", Outcome.WRONG),
        (r"\boxed{9}", Outcome.WRONG),
    ],
)
def test_options_of_a_contest_stand_on_one_line(pool: CheckPool, answer: str, outcome: Outcome) -> None:
    gold = r"\textbf{(B)}\ \frac{5}{2}"
    assert check_name_for({"question": CONTEST, "answer": gold}) == "choice"
    said = pool.check_now(ask(gold, CONTEST, "choice"), answer)
    assert said.outcome is outcome, said.detail


CAPITALS = ["Oslo", "Madrid", "Lisbon", "Vienna"]
THIRDS = [r"$\frac{1}{5}$", r"$\frac{3}{5}$", r"$\frac{1}{2}$", r"$\sqrt{3}$"]
TRENDS = ["rises", "falls", "stays as it is"]


@pytest.mark.parametrize(
    ("choices", "answer", "outcome"),
    [
        # a letter and what stands beside it; the gold answer is B
        (CAPITALS, "B. Madrid is the capital of Spain.", Outcome.RIGHT),
        (CAPITALS, "B, because Oslo is in Norway.", Outcome.RIGHT),
        (CAPITALS, "(B) since Lisbon lies at the coast", Outcome.RIGHT),
        (CAPITALS, "B. This is because Spain's king lives there.", Outcome.RIGHT),
        (CAPITALS, "(B) the city Madrid", Outcome.RIGHT),
        (TRENDS, "B. It falls.", Outcome.RIGHT),
        (THIRDS, r"\boxed{(B)\ \frac{3}{5}}", Outcome.RIGHT),
        (THIRDS, "The answer is (B) 3/5.", Outcome.RIGHT),
        (CAPITALS, "B) Oslo, Norway", Outcome.WRONG),
        (CAPITALS, "**B) Lisbon is where she lives**", Outcome.WRONG),
        (CAPITALS, "The answer is B: the town of Vienna.", Outcome.WRONG),
        (TRENDS, "B. It rises.", Outcome.WRONG),
        (THIRDS, r"\boxed{(B)\ \frac{1}{5}}", Outcome.WRONG),
        (THIRDS, "(B) 1/2", Outcome.WRONG),
        (CAPITALS, "B. Athens", Outcome.NO_ANSWER),
        (THIRDS, "(B) 7/9", Outcome.NO_ANSWER),
        # letters that a sentence is about
        (CAPITALS, "B, C and D can be ruled out.", Outcome.NO_ANSWER),
        (CAPITALS, "B, C, and D are too far south.", Outcome.NO_ANSWER),
        (CAPITALS, "A, C and D are wrong, so B.", Outcome.RIGHT),
        # words, then a letter
        (CAPITALS, "The answer is Madrid, which is option B.", Outcome.RIGHT),
        (CAPITALS, "The answer is Madrid. That is option B.", Outcome.RIGHT),
        (CAPITALS, "Madrid, not C", Outcome.RIGHT),
        (CAPITALS, "It must be Madrid, option B.", Outcome.RIGHT),
        (CAPITALS, "Of the four, **B** fits best.", Outcome.RIGHT),
        (CAPITALS, "Spain's capital lies in the middle, hence **option B** is the right answer.", Outcome.RIGHT),
        (CAPITALS, "The answer is Madrid, hence D.", Outcome.WRONG),
        (CAPITALS, "The answer is Madrid, i.e. option A.", Outcome.WRONG),
        (CAPITALS, "The answer is Madrid, choice (C).", Outcome.WRONG),
        (CAPITALS, "The answer is Madrid. This is option C.", Outcome.WRONG),
        (CAPITALS, "Madrid. That's option C.", Outcome.WRONG),
        (CAPITALS, r"\boxed{\text{Madrid, Oslo}}", Outcome.WRONG),
        (CAPITALS, "Oslo is right, so B.", Outcome.WRONG),
        # what would be so in another case
        (CAPITALS, "From all that, the answer would be B.", Outcome.RIGHT),
        (CAPITALS, "If the king lived in Spain, the answer would be B.", Outcome.NO_ANSWER),
        (CAPITALS, "The answer would be B if the question were about Spain.", Outcome.NO_ANSWER),
        (CAPITALS, "The answer is C. If she had moved, the answer would be B.", Outcome.WRONG),
    ],
)
def test_a_letter_and_the_words_beside_it_agree(
    pool: CheckPool, choices: list[str], answer: str, outcome: Outcome
) -> None:
    said = pool.check_now(ask("B", "Which?", "choice", choices=choices), answer)
    assert said.outcome is outcome, said.detail


@pytest.mark.parametrize(
    ("gold", "answer", "outcome"),
    [
        ("Dan", "Answer: Dan", Outcome.RIGHT),
        ("Dan", "Answer: **Dan**.", Outcome.RIGHT),
        ("Dan", "dan", Outcome.RIGHT),
        ("the Thames", r"\boxed{\text{Thames}}", Outcome.RIGHT),
        ("well-known", "Answer: well known", Outcome.RIGHT),
        ("barn damp dot", "Answer: barn, damp, dot", Outcome.RIGHT),
        ("Dan", "Answer: Eve", Outcome.WRONG),
        ("Dan", "Answer: Dan or Eve", Outcome.WRONG),
        ("C", "Answer: C++", Outcome.WRONG),
        ("-35", "Answer: 35", Outcome.WRONG),
        ("Dan", "Dan may have won, but so may Eve, and nobody can tell.", Outcome.NO_ANSWER),
        ("Dan", "", Outcome.NO_ANSWER),
        ("Yes", "So the answer is yes.", Outcome.RIGHT),
        ("Yes", r"\boxed{\text{Yes}}", Outcome.RIGHT),
        ("No", "No, because the wire was cut.", Outcome.RIGHT),
        ("True", "not (True) and (True) is\nTrue", Outcome.RIGHT),
        ("No", "So, no, a whale is not a fish.", Outcome.RIGHT),
        ("Yes", "It floats on water, so yes, it is lighter.", Outcome.RIGHT),
        ("Yes", "Hence no, it sinks.", Outcome.WRONG),
        ("No", "So no one can tell.", Outcome.NO_ANSWER),
        ("Yes", "The answer is no.", Outcome.WRONG),
        ("No", "Answer: Yes", Outcome.WRONG),
        ("Yes", "The answer is yes or no.", Outcome.NO_ANSWER),
        ("Yes", "It depends on the weather.", Outcome.NO_ANSWER),
        ("No", "Nobody knows.", Outcome.NO_ANSWER),
        ("-ab", "Answer: ab", Outcome.WRONG),
        ("ab", "Answer: $-ab$", Outcome.WRONG),
        ("sin x", r"\boxed{-\sin x}", Outcome.WRONG),
        ("sin x", r"\boxed{\sin(-x)}", Outcome.WRONG),
        ("sin x", r"\boxed{\sin x}", Outcome.RIGHT),
        ("} ]", "So the answer is } ].", Outcome.RIGHT),
        ("} ]", r"\boxed{} ]}", Outcome.RIGHT),
        ("} ]", "So the answer is ] }.", Outcome.WRONG),
        ("} ]", "So the answer is } ] ].", Outcome.WRONG),
        (") )", "There are two of them.", Outcome.NO_ANSWER),
        ("4:15 PM", "The bus leaves at 4:15 p.m.", Outcome.RIGHT),
        ("4:15 PM", r"\boxed{16:15}", Outcome.RIGHT),
        ("4:15 PM", r"\boxed{4:15}", Outcome.WRONG),
        ("4:15 PM", "The bus leaves at 4:15 a.m.", Outcome.WRONG),
        ("4:15 PM", "It leaves at 4:15 PM or at 5:15 PM.", Outcome.NO_ANSWER),
        ("Dan", "Dan, not Eve, is here", Outcome.NO_ANSWER),
    ],
)
def test_text_is_the_same_words(pool: CheckPool, gold: str, answer: str, outcome: Outcome) -> None:
    said = pool.check_now(ask(gold, check="text"), answer)
    assert said.outcome is outcome, said.detail


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("The River Rhine flows through Basel.", Outcome.RIGHT),
        ("The Rhine flows through Basel.", Outcome.RIGHT),
        ("The Rhine flows through Bonn.", Outcome.NO_ANSWER),
        ("The Rhine or the Aare flows through Basel.", Outcome.NO_ANSWER),
        ("The Aare flows through Basel.", Outcome.WRONG),
    ],
)
def test_a_sentence_may_answer_in_the_question_s_words(pool: CheckPool, answer: str, outcome: Outcome) -> None:
    said = pool.check_now(ask("Rhine", "Which river flows through Basel?", "text"), answer)
    assert said.outcome is outcome, said.detail


def test_every_gold_of_big_bench_hard_passes_its_own_check(shared: Path, pool: CheckPool) -> None:
    for file in sorted((shared / "data/bbh").glob("*.json")):
        rows = json.loads(file.read_text(encoding="utf-8"))
        for row in (rows["examples"] if isinstance(rows, dict) else rows)[:60]:
            name = check_name_for({"question": row["input"], "answer": row["target"]})
            question = ask(row["target"], row["input"], name)
            assert pool.check_now(question, f"So the answer is {row['target']}.").passed, (
                file.name,
                name,
                row["target"],
            )


def test_only_a_full_score_of_the_task_counts(pool: CheckPool) -> None:
    reasoning_gym = pytest.importorskip("reasoning_gym", reason="needs the extra gym")
    for task in ("chain_sum", "leg_counting", "spell_backward", "countdown"):
        entry = reasoning_gym.create_dataset(task, size=1, seed=4)[0]
        row = ask("", check="reasoning_gym", reasoning_gym={"task": task, "entry": json.loads(json.dumps(entry))})
        assert gold_problems([row], pool)[0] is None, task
        assert pool.check_now(row, f"So the answer is \\boxed{{{entry['answer']}}}.").passed, task
        assert pool.check_now(row, r"\boxed{none of it}").outcome is Outcome.WRONG, task
        assert pool.check_now(row, r"\boxed{").outcome is Outcome.NO_ANSWER, task


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"answer": "72", "check": "text"}, "text"),
        ({"answer": "72"}, "math"),
        ({"answer": 72}, "math"),
        ({"answer": r"\frac{1}{2}"}, "math"),
        ({"answer": "x^2+1"}, "math"),
        ({"answer": "p - q"}, "math"),
        ({"answer": "(1, 2)"}, "math"),
        ({"answer": "3 apples"}, "math"),
        ({"answer": "Yes"}, "text"),
        ({"answer": "Dan"}, "text"),
        ({"answer": "05/01/2021"}, "text"),
        ({"answer": "10:30 AM"}, "text"),
        ({"answer": "-i"}, "math"),
        ({"answer": "n"}, "math"),
        ({"answer": "xy"}, "math"),
        ({"answer": "be"}, "text"),
        ({"answer": r"\text{Yes}"}, "text"),
        ({"answer": "(A)", "question": OPTIONS}, "choice"),
        ({"answer": "(A)", "question": "Which letter?"}, "text"),
        ({"answer": "B", "choices": ["x", "y"]}, "choice"),
        ({"answer": "1", "tests": "def check(candidate): ..."}, "code"),
        ({"cases": [{"stdin": "", "stdout": ""}]}, "code"),
        ({"reasoning_gym": {"task": "chain_sum", "entry": {}}}, "reasoning_gym"),
        ({"answer": "Dan is a knight, and Eve is a knave"}, "text"),
    ],
)
def test_the_check_of_a_row_follows_from_its_fields(row: dict[str, object], name: str) -> None:
    assert check_name_for({"question": "?", **row}) == name
