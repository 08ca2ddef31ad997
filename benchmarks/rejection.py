"""Counts what rejection and rewriting keep of real traces, stage by stage, beside what Sky-T1 tells (25% → over 90%).

    python benchmarks/rejection.py --shared ../shared

The traces are qwen3.jsonl (Qwen3-8B and Qwen3.5-9B, with gold answers; those that were graded by a constraint in place
of a gold answer are left out) and misguided_attention.jsonl (seven open reasoning models, no gold answers, so only
their form is counted). They are treated as if the prompt `boxed` had asked for a box, which no prompt had. So "box"
says what a parser reads that knows boxes alone, as Sky-T1's does for maths. "Left for a model" is what the filter
`format` would still refuse after the rules: what [rewrite.model] would be asked about and paid for.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from harvest.answers.boxes import find_boxes
from harvest.checks import ROW_RULES, CheckPool
from harvest.core.config import Filters
from harvest.core.nouns import Candidate, Outcome, Question, Reply
from harvest.endpoint import prompt as prompts
from harvest.filters import first_fault
from harvest.filters.rewrite import rewritten
from harvest.judging.acceptance import unfinished
from harvest.questions.rows import question_of

PROMPT = prompts.load("boxed")


def answers(path: Path) -> Iterator[tuple[Candidate, Reply]]:
    """Yields (candidate, reply) of each trace, as if it had been asked for with the prompt `boxed`."""
    for n, line in enumerate(path.open(encoding="utf-8")):
        row: dict[str, Any] = json.loads(line)
        if row.get("grader") == "constraint":
            continue
        fields = {"question": row["question"], "answer": row.get("gold") or None, "aliases": row.get("accept") or None}
        question = question_of({k: v for k, v in fields.items() if v}, ROW_RULES, needs_gold=False)
        reply = Reply(row["answer"] or "", row["reasoning"], finish_reason=row["finish_reason"] or "stop")
        yield Candidate(n, 0, question, PROMPT.messages(question), reply.reasoning, reply.answer, None, None), reply


def has_box(candidate: Candidate) -> bool:
    return bool(find_boxes(candidate.answer)[0])


def by_rules(candidate: Candidate) -> Candidate:
    found = rewritten(candidate)
    return candidate if found is None else replace(candidate, reasoning=found.reasoning, answer=found.answer)


def checked(pool: CheckPool, question: Question, answer: str) -> Outcome:
    return pool.check_now(question, answer).outcome


def with_gold(path: Path) -> Iterator[tuple[str, int]]:
    """Yields (stage, how many of the answers are left)."""
    counts: Counter[str] = Counter()
    filters = Filters()
    with CheckPool() as pool:
        for came, reply in answers(path):
            counts["answers"] += 1
            if unfinished(reply) is not None:
                counts["cut at the limit"] += 1
                continue
            counts["finished"] += 1
            now = by_rules(came)
            counts["box, as it came"] += has_box(came)
            counts["box, after the rules"] += has_box(now)
            said = checked(pool, came.question, came.answer)
            counts["read by the check"] += said is not Outcome.NO_ANSWER
            if said is not Outcome.RIGHT:
                counts[f"rejected: {said.value}"] += 1
                continue
            counts["accepted"] += 1
            counts["accepted, with a box as it came"] += has_box(came)
            counts["accepted, the filters keep it as it came"] += first_fault(came, filters) is None
            if now != came and checked(pool, now.question, now.answer) is not Outcome.RIGHT:
                counts["accepted, the check refuses the rewriting"] += 1
                now = came
            counts["accepted, with a box after the rules"] += has_box(now)
            fault = first_fault(now, filters)
            counts["accepted, the filters keep it after the rules"] += fault is None
            if fault is not None and fault.filter == "format":
                counts["accepted, left for a model"] += 1
    yield from counts.items()


def without_gold(path: Path) -> Iterator[tuple[str, int]]:
    counts: Counter[str] = Counter()
    for came, _ in answers(path):
        now = by_rules(came)
        counts["answers"] += 1
        counts["box, as it came"] += has_box(came)
        counts["box, after the rules"] += has_box(now)
        counts["rewritten by rules"] += now != came
    yield from counts.items()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    traces = parser.parse_args().shared / "data/traces"
    for name, count in (("qwen3", with_gold), ("misguided_attention", without_gold)):
        print(f"\n{name}.jsonl\n\n| | n |\n| --- | ---: |")
        for stage, n in count(traces / f"{name}.jsonl"):
            print(f"| {stage} | {n} |")


if __name__ == "__main__":
    main()
