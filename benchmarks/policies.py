"""Computes what an accepted trace costs under each way of asking, on recorded answers, with the plan of `collect`.

    python benchmarks/policies.py                  # tables of recorded_answers.jsonl here and of ../shared's traces
    python benchmarks/policies.py --record WORK    # asks the embedded teachers again first; goes on in WORK

A policy is a `harvest.asking.planning.plan.Rules`. `next_step` plans each question, and what it wants to buy is taken
from the answers recorded for the question, in every order of its samples; the figures are the means. Tokens and
outcomes are real. Money is simulated at list prices (PRICES), because the recorded answers cost nothing; a provider's
discount for a cached prompt is left out. Intervals are 95%, from 2,000 draws of the questions within each group.
"""

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from harvest.asking.planning.plan import Rules, next_step
from harvest.core.money import Price, Usage, cost_of
from harvest.core.nouns import Attempt
from harvest.core.teachers import Sampling

ROOT = Path(__file__).parents[1]
RECORDED = Path(__file__).with_name("recorded_answers.jsonl")
TEACHERS = ("Qwen2.5-Coder-0.5B-Instruct", "Qwen2.5-Coder-1.5B-Instruct")
SAMPLES = 4
STRATA = {"2-3 terms": (16, 2, 3, 1, 2), "4-5 terms": (16, 4, 5, 2, 2), "6-8 terms": (12, 6, 8, 2, 2)}
"""Sums: how many, fewest and most terms, fewest and most digits. Beside them as many of GSM8K as of the first."""


def _price(input: str, output: str, source: str) -> Price:
    return Price(Decimal(input), Decimal(input), Decimal(output), source)


PRICES = {
    TEACHERS[0]: _price("0.30", "1.20", "a stand-in: DeepSeek's list price of deepseek-flash"),
    TEACHERS[1]: _price("1.32", "3.96", "a stand-in: DeepSeek's list price of deepseek-v4-pro"),
    "qwen3:8b": _price("0.035", "0.138", "OpenRouter's list price of qwen3-8b"),
    "qwen3.5:9b": _price("0.10", "0.15", "OpenRouter's list price of qwen3.5-9b"),
}
"""USD a million tokens, from genai-prices 0.2.3."""
DRAWS = 2000


@dataclass(frozen=True, slots=True)
class Answer:
    """One recorded answer: `outcome` is "right" or the reason of its rejection."""

    outcome: str
    cost_pusd: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """A question and what each teacher answered to it, in the order of the policies' teachers."""

    question: str
    stratum: str
    answers: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True, slots=True)
class Yield:
    """What asking one question brings: means over all orders of its samples."""

    cost_pusd: float
    answers: float
    traces: float
    covered: float
    """The chance of at least one accepted trace."""


def walk(rules: Rules, answers: Sequence[Sequence[Answer]], question: str = "q") -> tuple[int, int, int]:
    """(picodollars, answers bought, accepted) of one question: sample n of teacher t gets answers[t][n]."""
    attempts: list[Attempt] = []
    cost_pusd = 0
    while not (step := next_step(attempts, rules, question_id=question)).ended:
        for ask in step.asks:
            got = answers[ask.teacher][ask.sample]
            cost_pusd += got.cost_pusd
            accepted = got.outcome == "right"
            reason = None if accepted else got.outcome
            attempts.append(
                Attempt(len(attempts), ask.sample, ask.max_tokens, "answered", accepted, reason, ask.teacher)
            )
    return cost_pusd, len(attempts), sum(a.accepted is True for a in attempts)


def in_every_order(rules: Rules, recorded: Recorded) -> Yield:
    """The mean of `walk` over all orders of each teacher's samples."""
    needed = [s.samples for s in rules.teachers]
    orders = [itertools.permutations(a, n) for a, n in zip(recorded.answers, needed, strict=True)]
    walks = [walk(rules, answers, recorded.question) for answers in itertools.product(*orders)]
    cost, bought, accepted = (sum(w[i] for w in walks) / len(walks) for i in range(3))
    return Yield(cost, bought, accepted, sum(w[2] > 0 for w in walks) / len(walks))


@dataclass(frozen=True, slots=True)
class Figures:
    """A policy on a set of questions. USD are for 1,000 accepted traces, None where none was accepted."""

    usd: float | None
    usd_per_100: float
    answers: float
    traces_per_100: float
    coverage: float


def figures(yields: Sequence[Yield]) -> Figures:
    n = len(yields)
    cost, traces = sum(y.cost_pusd for y in yields) / 1e12, sum(y.traces for y in yields)
    return Figures(
        usd=1000 * cost / traces if traces else None,
        usd_per_100=100 * cost / n,
        answers=sum(y.answers for y in yields) / n,
        traces_per_100=100 * traces / n,
        coverage=sum(y.covered for y in yields) / n,
    )


