"""Computes how sure a measured accuracy and a measured gain are. Pure.

All intervals are computed over questions, because several samples of one question are not independent of each other.
"""

from collections.abc import Mapping, Sequence
from math import comb, pi, sqrt, tan
from statistics import NormalDist

Z95 = 1.959963984540054
"""The 97.5% point of the normal distribution: the ends of a 95% interval."""
Z90 = 1.6448536269514722
"""The 95% point of the normal distribution: the ends of a 90% interval."""

Interval = tuple[float, float, float] | tuple[None, None, None]
"""(estimate, low end, high end). All three are None when nothing was measured."""


def accuracy_interval(per_question: Sequence[float], answers: int | None = None) -> Interval:
    """Returns (mean, low, high): the share of right samples with its 95% interval.

    `per_question` has, for each question, the share of its samples that are right, in [0, 1]. `answers` is the number
    of all samples.

    With one sample for each question this is exactly Wilson's score interval. With several samples, the questions are
    the clusters: the formula then takes, in place of the number of questions, the number of independent samples that
    would show the same variance between questions. That number is at most `answers` (if not given: the number of
    questions). And Student's quantile, with one degree of freedom less than there are questions, takes the place of the
    normal quantile. The interval never leaves [0, 1], and its width is not 0 even if all samples are right or all are
    wrong.
    Source: Wilson 1927, JASA 22; effective sample size and degrees of freedom after Korn and Graubard 1998,
    Survey Methodology 24, and Dean and Pagano 2015, J. Survey Statistics and Methodology 3.

    >>> [round(x, 4) for x in accuracy_interval([1.0] * 40 + [0.0] * 60)]
    [0.4, 0.3094, 0.498]
    >>> accuracy_interval([])
    (None, None, None)
    """
    n = len(per_question)
    if not n:
        return None, None, None
    p = sum(per_question) / n
    between = sum((x - p) ** 2 for x in per_question) / max(1, n - 1)
    quantile, n_effective = Z95, float(n)
    if n > 2 and between > 1e-12 and any(0 < x < 1 for x in per_question):
        quantile = student_quantile(n - 1)
        n_effective = min(n * p * (1 - p) / between, float(answers or n))
    shrink = 1 + quantile**2 / n_effective
    centre = (p + quantile**2 / (2 * n_effective)) / shrink
    half = quantile / shrink * sqrt(p * (1 - p) / n_effective + quantile**2 / (4 * n_effective**2))
    return p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


def mean_interval(per_question: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Returns (mean, low, high) of a quantity without bounds, with its 95% interval by Student's distribution.

    `per_question` has the mean of each question's answers. low and high are None for fewer than two questions.

    >>> [round(x, 2) for x in mean_interval([1.0, 2.0, 3.0, 4.0])]
    [2.5, 0.46, 4.54]
    >>> mean_interval([2.0])
    (2.0, None, None)
    """
    n = len(per_question)
    if not n:
        return None, None, None
    mean = sum(per_question) / n
    if n == 1:
        return mean, None, None
    spread = sqrt(sum((x - mean) ** 2 for x in per_question) / (n - 1) / n)
    return mean, mean - student_quantile(n - 1) * spread, mean + student_quantile(n - 1) * spread


def student_quantile(freedom: int, normal: float = Z95) -> float:
    """Returns a point of Student's distribution with `freedom` degrees of freedom: the one that stands for the point
    `normal` of the normal distribution, for example 97.5% for Z95.

    The result is exact at one and two degrees of freedom, and within 1% from three on. Source: Abramowitz and Stegun
    1964, 26.7.3 and 26.7.5.

    >>> [round(student_quantile(n), 3) for n in (1, 2, 10, 30, 100)]
    [12.706, 4.303, 2.228, 2.042, 1.984]
    """
    z, v = normal, freedom
    within = 2 * NormalDist().cdf(z) - 1
    if v == 1:
        return tan(pi * within / 2)
    if v == 2:
        return within * sqrt(2 / (1 - within**2))
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def paired_gain(before: Mapping[str, float], after: Mapping[str, float]) -> Interval:
    """Returns (gain, low, high) in percentage points: how many more samples are right after than before.

    `before` and `after` map each question to its share of right samples. Questions that only one of them has are left
    out. low and high are the ends of the 95% interval. All three are None when there is no common question.

    The interval is computed over the differences by question. Two pseudo-questions are added, one gained and one lost,
    so that the interval has a width even when no question changed. Each of the two changes as much as the question that
    changed most, but by at least 0.71. With 0.71, the squares of both changes add up to 1, as for one question that
    changed fully. With one sample for each question this is Bonett and Price's adjusted interval. With several samples
    the quantile is Student's.
    Source: Bonett and Price 2012, J. Educational and Behavioral Statistics 37(4); by
    question as in Miller 2024, arXiv 2411.00640.

    >>> [round(x, 1) for x in paired_gain({"a": 0.0, "b": 1.0}, {"a": 1.0, "b": 1.0})]
    [50.0, -56.3, 100.0]
    """
    differences = [after[q] - before[q] for q in before.keys() & after.keys()]
    n = len(differences)
    if not n:
        return None, None, None
    most = max(map(abs, differences)) or 1.0
    added = max(2 * most**2, 1.0)  # less hides few questions that changed much among many that changed little
    quantile = student_quantile(n - 1) if n > 2 and any(0 < abs(d) < 1 for d in differences) else Z95
    centre = sum(differences) / (n + 2)
    variance = (sum(d * d for d in differences) + added) / (n + 2) - centre**2
    half = quantile * sqrt(variance / (n + 2))
    points = sum(differences) / n
    return 100 * points, 100 * max(-1.0, min(points, centre - half)), 100 * min(1.0, max(points, centre + half))


def pass_at_k(samples: int, right: int, k: int) -> float:
    """Returns the chance that at least one of k samples is right, when `right` of `samples` were right.

    The estimate has no bias; `samples` must be at least k. Source: Chen et al. 2021, arXiv 2107.03374, equation 1.

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 1, 2), pass_at_k(4, 4, 1)
    (0.25, 0.5, 1.0)
    """
    return 1.0 - comb(samples - right, k) / comb(samples, k)
