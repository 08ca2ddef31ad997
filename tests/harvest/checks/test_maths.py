"""The maths check on labelled right and wrong answers, and gold answers that pass their own check."""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvest.answers.stated import final_answer
from harvest.checks import CheckPool, check_name_for, gold_problems
from harvest.checks.table import CHECKS
from harvest.core.nouns import Outcome, Question


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
    ("2", "The answer is two fifths."),
    ("1", r"\boxed{one fifth}"),
    ("3", r"\boxed{3 tenths}"),
]

RIGHT += [
    (r"\frac{2}{5}", "The answer is two fifths."),
    (r"\frac{1}{5}", r"\boxed{\text{one-fifth}}"),
    ("3.375", "It took 3 and three eighths hours."),
    ("3/2", "The answer is three halves."),
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


@given(st.integers(-(10**15) + 1, 10**15 - 1), st.integers(0, 3))
def test_a_plain_number_passes_its_own_check(pool: CheckPool, number: int, zeros: int) -> None:
    """So gold answers of plain numbers are taken without being checked."""
    digits = str(abs(number)).rjust(zeros, "0")[:15]
    question = ask("-" * (number < 0) + digits)
    assert gold_problems([question], pool) == [None]
    assert pool.check_now(question, CHECKS["math"].own_answer(question) or "").passed


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
