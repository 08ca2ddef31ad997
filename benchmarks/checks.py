"""Measures how many answers a second and core the maths check judges: `python benchmarks/checks.py [SHARED]`.

Plain answers are GSM8K's own solutions. Symbolic answers are MATH gold answers that are not plain numbers, each with
its first number n written as (n + 0), so that no comparison of texts helps and a worker has to do algebra; half of
them as (n + 1). There is one worker. CPU seconds of this process and of the worker are added up, so other work on the
machine is not counted.
"""

import json
import re
import resource
import sys
from pathlib import Path

from harvest.answers.quantities import parse_number
from harvest.answers.words import is_words
from harvest.checks import CheckPool
from harvest.core.nouns import Question


def rows(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


FIRST = re.compile(r"(?<![\\\d_.{A-Za-z])(\d+)(?![\d_.])")


def boxed(gold: str, number: str) -> str:
    return f"\\boxed{{{FIRST.sub(number, gold, count=1)}}}"


def cpu_s() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def measure(name: str, pairs: list[tuple[str, str]]) -> None:
    before = cpu_s()
    with CheckPool(workers=1) as pool:
        right = sum(
            pool.check_now(Question(id="1", question="?", answer=gold, check="math"), answer).passed
            for gold, answer in pairs
        )
    spent = cpu_s() - before
    print(json.dumps({"what": name, "judged": len(pairs), "right": right, "a_second": round(len(pairs) / spent)}))


def main(shared: Path) -> None:
    gsm8k = rows(shared / "data/gsm8k/test.jsonl")
    measure("plain", [(row["answer"].partition("####")[2].strip(), row["answer"]) for row in gsm8k])
    golds = [row["answer"] for row in rows(shared / "data/math/train.jsonl")]
    symbolic = [gold for gold in golds if gold and not parse_number(gold) and not is_words(gold)][:1000]
    numbered = [gold for gold in symbolic if FIRST.search(gold)]
    restated = [(gold, boxed(gold, r"{(\1+0)}")) for gold in numbered[::2]]
    others = [(gold, boxed(gold, r"{(\1+1)}")) for gold in numbered[1::2]]
    measure("symbolic", restated + others)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared"))
