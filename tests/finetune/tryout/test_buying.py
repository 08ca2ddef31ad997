"""Where the next dollars go: planted laws are found again, and what nobody can tell is not told."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import forked
import pytest
from conftest import ROOT, scaled, sums
from hypothesis import given, settings
from hypothesis import strategies as st
from students import tiny_student
from test_import import Imports, imports
from test_scoring import answers

pytest.importorskip("torch", reason="needs the extra `train`")

from finetune.commands.curve_buy import warn_of_overlap
from finetune.run import Run, ScoredAnswer
from finetune.tryout.buying import FARTHEST, Point, Setup, Surface, advise
from finetune.tryout.subsets import planned, subsets_of, usual
from harvest.store import StudentScore

__all__ = ["imports"]  # the fixture

CROSS = [(25, 1, 2.0), (50, 1, 2.0), (100, 1, 2.0), (100, 1, 1.0), (100, 1, 4.0)]
WITH_SAMPLES = [*CROSS, (50, 2, 2.0), (100, 2, 2.0)]


def law(questions: float, samples: float, epochs: float, terms: Sequence[float]) -> float:
    a, b, d, e = terms
    return -1 + a * math.log(questions / 50) + b * math.log(samples) + d * math.log(epochs) + e * math.log(epochs) ** 2


def points(
    terms: Sequence[float], *, held_out: int = 300, noise: float = 0.0, seed: int = 0, grid: Sequence[Any] = CROSS
) -> list[Point]:
    """Trainings by a planted law. `noise`, in logits, is by how much each training misses it."""
    dice = Random(seed)
    made = []
    for q, k, e in grid:
        share = 1 / (1 + math.exp(-law(q, k, e, terms) - dice.gauss(0, noise)))
        made.append(Point(q, q * k, e, [float(dice.random() < share) for _ in range(held_out)]))
    return made


def truly(setup: Setup, terms: Sequence[float]) -> float:
    return 100 / (1 + math.exp(-law(setup.questions, setup.per_question, setup.epochs, terms)))


TERMS = st.tuples(st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.6), st.floats(-0.2, 0))


@settings(max_examples=scaled(5, 100), deadline=None)
@given(TERMS, st.integers(0, 10**6))
def test_a_planted_law_is_recovered(terms: tuple[float, ...], seed: int) -> None:
    surface = Surface(points(terms, held_out=20_000, seed=seed, grid=WITH_SAMPLES), draws=50)
    for name, planted, found in zip("abde", terms, surface.coefficients[0][1:], strict=True):
        assert abs(planted - found) < 0.12, name


@settings(max_examples=scaled(5, 50), deadline=None)
@given(st.integers(0, 10**6))
def test_the_intervals_hold_the_truth_also_where_trainings_scatter(seed: int) -> None:
    """Of 30 such intervals of 90%, at least 21 hold it with a chance above 0.9995."""
    dice = Random(seed)
    held = total = 0
    for _ in range(10):
        terms = [dice.uniform(0, 1), 0, dice.uniform(0, 0.6), dice.uniform(-0.2, 0)]
        now = Setup(100, 1, 2)
        advice = advise(points(terms, noise=0.15, seed=dice.randrange(10**9)), now, 60, seed=1)
        low, high = (100 * x for x in advice.accuracy_now[1:])
        held += low <= truly(now, terms) <= high
        for gain in advice.gains:
            if gain.points is not None:
                held += gain.points[1] <= truly(gain.setup, terms) - truly(now, terms) <= gain.points[2]
        total += 3
    assert held >= 0.7 * total


@settings(max_examples=scaled(5, 50), deadline=None)
@given(st.integers(0, 10**6))
def test_the_quote_holds_what_one_training_more_brings(seed: int) -> None:
    """Of 30 such intervals of 90%, at least 21 hold it with a chance above 0.9995."""
    dice, held, widths, fitted = Random(seed), 0, 0.0, 0.0
    for _ in range(30):
        terms = [dice.uniform(0, 1), 0, dice.uniform(0, 0.6), dice.uniform(-0.2, 0)]
        made = points(terms, held_out=200, noise=0.15, seed=dice.randrange(10**9), grid=[*CROSS, (100, 1, 2.0)])
        advice = advise(made[:-1], Setup(100, 1, 2), 60, seed=1)
        held += advice.quote[1] <= sum(made[-1].right) / 200 <= advice.quote[2]
        widths += advice.quote[2] - advice.quote[1]
        fitted += advice.accuracy_now[2] - advice.accuracy_now[1]
    assert held >= 21
    assert widths > 1.1 * fitted, "one training misses the fit"


def test_where_questions_plainly_help_most_they_are_named_and_samples_are_not_told() -> None:
    advice = advise(points([1.5, 0, 0.02, -0.05], held_out=2000, seed=3), Setup(100, 1, 2), 200)
    assert (advice.best, advice.is_certain, advice.pays) == ("questions", True, True)
    unknown = {g.option: g.why_unknown for g in advice.gains}
    assert unknown["samples"] == "no trainings differ in the number of traces a question alone"
    assert unknown["questions"] is unknown["epochs"] is None


def test_where_options_are_equal_nobody_can_tell() -> None:
    advice = advise(points([0.3, 0, 0.3, 0], held_out=150, seed=2), Setup(100, 1, 2), 100)
    assert not advice.is_certain
    low, high = (next(g for g in advice.gains if g.option == o).beats_others for o in ("questions", "epochs"))
    assert max(low, high) < 0.95
    assert advice.pays is None, "the middle is above one point, and the low end is not"


def test_an_option_that_is_worse_than_to_do_nothing_is_not_certain() -> None:
    """Two epochs are the best here, and four and one are tried beside them."""
    advice = advise(points([0.5, 0, 2, -1.44], held_out=2000, seed=1), Setup(100, 1, 2), None)
    assert (advice.best, advice.is_certain, advice.pays) == ("epochs", False, False)


def test_where_nothing_helps_it_says_stop() -> None:
    advice = advise(points([0, 0, 0, 0], held_out=4000, seed=1), Setup(100, 1, 2), 2)
    gain = next(g for g in advice.gains if g.option == "questions")
    assert gain.points is not None
    assert gain.points[2] < 1
    assert advice.stop_at_questions == 100


def test_nothing_is_said_far_beyond_what_was_trained_or_without_a_price() -> None:
    far = advise(points([0.5, 0, 0.2, 0]), Setup(100, 1, 2), 100 * FARTHEST)
    assert "more than 4 times what was trained" in str(far.gains[0].why_unknown)
    unpriced = advise(points([0.5, 0, 0.2, 0]), Setup(100, 1, 2), None)
    assert "--usd-per-trace" in str(unpriced.gains[0].why_unknown)
    assert unpriced.best == "epochs"


def test_the_held_out_loss_is_fitted_too() -> None:
    made = [
        Point(p.questions, p.traces, p.epochs, p.right, 2 * (p.questions / 50) ** -0.2 * p.epochs**-0.1)
        for p in points([0.5, 0, 0.2, 0])
    ]
    found = Surface(made).loss(Setup(100, 1, 2))
    assert found is not None
    assert found[0] == pytest.approx(2 * 2**-0.2 * 2**-0.1)
    assert Surface(points([0.5, 0, 0.2, 0])).loss(Setup(100, 1, 2)) is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=80), st.integers(1, 8))
def test_no_training_has_a_held_out_question_and_larger_ones_hold_the_smaller(
    given_: list[tuple[int, bool]], epochs: int
) -> None:
    scored = [
        ScoredAnswer(n, question, 0, accepted, StudentScore("s", "w", 5, 1.0, 9))
        for n, (question, accepted) in enumerate(given_)
    ]
    of = subsets_of(scored)
    asked = {a.attempt_id: a.question for a in scored}
    held_out = {asked[a] for a in of.held_out}
    assert not held_out & {asked[a] for traces in of.traces for a in traces}
    if len(of.traces) < 2:
        return
    sizes, tried = usual(len(of.traces), epochs)
    for cell, questions in planned(of, sizes, tried, epochs, 3).items():
        assert len({asked[a] for a in cell.attempts}) == questions
        assert all(scored[a].accepted for a in cell.attempts)
    small, large = (set(of.cell(n, 1, 0).attempts) for n in (1, len(of.traces)))
    assert small <= large


# ---- the command


def test_held_out_questions_that_are_trained_on_are_said(imports: Imports, capsys: pytest.CaptureFixture[str]) -> None:
    imports.take(imports.file("a.jsonl", answers(6)))
    run = Run("r", f"sqlite:///{imports.store}")
    warn_of_overlap(run, str(imports.file("new.jsonl", sums(3, start=60))))
    assert capsys.readouterr().err == ""
    warn_of_overlap(run, str(imports.file("half.jsonl", [*sums(2), *sums(2, start=60)])))
    assert "2 of the 4 questions of --eval are among those that run r has traces of" in capsys.readouterr().err


def test_curve_says_where_the_money_goes_and_trains_nothing_twice(imports: Imports, tmp_path: Path) -> None:
    student = tiny_student(tmp_path / "student")
    imports.take(imports.file("a.jsonl", answers(14)))
    held_out = imports.file("held-out.jsonl", sums(3, start=60))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'student = "unused"\ndata = "unused"\noutput = "unused"\n[render]\nmax_tokens = 256\n'
        "[train]\nepochs = 1\nseed = 3\ntraces_per_step = 4\nlearning_rate = 1e-3\n"
    )
    words = ["curve", "r", "--buy", "--student", str(student), "--eval", str(held_out), "--recipe", str(recipe)]
    words += ["--eval-max-tokens", "2", "--sizes", "6,13", "--epochs", "1,2", "--store", f"sqlite:///{imports.store}"]
    env = {**os.environ, **imports.env, "PYTHONPATH": str(ROOT)}

    def bought(*more: str, code: int = 0) -> str:
        done = forked.run("finetune", *words, *more, cwd=imports.folder, env=env)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr

    found = json.loads(bought("--json", "--usd-per-trace", "0.5"))
    assert [(t["questions"], t["epochs"]) for t in found["trainings"]] == [(6, 1), (13, 1), (13, 2)]
    assert all(t["accuracy"] == 0 and t["loss"] > 0 for t in found["trainings"])
    assert found["traces_to_buy"] == 20
    assert not found["certain"]
    results = {f: f.stat().st_mtime_ns for f in imports.folder.glob("runs/r/cells/*/result.json")}
    assert [json.loads(f.read_text())["seed"] for f in results] == [3, 3, 3]
    (quoted,) = json.loads(imports.run("report", "r", "--json")[0])["accuracy_quotes"]
    assert quoted["student"] == str(student)
    assert quoted["accuracy"] == found["quote"]
    assert quoted["came"] is None
    trained = recipe.read_text().replace('"unused"', f'"{student}"', 1).replace('"unused"', '"runs/r"', 1)
    recipe.with_name("run.toml").write_text(trained)
    imports.run("export", "r")
    words_ = ("estimate", str(recipe.with_name("run.toml")), "--json")
    estimated = forked.run("finetune", *words_, cwd=imports.folder, env=env)
    assert json.loads(estimated.stdout)["student_accuracy"][0]["accuracy"] == found["quote"], estimated.stderr
    out = bought()
    assert "Nobody can tell" in out, "one option alone is not the best by that"
    assert "--usd-per-trace" in out
    assert {f: f.stat().st_mtime_ns for f in results} == results
    assert "has 13 questions with a trace" in bought("--sizes", "6,90", code=2)
