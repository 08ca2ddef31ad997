"""How good and how fast the filters are: faults planted by rule into real traces, hand-written hard cases, and what
they refuse of real traces.

    python benchmarks/filters.py --shared ../shared                 # planted, hand-written (first half), real, speed
    python benchmarks/filters.py --shared ../shared --held-out      # the other half of the hand-written ones
    python benchmarks/filters.py --shared ../shared --read          # every real trace that is refused, with why

Planted: a seed picks a real trace and a fault. What each filter is on by default for is counted by any filter's
refusal ("found") and by the one that is meant ("named"). Clean: the same traces with nothing planted, and GSM8K's worked
solutions. `--read` is for eyes: what a real trace is refused for may be a true fault of it.
"""

import argparse
import json
import random
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from harvest.config import Filters
from harvest.filters import FILTERS, first_fault
from harvest.trace import Candidate, Question

HERE = Path(__file__).parent
QUESTION = "A farm has 12 hens, and each of them lays 2 eggs a day. How many eggs is that in a day?"
CHAIN = (
    "Okay, the farm has 12 hens and each of them lays 2 eggs a day. To find how many eggs that is, I multiply the number"
    " of hens by the number of eggs that each one lays. 12 times 2 is 24. So there are 24 eggs."
)
BOX = "Reason step by step, then give the final answer in \\boxed{}."
BLOCK = "Solve it in Python and give the whole program in one fenced block that begins with ```python."


# ---- candidates


def candidate(
    question: str, reasoning: str | None, answer: str, *, gold: str | None = None, check: str = "math",
    system: str | None = None, tokens: int | None = None,
) -> Candidate:  # fmt: skip
    asked = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": question}]
    row = Question(id="q", question=question, answer=gold, check=check)
    return Candidate(0, 0, row, tuple(asked), reasoning, answer, None, tokens)


def real(shared: Path) -> Iterator[tuple[str, Candidate]]:
    """(name, trace) of each recorded answer that ended by itself; those cut at their limit are never accepted."""
    for name in ("qwen3", "misguided_attention"):
        for line in (shared / f"data/traces/{name}.jsonl").read_text().split("\n")[:-1]:
            row = json.loads(line)
            if row["finish_reason"] != "length" and row["answer"].strip():
                tokens = row["completion_tokens"]
                yield (
                    row["id"],
                    candidate(row["question"], row["reasoning"], row["answer"], gold=row["gold"], tokens=tokens),
                )


def worked(shared: Path, most: int) -> Iterator[tuple[str, Candidate]]:
    """GSM8K's worked solutions, as a plain teacher would have answered under the prompt `boxed`."""
    for n, line in enumerate((shared / "data/gsm8k/train.jsonl").read_text().split("\n")[:-1][:most]):
        row = json.loads(line)
        steps, gold = row["answer"].rsplit("#### ", 1)
        yield f"gsm8k-{n}", candidate(row["question"], steps.strip(), f"\\boxed{{{gold}}}", gold=gold, system=BOX)


# ---- hand-written


def hand_written(held_out: bool) -> Iterator[tuple[str, bool, Candidate]]:
    """(filter, whether it should refuse, candidate): every second case of each filter and side."""
    seen: Counter[tuple[str, bool]] = Counter()
    for case in tomllib.loads((HERE / "filter_cases.toml").read_text())["case"]:
        name, bad = case.get("refuses") or case["keeps"], "refuses" in case
        seen[name, bad] += 1
        if (seen[name, bad] % 2 == 0) == held_out:
            yield name, bad, from_case(case)


def from_case(case: dict[str, Any]) -> Candidate:
    reasoning = case.get("reasoning", CHAIN)
    if extra := _made(case):
        reasoning = (case["reasoning"] + " " if "reasoning" in case else "") + extra + case.get("after", "")
    system = case.get("system") or {"box": BOX, "block": BLOCK}.get(case.get("asks", ""))
    return candidate(
        case.get("question", QUESTION), reasoning, case.get("answer", "\\boxed{24}"), gold=case.get("gold", "24"),
        check=case.get("check", "math"), system=system,
    )  # fmt: skip


def _made(case: dict[str, Any]) -> str:
    if "repeat" in case:
        return case["repeat"][0] * case["repeat"][1]
    if "counted" in case:
        return "".join(case["counted"][0].format(n=n) for n in range(1, case["counted"][1] + 1))
    if "cycle" in case:
        return "".join(case["cycle"][0]) * case["cycle"][1]
    if "shuffled" in case:
        dice = random.Random(0)
        return "".join(dice.choice(case["shuffled"][0]) for _ in range(case["shuffled"][1]))
    if "table" in case:
        dice = random.Random(0)
        return "".join(
            case["table"][0].format(a=n, b=n * 7, c=dice.randrange(7)) for n in range(1, case["table"][1] + 1)
        )
    return ""


# ---- planted


Planted = tuple[str, str, Candidate]
"""Filter that is meant, kind, candidate."""


def planted(traces: list[Candidate], seed: int, each: int) -> Iterator[Planted]:
    from filter_faults import FAULTS

    for filter_name, kinds in FAULTS.items():
        for kind, plant in kinds.items():
            dice = random.Random(f"{seed} {filter_name} {kind}")
            for _ in range(each):
                trace = dice.choice(traces)
                yield filter_name, kind, plant(dice, trace)


# ---- figures


