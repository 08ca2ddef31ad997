"""Writes the report as a Markdown page for people, which the terminal shows too. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harvest.core.printable import printable
from harvest.report import sentences, tables
from harvest.report.loss_curve import sparkline

Report = Mapping[str, Any]
"""The content of report.json."""


def markdown(report: Report) -> str:
    """Returns the text of the page."""
    return "\n".join(_lines(report)).rstrip("\n") + "\n"


def _lines(r: Report) -> Iterator[str]:
    yield f"# {r['run']['name']}: {tables.spaced(r['run']['status'])}"
    yield from _paragraphs([r["headline"]])
    for warning in r["warnings"]:
        yield from ("", f"> **Warning:** {plain(warning)}")
    yield from _paragraphs([sentences.imported(r)])
    yield from _paragraphs([sentences.accepted(r), sentences.selected(r)])
    shown = (
        tables.questions,
        tables.requests,
        tables.money,
        tables.public,
        tables.teachers,
        tables.replicas,
        tables.quote,
        tables.forecasts,
    )
    for table in shown:
        yield from table_lines(table(r))
    yield from _paragraphs([sentences.cut(r), sentences.what_if(r)])
    yield from table_lines(tables.what_if(r))
    yield from _paragraphs(
        [sentences.student(r), sentences.judging(r), sentences.rewriting(r), sentences.tokens(r), sentences.pace(r)]
    )
    yield from table_lines(tables.trainings(r))
    yield from _curves(r)
    yield from table_lines(tables.evaluations(r))
    yield from table_lines(tables.rounds(r))
    yield from table_lines(tables.accuracy_quotes(r))
    yield from (f"\n**{plain(gain)}**" for gain in sentences.gains(r))
    yield from _paragraphs(sentences.against_teachers(r))
    yield from table_lines(tables.provenance(r))
    yield from _paragraphs([sentences.total(r)])


def _paragraphs(texts: Iterable[str | None]) -> Iterator[str]:
    yield from (f"\n{plain(text)}" for text in texts if text)


def table_lines(table: tables.Table) -> Iterator[str]:
    """Yields the lines of a table; none if the table is empty."""
    if not table:
        return
    yield ""
    columns = table.columns or ("",)
    yield _row((table.title, *columns))
    yield _row(("---", *("---" if c in table.words else "---:" for c in columns)), is_plain=True)
    yield from map(_row, table.rows)


def _row(cells: Iterable[str], *, is_plain: bool = False) -> str:
    return "|" + "".join(f" {cell if is_plain else plain(cell)} |" if cell else " |" for cell in cells)


def _curves(r: Report) -> Iterator[str]:
    for t in r["training"]:
        if losses := [p["loss"] for p in t["curve"] if p.get("loss") is not None]:
            yield f"\nLoss of {plain(t['student'])}, step 1 to {t['curve'][-1]['step']}: `{sparkline(losses)}`"


_ESCAPED = {c: f"\\{c}" for c in "\\`*_[]#|"} | {"<": "&lt;", ">": "&gt;"}


def plain(text: str) -> str:
    """Returns foreign text changed so that nothing in it is Markdown or HTML.

    Fewer characters are escaped than in a dataset card, so that the text stays readable on a terminal.
    """
    return "".join(_ESCAPED.get(c, c) for c in printable(text))
