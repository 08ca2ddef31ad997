"""Measures what it costs to finish answers that were cut at half their length: continued, or asked anew with a higher
limit.

    python benchmarks/continue.py [--questions 100] [--model Qwen2.5-Coder-0.5B-Instruct] [--out FILE.md]

The embedded teacher answers each question at temperature 0, first whole. Then each question is a run of its own, with
half of the answer's tokens as max_tokens, once with when_truncated = "continue" and once with "raise". Answers of one
token cannot be cut, and are left out. Each run has a store without the others' answers, so nothing is reused.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harvest.asking.buying.counters import Counters
from harvest.asking.hooks import Hooks
from harvest.asking.planning.preparation import prepare
from harvest.asking.session import ask
from harvest.checks import ROW_RULES, CheckPool
from harvest.core.config import RunConfig
from harvest.core.nouns import Question
from harvest.local.server import LocalServer
from harvest.questions.sources import read_rows
from harvest.store import Store

WHOLE_TOKENS = 1024
KEY = "BENCHMARK_KEY"


@dataclass(frozen=True, slots=True)
class Figures:
    """What one way of asking brought and cost."""

    right: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int


@asynccontextmanager
async def shown(_: Counters) -> AsyncIterator[None]:
    yield


def collected(
    folder: Path,
    name: str,
    questions: Sequence[Question],
    server: LocalServer,
    pool: CheckPool,
    sampling: dict[str, Any],
) -> tuple[Figures, dict[str, int]]:
    """The figures of one run over these questions, and the output tokens of each question's last answer."""
    rows = folder / f"{name}.jsonl"
    rows.write_text("".join(q.model_dump_json(exclude_none=True) + "\n" for q in questions))
    teacher = {"base_url": server.base_url, "model": server.model, "api_key_env": KEY, "max_concurrency": 4}
    free = {"price_usd_per_mtok": {"input": "0", "output": "0"}}
    config = RunConfig.model_validate({
        "name": name, "questions": str(rows), "store": f"sqlite:///{folder / name}.db", "teacher": teacher | free,
        "sampling": {"temperature": 0.0} | sampling, "budget": {"usd": "1"},
    })  # fmt: skip
    with Store.open(config.store) as store:
        run = prepare(config, folder, store, lambda page: [None] * len(page))
        ending = ask(run, store, pool, {KEY: server.api_key}, Hooks(lambda _: None, shown))
        if ending.exit_code:
            raise SystemExit(f"{name}: {ending.words}")
        tokens = store.figures(run.id).tries.tokens
        answers = list(store.answered_attempts(run.id, "all"))
    right = sum(bool(a.accepted) for a in answers)
    lengths = {a.question.id: a.reply.usage.output_tokens or 0 for a in answers}
    return Figures(right, tokens["input"], tokens["cached_input"], tokens["output"]), lengths


def total(parts: Sequence[Figures]) -> Figures:
    return Figures(
        sum(p.right for p in parts), sum(p.input_tokens for p in parts), sum(p.cached_tokens for p in parts),
        sum(p.output_tokens for p in parts),
    )  # fmt: skip


def measured(questions: Sequence[Question], model: str) -> dict[str, Figures]:
    """The figures of each way, over the questions whose answers can be cut."""
    ways: dict[str, list[Figures]] = {"whole": [], "continue": [], "raise": []}
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        os.environ["WINNOW_RUNS"] = str(folder / "runs")
        pool = opened.enter_context(CheckPool())
        server = opened.enter_context(LocalServer(model, slots=4, context_tokens=2 * WHOLE_TOKENS))
        for n, question in enumerate(questions):
            one, lengths = collected(folder, f"whole-{n}", [question], server, pool, {"max_tokens": WHOLE_TOKENS})
            half = lengths[question.id] // 2
            if half and lengths[question.id] < WHOLE_TOKENS:
                ways["whole"].append(one)
                for way in ("continue", "raise"):
                    sampling = {"max_tokens": half, "raised_max_tokens": WHOLE_TOKENS, "when_truncated": way}
                    ways[way].append(collected(folder, f"{way}-{n}", [question], server, pool, sampling)[0])
            print(f"\r{n + 1}/{len(questions)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {way: total(parts) for way, parts in ways.items()} | {"n": Figures(len(ways["whole"]), 0, 0, 0)}


def table(found: dict[str, Figures], model: str) -> str:
    n, whole = found["n"].right, found["whole"]
    names = {"whole": "not cut", "continue": "cut at half, continued", "raise": "cut at half, asked anew"}
    lines = [
        f"# Cut answers, {datetime.now(UTC):%Y-%m-%d}", "",
        f"{n} questions, {model}, temperature 0, `python benchmarks/continue.py`.", "",
        "| answers | right | output tokens | of those without a cut | input tokens | of them cached |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    for way, name in names.items():
        f = found[way]
        share = f.output_tokens / whole.output_tokens if whole.output_tokens else 0.0
        lines.append(
            f"| {name} | {f.right} | {f.output_tokens:,} | {share:.2f} | {f.input_tokens:,} | {f.cached_tokens:,} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--source", default="reasoning-gym:chain_sum?seed=1")
    parser.add_argument("--model", default="Qwen2.5-Coder-0.5B-Instruct")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = read_rows(f"{args.source}&n={args.questions}", Path(), ROW_RULES)
    found = measured([question for _, question in rows], args.model)
    text = table(found, args.model)
    print(text)
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
