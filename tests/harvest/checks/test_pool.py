"""What is read of any text at once, hostile answers, and the worker processes of the pool."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvest.checks import CHECKS, CheckPool
from harvest.core.nouns import Outcome, Question, Verdict


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with CheckPool(workers=2) as started:
        yield started


def ask(gold: str, question: str = "How many?", check: str = "math", **more: object) -> Question:
    return Question.model_validate({"id": "1", "question": question, "answer": gold, "check": check, **more})


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
            assert time.process_time() - started < 1, repr(answer[:40])  # the slowest takes a quarter of that


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


async def test_many_coroutines_share_one_pool() -> None:
    with CheckPool(workers=2) as pool:
        questions = [(ask(rf"{n}\sqrt{{3}}"), rf"\boxed{{\frac{{{3 * n}}}{{\sqrt{{3}}}}}}") for n in range(2, 40)]
        hostile = asyncio.create_task(pool.check(ask(r"18\pi"), r"\boxed{99999999!}"))
        said = await asyncio.gather(*(pool.check(question, answer) for question, answer in questions))
        assert all(verdict.passed for verdict in said)
        assert (await hostile).outcome in (Outcome.TIMEOUT, Outcome.ERROR)


async def test_a_cancelled_check_harms_no_other() -> None:
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


def test_a_closed_pool_refuses_and_leaves_no_process() -> None:
    pool = CheckPool(workers=1)
    assert pool.check_now(ask(r"\pi"), r"\boxed{2\pi/2}").passed
    pool.close()
    with pytest.raises(RuntimeError):
        pool.check_now(ask(r"\pi"), r"\boxed{2\pi/2}")