def interval(
    strata: Sequence[Sequence[Yield]], of: Callable[[list[Yield]], float | None]
) -> tuple[float, float] | None:
    """The middle 95% of a figure over questions drawn anew within each stratum; None where it is undefined in one."""
    draw = random.Random(0)
    found = []
    for _ in range(DRAWS):
        value = of([y for stratum in strata for y in draw.choices(stratum, k=len(stratum))])
        if value is None:
            return None
        found.append(value)
    found.sort()
    return found[int(0.025 * DRAWS)], found[int(0.975 * DRAWS) - 1]


def policies(cheap: str, dear: str) -> dict[str, tuple[tuple[str, ...], Rules]]:
    """Name → (its teachers, its rules), for teachers that gave SAMPLES answers each."""
    one = Sampling(samples=1)
    four = Sampling(samples=SAMPLES, stop_after_accepted=SAMPLES)
    stop = Sampling(samples=SAMPLES)
    give_up = Sampling(samples=SAMPLES, give_up_after=2)
    each = {
        "one sample": one,
        "four samples": four,
        "stop at one, up to four": stop,
        "the same, give up after 2": give_up,
    }
    found = {f"{name} ({teacher})": ((teacher,), Rules((s,))) for teacher in (cheap, dear) for name, s in each.items()}
    found["cascade: cheap once, then dear up to four"] = ((cheap, dear), Rules((one, stop)))
    found["cascade: cheap up to 2 wrong, then dear up to 2 wrong"] = ((cheap, dear), Rules((give_up, give_up)))
    return found


def single_policies(cheap: str, dear: str) -> dict[str, tuple[tuple[str, ...], Rules]]:
    """The same for teachers that gave one answer each."""
    one = Sampling(samples=1)
    return {
        f"one sample ({cheap})": ((cheap,), Rules((one,))),
        f"one sample ({dear})": ((dear,), Rules((one,))),
        "cascade: the cheap one, then the dear one": ((cheap, dear), Rules((one, one))),
    }


def tables(rows: Sequence[Mapping[str, Any]], among: Mapping[str, tuple[tuple[str, ...], Rules]]) -> Iterator[str]:
    """Markdown: each policy on all questions, then the price of a trace and the coverage by stratum."""
    by_question: dict[tuple[str, str], dict[str, list[Answer]]] = {}
    for r in sorted(rows, key=lambda r: r["sample"]):
        usage = Usage(input_tokens=r["input_tokens"], output_tokens=r["output_tokens"])
        cost_pusd, _ = cost_of(usage, PRICES[r["teacher"]])
        assert cost_pusd is not None, f"{r['question']}: no count of tokens"
        place = by_question.setdefault((r["question"], r["stratum"]), {})
        place.setdefault(r["teacher"], []).append(Answer(r["outcome"], cost_pusd))
    names = list(dict.fromkeys(r["stratum"] for r in rows))
    found: dict[str, dict[str, list[Yield]]] = {}
    for policy, (teachers, rules) in among.items():
        strata = found.setdefault(policy, {name: [] for name in names})
        for (question, stratum), answers in by_question.items():
            recorded = Recorded(question, stratum, tuple(tuple(answers[t]) for t in teachers))
            strata[stratum].append(in_every_order(rules, recorded))
    yield (
        "| policy | answers a question | traces of 100 questions | questions with a trace"
        " | simulated USD for 1,000 traces |"
    )
    yield "| --- | ---: | ---: | ---: | ---: |"
    for policy, strata in found.items():
        groups = list(strata.values())
        f = figures([y for g in groups for y in g])
        covered = interval(groups, lambda drawn: figures(drawn).coverage)
        yield (
            f"| {policy} | {f.answers:.2f} | {f.traces_per_100:.0f} | {f.coverage:.0%}{_range(covered, '.0%')} |"
            f" {_usd(f, interval(groups, lambda drawn: figures(drawn).usd))} |"
        )
    yield ""
    yield f"| simulated USD for 1,000 traces (questions with a trace) | {' | '.join(names)} |"
    yield f"| --- |{' ---: |' * len(names)}"
    for policy, strata in found.items():
        cells = [f"{_usd(f)} ({f.coverage:.0%})" for f in map(figures, strata.values())]
        yield f"| {policy} | {' | '.join(cells)} |"


def _range(between: tuple[float, float] | None, form: str) -> str:
    return "" if between is None else f" ({between[0]:{form}}–{between[1]:{form}})"


def _usd(f: Figures, between: tuple[float, float] | None = None) -> str:
    if f.usd is None:
        return f"no trace for {f.usd_per_100:.3f} a 100 questions"
    return f"{f.usd:.3f}{_range(between, '.3f')}"


