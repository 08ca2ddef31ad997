"""Warns about evaluations: answers in loops, answers without an end, a loss, answers that are much too long. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harvest.core.printable import one_line
from harvest.report.evaluations import (
    ASKED_ALIKE,
    Evaluation,
    asked_as,
    befores,
    compared,
    evaluation_entry,
    percent,
    teachers_of,
)

MANY_UNFINISHED = 0.05
MANY_UNREAD = 0.05
"""A larger share of unfinished answers (MANY_UNFINISHED) or of answers that could not be read (MANY_UNREAD) gives a
warning."""
MANY_POINTS = 5.0
"""A loss of this many percentage points gives a warning, although it may be chance."""
ENGINE = ("engine", "precision", "device", "attention")
"""These parts of the setting `engine` must be the same in the evaluations before and after training."""
MUCH_LONGER = 2.0
"""If answers have more than this many times the teacher's tokens, there is a warning. Tokenizers differ by less than
this."""


def warnings_of(evaluations: Sequence[Evaluation], teacher_tokens: float | None) -> list[tuple[str, str]]:
    """Returns pairs (key of the evaluation, warning).

    Only the latest evaluation of each model, label and way of asking can have warnings. The length of its answers is
    compared with the teacher's answers in an evaluation. If no teacher was evaluated, it is compared with
    `teacher_tokens`, the mean length in tokens of the traces that the student was trained on. How a student answered
    before its training gives no warning.
    """
    latest = {asked_as(e, ("model", "label", *ASKED_ALIKE)): e for e in evaluations if e["answers"]}.values()
    before = {after["key"]: before for before, after in befores(evaluations)}
    teachers = {after["key"]: teacher for teacher, after in teachers_of(evaluations)}
    found = []
    for e in latest:
        s = e["settings"]
        who = f"{one_line(s['model'], 80)} on {one_line(s['questions'], 80)}"
        entry = evaluation_entry(s, e["answers"])
        said = list(_of_answers(entry, s))
        if e["key"] in before:
            said += _of_gain(before[e["key"]], e, entry)
        if s.get("label") == "after":
            said += _of_length(entry, teachers.get(e["key"]), teacher_tokens)
        found += [(e["key"], f"{who}: {words}") for words in said]
    return found


def _of_answers(entry: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    if (missing := settings.get("asked", 0) - entry["answers"]) > 0:
        yield f"{missing} of {settings['asked']} answers are missing: the same command asks them again"
    if errors := entry["outcomes"]["error"]:
        yield f"{errors} answers could not be judged, and count as not right"
    if entry["label"] in ("before", "teacher"):
        return
    if entry["unfinished"] > MANY_UNFINISHED:
        loops = f", {percent(entry['looping'])} of all in a loop" if entry["looping"] else ""
        yield (
            f"{percent(entry['unfinished'])} of the answers have no end{loops}: either --max-tokens"
            f" {settings.get('max_tokens')} is too low for it, or it does not stop"
        )
    if entry["no_answer"] > MANY_UNREAD:
        yield f"{percent(entry['no_answer'])} of the answers ended without an answer in the form that was asked for"


def _of_gain(before: Evaluation, after: Evaluation, entry: Mapping[str, Any]) -> Iterator[str]:
    gain = compared(before["answers"], after["answers"])
    if gain is not None and gain["high"] < 0:
        yield f"worse than before, by {-gain['points']:.1f} points ({gain['low']:+.1f} to {gain['high']:+.1f})"
    elif gain is not None and gain["points"] < 0 and entry["unfinished"] > MANY_UNFINISHED:
        yield (
            f"seems worse than before ({gain['points']:+.1f} points, {gain['low']:+.1f} to {gain['high']:+.1f}),"
            " with many answers unfinished"
        )
    elif gain is not None and gain["points"] <= -MANY_POINTS:
        yield (
            f"{-gain['points']:.1f} points fewer than before ({gain['low']:+.1f} to {gain['high']:+.1f}): chance or a"
            f" worse student, which {gain['n']} questions do not tell; more questions or samples would"
        )
    was, now = (e["settings"].get("checks") for e in (before, after))
    if was and now and was != now:
        yield (
            "before and after were judged by other versions of the checks: the same command for"
            f" {one_line(before['settings']['model'], 80)} judges its answers again and asks nothing"
        )
    if _engine(before) != _engine(after):
        yield "before and after were answered by different engines, versions or precisions: part of the gain is theirs"


def _engine(e: Evaluation) -> dict[str, Any]:
    """Returns the parts of an evaluation's `engine` that describe the engine and not the student."""
    return {k: v for k, v in e["settings"].get("engine", {}).items() if k in ENGINE}


def _of_length(entry: Mapping[str, Any], teacher: Evaluation | None, trained_on: float | None) -> Iterator[str]:
    of, what = trained_on, "the traces of the run"
    if teacher is not None:
        of, what = evaluation_entry(teacher["settings"], teacher["answers"])["mean_output_tokens"], "the teacher's here"
    tokens = entry["mean_output_tokens"]
    if of and tokens and tokens > MUCH_LONGER * of:
        yield f"its answers have {tokens:.0f} tokens, {tokens / of:.1f} times those of {what} ({of:.0f})"
