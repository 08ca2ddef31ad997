"""Teachers on the same questions: which one comes first, how sure that is, and the RUN.toml of the chosen one."""

import json
import math
import os
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import forked
import pytest
from conftest import ROOT, Place, scaled, sums
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_endpoint import Asked, Endpoint, Say, right_answer
from students import tiny_student

pytest.importorskip("torch", reason="needs the extra `train`")

from finetune.run import ScoredAnswer
from finetune.tryout.comparison import Trained, TriedAnswer, compare
from finetune.tryout.fit import fits_of
from finetune.tryout.teachers import toml, written
from harvest.store import StudentScore

Places = Callable[..., Place]
Endpoints = Callable[..., Endpoint]
DOLLAR = 10**12


def answers(
    ratios: Sequence[float],
    *,
    n: int,
    noise: float = 0.5,
    cost: Sequence[int | None] = (),
    right: float = 0.8,
    seed: int = 0,
) -> list[TriedAnswer]:
    """`n` questions, answered by a teacher for each of `ratios`, its mean RSR."""
    dice = Random(seed)
    found = []
    for t, ratio in enumerate(ratios):
        for q in range(n):
            accepted = dice.random() < right
            score = (dice.gauss(ratio, noise), 1.0) if accepted else None
            found.append(TriedAnswer(q, t, accepted, cost[t] if cost else 0, score))
    return found


def test_a_teacher_that_suits_the_student_better_comes_first_and_that_is_certain() -> None:
    found = compare(answers([6, 4, 5], n=100), 3)
    assert (found.by, found.first, found.chosen, found.is_certain) == ("fit alone", 1, 1, True)
    assert [t.rank for t in found.teachers] == [(3, 3, 3), (1, 1, 1), (2, 2, 2)]
    assert all(t.points_per_usd is None for t in found.teachers)


