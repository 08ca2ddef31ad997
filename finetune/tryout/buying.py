"""Says where the next dollars go: more questions, more samples a question, or more epochs; and when to stop. Pure.

A few short trainings are fitted by one linear surface over logarithms,

    logit(accuracy) = c + a · ln(questions) + b · ln(traces a question) + d · ln(epochs) + e · ln(epochs)²

where a term is there only if the trainings differ in it (the square from three numbers of epochs on). The logarithm of
the held-out loss has the same terms. It is a description of the neighbourhood of what was trained, no law of
nature: nothing is said beyond FARTHEST times the largest training.

How sure a prediction is comes from fitting anew: each time the held-out questions are drawn with replacement, the same
for all trainings, and each training is moved by as much as trainings scatter around the surface beyond what the
questions explain. An option is better than another one only if that holds in 95% of the fits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harvest.core.intervals import Z90, student_quantile

DRAWS = 1000
"""How often the surface is fitted anew."""
FARTHEST = 4.0
"""No prediction goes further than so many times the most questions, traces a question or epochs that were trained."""
SURE = 0.95
LEAST_POINTS = 1.0
"""A purchase that is likely to bring fewer points than this does not pay."""
Array = NDArray[np.float64]
Option = Literal["questions", "samples", "epochs"]


@dataclass(frozen=True, slots=True)
class Point:
    """One short training and what it brought."""

    questions: int
    """How many different questions its traces answer."""
    traces: int
    epochs: float
    right: Sequence[float]
    """For each held-out question, in one order for all points, the share of its answers that are right."""
    loss: float | None = None
    """The held-out loss in nats a token; None: not measured."""

    @property
    def per_question(self) -> float:
        return self.traces / self.questions


@dataclass(frozen=True, slots=True)
class Setup:
    """A training that may be made: of how many questions and traces, with how many epochs."""

    questions: float
    per_question: float
    epochs: float


@dataclass(frozen=True, slots=True)
class Gain:
    """What one way to spend the money is expected to bring."""

    option: Option
    setup: Setup
    """The training after the purchase."""
    points: tuple[float, float, float] | None
    """Percentage points over the training of now, with their 90% interval; None: the trainings cannot tell."""
    why_unknown: str | None = None
    beats_others: float = 0.0
    """In how many fits it is better than every other known option and than to do nothing, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Where the next dollars go."""

    accuracy_now: tuple[float, float, float]
    """The fitted accuracy of the training of now, with its 90% interval."""
    gains: list[Gain]
    best: Option | None
    """The option that is likely to bring most; None: no option is known."""
    is_certain: bool
    """Whether that option is better than every other known one, and than to do nothing, in 95% of the fits."""
    pays: bool | None
    """Whether the best option brings LEAST_POINTS or more: True or False if its whole interval says so, else None."""
    stop_at_questions: float | None
    """At how many questions the same money would bring less than LEAST_POINTS; None: not within reach of the fit."""
    quote: tuple[float, float, float]
    """The accuracy that the training of now will have on the held-out questions, with its 90% interval. It is wider
    than that of `accuracy_now`, since one training misses the fit."""
    loss_now: tuple[float, float, float] | None
    """The fitted held-out loss of the training of now, in nats a token, with its 90% interval; None: not known."""
    scatter_points: float
    """How much trainings scatter around the surface, in points, beyond what the held-out questions explain."""


class Surface:
    """The fitted surfaces. The first is fitted to the measured values, each further one to values drawn anew."""

    def __init__(self, points: Sequence[Point], seed: int = 0, draws: int = DRAWS) -> None:
        if len(points) < 3:
            raise ValueError("at least three trainings are needed")
        self.points = points
        self.has_samples = len({round(p.per_question, 3) for p in points}) > 1
        self.has_questions = len({p.questions for p in points}) > 1
        epochs = len({p.epochs for p in points})
        self.has_epochs, self.has_bend = epochs > 1, epochs > 2
        self.x = np.stack([self._row(Setup(p.questions, p.per_question, p.epochs)) for p in points])
        right = np.array([p.right for p in points], float)  # [points, held-out questions]
        n = right.shape[1]
        random = np.random.default_rng(seed)
        counts = np.vstack([np.ones(n), random.multinomial(n, np.full(n, 1 / n), draws)])
        shares = (counts @ right.T + 0.5) / (n + 1)  # [1 + DRAWS, points], never 0 or 1
        logits = np.log(shares / (1 - shares))
        self.weights = n * shares[0] * (1 - shares[0])
        first = self._solve(logits[:1])
        self.scatter = self._scatter(logits, first)
        freedom = max(0, len(points) - self.x.shape[1]) + PRIOR_FREEDOM
        logits[1:] += self.scatter * random.standard_t(freedom, logits[1:].shape)
        self.another = np.r_[0.0, self.scatter * random.standard_t(freedom, draws)]
        """[1 + draws]: by how much one more training misses the surface in each of the fits, in logits."""
        self.coefficients = self._solve(logits)

    def _row(self, s: Setup) -> Array:
        e = log(s.epochs)
        terms = [1.0]
        terms += [log(s.questions)] if self.has_questions else []
        terms += [log(s.per_question)] if self.has_samples else []
        terms += [e] if self.has_epochs else []
        terms += [e * e] if self.has_bend else []
        return np.array(terms)

    def _solve(self, logits: Array) -> Array:
        """Returns the weighted least squares of each line of `logits`, [lines, terms]."""
        w = np.sqrt(self.weights)[:, None]
        return np.asarray(np.linalg.lstsq(self.x * w, (logits * w.T).T, rcond=None)[0].T)

    def _scatter(self, logits: Array, first: Array) -> float:
        """Returns the standard deviation, in logits, of trainings around the surface beyond what the held-out questions
        explain. With no more trainings than terms it cannot be seen, and a guess takes its place."""
        left = len(self.points) - self.x.shape[1]
        if left < 1:
            return UNSEEN_SCATTER
        residual = logits[0] - first[0] @ self.x.T
        seen = float((residual**2).sum() / left)
        # Questions that all trainings share move all of them together: only what is left of that is noise here.
        moved = logits[1:] - self._solve(logits[1:]) @ self.x.T
        by_questions = float(((moved - residual) ** 2).sum(1).mean() / left)
        guessed = PRIOR_FREEDOM * UNSEEN_SCATTER**2
        return float(np.sqrt((left * max(0.0, seen - by_questions) + guessed) / (left + PRIOR_FREEDOM)))

    def loss(self, s: Setup) -> tuple[float, float, float] | None:
        """Returns the held-out loss of a training with the 90% interval of another such training; None: it was not
        measured, or as many trainings as terms show no scatter."""
        losses, left = [p.loss for p in self.points], len(self.points) - self.x.shape[1]
        if left < 1 or any(not value for value in losses):
            return None
        logs, row = np.log(np.array(losses, float)), self._row(s)
        fitted = np.linalg.lstsq(self.x, logs, rcond=None)[0]
        variance = float(((logs - self.x @ fitted) ** 2).sum() / left)
        reach = 1 + float(row @ np.linalg.pinv(self.x.T @ self.x) @ row)
        half = student_quantile(left, Z90) * sqrt(variance * reach)
        mid = float(row @ fitted)
        return exp(mid), exp(mid - half), exp(mid + half)

    def accuracy(self, s: Setup) -> Array:
        """Returns [1 + DRAWS]: the accuracy of a training, from 0 to 1, by each of the fits."""
        return _share(self.coefficients @ self._row(s))

    def of_one_training(self, s: Setup) -> Array:
        """Returns [1 + DRAWS]: the accuracy that one training more will have, which misses the surface as others do."""
        return _share(self.coefficients @ self._row(s) + self.another)


def _share(logits: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))))


UNSEEN_SCATTER = 0.2
"""The scatter of trainings, in logits, where too few trainings show it: 5 points at an accuracy of a half. It is a
guess, on the safe side of the demo's three seeds (40, 39 and 39 of 100, docs/demo.md)."""
PRIOR_FREEDOM = 2
"""The guess counts as so many trainings' worth of scatter."""


