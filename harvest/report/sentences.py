"""Says in plain sentences what stands in no table of a report, for report.md, the terminal and the page. Pure."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from harvest.core.printable import one_line
from harvest.report.evaluations import percent
from harvest.report.headline import dollars
from harvest.report.loss_curve import turned
from harvest.report.tables import from_all, spaced

Report = Mapping[str, Any]
"""The content of report.json."""

SHOWN_REASONS = 6
FROM_PUBLIC = "From public sets: others published these answers. What they cost is not known, and nobody paid it here."
IMPORTED = "Imported: these answers were paid for elsewhere. Money is what their logs say; there was no cap."


def imported(r: Report) -> str | None:
    """Says where imported answers are from."""
    return FROM_PUBLIC if r["run"]["from_public"] else IMPORTED if r["run"]["imported"] else None


def accepted(r: Report) -> str:
    run, traces = r["run"], r["traces"]
    rejected = sum(traces["rejected"].values())
    judged = traces["accepted"] + rejected
    share = f" ({100 * traces['accepted'] / judged:.1f}% of {judged:,} judged)" if judged else ""
    took = f", in {duration(run['wall_s'])}" if run["wall_s"] else ""  # a run that was killed has no end
    return f"{traces['accepted']:,} traces accepted{share}, {rejected:,} rejected{took}."


def selected(r: Report) -> str | None:
    if not r["selection"]:
        return None
    of = "all answers, right and wrong" if from_all(r) else "them"
    return f"Selected to be trained on: {r['traces']['selected']:,} of {of}."


def tokens(r: Report) -> str | None:
    t = r["tokens"]
    if not (t["input"] or t["output"]):
        return None
    tokens_in = f"{t['input']:,} in{f' ({cached:,} cached)' if (cached := t['cached_input']) else ''}"
    tokens_out = f"{t['output']:,} out{f' ({chain:,} reasoning)' if (chain := t['reasoning']) else ''}"
    return f"Tokens: {tokens_in}, {tokens_out}."


def student(r: Report) -> str | None:
    """Says how many questions the student answered in the teachers' place."""
    if not (s := r["student"]):
        return None
    cost = "at a cost that nobody told" if s["cost_usd"] is None else f"for {s['cost_usd']} USD"
    return (
        f"The student ({s['model'] or 'taken out since'}) was asked {s['asked']:,} questions first, {cost}:"
        f" it could do {s['solved']:,} of them, and {s['left_to_teachers']:,} went to a teacher."
    )


def judging(r: Report) -> str | None:
    if not (j := r["judging"]):
        return None
    said = ", ".join(f"{n:,} {spaced(outcome)}" for outcome, n in j["verdicts"].items())
    return (
        f"Second opinions: {said or 'none'}; {j['accepted']:,} traces stand by them alone."
        f" {j['sent']:,} requests, {j['tokens']['input']:,} tokens in, {j['tokens']['output']:,} out."
    )


def rewriting(r: Report) -> str | None:
    """Says how many answers the rules and the rewriting model brought into the training format, and at what cost."""
    if not (w := r["rewriting"]):
        return None
    by_rules = f"{w['by_rules']:,} by rules" + (f" ({n:,} refused)" if (n := w["by_rules_refused"]) else "")
    if not (w["sent"] or w["by_model"] or w["by_model_refused"]):
        return f"Rewritten: {by_rules}."
    refused = "; ".join(f"{n:,} {why}" for why, n in list(w["by_model_refused"].items())[:SHOWN_REASONS])
    each = f", {w['usd_per_rewriting']} USD each" if w["usd_per_rewriting"] else ""
    return (
        f"Rewritten: {by_rules}, {w['by_model']:,} by a model for {w['cost_usd']} USD{each};"
        f" {w['accepted']:,} traces stand by that alone. Not kept of the model's: {refused or 'none'}."
    )


def cut(r: Report) -> str | None:
    """Says what went into answers that were cut at their token limit."""
    if not (found := r["what_if"]["cut"]):
        return None
    low, high = found["max_tokens"]
    limits = f"{low:,} tokens" if low == high else f"{low:,} to {high:,} tokens"
    usd = found["usd"] if found["usd"] and Decimal(found["usd"]) else None
    paid = f"{dollars(usd)} of this" if usd else f"{found['output_tokens']:,} of the output tokens"
    many = "1 answer" if found["answers"] == 1 else f"{found['answers']:,} answers"
    return f"{paid} went to {many} cut at {limits}."


