"""Measures how many faults the filters find, how many clean traces they lose, and how fast they are.

    python benchmarks/filters.py --shared ../shared                    # all tables
    python benchmarks/filters.py --show planted recorded unseen        # what was wrong, without the held-out half
    python benchmarks/filters.py --outside FOLDER                      # other people's files too (filter_outside.py)

- Hand-written cases stand in filter_cases.toml, where every second case of each filter and side was held out once, and
  in filter_unseen.toml, which was written later.
- Planted: a seed picks a real trace that no filter refuses, and a fault with words of filter_texts.toml. "found" means
  that any filter refuses it; "named", that the intended one does.
- Recorded: real traces with nothing planted. Those in filter_known.toml were read and have a true fault. Any other
  that is refused is a clean trace lost.

Traces are halved by their question, and each half gets its own half of the words. `--show` never shows the held-out
half.
"""

import argparse
import hashlib
import json
import random
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import filter_faults
import filter_outside

from harvest.core.config import Filters
from harvest.core.nouns import Candidate, Question
from harvest.filters import FILTERS, fault_of, first_fault
from harvest.filters.rewrite import rewritten

HERE = Path(__file__).parent
QUESTION = "A farm has 12 hens, and each of them lays 2 eggs a day. How many eggs is that in a day?"
CHAIN = (
    "Okay, the farm has 12 hens and each of them lays 2 eggs a day. To find how many eggs that is, I multiply the"
    " number of hens by the number of eggs that each one lays. 12 times 2 is 24. So there are 24 eggs."
)
BOX = "Reason step by step, then give the final answer in \\boxed{}."
BLOCK = "Solve it in Python and give the whole program in one fenced block that begins with ```python."
EVERY = Filters(
    no_chain=True, short_chain=filter_faults.SHORT_TOKENS, long_chain=filter_faults.LONG_TOKENS
)  # fmt: skip
"""Every filter on, as planted faults are judged."""

Named = tuple[str, Candidate]


# ---- candidates


def candidate(
    question: str, reasoning: str | None, answer: str, *, gold: str | None = None, check: str = "math",
    system: str | None = None, tokens: int | None = None,
) -> Candidate:  # fmt: skip
    asked = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": question}]
    row = Question(id="q", question=question, answer=gold, check=check)
    return Candidate(0, 0, row, tuple(asked), reasoning, answer, None, tokens)


def real(shared: Path) -> Iterator[Named]:
    """Each recorded answer that ended by itself; those cut at their limit are never accepted."""
    for name in ("qwen3", "misguided_attention"):
        for line in (shared / f"data/traces/{name}.jsonl").read_text().split("\n")[:-1]:
            row = json.loads(line)
            if row["finish_reason"] != "length" and row["answer"].strip():
                tokens = row["completion_tokens"]
                yield (
                    row["id"],
                    candidate(row["question"], row["reasoning"], row["answer"], gold=row["gold"], tokens=tokens),
                )


def worked(shared: Path, most: int) -> Iterator[Named]:
    """GSM8K's worked solutions, as a plain teacher would have answered under the prompt `boxed`."""
    for n, line in enumerate((shared / "data/gsm8k/train.jsonl").read_text().split("\n")[:-1][:most]):
        row = json.loads(line)
        steps, gold = row["answer"].rsplit("#### ", 1)
        yield f"gsm8k-{n}", candidate(row["question"], steps.strip(), f"\\boxed{{{gold}}}", gold=gold, system=BOX)


def half_of(trace: Candidate) -> str:
    """By the question, so that no two samples of one stand on both sides."""
    return filter_faults.HALVES[hashlib.sha256(trace.question.question.encode()).digest()[0] % 2]


def known() -> dict[str, str]:
    """Recorded traces that were read and have a true fault: id → what."""
    stored: dict[str, str] = tomllib.loads((HERE / "filter_known.toml").read_text())["known"]
    return stored


# ---- hand-written


def hand_written(held_out: bool) -> Iterator[tuple[str, bool, Candidate]]:
    """(filter, whether it should refuse, candidate): every second case of each filter and side."""
    seen: Counter[tuple[str, bool]] = Counter()
    for name, bad, each in _cases("filter_cases.toml"):
        seen[name, bad] += 1
        if (seen[name, bad] % 2 == 0) == held_out:
            yield name, bad, each


def unseen() -> Iterator[tuple[str, bool, Candidate]]:
    yield from _cases("filter_unseen.toml")


def _cases(name: str) -> Iterator[tuple[str, bool, Candidate]]:
    for case in tomllib.loads((HERE / name).read_text())["case"]:
        yield case.get("refuses") or case["keeps"], "refuses" in case, from_case(case)


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
    dice = random.Random(0)
    match next(((k, case[k]) for k in ("repeat", "counted", "cycle", "shuffled", "table") if k in case), None):
        case "repeat", (text, times):
            return str(text) * int(times)
        case "counted", (form, times):
            return "".join(form.format(n=n) for n in range(1, times + 1))
        case "cycle", (texts, times):
            return "".join(texts) * int(times)
        case "shuffled", (texts, times):
            return "".join(dice.choice(texts) for _ in range(times))
        case "table", (form, times):
            return "".join(form.format(a=n, b=n * 7, c=dice.randrange(7)) for n in range(1, times + 1))
    return ""


