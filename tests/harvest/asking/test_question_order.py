"""Which question is next when the money will not pay for all: the most promising one, the same for the same answers."""

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from conftest import ROOT, Place, sums
from hypothesis import given
from hypothesis import strategies as st
from scripted_endpoint import Asked, Endpoint, Say

from harvest.asking.planning.expected_yield import ExpectedYield
from harvest.asking.planning.strata import MOST_DIFFICULTIES, MOST_DOMAINS, MOST_SIZES, OTHER, Strata, size_of
from harvest.core.nouns import Question

sys.path.insert(0, str(ROOT / "benchmarks"))
from order import HOW, mean_accepted

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]
WRONG = Say(text="\\boxed{-1}")


def question(domain: str | None = None, difficulty: str | None = None, text: str = "?") -> Question:
    return Question(id="q", question=text, check="math", answer="1", domain=domain, difficulty=difficulty)


# ---- strata


def test_questions_alike_are_one_stratum() -> None:
    of = Strata().of
    assert of(question("math", "Hard")) == of(question(" math", "hard ")) == "math|hard|0"
    assert of(question("a|b", None, "x" * 300)) == "a/b||2"
    assert of(question("m", "0.8374")) == of(question("m", "0.82")) == "m|0.8|0"
    assert of(question("m", "Level 5")) == "m|5|0"


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8), st.integers(0, 10**6)), max_size=60))
def test_however_many_domains_there_are_the_strata_are_bounded(rows: list[tuple[str, str, int]]) -> None:
    strata = Strata()
    many = [(f"d{n}", f"x{n}", n) for n in range(200)]
    names = {strata.of(question(d, f, "x" * (n % 99_999))) for d, f, n in rows + many}
    parts = [name.split("|") for name in names]
    assert all(len(p) == 3 for p in parts)
    assert len({p[0] for p in parts}) <= MOST_DOMAINS + 1
    assert len({p[1] for p in parts}) <= MOST_DIFFICULTIES + 1
    assert {int(p[2]) for p in parts} <= set(range(MOST_SIZES))
    assert any(p[0] == OTHER for p in parts)
    again = Strata(names)
    assert {again.of(question(d, f, "x" * (n % 99_999))) for d, f, n in rows + many} == names


def test_sizes_double() -> None:
    assert [size_of("x" * n) for n in (0, 127, 128, 255, 256, 10**7)] == [0, 0, 1, 1, 2, MOST_SIZES - 1]


# ---- promise


def test_before_any_answer_the_easier_comes_first() -> None:
    assert ExpectedYield(["m|hard|0", "m|easy|0", "m||0"]).best(["m|hard|0", "m|easy|0", "m||0"]) == "m|easy|0"
    levels = [f"m|{n}|0" for n in range(1, 6)]
    assert ExpectedYield(levels).best(levels[1:]) == "m|2|0"


def test_what_is_learned_outweighs_what_was_expected() -> None:
    promise = ExpectedYield(["m|easy|0", "m|hard|0"])
    promise.answered("m|easy|0", 1, 1.0, answers=20)
    promise.answered("m|hard|0", 18, 1.0, answers=20)
    assert promise.best(["m|easy|0", "m|hard|0"]) == "m|hard|0"


def test_the_dearer_stratum_must_promise_more() -> None:
    promise = ExpectedYield(["a||0", "b||0"])
    promise.answered("a||0", 15, 20 * 8.0, answers=20)
    promise.answered("b||0", 10, 20 * 1.0, answers=20)
    assert promise.best(["a||0", "b||0"]) == "b||0"


def test_what_the_student_finds_hard_is_put_later() -> None:
    promise = ExpectedYield(["a||0", "b||0"])
    promise.student_said("a||0", 1, 20)
    promise.student_said("b||0", 19, 20)
    assert promise.best(["a||0", "b||0"]) == "b||0"


def test_while_nothing_is_known_all_get_a_turn() -> None:
    names = ["a||0", "b||0", "c||0"]
    promise = ExpectedYield(names)
    taken = []
    for _ in range(6):
        taken.append(promise.best(names))
        promise.begun(taken[-1])
    assert sorted(taken) == sorted(names * 2)


news = st.lists(
    st.tuples(st.sampled_from(["a|easy|0", "a|hard|1", "b||0"]), st.integers(0, 5), st.none() | st.floats(0, 1e15)),
    max_size=40,
)


