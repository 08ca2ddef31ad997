"""Measures what selection finds and what it loses: python benchmarks/selection.py [--shared DIR] [--seed N] [--no-gold]

Real questions (GSM8K, MATH, knights and knaves, sums and word problems of reasoning-gym) and real chains become the
answers of a run. 30% are planted copies: edited in one of several ways, in the question, the chain or both, each under
an id of its own. 5% ask questions of the evaluations (GSM8K's test, MATH-500). 2% each loop, change into another
language, or refuse. 5% are false friends: the same question with one other number. Then the real commands run with the
default filters: import, and select with the evaluations named. A planted row is found where it is not selected, and
for its own reason; a copy, where at most one of its family stays. A clean question is lost where nothing of its family
is selected, whatever the reason.

The rules were corrected while looking at seeds 1 to 3 and the first two sets of frames. Not looked at were the third
set, the half of filter_texts.toml that the filters were not corrected with, and other seeds. Recorded chains are given
to other questions. Left out are chains that were cut at their limit (many of them loop), chains with a true fault
(filter_known.toml, read by hand), and chains that mention tags which their own question asked for.
"""

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import filter_faults

from harvest.core.nouns import Candidate, Question

ROOT = Path(__file__).parents[1]
NAMES = ["Maria", "Oluwaseun", "Tom", "Priya", "Chen", "Fatima", "Lars", "Ingrid", "Pablo", "Aiko"]
OTHER_WORDS = ["purchased", "gave", "money", "pals", "sum", "every", "afterwards", "determine", "that", "owns", "when"]
BEFORE = (
    ["Problem 12. ", "Please solve the following problem step by step.\n\n", "Question: ", "Q7: ", "Hi! "],
    ["Exercise 4.2: ", "23) ", "Below is a task from an exam of 2019.\n\n", "You are an expert. ", "### Task\n"],
    ["Q. ", "Solve: ", "Homework 3, part b: ", "[Algebra] ", "Consider this puzzle, which 40% of pupils got wrong. "],
)
AFTER = (
    [" Put the final answer in \\boxed{}.", " Round to 2 decimal places.", " Explain your reasoning.", " (5 points)"],
    [" Give your answer to 3 significant figures.", " [10 marks]", "\n\nThink before you answer.", " Thanks!"],
    [" Show all of your work.", " Answer with a number only.", " (difficulty: 3/5)", " You have 5 minutes."],
)
MORE = (
    ["It was a sunny day.", "The shop had been open for 12 years.", "Everybody liked it a lot."],
    ["This happened last week.", "They have known each other for 7 months.", "Nobody was surprised by that."],
    ["The weather had been bad since Monday.", "Their neighbour, aged 61, watched.", "That was long ago."],
)
"""Three sets of frames: the rules were mended with the first two."""
SPELLED = re.compile(
    r"(?i)(zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|thirty|forty|fifty|sixty"
    r"|seventy|eighty|ninety|half|twice|double|triple)"
)
FRAMES = 2
NOT_LENT = (
    "deepseek-r1-0528/riddle_i_never_shave/0", "deepseek-r1-0528/riddle_four_legs_morning/1",
    "qwen3-235b-a22b/trolley_problem_easy/1", "phi-4-reasoning-plus/trolley_problem_easy/2",
)  # fmt: skip
"""Read by hand: they speak of being an AI, or of their own instructions."""
TAG = re.compile(r"</?[a-z]+>|<[|]|boxed")
SENTENCE = re.compile(r"(?<=[.?!]) +")


@dataclass
class Row:
    question: str
    answer: str
    chain: str
    kind: str = "clean"
    of: str = ""
    domain: str = ""
    said: str = ""
    """The answer's text, where it does not state `answer`."""

    @property
    def reply(self) -> str:
        return self.said or f"The answer is \\boxed{{{self.answer}}}."


# ---- edits: from a text to the same one, said otherwise


def names(text: str, r: random.Random) -> str:
    for name in dict.fromkeys(re.findall(r"(?<=[a-z,] )[A-Z][a-z]+", text)):
        if not SPELLED.fullmatch(name):
            text = re.sub(rf"\b{name}\b", r.choice(NAMES), text)
    return text


def swapped(text: str, r: random.Random, share: float = 0.05) -> str:
    said = text.split(" ")
    for i, word in enumerate(said):
        if re.fullmatch("[A-Za-z]{2,}", word) and not SPELLED.fullmatch(word) and r.random() < share:
            said[i] = r.choice(OTHER_WORDS)
    return " ".join(said)


def reordered(text: str, r: random.Random) -> str:
    parts = SENTENCE.split(text)
    told = parts[:-1]
    r.shuffle(told)
    return " ".join([*told, parts[-1]])


def framed(text: str, r: random.Random) -> str:
    return r.choice(BEFORE[FRAMES]) + text + r.choice(AFTER[FRAMES])