def questions(shared: Path) -> list[dict[str, str]]:
    """What is asked, each with its stratum as `difficulty`. GSM8K is drawn from its training half by a fixed seed."""
    from reasoning_gym.arithmetic.chain_sum import ChainSumConfig, ChainSumDataset

    rows = []
    for stratum, (n, fewest, most, least_digits, digits) in STRATA.items():
        config = ChainSumConfig(
            min_terms=fewest, max_terms=most, min_digits=least_digits, max_digits=digits, seed=7, size=n
        )
        for i, row in enumerate(ChainSumDataset(config)):
            name = f"sum-{fewest}-{i:02}"
            rows.append({"id": name, "question": row["question"], "answer": row["answer"], "difficulty": stratum})
    lines = (shared / "data/gsm8k/train.jsonl").read_text("utf-8").splitlines()
    for i in sorted(random.Random(7).sample(range(len(lines)), STRATA["2-3 terms"][0])):
        row = json.loads(lines[i])
        gold = row["answer"].rpartition("####")[2].strip()
        rows.append({"id": f"gsm8k-{i}", "question": row["question"], "answer": gold, "difficulty": "GSM8K"})
    return rows


RUN = """questions = "questions.jsonl"
prompt = "steps"
store = "sqlite:///{store}"
[teacher]
local = "{teacher}"
max_concurrency = 4
[sampling]
max_tokens = 256
temperature = 0.7
seed = 1
samples = {samples}
stop_after_accepted = {samples}
"""


def record(work: Path, shared: Path) -> None:
    """Asks each teacher every question SAMPLES times through `harvest collect`, and writes RECORDED anew."""
    work = work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    asked = questions(shared)
    (work / "questions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in asked), "utf-8")
    strata = {q["id"]: q["difficulty"] for q in asked}
    rows: list[dict[str, Any]] = []
    for teacher in TEACHERS:
        toml = work / f"{teacher}.toml"
        toml.write_text(RUN.format(store=work / "store.db", teacher=teacher, samples=SAMPLES), "utf-8")
        harvest(work, "collect", str(toml))
        harvest(work, "export", teacher, "--which", "all", "--to", str(work / f"{teacher}-all"))
        for line in (work / f"{teacher}-all/train.jsonl").read_text("utf-8").split("\n"):
            if line:
                trace = json.loads(line)
                rows.append(
                    {
                        "question": trace["question_id"],
                        "stratum": strata[trace["question_id"]],
                        "teacher": teacher,
                        "sample": trace["sample"],
                        "outcome": "right" if trace["accepted"] else trace["reason"],
                        "input_tokens": trace["usage"]["input_tokens"],
                        "output_tokens": trace["usage"]["output_tokens"],
                    }
                )
    RECORDED.write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    print(f"{RECORDED}: {len(rows)} answers", file=sys.stderr)


def harvest(work: Path, *args: str) -> None:
    env = {**os.environ, "WINNOW_RUNS": str(work / "runs")}
    subprocess.run([sys.executable, "-m", "harvest", *args], cwd=ROOT, env=env, check=True, stdout=sys.stderr)


GRADERS = {"numeric": "math", "text": "text"}


def foreign(file: Path) -> list[dict[str, Any]]:
    """Answers that others recorded, judged by harvest's checks: one of each teacher to each question. Alternatives to
    the gold answer count. Left out are 80 rows whose grader is a constraint on the answer's words, and 30 that choose
    among options which the question does not list: no check of ours judges either.
    """
    from harvest.checks import CheckPool
    from harvest.core.nouns import Question

    rows = []
    with CheckPool() as pool:
        for line in file.read_text("utf-8").split("\n"):
            r = json.loads(line) if line else {"grader": None}
            if r["grader"] not in GRADERS:
                continue
            outcome = "truncated"
            if r["finish_reason"] == "stop":
                golds = [r["gold"], *r["accept"]]
                asked = [Question(id="q", question=r["question"], answer=g, check=GRADERS[r["grader"]]) for g in golds]
                verdicts = [pool.check_now(q, r["answer"]) for q in asked]
                outcome = "right" if any(v.passed for v in verdicts) else str(verdicts[0].outcome)
            item = r["id"].partition("/")[2]
            rows.append(
                {
                    "question": item,
                    "stratum": item.partition("-")[0],
                    "teacher": r["model"],
                    "sample": 0,
                    "outcome": outcome,
                    "input_tokens": r["prompt_tokens"],
                    "output_tokens": r["completion_tokens"],
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, metavar="WORK")
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("WINNOW_SHARED", ROOT / "../shared")))
    args = parser.parse_args()
    if args.record:
        record(args.record, args.shared)
    for name, price in PRICES.items():
        print(f"{name}: {price.input} in, {price.output} out, USD a million tokens ({price.source})")
    rows = [json.loads(line) for line in RECORDED.read_text("utf-8").split("\n") if line]
    print("", *tables(rows, policies(*TEACHERS)), "", sep="\n")
    traces = args.shared / "data/traces/qwen3.jsonl"
    if traces.exists():
        print(*tables(foreign(traces), single_policies("qwen3:8b", "qwen3.5:9b")), sep="\n")


if __name__ == "__main__":
    main()
