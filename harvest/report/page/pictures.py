"""Draws what a report says: the budget, money and traces over time, reasons, lengths, the student. Pure.

Each function returns None where there is nothing to draw.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import accumulate
from typing import Any

from markupsafe import Markup

from harvest.core.printable import one_line
from harvest.report import tables
from harvest.report.evaluations import percent
from harvest.report.headline import dollars
from harvest.report.loss_curve import HELD_OUT_LOSS, measured
from harvest.report.page.svg import Point, curve, dot, grid, line, picture, rect, scale, text
from harvest.report.sentences import duration

Report = Mapping[str, Any]
"""The content of report.json."""
Picture = Markup | None

BAR_PX, ROW_PX, FIELD_PX, TOP_PX = 34, 30, 150, 18


def budget_bar(r: Report) -> Picture:
    """Draws the budget as one bar. Its parts are those of `tables.budget`; a line marks the cap if they go over it."""
    parts = tables.budget(r)
    amounts = [Decimal(amount) for _, _, amount in parts]
    whole = sum(amounts)
    if not whole:
        return None
    widths = [float(100 * amount / whole) for amount in amounts]
    starts = [0.0, *accumulate(widths)]
    drawn = [
        rect(start, 0, max(0.15, width - 0.12), BAR_PX, f"fill {kind}")
        for (kind, _, _), start, width in zip(parts, starts, widths, strict=False)
    ]
    cap = r["money"]["cap_usd"]
    if cap is not None and Decimal(cap) < whole:
        at = float(100 * Decimal(cap) / whole)
        drawn += [line(at, -4, at, BAR_PX + 4, "rule"), text(at, BAR_PX + 18, "cap", "middle")]
    said = "; ".join(f"{words} {amount} USD" for _, words, amount in parts)
    return picture(f"The budget in parts: {said}.", BAR_PX + (24 if len(drawn) > len(parts) else 0), *drawn)


def money_over_time(r: Report) -> Picture:
    points = r["over_time"]
    if not points or not Decimal(points[-1]["spent_usd"]):
        return None
    values = [float(Decimal(p["spent_usd"])) for p in points]
    label = f"Spent over time, {dollars(points[-1]['spent_usd'])} in the end."
    return _over_time(points, values, "accent", label, dollars)


def traces_over_time(r: Report) -> Picture:
    points = r["over_time"]
    if not points or not points[-1]["accepted"]:
        return None
    values = [float(p["accepted"]) for p in points]
    label = f"Accepted traces over time, {points[-1]['accepted']:,} in the end."
    return _over_time(points, values, "accepted", label, lambda n: f"{float(n):,.0f}")


def _over_time(
    points: Sequence[Mapping[str, Any]], values: Sequence[float], kind: str, label: str, words: Any
) -> Markup:
    last, top = max(1, points[-1]["at_s"]), _ceiling(max(values))
    marks = [(share, words(str(share * top))) for share in (0.5, 1)]
    places = [(p["at_s"] / last, v / top) for p, v in zip(points, values, strict=True)]
    field = curve(places, kind, FIELD_PX, TOP_PX, filled=True)
    behind, before = grid(FIELD_PX, TOP_PX, (0, 0.5, 1)), scale(FIELD_PX, TOP_PX, marks)
    return picture(label, TOP_PX + FIELD_PX + 20, behind, field, before, *_times(last))


def _times(last_s: float) -> list[Markup]:
    y = TOP_PX + FIELD_PX + 16
    anchors = ((0, None), (0.5, "middle"), (1, "end"))
    words = duration if last_s >= 10 else "{:.1f} s".format  # in whole seconds, half of 1 s is "0 s"
    return [text(100 * share, y, words(share * last_s) if share else "0", anchor) for share, anchor in anchors]


def _ceiling(value: float) -> float:
    """Returns the smallest of 1, 1.5, 2, 3, 4, 5, 6, 8 and 10, times a power of ten, that is not below the value."""
    power = 10.0 ** (len(str(int(value))) - 1) if value >= 1 else 1.0
    while value and value < power / 2:
        power /= 10
    return next(step * power for step in (0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value)


def reasons(r: Report) -> Picture:
    """Draws how many answers were rejected for each reason, as bars beneath their names."""
    counts = sorted(r["traces"]["rejected"].items(), key=lambda pair: (-pair[1], pair[0]))
    if not counts:
        return None
    most, drawn = counts[0][1], []
    for n, (reason, count) in enumerate(counts):
        y = n * (ROW_PX + 12)
        kind = "truncated" if reason in ("truncated", "repetition") else "rejected"
        drawn += [
            text(0, y + 12, tables.spaced(reason)),
            text(100, y + 12, f"{count:,}", "end", "strong"),
            rect(0, y + 18, 100, 12, "track"),
            rect(0, y + 18, max(0.4, 100 * count / most), 12, f"fill {kind}"),
        ]
    said = ", ".join(f"{tables.spaced(reason)} {count:,}" for reason, count in counts)
    return picture(f"Rejected answers by reason: {said}.", len(counts) * (ROW_PX + 12), *drawn)


def lengths(r: Report) -> Picture:
    """Draws two histograms of the answers' tokens: accepted ones upwards, rejected ones downwards."""
    found = r["lengths"]
    if found is None:
        return None
    bars = found["bars"]
    above, below = (max(bar[kind] for bar in bars) for kind in ("accepted", "rejected"))
    px = FIELD_PX / (above + below)
    zero, width, drawn = TOP_PX + px * above, 100 / len(bars), []
    for n, bar in enumerate(bars):
        up, down = px * bar["accepted"], px * bar["rejected"]
        drawn += [rect(n * width, zero - up, width * 0.86, up, "fill accepted")] if up else []
        drawn += [rect(n * width, zero, width * 0.86, down, "fill rejected")] if down else []
    drawn.append(line(0, zero, 100, zero, "base"))
    y = TOP_PX + FIELD_PX + 18
    for n in range(0, len(bars), max(1, len(bars) // 4)):
        if n * width <= 80:
            drawn.append(text(n * width, y, f"{bars[n]['from_tokens']:,}"))
    last = f"{bars[-1]['from_tokens']:,}+" if found["longest_tokens"] >= bars[-1]["from_tokens"] else ""
    drawn.append(text(100, y, last, "end"))
    label = f"Tokens of {found['answers']:,} answers: accepted ones upwards, rejected ones downwards."
    return picture(label, y + 6, *drawn)


def loss(training: Mapping[str, Any]) -> Picture:
    """Draws the loss of a training over its steps, and the loss on held-out rows where it was measured."""
    points = training.get("curve") or ()
    trained = [(p["step"], p["loss"]) for p in points if p.get("loss") is not None]
    held_out = [(p["step"], p[HELD_OUT_LOSS]) for p in measured(points)]
    if len(trained) < 2:
        return None
    values = [v for _, v in (*trained, *held_out)]
    low, high, last = min(values), max(values), max(step for step, _ in trained)
    span = (high - low) or 1.0

    def scaled(of: Sequence[Point]) -> list[Point]:
        return [(step / last, (value - low) / span) for step, value in of]

    drawn = [grid(FIELD_PX, TOP_PX, (0, 0.5, 1))]
    drawn.append(curve(scaled(trained), "student", FIELD_PX, TOP_PX))
    if held_out:
        drawn.append(curve(scaled(held_out), "rejected", FIELD_PX, TOP_PX))
    y = TOP_PX + FIELD_PX + 16
    falls = trained[-1][1] <= trained[0][1]
    marks = [(0.5, f"{(low + high) / 2:.2f}"), (1, f"{high:.2f}")]
    drawn.append(scale(FIELD_PX, TOP_PX, marks, at_the_end=falls))
    drawn.append(scale(FIELD_PX, TOP_PX, [(0, f"{low:.2f}")], at_the_end=not falls))
    drawn += [text(0, y, "step 0"), text(100, y, f"step {last:,}", "end")]
    return picture(f"Loss from {trained[0][1]:.3f} to {trained[-1][1]:.3f} in {last:,} steps.", y + 4, *drawn)


def has_held_out(training: Mapping[str, Any]) -> bool:
    return bool(measured(training.get("curve") or ()))


def accuracies(r: Report) -> Picture:
    """Draws the accuracy of each evaluation as a dot on a scale from 0 to 100%, with its 95% interval.

    Where there are several sets of questions, each has its name above its evaluations.
    """
    found = [e for e in r["evaluation"] if e["accuracy"] is not None]
    if not found:
        return None
    row, heading, drawn, top = 46, 30, [], 0
    sets = list(dict.fromkeys(e["questions"] for e in found))
    headings = sets if len(sets) > 1 else []
    height = row * len(found) + heading * len(headings)
    for mark, anchor in ((0, None), (25, "middle"), (50, "middle"), (75, "middle"), (100, "end")):
        drawn += [line(mark, 0, mark, height, "grid"), text(mark, height + 16, f"{mark}%", anchor)]
    for e in sorted(found, key=lambda e: sets.index(e["questions"])):
        if headings and e["questions"] == headings[0]:
            drawn.append(text(0, top + 20, one_line(headings.pop(0), 48), None, "strong"))
            top += heading
        y, top = top + 32, top + row
        kind = {"before": "plain", "after": "accepted", "teacher": "judging"}.get(e["label"] or "", "student")
        low, at, high = (100 * e[k] for k in ("low", "accuracy", "high"))
        drawn += [
            text(0, y - 14, tables.evaluated(e)),
            line(low, y, high, y, f"whisker stroke {kind}"),
            dot(at, y, f"fill {kind}"),
            text(high + 1, y + 4, percent(e["accuracy"]), None, "strong")
            if high < 88
            else text(low - 1, y + 4, percent(e["accuracy"]), "end", "strong"),
        ]
    said = "; ".join(f"{tables.evaluated(e)}: {percent(e['accuracy'])}" for e in found)
    return picture(f"Accuracy with 95% intervals. {said}.", height + 22, *drawn)
