"""Labelled answers for the checks: our own (check_cases.toml) and those derived from public data at hand.

Nothing of others is committed: GSM8K, MATH, BIG-Bench Hard and the traces are read from WINNOW_SHARED (default
../shared) and rewritten by rules that keep, or break, what they state.
"""

import itertools
import json
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("WINNOW_SHARED", HERE.parents[1] / "shared"))

BOXED = (
    "Adding up, the result is \\boxed{@}.",
    "**Final Answer**\n\n\\[\n\\boxed{@}\n\\]",
    "Therefore, the final answer is $\\boxed{@}$.",
    "So we are done.\n\n$$\\boxed{@}$$",
)
STATED = ("The final answer is $@$.", "**Answer:** $@$", "So the answer is:\n\n\\[\n@\n\\]", "Final Answer: \\(@\\)")


@dataclass(frozen=True, slots=True)
class Case:
    """One answer and whether it is right. `check` is the check to ask; `source` says where the case is from."""

    type: str
    question: str
    gold: str
    answer: str
    right: bool
    check: str = "math"
    choices: tuple[str, ...] | None = None
    source: str = "written"


def written() -> Iterator[Case]:
    """Our own cases: each value in one boxed frame and one without a box, and whole answers as they stand."""
    table = tomllib.loads((HERE / "check_cases.toml").read_text(encoding="utf-8"))
    number = itertools.count()
    for entry in table["case"]:
        kind = entry["type"]
        question = entry.get("question", "?").replace("⏎", "\n")
        check = entry.get("check", "choice" if kind == "choice" else "math")
        for key, right in (("right", True), ("wrong", False)):
            answers = [answer.replace("⏎", "\n") for answer in entry.get(f"{key}_answers", ())]
            for value in entry.get(key, ()):
                turn = next(number)
                answers += [frames[turn % len(frames)].replace("@", value) for frames in (BOXED, STATED)]
            for answer in answers:
                choices = tuple(entry["choices"]) if "choices" in entry else None
                yield Case(kind, question, entry["gold"], answer, right, check, choices)


def rows(path: str) -> list[dict[str, object]]:
    text = (SHARED / "data" / path).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]
