"""`harvest select` chooses which accepted traces of a run are trained on, by the run's settings or by new ones."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harvest.asking.planning.plan import plan_of
from harvest.commands.export import write_dataset
from harvest.commands.progress import say, steps
from harvest.commands.report import write_report_of
from harvest.commands.run_folder import has_dataset, writing_to
from harvest.core.files import runs_folder, write_settings
from harvest.filters.required import required_by
from harvest.judging.marks import take_in_marks
from harvest.store import UNDER_SELECT, Store, StoredRun

if TYPE_CHECKING:
    from harvest.selection.summary import Summary


MOST_TRIED = 20_000
"""Among more candidates it would take too long to try what rewriting saves."""


def select_traces(
    name: str, url: str, overrides: Sequence[tuple[str, str]], *, preset: str | None, dry_run: bool, as_json: bool
) -> int:
    """Selects traces by the run's settings and `overrides`, prints the selection, and returns the exit code.

    `overrides` take precedence, and the run keeps the resulting settings. The run's report is written again, and its
    dataset too if the run's folder holds one. With `dry_run` nothing is changed.
    """
    from harvest.selection.pipeline import select_run
    from harvest.selection.settings import changed_run
    from harvest.selection.summary import in_words

    with Store.open(url, say=say) as store:
        store.join(name, alone=True)
        take_in(store)
        before = store.run(name)
        run = changed_run(before, overrides, preset)
        with steps("selecting") as step:
            summary, is_new = select_run(store, run, step, keep_settings=True, dry_run=dry_run)
        if not dry_run:
            say_if_required_changed(before, run)
            with writing_to(runs_folder() / name):
                report = write_report_of(store, name, live=False)
                write_settings(name, run.settings)
                if has_dataset(name):
                    write_dataset(store, name, report)
        say_what_rewriting_saves(store, run, summary)
    if as_json:
        print(json.dumps({"run": name, "dry_run": dry_run, **summary, "new": is_new}, ensure_ascii=False))
        return 0
    print("\n".join(in_words(summary)))
    if not is_new:
        print("Nothing has changed since the newest selection.", file=sys.stderr)
    return 0


def take_in(store: Store) -> None:
    """Takes the marks that people set in `harvest view` meanwhile into the store, which is open for writing."""
    if taken := take_in_marks(store, plan_of, say):
        say(f"taken in from `harvest view`: {taken} {'mark' if taken == 1 else 'marks'}")


def select_as_set(store: Store, name: str) -> bool:
    """Selects traces by the run's settings. Returns whether anything has changed since the newest selection.

    Marks that wait are taken in first, so that the selection follows them.
    """
    from harvest.selection.pipeline import select_run

    take_in(store)
    with steps("selecting") as step:
        said, is_new = select_run(store, store.run(name), step)
    if is_new or not said["selected"]:
        say_what_rewriting_saves(store, store.run(name), said)
    return is_new


def say_what_rewriting_saves(store: Store, run: StoredRun, said: "Summary") -> None:
    """Tells the user how many more traces would be selected if the rules brought them into the training format."""
    from harvest.selection.pipeline import select_run
    from harvest.selection.settings import changed_run

    refused = said["unselected"].get("format", 0)
    if not refused or run.config.rewrite.on:
        return
    words = f"{refused:,} accepted traces do not fit the training format"
    if said["candidates"] <= MOST_TRIED:
        with steps("what rewriting would save") as step:
            other, _ = select_run(store, changed_run(run, [("rewrite.on", "true")], None), step, dry_run=True)
        saved = other["selected"] - said["selected"]
        if saved <= 0:
            return
        words += f", and rewriting would save {saved:,} of them"
    say(f"{words}: `python -m harvest select {run.name} --rewrite.on true`, or [rewrite] on = true in RUN.toml")


def say_if_changed(before: StoredRun | None, after: StoredRun) -> None:
    """Tells the user which settings of selection have changed, and whether `checks.require` has changed.

    `before` is the stored run before this command wrote its settings (None: there was none), `after` is the run with
    them. `before` may hold settings that an earlier `harvest select` stored. The settings of RUN.toml and of this
    command have replaced them, and the user is told which.
    """
    if before is None:
        return
    names = []
    for section in ("filters", "rewrite", "select"):
        old, new = before.settings.get(section) or {}, after.settings.get(section) or {}
        names += [f"{section}.{key}" for key in new if old.get(key, new[key]) != new[key]]
    if names:
        say(f"selected by other settings than before: {', '.join(names)} as RUN.toml and this command have it")
    if kept := after.settings.get(UNDER_SELECT):
        say(f"as `harvest select` set it: {', '.join(kept)} (another value in RUN.toml takes its place)")
    say_if_required_changed(before, after)


def say_if_required_changed(before: StoredRun, after: StoredRun) -> None:
    """Tells the user if `checks.require` has changed, because stored answers are judged by it only after `harvest
    verify`."""
    if required_by(before.config) != required_by(after.config):
        say(
            "checks.require, or a setting of what it names, has changed: answers that are there keep their verdicts"
            f" until `harvest verify {after.name}` judges them by it"
        )