def print_cases(title: str, cases: Iterable[tuple[str, bool, Candidate]], show: bool) -> None:
    right: Counter[tuple[str, bool]] = Counter()
    total: Counter[tuple[str, bool]] = Counter()
    for name, bad, each in cases:
        fault = fault_of(name, each, EVERY) if bad else first_fault(each, Filters(no_chain=True))
        total[name, bad] += 1
        right[name, bad] += (fault is not None) == bad
        if show and (fault is not None) != bad:
            said = f"refused: {fault.filter}: {fault.detail}" if fault else "kept"
            print(f"  {name}, should {'refuse' if bad else 'keep'}: {shown(each)} {said}")
    print(f"\n{title}\n\n| filter | to refuse | refused | to keep | kept |\n| --- | ---: | ---: | ---: | ---: |")
    for name in dict.fromkeys(n for n, _ in total):
        print(f"| {name} | {total[name, True]} | {right[name, True]} | {total[name, False]} | {right[name, False]} |")
    sums = [sum(v for (_, b), v in each.items() if b == bad) for bad in (True, False) for each in (total, right)]
    print(f"| all | {' | '.join(map(str, sums))} |")


def shown(each: Candidate) -> str:
    chain = each.reasoning or ""
    return f"{each.question.question[-60:]!r} {chain[:90]!r}…{chain[-60:]!r} {each.answer[:90]!r}"


# ---- planted


def planted(traces: Sequence[Candidate], half: str, seed: int, each: int) -> Iterator[tuple[str, str, Candidate]]:
    """(filter that is meant, kind, candidate)."""
    for name, kinds in filter_faults.FAULTS.items():
        for kind, plant in kinds.items():
            dice = random.Random(f"{seed} {name} {kind}")
            for _ in range(each):
                yield (
                    name,
                    kind,
                    plant(filter_faults.Soil(dice, dice.choice(traces), traces, filter_faults.texts(half))),
                )


