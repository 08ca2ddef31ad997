"""What `plan.order = "promising"` brings where the cap reaches a third of the questions.

    python benchmarks/order.py --seeds 24

Simulated runs of 2,000 questions of ten kinds, each kind with a share of right answers (5% to 95%) and a cost of an
answer (1 to 5) of its own, which the plan is not told. Accepted traces for the same money: in the file's order, by
expected yield (harvest/asking/planning/expected_yield.py), and by someone who knows the shares and costs. Everything is
drawn from the seed.
"""

import argparse
import random
from collections import defaultdict

from harvest.asking.planning.expected_yield import ExpectedYield

QUESTIONS, KINDS, REACHES = 2000, 10, 3
HOW = ("file", "promising", "known")


def accepted(how: str, seed: int, questions: int = QUESTIONS) -> int:
    """Of one simulated run: how many traces the money brought."""
    chance = random.Random(seed)
    kinds = [(f"d{n}||0", chance.uniform(0.05, 0.95), chance.uniform(1, 5)) for n in range(KINDS)]
    rows = [kinds[chance.randrange(KINDS)] for _ in range(questions)]
    money = sum(cost for _, _, cost in rows) / REACHES
    if how == "known":
        rows.sort(key=lambda row: -row[1] / row[2])
    promise = ExpectedYield([name for name, _, _ in kinds])
    left: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
    for row in reversed(rows):
        left[row[0]].append(row)
    in_turn = iter(rows)
    found = 0
    while money > 0:
        by_promise = how == "promising"
        row = left[promise.best(name for name in left if left[name])].pop() if by_promise else next(in_turn)
        name, share, cost = row
        right = chance.random() < share
        promise.answered(name, right, cost)
        found += right
        money -= cost
    return found


def mean_accepted(how: str, seeds: int, questions: int = QUESTIONS) -> float:
    return sum(accepted(how, seed, questions) for seed in range(seeds)) / seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=24)
    args = parser.parse_args()
    print("| questions | " + " | ".join(HOW) + " |")
    print("| ---: |" + " ---: |" * len(HOW))
    for questions in (200, QUESTIONS, 10 * QUESTIONS):
        figures = (f"{mean_accepted(how, args.seeds, questions):,.1f}" for how in HOW)
        print(f"| {questions:,} | " + " | ".join(figures) + " |")


if __name__ == "__main__":
    main()
