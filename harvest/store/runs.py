"""Reads and writes runs, their sessions and their events. A run's settings are checked once, when they are read."""

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
from harvest.store.databases.database import without_password
from harvest.store.databases.postgresql import Server
from harvest.store.leases import WITHOUT_LEASE

NOBODY_ASKED = {
    "imported": True,
    "teacher": dict.fromkeys(("model", "local", "base_url", "revision", "terms")),
    "sampling": dict.fromkeys(("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "reasoning_effort"))
    | {"extra": {}},
    "budget": {"usd": None},
}
"""The settings of a run of imported answers that are stored for those that nobody knows."""


FROM_PUBLIC = "from_public"
"""The key in a run's stored settings that says that its answers are from public sets."""
UNDER_SELECT = "under_select"
"""The key in a run's stored settings that maps each setting which `harvest select` changed to the value under it: the
one that RUN.toml gave. `collect` keeps such a setting until RUN.toml gives it another value."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """Holds one run of the store.

    Settings that an older winnow did not write have their defaults. Settings that no longer exist are left out.
    """

    id: int
    name: str
    config: RunConfig
    """The run's settings. If the run is `imported` or was made only for evaluations, it asks nobody: `teacher` is
    empty, and `sampling` has its defaults."""
    imported: bool
    """Whether the run's answers were bought elsewhere and imported. Such a run asks nobody."""
    from_public: bool
    """Whether all of the run's answers are imported from public sets."""
    has_teacher: bool
    prompt_text: str
    """The whole text of the prompt file, as it was when the run was written."""
    prompt_sha256: str
    endpoints: Mapping[int, str]
    """Maps STUDENT and the index of each teacher to an address, or to the checksum of local weights."""
    base: Path
    """The folder of RUN.toml. Paths in the settings are relative to it."""
    price_source: str
    settings: Mapping[str, Any]
    """The run's settings as JSON values, as they are in the store and in the run's config.json."""


def read_run(run_id: int, name: str, text: str) -> StoredRun:
    """Returns the run that a stored JSON text describes. Raises StoreUnusable when the settings cannot be read."""
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
        from_public=imported and bool(settings.get(FROM_PUBLIC)),
        has_teacher=has_teacher and not imported,
        prompt_text=settings.get("prompt_text") or "",
        prompt_sha256=settings.get("prompt_sha256") or "",
        endpoints={place: s["endpoint"] for place, s in _sections(settings).items() if s.get("endpoint")},
        base=Path(settings.get("base") or "."),
        price_source=settings.get("price_source") or "none",
        settings=settings,
    )


def _config(settings: Mapping[str, Any], name: str, *, asked: bool) -> RunConfig:
    """Returns the stored settings as RunConfig, which was made to read RUN.toml.

    Stored settings differ from RUN.toml. They have `teacher` beside `teachers`; the student's sampling has settings
    that RUN.toml may not have there; and `select` holds its preset's settings, so no preset is read again.
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


def stored_settings(
    config: RunConfig, *, prompt_text: str, prompt_sha256: str, endpoints: Mapping[int, str], base: Path,
    price_source: str, price_list: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Returns a run's settings as JSON, for the store and for config.json. `read_run` reads them back.

    `endpoints` is as in StoredRun. It is empty if the answers are imported. Nobody knows how imported answers were
    asked for, so the settings of the teacher and of sampling are then stored as unknown (NOBODY_ASKED), whatever
    `config` says. `price_list` names the list of prices that was used; None: there was none.
    """
    settings = config.model_dump(mode="json") | {"store": without_password(config.store)}
    beside = {"prompt_sha256": prompt_sha256, "prompt_text": prompt_text, "base": str(base.absolute())}
    beside["price_source"] = price_source
    if price_list is not None:
        beside["price_list"] = price_list
    if not endpoints:
        known = {name: settings[name] for name in ("name", "questions", "prompt", "store", "checks")}
        return known | NOBODY_ASKED | beside
    settings |= beside | {"endpoint": endpoints[0]}
    for place, section in _sections(settings).items():
        section["endpoint"] = endpoints[place]
    return settings


def _sections(settings: Mapping[str, Any]) -> dict[int, Any]:
    """Maps STUDENT and the index of each teacher to the stored settings of this one."""
    sections = dict(enumerate(settings.get("teachers") or [settings]))
    if settings.get("student"):
        sections[STUDENT] = settings["student"]
    return sections


class Runs(Attempts):
    """The SQL statements on runs, their sessions and their events."""

    def run_id(self, name: str) -> int:
        """Returns the id of the run with this name. Raises StoreUnusable when there is no run of that name."""
        row = self._row("SELECT id FROM run WHERE name = ?", name)
        if row is None:
            known = [r["name"] for r in self.db.execute("SELECT name FROM run ORDER BY id DESC LIMIT 10")]
            raise StoreUnusable(f"no run {name!r} in {self.words}; there are {', '.join(known) or 'none'}")
        return int(row["id"])

    def run_names(self) -> list[str]:
        """Returns the names of all runs that have an attempt, the newest run first."""
        rows = self.db.execute(
            "SELECT name FROM run WHERE EXISTS (SELECT 1 FROM attempt WHERE run_id = run.id) ORDER BY id DESC"
        )
        return [r["name"] for r in rows]

    def run(self, run: str | int) -> StoredRun:
        """Returns the run with this name or id. Raises StoreUnusable when there is no run of that name."""
        run_id = self.run_id(run) if isinstance(run, str) else run
        return read_run(*self.db.execute("SELECT id, name, config FROM run WHERE id = ?", (run_id,)).fetchone())

    def find_run(self, name: str) -> StoredRun | None:
        """Returns the run with this name; None if there is none."""
        row = self._row("SELECT id, name, config FROM run WHERE name = ?", name)
        return None if row is None else read_run(*row)

    def put_run(
        self, name: str, config: dict[str, Any], cap_pusd: int | None, now: str, under: str | None = None
    ) -> int:
        """Writes a run, or gives the run of this name these settings and this cap. `under` names another run, under
        whose cap this run spends too. Returns its id."""
        self.db.execute(
            "INSERT INTO run (name, config, cap, created_at, under) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET config = excluded.config, cap = excluded.cap, under = excluded.under",
            (name, json.dumps(config, ensure_ascii=False), cap_pusd, now, under),
        )
        return self.run_id(name)

    def put_settings(self, run_id: int, config: Mapping[str, Any]) -> None:
        """Gives a run new settings. Settings that a teacher sees must be the same as before."""
        self.db.execute("UPDATE run SET config = ? WHERE id = ?", (json.dumps(config, ensure_ascii=False), run_id))

    def run_began(self, run_id: int) -> str:
        """Returns when the run was made."""
        return str(self._one("SELECT created_at FROM run WHERE id = ?", run_id))

    def begin_session(self, run_id: int, now: str) -> int:
        """Notes the start of a session (of `collect` or `import`). Returns its id.

        Tries that an earlier session sent and did not settle are ended first (`hold_unsettled`).
        """
        self.hold_unsettled(run_id, now)
        self._end_sessions(run_id)
        self.session_id = self._insert("INSERT INTO session (run_id, started_at) VALUES (?, ?)", run_id, now)
        if isinstance(self.db, Server) and self.shares:
            self.db.hold(f"session {self.session_id}")
            self.begin_lease(run_id)
        return self.session_id

    def _end_sessions(self, run_id: int) -> None:
        """Notes of the sessions that are over and did not say so when their last try was sent or ended."""
        theirs = WITHOUT_LEASE.format("session.id") if self.db.is_server else ""
        self.db.execute(
            "UPDATE session SET status = 'interrupted', ended_at = coalesce("  # noqa: S608 - ours
            " (SELECT max(at) FROM (SELECT max(sent_at) AS at FROM try"
            "   WHERE try.run_id = session.run_id AND sent_at >= session.started_at UNION ALL SELECT max(ended_at)"
            "   FROM try WHERE try.run_id = session.run_id AND sent_at >= session.started_at) AS moments), started_at)"
            f" WHERE run_id = ? AND ended_at IS NULL {theirs}",
            (run_id,),
        )

    def end_dead(self, run_id: int, now: str) -> None:
        """Ends the sessions of processes whose lease has run out: what they had in flight is in doubt, and their
        questions are free."""
        self.hold_unsettled(run_id, now)
        self._end_sessions(run_id)

    def leave(self, run_id: int, now: str) -> bool:
        """Ends this session's lease, and holds what it has in flight in doubt. Returns whether no other process
        collects the run now."""
        self.end_leases(run_id, mine=True)
        self.hold_unsettled(run_id, now)
        return not self.others_alive(run_id)

    def end_session(
        self, session_id: int, status: str, peak_in_flight: int, limited_by: str, now: str,
        stopped_by: str | None = None,
    ) -> None:  # fmt: skip
        self.db.execute(
            "UPDATE session SET ended_at = ?, status = ?, peak_in_flight = ?, limited_by = ?, stopped_by = ?"
            " WHERE id = ?",
            (now, status, peak_in_flight, limited_by, stopped_by, session_id),
        )

    def add_event(self, run_id: int, kind: str, data: dict[str, Any], now: str) -> None:
        self.db.execute(
            "INSERT INTO event (run_id, at, kind, data) VALUES (?, ?, ?, ?)",
            (run_id, now, kind, json.dumps(data, ensure_ascii=False)),
        )

    def events(self, run_id: int, kind: str) -> list[dict[str, Any]]:
        """Returns the data of a run's events of one kind, the oldest first."""
        rows = self.db.execute("SELECT data FROM event WHERE run_id = ? AND kind = ? ORDER BY id", (run_id, kind))
        return [json.loads(r["data"]) for r in rows]