@given(news)
def test_the_same_news_gives_the_same_choice_and_every_figure_is_sane(
    told: list[tuple[str, int, float | None]],
) -> None:
    names = ["a|easy|0", "a|hard|1", "b||0"]
    one, other = ExpectedYield(names), ExpectedYield(reversed(names))
    for stratum, right, cost in told:
        for promise in (one, other):
            promise.answered(stratum, right, cost, answers=5)
    assert one.best(names) == other.best(reversed(names))
    for name in names:
        assert 0 < one.share(name) < 2
        assert one.cost(name) >= 0


def test_where_a_third_can_be_paid_order_brings_more_than_the_files() -> None:
    """The simulated runs of benchmarks/order.py: kinds of questions that differ in what they cost and bring."""
    by_file, by_promise, at_best = (mean_accepted(how, seeds=8) for how in HOW)
    assert by_promise > 1.4 * by_file
    assert by_promise > 0.9 * at_best


# ---- in a run


def mixed(n: int) -> list[dict[str, Any]]:
    """Every other question is hard: the scripted teacher is wrong there."""
    return [row | {"difficulty": "easy" if i % 2 else "hard"} for i, row in enumerate(sums(n))]


def is_hard(asked: Asked) -> bool:
    return int(asked.question.split()[2]) % 2 == 0


def test_a_wrong_answer_waits_until_the_fresh_questions_had_their_turn(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda a: WRONG if is_hard(a) else Say())
    p = place(teacher.url, mixed(24), plan={"order": "promising"}, sampling__samples=3, teacher__max_concurrency=1)
    code, _, err = p.collect()
    assert code == 0, err
    asked = [int(a.question.split()[2]) for a in teacher.asked]
    assert sorted(asked[:24]) == list(range(24)), "all are asked once before any is asked again"
    assert sorted(asked[24:36]) == sorted(asked[36:]) == list(range(0, 24, 2))
    assert (p.report["questions"]["solved"], p.report["questions"]["given_up"]) == (12, 12)


@pytest.mark.parametrize("order", ["auto", "promising"])
def test_near_the_cap_the_money_goes_where_traces_come_from(order: str, endpoint: Endpoints, place: Places) -> None:
    """The cap reaches a third. In the file's order half of what is bought is wrong."""
    made = Say(output_tokens=100)
    teacher = endpoint(lambda a: Say(text="\\boxed{-1}", output_tokens=100) if is_hard(a) else made)
    cap = str(200 * made.cost_pusd / 10**12)
    p = place(
        teacher.url, mixed(600), plan={"order": order}, budget={"usd": cap}, teacher__max_concurrency=4,
        sampling__samples=2,
    )  # fmt: skip
    code, _, err = p.collect()
    assert code == 3, err
    assert p.report["traces"]["accepted"] > (120 if order == "promising" else 110)
    before = len(teacher.asked)
    assert p.collect()[0] == 3
    assert len(teacher.asked) == before


def test_what_was_taken_in_the_files_order_is_counted_as_out_once_promise_chooses(
    endpoint: Endpoints, place: Places
) -> None:
    """Rows of a kind of which nothing is known, all out when the order changes; then most are refused, and a few are
    answered wrongly and wait for their next turn."""
    made = Say(output_tokens=100)
    rows = [row | {"difficulty": "easy" if i < 40 else "hard"} for i, row in enumerate(sums(240))]
    refused = Say(status=400, error="content_filter", message="refused", delay_s=0.3)

    def said(asked: Asked) -> Say:
        n = int(asked.question.split()[2])
        return made if n < 40 else replace(WRONG, delay_s=0.3) if n % 25 == 0 else refused

    teacher = endpoint(said)
    cap = str(60 * made.cost_pusd / 10**12)
    p = place(teacher.url, rows, budget={"usd": cap}, sampling__samples=2, teacher__max_concurrency=64)
    code, _, err = p.collect()
    assert code == 0, err
    assert p.report["questions"]["given_up"] == 200


def test_a_store_of_before_is_asked_by_promise_too(endpoint: Endpoints, place: Places) -> None:
    """Questions that were stored without a stratum are one of their own."""
    teacher = endpoint()
    p = place(teacher.url, 6, plan={"order": "promising"}, budget={"usd": "0.0001"})
    assert p.collect()[0] == 3
    with closing(sqlite3.connect(p.store)) as db:
        db.execute("UPDATE question SET stratum = ''")
        db.commit()
    p.settings["budget"] = {"usd": "1.00"}
    assert p.collect()[0] == 0
    assert p.report["questions"]["solved"] == 6
