"""The run that a training or an evaluation belongs to, and the one place where finetune writes to its store."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.note import began_with_of, note_of
from harvest.core.config import DEFAULT_STORE, runs_folder
from harvest.core.errors import InputError, StoreUnusable
from harvest.endpoint import Prompt
from harvest.endpoint import prompt as prompts
from harvest.local import MODELS

if TYPE_CHECKING:
    from harvest.store import Store

WAIT_S = 60.0
"""How long to wait for a store that another process writes to: what is to be kept took longer to make."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run by its name, in the store at `url`. The store is opened for each of these calls alone."""

    name: str
    url: str

    def check(self) -> None:
        """Raises StoreUnusable where the store or the run in it is not there. Makes nothing."""
        from harvest.store import Store

        with Store.open(self.url, write=False) as store:
            store.run_id(self.name)

    def trainings(self) -> list[dict[str, Any]]:
        """The training blocks of its report."""
        from harvest.store import Store

        with Store.open(self.url, write=False) as store:
            found: list[dict[str, Any]] = store.figures(store.run_id(self.name))["training"]
            return found

    def put_training(self, key: str, block: Mapping[str, Any], points: Sequence[Mapping[str, Any]] = ()) -> None:
        with self._writing() as store:
            store.put_training_points(self.name, key, [dict(p) for p in points])
            store.put_training(self.name, key, dict(block))

    def put_points(self, key: str, points: Sequence[Mapping[str, Any]], since: int | None = None) -> bool:
        """Logged steps of a training; whether they are in. Waits for nobody: they are in the training's folder too."""
        from harvest.store import Store, is_being_written

        if is_being_written(self.url):
            return False
        try:
            with Store.open(self.url) as store:
                store.put_training_points(self.name, key, [dict(p) for p in points], since)
        except StoreUnusable:
            return False
        return True

    def put(self, key: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """An evaluation's settings, and answers more of it."""
        with self._writing() as store:
            store.put_evaluation(self.name, key, dict(settings))
            store.put_evaluation_answers(self.name, key, [dict(r) for r in rows])

    def _writing(self) -> "Store":
        """The store, once whoever else is writing to it lets it go; raises StoreUnusable after WAIT_S."""
        from harvest.store import Store, is_being_written

        until = time.monotonic() + WAIT_S
        if is_being_written(self.url):
            sys.stderr.write(f"waiting up to {WAIT_S:.0f} s for {self.url}: another process is writing to it\n")
            while is_being_written(self.url) and time.monotonic() < until:
                time.sleep(0.2)
        return Store.open(self.url)

    def answers(self, key: str) -> list[dict[str, Any]]:
        from harvest.store import Store

        with Store.open(self.url, write=False) as store:
            return store.evaluation_answers(self.name, key)

    def settings(self, key: str) -> dict[str, Any]:
        """An evaluation's settings, {} where there is none."""
        from harvest.store import Store

        with Store.open(self.url, write=False) as store:
            return store.evaluation_settings(self.name, key)

    def mean_output_tokens(self) -> float | None:
        """Of its accepted traces."""
        from harvest.store import Store

        with Store.open(self.url, write=False) as store:
            found: float | None = store.figures(store.run_id(self.name))["mean_output_tokens"]
            return found

    def evaluations(self) -> list[dict[str, Any]]:
        """All of them: key, settings, and answers without their texts."""
        from harvest.store import Store

        with Store.open(self.url, write=False) as store:
            found: list[dict[str, Any]] = store.figures(store.run_id(self.name))["evaluation"]
            return found

    def label_befores(self, output: Path) -> None:
        """What the student in `output` began with may have been measured before anybody knew that it would be."""
        began_with = began_with_of(output)
        for e in self.evaluations() if began_with else ():
            s = e["settings"]
            if s.get("label") is None and s.get("engine", {}).get("weights") == began_with:
                self.put(e["key"], s | {"label": "before"}, [])


def find_run(run: str | Path, store: str | None = None) -> Run:
    """A run by name or folder. Raises InputError where there is no such run."""
    folder = next((f for f in (Path(run), runs_folder() / run) if (f / "config.json").is_file()), None)
    if folder is None:
        if store is None or "/" in str(run):
            raise InputError(f"{run}: no such run (looked for config.json in it and in {runs_folder() / run})")
        return Run(str(run), store)
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as e:
        raise InputError(f"{folder / 'config.json'}: cannot be read: {e}") from None
    return Run(config.get("name") or folder.name, store or config.get("store") or DEFAULT_STORE)


def trained_on(output: Path) -> Run | None:
    """The run that a trained folder came from, as `finetune sft` noted it, else None."""
    noted = note_of(output).get("run")
    return Run(noted["name"], noted["store"]) if noted else None


def label_of(student: str, run: Run | None) -> str | None:
    """ "before" for what a training of `run` began with or an untrained entry of the model table, "after" for
    what finetune trained; None where it is neither, since a gain over it would be no gain of the training."""
    place = Path(student).resolve()
    trainings = run.trainings() if run is not None else []
    if any(place == Path(t["output"]).resolve() for t in trainings):
        return "after"
    if any(student == t["student"] or place == Path(t["student"]).resolve() for t in trainings):
        return "before"
    if note_of(place):
        return "after"
    table = {n.casefold() for m in MODELS for n in (m.name, *m.aliases)}
    return "before" if student.casefold() in table else None


def prompt_of(run: Run | None) -> Prompt:
    """The prompt that the run's teacher was asked with, so that the student is asked alike; else `boxed`."""
    config: dict[str, Any] = {}
    if run is not None:
        try:
            config = json.loads((runs_folder() / run.name / "config.json").read_text("utf-8"))
        except (OSError, ValueError):
            config = {}
    if text := config.get("prompt_text"):
        return prompts.parse(text, Path(config["prompt"]).stem, "the run's prompt")
    return prompts.load("boxed")
