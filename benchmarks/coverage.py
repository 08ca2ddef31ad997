"""Simulates how often an evaluation's 95% intervals hold the truth, and how often they show that a student got worse.

    python benchmarks/coverage.py

The simulated students are known. Beside our intervals stand those that a user would take instead: all answers as
independent (Wilson over n·k), and the normal interval over questions. Questions differ in difficulty, and samples of
one question share it. There are three kinds of gain: every question changes a little; a tenth of the questions change
for good and the rest not at all; one in twenty changes for good among others whose samples merely differ.
"""

import random
from collections.abc import Callable
from math import sqrt

from harvest.core.intervals import Z95, accuracy_interval, paired_gain

TRIALS = 4000
CASES = [(5, 8), (10, 2), (20, 8), (30, 16), (60, 4), (100, 1), (500, 4)]
Skills = tuple[float, float]
"""A question's chance to be answered right, before and after."""


def normal(values: list[float]) -> tuple[float, float]:
    """Mean plus and minus 1.96 standard errors, over questions."""
    mean = sum(values) / len(values)
    error = sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
    return mean - Z95 * error, mean + Z95 * error


def accuracy(n: int, k: int, rng: random.Random) -> list[bool]:
    """Whether ours, the one of independent answers and the normal one hold the truth of one measurement."""
    shares = [sum(rng.random() < s for _ in range(k)) / k for s in (rng.betavariate(1, 2) for _ in range(n))]
    _, low, high = accuracy_interval(shares, n * k)
    right = round(sum(shares) * k)
    _, naive_low, naive_high = accuracy_interval([1.0] * right + [0.0] * (n * k - right))
    usual_low, usual_high = normal(shares)
    pairs = [(low, high), (naive_low, naive_high), (usual_low, usual_high)]
    return [lo is not None and hi is not None and lo <= 1 / 3 <= hi for lo, hi in pairs]


def all_a_little(rng: random.Random) -> Skills:
    """Ten points more on average."""
    skill = rng.random() * 0.5 + 0.2
    return skill, skill + 0.1 + rng.uniform(-0.2, 0.2)


def few_for_good(rng: random.Random) -> Skills:
    return (0.0, 1.0) if rng.random() < 0.1 else (0.0, 0.0)


def rare_among_noise(rng: random.Random) -> Skills:
    skill = rng.random() * 0.2
    return (0.0, 1.0) if rng.random() < 0.05 else (skill, skill)


def worse(rng: random.Random) -> Skills:
    """Ten points less on average."""
    skill = rng.random() * 0.5 + 0.3
    return skill, skill - 0.1 + rng.uniform(-0.1, 0.1)


def unchanged(rng: random.Random) -> Skills:
    skill = rng.random()
    return skill, skill


def gain(n: int, k: int, rng: random.Random, skills: Callable[[random.Random], Skills]) -> list[tuple[float, float]]:
    """Ours and the normal interval of one measurement, in points."""
    before, after = {}, {}
    for i in range(n):
        was, now = skills(rng)
        before[str(i)] = sum(rng.random() < was for _ in range(k)) / k
        after[str(i)] = sum(rng.random() < now for _ in range(k)) / k
    _, low, high = paired_gain(before, after)
    usual_low, usual_high = normal([after[q] - before[q] for q in before])
    assert low is not None
    assert high is not None
    return [(low, high), (100 * usual_low, 100 * usual_high)]


def row(n: int, k: int, trials: list[list[bool]]) -> str:
    columns = zip(*trials, strict=True)
    return f"| {n} | {k} | " + " | ".join(f"{100 * sum(c) / len(c):.1f}%" for c in columns) + " |"


def main() -> None:
    print("How often the interval holds the truth:\n")
    gains = [("a little", all_a_little, 10.0), ("few", few_for_good, 10.0), ("rare", rare_among_noise, 5.0)]
    named = " | ".join(f"gain, {name}: ours | normal" for name, _, _ in gains)
    print(f"| questions | samples | accuracy: ours | as independent | normal | {named} |")
    print("| ---: " * 11 + "|")
    for n, k in CASES:
        rng = random.Random(1000 * n + k)
        trials = []
        for _ in range(TRIALS if n < 500 else 1000):
            held = accuracy(n, k, rng)
            for _, skills, truth in gains:
                held += [low <= truth <= high for low, high in gain(n, k, rng, skills)]
            trials.append(held)
        print(row(n, k, trials), flush=True)
    print("\nHow often it lies below 0, which is the warning that a student got worse:\n")
    print("| questions | samples | ten points worse: ours | normal | as good as before: ours | normal |")
    print("| ---: " * 6 + "|")
    for n, k in sorted([*CASES, (200, 1), (200, 4), (500, 1)]):
        rng = random.Random(2000 * n + k)
        told = [
            [high < 0 for skills in (worse, unchanged) for _, high in gain(n, k, rng, skills)]
            for _ in range(TRIALS if n < 200 else 1000)
        ]
        print(row(n, k, told), flush=True)


if __name__ == "__main__":
    main()
