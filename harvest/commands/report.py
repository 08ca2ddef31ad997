"""`harvest report` makes the report of a run again, from the store alone."""

import json
from typing import Any

from harvest.commands.run_folder import writing_to
from harvest.core.files import runs_folder, write_in_run
from harvest.report.markdown_page import markdown
from harvest.report.run_report import run_report
from harvest.store import Store, is_being_written


def report(name: str, url: str, *, as_json: bool) -> int:
    """Writes report.json and report.md of a run, prints one of the two, and returns the exit code."""
    print_report(write_report(name, url), as_json=as_json)
    return 0


def write_report(name: str, url: str) -> dict[str, Any]:
    """Opens the store, writes report.json and report.md of a run, and returns the report.

    Raises InputError when a file cannot be written.
    """
    with Store.open(url, write=False) as store, writing_to(runs_folder() / name):
        return write_report_of(store, name, live=is_being_written(url))


def write_report_of(store: Store, name: str, *, live: bool) -> dict[str, Any]:
    """Writes report.json and report.md of a run from a store that is already open, and returns the report.

    `live` says whether another process is collecting into the store now. Raises OSError.
    """
    found = run_report(store.figures(store.run_id(name)), live=live)
    write_in_run(name, "report.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    write_in_run(name, "report.md", markdown(found))
    return found


def print_report(found: dict[str, Any], *, as_json: bool) -> None:
    """Prints a report: as one line of JSON if `as_json`, else as Markdown."""
    print(json.dumps(found, ensure_ascii=False) if as_json else markdown(found), end="\n" if as_json else "")
