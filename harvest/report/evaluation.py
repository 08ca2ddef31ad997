"""What the answers of evaluations come to: accuracy, pass@k, majority, how answers ended, gains, warnings. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from harvest.core.intervals import accuracy_interval, paired_gain, pass_at_k
from harvest.core.money import pusd, usd
from harvest.core.printable import one_line, printable
from harvest.endpoint import REPETITION

Answers = Sequence[Mapping[str, Any]]
"""question_id, sample, outcome, finish_reason, output_tokens, cost_pusd of each."""
Evaluation = Mapping[str, Any]
"""key, settings and answers, as the store has them."""

OUTCOMES = ("right", "wrong", "no_answer", "unfinished", "looping", "timeout", "error")
"""How an answer can have ended: each is counted once."""
ASKED_ALIKE = ("questions_sha256", "prompt_sha256", "max_tokens", "temperature", "top_p", "top_k", "min_p")
MANY_UNFINISHED = 0.05
MANY_UNREAD = 0.05
MANY_POINTS = 5.0
"""Fewer than before, that are worth a word though they may be chance."""
ENGINE = ("engine", "precision", "device", "attention")
"""Parts of `engine` that before and after are to have alike."""
MUCH_LONGER = 2.0
"""Times the teacher's tokens. Tokenizers differ, by less than this."""


def evaluation_entry(settings: Mapping[str, Any], answers: Answers) -> dict[str, Any]:
    """One entry of `evaluation`, with 95% intervals by question. What was not measured is None.

    `unfinished` is the share of answers without an end, of which `looping` repeat themselves; neither is judged.
    `majority` needs the texts: it is what `settings` has of it, the share of right for each question.
    """
    tokens = [a["output_tokens"] for a in answers if a["output_tokens"] is not None]
    accuracy, low, high = accuracy_interval(list(by_question(answers).values()), len(answers))
    costs = [a["cost_pusd"] for a in answers]
    ends = Counter(map(ended, answers))
    majority = settings.get("majority") or {}
    share, share_low, share_high = accuracy_interval(list(majority.values()))
    named = ("model", "label", "questions", "samples", "majority")

    def part(*kinds: str) -> float | None:
        return _rounded(sum(ends[k] for k in kinds) / len(answers)) if answers else None

    return {
        "model": settings["model"],
        "label": settings.get("label"),
        "questions": settings["questions"],
        "n": len({a["question_id"] for a in answers}),
        "samples": settings["samples"],
        "answers": len(answers),
        "accuracy": _rounded(accuracy),
        "low": _rounded(low),
        "high": _rounded(high),
        "interval": "Wilson" if settings["samples"] == 1 else "Wilson, questions as clusters",
        "pass_at_k": _pass_at(answers),
        "majority": {"accuracy": _rounded(share), "low": _rounded(share_low), "high": _rounded(share_high)}
        if majority
        else None,
        "outcomes": {kind: ends[kind] for kind in OUTCOMES},
        "mean_output_tokens": _rounded(sum(tokens) / len(tokens), 2) if tokens else None,
        "unfinished": part("unfinished", "looping"),
        "looping": part("looping"),
        "no_answer": part("no_answer"),
        "cost_usd": _cost(costs, settings.get("answered_by") or {}),
        "settings": {k: v for k, v in settings.items() if k not in named},
    }


def _cost(costs: Sequence[int | None], answered_by: Mapping[str, Any]) -> str | None:
    """What the answers cost, and what was billed beside them for tries that brought none."""
    known = [c for c in costs if c is not None]
    if not known or len(known) < len(costs):
        return None
    return usd(max(sum(known), pusd(Decimal(answered_by.get("spent_usd", "0")))))


def ended(answer: Mapping[str, Any]) -> str:
    """One of OUTCOMES."""
    if answer["finish_reason"] == REPETITION:
        return "looping"
    return "unfinished" if answer["finish_reason"] == "length" else str(answer["outcome"])


def _pass_at(answers: Answers) -> dict[str, float]:
    """pass@k for k = 1, 2, 4, … and the samples themselves, as far as every question has so many."""
    counts: dict[str, list[bool]] = {}
    for a in answers:
        counts.setdefault(a["question_id"], []).append(a["outcome"] == "right")
    n = min(map(len, counts.values()), default=0)
    ks = sorted({*(2**i for i in range(n.bit_length())), n}) if n > 1 else []
    return {str(k): round(sum(pass_at_k(len(r), sum(r), k) for r in counts.values()) / len(counts), 4) for k in ks}


