"""Puts runs side by side: what each cost and brought, how its student did, and where the settings differ. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from harvest.report.evaluations import earlier, percent
from harvest.report.headline import dollars, student_name
from harvest.report.sentences import duration
from harvest.report.tables import Table, evaluated, spaced

Report = Mapping[str, Any]
"""The content of report.json."""
MISSING = "–"
"""Stands where a run has no such figure or setting."""
SPENT, IN_ALL = "spent (USD)", "all together (USD)"
ALWAYS_DIFFERENT = ("name", "store")


def figures(reports: Sequence[Report]) -> Table:
    """Returns the figures of the runs, a column for each. A figure that no run has is left out, and what
    all cost together where it is what asking cost."""
    rows = [(words, *(of(r) or MISSING for r in reports)) for words, of in _FIGURES]
    rows += _evaluations(reports)
    of_rows = {words: figures for words, *figures in rows}
    is_more = of_rows[IN_ALL] != of_rows[SPENT]
    shown = (row for row in rows if set(row[1:]) != {MISSING} and (is_more or row[0] != IN_ALL))
    return Table("run", _names(reports), tuple(shown))


def settings(reports: Sequence[Report], of: Sequence[Sequence[tuple[str, str]]]) -> Table:
    """Returns the settings in which the runs differ. `of` has the settings of each run as (name, value)."""
    known = [dict(pairs) for pairs in of]
    names = dict.fromkeys(name for pairs in known for name in pairs if name not in ALWAYS_DIFFERENT)
    rows = [(name, *(pairs.get(name, MISSING) for pairs in known)) for name in names]
    columns = _names(reports)
    return Table("setting", columns, tuple(row for row in rows if len(set(row[1:])) > 1), words=columns)


def as_json(reports: Sequence[Report], tables: Sequence[Table]) -> dict[str, Any]:
    """Returns the comparison as values for JSON: the figures and settings in words, and the report of each run."""
    shown = ([{"name": name, "of": of} for name, *of in table.rows] for table in tables)
    return {
        "runs": list(_names(reports)),
        **dict(zip(("figures", "settings"), shown, strict=True)),
        "reports": list(reports),
    }


def _names(reports: Sequence[Report]) -> tuple[str, ...]:
    """Returns the names of the runs. Runs of one name in two stores get numbers."""
    names = [r["run"]["name"] for r in reports]
    return tuple(f"{name} ({n})" if names.count(name) > 1 else name for n, name in enumerate(names, 1))


def _judged(r: Report) -> int:
    return int(r["traces"]["accepted"] + sum(r["traces"]["rejected"].values()))


def _yield(r: Report) -> str | None:
    return percent(r["traces"]["accepted"] / judged) if (judged := _judged(r)) else None


def _spent(r: Report) -> str:
    spent, unknown = r["money"]["spent_usd"], r["money"]["unpriced_calls"]
    return f"{spent}, without {unknown:,} calls of unknown price" if unknown else str(spent)


def _thousand(r: Report) -> str | None:
    each = r["money"]["usd_per_accepted_trace"]
    return None if each is None else dollars(str(1000 * Decimal(each)))


def _count(mean: float | None) -> str | None:
    return f"{mean:,.0f}" if mean else None


def _total(r: Report) -> str | None:
    left_out = "; ".join(r["total_leaves_out"])
    if not Decimal(r["total_usd"]):
        return "not known" if left_out else r["total_usd"]
    return f"{r['total_usd']}, without {left_out}" if left_out else str(r["total_usd"])


def _gain(r: Report) -> str | None:
    g = r["gain"]
    if g is None:
        return None
    over = f" over {student_name(before)}" if (before := earlier(r["gains"], g)) else ""
    return f"{g['points']:+.1f} points{over} ({g['low']:+.1f} to {g['high']:+.1f})"


_FIGURES: tuple[tuple[str, Callable[[Report], str | None]], ...] = (
    ("status", lambda r: spaced(r["run"]["status"])),
    ("questions asked", lambda r: f"{r['questions']['asked']:,}"),
    ("judged answers", lambda r: f"{_judged(r):,}"),
    ("accepted traces", lambda r: f"{r['traces']['accepted']:,}"),
    ("accepted, of the judged", _yield),
    ("selected traces", lambda r: f"{r['traces']['selected']:,}" if r["selection"] else None),
    (SPENT, _spent),
    ("in doubt (USD)", lambda r: amount if Decimal(amount := r["money"]["in_doubt_usd"]) else None),
    ("1,000 accepted traces", _thousand),
    ("tokens of an accepted chain, mean", lambda r: _count(r["traces"]["mean_reasoning_tokens"])),
    ("tokens of an accepted answer with its chain, mean", lambda r: _count(r["traces"]["mean_output_tokens"])),
    ("time", lambda r: duration(r["run"]["wall_s"])),
    ("gain of the student", _gain),
    (IN_ALL, _total),
)


def _evaluations(reports: Sequence[Report]) -> Iterator[tuple[str, ...]]:
    """Yields a row for each label and set of questions, with the newest such evaluation of each run."""
    found: dict[tuple[str, str], dict[int, str]] = {}
    for n, r in enumerate(reports):
        for e in r["evaluation"]:
            if e["accuracy"] is not None:
                said = f"{percent(e['accuracy'])} ({percent(e['low'])[:-1]}–{percent(e['high'])})"
                found.setdefault((e["label"] or evaluated(e), e["questions"]), {})[n] = said
    for (label, questions), of in found.items():
        yield (f"{label} on {questions}", *(of.get(n, MISSING) for n in range(len(reports))))