def spaced(text: str, r: random.Random) -> str:
    return re.sub(" ", lambda _: r.choice([" ", " ", "  ", "\n"]), text if "\\" in text else text.upper())


def respelled(text: str, r: random.Random) -> str:
    if "\\" not in text and "$" not in text:
        return re.sub(r"(?<![\w.,\\$])(\d+)(?![\w.,]\d)(?!\w)", r"$\1$", text)
    for old, new in (("\\frac{", "\\dfrac{"), ("\\left", ""), ("\\right", ""), ("\\cdot", "\\times"), ("^2", "^{2}")):
        text = text.replace(old, new)
    return text.replace("$", "") if r.random() < 0.5 and "^" not in text else text


def with_more(text: str, r: random.Random) -> str:
    parts = SENTENCE.split(text)
    parts.insert(r.randrange(len(parts) + 1), r.choice(MORE[FRAMES]))
    return " ".join(parts)


def same(text: str, r: random.Random) -> str:
    return text


Edit = Callable[[str, random.Random], str]
EDITS: dict[str, Edit] = {
    "words": swapped, "order": reordered, "frame": framed, "case and spaces": spaced, "LaTeX": respelled,
    "frame and words": lambda t, r: framed(swapped(t, r), r),
    "order, words and spaces": lambda t, r: spaced(reordered(swapped(t, r), r), r),
}  # fmt: skip
ASKED: dict[str, Edit] = {
    "verbatim": same, "framed": framed, "other names": names, "more sentences": with_more, "case and spaces": spaced,
    "words and frame": lambda t, r: framed(swapped(t, r), r), "LaTeX": respelled,
}  # fmt: skip


def other_number(text: str, r: random.Random) -> str | None:
    found = list(re.finditer(r"\d+", text))
    if not found:
        return None
    m = r.choice(found)
    return text[: m.start()] + str(int(m[0]) + r.randint(1, 9)) + text[m.end() :]


