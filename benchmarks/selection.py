"""What selection finds and what it loses: python benchmarks/selection.py [--shared DIR] [--seed N] [--no-gold]

Real questions (GSM8K, MATH, knights and knaves, sums and word problems of reasoning-gym) and real chains become the
answers of a run, 30% planted copies among them: edited in one of several ways, questions and chains apart or both, each
under an id of its own; false friends, which are the same question with one other number; and rows that ask questions of
the evaluations (GSM8K's test, MATH-500). Then the real commands run: import, and select with the evaluations named. A
row a kind says how much of it was found; the last ones how much of what was clean went with it.

The rules were made looking at seed 1. Other seeds draw other rows and other edits; the kinds are the same.
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
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMES = ["Maria", "Oluwaseun", "Tom", "Priya", "Chen", "Fatima", "Lars", "Ingrid", "Pablo", "Aiko"]
OTHER_WORDS = ["purchased", "gave", "money", "pals", "sum", "every", "afterwards", "determine", "that", "owns", "when"]
BEFORE = ["Problem 12. ", "Please solve the following problem step by step.\n\n", "Question: ", "Q7: ", "Hi! "]
AFTER = [
    " Put the final answer in \\boxed{}.",
    " Round to 2 decimal places.",
    " Explain your reasoning.",
    " (5 points)",
]
MORE = ["It was a sunny day.", "The shop had been open for 12 years.", "Everybody liked it a lot."]
SPELLED = re.compile(
    r"(?i)(zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|thirty|forty|fifty|sixty"
    r"|seventy|eighty|ninety|half|twice|double|triple)"
)
SENTENCE = re.compile(r"(?<=[.?!]) +")


@dataclass
class Row:
    question: str
    answer: str
    chain: str
    kind: str = "clean"
    of: str = ""
    domain: str = ""


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
    return r.choice(BEFORE) + text + r.choice(AFTER)


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
    parts.insert(r.randrange(len(parts) + 1), r.choice(MORE))
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

    chains = [t["reasoning"] for t in lines(shared / "traces/misguided_attention.jsonl")]
    chains += [t["reasoning"] for t in lines(shared / "traces/qwen3.jsonl")]
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


def templated(question: str) -> str:
    """A chain as a script would write it: the same words for every question, its own numbers."""
    said = [f"We are told {n}. So far so good, now we go on with what we have and write it down." for n in
            re.findall(r"\d+", question)]  # fmt: skip
    return "Let me think about this step by step.\n" + "\n".join(said) + "\nThat is all that we need, so we add it up."


def planted(clean: list[Row], shared: Path, r: random.Random) -> list[Row]:
    """30% of the set: copies of clean rows with their question, their chain, or both edited. Beside it false friends
    and rows that ask the evaluations' questions, 5% each."""
    rows: list[Row] = []
    total = len(clean) / 0.6
    ways = [(kind, place) for kind in EDITS for place in ("question", "chain", "both")]
    for i in range(round(0.3 * total)):
        row, (kind, place) = r.choice(clean), ways[i % len(ways)]
        question = EDITS[kind](row.question, r) if place != "chain" else row.question
        chain = EDITS[kind](row.chain, r) if place != "question" else row.chain
        rows.append(Row(question, row.answer, chain, f"copy, {kind}", row.question, row.domain))
    friends = [row for row in clean if row.domain in ("gsm8k", "chain_sum", "gsm_symbolic", "math")]
    while sum(row.kind == "false friend" for row in rows) < 0.05 * total:
        row = r.choice(friends)
        if (question := other_number(row.question, r)) is not None:
            gold = str(int(row.answer) + 1) if re.fullmatch(r"-?\d+", row.answer) else row.answer
            chain = templated(question) if row.chain.startswith("Let me think about this step") else row.chain
            rows.append(Row(question, gold, other_number(chain, r) or chain, "false friend", row.question, row.domain))
    evaluation = [(e["question"], e["answer"].partition("####")[2].strip()) for e in lines(shared / "gsm8k/test.jsonl")]
    evaluation += [(e["problem"], e["answer"]) for e in lines(shared / "math/math500.jsonl")]
    chains = [row.chain for row in clean if row.domain == "math"]
    for i, (question, gold) in enumerate(r.sample(evaluation, round(0.05 * total))):
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
    parser.add_argument("--no-gold", action="store_true", help="no row but the evaluations' has its gold answer")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--misses", type=int, default=0, help="show so many rows that went wrong")
    args = parser.parse_args()
    r = random.Random(args.seed)
    clean = list({row.question: row for row in real(args.shared, r, args.each)}.values())
    rows = clean + planted(clean, args.shared, r)
    r.shuffle(rows)
    with tempfile.TemporaryDirectory(prefix="selection-") as name:
        folder = Path(name)
        said, outcome = run(folder, rows, args.shared, args.no_gold)
    report(args, rows, said, outcome, clean)


