"""Labelled answers for the checks: our own (check_cases.toml), and those derived from public data on this machine.

No data of others is committed. GSM8K, MATH, BIG-Bench Hard and the traces are read from WINNOW_SHARED (default
../shared) and rewritten by rules that keep, or break, the result that they state.
"""

import itertools
import json
import os
import re
import tomllib
import unicodedata
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


def rows(path: str) -> list[dict[str, str]]:
    text = (SHARED / "data" / path).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


# ---- golds written another way, and golds made wrong


def kind_of(gold: str) -> str:
    """The answer type that a gold answer has by its looks: for the table alone."""
    if "\\begin" in gold:
        return "matrix"
    if re.search(r"\\cup|\\infty|^\[|\]$|[(\[].*,.*\]$|[<>]|\\[lg]e", gold):
        return "interval"
    if re.match(r"(\\left)?\(.*,.*\)$", gold):
        return "tuple"
    if "\\pm" in gold or re.search(r",(?!\d{3}(?!\d))", gold) or gold.startswith("\\{"):
        return "set"
    if "\\text" in gold and not re.search(r"\d", gold):
        return "words"
    if "%" in gold:
        return "percent"
    if "\\$" in gold:
        return "money"
    if "\\circ" in gold or "\\text" in gold or "\\mbox" in gold:
        return "units"
    if re.search(r"\w_\{?\d", gold):
        return "base"
    if re.fullmatch(r"-?[\d,!\\ ]+", gold):
        return "separators" if "," in gold else "integer"
    if re.fullmatch(r"-?\d*\.\d+", gold):
        return "decimal"
    if re.fullmatch(r"-?\\[dt]?frac\{?\d+\}?\{?\d+\}?|-?\d+/\d+", gold):
        return "fraction"
    if re.fullmatch(r"-?\d+\s*\\[dt]?frac\{?\d+\}?\{?\d+\}?", gold):
        return "mixed"
    return "equation" if "=" in gold else "expression"


def _items(gold: str) -> tuple[str, list[str], str] | None:
    """Left bracket, parts and right bracket of a flat list, tuple or interval."""
    bare = re.sub(r"\\(?:left|right)(?![a-z])", "", gold).strip()
    match = re.fullmatch(r"(\\\{|[(\[])?([^()\[\]]*,[^()\[\]]*?)(\\\}|[)\]])?", bare)
    if match is None or bool(match[1]) != bool(match[3]) or re.search(r"\d,\d{3}|,\\!|\\text|=", bare):
        return None
    depth = [match[2][:at].count("{") - match[2][:at].count("}") for at in range(len(match[2])) if match[2][at] == ","]
    return None if any(depth) else (match[1] or "", [part.strip() for part in match[2].split(",")], match[3] or "")


def rewritten(gold: str) -> Iterator[str]:
    """The same answer as others would write it."""
    yield gold
    yield gold + "."
    yield f"\\text{{}} {gold}"
    if "\\frac" in gold:
        yield gold.replace("\\frac", "\\dfrac")
        yield re.sub(r"(?<!\d)\\frac\{(\d+)\}\{(\d+)\}(?!\s*\S)", r"\1/\2", gold)
    simple = re.fullmatch(r"(-?)\\frac\{(\d+)\}\{(\d+)\}", gold)
    if simple:
        top, bottom = int(simple[2]), int(simple[3])
        yield f"{simple[1]}\\frac{{{top * 3}}}{{{bottom * 3}}}"
        if not 10**6 % bottom:
            yield f"{simple[1]}{top / bottom:.6f}".rstrip("0")
        if top > bottom:
            yield f"{simple[1]}{top // bottom}\\frac{{{top % bottom}}}{{{bottom}}}"
    yield gold.replace("\\left", "").replace("\\right", "")
    if "\\left" not in gold and re.match(r"[(\[]", gold) and re.search(r"[)\]]$", gold):
        yield f"\\left{gold[:-1]}\\right{gold[-1]}"
    yield re.sub(r"(?<=[,+=])\s*|\s*(?=[+=])", " ", gold) if "\\text" not in gold else gold
    if re.fullmatch(r"-?\d{4,}", gold):
        yield f"{int(gold):,}"
        yield f"{int(gold):,}".replace(",", "{,}")
    if re.fullmatch(r"-?\d+", gold):
        yield f"{gold} \\text{{ units}}"
        yield f"{gold}.0"
        yield f"n = {gold}"
    if "pmatrix" in gold:
        yield gold.replace("pmatrix", "bmatrix")
    split = _items(gold)
    if split:
        left, parts, right = split
        if (left, right) in (("", ""), ("\\{", "\\}")) and "\\pm" not in gold:
            yield left + ", ".join(reversed(parts)) + right
            yield " \\text{ and } ".join(parts)
            yield "x = " + " \\text{ or } x = ".join(parts)
        yield left + " , ".join(parts) + right
    root = re.fullmatch(r"(\d*)\\sqrt\{(\d+)\}", gold)
    if root:
        yield f"\\sqrt{{{int(root[1] or 1) ** 2 * int(root[2])}}}"
        yield f"{root[1] or 1} \\cdot {root[2]}^{{1/2}}"
    if re.fullmatch(r"(\d*)\s*\\pi", gold):
        yield gold.replace("\\pi", "π")


