"""Measures the report of a large run: python benchmarks/report_size.py [N] [--keep DIR]

Makes a store with N attempts (default 100,000) of two teachers, with chains of lognormal lengths, wrong and cut
answers, failures, money in doubt, a training with its curve, and evaluations before and after. Then runs
`python -m harvest report` on it. Prints its seconds, its largest memory, and the size of each file that it wrote.
"""

import argparse
import math
import platform
import random
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from measure import cost_of

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from harvest.core.config import RunConfig  # noqa: E402
from harvest.core.errors import Late, Passing  # noqa: E402
from harvest.core.money import Usage, pusd  # noqa: E402
from harvest.core.nouns import Ask, Judgement, Outcome, Question, Reply, Verdict  # noqa: E402
from harvest.store import Sent, Store, stored_settings  # noqa: E402

NAME = "made-up"
LIMIT = 16_384
BEGAN = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)
TEACHERS = (
    {"base_url": "https://api.deepseek.com/v1", "model": "deepseek-reasoner", "usd": Decimal("2.19"), "right": 0.81},
    {"base_url": "https://api.example.com/v1", "model": "small-reasoner-32b", "usd": Decimal("0.60"), "right": 0.62},
)
STEP = "First I look at what is asked: {a} boxes with {b} pens each, so {a} times {b} makes {c}. "
SOURCES = (("GSM8K", "MIT"), ("NuminaMath-1.5", "Apache-2.0"), ("AIME 1983–2023", None))


