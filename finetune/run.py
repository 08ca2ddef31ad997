"""The run that a training or an evaluation belongs to, and the one place where finetune writes to its store."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harvest import prompt as prompts
from harvest.config import DEFAULT_STORE, runs_folder
from harvest.errors import InputError
from harvest.prompt import Prompt


@dataclass(frozen=True, slots=True)
class Run:
    """A run by its name, in the store at `url`. The store is opened for each of these calls alone."""

    name: str
    url: str

    def put_training(self, key: str, block: Mapping[str, Any]) -> None:
        from harvest.store import Store

        with Store.open(self.url) as store:
            store.put_training(self.name, key, dict(block))

    def put_evaluation(self, key: str, settings: Mapping[str, Any]) -> None:
        from harvest.store import Store

        with Store.open(self.url) as store:
            store.put_evaluation(self.name, key, dict(settings))

    def put_answers(self, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        from harvest.store import Store

        with Store.open(self.url) as store:
            store.put_evaluation_answers(self.name, key, [dict(r) for r in rows])

    def answers(self, key: str) -> list[dict[str, Any]]:
        from harvest.store import Store

        with Store.open(self.url, write=False) as store:
            return store.evaluation_answers(self.name, key)


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
    try:
        noted = json.loads((output / "winnow.json").read_text("utf-8")).get("run")
    except (OSError, ValueError):
        return None
    return Run(noted["name"], noted["store"]) if noted else None


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
