"""`harvest report` makes the report of a run again, from the store alone, or puts several runs side by side."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harvest.commands.run_folder import writing_to
from harvest.core.files import runs_folder, write_in_run, write_whole
from harvest.core.nouns import PUBLIC
from harvest.endpoint import prompt as prompts
from harvest.report import comparison
from harvest.report.markdown_page import markdown, table_lines
from harvest.report.page import comparison_page, flat_settings, html_page, shown
from harvest.report.page.shown_traces import EACH, ShownTrace, by_kind
from harvest.report.run_report import run_report
from harvest.store import Store, StoredRun, is_being_written


def report(name: str, url: str, *, as_json: bool) -> int:
    """Writes the reports of a run, prints one of them, and returns the exit code."""
    print_report(write_report(name, url), as_json=as_json)
    return 0


def compare(runs: Sequence[tuple[str, str]], *, to: Path | None, as_json: bool) -> int:
    """Prints runs side by side, each given as (name, URL of its store), and returns the exit code.

    With `to`, the comparison is written there as a page too. Raises InputError when it cannot be written.
    """
    reports, settings = [], []
    for name, url in runs:
        with Store.open(url, write=False) as store:
            figures = store.figures(store.run_id(name))
        reports.append(run_report(figures, live=is_being_written(url, name)))
        prompt = ("prompt's hash", figures.run.prompt_sha256)
        settings.append([*_settings(figures.run, exclude_defaults=False), prompt])
    tables = comparison.figures(reports), comparison.settings(reports, settings)
    if to is not None:
        with writing_to(to):
            write_whole(to, comparison_page(reports, *tables))
    if as_json:
        print(json.dumps(comparison.as_json(reports, tables), ensure_ascii=False))
    else:
        print("\n".join(line for table in tables for line in table_lines(table)).lstrip("\n"))
    return 0


def write_report(name: str, url: str) -> dict[str, Any]:
    """Opens the store, writes report.json, report.md and report.html of a run, and returns the report.

    Raises InputError when a file cannot be written.
    """
    with Store.open(url, write=False) as store, writing_to(runs_folder() / name):
        return write_report_of(store, name, live=is_being_written(url, name))


def write_report_of(store: Store, name: str, *, live: bool) -> dict[str, Any]:
    """Writes report.json, report.md and report.html of a run from a store that is already open, and returns the report.

    `live` says whether another process is collecting into the store now. Raises OSError.
    """
    figures = store.figures(store.run_id(name))
    found = run_report(figures, live=live)
    write_in_run(name, "report.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    write_in_run(name, "report.md", markdown(found))
    write_in_run(name, "report.html", html_page(found, _settings(figures.run), _traces(store, name)))
    return found


def _settings(run: StoredRun, *, exclude_defaults: bool = True) -> list[tuple[str, str]]:
    """Returns the run's settings by dotted names."""
    config = run.config.model_dump(mode="json", exclude_defaults=exclude_defaults)
    if config.get("teachers"):
        config.pop("teacher", None)
    return flat_settings(config)


def _traces(store: Store, name: str) -> dict[str, list[ShownTrace]]:
    """Returns the traces that the page shows, under their headings."""
    run = store.run(name)
    picks = asdict(store.picks(run.id, EACH, seed=name))
    ids = sorted({attempt_id for of_kind in picks.values() for attempt_id in of_kind})
    if not ids:
        return {}
    prompt = prompts.parse(run.prompt_text, Path(run.config.prompt).stem, "the run's prompt")
    models = [t.model or t.local for t in run.config.teachers or [run.config.teacher]]
    attempts = store.answered_attempts_of(run.id, ids)
    by_id = {}
    for a in attempts:
        asked = None if a.teacher == PUBLIC else models[a.teacher]
        by_id[a.id] = shown(a, prompt, asked, imported=run.imported, from_public=run.from_public)
    return by_kind(by_id, picks)


def print_report(found: dict[str, Any], *, as_json: bool) -> None:
    """Prints a report: as one line of JSON if `as_json`, else as Markdown."""
    print(json.dumps(found, ensure_ascii=False) if as_json else markdown(found), end="\n" if as_json else "")
