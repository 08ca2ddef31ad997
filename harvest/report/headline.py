"""Says in a few plain sentences what a run bought, what it cost, and how much better the student got. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from harvest.core.printable import one_line
from harvest.report.evaluations import earlier, percent

Report = Mapping[str, Any]
"""The content of report.json, as far as it is made."""


def headline(report: Report) -> str:
    """Returns the sentences that open the page, report.md, the terminal's text and report.json.

    Amounts are rounded here, and nowhere else in the report.
    """
    return " ".join(_sentences(report))


def _sentences(r: Report) -> Iterator[str]:
    money, traces = r["money"], r["traces"]
    bought = f"{traces['accepted']:,} checked {'trace' if traces['accepted'] == 1 else 'traces'}"
    so_far = "" if r["run"]["status"] == "complete" else "So far: "
    if not traces["accepted"]:
        answers = f"none of {traces['answers']:,} answers was accepted" if traces["answers"] else "nothing was answered"
        yield f"{so_far}{answers if so_far else answers.capitalize()}, {_cost(r)}."
    else:
        asked = f"{r['questions']['asked']:,} questions"
        if public := (r["public"] or {}).get("questions"):
            asked = f"{asked} that were asked and {public:,} that public sets answer,"
        yield f"{so_far}{bought} from {asked} {_cost(r)}{_each(r)}."
    if (gain := r["gain"]) is not None:
        yield from _gains(r["gains"], gain)
        yield from _in_all(r)
    if Decimal(money["in_doubt_usd"]):
        yield f"{dollars(money['in_doubt_usd'])} more is in doubt."


def _cost(r: Report) -> str:
    money = r["money"]
    spent = Decimal(money["spent_usd"])
    if r["run"]["from_public"]:
        return "that others have published"
    if money["unpriced_calls"]:
        known = f" beyond {dollars(money['spent_usd'])}" if spent else ""
        return f"at a cost that nobody knows{known}"
    return f"for {dollars(money['spent_usd'])}" if spent else "at no cost"


def _each(r: Report) -> str:
    each = r["money"]["usd_per_accepted_trace"]
    return f" ({for_traces(each)})" if each and Decimal(each) else ""


def _gains(gains: Sequence[Mapping[str, Any]], newest: Mapping[str, Any]) -> Iterator[str]:
    """Yields what each training gained that led to the newest student, the first training first."""
    line = [newest]
    while (one := earlier(gains, line[0])) is not None and one not in line:
        line.insert(0, one)
    for before, gain in zip([None, *line], line, strict=False):
        after, was = percent(gain["accuracy"]), percent(gain["before_accuracy"])
        way = "up" if gain["points"] > 0 else "down" if gain["points"] < 0 else "unchanged"
        now = "now gets" if gain is newest else "gets"
        came = f", which was trained from {student_name(before)}," if before is not None else ""
        of, whence = ("", "") if came else (f" of {gain['n']:,} held-out questions", " before training")
        chance = ", which may be chance" if gain["low"] <= 0 <= gain["high"] and gain["points"] else ""
        worse = f": {student_name(before)} is the better student" if before is not None and gain["high"] < 0 else ""
        yield (
            f"The student {student_name(gain)}{came} {now} {after}{of} right, {way} from {was}{whence}:"
            f" {gain['points']:+.1f} points (95% interval {gain['low']:+.1f} to {gain['high']:+.1f}){chance}{worse}."
        )


def student_name(gain: Mapping[str, Any]) -> str:
    """Returns the last part of the path of the student of a gain."""
    return one_line(gain["model"].rstrip("/").rpartition("/")[2], 60)


def _in_all(r: Report) -> Iterator[str]:
    total, left_out = Decimal(r["total_usd"]), r["total_leaves_out"]
    if total > Decimal(r["money"]["spent_usd"]):
        without = f"; not counted: {', '.join(left_out)}" if left_out else ""
        yield f"In all, with training and evaluation: {dollars(r['total_usd'])}{without}."


def dollars(amount_usd: str) -> str:
    """Returns an amount for a sentence: whole cents, or two digits of an amount below a dollar.

    >>> dollars("1234.5678"), dollars("0.0012710"), dollars("0.00")
    ('$1,234.57', '$0.0013', '$0.00')
    """
    amount = Decimal(amount_usd)
    if amount == 0 or abs(amount) >= 1:
        return f"${amount:,.2f}"
    places = max(2, 1 - amount.adjusted())
    return f"${amount:.{places}f}"


def many(each_usd: str) -> int:
    """Returns for how many traces a cost is said: for one, or for 1,000 where one costs less than a cent."""
    return 1 if Decimal(each_usd) >= Decimal("0.01") else 1000


def for_traces(each_usd: str) -> str:
    """Returns what traces cost, given the cost of one in USD.

    >>> for_traces("0.000193232603"), for_traces("0.0213")
    ('$0.19 for 1,000 traces', '$0.021 a trace')
    """
    n = many(each_usd)
    return f"{dollars(str(Decimal(each_usd) * n))} {'a trace' if n == 1 else f'for {n:,} traces'}"
