"""`harvest export` writes the traces of a run as a dataset, from the store alone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harvest.commands.progress import say, steps
from harvest.commands.run_folder import writing_to
from harvest.core.config import Export
from harvest.core.files import runs_folder
from harvest.endpoint import prompt as prompts
from harvest.export import export_settings, write_folder
from harvest.report.run_report import run_report
from harvest.store import Store, is_being_written


def export(name: str, url: str, *, to: Path | None, given: Mapping[str, Any], as_json: bool) -> int:
    """Writes the dataset, prints where it is and how many rows it has, and returns the exit code."""
    folder, n, settings = write_export(name, url, to=to, given=given)
    said = {"run": name, "to": str(folder), "rows": n, **settings.model_dump()}
    print(json.dumps(said) if as_json else f"{n} rows in {folder}")
    return 0


def write_export(name: str, url: str, *, to: Path | None, given: Mapping[str, Any]) -> tuple[Path, int, Export]:
    """Writes the dataset and returns (its folder, the number of its rows, the settings that it was written by).

    The settings are the run's [export] with `given` put over it. Raises InputError when the dataset cannot be written.
    """
    with Store.open(url, write=False) as store, writing_to(to or runs_folder() / name):
        report = run_report(store.figures(store.run_id(name)), live=is_being_written(url, name))
        settings = export_settings(store.run(name), given)
        if settings.which == "selected" and report["selection"] and (stale := report["selection"]["stale"]):
            say(f"warning: {stale}")
        return *write_dataset(store, name, report, to, settings), settings


def write_dataset(
    store: Store, name: str, report: dict[str, Any], to: Path | None = None, settings: Export | None = None
) -> tuple[Path, int]:
    """Writes the dataset from an open store and returns (its folder, the number of its rows). Raises OSError.

    Without `to`, the folder is `dataset/` in the run's folder. Without `settings`, the run's [export] is used.
    """
    run = store.run(name)
    prompt = prompts.parse(run.prompt_text, Path(run.config.prompt).stem, "the run's prompt")
    to, settings = to or runs_folder() / name / "dataset", settings or export_settings(run, {})
    traces = report["traces"]
    total = traces[settings.which] if settings.which != "all" else traces["accepted"] + sum(traces["rejected"].values())
    with steps("export") as step:
        census = write_folder(
            store, run, prompt, to, settings, report,
            lambda n: step(n, total, f"{n:,} of {total:,} rows"),
        )  # fmt: skip
    if census.quoting_marks:
        say(
            f"warning: {census.quoting_marks:,} of {census.rows:,} rows quote the marks around a chain in their text,"
            " and a reader may cut them there: --reasoning apart keeps chain and answer in fields of their own"
        )
    if not census.rows and settings.which == "selected" and traces["accepted"]:
        say(
            f"warning: none of {traces['accepted']:,} accepted traces is selected:"
            f" `python -m harvest select {name} --dry-run` shows what takes them out"
        )
    return to, census.rows
