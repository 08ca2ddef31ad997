"""Reads settings for both packages: takes a TOML file, puts `--section.key value` over it, and checks it by a model.

The model is a pydantic model. Each fault is one line: the file, the setting, what is wrong with it, and the nearest
setting that there is.
"""

import difflib
import json
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from harvest.core.errors import ConfigError

M = TypeVar("M", bound=BaseModel)
NEVER_SHOWN = {"api_key_env", "base_url", "replicas", "api_key_command", "headers"}
"""A wrong value of these settings is never shown, because somebody may have written a key there."""


class Section(BaseModel):
    """The base class of every section, which cannot be changed and takes no unknown setting. Its docstrings are the
    help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True)
class OneRow:
    """Marks a setting that holds a table: the settings inside have no rows in the reference.

    `default` is shown in the reference in place of the setting's default. None: the setting's default is shown.
    """

    default: str | None = None


def read_toml(path: Path) -> dict[str, Any]:
    """Returns the settings that `path` names: a TOML file, or one table of it such as `job.toml#run`.

    In a table, numbers count the tables of a list: `job.toml#train.0.recipe`. If the table has a key `file`, its
    settings are put over those of that file. A text in place of the table names a file. Both are relative to the file
    that they stand in. Raises ConfigError when there is no such file or table, or when the file is not TOML.
    """
    return _read(path)[0]


def folder_of(path: Path) -> Path:
    """Returns the folder that paths in the settings named by `path` are relative to: where the file lies that the
    settings begin with. Raises ConfigError as `read_toml` does."""
    return _read(path)[1] if _table_of(path) else path.parent


def file_of(path: Path) -> Path:
    """Returns the TOML file that `path` names, or in which it names a table."""
    named = _table_of(path)
    return path if named is None else named[0]


def _table_of(path: Path) -> tuple[Path, str] | None:
    """Splits `job.toml#run` into the file and the name of the table. None: `path` names a whole file."""
    file, mark, table = str(path).rpartition("#")
    return (Path(file), table) if mark and file.endswith(".toml") and not path.exists() else None


def _read(path: Path) -> tuple[dict[str, Any], Path]:
    """Returns the settings that `path` names, and the folder that paths in them are relative to."""
    if (named := _table_of(path)) is None:
        return _whole_file(path), path.parent
    file, table = named
    at: Any = _whole_file(file)
    for key in table.split("."):
        if isinstance(at, list) and key.isdecimal() and int(key) < len(at):
            at = at[int(key)]
        elif isinstance(at, dict) and key in at:
            at = at[key]
        else:
            raise ConfigError(f"{path}: there is no {key!r} in {file}")
    if isinstance(at, str):
        return _read(file.parent / at)
    if not isinstance(at, dict):
        raise ConfigError(f"{path}: neither a table nor the name of a file")
    if "file" not in at:
        return at, file.parent
    if not isinstance(at["file"], str):
        raise ConfigError(f"{path}: file: not the name of a file")
    under, folder = _read(file.parent / at["file"])
    return _put_over(under, {k: v for k, v in at.items() if k != "file"}), folder


def _put_over(under: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of `under` with those of `over` in their place, table by table."""
    both = {
        k: _put_over(under[k], v) for k, v in over.items() if isinstance(v, dict) and isinstance(under.get(k), dict)
    }
    return {**under, **over, **both}


def _whole_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8-sig")
        return dict(json.loads(text)) if path.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: a folder; name the TOML file in it") from None
    except (ValueError, TypeError) as e:  # a fault of TOML, of JSON, or of UTF-8; or JSON that is no object
        raise ConfigError(f"{path}: not {'JSON' if path.suffix == '.json' else 'TOML'}: {e}") from None
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from None


