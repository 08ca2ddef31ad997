"""Compares two ways to spend the same money on a second round: on all questions, or on what the student fails.

    python benchmarks/ask_where_it_fails.py --seeds 3 --work DIR

For each seed, with questions of its own, a first round of traces trains a first student. Then the teacher is asked a
pool of questions in two arms, which may spend the same number of the teacher's output tokens, wrong answers included.
The arm `all` takes the pool in its order. The arm `failed` takes only what the first student fails (greedy, through
`harvest collect` with a [student] section). Each arm trains from the base model on the first round and its own second
round, with the same settings, and is asked the same held-out questions, greedy. Teacher and student are embedded
models, so nothing is billed.

Everything lies in DIR: after a stop the same command goes on. One seed takes about half an hour on two free cores.
The table goes to stdout, the figures also to DIR/results.json.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harvest.core.intervals import accuracy_interval, paired_gain

ROOT = Path(__file__).parents[1]
STUDENT = "SmolLM2-135M-Instruct"
TEACHER = "Qwen2.5-Coder-1.5B-Instruct"
SHARES = {(2, 1): 0.2, (3, 1): 0.25, (4, 1): 0.15, (2, 2): 0.2, (3, 2): 0.2}
"""(terms, digits) of reasoning-gym's chain_sum, and its share of every part: first round, pool, held out."""
PROMPT = """---
for: sums; one worked example, and few words, since a small student reads them with every row
reasoning: before_box
---
## system
One short line per step. Then the answer in \\boxed{}.
## user
52 - 17 + 8 =
## assistant
52 - 17 = 35
35 + 8 = 43
\\boxed{43}
## user
{question}
"""
STUDENT_TOKENS = 96
Row = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """Questions of each part, and how a student is trained."""

    first: int = 140
    pool: int = 320
    asked: int = 160
    """How many of the pool arm `all` asks: what they cost is what both arms may spend."""
    held_out: int = 200
    first_epochs: int = 4
    """Longer than the others, so that the first student can do a good part of the pool: it is what chooses."""
    epochs: int = 2
    traces_per_step: int = 8
    learning_rate: float = 2e-4


@dataclass(frozen=True)
class Seed:
    """One repetition and its folder."""

    number: int
    folder: Path
    size: Size
    port: int

    def file(self, name: str) -> Path:
        return self.folder / name

    def run(self, package: str, *args: str) -> None:
        env = {**os.environ, "WINNOW_RUNS": str(self.file("runs"))}
        say(f"seed {self.number}: {package} {' '.join(args[:2])}")
        subprocess.run([sys.executable, "-m", package, *args], cwd=ROOT, env=env, check=True, stdout=sys.stderr)


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    partial.replace(path)


def read_rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def write_questions(seed: Seed) -> None:
    """first.jsonl, pool.jsonl and held-out.jsonl: no sum stands in two of them, each in an order of its own."""
    from reasoning_gym.arithmetic.chain_sum import ChainSumConfig, ChainSumDataset

    sizes = {"first": seed.size.first, "pool": seed.size.pool, "held-out": seed.size.held_out}
    parts: dict[str, list[Row]] = {part: [] for part in sizes}
    for (terms, digits), share in SHARES.items():
        config = ChainSumConfig(
            min_terms=terms,
            max_terms=terms,
            min_digits=digits,
            max_digits=digits,
            seed=1_000_000 * (seed.number + 1),
            size=20 * sum(sizes.values()),
        )
        sums = {row["metadata"]["expression"]: row["answer"] for row in ChainSumDataset(config)}
        drawn = iter(sums.items())
        for part, size in sizes.items():
            for i in range(round(share * size)):
                text, gold = next(drawn)
                name = f"{seed.number}-{part}-{terms}x{digits}-{i:03}"
                kind = f"{terms} terms, {digits} digit{'s' if digits > 1 else ''}"
                row = {"id": name, "question": f"{text} =", "answer": gold, "check": "math", "difficulty": kind}
                parts[part].append(row)
    for part, rows in parts.items():
        random.Random(f"{seed.number}/{part}").shuffle(rows)
        write_rows(seed.file(f"{part}.jsonl"), rows)
    write_rows(seed.file("asked.jsonl"), parts["pool"][: seed.size.asked])
    seed.file("sums.md").write_text(PROMPT, "utf-8")