# ---- the set


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def real(shared: Path, r: random.Random, each: int) -> Iterator[Row]:
    """Questions, each once, with a chain: GSM8K's worked solution, else one of a reasoning model."""
    import reasoning_gym

    known = tomllib.loads((Path(__file__).parent / "filter_known.toml").read_text("utf-8"))["known"]
    traces = [t for name in ("misguided_attention", "qwen3") for t in lines(shared / f"traces/{name}.jsonl")]
    ended = [t for t in traces if t["finish_reason"] != "length" and t["id"] not in {*known, *NOT_LENT}]
    chains = [t["reasoning"] for t in ended if not TAG.search(t["reasoning"])]
    r.shuffle(chains)
    borrowed = iter(chains * 40)
    for row in r.sample(lines(shared / "gsm8k/train.jsonl"), each):
        worked, _, gold = row["answer"].partition("####")
        worked = re.sub(r"<<.*?>>", "", worked)
        yield Row(row["question"], gold.strip(), f"{worked}\n{next(borrowed)[:3000]}", domain="gsm8k")
    for row in r.sample(lines(shared / "math/train.jsonl"), each):
        yield Row(row["problem"], row["answer"], next(borrowed)[:4000], domain="math")
    for row in lines(shared / "knights_knaves/kk.jsonl")[: each // 2]:
        yield Row(row["question"], row["answer"], next(borrowed)[:2000], domain="knights")
    for task, more in (("chain_sum", {"min_terms": 4, "max_terms": 6, "min_digits": 2}), ("gsm_symbolic", {})):
        for entry in reasoning_gym.create_dataset(task, size=each // 2, seed=r.randrange(10**6), **more):
            yield Row(entry["question"], str(entry["answer"]), templated(entry["question"]), domain=task)


TEMPLATE = (
    "We are told {}.", "Next to that there stands {}, which we will need.", "I write down {} before I forget it.",
    "The text goes on with {}; keep it for later.", "Then {} comes up.", "So far so good, and {} is the one after.",
    "With {} we have nearly all that was given.", "Last of all I see {}.",
)  # fmt: skip


def templated(question: str) -> str:
    """A chain as a script would write it: the same words for every question, its own numbers."""
    found = re.findall(r"\d+", question)
    said = [TEMPLATE[i % len(TEMPLATE)].format(n) for i, n in enumerate(found)]
    return "Let me think about this step by step.\n" + "\n".join(said) + "\nThat is all that we need, so we add it up."


KINDS_OF_FAULT = {"repetition": "loop", "language": "language", "refusal": "refusal"}
SHARES = {"copy": 0.30, "asked": 0.05, "false friend": 0.05, "loop": 0.02, "language": 0.02, "refusal": 0.02}


TOGETHER = {
    "copy": "all copies", "asked": "all that ask the evaluations' questions", "loop": "all loops",
    "language": "all other languages", "refusal": "all refusals",
}  # fmt: skip


def faulty(rows: list[Row], half: str, seed: int) -> Iterator[Row]:
    """Each row with a fault, kinds in turn, as many of each."""
    traces = [
        Candidate(0, 0, Question(id="q", question=row.question, answer=row.answer, check="text"),
                  ({"role": "user", "content": row.question},), row.chain, row.reply, None, None)
        for row in rows
    ]  # fmt: skip
    kinds = {meant: list(filter_faults.FAULTS[name].items()) for name, meant in KINDS_OF_FAULT.items()}
    for i, (row, trace) in enumerate(zip(rows, traces, strict=True)):
        meant = list(kinds)[i % len(kinds)]
        kind, plant = kinds[meant][i // len(kinds) % len(kinds[meant])]
        dice = random.Random(f"{seed} {i}")
        bad = plant(filter_faults.Soil(dice, trace, traces, filter_faults.texts(half)))
        yield replace(row, chain=bad.reasoning or "", said=bad.answer, kind=f"{meant}, {kind}")


def planted(clean: list[Row], total: float, shared: Path, r: random.Random) -> list[Row]:
    """Copies of clean rows with their question, their chain, or both edited; false friends; rows that ask the
    evaluations' questions."""
    rows: list[Row] = []
    ways = [(kind, place) for kind in EDITS for place in ("question", "chain", "both")]
    for i in range(round(SHARES["copy"] * total)):
        row, (kind, place) = r.choice(clean), ways[i % len(ways)]
        question = EDITS[kind](row.question, r) if place != "chain" else row.question
        chain = EDITS[kind](row.chain, r) if place != "question" else row.chain
        rows.append(Row(question, row.answer, chain, f"copy, {kind}", row.question, row.domain))
    friends = [row for row in clean if row.domain in ("gsm8k", "chain_sum", "gsm_symbolic", "math")]
    while sum(row.kind == "false friend" for row in rows) < SHARES["false friend"] * total:
        row = r.choice(friends)
        if (question := other_number(row.question, r)) is not None:
            gold = str(int(row.answer) + 1) if re.fullmatch(r"-?\d+", row.answer) else row.answer
            chain = templated(question) if row.chain.startswith("Let me think about this step") else row.chain
            rows.append(Row(question, gold, other_number(chain, r) or chain, "false friend", row.question, row.domain))
    evaluation = [(e["question"], e["answer"].partition("####")[2].strip()) for e in lines(shared / "gsm8k/test.jsonl")]
    evaluation += [(e["problem"], e["answer"]) for e in lines(shared / "math/math500.jsonl")]
    chains = [row.chain for row in clean if row.domain == "math"]
    for i, (question, gold) in enumerate(r.sample(evaluation, round(SHARES["asked"] * total))):
        kind = list(ASKED)[i % len(ASKED)]
        rows.append(Row(ASKED[kind](question, r), gold, r.choice(chains), f"asked, {kind}", question))
    return rows


# ---- what became of it


def harvest(folder: Path, *args: str) -> str:
    env = {**os.environ, "WINNOW_RUNS": str(folder / "runs"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "harvest", *args, "--store", f"sqlite:///{folder}/store.db"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"harvest {args[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--each", type=int, default=1500, help="clean questions of each large source")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--half", choices=filter_faults.HALVES, default="held_out", help="words of the planted faults")
    parser.add_argument("--frames", type=int, choices=(1, 2, 3), default=3, help="which set of frames and sentences")
    parser.add_argument("--no-gold", action="store_true", help="no row but the evaluations' has its gold answer")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--misses", type=int, default=0, help="show so many rows that went wrong")
    args = parser.parse_args()
    global FRAMES
    FRAMES, r = args.frames - 1, random.Random(args.seed)
    clean = list({row.question: row for row in real(args.shared, r, args.each)}.values())
    faults = sum(SHARES[name] for name in KINDS_OF_FAULT.values())
    total = len(clean) / (1 - sum(SHARES.values()) + faults)
    r.shuffle(clean)
    bad, clean = clean[: round(faults * total)], clean[round(faults * total) :]
    rows = clean + list(faulty(bad, args.half, args.seed)) + planted(clean, total, args.shared, r)
    r.shuffle(rows)
    with tempfile.TemporaryDirectory(prefix="selection-") as name:
        folder = Path(name)
        said, outcome = run(folder, rows, args.shared, args.no_gold)
    report(args, rows, said, outcome, clean)


def run(folder: Path, rows: list[Row], shared: Path, no_gold: bool) -> tuple[dict[str, Any], dict[int, str | None]]:
    import sqlite3

    with (folder / "a.jsonl").open("w") as f:
        for i, row in enumerate(rows):
            said = {"id": f"r{i}", "question": row.question, "domain": row.domain,
                    "response": f"<think>\n{row.chain}\n</think>\n\n{row.reply}"}  # fmt: skip
            f.write(json.dumps(said | ({} if no_gold else {"answer": row.answer, "check": "text"})) + "\n")
    harvest(folder, "import", "a.jsonl", "--name", "r", "--json")
    against = [str(shared / "gsm8k/test.jsonl"), str(shared / "math/math500.jsonl")]
    said = json.loads(harvest(
        folder, "select", "r", "--json", "--select.near_questions", "true", "--select.pool", "all",
        "--select.against", json.dumps(against),
    ))  # fmt: skip
    db = sqlite3.connect(folder / "store.db")
    found = db.execute(
        "SELECT question.name, o.reason FROM selection_outcome AS o JOIN attempt ON attempt.id = attempt_id"
        " JOIN question ON question.id = question_id WHERE selection_id = (SELECT max(id) FROM selection)"
    )
    return said, {int(name[1:]): reason for name, reason in found}


def report(
    args: argparse.Namespace, rows: list[Row], said: dict[str, Any], outcome: dict[int, str | None], clean: list[Row]
) -> None:
    """A copy is found where no more than one of its family stays; a clean row is lost where none of its family does."""
    own = {
        name: {reason for reason, meant in KINDS_OF_FAULT.items() if meant == name} for name in KINDS_OF_FAULT.values()
    }
    own |= {"copy": {"exact_duplicate", "near_duplicate", "near_duplicate_question"}, "asked": {"contaminated"}}
    kept_of: Counter[str] = Counter()
    for i, row in enumerate(rows):
        if row.kind.startswith(("clean", "copy")) and outcome.get(i) is None:
            kept_of[row.of or row.question] += 1
    families = {row.question for row in clean}
    lost = [q for q in families if not kept_of[q]]
    found: dict[str, list[int]] = {}
    wrong: list[int] = []
    for i, row in enumerate(rows):
        if row.kind == "clean":
            continue
        reason = outcome.get(i)
        meant = row.kind.partition(",")[0]
        if row.kind == "false friend":
            right = reason is None
        else:
            right = reason in own[meant]
            right |= meant == "copy" and reason is None and kept_of[row.of] == 1  # in place of the one that it copies
        n = found.setdefault(row.kind, [0, 0])
        n[0] += right
        n[1] += 1
        if not right:
            wrong.append(i)
    totals = {
        start: [sum(v[k] for name, v in found.items() if name.startswith(start)) for k in (0, 1)] for start in SHARES
    }
    by_reason = Counter(
        outcome.get(i) for i, row in enumerate(rows) if row.kind == "clean" and row.question in set(lost)
    )
    if args.json:
        print(json.dumps({"kinds": found, "totals": totals, "clean": len(families), "lost": len(lost),
                          "lost_by_reason": {str(k): v for k, v in by_reason.items()}}))  # fmt: skip

        return
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"seed {args.seed}, {len(rows):,} rows, {'without' if args.no_gold else 'with'} gold answers,"
          f" words: {args.half}, frames: {args.frames}; {machine}\n")  # fmt: skip
    print("| planted | rows | found | |\n| --- | ---: | ---: | ---: |")
    for kind in sorted(found):
        right, n = found[kind]
        print(f"| {kind} | {n:,} | {right:,} | {100 * right / n:.1f}% |")
    all_found = 0
    for start, words in TOGETHER.items():
        right, n = totals[start]
        all_found += right
        print(f"| **{words}** | {n:,} | {right:,} | **{100 * right / n:.2f}%** |")
    n = sum(totals[start][1] for start in SHARES) - totals["false friend"][1]
    print(f"| **all** | {n:,} | {all_found:,} | **{100 * all_found / n:.2f}%** |")
    friends, n = totals["false friend"]
    print(f"\nClean questions lost: {len(lost):,} of {len(families):,} ({100 * len(lost) / len(families):.2f}%):"
          f" {dict(by_reason)}.")  # fmt: skip
    print(f"False friends lost: {n - friends:,} of {n:,} ({100 * (n - friends) / n:.2f}%).")
    print(f"Said: {json.dumps(said['unselected'])}")
    r = random.Random(0)
    for i in r.sample(wrong, min(args.misses, len(wrong))):
        row = rows[i]
        print(f"\n--- {row.kind}: {outcome.get(i)}\n{row.of}\n---\n{row.question}")
        print(f"---\n…{row.chain[-300:]}\n{row.reply[:300]}")
    for i, row in enumerate(rows):
        if row.kind == "clean" and row.question in set(lost[: args.misses]):
            print(f"\n--- lost: {outcome.get(i)}\n{row.question}\n…{row.chain[-300:]}")


if __name__ == "__main__":
    main()