def broken(gold: str) -> Iterator[str]:
    """Answers near the gold one that are not it."""
    numbers = list(re.finditer(r"\d+", gold))
    for number in (numbers[:1] + numbers[-1:]) if numbers else []:
        yield gold[: number.start()] + str(int(number[0]) + 1) + gold[number.end() :]
    if re.fullmatch(r"-?\d+", gold) and int(gold):
        yield str(-int(gold))
        yield gold + "0"
        yield f"\\frac{{1}}{{{gold}}}" if abs(int(gold)) > 1 else f"{gold}.5"
    elif not re.search(r"\\pm|[,=<>]|\\text|\\cup|\\in|begin|^0", gold):
        yield gold[1:].strip() if gold.startswith("-") and not re.search(r"[+-]", gold[1:]) else f"-({gold})"
        yield f"2 \\cdot ({gold})"
    split = _items(gold)
    if split:
        left, parts, right = split
        yield left + ", ".join(parts[:-1]) + right if len(parts) > 2 or not left else parts[0]
        yield left + ", ".join([*parts, "0" if "0" not in parts else "1"]) + right
        if left in ("(", "[") and len(parts) == 2:
            other = {"(": "[", "[": "("}[left]
            yield other + ", ".join(parts) + right
            if parts[0] != parts[1]:
                yield left + ", ".join(reversed(parts)) + right


