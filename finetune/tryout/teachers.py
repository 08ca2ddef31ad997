"""Reads a RUN.toml of several teachers: as a run that tries each of them, and as the run of the one that is chosen."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from harvest.core.config import RunConfig, load
from harvest.core.errors import ConfigError
from harvest.core.printable import one_line
from harvest.core.settings import override, read_toml, validated

SUFFIX = "-tryout"
"""What follows the run's name in the name of the run that tries its teachers."""
Settings = dict[str, Any]
"""The settings of a RUN.toml, as they stand in the file."""


def read_settings(path: Path, overrides: Sequence[tuple[str, str]]) -> tuple[Settings, RunConfig]:
    """Returns (the settings of a RUN.toml with those of the command line over them, the same as a checked model).

    Raises ConfigError when something is wrong with them, and when there are not several teachers.
    """
    config, data = load(path, overrides), read_toml(path)
    override(RunConfig, data, overrides)
    data["name"] = config.name
    if len(config.teachers) < 2:
        raise ConfigError(
            f"{path}: one teacher: write a [[teachers]] section for each that is to be compared. Two settings of one"
            " model, e.g. two temperatures, are two sections too"
        )
    return data, config


def trying_all(data: Settings) -> RunConfig:
    """Returns the settings of a run in which every teacher answers every question once.

    Prompt, limits and prices stay as they are, and so do the keys of the answers: a run of one of these teachers with
    the same store does not buy them again.
    """
    once = {"samples": 1, "stop_after_accepted": 1}
    changed = {k: v for k, v in data.items() if k not in ("student", "rewrite", "select")}
    changed["name"] = data["name"] + SUFFIX
    changed["plan"] = {"teachers": "all", "order": "file"}
    changed["sampling"] = {**data.get("sampling", {}), **once}
    changed["teachers"] = [{**t, "sampling": {**t.get("sampling", {}), **once}} for t in data["teachers"]]
    return validated(RunConfig, changed)


def labels(config: RunConfig) -> list[str]:
    """Returns a name for each teacher: its model, with the settings of sampling that tell it from others of the same
    model."""
    named = [one_line(t.local or t.model or "", 60) for t in config.teachers]
    sampled = [t.sampling.model_dump(mode="json") for t in config.teachers]
    found = []
    for name, own in zip(named, sampled, strict=True):
        like = [s for n, s in zip(named, sampled, strict=True) if n == name]
        differing = [key for key in own if any(s[key] != own[key] for s in like)]
        more = ", ".join(f"{key} = {one_line(json.dumps(own[key]), 40)}" for key in differing)
        found.append(f"{name} ({more})" if more else name)
    if len(set(found)) < len(found):
        found = [f"{n}: {name}" for n, name in enumerate(found)]
    return found


def slugs(config: RunConfig) -> list[str]:
    """Returns a part of a file's name for each teacher: its model, and its number where several have that model."""
    models = [re.sub(r"[^a-z0-9.]+", "-", (t.local or t.model or "").lower()).strip("-.")[:60] for t in config.teachers]
    return [f"{m or 'teacher'}-{n}" if models.count(m) > 1 or not m else m for n, m in enumerate(models)]


def settings_of_one(data: Settings, teacher: int, name: str, cap_usd: Decimal | None) -> Settings:
    """Returns the settings of a run that asks this teacher alone, under another name and cap. None: the cap stays."""
    chosen = dict(data["teachers"][teacher])
    found: Settings = {k: v for k, v in data.items() if k not in ("teachers", "sampling")}
    found |= {"name": name, "teacher": chosen}
    if sampling := {**data.get("sampling", {}), **chosen.pop("sampling", {})}:
        found["sampling"] = sampling
    if plan := {k: v for k, v in data.get("plan", {}).items() if k != "teachers"}:
        found["plan"] = plan
    else:
        found.pop("plan", None)
    if cap_usd is not None:
        found["budget"] = {**data.get("budget", {}), "usd": str(cap_usd)}
    return found


def written(folder: Path, name: str, why: Sequence[str], settings: Settings) -> Path:
    """Writes a RUN.toml that begins with the lines `why` as comments, and returns its path. No file is written over."""
    text = "".join(f"# {one_line(line, 400)}\n" for line in why) + "\n".join(toml(settings)) + "\n"
    for n in range(1, 1000):
        path = folder / (f"{name}.toml" if n == 1 else f"{name}-{n}.toml")
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            if path.read_text("utf-8") == text:
                return path
        except OSError as e:
            raise ConfigError(f"{path}: cannot be written: {e.strerror}") from None
        else:
            return path
    raise ConfigError(f"{folder / name}.toml: there are a thousand of them: remove some")


def toml(settings: Mapping[str, Any], table: str = "") -> Iterator[str]:
    """Gives the lines of a TOML file with these settings. Lists of tables stand inline."""
    tables = {k: v for k, v in settings.items() if isinstance(v, Mapping)}
    for key, value in settings.items():
        if key not in tables:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in tables.items():
        name = f"{table}.{_key(key)}" if table else _key(key)
        yield ""
        yield f"[{name}]"
        yield from toml(value, name)


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "a").replace("-", "a").isalnum() else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
