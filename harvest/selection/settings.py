"""Changes the settings of a selection as the command line says. harvest/core/config.py defines what each one means."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harvest.core.config import Filters, Rewrite, Select
from harvest.core.errors import ConfigError
from harvest.core.settings import Section, override, parse_value, validated
from harvest.questions.sources import GYM
from harvest.store import UNDER_SELECT, StoredRun


class SelectionSettings(Section):
    """The sections of a run's settings that `harvest select` uses and may change."""

    select: Select = Select()
    filters: Filters = Filters()
    rewrite: Rewrite = Rewrite()


def changed_run(run: StoredRun, overrides: Sequence[tuple[str, str]], preset: str | None) -> StoredRun:
    """Returns the run with the settings of the command line (`--select.key value`) put over its own.

    Settings of [select], [filters] and [rewrite] can be changed. A preset replaces all of [select] except `against`, to
    which a preset may add evaluations. Nothing is stored.
    Raises ConfigError, with a line for each fault, when a setting is wrong.
    """
    changed = changed_settings(run.settings, overrides, preset)
    config = run.config.model_copy(update={name: getattr(changed, name) for name in SelectionSettings.model_fields})
    sections = changed.model_dump(mode="json")
    under = dict(run.settings.get(UNDER_SELECT) or {})
    for section, settings in sections.items():
        before = run.settings.get(section) or {}
        for key, value in settings.items():
            if value != before.get(key, value):
                under.setdefault(f"{section}.{key}", before[key])
    under = {name: old for name, old in under.items() if _at(sections, name) != old}
    return replace(run, config=config, settings={**run.settings, **sections, UNDER_SELECT: under})


def _at(sections: Mapping[str, Any], name: str) -> Any:
    section, _, key = name.partition(".")
    return sections[section].get(key)


def changed_settings(
    before: Mapping[str, Any], overrides: Sequence[tuple[str, str]], preset: str | None
) -> SelectionSettings:
    """Returns the changed sections. `before` holds the stored settings, as JSON.

    Raises ConfigError, with a line for each fault, when a setting is wrong.
    """
    sections: dict[str, Any] = {name: dict(before.get(name) or {}) for name in SelectionSettings.model_fields}
    if preset is not None:
        sections["select"] = _under_preset(preset, sections["select"])
    for key, text in sorted(overrides, key=lambda o: o[0] != "select.preset"):  # the other settings go over the preset
        if key.partition(".")[0] not in sections:
            raise ConfigError(f"--{key}: select takes settings of [select], [filters] and [rewrite] alone")
        value = parse_value(text)
        if key == "select.preset":
            sections["select"] = _under_preset(value, sections["select"])
        elif key == "select.against":
            listed = value if isinstance(value, list) else [value]
            sections["select"]["against"] = [
                str(s) if str(s).startswith(GYM) else str(Path(str(s)).absolute()) for s in listed
            ]
        elif key == "select.difficulty" and not isinstance(value, list):
            sections["select"]["difficulty"] = [text]
        else:
            override(SelectionSettings, sections, [(key, text)])
    return validated(SelectionSettings, sections)


def _under_preset(name: Any, before: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a [select] with the preset's settings alone, except that `against` has the evaluations of `before` too,
    and `against_columns` is that of `before`.

    So a change of preset does not let the questions of an evaluation in.
    """
    try:
        own = Select.model_validate({"preset": name}).against
    except ValidationError:
        return {"preset": name}  # refused together with the other faults
    against = list(dict.fromkeys((*before.get("against", ()), *own)))
    return {"preset": name, "against": against, "against_columns": dict(before.get("against_columns") or {})}