def judge_planted(
    traces: list[Candidate], seed: int, each: int, settings: Filters, misses: int
) -> Counter[tuple[str, str, str]]:
    counts: Counter[tuple[str, str, str]] = Counter()
    for name, kind, bad in planted(traces, seed, each):
        fault = first_fault(bad, settings)
        if fault is None and counts[name, kind, "n"] - counts[name, kind, "found"] < misses:
            print(
                f"  missed, {name}, {kind}: …{(bad.reasoning or '')[-160:]!r} {bad.answer[:100]!r} {bad.answer[-100:]!r}"
            )
        counts[name, kind, "n"] += 1
        counts[name, kind, "found"] += fault is not None
        counts[name, kind, "named"] += fault is not None and fault.filter == name
    return counts


def print_planted(counts: Counter[tuple[str, str, str]]) -> None:
    print("\n| filter | fault | planted | found | named |\n| --- | --- | ---: | ---: | ---: |")
    for name, kind in dict.fromkeys((n, k) for n, k, _ in counts):
        n = counts[name, kind, "n"]
        print(
            f"| {name} | {kind} | {n} | {counts[name, kind, 'found'] / n:.1%} | {counts[name, kind, 'named'] / n:.1%} |"
        )
    n = sum(v for (*_, what), v in counts.items() if what == "n")
    found = sum(v for (*_, what), v in counts.items() if what == "found")
    print(f"| all | | {n} | {found / n:.2%} | |")


def print_hand_written(held_out: bool) -> None:
    every = Filters(no_chain=True)
    right: Counter[tuple[str, bool]] = Counter()
    total: Counter[tuple[str, bool]] = Counter()
    for name, bad, each in hand_written(held_out):
        alone = Filters(**{f.name: False for f in FILTERS}) if False else _only(name, every)
        fault = first_fault(each, alone)
        total[name, bad] += 1
        if (fault is not None) == bad:
            right[name, bad] += 1
        else:
            said = f"refused: {fault.detail}" if fault else "kept"
            print(
                f"  wrong, {name} {'should refuse' if bad else 'should keep'}: {(each.reasoning or '')[:90]!r} {each.answer[:80]!r} {said}"
            )
    print(f"\n| filter | to refuse | refused | to keep | kept |\n| --- | ---: | ---: | ---: | ---: |")
    for name in dict.fromkeys(n for n, _ in total):
        print(f"| {name} | {total[name, True]} | {right[name, True]} | {total[name, False]} | {right[name, False]} |")
    print(
        f"| all | {sum(v for (_, b), v in total.items() if b)} | {sum(v for (_, b), v in right.items() if b)}"
        f" | {sum(v for (_, b), v in total.items() if not b)} | {sum(v for (_, b), v in right.items() if not b)} |"
    )


def _only(name: str, settings: Filters) -> Filters:
    off = {f.name: (0 if f.name.endswith("_chain") and f.name != "no_chain" else False) for f in FILTERS}
    return Filters(**(off | {name: getattr(settings, name)}))


def print_real(named: list[tuple[str, Candidate]], settings: Filters, title: str, read: bool) -> None:
    refused: Counter[str] = Counter()
    for name, trace in named:
        if fault := first_fault(trace, settings):
            refused[fault.filter] += 1
            if read:
                print(f"  {name}: {fault.filter}: {fault.detail}")
    words = ", ".join(f"{k} {v}" for k, v in refused.most_common()) or "none"
    print(f"{title}: {len(named)} traces, refused {refused.total()} ({refused.total() / len(named):.2%}): {words}")


def print_speed(traces: list[Candidate]) -> None:
    """Traces of about 8 KB each a second of one core, all filters on."""
    sized = [
        replace(t, reasoning=((t.reasoning or "") * 8)[:8000])
        if len(t.reasoning or "") < 4000
        else replace(t, reasoning=(t.reasoning or "")[:8000])
        for t in traces
    ]
    sized = [t for t in sized if len(t.reasoning or "") > 7000 and t.reasoning.count(t.reasoning[:200]) == 1]
    settings = Filters(no_chain=True, short_chain=1, long_chain=10**8)
    started = time.process_time()
    for t in sized:
        first_fault(t, settings)
    took = time.process_time() - started
    size = sum(len(t.reasoning or "") + len(t.answer) for t in sized) / len(sized)
    print(f"speed: {len(sized) / took:,.0f} traces of {size / 1000:.1f} KB a second of one core, all filters on")
    for f in FILTERS:
        started = time.process_time()
        for t in sized:
            first_fault(t, _only(f.name, settings))
        print(f"  {f.name}: {(time.process_time() - started) / len(sized) * 1e6:.0f} µs a trace")


def print_hostile() -> None:
    """Seconds for texts of a megabyte made to be slow, beside an ordinary one of that size."""
    from filter_faults import HOSTILE

    print("\n| a megabyte of | s |\n| --- | ---: |")
    for name, text in HOSTILE.items():
        started = time.process_time()
        first_fault(candidate(QUESTION, text, text + " \\boxed{24}", gold="24", system=BOX), Filters(no_chain=True))
        print(f"| {name} | {time.process_time() - started:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--read", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--misses", type=int, default=0, help="show so many of each kind")
    args = parser.parse_args()
    print_hand_written(args.held_out)
    if args.held_out:
        return
    settings = Filters()
    recorded = list(real(args.shared))
    print_real(recorded, settings, "recorded", args.read)
    gsm = list(worked(args.shared, 7473))
    print_real(gsm, settings, "gsm8k worked", args.read)
    if args.read:
        return
    clean = [t for _, t in recorded + gsm[:1200] if first_fault(t, settings) is None]
    print_planted(judge_planted(clean, args.seed, args.each, settings, args.misses))
    print_speed([t for _, t in recorded])
    print_hostile()


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    main()