def test_teachers_of_one_fit_are_not_told_apart_and_the_cheaper_one_is_chosen() -> None:
    tried = answers([5, 5], n=60, seed=4)
    found = compare(tried, 2)
    assert not found.is_certain
    assert found.contenders == [0, 1]
    assert found.chosen == max((0, 1), key=lambda t: sum(a.accepted for a in tried if a.teacher == t))
    dear = compare(answers([5, 5.05], n=60, cost=[DOLLAR, DOLLAR // 50]), 2)
    assert (dear.by, dear.chosen, dear.is_certain) == ("fit and price", 1, True)
    near = compare(answers([5, 5], n=60, noise=1, cost=[DOLLAR * 99 // 100, DOLLAR], right=1, seed=2), 2)
    assert (near.first, near.contenders, near.chosen) == (1, [0, 1], 0), "nobody can tell, so the cheaper one is chosen"


def test_short_answers_do_not_win_by_their_low_ratio_alone() -> None:
    """Measured: a teacher whose answers hardly had a step had the lowest RSR for certain, and taught nothing."""
    tried = answers([4, 6], n=80, right=0.9)

    def with_tokens(short: int) -> list[TriedAnswer]:
        return [replace(a, tokens=short if a.teacher == 0 else 30) for a in tried]

    alike = compare(with_tokens(20), 2)
    assert (alike.first, alike.is_short, alike.is_certain) == (0, False, True)
    short = compare(with_tokens(14), 2)
    assert (short.first, short.is_short, short.is_certain) == (0, True, False)
    assert short.contenders == [0, 1]
    gains = {0: (20.0, 15.0, 25.0), 1: (5.0, 0.0, 10.0)}
    decided = compare(with_tokens(14), 2, {t: Trained(9, 99, None, points) for t, points in gains.items()})
    assert (decided.first, decided.is_certain) == (0, True)


def test_the_ratio_of_a_teacher_is_of_sums_and_not_the_mean_of_ratios() -> None:
    """Equation 9 of arXiv 2601.14249: the mean of the first teacher's ratios is 11, and the ratio of its sums 2.9."""
    scores = [(2.0, 0.1), (4.0, 2.0)]
    tried = [TriedAnswer(q, t, True, 0, scores[q % 2] if t == 0 else (5.0, 1.0)) for q in range(40) for t in (0, 1)]
    assert compare(tried, 2).first == 0
    scored = [
        ScoredAnswer(2 * n + k, n, 0, True, StudentScore("s", "w", 10, nats, ranks))
        for n, (nats, ranks) in enumerate([(1.0, 20), (20.0, 40)])
        for k in (0, 1)
    ]
    fit = fits_of(scored)[0]
    assert (fit.rank[0], fit.surprisal[0]) == pytest.approx((3, 1.05))
    assert fit.rsr[0] == pytest.approx(6 / 2.1)
    assert fit.rsr[1] is not None
    assert fit.rsr[2] is not None
    assert fit.rsr[1] < 6 / 2.1 < fit.rsr[2]
    alike = [replace(a, score=replace(a.score, ranks=3 * int(a.score.surprisal_nats or 0))) for a in scored]
    assert fits_of(alike)[0].rsr == pytest.approx((3, 3, 3)), "every question has the common ratio"


def test_price_and_fit_count_together() -> None:
    """Traces that suit better may cost more, as long as RSR times dollars is lower."""
    found = compare(answers([3, 6], n=60, cost=[DOLLAR, DOLLAR * 9 // 10], right=1), 2)
    assert (found.first, found.is_certain) == (0, True)
    found = compare(answers([3, 6], n=60, cost=[DOLLAR, DOLLAR // 4], right=1), 2)
    assert (found.first, found.is_certain) == (1, True)


def test_dollars_a_trace_are_those_of_all_its_answers_and_unknown_where_one_is() -> None:
    tried = [TriedAnswer(q, 0, q < 5, DOLLAR, (5.0, 1.0) if q < 5 else None) for q in range(10)]
    (t,) = compare(tried, 1).teachers
    assert t.usd_a_trace is not None
    assert t.usd_a_trace[0] == pytest.approx(2)
    assert t.usd_a_trace[1] < 2 < t.usd_a_trace[2]
    found = compare([*tried, TriedAnswer(0, 1, True, None, (9.0, 1.0))], 2)
    assert found.teachers[1].usd_a_trace is None
    assert (found.by, found.first) == ("fit, price unknown", 0)


def test_a_teacher_without_an_accepted_trace_is_never_chosen() -> None:
    none = [TriedAnswer(q, 1, False, 0, None) for q in range(20)]
    found = compare([*answers([5], n=20), *none], 2)
    assert found.teachers[1].rank is None
    assert found.chosen == 0
    assert compare(none, 2).chosen is None


@settings(max_examples=scaled(20, 200), deadline=None)
@given(st.integers(0, 10**6))
def test_the_rank_interval_holds_the_true_place(seed: int) -> None:
    """Of 20 such intervals of 90%, at least 12 hold it with a chance above 0.9999."""
    dice = Random(seed)
    held = 0
    for _ in range(20):
        ratios = [dice.uniform(4.6, 5.4) for _ in range(3)]
        true = [sorted(ratios).index(r) + 1 for r in ratios]
        (t, *_) = compare(answers(ratios, n=40, noise=1, seed=dice.randrange(10**9)), 3, seed=1).teachers
        assert t.rank is not None
        held += t.rank[1] <= true[0] <= t.rank[2]
    assert held >= 12


def test_trainings_decide_where_there_are_some_and_say_points_a_dollar() -> None:
    tried = answers([4, 6], n=50, cost=[DOLLAR // 10, DOLLAR // 10])
    trained = {0: Trained(40, 900, 5.0, (2.0, 1.0, 3.0)), 1: Trained(40, 900, 5.0, (8.0, 6.0, 10.0))}
    found = compare(tried, 2, trained)
    assert (found.by, found.chosen, found.is_certain) == ("trainings", 1, True)
    assert found.teachers[1].points_per_usd == pytest.approx((1.6, 1.2, 2.0))
    touching = compare(tried, 2, {0: trained[0], 1: Trained(40, 900, 5.0, (4.0, 2.5, 5.0))})
    assert (touching.first, touching.contenders, touching.is_certain) == (1, [0, 1], False), "their intervals meet"
    close = compare(tried, 2, {0: trained[0], 1: Trained(40, 900, None, (2.5, 0.5, 4.0))})
    assert (close.by, close.first, close.is_certain) == ("trainings alone", 1, False)


# ---- the RUN.toml

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_settings_come_back_from_the_file(value: dict[str, Any]) -> None:
    assert tomllib.loads("\n".join(toml(value))) == value


def test_no_file_is_written_over(tmp_path: Path) -> None:
    first = written(tmp_path, "r", ["why"], {"a": 1})
    assert written(tmp_path, "r", ["why"], {"a": 1}) == first
    second = written(tmp_path, "r", ["why\nnot = 1"], {"a": 2})
    assert (first.name, second.name) == ("r.toml", "r-2.toml")
    assert tomllib.loads(second.read_text()) == {"a": 2}


# ---- the command


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_student(tmp_path_factory.mktemp("student"))


def half_right(a: Asked) -> Say:
    """Wrong at every third sum, by the question and not by the order of asking."""
    number = int(a.question.split(" + ")[0].rpartition(" ")[2])
    return Say("\\boxed{0}" if number % 3 == 0 else right_answer(a.question), chain="Well, that is quite a sum. " * 3)


def env_of(p: Place) -> dict[str, str]:
    return {**os.environ, "WINNOW_RUNS": str(p.folder / "runs"), "PYTHONPATH": str(ROOT)}


def tried(p: Place, student: Path, *more: str, code: int = 0) -> Any:
    words = ("tryout", str(p.toml), "--student", str(student), "--json", *more)
    done = forked.run("finetune", *words, cwd=p.folder, env=env_of(p))
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def two_teachers(p: Place, first: Endpoint, second: Endpoint) -> None:
    price = p.settings["teacher"]["price_usd_per_mtok"]
    p.settings["teachers"] = [
        {"base_url": e.url, "model": name, "price_usd_per_mtok": price}
        for e, name in ((first, "a/good"), (second, "b"))
    ]
    del p.settings["teacher"]


def test_teachers_are_asked_once_and_the_chosen_ones_answers_are_not_bought_again(
    endpoint: Endpoints, place: Places, student: Path
) -> None:
    good, poor = endpoint(), endpoint(half_right)
    p = place(good.url, 20)
    two_teachers(p, good, poor)
    found = tried(p, student, "--pilot", "12")
    assert (len(good.asked), len(poor.asked)) == (12, 12)
    by = {t["teacher"]: t for t in found["teachers"]}
    assert by["a/good"]["accepted"] == 12
    assert by["b"]["accepted"] < 12
    usd = Decimal(by["a/good"]["usd_per_accepted_trace"]["mid"])
    assert math.isclose(usd * 12, good.billed_pusd / Decimal(DOLLAR), rel_tol=1e-6)
    assert by["b"]["points_per_usd"] is None
    assert by["b"]["fit"]["rsr"]["low"] <= by["b"]["fit"]["rsr"]["mean"]
    again = tried(p, student, "--pilot", "12")
    assert (len(good.asked), len(poor.asked)) == (12, 12)
    assert again == found
    path = Path(found["written"])
    of_one = tomllib.loads(path.read_text())
    spent = (good.billed_pusd + poor.billed_pusd) / Decimal(DOLLAR)
    assert Decimal(of_one["budget"]["usd"]) == 1 - spent
    assert path.read_text().startswith("# ")
    chosen, other = (good, poor) if found["chosen"] == "a/good" else (poor, good)
    done = forked.run("harvest", "collect", str(path), cwd=p.folder, env=env_of(p))
    assert done.returncode == 0, done.stderr
    assert (len(chosen.asked), len(other.asked)) == (20, 12)


def test_at_the_cap_the_table_is_of_what_came(endpoint: Endpoints, place: Places, student: Path) -> None:
    good, poor = endpoint(), endpoint(half_right)
    p = place(good.url, 12, budget__usd="0.004")
    two_teachers(p, good, poor)
    found = tried(p, student, code=3)
    assert 0 < sum(t["asked"] for t in found["teachers"]) < 24
    assert good.billed_pusd + poor.billed_pusd <= 0.004 * DOLLAR


def test_what_is_wrong_is_one_line(endpoint: Endpoints, place: Places, student: Path) -> None:
    teacher = endpoint()
    p = place(teacher.url, 2)
    assert "write a [[teachers]] section" in tried(p, student, code=2)
    done = forked.run("finetune", "tryout", str(p.toml), cwd=p.folder, env=env_of(p))
    assert done.returncode == 2
    assert "--student" in done.stderr
    two_teachers(p, teacher, teacher)
    assert "no such folder" in tried(p, p.folder / "nobody", code=2)
    assert "nothing.jsonl" in tried(p, student, "--train", "--eval", "nothing.jsonl", code=2)
    assert teacher.asked == []


def test_short_trainings_back_the_choice_and_are_not_repeated(
    endpoint: Endpoints, place: Places, student: Path
) -> None:
    good, poor = endpoint(), endpoint(half_right)
    p = place(good.url, 8)
    two_teachers(p, good, poor)
    held_out = p.folder / "held-out.jsonl"
    held_out.write_text("".join(json.dumps(q) + "\n" for q in sums(3, start=50)))
    recipe = p.folder / "recipe.toml"
    recipe.write_text(
        'student = "unused"\ndata = "unused"\noutput = "unused"\n[render]\nmax_tokens = 256\n'
        "[train]\nepochs = 1\ntraces_per_step = 4\nlearning_rate = 1e-3\n"
    )
    more = ("--train", "--eval", str(held_out), "--recipe", str(recipe), "--eval-max-tokens", "4")
    assert "--eval" in tried(p, student, "--train", code=2)
    found = tried(p, student, *more)
    trained = [t["trained"] for t in found["teachers"]]
    assert [t["points"]["mid"] for t in trained] == [0, 0], "its weights are random: nothing is right"
    assert abs(trained[0]["tokens"] - trained[1]["tokens"]) < max(t["fit"]["median_tokens"] for t in found["teachers"])
    assert found["teachers"][0]["points_per_usd"]["low"] < 0 < found["teachers"][0]["points_per_usd"]["high"]
    assert found["ordered_by"] == "trainings"
    assert not found["certain"]
    results = {f: f.stat().st_mtime_ns for f in p.folder.glob("runs/r-tryout/cells/*/result.json")}
    assert len(results) == 3
    assert not list(p.folder.glob("runs/r-tryout/cells/*/student"))
    assert tried(p, student, *more)["teachers"] == found["teachers"]
    assert {f: f.stat().st_mtime_ns for f in results} == results
