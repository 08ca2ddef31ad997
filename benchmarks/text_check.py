"""Measures the text check on whole answers that its rules were not made from: python benchmarks/text_check.py DIR

DIR holds clones of two repositories: `hotpotqa` (github.com/VatsalP04/hotpotqa at f3dea66: 200 questions of HotpotQA,
each answered by Mistral in two ways) and `thinking-traces` (github.com/JesseRWeigel/thinking-traces at 31b2461: 200
questions, each answered by two Qwen3 without thinking). text_labels.toml says which answers are right. The questions of
HotpotQA are in two halves, drawn by a seed: version 6 of the check was made from the first, then measured on the
second, then mended by what the second showed.

The last line gives each answer the gold answers of 15 other questions: none of them is right.
"""

import json
import random
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from check_accuracy import shown

from harvest.checks import ROW_RULES, CheckPool
from harvest.core.nouns import Question
from harvest.questions.rows import question_of

METHODS = {"SimpleCoT": "SimpleCoT_20251210_131438", "IRCoT": "IRCoT_20251210_124634"}
QWEN = ("qwen3-8b__think-off", "qwen3.5-9b__think-off")
LABELS = tomllib.loads((Path(__file__).parent / "text_labels.toml").read_text())

Row = tuple[str, Question, str]
"""(a name for the answer, its question, its text)"""


def file_of(clone: Path, path: str, commit: str) -> str:
    return subprocess.run(
        ["git", "-C", clone, "show", f"{commit}:{path}"], capture_output=True, text=True, check=True
    ).stdout


def hotpotqa(clone: Path, method: str) -> Iterator[Row]:
    text = file_of(clone, f"outputs/{METHODS[method]}/detailed_per_question.md", "f3dea66")
    for part in re.split(r"\n## Question \d+: ", text)[1:]:
        found = [re.search(rule, part) for rule in (r"\*\*Question\*\*: (.*)", r"- \*\*Gold Answer\*\*: (.*)")]
        chain = re.search(r"### Reasoning Chain\n```\n(.*?)\n```", part, re.DOTALL)
        question, gold = (one[1].strip() for one in found if one)
        row = {"id": part.partition("\n")[0].strip(), "question": question, "answer": gold}
        yield row["id"], question_of(row, ROW_RULES), chain[1] if chain else ""


def qwen(clone: Path) -> Iterator[Row]:
    items = {item["id"]: item for item in json.loads(file_of(clone, "data/items.json", "31b2461"))}
    for name in QWEN:
        for line in file_of(clone, f"data/raw/{name}.jsonl", "31b2461").splitlines():
            answer = json.loads(line)
            item = items[answer["item_id"]]
            if item["grader"] == "text" and answer["done_reason"] == "stop":
                row = {"id": item["id"], "question": item["prompt"], "answer": str(item["answer"])}
                yield f"{answer['model']} {item['id']}", question_of(row, ROW_RULES), answer["content"]


def measured(title: str, rows: list[Row], wrong: set[str], pool: CheckPool) -> None:
    counts: Counter[tuple[bool, bool]] = Counter()
    for name, question, answer in rows:
        passed = pool.check_now(question, answer).passed
        counts[name not in wrong, passed] += 1
        if (name not in wrong) != passed and "-v" in sys.argv:
            print(f"  {'missed' if not passed else 'FALSE'}: {name}: {question.answer}", file=sys.stderr)
    right, accepted = counts[True, True] + counts[True, False], counts[True, True] + counts[False, True]
    recall, precision = shown(counts[True, True], right), shown(counts[True, True], accepted)
    print(f"| {title} | {right} | {len(rows) - right} | {recall} | {precision} |")


def main() -> None:
    folder = Path(sys.argv[1])
    print("| answers | right | wrong | recall, % | precision, % |\n| --- | ---: | ---: | ---: | ---: |")
    every: list[Row] = []
    with CheckPool() as pool:
        of = {method: list(hotpotqa(folder / "hotpotqa", method)) for method in METHODS}
        ids = sorted(name for name, _, _ in of["SimpleCoT"])
        random.Random(7).shuffle(ids)
        for half, members in (("first", {*ids[:100]}), ("second", {*ids[100:]})):
            kept, wrong = list[Row](), set[str]()
            for method, rows in of.items():
                labels = LABELS["hotpotqa"][half][method]
                wrong |= {f"{method} {name}" for name in labels["wrong"]}
                for name, question, answer in rows:
                    if (
                        name in members
                        and name not in labels["unclear"]
                        and question.check == "text"
                        and answer.strip()
                    ):
                        kept.append((f"{method} {name}", question, answer))
            measured(f"HotpotQA, {half} half", kept, wrong, pool)
            every += kept
        kept = [row for row in qwen(folder / "thinking-traces") if row[1].check == "text"]
        measured("Qwen3 without thinking", kept, set(LABELS["thinking-traces"]["wrong"]), pool)
        named = [row for row in every if (row[1].answer or "").lower() not in ("yes", "no")]
        chance, tried, passed = random.Random(3), 0, 0
        for _, question, answer in named:
            for _, other, _ in chance.sample(named, 15):
                if (other.answer or "").lower() != (question.answer or "").lower():
                    tried += 1
                    passed += pool.check_now(question.model_copy(update={"answer": other.answer}), answer).passed
    print(f"\nWith the gold answer of another question: {passed} of {tried:,} called right.")


if __name__ == "__main__":
    main()
