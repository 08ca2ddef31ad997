"""Compares teachers that answered the same questions, by what a trace costs and how it suits a student. Pure.

Without trainings, a teacher's traces count as worth 1/RSR each: the order of the teachers is then that of RSR times
dollars per accepted trace, the lowest first, and of RSR alone where no teacher costs anything or a price is unknown.
The RSR of a teacher is the sum over its traces of their mean ranks over that of their mean surprisals, as in the paper.
RSR was shown to order teachers (arXiv 2601.14249), not to say how many points a trace brings. So this gives ranks, and
no points. How sure a rank is comes from drawing the questions anew, with replacement, all teachers with the same draw.

With short trainings at equal tokens, a teacher's points per dollar are the points that its training gained over the
dollars of the traces that it was trained on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harvest.core.intervals import accuracy_interval
from harvest.core.money import PICO

DRAWS = 2000
"""How often the questions are drawn anew for an interval."""
SURE = 0.95
"""A teacher comes first for certain if it does so in this share of the draws."""
WORDS = {
    "fit and price": "dollars per accepted trace times RSR (a mapping that gives an order and no points)",
    "fit alone": "RSR alone, since no trace costs anything",
    "fit, price unknown": "RSR alone, since the price of a teacher is unknown",
    "trainings": "points gained by trainings at equal tokens, per dollar of their traces",
    "trainings alone": "points gained by trainings at equal tokens, since dollars are nothing or unknown",
}
"""What teachers are ordered by, in words."""
SHORT = 0.6
"""Traces of less than this share of another teacher's median are far shorter. Measured once: at 0.47 the order by RSR
misled (benchmarks/results/tryout-2026-11-29.md)."""
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TriedAnswer:
    """One teacher's answer to one question of a tryout, or its failed attempt to get one."""

    question: int
    teacher: int
    accepted: bool
    cost_pusd: int | None
    """All that it cost; what another run had bought counts as if bought. None: nobody knows."""
    score: tuple[float, float] | None
    """(mean rank, mean surprisal in nats) of a token of an accepted trace; None: it has no score."""
    tokens: int = 0
    """How many tokens of an accepted trace are trained."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a short training on one teacher's traces brought."""

    traces: int
    tokens: int
    """How many tokens were trained, in one epoch."""
    usd: float | None
    """What these traces cost; None: nobody knows."""
    points: tuple[float, float, float]
    """The gain in percentage points with its 95% interval."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What is known of one teacher after a tryout."""

    teacher: int
    asked: int
    accepted: int
    share: tuple[float | None, float | None, float | None]
    """The accepted share with its 95% interval."""
    usd_a_trace: tuple[float, float, float] | None
    """Dollars per accepted trace with their 95% interval; None: unknown, or none was accepted."""
    rank: tuple[int, int, int] | None
    """Its place in the order, 1 for the best, with its 90% interval; None: nothing of it could be scored."""
    trained: Trained | None = None
    tokens: int | None = None
    """The median of the trained tokens of a trace; None: it has none with a score."""

    @property
    def points_per_usd(self) -> tuple[float, float, float] | None:
        """Returns points gained per dollar with their 95% interval. None: no training, or no known price above 0."""
        if self.trained is None or not self.trained.usd:
            return None
        points, low, high = (p / self.trained.usd for p in self.trained.points)
        return points, low, high


@dataclass(frozen=True, slots=True)
class Comparison:
    """The teachers in the order of their index, and which one is chosen."""

    teachers: list[Compared]
    by: str
    """What the order goes by, a key of WORDS."""
    first: int | None
    """The index of the teacher that comes first; None: no teacher has a trace that the student can be trained on."""
    sure: float | None
    """In how many of the draws this teacher comes first, from 0 to 1. None if trainings decide."""
    place_by: str = ""
    """What the places of the teachers go by, a key of WORDS: always their fit, even if trainings decide."""

    @property
    def is_certain(self) -> bool:
        """Whether the first teacher comes first with 95% certainty: in so many draws, or because the intervals of the
        other trainings lie below its own."""
        return self.first is not None and self.contenders == [self.first]

    @property
    def contenders(self) -> list[int]:
        """Returns the teachers of which nobody can tell which one is the first."""
        if self.first is None:
            return []
        if self.sure is not None:
            ranked = [t for t in self.teachers if t.rank is not None]
            if self.is_short:
                return [t.teacher for t in ranked]
            if self.sure >= SURE:
                return [self.first]
            return [t.teacher for t in ranked if t.rank is not None and t.rank[1] == 1]
        best = _worth(self.teachers[self.first], self.by)
        worth = {t.teacher: _worth(t, self.by) for t in self.teachers}
        return [t for t, w in worth.items() if w is not None and best is not None and w[2] >= best[1]]

    @property
    def is_short(self) -> bool:
        """Whether the traces of the first teacher are far shorter than another's. Answers without steps have a low RSR
        whatever they teach, so that the order by RSR tells nothing then."""
        lengths = [t.tokens for t in self.teachers if t.tokens]
        own = None if self.first is None else self.teachers[self.first].tokens
        return self.sure is not None and 0 < (own or 0) < SHORT * max(lengths, default=0)

    @property
    def chosen(self) -> int | None:
        """Returns the first teacher. Where nobody can tell which one that is: of those that it may be, the one whose
        traces cost least, and then the one with the most accepted answers."""
        of = [self.teachers[t] for t in self.contenders]
        if len(of) < 2:
            return self.first
        return min(of, key=lambda t: (t.usd_a_trace[0] if t.usd_a_trace else 0.0, -t.accepted)).teacher


