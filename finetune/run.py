"""The run that a training or an evaluation belongs to, and the one place where finetune reads and writes a store."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.note import began_with_of, note_of
from finetune.student import find, identity
from harvest.core.clock import now
from harvest.core.errors import StoreUnusable
from harvest.core.files import runs_folder
from harvest.endpoint import Prompt
from harvest.endpoint import prompt as prompts
from harvest.local import MODELS
from harvest.report.run_report import run_report
from harvest.store import Store, StoredRun, is_being_written

WAIT_S = 60.0
"""How long to wait for a store that another process is writing to, rather than lose what took longer to make."""
STANDALONE = "evaluations"
"""The name of the run in which evaluations are kept that belong to no run."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run by its name, in the store at `url`. Each method opens the store and closes it again.

    All of them raise StoreUnusable where the store cannot be used or the run is not in it.
    """

    name: str
    url: str

    def check(self) -> None:
        """Raises StoreUnusable where the store or the run in it is not there. Makes nothing."""
        with self._reading() as store:
            store.run_id(self.name)

    def stored(self) -> StoredRun:
        """The run with its settings."""
        with self._reading() as store:
            return store.run(self.name)

    def trainings(self) -> list[dict[str, Any]]:
        """The entries of its trainings in the report."""
        with self._reading() as store:
            return store.trainings(store.run_id(self.name))

    def put_training(self, key: str, block: Mapping[str, Any], points: Sequence[Mapping[str, Any]] = ()) -> None:
        """Writes a finished training: its entry in the report, and the points of its loss curve."""
        with self._writing() as store:
            store.put_training_points(self.name, key, [dict(p) for p in points])
            store.put_training(self.name, key, dict(block))

    def put_points(self, key: str, points: Sequence[Mapping[str, Any]], since: int | None = None) -> bool:
        """Writes logged steps of a training that runs; False where another process is writing to the store.

        It does not wait, since the points are in the training's folder too.
        """
        if is_being_written(self.url):
            return False
        try:
            with Store.open(self.url) as store:
                store.put_training_points(self.name, key, [dict(p) for p in points], since)
        except StoreUnusable:
            return False
        return True

    def put(self, key: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes an evaluation's settings, and more of its answers."""
        with self._writing() as store:
            store.put_evaluation(self.name, key, dict(settings))
            store.put_evaluation_answers(self.name, key, [dict(r) for r in rows])

    def answers(self, key: str) -> list[dict[str, Any]]:
        """The answers of an evaluation, with their texts."""
        with self._reading() as store:
            return store.evaluation_answers(self.name, key)

    def settings(self, key: str) -> dict[str, Any]:
        """An evaluation's settings, {} where there is no such evaluation."""
        with self._reading() as store:
            return store.evaluation_settings(self.name, key)

    def evaluations(self) -> list[dict[str, Any]]:
        """All of its evaluations: key, settings, and answers without their texts."""
        with self._reading() as store:
            return store.evaluations(store.run_id(self.name))

    def mean_output_tokens(self) -> float | None:
        """How many tokens its accepted traces have on average."""
        with self._reading() as store:
            found: float | None = store.figures(store.run_id(self.name)).mean_output_tokens
            return found

    def report(self) -> dict[str, Any] | None:
        """The run's report, None where its store cannot be read."""
        try:
            with self._reading() as store:
                return run_report(store.figures(store.run_id(self.name)), live=is_being_written(self.url))
        except StoreUnusable:
            return None

    def label_befores(self, output: Path) -> None:
        """Labels the evaluations of what the student in `output` began with, which were made before its training."""
        began_with = began_with_of(output)
        for e in self.evaluations() if began_with else ():
            s = e["settings"]
            if s.get("label") is None and s.get("engine", {}).get("weights") == began_with:
                self.put(e["key"], s | {"label": "before"}, [])

    def _reading(self) -> Store:
        return Store.open(self.url, write=False)

    def _writing(self) -> Store:
        """The store, once no other process is writing to it. Raises StoreUnusable after WAIT_S."""
        until = time.monotonic() + WAIT_S
        if is_being_written(self.url):
            sys.stderr.write(f"waiting up to {WAIT_S:.0f} s for {self.url}: another process is writing to it\n")
            while is_being_written(self.url) and time.monotonic() < until:
                time.sleep(0.2)
        return Store.open(self.url)


def trained_on(folder: Path) -> Run | None:
    """The run that a trained folder came from, as `finetune sft` noted it, else None."""
    noted = note_of(folder).get("run")
    return Run(noted["name"], noted["store"]) if noted else None


def standalone() -> Run:
    """Where evaluations are kept that belong to no run: a store of their own, which no `collect` is writing to.

    It is made where it is not there.
    """
    run = Run(STANDALONE, f"sqlite:///{_standalone_store().absolute()}")
    with run._writing() as store:
        if store.find_run(run.name) is None:
            store.put_run(run.name, {}, None, now())
    return run


def _standalone_store() -> Path:
    return runs_folder() / ".evaluations.db"


def standalone_evaluations(folder: Path) -> list[dict[str, Any]]:
    """Evaluations of a trained folder that belongs to no run: those of what it began with, then its own.

    [] where finetune did not train it.
    """
    if not note_of(folder).get("training") or not _standalone_store().is_file():
        return []
    evaluations = standalone().evaluations()
    weights = {"before": began_with_of(folder), "after": identity(find(str(folder)))}
    return [
        {**e, "settings": e["settings"] | {"label": label}}
        for label, of in weights.items()
        for e in evaluations
        if of is not None and e["settings"].get("engine", {}).get("weights") == of
    ]


def label_of(student: str, run: Run | None) -> str | None:
    """The label of an evaluation of `student`, which may be a folder or a name.

    "before" for what a training of `run` began with and for an untrained entry of the model table, "after" for what
    finetune trained. None for any other: a gain over it would be no gain of the training.
    """
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
    """The prompt of the run, so that the student is asked like its teacher was; without a run `boxed`."""
    stored = run.stored() if run is not None else None
    if stored is not None and stored.prompt_text:
        return prompts.parse(stored.prompt_text, Path(stored.config.prompt).stem, "the run's prompt")
    return prompts.load("boxed")