def run(folder: Path, rows: list[Row], shared: Path, no_gold: bool) -> tuple[dict, dict[int, str | None]]:  # type: ignore[type-arg]
    import sqlite3

    with (folder / "a.jsonl").open("w") as f:
        for i, row in enumerate(rows):
            said = {"id": f"r{i}", "question": row.question, "domain": row.domain,
                    "response": f"<think>\n{row.chain}\n</think>\n\nThe answer is \\boxed{{{row.answer}}}."}  # fmt: skip
            f.write(json.dumps(said | ({} if no_gold else {"answer": row.answer, "check": "text"})) + "\n")
    harvest(folder, "import", "a.jsonl", "--name", "r", "--json")
    off = [w for n in ("format", "refusal", "repetition", "meta", "leaked_gold", "language")
           for w in (f"--filters.{n}", "false")]  # fmt: skip
    against = [str(shared / "gsm8k/test.jsonl"), str(shared / "math/math500.jsonl")]
    said = json.loads(harvest(
        folder, "select", "r", "--json", "--select.near_questions", "true", "--select.pool", "all",
        "--select.against", json.dumps(against), *off,
    ))  # fmt: skip
    db = sqlite3.connect(folder / "store.db")
    found = db.execute(
        "SELECT question.name, o.reason FROM selection_outcome AS o JOIN attempt ON attempt.id = attempt_id"
        " JOIN question ON question.id = question_id WHERE selection_id = (SELECT max(id) FROM selection)"
    )
    return said, {int(name[1:]): reason for name, reason in found}


def report(
    args: argparse.Namespace, rows: list[Row], said: dict, outcome: dict[int, str | None], clean: list[Row]
) -> None:  # type: ignore[type-arg]
    """A copy is found where no more than one of its family stays; a clean row is lost where none of its family does."""
    kept_of: Counter[str] = Counter()
    for i, row in enumerate(rows):
        if row.kind.startswith(("clean", "copy")) and outcome.get(i) is None:
            kept_of[row.of or row.question] += 1
    families = {row.question for row in clean}
    lost = [q for q in families if not kept_of[q]]
    found: dict[str, list[int]] = {}
    wrong: list[tuple[str, str, str]] = []
    for i, row in enumerate(rows):
        if row.kind == "clean":
            continue
        reason = outcome.get(i)
        if row.kind.startswith("copy"):
            right = reason is not None or kept_of[row.of] == 1  # it stays in place of the one that it copies
        elif row.kind == "false friend":
            right = reason is None
        else:
            right = reason == "contaminated"
        n = found.setdefault(row.kind, [0, 0])
        n[0] += right
        n[1] += 1
        if not right:
            wrong.append((row.kind, row.of, row.question))
    totals = {
        start: [sum(v[k] for name, v in found.items() if name.startswith(start)) for k in (0, 1)]
        for start in ("copy", "asked", "false friend")
    }
    if args.json:
        print(json.dumps({"kinds": found, "totals": totals, "clean": len(families), "lost": len(lost)}))
        return
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"seed {args.seed}, {len(rows):,} rows, {'without' if args.no_gold else 'with'} gold answers; {machine}\n")
    print("| planted | rows | found | |\n| --- | ---: | ---: | ---: |")
    for kind in sorted(found):
        right, n = found[kind]
        print(f"| {kind} | {n:,} | {right:,} | {100 * right / n:.1f}% |")
    for start, words in (("copy", "all copies"), ("asked", "all that ask the evaluations' questions")):
        right, n = totals[start]
        print(f"| **{words}** | {n:,} | {right:,} | **{100 * right / n:.2f}%** |")
    friends, n = totals["false friend"]
    print(f"\nClean questions lost: {len(lost):,} of {len(families):,} ({100 * len(lost) / len(families):.2f}%).")
    print(f"False friends lost: {n - friends:,} of {n:,} ({100 * (n - friends) / n:.2f}%).")
    print(f"Said: {json.dumps(said['unselected'])}")
    r = random.Random(0)
    for kind, of, question in r.sample(wrong, min(args.misses, len(wrong))):
        print(f"\n--- {kind}\n{of}\n---\n{question}")
    for question in lost[: args.misses]:
        print(f"\n--- lost\n{question}")


if __name__ == "__main__":
    main()