def _worth(t: Compared, by: str) -> tuple[float, float, float] | None:
    if by == "trainings":
        return t.points_per_usd
    return None if t.trained is None else t.trained.points


def compare(
    answers: Sequence[TriedAnswer], teachers: int, trained: Mapping[int, Trained] | None = None, seed: int = 0
) -> Comparison:
    """Compares `teachers` teachers by their answers, and by short trainings where there are some.

    A teacher that has no training cannot be chosen where others have one. `seed` draws the questions.
    """
    questions = {q: n for n, q in enumerate(sorted({a.question for a in answers}))}
    shape = (teachers, len(questions))
    asked, accepted, cost, ranks, nats = (np.zeros(shape) for _ in range(5))
    tokens: dict[int, list[int]] = {}
    for a in answers:
        at = a.teacher, questions[a.question]
        asked[at] += 1
        accepted[at] += a.accepted
        cost[at] += np.nan if a.cost_pusd is None else a.cost_pusd / PICO
        if a.accepted and a.score is not None:
            ranks[at] += a.score[0]
            nats[at] += a.score[1]
            tokens.setdefault(a.teacher, []).append(a.tokens)
    draws = np.random.default_rng(seed).multinomial(
        len(questions), np.full(len(questions), 1 / max(1, len(questions))), DRAWS
    )
    counts: Array = np.vstack([np.ones(len(questions)), draws])  # the first line is the questions as they are
    with np.errstate(divide="ignore", invalid="ignore"):
        usd = (counts @ cost.T) / (counts @ accepted.T)
        fit = (counts @ ranks.T) / (counts @ nats.T)
    known = ~np.isnan(cost.sum(1))
    costs_something = bool(np.nansum(cost) > 0)
    by = "fit, price unknown" if not known.all() else "fit and price" if costs_something else "fit alone"
    value = usd * fit + 1e-9 * fit if by == "fit and price" else fit
    places = _places(value)
    found = []
    for t in range(teachers):
        total = int(accepted[t].sum())
        shares = [x / n for x, n in zip(accepted[t], asked[t], strict=True) if n]
        has_rank = t in tokens and not np.isnan(value[0, t])
        rank = (int(places[0, t]), *_ends(places[1:, t], 0.90)) if has_rank else None
        found.append(
            Compared(
                t, int(asked[t].sum()), total, accuracy_interval(shares),
                _usd(usd[:, t]) if known[t] and total else None,
                None if rank is None else (rank[0], int(rank[1]), int(rank[2])),
                (trained or {}).get(t),
                sorted(tokens[t])[len(tokens[t]) // 2] if t in tokens else None,
            )
        )  # fmt: skip
    if trained:
        place_by = by
        by = "trainings" if all(t.points_per_usd for t in found if t.trained) else "trainings alone"
        worth = {t.teacher: w[0] for t in found if (w := _worth(t, by)) is not None}
        return Comparison(found, by, max(worth, key=lambda t: worth[t], default=None), None, place_by)
    ranked = {t.teacher: t.rank[0] for t in found if t.rank is not None}
    if not ranked:
        return Comparison(found, by, None, None, by)
    first = min(ranked, key=lambda t: ranked[t])
    return Comparison(found, by, first, float((places[1:, first] == 1).mean()), by)


def _places(value: Array) -> Array:
    """Returns [draws, teachers]: the place of each teacher in each draw, 1 for the lowest value. What has none comes
    last."""
    filled = np.where(np.isnan(value), np.inf, value)
    return filled.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable").astype(np.float64) + 1


def _usd(of_draws: Array) -> tuple[float, float, float]:
    """Returns dollars per accepted trace, with the 95% interval of the draws in which a trace was accepted."""
    low, high = _ends(of_draws[1:][np.isfinite(of_draws[1:])], 0.95)
    return float(of_draws[0]), low, high


def _ends(values: Array, share: float) -> tuple[float, float]:
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def as_json(t: Compared) -> dict[str, Any]:
    """Returns what is known of one teacher, for --json. What is unknown is null."""
    return {
        "asked": t.asked,
        "accepted": t.accepted,
        "accepted_share": _interval(t.share),
        "usd_per_accepted_trace": None
        if t.usd_a_trace is None
        else dict(zip(("mid", "low", "high"), (f"{usd:.9f}" for usd in t.usd_a_trace), strict=True)),
        "rank": _interval(t.rank),
        "points_per_usd": _interval(t.points_per_usd),
        "trained": None
        if t.trained is None
        else {"traces": t.trained.traces, "tokens": t.trained.tokens, "points": _interval(t.trained.points)},
    }


def _interval(values: Sequence[float | None] | None) -> dict[str, float | None] | None:
    if values is None or values[0] is None:
        return None
    return dict(zip(("mid", "low", "high"), values, strict=True))