def judge_planted(
    traces: Sequence[Candidate], half: str, seed: int, each: int, show: bool = False
) -> Counter[tuple[str, str, str]]:
    """(filter, kind, "n", "found" or "named") → how many."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for name, kind, bad in planted(traces, half, seed, each):
        fault = first_fault(bad, EVERY)
        if show and fault is None:
            print(f"  missed, {name}, {kind}: {shown(bad)} {bad.answer[-100:]!r}")
        counts[name, kind, "n"] += 1
        counts[name, kind, "found"] += fault is not None
        counts[name, kind, "named"] += fault is not None and fault_of(name, bad, EVERY) is not None
    return counts


def print_planted(halves: dict[str, Counter[tuple[str, str, str]]]) -> None:
    print("\n| filter | fault |" + "".join(f" {h}: planted | found | named |" for h in halves))
    print("| --- | --- |" + " ---: | ---: | ---: |" * len(halves))
    for name, kinds in filter_faults.FAULTS.items():
        for kind in kinds:
            cells = [str(c[name, kind, what]) for c in halves.values() for what in ("n", "found", "named")]
            print(f"| {name} | {kind} | {' | '.join(cells)} |")
    sums = [
        [sum(v for (*_, w), v in c.items() if w == what) for what in ("n", "found", "named")] for c in halves.values()
    ]
    print("| all | | " + " | ".join(f"{n} | {found} ({found / n:.2%}) | {named}" for n, found, named in sums) + " |")


# ---- clean


def print_real(title: str, named: Sequence[Named], at_fault: dict[str, str], show: bool) -> None:
    for half in filter_faults.HALVES:
        mine = [(n, t) for n, t in named if half_of(t) == half]
        faults = [(n, f) for n, t in mine if (f := first_fault(t, Filters())) is not None]
        lost = [(n, f) for n, f in faults if n not in at_fault]
        if show and half == "first":
            for n, f in lost:
                print(f"  {n}: {f.filter}: {f.detail}")
        words = ", ".join(f"{k} {v}" for k, v in Counter(f.filter for _, f in lost).most_common()) or "none"
        print(
            f"{title}, {half}: {len(mine)} traces, {len(faults)} refused, {len(faults) - len(lost)} of them truly at"
            f" fault; clean lost {len(lost)} ({len(lost) / len(mine):.2%}): {words}"
        )


def print_outside(folder: Path, show: bool) -> None:
    counts: Counter[tuple[str, bool, str, str]] = Counter()
    kinds: dict[tuple[str, bool], None] = {}
    at_fault = known()
    for case in filter_outside.cases(folder):
        only = case.filter
        fault = fault_of(only, case.candidate, Filters()) if only else first_fault(case.candidate, Filters())
        kinds[case.kind, case.bad] = None
        if case.name in at_fault:
            counts[case.kind, case.bad, case.half, "known"] += 1
            continue
        counts[case.kind, case.bad, case.half, "n"] += 1
        counts[case.kind, case.bad, case.half, "refused"] += fault is not None
        if show and case.half == "first" and (fault is not None) != case.bad:
            print(f"  {case.name}: {fault.filter + ': ' + fault.detail if fault else 'kept ' + shown(case.candidate)}")
    print(
        "\n| file | should be | first: rows | refused | held out: rows | refused |"
        "\n| --- | --- | ---: | ---: | ---: | ---: |"
    )
    for kind, bad in kinds:
        cells = []
        for half in filter_faults.HALVES:
            n, refused = (counts[kind, bad, half, what] for what in ("n", "refused"))
            cells.append(f"{n} | {refused} ({refused / max(n, 1):.1%})")
        print(f"| {kind} | {'refused' if bad else 'kept'} | {' | '.join(cells)} |")


# ---- speed


def print_speed(traces: list[Candidate]) -> None:
    """Traces of about 8 KB each a second of one core, all filters on."""
    sized = [replace(t, reasoning=(t.reasoning or "")[:8000]) for t in traces if len(t.reasoning or "") > 7000]
    took = _seconds(sized, EVERY)
    size = sum(len(t.reasoning or "") + len(t.answer) for t in sized) / len(sized)
    print(f"\nspeed: {len(sized) / took:,.0f} traces of {size / 1000:.1f} KB a second of one core, all filters on")
    for f in FILTERS:
        took = _seconds(sized, _only(f.name, EVERY))
        print(f"  {f.name}: {took / len(sized) * 1e6:.0f} µs a trace")


def _seconds(traces: list[Candidate], settings: Filters) -> float:
    """The best of three, in seconds of this process."""
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        for t in traces:
            first_fault(t, settings)
        best = min(best, time.process_time() - started)
    return best


def _only(name: str, settings: Filters) -> Filters:
    off = {f.name: (0 if f.name in ("short_chain", "long_chain") else False) for f in FILTERS}
    return Filters.model_validate(off | {name: getattr(settings, name)})


def print_hostile() -> None:
    """Seconds for texts of a megabyte made to be slow: as question, chain and answer, each filter and the rewriting."""
    print("\n| a megabyte of | all filters, s | slowest of them, s | rewriting, s |\n| --- | ---: | ---: | ---: |")
    for name, text in filter_faults.HOSTILE.items():
        trace = candidate(text, text, f"{text} \\boxed{{24}}", gold="24", system=BOX)
        took = {f.name: _once(partial(fault_of, f.name, trace, EVERY)) for f in FILTERS}
        rewriting = max(_once(partial(rewritten, t)) for t in (trace, replace(trace, reasoning=None)))
        slowest = max(took, key=lambda each: took[each])
        print(f"| {name} | {sum(took.values()):.2f} | {took[slowest]:.2f} ({slowest}) | {rewriting:.2f} |")


def _once(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--outside", type=Path, default=None)
    parser.add_argument("--show", nargs="+", default=[], choices=["cases", "unseen", "planted", "recorded", "outside"])
    parser.add_argument(
        "--only", nargs="+", default=[], choices=["cases", "unseen", "planted", "recorded", "outside", "speed"]
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=200)
    args = parser.parse_args()
    wanted = args.only or ["cases", "unseen", "planted", "recorded", "speed", *(["outside"] if args.outside else [])]
    if "cases" in wanted:
        print_cases("filter_cases.toml, first half", hand_written(False), "cases" in args.show)
        print_cases("filter_cases.toml, held out", hand_written(True), False)
    if "unseen" in wanted:
        print_cases("filter_unseen.toml", unseen(), "unseen" in args.show)
    recorded, gsm = list(real(args.shared)), list(worked(args.shared, 7473))
    if "recorded" in wanted:
        print()
        print_real("recorded", recorded, known(), "recorded" in args.show)
        print_real("GSM8K's worked solutions", gsm, {}, "recorded" in args.show)
    if "planted" in wanted:
        clean = [t for _, t in recorded + gsm[:1200] if first_fault(t, Filters()) is None]
        halves = {h: [t for t in clean if half_of(t) == h] for h in filter_faults.HALVES}
        show = "planted" in args.show
        print_planted(
            {h: judge_planted(ts, h, args.seed, args.each, show and h == "first") for h, ts in halves.items()}
        )
    if "outside" in wanted:
        print_outside(args.outside, "outside" in args.show)
    if "speed" in wanted:
        print_speed([t for _, t in recorded])
        print_hostile()


if __name__ == "__main__":
    main()
