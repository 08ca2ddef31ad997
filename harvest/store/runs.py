"""A run as the store has it: its settings, checked once when they are read, and what was written beside them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harvest.core.config import RunConfig
from harvest.core.errors import StoreUnusable
from harvest.core.nouns import STUDENT
from harvest.core.settings import faults_of
from harvest.core.teachers import NOT_THE_STUDENTS, Teacher
from harvest.store.attempts import Attempts


@dataclass(frozen=True, slots=True)
class StoredRun:
    """One run of the store.

    An older winnow knew fewer sections and settings: those that it did not write have their defaults here, and
    settings that exist no longer are left out.
    """

    id: int
    name: str
    config: RunConfig
    """Its settings. Where nobody was asked (`imported`, or a run made for evaluations alone) `teacher` is empty and
    `sampling` has its defaults: nobody knows how the answers were made."""
    imported: bool
    """Its answers were bought elsewhere and imported. Such a run asks nobody."""
    has_teacher: bool
    prompt_text: str
    """The whole text of the prompt file, as it was when the run was written."""
    prompt_sha256: str
    endpoints: Mapping[int, str]
    """Who answers, by the place in the run (STUDENT, 0, 1, …): an address, or the checksum of local weights."""
    base: Path
    """The folder of RUN.toml: the paths in the settings are relative to it."""
    price_source: str
    settings: Mapping[str, Any]
    """All of the above as JSON, as it is stored and as the run's config.json has it."""


def read_run(run_id: int, name: str, text: str) -> StoredRun:
    """A run from the JSON text that is stored for it. Raises StoreUnusable where its settings cannot be read."""
    settings: dict[str, Any] = json.loads(text)
    imported, has_teacher = bool(settings.get("imported")), bool(settings.get("teacher"))
    try:
        config = _config(settings, name, asked=has_teacher and not imported)
    except ValidationError as e:
        faults = "; ".join(faults_of(e, RunConfig))
        raise StoreUnusable(f"run {name!r}: its stored settings cannot be read by this winnow: {faults}") from None
    return StoredRun(
        id=run_id,
        name=name,
        config=config,
        imported=imported,
        has_teacher=has_teacher and not imported,
        prompt_text=settings.get("prompt_text") or "",
        prompt_sha256=settings.get("prompt_sha256") or "",
        endpoints=_endpoints(settings),
        base=Path(settings.get("base") or "."),
        price_source=settings.get("price_source") or "none",
        settings=settings,
    )


def _config(settings: Mapping[str, Any], name: str, *, asked: bool) -> RunConfig:
    """The settings as RunConfig, which was made to read RUN.toml.

    Stored settings differ from RUN.toml: `teacher` stands beside `teachers`, the student's sampling has the settings
    that RUN.toml may not write there, and `select` has all that its preset said, so no preset is read again.
    """
    data = {"questions": (), **settings, "name": name}
    data.pop("teacher" if data.get("teachers") else "teachers", None)
    if student := data.get("student"):
        sampling = {k: v for k, v in student["sampling"].items() if k not in NOT_THE_STUDENTS}
        data["student"] = {**student, "sampling": sampling}
    select = dict(data.get("select") or {})
    preset = select.pop("preset", None)
    data["select"] = select
    if not asked:
        data |= {"teacher": {"local": "none"}, "sampling": {}}
    config = RunConfig.model_validate({k: v for k, v in data.items() if v is not None}, extra="ignore")
    if not asked:
        config = config.model_copy(update={"teacher": Teacher.model_construct()})
    return config.model_copy(update={"select": config.select.model_copy(update={"preset": preset})})


def _endpoints(settings: Mapping[str, Any]) -> dict[int, str]:
    sections = dict(enumerate(settings.get("teachers") or [settings]))
    if settings.get("student"):
        sections[STUDENT] = settings["student"]
    return {place: section["endpoint"] for place, section in sections.items() if section.get("endpoint")}


