"""How often the 95% intervals of an evaluation hold the truth: simulated measurements of known students.

    python benchmarks/coverage.py

Beside ours the intervals that a user would reach for: all answers taken as independent (Wilson over n·k), and the
normal one over questions. Questions differ in how hard they are; samples of one share that. Two kinds of gain: every
question changes a little, or a tenth of the questions change for good and the rest not at all.
"""

import random
from math import sqrt

from harvest.stats import Z95, accuracy_interval, paired_gain

TRIALS = 4000
CASES = [(5, 8), (10, 2), (20, 8), (30, 16), (60, 4), (100, 1), (500, 4)]


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


def gain(n: int, k: int, rng: random.Random, *, few: bool) -> list[bool]:
    """Whether ours and the normal one hold the truth: ten points more, or a tenth of the questions learnt."""
    before, after = {}, {}
    for i in range(n):
        skill = rng.random() * 0.5 + 0.2
        later = skill + 0.1 + rng.uniform(-0.2, 0.2)
        if few:
            skill, later = (0.0, 1.0) if rng.random() < 0.1 else (0.0, 0.0)
        before[str(i)] = sum(rng.random() < skill for _ in range(k)) / k
        after[str(i)] = sum(rng.random() < later for _ in range(k)) / k
    _, low, high = paired_gain(before, after)
    usual_low, usual_high = normal([after[q] - before[q] for q in before])
    ours = low is not None and high is not None and low <= 10 <= high
    return [ours, 100 * usual_low <= 10 <= 100 * usual_high]


def main() -> None:
    print(
        "| questions | samples | accuracy: ours | as independent | normal | gain: ours | normal | few: ours | normal |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for n, k in CASES:
        rng = random.Random(1000 * n + k)
        trials = [
            accuracy(n, k, rng) + gain(n, k, rng, few=False) + gain(n, k, rng, few=True)
            for _ in range(TRIALS if n < 500 else 1000)
        ]
        columns = zip(*trials, strict=True)
        print(f"| {n} | {k} | " + " | ".join(f"{100 * sum(c) / len(c):.1f}%" for c in columns) + " |", flush=True)


if __name__ == "__main__":
    main()
