"""Computes the figures of evaluations: accuracy, pass@k, majority, how answers ended, and the gain of a training.
Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from harvest.core.intervals import Interval, accuracy_interval, paired_gain, pass_at_k
from harvest.core.money import pusd, usd
from harvest.endpoint import REPETITION

Answers = Sequence[Mapping[str, Any]]
"""The answers of one evaluation. Each has question_id, sample, outcome, finish_reason, output_tokens and cost_pusd."""
Evaluation = Mapping[str, Any]
"""One evaluation as the store has it, with its key, settings and answers."""

OUTCOMES = ("right", "wrong", "no_answer", "unfinished", "looping", "timeout", "error")
"""An answer ends in exactly one of these ways."""
SAME_QUESTIONS = ("questions_sha256",)
ASKED_ALIKE = (*SAME_QUESTIONS, "prompt_sha256", "max_tokens", "temperature", "top_p", "top_k", "min_p")
"""If two evaluations share these settings, the difference between them comes from the student."""

OF_GAIN = ("accuracy", "tokens_per_right")
"""A gain has these figures of the evaluation after the training, and with "before_" of the one before it."""


def evaluation_entry(settings: Mapping[str, Any], answers: Answers) -> dict[str, Any]:
    """Returns one entry of the report's `evaluation`, with 95% intervals over questions.

    A figure that was not measured is None. `unfinished` is the share of answers without an end. `looping` is the share
    of answers that repeat themselves; they are unfinished too. Neither kind is judged. The figure `majority` needs the
    texts of the answers, so it was computed before and is in `settings`: for each question, how right the majority's
    answer is, from 0 to 1.
    """
    tokens = [a["output_tokens"] for a in answers if a["output_tokens"] is not None]
    costs = [a["cost_pusd"] for a in answers]
    ends = Counter(map(ended, answers))
    majority = settings.get("majority") or {}
    named = ("model", "label", "questions", "samples", "majority")

    def part(*kinds: str) -> float | None:
        return rounded(sum(ends[k] for k in kinds) / len(answers)) if answers else None

    return {
        "model": settings["model"],
        "label": settings.get("label"),
        "questions": settings["questions"],
        "n": len({a["question_id"] for a in answers}),
        "samples": settings["samples"],
        "answers": len(answers),
        **_with_interval("accuracy", accuracy_interval([*by_question(answers).values()], len(answers))),
        "interval": "Wilson" if settings["samples"] == 1 else "Wilson, questions as clusters",
        "pass_at_k": _pass_at(answers),
        "majority": _with_interval("accuracy", accuracy_interval([*majority.values()])) if majority else None,
        "outcomes": {kind: ends[kind] for kind in OUTCOMES},
        "mean_output_tokens": rounded(sum(tokens) / len(tokens), 2) if tokens else None,
        "tokens_per_right": _tokens_per_right(answers),
        "unfinished": part("unfinished", "looping"),
        "looping": part("looping"),
        "no_answer": part("no_answer"),
        "cost_usd": _cost(costs, settings.get("answered_by") or {}),
        "settings": {k: v for k, v in settings.items() if k not in named},
    }


def _tokens_per_right(answers: Answers) -> float | None:
    """Returns how many output tokens all answers took for each right one; None if not known, or if none is right."""
    tokens = [a["output_tokens"] for a in answers]
    right = sum(a["outcome"] == "right" for a in answers)
    return rounded(sum(tokens) / right, 2) if right and None not in tokens else None


def _with_interval(name: str, interval: Interval, places: int = 4) -> dict[str, float | None]:
    """Returns a figure under its name, and the two ends of its interval under `low` and `high`."""
    return {key: rounded(value, places) for key, value in zip((name, "low", "high"), interval, strict=True)}


def _cost(costs: Sequence[int | None], answered_by: Mapping[str, Any]) -> str | None:
    """Returns what the answers cost in USD, including tries that were billed and brought no answer.

    None is returned when the cost of any answer is unknown.
    """
    known = [c for c in costs if c is not None]
    if not known or len(known) < len(costs):
        return None
    return usd(max(sum(known), pusd(Decimal(answered_by.get("spent_usd", "0")))))


def ended(answer: Mapping[str, Any]) -> str:
    """Returns how an answer ended, as one of OUTCOMES."""
    if answer["finish_reason"] == REPETITION:
        return "looping"
    return "unfinished" if answer["finish_reason"] == "length" else str(answer["outcome"])


def _pass_at(answers: Answers) -> dict[str, float]:
    """Returns pass@k by k, for k = 1, 2, 4, … and for all samples.

    No k is larger than the smallest number of samples of any question. The result is empty when that number is 1.
    """
    counts = _right(answers).values()
    n = min(map(len, counts), default=0)
    ks = sorted({*(2**i for i in range(n.bit_length())), n}) if n > 1 else []
    return {str(k): round(sum(pass_at_k(len(r), sum(r), k) for r in counts) / len(counts), 4) for k in ks}


def by_question(answers: Answers) -> dict[str, float]:
    """Returns the share of right answers for each question."""
    return {question: sum(right) / len(right) for question, right in _right(answers).items()}


def _right(answers: Answers) -> dict[str, list[bool]]:
    """Maps each question to a list that says of each answer whether it is right."""
    found: dict[str, list[bool]] = {}
    for a in answers:
        found.setdefault(a["question_id"], []).append(a["outcome"] == "right")
    return found


def compared(before: Answers, after: Answers) -> dict[str, Any] | None:
    """Returns how many percentage points more answers are right after than before, with a 95% interval.

    Answers are paired by question. None is returned when the two evaluations have no question in common.
    """
    one, other = by_question(before), by_question(after)
    both = one.keys() & other.keys()
    if not both:
        return None
    return {
        **_with_interval("points", paired_gain(one, other), places=2),
        "paired": True,
        "n": len(both),
        "gained": sum(other[q] > one[q] for q in both),
        "lost": sum(other[q] < one[q] for q in both),
    }


# ---- comparisons of a run's evaluations


def gains(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Returns an entry for each "after" evaluation: the student's gain over the model that its training began with.

    There is no entry for a student when that model was not evaluated on the same questions, asked in the same way.
    """
    gained = []
    for before, after in befores(evaluations):
        if (found := compared(before["answers"], after["answers"])) is not None:
            one, other = (evaluation_entry(e["settings"], e["answers"]) for e in (before, after))
            figures = {k: other[k] for k in OF_GAIN} | {f"before_{k}": one[k] for k in OF_GAIN}
            gained.append(found | _named(after) | {"before_key": before["key"]} | figures)
    return gained