def advise(
    points: Sequence[Point], now: Setup, traces_to_buy: float | None, most_samples: float | None = None, seed: int = 0
) -> Advice:
    """Says where the next dollars go.

    `now` is the training that the run's answers allow, with the recipe's epochs. `traces_to_buy` is how many accepted
    traces the dollars bring; None: nobody knows. `most_samples` is how many traces a question may have at most.
    """
    surface = Surface(points, seed)
    base = surface.accuracy(now)
    found: dict[Option, Gain] = {}
    draws: dict[Option, Array] = {}

    def add(option: Option, setup: Setup, unknown: str | None) -> None:
        if unknown is None:
            draws[option] = 100 * (surface.accuracy(setup) - base)
        found[option] = Gain(option, setup, _interval(draws[option]) if unknown is None else None, unknown)

    bought = traces_to_buy or 0.0
    price = None if traces_to_buy is not None else "no price of a trace is known (--usd-per-trace)"
    questions = Setup(now.questions + bought / max(1.0, now.per_question), now.per_question, now.epochs)
    add("questions", questions, price or (None if surface.has_questions else _alike("number of questions")) or _far(
        questions.questions, max(p.questions for p in points)
    ))  # fmt: skip
    samples = Setup(now.questions, now.per_question + bought / now.questions, now.epochs)
    add("samples", samples, price or (None if surface.has_samples else _alike("number of traces a question")) or _far(
        samples.per_question, most_samples or max(p.per_question for p in points)
    ))  # fmt: skip
    tried = sorted({p.epochs for p in points} - {now.epochs})
    epochs = max(
        (Setup(now.questions, now.per_question, e) for e in tried),
        key=lambda s: float(surface.accuracy(s)[0]),
        default=now,
    )
    add("epochs", epochs, None if surface.has_epochs and tried else _alike("number of epochs"))
    best = max(draws, key=lambda o: float(draws[o][0]), default=None)
    gains = [
        Gain(g.option, g.setup, g.points, g.why_unknown, _beats(draws, g.option) if g.option in draws else 0.0)
        for g in found.values()
    ]
    chosen = None if best is None else found[best]
    return Advice(
        _interval(base),
        gains,
        best,
        best is not None and _beats(draws, best) >= SURE,
        None if chosen is None or chosen.points is None else _pays(chosen.points),
        _stop(surface, now, bought) if surface.has_questions and bought else None,
        _interval(surface.of_one_training(now)),
        surface.loss(now),
        100 * surface.scatter * float(base[0] * (1 - base[0])),
    )


