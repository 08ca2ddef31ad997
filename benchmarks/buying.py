"""How often the 90% intervals of `finetune curve --buy` hold the truth, and how often it is certain and wrong.

    python benchmarks/buying.py [--times 500] [--held-out 200]

A truth is planted: the surface that is fitted, or another law, in which repeated traces are worth less and less
(after Muennighoff et al., arXiv 2305.16264). Each training misses the truth by a random amount (`scatter`, in logits),
and each held-out question has a difficulty of its own. Five trainings are those of `curve --buy`; seven have two more.
The true accuracy is that over 20,000 other questions of the same kind. No model is trained here.
"""

import argparse
from math import exp, log
from typing import Any

import numpy as np

from finetune.tryout.buying import Advice, Point, Setup, advise

CROSS = [(25, 1, 2.0), (50, 1, 2.0), (100, 1, 2.0), (100, 1, 1.0), (100, 1, 4.0)]
GRIDS = {5: CROSS, 7: [*CROSS, (50, 2, 2.0), (25, 1, 4.0)]}
NOW, BOUGHT = Setup(100, 1, 2), 60.0
DIFFICULTY = 1.2
"""The standard deviation of the questions' difficulty, in logits."""


def surface(q: float, k: float, e: float) -> float:
    return -2.2 + 0.55 * log(q / 25) + 0.3 * log(k) + 0.35 * log(e) - 0.08 * log(e) ** 2


def repeated(q: float, k: float, e: float) -> float:
    worth = 1 + 4 * (1 - exp(-(e - 1) / 4))
    return -2.2 + 0.5 * log(q * (1 + 0.5 * (k - 1)) * worth / 25)


def accuracy(logit: float, difficulty: Any) -> float:
    return float((1 / (1 + np.exp(-(logit + difficulty)))).mean())


def simulated(law: Any, scatter: float, grid: Any, held_out: int, seed: int) -> tuple[Advice, Any, float]:
    """Returns (what is advised from one set of trainings, the difficulties of all other questions, the accuracy that
    one more training on all there is has on the held-out questions)."""
    random = np.random.default_rng(seed)
    asked, others = random.normal(0, DIFFICULTY, held_out), random.normal(0, DIFFICULTY, 20_000)
    points = []
    for q, k, e in [*grid, (NOW.questions, int(NOW.per_question), NOW.epochs)]:
        logits = law(q, k, e) + random.normal(0, scatter) + asked
        points.append(Point(q, q * k, e, (random.random(held_out) < 1 / (1 + np.exp(-logits))).astype(float).tolist()))
    came = sum(points[-1].right) / held_out
    return advise(points[:-1], NOW, BOUGHT, seed=seed), others, came


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=500)
    parser.add_argument("--held-out", type=int, default=200)
    args = parser.parse_args()
    columns = (
        "truth",
        "scatter",
        "trainings",
        "quote",
        "accuracy now",
        "of questions",
        "of epochs",
        "certain",
        "wrong",
    )
    print("| " + " | ".join(columns) + " |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, law in (("the surface", surface), ("repeats worth less", repeated)):
        for scatter in (0.05, 0.15, 0.3):
            for trainings, grid in GRIDS.items():
                held = {"quote": 0, "now": 0, "questions": 0, "epochs": 0}
                certain = wrong = 0
                for n in range(args.times):
                    advice, others, came = simulated(law, scatter, grid, args.held_out, n)
                    now = accuracy(law(NOW.questions, NOW.per_question, NOW.epochs), others)
                    held["quote"] += advice.quote[1] <= came <= advice.quote[2]
                    held["now"] += advice.accuracy_now[1] <= now <= advice.accuracy_now[2]
                    gains = {}
                    for g in advice.gains:
                        if g.points is None:
                            continue
                        s = g.setup
                        then = accuracy(law(s.questions, s.per_question, s.epochs), others)
                        gains[g.option] = 100 * (then - now)
                        if g.option in held:
                            held[g.option] += g.points[1] <= gains[g.option] <= g.points[2]
                    certain += advice.is_certain
                    wrong += advice.is_certain and gains[advice.best] < max(gains.values())
                shares = " | ".join(f"{100 * n / args.times:.1f}%" for n in held.values())
                print(f"| {name} | {scatter} | {trainings} | {shares} | {certain} | {wrong} |", flush=True)


if __name__ == "__main__":
    main()
