"""Which question is next where the money will not reach all: the one from which a dollar is expected to bring most
accepted traces. Pure.

Questions that are alike in what is known before asking (domain, difficulty, length) are one stratum. What was expected
of a stratum gives way to what came of it, one answer at a time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harvest.core.nouns import Question

MOST_DOMAINS, MOST_DIFFICULTIES, MOST_SIZES = 64, 32, 8
"""Bounds on what is told apart; whatever comes after them is `OTHER`."""
OTHER = "…"
SMALLEST_CHARACTERS = 128
"""A question of so many characters is of size 1, one of twice as many of size 2, and so on."""
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
"""Difficulties in words, as data sets write them."""


class Strata:
    """Gives each question the name of its stratum, `domain|difficulty|size`."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        """`known`: those that the run has already, which keep their names."""
        parts = [name.split("|") for name in known if name.count("|") == 2]
        self._domains = {p[0] for p in parts}
        self._difficulties = {p[1] for p in parts}

    def of(self, question: Question) -> str:
        domain = _bounded(_plain(question.domain), self._domains, MOST_DOMAINS)
        difficulty = _bounded(_difficulty(question.difficulty), self._difficulties, MOST_DIFFICULTIES)
        return f"{domain}|{difficulty}|{size_of(question.question)}"


def _bounded(name: str, seen: set[str], most: int) -> str:
    if name not in seen:
        if len(seen) >= most:
            return OTHER
        seen.add(name)
    return name


def _plain(text: str | None) -> str:
    return " ".join((text or "").replace("|", "/").split())[:40]


def _difficulty(text: str | None) -> str:
    """Shares to one place, other numbers to two digits, so that measured difficulties are few."""
    number = _number(_plain(text))
    if number is None:
        return _plain(text).casefold()
    return f"{number:.1f}" if 0 < number < 1 else f"{number:.2g}"


def _number(text: str) -> float | None:
    words = text.casefold().removeprefix("level").strip()
    try:
        number = float(words)
    except ValueError:
        return None
    return number if abs(number) < 1e9 else None  # also no NaN


def size_of(text: str) -> int:
    return min(MOST_SIZES - 1, (len(text) // SMALLEST_CHARACTERS).bit_length())


@dataclass(slots=True)
class _Seen:
    answers: int = 0
    accepted: int = 0
    cost: float = 0.0
    costed: int = 0
    out: int = 0
    by_student: int = 0
    right_by_student: int = 0


class Promise:
    """What is known of each stratum, and which of them promises most. The same news gives the same choice."""

    def __init__(self, strata: Iterable[str], prior_cost: Mapping[str, float] | None = None) -> None:
        """`prior_cost`: what an answer in each stratum is expected to cost, in any unit; the same for all if None."""
        self._seen: dict[str, _Seen] = {}
        self._alike: dict[str, _Seen] = {}
        self._all = _Seen()
        self._prior_cost = dict(prior_cost or {})
        self._prior_costs_seen = 0.0
        self._prior_shares_seen = 0.0
        names = sorted(set(strata))
        levels = sorted({n for name in names if (n := _number(_level(name))) is not None})
        self._rank = {n: i / max(1, len(levels) - 1) for i, n in enumerate(levels)}
        for name in names:
            self._seen[name] = _Seen()

    def begun(self, stratum: str) -> None:
        """One of its questions is being asked: others get their turn until its answer is there."""
        self._of(stratum).out += 1

    def ended(self, stratum: str) -> None:
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
        """What is easy for the student is not hard for a teacher."""
        for seen in (self._of(stratum), self._all):
            seen.by_student += answers
            seen.right_by_student += right

    def share(self, stratum: str) -> float:
        """Of the answers, how many may be accepted: what is expected, and the more the less is known, since what is
        never asked never shows what it is worth. Answers that are out count half against it."""
        fair = (self._all.accepted + WEIGHT * FAIREST) / (self._prior_shares_seen + WEIGHT * FAIREST)
        guess = min(0.98, max(0.02, self._first_guess(stratum) * fair))
        parent, seen = self._parent(stratum), self._of(stratum)
        alike = (parent.accepted + WEIGHT * guess) / (parent.answers + WEIGHT)
        n = seen.answers + seen.out / 2 + WEIGHT
        return (seen.accepted + WEIGHT * alike) / n + DOUBT / float(n**0.5)

    def cost(self, stratum: str) -> float:
        """What an answer is expected to cost, in the unit of the news."""
        scale = self._all.cost / self._prior_costs_seen if self._prior_costs_seen and self._all.cost else 1.0
        seen = self._of(stratum)
        return (seen.cost + WEIGHT * scale * self._prior_cost.get(stratum, 1.0)) / (seen.costed + WEIGHT)

    def best(self, strata: Iterable[str]) -> str:
        """The one whose next answer promises most for its money; of equals the first by name."""
        return min(strata, key=lambda name: (-self.share(name) / max(self.cost(name), 1e-12), name))

    def _of(self, stratum: str) -> _Seen:
        return self._seen.setdefault(stratum, _Seen())

    def _parent(self, stratum: str) -> _Seen:
        return self._alike.setdefault(stratum.rpartition("|")[0], _Seen())

    def _first_guess(self, stratum: str) -> float:
        level = _level(stratum)
        number = _number(level)
        ease = EASE.get(level) if number is None else 1 - self._rank.get(number, 0.5)
        guess = FAIREST if ease is None else FAIREST + EASIER * (ease - 0.5)
        seen = self._of(stratum)
        if seen.by_student:
            here = (seen.right_by_student + 1) / (seen.by_student + 2)
            everywhere = (self._all.right_by_student + 1) / (self._all.by_student + 2)
            guess += EASIER * (here - everywhere)
        return min(0.95, max(0.05, guess))


def _level(stratum: str) -> str:
    parts = stratum.split("|")
    return parts[1] if len(parts) == 3 else ""
