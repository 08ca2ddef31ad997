"""The settings that selection uses, and how the command line changes them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harvest.core.config import Filters, Rewrite, Select
from harvest.core.errors import ConfigError
from harvest.core.settings import Section, override, parse_value, validated
from harvest.questions.sources import GYM
from harvest.store import StoredRun


class SelectionSettings(Section):
    """The sections of a run's settings that `harvest select` uses and may change."""

    select: Select = Select()
    filters: Filters = Filters()
    rewrite: Rewrite = Rewrite()


def changed_run(run: StoredRun, overrides: Sequence[tuple[str, str]], preset: str | None) -> StoredRun:
    """The run with `--select.key value` (and settings of [filters] and [rewrite]) put over its settings.

    A preset replaces all of [select] but `against`, to which it may add evaluations. Nothing is stored. Raises
    ConfigError with a line for each fault.
    """
    changed = changed_settings(run.settings, overrides, preset)
    config = run.config.model_copy(update={name: getattr(changed, name) for name in SelectionSettings.model_fields})
    return replace(run, config=config, settings={**run.settings, **changed.model_dump(mode="json")})


def changed_settings(
    before: Mapping[str, Any], overrides: Sequence[tuple[str, str]], preset: str | None
) -> SelectionSettings:
    """The changed sections, from those of before as they are stored, in JSON. Raises as `changed_run` does."""
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
    """[select] with the preset alone, and the evaluations of both: another preset must not let the questions of an
    evaluation in."""
    try:
        own = Select.model_validate({"preset": name}).against
    except ValidationError:
        return {"preset": name}  # refused together with the other faults
    return {"preset": name, "against": list(dict.fromkeys((*before.get("against", ()), *own)))}
