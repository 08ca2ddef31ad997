"""A run: its traces one by one, as a dataset, as a table, and its report."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harvest.commands.export import write_dataset
from harvest.core.config import Export
from harvest.core.errors import InputError
from harvest.endpoint import prompt as prompts
from harvest.export.census import Census
from harvest.export.dataset_folder import export_settings
from harvest.export.rows import columns_of, rows
from harvest.report.headline import headline
from harvest.report.question_story import story_json
from harvest.store import Store

if TYPE_CHECKING:
    import datasets
    import pandas

Which = Literal["selected", "accepted", "all"]


@dataclass(frozen=True, slots=True)
class Trace:
    """One answer of a run. Four fields may be None: `reasoning`, `gold`, `reason` and `cost_usd`."""

    question_id: str
    question: str
    reasoning: str | None
    """The chain; None where the endpoint set none apart."""
    answer: str
    gold: str | None
    messages: tuple[Mapping[str, str], ...]
    """The conversation as a student is trained on it."""
    accepted: bool
    reason: str | None
    """The first thing that it failed; None if it is accepted."""
    selected: bool
    cost_usd: Decimal | None
    """None: nobody knows."""
    row: Mapping[str, Any]
    """All that is known of it, as an export has it (docs/export.md)."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Trace":
        """Makes a trace of a row of an export."""
        named = ("question_id", "question", "reasoning", "answer", "gold", "accepted", "reason", "selected")
        cost = row["cost_usd"]
        return cls(
            **{name: row[name] for name in named},
            messages=tuple(row["messages"]),
            cost_usd=None if cost is None else Decimal(cost),
            row=row,
        )


@dataclass(frozen=True)
class Run:
    """A run in its store. Looping over it gives its selected traces."""

    name: str
    store: str
    """The URL of the store."""
    folder: Path

    def __iter__(self) -> Iterator[Trace]:
        return self.traces()

    def __len__(self) -> int:
        return int(self.report["traces"]["selected"])

    def __repr__(self) -> str:
        return f"Run({self.name!r}: {headline(self.report)})"

    @property
    def report(self) -> dict[str, Any]:
        """Returns the content of report.json. Raises InputError when the run has none yet."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "report.json").read_text("utf-8"))
        except OSError:
            raise InputError(f"run {self.name!r} has no report yet: {self.folder / 'report.json'}") from None
        return found

    @property
    def is_complete(self) -> bool:
        """Whether every question has ended. Otherwise `collect` goes on, under a higher cap where it stopped at one."""
        return bool(self.report["run"]["status"] == "complete")

    def traces(self, which: Which = "selected") -> Iterator[Trace]:
        """Yields the traces: those that are trained on, all accepted answers, or every answer with its reason."""
        return (Trace.of(row) for row in self._rows(Export(which=which)))

    def dataset(self, which: Which = "selected", **export: Any) -> "datasets.Dataset":
        """Returns the traces as a dataset that TRL takes as it is.

        `export` are settings of [export]: `layout`, `reasoning`, `columns`, … (docs/export.md).
        """
        import datasets
        import pyarrow as pa

        from harvest.export.shards import schema_of

        settings = self._settings({"which": which, **export})
        found = list(self._rows(settings))
        return datasets.Dataset(pa.Table.from_pylist(found, schema=schema_of(columns_of(settings))))

    def frame(self, which: Which = "all") -> "pandas.DataFrame":
        """Returns the traces as a table of pandas, one row each; by default every answer with its reason."""
        found: pandas.DataFrame = self.dataset(which).to_pandas()
        return found

    def why(self, question_id: str) -> dict[str, Any]:
        """Returns what became of one question, attempt by attempt. Raises InputError when the run has no such one."""
        with Store.open(self.store, write=False) as store:
            story = store.story(store.run_id(self.name), question_id)
        if story is None:
            raise InputError(f"run {self.name!r} has no question {question_id!r}")
        return story_json(story)

    def export(self, to: str | Path, **export: Any) -> Path:
        """Writes the traces as a dataset's folder with a card, and returns it. `export` as in `dataset`."""
        settings = self._settings(export)
        with Store.open(self.store, write=False) as store:
            return write_dataset(store, self.name, self.report, Path(to), settings)[0]

    def _settings(self, given: Mapping[str, Any]) -> Export:
        with Store.open(self.store, write=False) as store:
            return export_settings(store.run(self.name), given)

    def _rows(self, settings: Export) -> Iterator[dict[str, Any]]:
        with Store.open(self.store, write=False) as store:
            run = store.run(self.name)
            prompt = prompts.parse(run.prompt_text, Path(run.config.prompt).stem, "the run's prompt")
            for exported in rows(store, run, prompt, settings, Census()):
                yield exported.row
