"""Says which settings of an existing run may change: all that neither a teacher nor the student can see in a
request."""

import json
from collections.abc import Mapping
from typing import Any

from harvest.core.config import RunConfig, teachers_of
from harvest.core.errors import ConfigError
from harvest.core.teachers import FROM_ENVIRONMENT, SEEN_BY_NOBODY
from harvest.store import UNDER_SELECT, StoredRun

FREE_TO_CHANGE = {
    "store", "budget", "checks", "judge", "filters", "rewrite", "select", "export", "plan", "questions",
    "questions_columns", "reuse",
}  # fmt: skip
"""Settings that may change, since no teacher sees them. (If a question changed, its content shows it.)"""
FREE_TO_CHANGE_OF_ONE = {
    "max_concurrency", "timeout_s", "outage_wait_s", "stream", "idle_timeout_s", "stop_repeating", "price_usd_per_mtok",
    "terms", "api_key_env", "api_key_command", "azure_api_version", "thinking_tokens", "samples", "solved_after",
    "keep_solved", "free", "replicas", "mode", "batch_discount", "batch_rows", "batch_poll_s",
    *(f"sampling.{name}" for name in SEEN_BY_NOBODY),
}  # fmt: skip
"""Settings of a teacher or of the student that may change."""
COMPARED_APART = {"teacher", "teachers", "sampling", "endpoint", "student"}
"""Settings that are compared for each teacher, and for the student, alone."""
NO_SETTINGS = {UNDER_SELECT, "base", "price_list", "price_source", "prompt_text"}
"""Values that are stored with the settings and are no settings themselves."""


def keep_selected(config: RunConfig, before: StoredRun) -> tuple[RunConfig, dict[str, Any]]:
    """Returns (the settings with those in place that `harvest select` gave the run, the value under each of them).

    A setting that RUN.toml has changed since then is RUN.toml's.
    """
    under: dict[str, Any] = before.settings.get(UNDER_SELECT) or {}
    now = config.model_dump(mode="json", include={"filters", "rewrite", "select"})
    kept: dict[str, Any] = {}
    for name, old in under.items():
        section, _, key = name.partition(".")
        if now[section].get(key) == old:
            kept[name] = old
            given = getattr(getattr(before.config, section), key)
            config = config.model_copy(update={section: getattr(config, section).model_copy(update={key: given})})
    return config, kept


def refuse_changes(name: str, before: Mapping[str, Any], after: Mapping[str, Any], *, answered: bool) -> None:
    """Raises ConfigError when a teacher or the student would see a setting changed. The error names each such setting.

    Teachers may be added after the existing ones, since a new teacher sees nothing of what was asked before. No teacher
    may be removed, since its stored answers would belong to no teacher then. A student may be added and removed. Where
    nothing is `answered` yet, `max_tokens` may change, since an endpoint may have refused it in every request.
    """
    changes = [
        (key, old, new)
        for key, old, new in _differences(before, after)
        if key.split(".")[0] not in FREE_TO_CHANGE | COMPARED_APART | NO_SETTINGS
    ]
    were, are = teachers_of(before), teachers_of(after)
    alone = len(were) == len(are) == 1
    for n, (old, new) in enumerate(zip(were, are, strict=False)):
        prefix = "teacher." if alone else f"teachers.{n}."
        for key, was, is_now in _seen_by_one(old, new):
            changes.append((key if alone and key.startswith("sampling.") else prefix + key, was, is_now))
    if len(are) < len(were):
        changes.append(("teachers", len(were), len(are)))
    if before.get("student") and after.get("student"):
        changes += [(f"student.{key}", *rest) for key, *rest in _seen_by_one(before["student"], after["student"])]
    if not answered:
        changes = [change for change in changes if not change[0].endswith("sampling.max_tokens")]
    if changes:
        lines = [f"{key}: {_short(old)} before, {_short(new)} now" for key, old, new in changes]
        raise ConfigError(
            f"run {name!r} is there already and asked something else; give this one another name, or change back:\n  "
            + "\n  ".join(lines)
        )


def _seen_by_one(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns (setting, its value before, its value now) for each change that one teacher, or the student, would
    see."""
    free = FREE_TO_CHANGE_OF_ONE
    before, after = ({**one, "headers": _literal(one.get("headers"))} for one in (before, after))
    return [d for d in _differences(before, after) if d[0] not in free and d[0].split(".")[0] not in free]


def _literal(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Returns the headers that a teacher sees, without those whose values are secret: a key may be renewed."""
    return {k.lower(): v for k, v in (headers or {}).items() if not v.startswith(FROM_ENVIRONMENT)}


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{prefix}{key}.")
        else:
            found.append((prefix + key, old, new))
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 80 else text[:77] + "…"