def against_teacher(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Returns an entry for each evaluation labelled "after": how the student compares with its teacher.

    Both are evaluated on the same questions, but each may have been asked in its own way. `points` is the student's
    accuracy minus the teacher's, in percentage points. A student has no entry when no teacher was evaluated on the same
    questions.
    """
    found = []
    for teacher, after in teachers_of(evaluations):
        if (points := compared(teacher["answers"], after["answers"])) is None:
            continue
        one, other = (evaluation_entry(e["settings"], e["answers"]) for e in (teacher, after))
        beside = {
            "teacher": teacher["settings"]["model"],
            "teacher_accuracy": one["accuracy"],
            "accuracy": other["accuracy"],
            "teacher_mean_output_tokens": one["mean_output_tokens"],
            "mean_output_tokens": other["mean_output_tokens"],
        }
        found.append(points | _named(after) | beside)
    return found


def _named(e: Evaluation) -> dict[str, str]:
    return {"questions": e["settings"]["questions"], "model": e["settings"]["model"], "key": e["key"]}


def newest(found: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Returns the entry for the report's `gain` or `against_teacher`, or None when `found` is empty.

    It is the latest student's entry on the questions that were measured first.
    """
    return next((f for f in reversed(found) if f["questions"] == found[0]["questions"]), None)


def earlier(found: Sequence[Mapping[str, Any]], gain: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the gain of the student that the student of `gain` was trained from, or None if that had no training."""
    return next((f for f in found if f["key"] == gain["before_key"]), None)


def befores(evaluations: Sequence[Evaluation]) -> Iterator[tuple[Evaluation, Evaluation]]:
    """Yields (before, after) for each evaluation labelled "after" that has a "before".

    A student's training began with a model, whose own training may have begun with an older model, and so on. The
    "before" is an evaluation of the nearest of these models that was asked in the same way as "after". If there are
    several of that model, the latest counts. Models are told apart by the checksums of their weights, since two
    students of one run may have begun with different models. Where checksums are not known, the "before" is the latest
    evaluation with that label that was asked in the same way.
    """
    for after in evaluations:
        if _label(after) == "after" and (before := _before(after, evaluations)):
            yield before, after


def _before(after: Evaluation, evaluations: Sequence[Evaluation]) -> Evaluation | None:
    asked = asked_as(after, ASKED_ALIKE)
    alike = [e for e in reversed(evaluations) if e is not after and e["answers"] and asked_as(e, ASKED_ALIKE) == asked]
    line = after["settings"].get("came_from") or []
    for weights in line:
        if found := next((e for e in alike if _weights(e) == weights), None):
            return found
    labelled = (e for e in alike if _label(e) == "before")
    return next((e for e in labelled if not line or _weights(e) is None), None)


def _weights(e: Evaluation) -> str | None:
    weights: str | None = e["settings"].get("engine", {}).get("weights")
    return weights


def teachers_of(evaluations: Sequence[Evaluation]) -> Iterator[tuple[Evaluation, Evaluation]]:
    """Yields (teacher, after) for each evaluation labelled "after" if a teacher was evaluated on the same questions.

    The first part is the latest evaluation labelled "teacher" on these questions.
    """
    teachers = {asked_as(e, SAME_QUESTIONS): e for e in evaluations if _label(e) == "teacher"}
    for e in evaluations:
        if _label(e) == "after" and (teacher := teachers.get(asked_as(e, SAME_QUESTIONS))):
            yield teacher, e


def _label(e: Evaluation) -> str | None:
    """Returns the label of an evaluation. None is also returned when the evaluation has no answers yet."""
    label: str | None = e["settings"].get("label") if e["answers"] else None
    return label


def asked_as(e: Evaluation, names: Sequence[str]) -> tuple[Any, ...]:
    """Returns the values of the settings in `names`, so that evaluations can be compared by them."""
    return tuple(e["settings"].get(name) for name in names)


def several(entry: Mapping[str, Any]) -> str:
    """Returns in words what several samples of each question show, e.g. "4: pass@4 71.0%, majority 62.0%".

    Returns "" when each question has only one sample.
    """
    if entry["samples"] == 1:
        return ""
    parts = [f"pass@{k} {percent(share)}" for k, share in list(entry["pass_at_k"].items())[1:]]
    if entry["majority"]:
        parts.append(f"majority {percent(entry['majority']['accuracy'])}")
    return f"{entry['samples']}: {', '.join(parts)}" if parts else str(entry["samples"])


def percent(share: float) -> str:
    """Returns a share between 0 and 1 as a percentage with one decimal."""
    return f"{round(100 * share, 6):.1f}%"  # 0.2875 is 28.8%, not the 28.7% of a float's last digit


def rounded(value: float | None, places: int = 4) -> float | None:
    """Returns the value rounded to `places` decimals, or None when the value is None."""
    return None if value is None else round(value, places)
