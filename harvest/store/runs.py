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
