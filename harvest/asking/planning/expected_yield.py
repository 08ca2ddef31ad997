"""Says how many accepted traces a dollar is expected to bring in each stratum. The code is pure.

This chooses the next question when the money is not enough for all. At first a stratum has a guess; each answer then
moves the guess towards what the stratum really brings.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harvest.asking.planning.strata import as_number, difficulty_of

WEIGHT = 4.0
"""The first guess for a stratum weighs as much as this many answers."""
DOUBT = 0.75
"""How much is added to a share that few answers support: DOUBT divided by the root of how many answers are known.
Between 0.5 and 1.5 the simulated runs of benchmarks/order.py hardly differ; without DOUBT they stay with what they
tried first."""
FAIREST, EASIER = 0.5, 0.4
"""FAIREST is the share of accepted answers that is expected of a stratum of which nothing is known. EASIER is how far
the expected shares of the easiest and the hardest stratum lie apart."""
EASE = {
    "trivial": 1.0, "very easy": 1.0, "easy": 0.85, "simple": 0.85, "introductory": 0.85, "beginner": 0.85,
    "medium": 0.5, "moderate": 0.5, "intermediate": 0.5, "interview": 0.5, "normal": 0.5,
    "hard": 0.15, "difficult": 0.15, "advanced": 0.15, "very hard": 0.0, "expert": 0.0, "competition": 0.0,
    "olympiad": 0.0,
}  # fmt: skip
"""How easy a question is, from 0 to 1, by its difficulty in words as data sets write it."""


@dataclass(slots=True)
class _Seen:
    """Counts what came of one stratum so far."""

    answers: int = 0
    accepted: int = 0
    cost: float = 0.0
    costed: int = 0
    """How many answers have a known cost."""
    out: int = 0
    """How many questions are being asked."""
    by_student: int = 0
    right_by_student: int = 0


class ExpectedYield:
    """Keeps what is known of each stratum. The same news always gives the same choice."""

    def __init__(self, strata: Iterable[str], prior_cost: Mapping[str, float] | None = None) -> None:
        """`prior_cost` says what an answer in each stratum is expected to cost, in any unit. None: the cost is the same
        in all strata."""
        self._seen: dict[str, _Seen] = {}
        self._all_sizes: dict[str, _Seen] = {}
        self._all = _Seen()
        self._prior_cost = dict(prior_cost or {})
        self._prior_costs_seen = 0.0
        self._prior_shares_seen = 0.0
        names = sorted(set(strata))
        levels = sorted({n for name in names if (n := as_number(difficulty_of(name))) is not None})
        self._rank = {n: i / max(1, len(levels) - 1) for i, n in enumerate(levels)}
        for name in names:
            self._seen[name] = _Seen()

    def begun(self, stratum: str) -> None:
        """Notes that a question of this stratum is being asked. Until its answer comes, other strata get a better
        chance."""
        self._of(stratum).out += 1

    def ended(self, stratum: str) -> None:
        """Notes that a question of this stratum is no longer being asked."""
        self._of(stratum).out -= 1

    def answered(self, stratum: str, accepted: int, cost: float | None, answers: int = 1) -> None:
        """Takes in news: `answers` answers came, `accepted` of them were accepted, and they cost `cost` together (None:
        nobody knows)."""
        for seen in (self._of(stratum), self._parent(stratum), self._all):
            seen.answers += answers
            seen.accepted += accepted
            if cost is not None:
                seen.cost += cost
                seen.costed += answers
        self._prior_shares_seen += answers * self._first_guess(stratum)
        if cost is not None:
            self._prior_costs_seen += answers * self._prior_cost.get(stratum, 1.0)

    def student_said(self, stratum: str, right: int, answers: int = 1) -> None:
        """Takes in how many of the student's answers were right: what is easy for the student is not hard for a
        teacher."""
        for seen in (self._of(stratum), self._all):
            seen.by_student += answers
            seen.right_by_student += right

    def share(self, stratum: str) -> float:
        """Returns the share of this stratum's next answers that may be accepted. The share is higher if little is
        known, since we cannot see the worth of a stratum that is never asked. A question that is being asked counts as
        half a rejected answer."""
        fair = (self._all.accepted + WEIGHT * FAIREST) / (self._prior_shares_seen + WEIGHT * FAIREST)
        guess = min(0.98, max(0.02, self._first_guess(stratum) * fair))
        parent, seen = self._parent(stratum), self._of(stratum)
        expected = (parent.accepted + WEIGHT * guess) / (parent.answers + WEIGHT)
        n = seen.answers + seen.out / 2 + WEIGHT
        return (seen.accepted + WEIGHT * expected) / n + DOUBT / float(n**0.5)

    def cost(self, stratum: str) -> float:
        """Returns what an answer is expected to cost, in the unit of the costs that `answered` was given."""
        scale = self._all.cost / self._prior_costs_seen if self._prior_costs_seen and self._all.cost else 1.0
        seen = self._of(stratum)
        return (seen.cost + WEIGHT * scale * self._prior_cost.get(stratum, 1.0)) / (seen.costed + WEIGHT)

    def best(self, strata: Iterable[str]) -> str:
        """Returns the stratum whose next answer promises most for its money. If several are equal, it is the first by
        name."""
        return min(strata, key=lambda name: (-self.share(name) / max(self.cost(name), 1e-12), name))

    def _of(self, stratum: str) -> _Seen:
        return self._seen.setdefault(stratum, _Seen())

    def _parent(self, stratum: str) -> _Seen:
        """Returns the counts of all strata with the same domain and difficulty, of any size."""
        return self._all_sizes.setdefault(stratum.rpartition("|")[0], _Seen())

    def _first_guess(self, stratum: str) -> float:
        """Returns the share of accepted answers that is expected before any answer, by the difficulty and by how the
        student did."""
        level = difficulty_of(stratum)
        number = as_number(level)
        ease = EASE.get(level) if number is None else 1 - self._rank.get(number, 0.5)
        guess = FAIREST if ease is None else FAIREST + EASIER * (ease - 0.5)
        seen = self._of(stratum)
        if seen.by_student:
            here = (seen.right_by_student + 1) / (seen.by_student + 2)
            everywhere = (self._all.right_by_student + 1) / (self._all.by_student + 2)
            guess += EASIER * (here - everywhere)
        return min(0.95, max(0.05, guess))
