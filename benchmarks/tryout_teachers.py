"""Whether the order of a tryout's teachers is that of the points that their traces bring, at equal tokens.

    python benchmarks/tryout_teachers.py RUN.toml --student S --eval F [--recipe R] [--teachers 0,1,2] [--seeds 3]
        [--eval-max-tokens N]

RUN.toml is one that `finetune tryout` has asked already. Each teacher with each seed is a cell: a training on as many
tokens as the teacher with the fewest has, then F. A cell that is done is not done again: start the line again until the
table is there. Printed are the points of each cell and each teacher, and the rank correlation (Spearman) of the mean
points with the order by RSR and with the order by accepted share. With few teachers the correlation says little.
"""

import argparse
import statistics
from functools import partial
from pathlib import Path

from finetune.commands.curve_buy import bench_recipe
from finetune.job.stage_process import alone, run_process
from finetune.progress import Progress
from finetune.run import Run
from finetune.train.sft import quiet
from finetune.tryout.cells import Bench, Cell, equal_tokens
from finetune.tryout.fit import fits_of
from finetune.tryout.scoring import score
from finetune.tryout.teachers import labels, read_settings, trying_all
from harvest.core.files import runs_folder
from harvest.core.intervals import paired_gain


def spearman(a: list[float], b: list[float]) -> float:
    """Returns the rank correlation of two lists without ties."""
    places = [[sorted(values).index(v) for v in values] for values in (a, b)]
    n = len(a)
    return 1 - 6 * sum((x - y) ** 2 for x, y in zip(*places, strict=True)) / (n * (n * n - 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--student", required=True)
    parser.add_argument("--eval", required=True)
    parser.add_argument("--recipe")
    parser.add_argument("--teachers", default="")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--eval-max-tokens", type=int)
    args = parser.parse_args()
    quiet()
    data, config = read_settings(Path(args.run), [])
    trying, names = trying_all(data), labels(config)
    run, recipe = Run(trying.name, trying.store), bench_recipe(args, [("student", args.student)])
    answers = [a for a in run.scored_answers(score(run, recipe, "accepted", Progress("score"))[0]) if a.accepted]
    chosen = [int(t) for t in args.teachers.split(",")] if args.teachers else list(range(len(names)))
    traces = {t: [(a.attempt_id, a.score.tokens) for a in answers if a.teacher == t and a.score.tokens] for t in chosen}
    fits, equal = fits_of(answers), equal_tokens(traces)
    mean: dict[int, float] = {}
    print("| teacher | accepted | RSR | traces trained | points by seed | mean |")
    print("| --- | ---: | ---: | ---: | --- | ---: |")
    with alone(runs_folder() / run.name) as lock:
        start = partial(run_process, lock=lock, shows=True)
        bench = Bench(run, recipe, args.eval, start, args.eval_max_tokens)
        before = bench.result(Cell())
        assert not isinstance(before, int), before
        for t, attempts in equal.items():
            points, said = [], []
            for seed in range(args.seeds):
                after = bench.result(Cell(tuple(attempts), recipe.train.epochs, seed))
                assert not isinstance(after, int), after
                gain, low, high = paired_gain(before.right, after.right)
                points.append(gain or 0.0)
                said.append(f"{gain:+.1f} ({low:+.1f} to {high:+.1f})")
            mean[t] = statistics.mean(points)
            rsr = fits[t].rsr[0]
            print(
                f"| {names[t]} | {len(traces[t])} | {rsr:.2f} | {len(attempts)} | {', '.join(said)} | {mean[t]:+.1f} |",
                flush=True,
            )
    print(f"\nright before: {before.accuracy:.1%} of {len(before.right)}")
    if len(mean) > 2:
        order = list(mean)
        by_rsr = spearman([-(fits[t].rsr[0] or 0.0) for t in order], [mean[t] for t in order])
        by_share = spearman([len(traces[t]) + t / 100 for t in order], [mean[t] for t in order])
        print(f"rank correlation with the points: of RSR {by_rsr:+.2f}, of the accepted share {by_share:+.2f}")


if __name__ == "__main__":
    main()
