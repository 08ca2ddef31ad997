"""How sure a measured accuracy and a measured gain are. Pure. Questions are the unit: samples of one are not
independent of each other.
"""

from collections.abc import Mapping, Sequence
from math import comb, sqrt

Z95 = 1.959963984540054
"""The normal distribution's 97.5% point."""

Interval = tuple[float, float, float] | tuple[None, None, None]
"""Estimate, low, high; all None where nothing was measured."""


def accuracy_interval(per_question: Sequence[float], answers: int | None = None) -> Interval:
    """(mean, low, high) of the share of right samples, one number in [0, 1] for each question; 95%.

    Wilson's score interval, with one sample a question exactly that. With several the questions are the
    clusters: the number of questions is replaced by that which independent samples would have needed for the
    same variance between questions, at most the number of `answers` (without it, of questions), and the normal
    quantile by Student's with one degree of freedom less than questions. It never leaves [0, 1], and has a width
    where all are right or all wrong.
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


def student_quantile(freedom: int) -> float:
    """Student's 97.5% point, within 1% from three degrees of freedom on, 3% too low at two.

    Source: Abramowitz and Stegun 1964, 26.7.5.

    >>> [round(student_quantile(n), 3) for n in (10, 30, 100)]
    [2.228, 2.042, 1.984]
    """
    z, v = Z95, freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def paired_gain(before: Mapping[str, float], after: Mapping[str, float]) -> Interval:
    """(points, low, high): how many percentage points more of the same questions are right after; 95%.

    Both map a question to its share of right samples; questions that only one has are left out. The interval
    is over the differences by question, with one pseudo-question gained and one lost, each as far as the question
    that changed most and at least by 0.71 (together one question changed for good), so that it has a width where no
    question changed. With one sample a question it is Bonett and Price's adjusted interval; with several the
    quantile is Student's.
    Source: Bonett and Price 2012, J. Educational and Behavioral Statistics 37(4); by question as in
    Miller 2024, arXiv 2411.00640.

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
    """The chance that at least one of k samples is right, estimated without bias from `right` of `samples` >= k.

    Source: Chen et al. 2021, arXiv 2107.03374, equation 1.

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 1, 2), pass_at_k(4, 4, 1)
    (0.25, 0.5, 1.0)
    """
    return 1.0 - comb(samples - right, k) / comb(samples, k)