def collect(seed: Seed, name: str, questions: str, student: str = "") -> list[Row]:
    """Asks the teacher once each; every answer, accepted or not. What another run of the seed asked is reused."""
    toml = seed.file(f"{name}.toml")
    toml.write_text(
        f'questions = "{questions}"\nprompt = "./sums.md"\nstore = "sqlite:///{seed.file("store.db")}"\n'
        f'[teacher]\nlocal = "{TEACHER}"\nmax_concurrency = 4\n'
        f"[sampling]\nmax_tokens = 160\ntemperature = 0.7\nseed = {seed.number + 1}\n{student}",
        "utf-8",
    )
    seed.run("harvest", "collect", str(toml))
    seed.run("harvest", "export", name, "--which", "all", "--to", str(seed.file(f"{name}-all")))
    rows = read_rows(seed.file(f"{name}-all") / "train.jsonl")
    order = {q["id"]: i for i, q in enumerate(read_rows(seed.file("pool.jsonl")))}
    return sorted(rows, key=lambda r: order.get(r["question_id"], 0))


def train(seed: Seed, name: str, traces: Sequence[Row], epochs: float) -> Path:
    """A student trained from the base model on these traces."""
    data, output, recipe = seed.file(f"data-{name}"), seed.file(f"student-{name}"), seed.file(f"{name}-student.toml")
    write_rows(data / "train.jsonl", [{"messages": t["messages"]} for t in traces])
    recipe.write_text(
        f'student = "{STUDENT}"\ndata = "{data}"\noutput = "{output}"\n[render]\nmax_tokens = 512\n'
        f"[train]\nepochs = {epochs}\ntraces_per_step = {seed.size.traces_per_step}\n"
        f"learning_rate = {seed.size.learning_rate}\nseed = {seed.number}\n",
        "utf-8",
    )
    began = time.monotonic()
    seed.run("finetune", "sft", str(recipe))
    took = seed.file(f"student-{name}.seconds")
    if not took.exists():
        took.write_text(f"{time.monotonic() - began:.0f}")
    return output


def answers(seed: Seed, student: Path, questions: str) -> list[Row]:
    """The student's greedy answer to each: question, stratum, outcome, tokens, and seconds for all of them."""
    kept = seed.file(f"{student.name}-{questions}")
    if not kept.exists():
        details = kept.with_suffix(".details.jsonl")
        asked = ["--questions", str(seed.file(questions)), "--prompt", str(seed.file("sums.md"))]
        began = time.monotonic()
        seed.run(
            "finetune", "eval", str(student), *asked, "--max-tokens", str(STUDENT_TOKENS), "--details", str(details)
        )
        seconds = round(time.monotonic() - began)
        strata = {q["id"]: q["difficulty"] for q in read_rows(seed.file(questions))}
        found = [
            {
                "question": row["question_id"],
                "stratum": strata[row["question_id"]],
                "outcome": row["outcome"],
                "output_tokens": row["output_tokens"],
                "seconds": seconds,
            }
            for row in read_rows(details)
        ]
        write_rows(kept, found)
    return read_rows(kept)


def choose_by_collect(seed: Seed, first: Path) -> tuple[list[Row], Row]:
    """Arm `failed` through `harvest collect`: the first student is asked first, behind an address."""
    from serve_student import served

    began = time.monotonic()
    section = (
        f'[student]\nbase_url = "http://127.0.0.1:{seed.port}/v1"\nmodel = "first-{seed.number}"\nfree = true\n'
        f"max_concurrency = 64\n[student.sampling]\nmax_tokens = {STUDENT_TOKENS}\ntemperature = 0\n"
    )
    with served(str(first), seed.port):
        rows = collect(seed, "by-collect", "pool.jsonl", section)
    return rows, {"attempts": seed.size.pool, "seconds_with_teacher": round(time.monotonic() - began)}


def choose_by_eval(seed: Seed, first: Path) -> tuple[list[Row], Row]:
    """The same choice without [student]: the first student answers the pool here, what it fails is collected."""
    found = answers(seed, first, "pool.jsonl")
    failed = {r["question"] for r in found if r["outcome"] != "right"}
    pool = read_rows(seed.file("pool.jsonl"))
    write_rows(seed.file("failed.jsonl"), [q for q in pool if q["id"] in failed])
    about = {
        "attempts": len(found),
        "failed": len(failed),
        "output_tokens": sum(r["output_tokens"] for r in found),
        "seconds": found[-1]["seconds"],
    }
    return collect(seed, "by-eval", "failed.jsonl"), about


def within(rows: Sequence[Row], tokens: int) -> list[Row]:
    """The first answers whose output tokens come to no more than so many."""
    taken: list[Row] = []
    for row in rows:
        tokens -= spent([row])
        if tokens < 0:
            break
        taken.append(row)
    return taken


def spent(rows: Sequence[Row]) -> int:
    return sum(r["usage"]["output_tokens"] for r in rows)


