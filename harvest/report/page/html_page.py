"""Puts the page together: the numbers and sentences of the other pages, the pictures, and some traces. Pure."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from harvest.report import sentences, tables
from harvest.report.evaluations import earlier
from harvest.report.headline import dollars, many, student_name
from harvest.report.page import pictures
from harvest.report.page.shown_traces import ANSWER_CHARS, CHAIN_CHARS, QUESTION_CHARS, ShownTrace

Report = Mapping[str, Any]
"""The content of report.json."""
STYLE = Path(__file__).parents[1] / "style.css"


def html_page(report: Report, settings: Sequence[tuple[str, str]], traces: Mapping[str, Sequence[ShownTrace]]) -> str:
    """Returns report.html. `settings` are those of RUN.toml that differ from the defaults; `traces` maps each
    heading to the traces that the page shows under it."""
    return _rendered(
        "report.html",
        title=report["run"]["name"],
        r=report,
        figures=figures(report),
        tables=tables,
        sentences=sentences,
        pictures=pictures,
        settings=settings,
        traces=traces,
        limits={"question": QUESTION_CHARS, "chain": CHAIN_CHARS, "answer": ANSWER_CHARS},
    )


def comparison_page(reports: Sequence[Report], figures: tables.Table, settings: tables.Table) -> str:
    """Returns a page with the runs side by side. `figures` and `settings` are the tables of the comparison."""
    headlines = list(zip(figures.columns, (r["headline"] for r in reports), strict=True))
    title = " and ".join(figures.columns)
    return _rendered("comparison.html", title=title, headlines=headlines, figures=figures, settings=settings)


def _rendered(template: str, **values: Any) -> str:
    """Returns a page. All that is put into it is escaped, but for the style sheet and our pictures."""
    from harvest.report.page.templates import PAGES, Markup  # jinja2 takes a tenth of a second to import

    style = STYLE.read_text("utf-8")
    style_hash = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return PAGES.get_template(template).render(style=Markup(style), style_hash=style_hash, **values)


def figures(r: Report) -> list[tuple[str, str, str]]:
    """Returns the figures under the headline, as (name, figure, what is beside it)."""
    money, traces, gain = r["money"], r["traces"], r["gain"]
    judged = traces["accepted"] + sum(traces["rejected"].values())
    found = [("accepted traces", f"{traces['accepted']:,}", f"of {judged:,} judged answers" if judged else "")]
    if money["unpriced_calls"]:
        found.append(("spent", "unknown", "the price is not known"))
    else:
        beside = f"of a cap of {dollars(money['cap_usd'])}" if money["cap_usd"] else "no cap"
        spent, each = Decimal(money["spent_usd"]), money["usd_per_accepted_trace"]
        found.append(("spent", dollars(money["spent_usd"]) if spent else "nothing", beside))
        if each and spent:
            n = many(each)
            name = "for an accepted trace" if n == 1 else f"for {n:,} accepted traces"
            found.append((name, dollars(str(Decimal(each) * n)), ""))
    if gain is not None:
        interval = f"95%: {gain['low']:+.1f} to {gain['high']:+.1f}"
        before = earlier(r["gains"], gain)
        over = f"the student's gain over {student_name(before)}" if before else "the student's gain"
        found.append((over, f"{gain['points']:+.1f} points", interval))
    elif r["run"]["wall_s"]:
        found.append(("time", sentences.duration(r["run"]["wall_s"]), ""))
    return found


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Returns settings as (dotted name, value as JSON), in the order of their names."""
    found: list[tuple[str, str]] = []
    for name, value in sorted(settings.items()):
        if isinstance(value, Mapping) and value:
            found += flat_settings(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            for n, one in enumerate(value):
                found += flat_settings(one, f"{prefix}{name}.{n}.")
        else:
            found.append((f"{prefix}{name}", json.dumps(value, ensure_ascii=False)))
    return found
