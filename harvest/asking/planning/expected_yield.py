"""How many accepted traces a dollar is expected to bring in each stratum. Pure.

It chooses which question is next where the money will not reach all. What was expected of a stratum gives way to what
came of it, one answer at a time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harvest.asking.planning.strata import as_number, difficulty_of

WEIGHT = 4.0
"""What was expected counts as so many answers."""
DOUBT = 0.75
"""How much the benefit of doubt is: added to the share, over the root of how many answers are known. Between 0.5 and
1.5 the simulated runs of benchmarks/order.py hardly differ; without it they stay with what they tried first."""
FAIREST, EASIER = 0.5, 0.4
"""The share accepted that is expected of a stratum of which nothing is known, and how far the easiest and the hardest
lie apart in it."""
EASE = {
    "trivial": 1.0, "very easy": 1.0, "easy": 0.85, "simple": 0.85, "introductory": 0.85, "beginner": 0.85,
    "medium": 0.5, "moderate": 0.5, "intermediate": 0.5, "interview": 0.5, "normal": 0.5,
    "hard": 0.15, "difficult": 0.15, "advanced": 0.15, "very hard": 0.0, "expert": 0.0, "competition": 0.0,
    "olympiad": 0.0,
}  # fmt: skip
"""How easy a question is by its difficulty in words, as data sets write it."""


@dataclass(slots=True)
class _Seen:
    """What came of one stratum so far."""

    answers: int = 0
    accepted: int = 0
    cost: float = 0.0
    costed: int = 0
    """Answers whose cost is known."""
    out: int = 0
    """Questions that are being asked."""
    by_student: int = 0
    right_by_student: int = 0


class ExpectedYield:
    """What is known of each stratum. The same news gives the same choice."""

    def __init__(self, strata: Iterable[str], prior_cost: Mapping[str, float] | None = None) -> None:
        """`prior_cost`: what an answer in each stratum is expected to cost, in any unit. None: the same in all."""
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
        """One of its questions is being asked: others get their turn until its answer is there."""
        self._of(stratum).out += 1

    def ended(self, stratum: str) -> None:
        """One of its questions is no longer being asked."""
        self._of(stratum).out -= 1

    def answered(self, stratum: str, accepted: int, cost: float | None, answers: int = 1) -> None:
        """News: so many answers, how many of them were accepted, and what they cost in all (None: nobody knows)."""
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
        """News of the student: what is easy for it is not hard for a teacher."""
        for seen in (self._of(stratum), self._all):
            seen.by_student += answers
            seen.right_by_student += right

    def share(self, stratum: str) -> float:
        """The share of its answers that may be accepted. It is higher where less is known, since what is never asked
        never shows what it is worth. Answers that are out count half against it."""
        fair = (self._all.accepted + WEIGHT * FAIREST) / (self._prior_shares_seen + WEIGHT * FAIREST)
        guess = min(0.98, max(0.02, self._first_guess(stratum) * fair))
        parent, seen = self._parent(stratum), self._of(stratum)
        expected = (parent.accepted + WEIGHT * guess) / (parent.answers + WEIGHT)
        n = seen.answers + seen.out / 2 + WEIGHT
        return (seen.accepted + WEIGHT * expected) / n + DOUBT / float(n**0.5)

    def cost(self, stratum: str) -> float:
        """What an answer is expected to cost, in the unit of the news."""
        scale = self._all.cost / self._prior_costs_seen if self._prior_costs_seen and self._all.cost else 1.0
        seen = self._of(stratum)
        return (seen.cost + WEIGHT * scale * self._prior_cost.get(stratum, 1.0)) / (seen.costed + WEIGHT)

    def best(self, strata: Iterable[str]) -> str:
        """The stratum whose next answer promises most for its money; of equals the first by name."""
        return min(strata, key=lambda name: (-self.share(name) / max(self.cost(name), 1e-12), name))

    def _of(self, stratum: str) -> _Seen:
        return self._seen.setdefault(stratum, _Seen())

    def _parent(self, stratum: str) -> _Seen:
        """The strata of the same domain and difficulty, of any size."""
        return self._all_sizes.setdefault(stratum.rpartition("|")[0], _Seen())

    def _first_guess(self, stratum: str) -> float:
        """The share accepted that is expected before any answer, by the difficulty and by what the student could do."""
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
