"""Estimates how likely an answer that was not bought would have been accepted, by the answers to the same question.
Pure.

Each question has its own share of right answers. These shares are taken to follow a Beta distribution over the
questions, which is fitted by maximum likelihood. The fit needs no correction for a question that was no longer asked
because of its answers so far: the likelihood of those answers is the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, inf, lgamma, log, sqrt

from harvest.core.intervals import Z90
from harvest.report.prediction.forecast import share_variance

FEWEST_QUESTIONS = 20
"""So many questions with an answer must be known, and with several answers for `weight`."""
FEW_DOUBTS, MANY_DOUBTS = log(0.02), log(200.0)
"""The ends of the logarithm of `weight`. At the low end nearly every question is always right or always wrong; at the
high end all questions are alike."""
EASIEST = 7.0
"""The mean's logit lies between -EASIEST and EASIEST."""


@dataclass(frozen=True, slots=True)
class Odds:
    """A Beta distribution over the questions."""

    mean: float
    """The share of answers that are accepted, of all questions."""
    weight: float | None
    """How many answers the mean is worth beside the question's own answers (the sum of the Beta's two parameters).
    None: unknown, because hardly a question has several answers."""

    def after(self, accepted: int, answers: int) -> float | None:
        """Returns how likely the next answer to a question is accepted, after so many of its answers were; None if that
        is unknown."""
        if not answers:
            return self.mean
        return None if self.weight is None else (self.mean * self.weight + accepted) / (self.weight + answers)


def odds_of(counts: Mapping[tuple[int, int], int]) -> tuple[Odds, Odds, Odds] | None:
    """Returns the odds as (low end, likeliest, high end) of a 90% interval; None if too little is known.

    `counts` maps (answers, accepted answers) of one question to the number of such questions.
    """
    asked = sum(n for (answers, _), n in counts.items() if answers)
    if asked < FEWEST_QUESTIONS:
        return None
    if sum(n for (answers, _), n in counts.items() if answers > 1) < FEWEST_QUESTIONS:
        share = sum(n * right / answers for (answers, right), n in counts.items() if answers) / asked
        half = Z90 * sqrt(share_variance(share * asked, asked) / asked)
        return Odds(max(0.0, share - half), None), Odds(share, None), Odds(min(1.0, share + half), None)
    at, step = (0.0, log(2.0)), (4.0, 4.0)
    while step[0] > 1e-3:
        near = [(at[0] + i * step[0], at[1] + j * step[1]) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        best = max(map(_within, near), key=lambda x: _log_likelihood(x, counts))
        if best == at:
            step = (step[0] / 2, step[1] / 2)
        at = best
    off = [Z90 * _error(at, axis, counts) for axis in (0, 1)]
    ends = (_within((at[0] + sign * off[0], at[1] + sign * off[1])) for sign in (-1, 0, 1))
    low, mid, high = (Odds(_share(x[0]), exp(x[1])) for x in ends)
    return low, mid, high


def _within(x: tuple[float, float]) -> tuple[float, float]:
    return min(EASIEST, max(-EASIEST, x[0])), min(MANY_DOUBTS, max(FEW_DOUBTS, x[1]))


def _share(logit: float) -> float:
    return 1 / (1 + exp(-logit))


def _log_likelihood(x: tuple[float, float], counts: Mapping[tuple[int, int], int]) -> float:
    """Returns the log-likelihood of the counts. `x` is (logit of the mean, logarithm of the weight)."""
    weight = exp(x[1])
    a, b = _share(x[0]) * weight, _share(-x[0]) * weight
    whole = lgamma(weight) - lgamma(a) - lgamma(b)
    return sum(
        n * (whole + lgamma(a + right) + lgamma(b + answers - right) - lgamma(weight + answers))
        for (answers, right), n in counts.items()
    )


def _error(x: tuple[float, float], axis: int, counts: Mapping[tuple[int, int], int]) -> float:
    """Returns the standard error of one coordinate, by the curvature of the log-likelihood."""
    h = 0.05
    moved = [tuple(v + (sign * h if i == axis else 0) for i, v in enumerate(x)) for sign in (-1, 0, 1)]
    below, here, above = (_log_likelihood((m[0], m[1]), counts) for m in moved)
    bend = (2 * here - below - above) / h**2
    return 1 / sqrt(bend) if bend > 0 else inf
