"""Plants 20 faults among 100 real traces, for a trial of how many a reader finds.

    python benchmarks/planted_faults.py plant shared/data/traces/qwen3.jsonl FOLDER
    python -m harvest import FOLDER/answers.jsonl --name trial        # then read it: harvest view trial, or jq
    python benchmarks/planted_faults.py score FOLDER ID[:kind] …      # the ids that the reader named

The traces are the shortest finished ones with a chain. A fault is one of three kinds: `wrong step` (a result in the
chain is changed, and made good later in words), `language slip` (a sentence of the chain in another language) and
`leaked answer` (the chain knows the answer before it begins). Which traces have one, where, and in which words is drawn
from a seed of the system's, which is written into FOLDER/key.json with the kinds and nowhere else.
"""

import argparse
import json
import random
import re
import secrets
import sys
from pathlib import Path
from typing import Any

TRACES, FAULTS = 100, 20
KINDS = ("wrong step", "language slip", "leaked answer")
SUM = re.compile(r"(?P<sum>\d+ ?(?:[+*×·-]|times|plus|minus) ?\d+) ?(?:=|is|equals) ?(?P<result>\d+)")
GOOD = (
    "Hold on, {sum} should be {right}, so I take that instead.",
    "Going over it once more, {sum} comes to {right}; the figure above was off.",
    "No, I slipped there: {sum} gives {right}.",
    "Checking: {sum} is {right}. I will use that one.",
)
OTHER_LANGUAGES = (
    "接下来我需要仔细检查每一个条件。",
    "所以这里的结果应该没有问题。",
    "Das muss ich noch einmal nachrechnen, bevor ich weitermache.",
    "Also fange ich am besten mit dem ersten Teil an.",
    "Теперь посмотрим, что получается дальше.",
    "Entonces solo falta revisar la última condición.",
    "Donc il faut encore vérifier la deuxième partie.",
    "それでは次の条件を確認します。",
)
KNOWN = (
    "The answer we need to reach is {gold}.",
    "I know that this comes out at {gold}, so let me see how to get there.",
    "Since the solution key says {gold}, the steps must lead to it.",
    "It is given that the correct answer is {gold}; now to explain it.",
)


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", text)


def planted(row: dict[str, Any], kind: str, draw: random.Random) -> str | None:
    """The chain with a fault of this kind; None if the chain has no place for it."""
    chain = row["reasoning"]
    parts = sentences(chain)
    if kind == "leaked answer":
        at = draw.randrange(0, max(1, len(parts) // 4))
        return " ".join([*parts[:at], draw.choice(KNOWN).format(gold=row["gold"]), *parts[at:]])
    if len(parts) < 5:
        return None
    if kind == "language slip":
        at = draw.randrange(1, len(parts))
        return " ".join([*parts[:at], draw.choice(OTHER_LANGUAGES), *parts[at:]])
    found = [m for m in SUM.finditer(chain) if m.end() < 0.7 * len(chain)]
    if not found:
        return None
    m = draw.choice(found)
    right = int(m["result"])
    wrong = right + draw.choice((-10, -2, -1, 1, 2, 10))
    before = chain[: m.start("result")] + str(wrong)
    rest = sentences(chain[m.end("result") :])
    at = draw.randrange(1, min(4, len(rest))) if len(rest) > 1 else 1
    good = draw.choice(GOOD).format(sum=m["sum"], right=right)
    return before + " ".join([*rest[:at], good, *rest[at:]])


def plant(source: Path, folder: Path) -> None:
    seed = secrets.randbits(64)
    draw = random.Random(seed)
    rows = [json.loads(line) for line in source.read_text("utf-8").splitlines()]
    rows = [r for r in rows if r["finish_reason"] == "stop" and r["reasoning"] and r["gold"]]
    rows = sorted(rows, key=lambda r: len(r["reasoning"]))[:TRACES]
    draw.shuffle(rows)
    key: dict[str, str] = {}
    for n, row in enumerate(rows):
        row["id"] = f"t{n:03}"
    left = draw.sample(rows, len(rows))
    for n in range(FAULTS):  # where no trace is left that has a place for a kind, another kind is planted
        places = ((row, kind, planted(row, kind, draw)) for kind in (KINDS[n % 3], *KINDS[1:]) for row in left)
        row, kind, chain = next(place for place in places if place[-1] is not None)
        row["reasoning"], key[row["id"]] = chain, kind
        left.remove(row)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "answers.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            message = {"role": "assistant", "content": row["answer"], "reasoning_content": row["reasoning"]}
            question = {"id": row["id"], "question": row["question"], "answer": str(row["gold"])}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            response = {"object": "chat.completion", "model": row["model"], "choices": [choice]}
            file.write(json.dumps(question | {"response": response}, ensure_ascii=False) + "\n")
    (folder / "key.json").write_text(json.dumps({"seed": seed, "faults": key}, indent=1), "utf-8")
    print(f"{TRACES} traces with {len(key)} faults: {folder / 'answers.jsonl'}")


def score(folder: Path, named: list[str]) -> None:
    key = json.loads((folder / "key.json").read_text("utf-8"))["faults"]
    ids = {name.partition(":")[0] for name in named}
    for kind in KINDS:
        of_kind = {i for i, found in key.items() if found == kind}
        print(f"{kind}: {len(of_kind & ids)} of {len(of_kind)}")
    print(f"found {len(ids & key.keys())} of {len(key)}; named without a fault planted: {len(ids - key.keys())}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=("plant", "score"))
    parser.add_argument("rest", nargs="+")
    args = parser.parse_args()
    if args.do == "plant":
        plant(Path(args.rest[0]), Path(args.rest[1]))
    else:
        score(Path(args.rest[0]), args.rest[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