def at(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def settings_of(n: int) -> dict[str, Any]:
    teachers = [
        {k: t[k] for k in ("base_url", "model")} | {"price_usd_per_mtok": {"input": "0.55", "output": str(t["usd"])}}
        for t in TEACHERS
    ]
    config = RunConfig.model_validate(
        {"name": NAME, "questions": ["questions.jsonl"], "teachers": teachers, "budget": {"usd": cap(n)}}
    )
    return stored_settings(
        config, prompt_text=(ROOT / "prompts/boxed.md").read_text("utf-8"), prompt_sha256="sha256:" + "0" * 64,
        endpoints=dict(enumerate(str(t["base_url"]) for t in TEACHERS)), base=ROOT, price_source="config",
    )  # fmt: skip


def cap(n: int) -> str:
    return str(math.ceil(n * 0.011))


def make(url: str, n: int) -> None:
    """Writes the store. All that is drawn is drawn by a seed."""
    draw = random.Random(1)
    with Store.open(url) as store:
        with store.transaction():
            run_id = store.put_run(NAME, settings_of(n), pusd(Decimal(cap(n))), at(0))
            session = store.begin_session(run_id, at(0))
            for number in range(n):
                _attempt(store, run_id, number, draw, 20 + number * 4000 / n)
            store.end_session(session, "complete", 212, "announced limit", at(4030))
        _student(store, draw)


def _attempt(store: Store, run_id: int, number: int, draw: random.Random, when_s: float) -> None:
    a, b = draw.randrange(3, 99), draw.randrange(3, 99)
    source, licence = SOURCES[number % len(SOURCES)]
    question = Question(
        id=f"q{number:06d}", question=f"A shop has {a} boxes with {b} pens each. How many pens are there?",
        answer=str(a * b), check="math", source=source, licence=licence, domain="maths",
    )  # fmt: skip
    store.put_question(run_id, question)
    question_id = number + 1
    place = int(draw.random() < 0.3)
    usd = pusd(TEACHERS[place]["usd"]) // 1_000_000
    worst = LIMIT * usd + 10**9
    sent = store.reserve(run_id, question_id, Ask(0, LIMIT, place), f"sha256:{number}", worst, at(when_s - 20))
    assert isinstance(sent, Sent), "the cap is too small"
    kind = draw.random()
    if kind < 0.004 or number == 7:
        store.settle_failure(sent.try_id, Late("no whole answer in 600 s"), None, None, "config", at(when_s))
        store.fail_attempt(sent.attempt_id, "late")
        return store.close_question(question_id, "given_up")
    if kind < 0.012:
        store.settle_failure(sent.try_id, Passing("HTTP 503"), None, 0, "config", at(when_s))
        store.fail_attempt(sent.attempt_id, "passing")
        return store.close_question(question_id, "given_up")
    is_right = draw.random() < TEACHERS[place]["right"]
    tokens = min(LIMIT, int(draw.lognormvariate(7.4 if is_right else 8.1, 0.55)))
    is_cut = tokens == LIMIT or draw.random() < 0.015
    tokens = LIMIT if is_cut else tokens
    reply = Reply(
        answer="" if is_cut else f"There are \\boxed{{{a * b if is_right else a + b}}} pens.",
        reasoning=STEP.format(a=a, b=b, c=a * b) * min(200, 1 + tokens // 24), reasoning_kind="chain",
        finish_reason="length" if is_cut else "stop", usage=Usage(60, 0, tokens + 12, tokens),
        served_model=str(TEACHERS[place]["model"]), served_by="Example Cloud" if place else None,
    )  # fmt: skip
    store.settle(sent.try_id, reply, (tokens + 12) * usd + 33_000_000, "config", at(when_s))
    reason = "truncated" if is_cut else None if is_right else "wrong"
    outcome = Outcome.NO_ANSWER if is_cut else Outcome.RIGHT if is_right else Outcome.WRONG
    said = f"the answer says {a * b if is_right else a + b}, the gold answer is {a * b}"
    store.put_judgements([Judgement(sent.attempt_id, [Verdict("math", "1", outcome, said)], reason)], at(when_s))
    store.close_question(question_id, "given_up" if reason else "solved")


def _student(store: Store, draw: random.Random) -> None:
    block = {
        "student": "Qwen2.5-1.5B-Instruct", "method": "sft", "rows": 574, "tokens": 1_904_112, "wall_s": 1_840.0,
        "gpu_hours": 0.51, "cost_usd": "1.5045", "loss_first": 1.214, "loss_last": 0.412,
    }  # fmt: skip
    points = [
        {"step": s, "loss": 0.40 + 0.8 * math.exp(-s / 30) + draw.uniform(-0.03, 0.03)}
        | ({"held_out_loss": 0.46 + 0.75 * math.exp(-s / 28) + s * 0.0002} if s % 20 == 0 else {})
        for s in range(1, 181)
    ]
    store.put_training_points(NAME, "t", points)
    store.put_training(NAME, "t", block)
    for label, share, length in (("before", 0.34, 410), ("after", 0.52, 980)):
        settings = {"model": "Qwen2.5-1.5B-Instruct" if label == "before" else "data/students/qwen2.5-1.5b-maths",
                    "questions": "held-out.jsonl", "samples": 1, "label": label}  # fmt: skip
        store.put_evaluation(NAME, label, settings)
        rows = [
            {"question_id": f"h{i}", "sample": 0, "outcome": "right" if draw.random() < share else "wrong",
             "finish_reason": "stop", "output_tokens": int(draw.gauss(length, 60)), "cost_pusd": None, "text": ""}
            for i in range(300)
        ]  # fmt: skip
        store.put_evaluation_answers(NAME, label, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", nargs="?", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="make the store and the report here, and leave them")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{(folder / 'store.db').absolute()}"
        if not (folder / "store.db").exists():
            make(url, args.n)
        env = {"WINNOW_RUNS": str(folder / "runs"), "PYTHONPATH": str(ROOT)}
        print(f"{platform.machine()}, Python {platform.python_version()}; {args.n:,} attempts")
        for _ in range(2):
            cost = cost_of([sys.executable, "-m", "harvest", "report", NAME, "--store", url], env)
            print(f"report: {cost.wall_s:.1f} s, {cost.cpu_s:.1f} s of CPU, {cost.memory_mb:.0f} MB")
        for path in sorted((folder / "runs" / NAME).iterdir()):
            print(f"{path.name:12} {path.stat().st_size:>9,} bytes")


if __name__ == "__main__":
    main()