def one_seed(seed: Seed, choose: str) -> Row:
    """All stages of one seed; the figures of it."""
    if not seed.file("sums.md").exists():
        write_questions(seed)
    began = [r for r in collect(seed, "first", "first.jsonl") if r["accepted"]]
    first = train(seed, "first", began, seed.size.first_epochs)
    everything = collect(seed, "all", "asked.jsonl")
    failed, asking = (choose_by_collect if choose == "collect" else choose_by_eval)(seed, first)
    budget = min(spent(everything), spent(failed))
    kinds = {q["id"]: q["difficulty"] for q in read_rows(seed.file("pool.jsonl"))}
    found: Row = {"seed": seed.number, "budget_tokens": budget, "chosen_by": choose, "asking_student": asking}
    found["arms"] = {"first": {"right": outcomes(answers(seed, first, "held-out.jsonl")), "traces": len(began)}}
    for arm, rows in (("all", everything), ("failed", failed)):
        bought = within(rows, budget)
        traces = began + [r for r in bought if r["accepted"]]
        student = train(seed, arm, traces, seed.size.epochs)
        found["arms"][arm] = {
            "answers": len(bought),
            "output_tokens": spent(bought),
            "accepted": len(traces) - len(began),
            "traces": len(traces),
            "kinds": dict(sorted(Counter(kinds[r["question_id"]] for r in bought).items())),
            "train_seconds": int(seed.file(f"student-{arm}.seconds").read_text()),
            "right": outcomes(answers(seed, student, "held-out.jsonl")),
        }
    return found


def outcomes(rows: Sequence[Row]) -> dict[str, float]:
    """1.0 for each question that was answered right, else 0.0."""
    return {f"{r['question']}|{r['stratum']}": float(r["outcome"] == "right") for r in rows}


def share(right: Mapping[str, float]) -> str:
    mean, low, high = accuracy_interval(list(right.values()))
    if mean is None or low is None or high is None:
        return "–"
    return f"{100 * mean:.1f}% ({100 * low:.0f}–{100 * high:.0f})"


def gain(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    points, low, high = paired_gain(before, after)
    return "–" if points is None else f"{points:+.1f} ({low:+.1f} to {high:+.1f})"


def table(found: Sequence[Row]) -> Iterator[str]:
    """The result as Markdown: by seed, pooled, and by stratum."""
    yield "| seed | teacher's tokens, each arm | answers: all / failed | traces: all / failed |"
    yield "| --- | ---: | ---: | ---: |"
    for f in found:
        a, b = f["arms"]["all"], f["arms"]["failed"]
        yield (
            f"| {f['seed']} | {f['budget_tokens']:,} | {a['answers']} / {b['answers']} |"
            f" {a['accepted']} / {b['accepted']} |"
        )
    yield ""
    yield "| held out, right | first round alone | asks all | asks what failed | failed − all, points |"
    yield "| --- | --- | --- | --- | --- |"
    merged: dict[str, dict[str, float]] = {"first": {}, "all": {}, "failed": {}}
    for f in found:
        arms = {arm: f["arms"][arm]["right"] for arm in merged}
        for arm, right in arms.items():
            merged[arm] |= right
        yield _line(f"seed {f['seed']}", arms)
    yield _line("**pooled**", merged)
    for kind in sorted({k.partition("|")[2] for k in merged["all"]}):
        yield _line(kind, {a: {k: v for k, v in r.items() if k.endswith(f"|{kind}")} for a, r in merged.items()})
    gains = [100 * (_mean(f["arms"]["failed"]["right"]) - _mean(f["arms"]["all"]["right"])) for f in found]
    if len(gains) > 1:
        yield ""
        yield (
            f"By seed the difference is {statistics.mean(gains):+.1f} points on average, with a standard deviation of"
            f" {statistics.stdev(gains):.1f} over {len(gains)} seeds."
        )


def _line(name: str, arms: Mapping[str, Mapping[str, float]]) -> str:
    cells = (share(arms["first"]), share(arms["all"]), share(arms["failed"]), gain(arms["all"], arms["failed"]))
    return f"| {name} | {' | '.join(cells)} |"


def _mean(right: Mapping[str, float]) -> float:
    return statistics.mean(right.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--choose", choices=("collect", "eval"), default="collect", help="how the student is asked")
    parser.add_argument("--port", type=int, default=8099, help="where the first student is served")
    parser.add_argument("--only-table", action="store_true", help="of the seeds that are done")
    for name, value in asdict(Size()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    args = parser.parse_args()
    size = Size(**{name: getattr(args, name) for name in asdict(Size())})
    work = args.work.absolute()
    found = []
    for number in range(args.seeds):
        result = work / f"seed-{number}" / "result.json"
        if not result.exists():
            if args.only_table:
                continue
            write_rows(result, [one_seed(Seed(number, result.parent, size, args.port), args.choose)])
        found += read_rows(result)
        (work / "results.json").write_text(json.dumps({"size": asdict(size), "seeds": found}, indent=1), "utf-8")
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