def _alike(what: str) -> str:
    return f"no trainings differ in the {what} alone"


def _far(wanted: float, largest: float) -> str | None:
    return f"{wanted:,.0f} is more than {FARTHEST:g} times what was trained" if wanted > FARTHEST * largest else None


def _pays(points: tuple[float, float, float]) -> bool | None:
    return True if points[1] >= LEAST_POINTS else False if points[2] < LEAST_POINTS else None


def _beats(draws: dict[Option, Array], option: Option) -> float:
    """Returns in how many of the fits an option is better than all others, and than to do nothing."""
    own = draws[option]
    others = [np.zeros_like(own), *(d for o, d in draws.items() if o != option)]
    return float(np.all([own[1:] > d[1:] for d in others], axis=0).mean())


def _stop(surface: Surface, now: Setup, bought: float) -> float | None:
    """Returns the first number of questions from which the same money brings less than LEAST_POINTS."""
    most = FARTHEST * max(p.questions for p in surface.points)
    n, step = now.questions, bought / max(1.0, now.per_question)
    while n + step <= most:
        gain = 100 * float(
            surface.accuracy(Setup(n + step, now.per_question, now.epochs))[0]
            - surface.accuracy(Setup(n, now.per_question, now.epochs))[0]
        )
        if gain < LEAST_POINTS:
            return n
        n += step
    return None


def _interval(draws: Array) -> tuple[float, float, float]:
    """Returns (the first value, the ends of the 90% interval of the others, widened to hold the first)."""
    low, high = np.quantile(draws[1:], [0.05, 0.95])
    return float(draws[0]), min(float(low), float(draws[0])), max(float(high), float(draws[0]))


def as_json(advice: Advice) -> dict[str, Any]:
    """Returns the advice for --json. What is unknown is null."""

    def interval(values: tuple[float, float, float] | None) -> dict[str, float] | None:
        return None if values is None else dict(zip(("mid", "low", "high"), values, strict=True))

    return {
        "accuracy_now": interval(advice.accuracy_now),
        "quote": interval(advice.quote),
        "loss_now": interval(advice.loss_now),
        "options": [
            {
                "option": g.option,
                "questions": round(g.setup.questions, 1),
                "traces_a_question": round(g.setup.per_question, 3),
                "epochs": g.setup.epochs,
                "points": interval(g.points),
                "unknown": g.why_unknown,
                "best_in_share_of_fits": g.beats_others,
            }
            for g in advice.gains
        ],
        "best": advice.best,
        "certain": advice.is_certain,
        "pays": advice.pays,
        "stop_at_questions": advice.stop_at_questions,
        "scatter_points": round(advice.scatter_points, 2),
    }