def what_if(r: Report) -> str | None:
    """Says what the table of other settings is made from."""
    if not r["what_if"]["instead"]:
        return None
    return (
        "What the questions that have ended would have cost and brought with other settings, by the answers"
        " that were bought for them. If nobody bought an answer that would be needed, it is estimated; the 90% interval"
        " stands in brackets."
    )


def pace(r: Report) -> str | None:
    if not r["pace"]["limited_by"]:
        return None
    return f"Pace: limited by {r['pace']['limited_by']}, at most {r['pace']['peak_in_flight']} in flight."


def held_out(training: Mapping[str, Any]) -> str | None:
    """Says the loss of held-out questions, and which student was kept; None where none were measured."""
    h = training.get("held_out")
    if not h:
        return None
    first, best = percent(h["first_accuracy"]), percent(h["best_accuracy"])
    what = "pairs preferred as chosen" if training["method"] == "prefer" else "tokens guessed right"
    said = (
        f"{h['questions']:,} held-out questions: loss {h['first_loss']:.3f} at first, {h['best_loss']:.3f} at step"
        f" {h['best_step']:,}, {h['last_loss']:.3f} at last; {what} {first} at first, {best} at step"
        f" {h['best_step']:,}. The student is that of step {h['student_step']:,}."
    )
    worse = turned(training["curve"])
    return f"{said} {worse[0].upper()}{worse[1:]}." if worse else said


def gains(r: Report) -> Iterator[str]:
    """Yields what each training gained on each set of questions."""
    for g in r["gains"]:
        alike = sum(g["questions"] == other["questions"] for other in r["gains"])
        whose = f" of {g['model']}" if alike > 1 else ""
        yield f"Gain{whose} on {g['questions']}: {g['points']:+.1f} points ({_interval(g)}).{after_gain(g)}"


def after_gain(g: Mapping[str, Any]) -> str:
    """Returns what else is said of a gain, with a space in front: its tokens, and whether the student is worse."""
    was, now = (None if (n := g[k]) is None else f"{n:,.0f}" for k in ("before_tokens_per_right", "tokens_per_right"))
    said = f" Tokens for each right answer: {was or 'unknown'} before, {now or 'unknown'} after." if was or now else ""
    if g["high"] < 0:
        said += " The student is worse: it lost more than chance explains."
    return said


def against_teachers(r: Report) -> Iterator[str]:
    for g in r["against_teachers"]:
        yield (
            f"{g['model']} against its teacher {g['teacher']} on {g['questions']}:"
            f" {percent(g['accuracy'])} to {percent(g['teacher_accuracy'])}, {g['points']:+.1f} points"
            f" ({_interval(g)})."
        )


def total(r: Report) -> str | None:
    """Says what the run, its trainings and its evaluations cost together; None if that is nothing."""
    known, left_out = Decimal(r["total_usd"]), "; ".join(r["total_leaves_out"])
    if not known:
        return f"Total: not known ({left_out})." if left_out else None
    return f"Total: {r['total_usd']} USD.{f' Not in it: {left_out}.' if left_out else ''}"


def _interval(g: Mapping[str, Any]) -> str:
    return f"95%: {g['low']:+.1f} to {g['high']:+.1f}, paired by question"


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min" if seconds < 7200 else _hours(seconds)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h"


def accuracy_quote(quote: Mapping[str, Any]) -> str:
    """Returns in a sentence which accuracy `finetune curve --buy` quoted for a student that is trained on the run."""
    low, mid, high = (percent(quote["accuracy"][end]) for end in ("low", "mid", "high"))
    return (
        f"{one_line(quote['student'])}, trained on its {quote['traces']:,} traces: {mid} right ({low} to {high}) on"
        f" {one_line(quote['questions'])}, by {quote['trainings']} short trainings on {quote['quoted_at']}."
    )


def round_in_words(b: Mapping[str, Any]) -> str:
    """Returns in a line what a round of a job bought and brought."""
    cost = "a price that nobody knows" if b["spent_usd"] is None else dollars(b["spent_usd"])
    gain, right = b["gain"], b["accuracy"]["mid"]
    line = f"round {b['round']}: {b['questions']:,} questions for {cost}, {b['traces']:,} traces in all"
    line += "" if right is None else f"; {percent(right)} right"
    if gain["points"] is not None:
        a_dollar = "" if b["points_per_usd"] is None else f", {b['points_per_usd']:+.2f} points a dollar"
        line += f", {gain['points']:+.1f} points ({_interval(gain)}){a_dollar}"
    return line