def parse_value(text: str) -> Any:
    """Returns a value of the command line: the TOML value if the text is valid TOML, else the text itself."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def override(model: type[BaseModel], data: dict[str, Any], overrides: Sequence[tuple[str, str]]) -> None:
    """Puts each `--section.key value` over the settings in `data`, which is changed in place.

    If the field in `model` takes a text or an amount of money, a value such as `3.5` stays a text. Raises ConfigError
    when a part of the name before the last is no section.
    """
    for key, text in overrides:
        *sections, last = key.split(".")
        at: Any = data
        for s in sections:
            if isinstance(at, list):
                if not s.isdecimal() or int(s) >= len(at):
                    raise ConfigError(f"--{key}: there is no {s} among {len(at)}; they are counted from 0")
                at = at[int(s)]
            else:
                at = at.setdefault(s, {})
            if not isinstance(at, dict | list):
                raise ConfigError(f"--{key}: {s} is no section")
        if isinstance(at, list):
            raise ConfigError(f"--{key}: name one of the {len(at)} by its number, counted from 0")
        value = parse_value(text)
        section = _section(model, sections)
        field = section.model_fields.get(last) if section else None
        wants_text = field is not None and not {str, Decimal}.isdisjoint(_types(field.annotation))
        at[last] = text if wants_text and not isinstance(value, str | list | dict) else value


def validated(model: type[M], data: Mapping[str, Any], source: str = "", more_faults: Collection[str] = ()) -> M:
    """Returns the settings in `data` as a `model`.

    Raises ConfigError with a line for each fault that the model finds, and one for each of `more_faults`, which the
    caller found. `source` is the file of the settings, with which each line begins.
    """
    try:
        settings, faults = model.model_validate(data), []
    except ValidationError as e:
        settings, faults = None, faults_of(e, model)
    if settings is not None and not more_faults:
        return settings
    raise ConfigError("\n".join(f"{source}: {line}" if source else line for line in (*faults, *more_faults)))


def faults_of(e: ValidationError, model: type[BaseModel]) -> list[str]:
    """Returns pydantic's faults as lines, one for each setting that has a fault.

    If a setting takes a word or a table, and the given table has a fault, pydantic also complains that it is none of
    the words. This complaint is left out.
    """
    lines: dict[str, str] = {}
    for fault in e.errors(include_url=False):
        place = _place(model, fault["loc"], is_unknown=fault["type"] == "extra_forbidden")
        where = ".".join(place)
        if fault["type"] == "extra_forbidden":
            section = _section(model, place[:-1])
            if len(place) > 1 and place[-1] in model.model_fields:
                line = f"{where}: unknown setting; it belongs above the first [section], since it is in none"
            else:
                line = f"{where}: unknown setting{nearest(place[-1], section.model_fields if section else ())}"
        elif fault["type"] == "missing":
            line = f"{where}: missing"
        else:
            line = f"{where + ': ' if where else ''}{fault['msg'].removeprefix('Value error, ')}{_shown_value(fault)}"
        lines.setdefault(where or line, line)
    return [line for where, line in lines.items() if not any(other.startswith(f"{where}.") for other in lines)]


def nearest(name: str, known: Collection[str]) -> str:
    """Returns the end of the error line on an unknown setting: the nearest known name, else all known names if they are
    few."""
    if name == "api_key":
        return ": a key is never written into a file. Put it into an environment variable and name that in api_key_env"
    if close := difflib.get_close_matches(name, known, 1, 0.5):
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(sorted(known))}" if 0 < len(known) <= 30 else ""


def _place(model: type[BaseModel], location: Sequence[str | int], *, is_unknown: bool) -> list[str]:
    """Returns where a fault is, as names of settings only. (pydantic's location also names validators and union
    branches.)"""
    place: list[str] = []
    for n, part in enumerate(location):
        section = _section(model, place)
        is_setting = isinstance(part, int) or (section is not None and part in section.model_fields)
        if is_setting or (is_unknown and n == len(location) - 1):
            place.append(str(part))
    return place


def _section(model: type[BaseModel], sections: Sequence[str]) -> type[BaseModel] | None:
    """Returns the model of a section inside `model`, or None when there is no such section. Numbers are indices in a
    list."""
    at: type[BaseModel] | None = model
    for s in sections:
        if s.isdecimal():
            continue
        field = at.model_fields.get(s) if at is not None else None
        at = model_in(field.annotation) if field is not None else None
    return at


def model_in(annotation: Any) -> type[BaseModel] | None:
    """Returns the pydantic model in a type annotation, or None when it has none. Example: for `Student | None`,
    Student."""
    return next((t for t in _types(annotation) if issubclass(t, BaseModel)), None)


def _types(annotation: Any) -> list[type]:
    """Returns all types in an annotation, including the annotation itself. Values of a Literal are left out."""
    inside = [t for a in get_args(annotation) for t in _types(a)]
    return [annotation, *inside] if isinstance(annotation, type) and not get_args(annotation) else inside


def _shown_value(fault: Mapping[str, Any]) -> str:
    if NEVER_SHOWN.intersection(fault["loc"]):
        return ""
    value = fault.get("input")
    is_short = isinstance(value, str | int | float | bool) and len(str(value)) < 60
    return f" (it is {value!r})" if is_short else ""
