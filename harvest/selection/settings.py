"""The settings of a run that selection goes by, and changing them from the command line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harvest.core.config import Filters, Rewrite, Select
from harvest.core.errors import ConfigError
from harvest.core.settings import Section, override, parse_value, validated
from harvest.questions.sources import GYM


class SelectionSettings(Section):
    """The sections of a run's settings that selection goes by and may change."""

    select: Select = Select()
    filters: Filters = Filters()
    rewrite: Rewrite = Rewrite()


def changed_settings(
    config: Mapping[str, Any], overrides: Sequence[tuple[str, str]], preset: str | None
) -> dict[str, Any]:
    """A run's settings with `--select.key value` (and settings of [filters] and [rewrite]) put over them.

    With a preset, [select] has the preset's settings alone, but the evaluations that the run is compared with stay.
    Raises ConfigError with a line for each fault.
    """
    sections: dict[str, Any] = {name: dict(config.get(name) or {}) for name in SelectionSettings.model_fields}
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
    return {**config, **validated(SelectionSettings, sections).model_dump(mode="json")}


def _under_preset(name: Any, before: Mapping[str, Any]) -> dict[str, Any]:
    """[select] with the preset alone, and with the evaluations of before and of the preset: choosing another preset
    must not let the questions of an evaluation in."""
    try:
        own = Select.model_validate({"preset": name}).against
    except ValidationError:
        return {"preset": name}  # refused together with the other faults
    return {"preset": name, "against": list(dict.fromkeys((*before.get("against", ()), *own)))}