def by_question(answers: Answers) -> dict[str, float]:
    """Share of right samples for each question."""
    found: dict[str, list[bool]] = {}
    for a in answers:
        found.setdefault(a["question_id"], []).append(a["outcome"] == "right")
    return {q: sum(right) / len(right) for q, right in found.items()}


def compared(before: Answers, after: Answers) -> dict[str, Any] | None:
    """How many points more of the same questions are right after, paired by question; None where none is the same."""
    one, other = by_question(before), by_question(after)
    points, low, high = paired_gain(one, other)
    if points is None:
        return None
    both = one.keys() & other.keys()
    return {
        "points": _rounded(points, 2),
        "low": _rounded(low, 2),
        "high": _rounded(high, 2),
        "paired": True,
        "n": len(both),
        "gained": sum(other[q] > one[q] for q in both),
        "lost": sum(other[q] < one[q] for q in both),
    }


# ---- evaluations of a run beside each other


def gains(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Before against after, question by question, wherever both were asked the same in the same way."""
    return [
        found | {"questions": after["settings"]["questions"], "model": after["settings"]["model"], "key": after["key"]}
        for before, after in _befores(evaluations)
        if (found := compared(before["answers"], after["answers"])) is not None
    ]


def against_teacher(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Each "after" against an evaluation labelled "teacher" of the same questions, each asked its own way.

    `points` are the student's minus the teacher's.
    """
    found = []
    for teacher, after in _teachers(evaluations):
        if (points := compared(teacher["answers"], after["answers"])) is None:
            continue
        one, other = (evaluation_entry(e["settings"], e["answers"]) for e in (teacher, after))
        named = {
            "questions": after["settings"]["questions"],
            "model": after["settings"]["model"],
            "key": after["key"],
            "teacher": teacher["settings"]["model"],
            "teacher_accuracy": one["accuracy"],
            "accuracy": other["accuracy"],
            "teacher_mean_output_tokens": one["mean_output_tokens"],
            "mean_output_tokens": other["mean_output_tokens"],
        }
        found.append(points | named)
    return found


def newest(found: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The one for `gain` and `against_teacher`: of the questions that were measured first, the latest student."""
    return next((f for f in reversed(found) if f["questions"] == found[0]["questions"]), None)


def _befores(evaluations: Sequence[Evaluation]) -> Iterator[tuple[Evaluation, Evaluation]]:
    """Each "after" and the latest that was asked alike of what it began with. That is known by its weights where both
    checksums are there, else by its label: two students of one run may have begun with two."""
    for after in evaluations:
        if not after["answers"] or after["settings"].get("label") != "after":
            continue
        began_with = after["settings"].get("began_with")
        for e in reversed(evaluations):
            if e is after or not e["answers"] or _asked(e, ASKED_ALIKE) != _asked(after, ASKED_ALIKE):
                continue
            weights = e["settings"].get("engine", {}).get("weights")
            is_known = began_with is not None and weights is not None
            if weights == began_with if is_known else e["settings"].get("label") == "before":
                yield e, after
                break


def _teachers(evaluations: Sequence[Evaluation]) -> Iterator[tuple[Evaluation, Evaluation]]:
    same = ("questions_sha256",)
    teachers = _by(evaluations, "teacher", same)
    for e in evaluations:
        if e["answers"] and e["settings"].get("label") == "after" and (teacher := teachers.get(_asked(e, same))):
            yield teacher, e


def _by(evaluations: Sequence[Evaluation], label: str, alike: Sequence[str]) -> dict[tuple[Any, ...], Evaluation]:
    return {_asked(e, alike): e for e in evaluations if e["answers"] and e["settings"].get("label") == label}


def _asked(e: Evaluation, alike: Sequence[str]) -> tuple[Any, ...]:
    return tuple(e["settings"].get(k) for k in alike)


# ---- what a user must hear


def warnings(evaluations: Sequence[Evaluation], teacher_tokens: float | None) -> list[tuple[str, str]]:
    """(key of the evaluation, what is wrong with it), of the latest of each kind.

    `teacher_tokens` is the length of what the student was trained on, for where no teacher was evaluated. What a
    student did before training is no fault of the training, and is left out.
    """
    latest = {_asked(e, ("model", "label", *ASKED_ALIKE)): e for e in evaluations if e["answers"]}.values()
    before = {after["key"]: before for before, after in _befores(evaluations)}
    teachers = {after["key"]: teacher for teacher, after in _teachers(evaluations)}
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
        loops = f", {_percent(entry['looping'])} of all in a loop" if entry["looping"] else ""
        yield (
            f"{_percent(entry['unfinished'])} of the answers have no end{loops}: either --max-tokens"
            f" {settings.get('max_tokens')} is too low for it, or it does not stop"
        )
    if entry["no_answer"] > MANY_UNREAD:
        yield f"{_percent(entry['no_answer'])} of the answers ended without an answer in the form that was asked for"


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
    """What answered, but for the student in it."""
    return {k: v for k, v in e["settings"].get("engine", {}).items() if k in ENGINE}


def _of_length(entry: Mapping[str, Any], teacher: Evaluation | None, trained_on: float | None) -> Iterator[str]:
    of, what = trained_on, "the traces of the run"
    if teacher is not None:
        of, what = evaluation_entry(teacher["settings"], teacher["answers"])["mean_output_tokens"], "the teacher's here"
    tokens = entry["mean_output_tokens"]
    if of and tokens and tokens > MUCH_LONGER * of:
        yield f"its answers have {tokens:.0f} tokens, {tokens / of:.1f} times those of {what} ({of:.0f})"


# ---- in words


def markdown_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The evaluations of report.md."""
    if report["evaluation"]:
        yield ""
        yield "| evaluation | questions | n | accuracy | 95% | samples | tokens an answer | unfinished | no answer |"
        yield "| --- | --- | ---: | ---: | --- | --- | ---: | ---: | ---: |"
    for e in report["evaluation"]:
        who = plain(f"{e['label']}: {e['model']}" if e["label"] else e["model"])
        if e["accuracy"] is None:
            yield f"| {who} | {plain(e['questions'])} | 0 | – | – | – | – | – | – |"
            continue
        loops = f" ({_percent(e['looping'])} looping)" if e["looping"] else ""
        yield (
            f"| {who} | {plain(e['questions'])} | {e['n']} | {_percent(e['accuracy'])}"
            f" | {_percent(e['low'])[:-1]}–{_percent(e['high'])} | {several(e) or 1} | {e['mean_output_tokens']}"
            f" | {_percent(e['unfinished'])}{loops} | {_percent(e['no_answer'])} |"
        )
    for g in report["gains"]:
        alike = sum(g["questions"] == other["questions"] for other in report["gains"])
        whose = f" of {plain(g['model'])}" if alike > 1 else ""
        yield ""
        yield f"**Gain{whose} on {plain(g['questions'])}: {g['points']:+.1f} points** ({_interval(g)})."
    for g in report["against_teachers"]:
        yield ""
        yield (
            f"{plain(g['model'])} against its teacher {plain(g['teacher'])} on {plain(g['questions'])}:"
            f" {_percent(g['accuracy'])} to {_percent(g['teacher_accuracy'])}, {g['points']:+.1f} points"
            f" ({_interval(g)})."
        )


def several(entry: Mapping[str, Any]) -> str:
    """What more than one sample a question shows: "4: pass@4 71.0%, majority 62.0%"."""
    if entry["samples"] == 1:
        return ""
    parts = [f"pass@{k} {_percent(share)}" for k, share in list(entry["pass_at_k"].items())[1:]]
    if entry["majority"]:
        parts.append(f"majority {_percent(entry['majority']['accuracy'])}")
    return f"{entry['samples']}: {', '.join(parts)}" if parts else str(entry["samples"])


def _interval(g: Mapping[str, Any]) -> str:
    return f"95%: {g['low']:+.1f} to {g['high']:+.1f}, paired by question"


def _percent(share: float) -> str:
    return f"{round(100 * share, 6):.1f}%"  # 0.2875 is 28.8%, as it is while asking


def plain(text: str) -> str:
    """Text that came from outside, without what Markdown or HTML would make of it."""
    return "".join(_ESCAPED.get(c, c) for c in printable(text))


_ESCAPED = {c: f"\\{c}" for c in "\\`*_[]#|"} | {"<": "&lt;", ">": "&gt;"}


def _rounded(value: float | None, places: int = 4) -> float | None:
    return None if value is None else round(value, places)