class Runs(Attempts):
    """Statements on runs, their sessions and their events."""

    def run_id(self, name: str) -> int:
        """A run's id by its name. Raises StoreUnusable where there is no run of that name."""
        row = self.db.execute("SELECT id FROM run WHERE name = ?", (name,)).fetchone()
        if row is None:
            known = [r["name"] for r in self.db.execute("SELECT name FROM run ORDER BY id DESC LIMIT 10")]
            raise StoreUnusable(f"no run {name!r} in {self.path}; there are {', '.join(known) or 'none'}")
        return int(row["id"])

    def run(self, run: str | int) -> StoredRun:
        """A run by its name or its id. Raises StoreUnusable where there is none of that name."""
        run_id = self.run_id(run) if isinstance(run, str) else run
        row = self.db.execute("SELECT id, name, config FROM run WHERE id = ?", (run_id,)).fetchone()
        return read_run(row["id"], row["name"], row["config"])

    def find_run(self, name: str) -> StoredRun | None:
        """A run by its name; None where there is none."""
        row = self.db.execute("SELECT id, name, config FROM run WHERE name = ?", (name,)).fetchone()
        return None if row is None else read_run(row["id"], row["name"], row["config"])

    def config_of(self, name: str) -> dict[str, Any] | None:
        """A run's settings as JSON. Prefer `find_run`."""
        row = self.db.execute("SELECT config FROM run WHERE name = ?", (name,)).fetchone()
        return json.loads(row["config"]) if row else None

    def put_run(self, name: str, config: dict[str, Any], cap_pusd: int | None, now: str) -> int:
        """Writes a run, or gives one of that name these settings and this cap. Returns its id."""
        self.db.execute(
            "INSERT INTO run (name, config, cap, created_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET config = excluded.config, cap = excluded.cap",
            (name, json.dumps(config, ensure_ascii=False), cap_pusd, now),
        )
        return self.run_id(name)

    def put_settings(self, run_id: int, config: Mapping[str, Any]) -> None:
        """Gives a run new settings. None of them may be one that a teacher sees."""
        self.db.execute("UPDATE run SET config = ? WHERE id = ?", (json.dumps(config, ensure_ascii=False), run_id))

    def run_began(self, run_id: int) -> str:
        """When the run was made."""
        return str(self._one("SELECT created_at FROM run WHERE id = ?", run_id))

    def begin_session(self, run_id: int, now: str) -> int:
        """Begins a start of `collect` or `import`. Returns its id.

        What an earlier start had sent and did not settle is held in doubt from now on.
        """
        self.hold_unsettled(run_id, now)
        self.db.execute(
            "UPDATE session SET status = 'interrupted', ended_at = coalesce("
            " (SELECT max(max(sent_at), coalesce(max(ended_at), '')) FROM try WHERE try.run_id = session.run_id"
            "  AND sent_at >= session.started_at), started_at) WHERE run_id = ? AND ended_at IS NULL",
            (run_id,),
        )
        return self._insert("INSERT INTO session (run_id, started_at) VALUES (?, ?)", run_id, now)

    def end_session(self, session_id: int, status: str, peak_in_flight: int, limited_by: str, now: str) -> None:
        self.db.execute(
            "UPDATE session SET ended_at = ?, status = ?, peak_in_flight = ?, limited_by = ? WHERE id = ?",
            (now, status, peak_in_flight, limited_by, session_id),
        )

    def add_event(self, run_id: int, kind: str, data: dict[str, Any], now: str) -> None:
        self.db.execute(
            "INSERT INTO event (run_id, at, kind, data) VALUES (?, ?, ?, ?)",
            (run_id, now, kind, json.dumps(data, ensure_ascii=False)),
        )

    def events(self, run_id: int, kind: str) -> list[dict[str, Any]]:
        """The data of a run's events of one kind, the oldest first."""
        rows = self.db.execute("SELECT data FROM event WHERE run_id = ? AND kind = ? ORDER BY id", (run_id, kind))
        return [json.loads(r["data"]) for r in rows]
