"""Compares what the replay of a run says of ten other settings with runs that were really made with them.

    python benchmarks/replay.py FOLDER [--questions 100] [--model SmolLM2-135M-Instruct] [--other-seeds] [--only-table]

The embedded teacher answers sums of two terms, four samples each, all kept. Then ten runs with other settings ask the
same questions, each with a store of its own, so that the teacher really answers again. They have the first run's seed,
as a user's second run would, unless `--other-seeds` is given. Each run is `python -m harvest collect`, which goes on
where it stopped when the benchmark is started again on the same folder. Prints a Markdown table.
"""

import argparse
import math
import statistics
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

from harvest.report.prediction.what_if import Reckoning, tariffs_of
from harvest.store import BoughtAttempt, Store

ROOT = Path(__file__).parents[1]
BASE = {"max_tokens": 16, "samples": 4, "stop_after_accepted": 4}
OTHERS = (
    {"samples": 1},
    {"samples": 2},
    {"stop_after_accepted": 1},
    {"samples": 2, "stop_after_accepted": 1},
    {"max_tokens": 8, "samples": 2},
    {"max_tokens": 12, "samples": 1},
    {"max_tokens": 12, "samples": 2, "stop_after_accepted": 1},
    {"max_tokens": 32, "samples": 1},
    {"max_tokens": 32, "samples": 2, "stop_after_accepted": 1},
    {"samples": 8, "stop_after_accepted": 1},
)


def store_of(folder: Path, name: str) -> str:
    return f"sqlite:///{folder / name}.db"


def is_done(folder: Path, name: str) -> bool:
    if not (folder / f"{name}.db").exists():
        return False
    with Store.open(store_of(folder, name), write=False) as store:
        return not store.question_statuses(store.run_id(name)).get("open", 0)


def collect(folder: Path, name: str, questions: int, model: str, settings: dict[str, int], seed: int) -> None:
    if is_done(folder, name):
        return
    settings = BASE | settings
    settings["stop_after_accepted"] = min(settings["stop_after_accepted"], settings["samples"])
    lines = (
        f'name = "{name}"',
        f'questions = "reasoning-gym:chain_sum?n={questions}&seed=5&min_terms=2&max_terms=2&min_digits=1&max_digits=1"',
        'prompt = "steps"',
        f'store = "{store_of(folder, name)}"',
        f'[teacher]\nlocal = "{model}"\nmax_concurrency = 4',
        f"[sampling]\ntemperature = 0.7\nseed = {seed}",
        *(f"{key} = {value}" for key, value in settings.items()),
    )
    file = folder / f"{name}.toml"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    subprocess.run([sys.executable, "-m", "harvest", "collect", str(file)], check=True, cwd=ROOT, stdout=sys.stderr)


def noise(bought: list[BoughtAttempt], questions: int) -> tuple[float, float]:
    """Returns the standard deviation of (output tokens, accepted answers) of one sample of each question, as a share of
    the sum."""
    mine: dict[int, list[BoughtAttempt]] = defaultdict(list)
    for b in bought:
        mine[b.question_id].append(b)
    sds = []
    for value in (lambda b: b.output_tokens, lambda b: b.attempt.accepted is True):
        within = [statistics.variance(map(value, answers)) for answers in mine.values() if len(answers) > 1]
        mean = statistics.fmean(map(value, bought))
        sds.append(math.sqrt(statistics.fmean(within) / questions) / mean)
    return sds[0], sds[1]


def table(folder: Path) -> None:
    with Store.open(store_of(folder, "base"), write=False) as store:
        run = store.run("base")
        bought = store.bought_attempts(run.id)
    reckoning = Reckoning(run.config, bought, tariffs_of(run.config), datetime.now(UTC), 1.0)
    questions = len({b.question_id for b in bought})
    by_tokens, by_accepted = noise(bought, questions)
    print(f"{questions} questions, {len(bought)} answers in the first run. Standard deviation of one sample of each")
    print(f"question under another seed: tokens {by_tokens:.1%}, accepted {by_accepted:.1%}.\n")
    print("| settings | basis | tokens said | tokens came | off | accepted said | accepted came | off |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for n, settings in enumerate(OTHERS):
        if not is_done(folder, f"other-{n}"):
            continue
        said = reckoning.row(reckoning.decision(**settings))
        with Store.open(store_of(folder, f"other-{n}"), write=False) as store:
            came = store.bought_attempts(store.run_id(f"other-{n}"))
        tokens, accepted = sum(b.output_tokens for b in came), sum(b.attempt.accepted is True for b in came)
        cells = []
        for of, real in ((said["output_tokens"], tokens), (said["accepted"], accepted)):
            between = "" if of["low"] == of["high"] else f" ({of['low']:,} to {of['high']:,})"
            cells += [f"{of['mid']:,}{between}", f"{real:,}", f"{of['mid'] / real - 1:+.1%}" if real else "–"]
        print(f"| {said['what']} | {said['basis']} |", " | ".join(cells), "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--other-seeds", action="store_true")
    parser.add_argument("--only-table", action="store_true", help="ask nothing")
    args = parser.parse_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not args.only_table:
        collect(folder, "base", args.questions, args.model, {}, 1)
        for n, settings in enumerate(OTHERS):
            collect(
                folder, f"other-{n}", args.questions, args.model, settings, 1000 * (n + 1) if args.other_seeds else 1
            )
    table(folder)


if __name__ == "__main__":
    main()
