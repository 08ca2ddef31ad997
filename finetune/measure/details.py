"""Writes an evaluation as text or as a file with every answer (--details), and compares two such files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.measure.evaluate import Measured
from harvest.core.errors import InputError
from harvest.core.files import write_whole
from harvest.core.money import usd
from harvest.core.nouns import Question
from harvest.endpoint import Prompt
from harvest.report.evaluations import compared, ended, several
from harvest.report.sentences import after_gain


def check_details(path: Path) -> None:
    """Raises InputError when the file cannot be written. It is called before any question is asked."""
    if not path.parent.is_dir():
        raise InputError(f"--details {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise InputError(f"--details {path}: is a folder; name a file")


def write_details(path: Path, measured: Measured, questions: Sequence[Question], prompt: Prompt) -> None:
    """Writes one JSON object for each answer, in the order of the questions. The file appears whole or not at all.

    `prompt` is the prompt under which the questions were asked. It is needed because each object also has the whole
    conversation (`messages`), so that `finetune prefer` can make pairs of the file.
    """
    asked = {q.id: (place, q) for place, q in enumerate(questions)}
    rows = sorted(measured.answers, key=lambda r: (asked[r["question_id"]][0], r["sample"]))
    lines = []
    for r in rows:
        question, cost = asked[r["question_id"]][1], r["cost_pusd"]
        row = {
            "question_id": r["question_id"],
            "sample": r["sample"],
            "outcome": ended(r),
            "finish_reason": r["finish_reason"],
            "output_tokens": r["output_tokens"],
            "cost_usd": None if cost is None else usd(cost),
            "question": question.question,
            "gold": question.answer,
            "text": r["text"],
            "model": measured.settings["model"],
            "messages": [*prompt.student_messages(question), {"role": "assistant", "content": r["text"]}],
        }
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    try:
        write_whole(path, "".join(lines))
    except OSError as e:
        raise InputError(f"--details {path}: cannot be written: {e.strerror}; the same command writes it") from None


def read_details(path: Path) -> list[dict[str, Any]]:
    """Returns the answers of a file that `write_details` wrote.

    Raises InputError when the file cannot be read, has no answer, or has a line that is no answer (the error names the
    line).
    """
    try:
        lines = path.read_text("utf-8").split("\n")  # splitlines would break a row at a line separator in its text
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: cannot be read: {e}") from None
    rows = []
    for n, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            row["question_id"], row["sample"], row["outcome"], row["finish_reason"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path}: line {n} is no answer as --details writes them") from None
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: not one answer in it")
    return rows


def compare(a: Path, b: Path) -> dict[str, Any]:
    """Compares the answers in file `b` with the answers in file `a`, paired by question.

    Raises InputError when the files have no question in common.
    """
    one, other = read_details(a), read_details(b)
    found = compared(one, other)
    if found is None:
        raise InputError(f"{a} and {b}: not one question_id stands in both")
    was, now = ({r["question_id"]: r.get("question") for r in rows} for rows in (one, other))
    both = was.keys() & now.keys()
    asked_otherwise = sum(was[q] != now[q] for q in both)
    only_in_one = len(was.keys() ^ now.keys())
    return found | {"a": str(a), "b": str(b), "only_in_one": only_in_one, "asked_otherwise": asked_otherwise}


def compared_in_words(found: Mapping[str, Any]) -> str:
    lines = [
        f"{found['b']} against {found['a']}: {found['points']:+.1f} points (95%: {found['low']:+.1f} to"
        f" {found['high']:+.1f}) on {found['n']} questions, paired",
        f"  better on {found['gained']}, worse on {found['lost']}, the same on"
        f" {found['n'] - found['gained'] - found['lost']}",
    ]
    if found["only_in_one"]:
        lines.append(f"  left out: {found['only_in_one']} questions that only one of them has")
    if found["asked_otherwise"]:
        lines.append(f"  warning: {found['asked_otherwise']} questions have the same id and another text")
    return "\n".join(lines)


def in_words(
    found: Mapping[str, Any], gain: Mapping[str, Any] | None = None, against: Mapping[str, Any] | None = None
) -> str:
    """Returns the report's entry as text.

    The text has the gain over "before" and the distance to the teacher, if they are known.
    """
    if found["accuracy"] is None:
        return f"{found['model']} on {found['questions']}: no answers"
    share, low, high = (f"{round(100 * found[k], 6):.1f}%" for k in ("accuracy", "low", "high"))
    samples = f", {found['samples']} samples each" if found["samples"] > 1 else ""
    lines = [
        f"{found['model']} on {found['n']} questions ({found['questions']}{samples}): {share} right, "
        f"95% interval {low} to {high}"
    ]

    def line(name: str, text: str) -> None:
        lines.append(f"  {name:<12} {text}")

    if more := several(found).partition(": ")[2]:
        line("samples", more)
    counts = {k.replace("_", " "): n for k, n in found["outcomes"].items() if n}
    line("answers", " · ".join(f"{n} {k}" for k, n in counts.items()))
    tokens = "unknown" if found["mean_output_tokens"] is None else f"{found['mean_output_tokens']:.0f} an answer"
    line("tokens", f"{tokens}, {100 * found['unfinished']:.1f}% unfinished")
    if found["cost_usd"] is not None:
        line("cost", f"${found['cost_usd']}")
    for name, points in (("gain", gain), ("to teacher", against)):
        if points is not None:
            to = f"; teacher {100 * points['teacher_accuracy']:.1f}%" if "teacher_accuracy" in points else ""
            line(
                name,
                f"{points['points']:+.1f} points (95%: {points['low']:+.1f} to {points['high']:+.1f}, paired on"
                f" {points['n']} questions{to}){after_gain(points).replace(' ', '. ', 1) if name == 'gain' else ''}",
            )
    return "\n".join(lines)
