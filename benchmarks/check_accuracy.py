"""Measures how often each check is right on the labelled answers of check_cases.py, beside other checkers:
`python benchmarks/check_accuracy.py [--written] [--most N]`.

Precision is the share of right answers among those that a check accepts. Recall is the share of accepted answers among
the right ones. The bounds are Wilson's, 95%. A checker that is not installed is named and left out. A checker that
raises, or takes over five seconds for an answer, has refused the answer. `mathruler` needs pylatexenc and tqdm. Of
`verl` one file is loaded, which needs nothing else of verl.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import io
import logging
import re
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from check_cases import Case, derived, written

from harvest.checks import CheckPool
from harvest.core.intervals import accuracy_interval
from harvest.core.nouns import Question

MATHS = (
    "integer", "separators", "decimal", "percent", "money", "units", "fraction", "mixed", "base", "ratio", "expression",
    "equation", "set", "tuple", "interval", "matrix", "words", "stated",
)  # fmt: skip
OTHERS = ("choice", "yes_no", "text")
LIMIT_S = 5

Peer = Callable[[str, str], bool]
"""Gold answer and answer to whether it is right."""


def math_verify() -> Peer:
    """As its README uses it: parse both, the gold one between dollars."""
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)

    def right(gold: str, answer: str) -> bool:
        return bool(
            verify(parse(f"${gold}$", parsing_timeout=None), parse(answer, parsing_timeout=None), timeout_seconds=None)
        )

    return right


def mathruler() -> Peer:
    """Its grader, after PRM800K's, on the last box."""
    grader: Any = importlib.import_module("mathruler.grader")
    return lambda gold, answer: bool(grader.grade_answer(grader.extract_boxed_content(answer), gold))


def verl() -> Peer:
    """verl's default reward for MATH, after Hendrycks' is_equiv, on the last box."""
    files = importlib.metadata.files("verl") or []
    file = next(file for file in files if str(file).endswith("reward_score/math_reward.py"))
    spec = importlib.util.spec_from_file_location("math_reward", str(file.locate()))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda gold, answer: module.compute_score(answer, gold) == 1.0


def same_string() -> Peer:
    """The last box, or else the last line, is the gold answer to the letter."""

    def right(gold: str, answer: str) -> bool:
        boxes = re.findall(r"\\boxed\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}", answer)
        lines = answer.strip().split("\n")
        return bool((boxes[-1] if boxes else lines[-1]).strip() == gold.strip())

    return right


PEERS: dict[str, Callable[[], Peer]] = {
    "math-verify": math_verify,
    "mathruler": mathruler,
    "verl": verl,
    "same string": same_string,
}


def limited(peer: Peer, case: Case) -> bool:
    def stop(signum: int, frame: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_S)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return peer(case.gold, case.answer)
    # Whatever another's grader raises on an answer, it has not let it through.
    except Exception:  # noqa: BLE001
        return False
    finally:
        signal.alarm(0)


def winnow(cases: list[Case]) -> Iterator[bool]:
    with CheckPool() as pool:
        for case in cases:
            question = Question(
                id="1", question=case.question, answer=case.gold, check=case.check, choices=case.choices
            )
            yield pool.check_now(question, case.answer).passed


def shown(part: int, whole: int) -> str:
    if not whole:
        return "—"
    _, low, high = (100 * (value or 0) for value in accuracy_interval([1.0] * part + [0.0] * (whole - part)))
    return f"{100 * part / whole:.1f} ({low:.1f}–{high:.1f})"


def table(
    title: str, names: list[str], kinds: list[tuple[str, list[int]]], cell: Callable[[str, list[int]], str]
) -> None:
    print(f"\n{title}, % (95% bounds)\n")
    print("| type | right | wrong |" + "".join(f" {name} |" for name in names))
    print("| --- | ---: | ---: |" + " ---: |" * len(names))
    for kind, places in kinds:
        right = sum(CASES[place].right for place in places)
        cells = "".join(f" {cell(name, places)} |" for name in names)
        print(f"| {kind} | {right} | {len(places) - right} |{cells}")


CASES: list[Case] = []


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--written", action="store_true", help="our own cases alone")
    parser.add_argument("--most", type=int, default=200, help="how many rows of each public set are derived from")
    arguments = parser.parse_args()
    CASES.extend(written() if arguments.written else [*written(), *derived(arguments.most)])
    said: dict[str, list[bool]] = {"winnow": list(winnow(CASES))}
    for name, load in PEERS.items():
        try:
            peer = load()
        except (ImportError, StopIteration, importlib.metadata.PackageNotFoundError):
            print(f"{name} is not installed", file=sys.stderr)
            continue
        began = time.monotonic()
        said[name] = [case.type in MATHS and limited(peer, case) for case in CASES]
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    by_type: dict[str, list[int]] = defaultdict(list)
    for place, case in enumerate(CASES):
        by_type[case.type].append(place)

    def precision(name: str, places: list[int]) -> str:
        passed = [place for place in places if said[name][place]]
        return shown(sum(CASES[place].right for place in passed), len(passed))

    def recall(name: str, places: list[int]) -> str:
        right = [place for place in places if CASES[place].right]
        return shown(sum(said[name][place] for place in right), len(right))

    maths = [(kind, by_type[kind]) for kind in MATHS if kind in by_type]
    maths.append(("**all maths**", [place for _, places in maths for place in places]))
    table("Maths: precision", list(said), maths, precision)
    table("Maths: recall", list(said), maths, recall)
    others = [(kind, by_type[kind]) for kind in OTHERS if kind in by_type]
    table("Others: precision", ["winnow"], others, precision)
    table("Others: recall", ["winnow"], others, recall)


if __name__ == "__main__":
    main()