def from_math(most: int) -> Iterator[Case]:
    """MATH: golds against each other's rewritings. `most`: how many rows of plain numbers are taken."""
    five_hundred = [(row["problem"], row["answer"], row["solution"]) for row in rows("math/math500.jsonl")]
    for question, gold, solution in five_hundred:
        yield Case(kind_of(gold), question, gold, solution, True, source="MATH-500 solutions")
    train = [(row["problem"], row["answer"]) for row in rows("math/train.jsonl") if row["answer"]]
    plain = [row for row in train if re.fullmatch(r"-?\d+", row[1])][:most]
    formulas = [row for row in train if not re.fullmatch(r"-?\d+", row[1])][: most * 2]
    number = itertools.count()
    for question, gold in [*plain, *formulas]:
        forms = [(value, True) for value in dict.fromkeys(rewritten(gold)) if value == gold or value not in question]
        forms += [(value, False) for value in dict.fromkeys(broken(gold)) if value != gold]
        for value, right in forms:
            turn = next(number)
            frames = (BOXED, STATED)[turn % 5 == 0]
            answer = frames[turn // 5 % len(frames)].replace("@", value)
            yield Case(kind_of(gold), question, gold, answer, right, source="MATH rewritten")
        yield Case(kind_of(gold), question, gold, f"So it is $\\boxed{{{gold}$.", False, source="MATH rewritten")
    for (question, gold), (_, other) in itertools.pairwise(formulas):
        if re.sub(r"\W", "", gold) != re.sub(r"\W", "", other):
            yield Case(kind_of(gold), question, gold, f"\\boxed{{{other}}}", False, source="MATH, another's answer")


def from_gsm8k(most: int) -> Iterator[Case]:
    """GSM8K: its own chains under their gold, and under golds that are off by one digit."""
    for turn, row in enumerate(rows("gsm8k/test.jsonl")[:most]):
        gold = row["answer"].partition("####")[2].strip().replace(",", "")
        chain = re.sub(r"<<[^>]*>>", "", row["answer"])
        wrong = str(int(gold) + (1, -1, 10, 100)[turn % 4])
        yield Case("integer", row["question"], gold, chain, True, source="GSM8K")
        yield Case("integer", row["question"], wrong, chain, False, source="GSM8K")


def _bare(text: str) -> str:
    """A text without case and accents."""
    return unicodedata.normalize("NFKD", text.replace("ł", "l")).encode("ascii", "ignore").decode().casefold()


def from_traces() -> Iterator[Case]:
    """Answers of Qwen3 to questions that ask for a last line "Answer: …": right where that line is the gold one. An
    answer that holds the gold one among other words ("Korean won") is left out: no rule can say whether it is right."""
    for row in rows("traces/qwen3.jsonl"):
        lines = re.findall(r"^\W*Answer:[* ]*(.+?)[\s*.]*$", row["answer"], re.MULTILINE)
        if row["finish_reason"] != "stop" or row["grader"] not in ("numeric", "text") or len(lines) != 1:
            continue
        said = re.sub(r"^\$|\s*litres$|,", "", lines[0]) if row["grader"] == "numeric" else lines[0]
        right = said.casefold() == row["gold"].casefold()
        holds_gold = any(_bare(other) in _bare(said) for other in (row["gold"], *row["accept"]))
        if right or not (holds_gold if row["grader"] == "text" else said in row["accept"]):
            kind, check = ("integer", "math") if row["grader"] == "numeric" else ("text", "text")
            yield Case(kind, row["question"], row["gold"], row["answer"], right, check, source="traces")


CHOICE = (
    "The answer is (@).", "**@**", "Answer: @", "\\boxed{@}", "\\boxed{\\text{(@)}}", "@) #", "(@) #", "**(@) #**",
    "The correct answer is **@. #**", "Therefore, the answer is (@) #.", "I'd go with @.", "#", "The answer is #.",
    "Let us see.\n\n**Answer: @) #**", "So the correct option is @.", "<answer>@</answer>", "The answer is option @.",
)  # fmt: skip
TRUTH = ("@", "The answer is @.", "**Answer:** @", "\\boxed{\\text{@}}", "So the answer is **@**.", "@, clearly.")


def from_bbh(each: int) -> Iterator[Case]:
    """BIG-Bench Hard: every option's letter and words in the forms that models write; yes and no, true and false."""
    number = itertools.count()
    for file in sorted((SHARED / "data" / "bbh").glob("*.json")):
        table = json.loads(file.read_text(encoding="utf-8"))
        for row in (table["examples"] if isinstance(table, dict) else table)[:each]:
            question, gold = row["input"], row["target"]
            options = dict(re.findall(r"^\(([A-Z])\)\s*(.+?)\s*$", question, re.MULTILINE))
            if re.fullmatch(r"\([A-Z]\)", gold) and len(set(options.values())) == len(options) > 1:
                for letter, words in options.items():
                    frame = CHOICE[next(number) % len(CHOICE)]
                    answer = frame.replace("@", letter).replace("#", words)
                    yield Case("choice", question, gold, answer, gold == f"({letter})", "choice", source="BBH")
                frame = CHOICE[next(number) % len(CHOICE)]
                answer = frame.replace("@", gold[1]).replace("#", options[gold[1]])
                yield Case("choice", question, gold, answer, True, "choice", source="BBH")
            elif gold in ("Yes", "No", "yes", "no", "True", "False"):
                other = {"Yes": "No", "No": "Yes", "yes": "no", "no": "yes", "True": "False", "False": "True"}[gold]
                for said, right in ((gold, True), (other, False)):
                    answer = TRUTH[next(number) % len(TRUTH)].replace("@", said)
                    yield Case("yes_no", question, gold, answer, right, "text", source="BBH")


def derived(most: int = 600) -> Iterator[Case]:
    """All that can be derived from the public data at hand; nothing where there is none."""
    if not (SHARED / "data").is_dir():
        return
    yield from from_math(most)
    yield from from_gsm8k(most)
    yield from from_traces()
    yield from from_bbh(max(1, most // 20))
