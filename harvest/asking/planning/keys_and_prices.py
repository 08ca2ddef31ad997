"""Finds the API keys and prices of all who are asked (teachers, student, judging and rewriting model), before the first
request."""

import os
import shlex
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime

from harvest.asking.planning.run import ABOUT, asked_about
from harvest.core.config import RunConfig, configs, section_of
from harvest.core.errors import ConfigError
from harvest.core.money import Price
from harvest.core.printable import one_line
from harvest.core.teachers import FROM_ENVIRONMENT, Student, Teacher
from harvest.endpoint import Tariff, nearest_names, tariff_of


def take_keys(config: RunConfig) -> dict[str, str]:
    """Takes the API keys, and what else is secret in headers, out of the environment, so that no child process inherits
    them. Returns each under the name of its environment variable. Raises the ConfigError of `keys_of`.
    """
    asked: dict[str, Teacher] = {section_of(config, place): one.teacher for place, one in configs(config).items()}
    return keys_of(asked | {ABOUT[kind]: one.teacher for kind, one in asked_about(config).items()})


def keys_of(asked: Mapping[str, Teacher]) -> dict[str, str]:
    """Takes the keys of some who are asked, by the sections of their settings, as `take_keys` does for all of them.

    Raises ConfigError when a variable is not set or holds something that cannot be sent, and when there is no program
    as api_key_command names.
    """
    keys: dict[str, str] = {}
    for section, teacher in asked.items():
        wanted = {f"{section}.api_key_env": teacher.api_key_env} if teacher.api_key_env else {}
        for header, variable in variables_of(teacher).items():
            wanted[f"{section}.headers.{header}"] = variable
        for setting, variable in wanted.items():
            if variable not in keys:
                keys[variable] = _taken(variable, setting, is_key=variable == teacher.api_key_env)
        if teacher.api_key_command and shutil.which(program := shlex.split(teacher.api_key_command)[0]) is None:
            raise ConfigError(f"{section}.api_key_command: there is no program {one_line(program, 100)}")
    return keys


def variables_of(teacher: Teacher) -> dict[str, str]:
    """Returns the environment variables whose values are sent in headers, by the headers' names."""
    named = {name: value for name, value in teacher.headers.items() if value.startswith(FROM_ENVIRONMENT)}
    return {name: value.removeprefix(FROM_ENVIRONMENT) for name, value in named.items()}


def _taken(variable: str, setting: str, *, is_key: bool) -> str:
    value = os.environ.pop(variable, "").strip()
    if not value:
        if variable.upper() != variable:
            raise ConfigError(f"{setting}: there is no such variable. Is it a key? It takes a variable's name")
        raise ConfigError(f"{setting}: the variable {variable} is not set: export {variable}=…")
    if not value.isascii() or not value.isprintable() or (is_key and " " in value):
        what = "be a key" if is_key else "be sent in a header"
        raise ConfigError(f"{setting}: the variable {variable} holds something that cannot {what}")
    return value


def _price_now(config: RunConfig, address: str | None) -> Price | None:
    """Returns what the teacher's model costs at an address; None if nobody knows."""
    teacher = config.teacher.model_copy(update={"base_url": address, "replicas": ()})
    tariff = tariff_of(config.model_copy(update={"teacher": teacher}))
    return None if tariff is None else tariff.at(datetime.now(UTC), 0)


def checked_tariff(config: RunConfig, section: str = "teacher") -> Tariff | None:
    """Returns what the endpoint in this section charges; None if nobody knows.

    Raises ConfigError when the endpoint has a price and the run has no cap, or when nobody knows the price and there is
    a cap, or neither a cap nor the word that there shall be none, or when a replica has another price. (What a student
    may cost is said by `student.free`.)
    """
    tariff, cap = tariff_of(config), config.budget.cap_usd
    if config.teacher.local is not None:
        return tariff
    for address in config.teacher.replicas:
        if _price_now(config, address) != _price_now(config, config.teacher.base_url):
            raise ConfigError(
                f"{section}.base_url: {address} has another price than {config.teacher.base_url}, so it is no replica:"
                " write it under [[teachers]]"
            )
    if tariff is not None and cap is None and not tariff.at(datetime.now(UTC), 0).is_free:
        raise ConfigError(
            f"budget.usd: {section} is priced (by {tariff.source}) and the run has no cap: set budget.usd,"
            ' e.g. usd = "5.00"'
        )
    if tariff is not None or config.budget.usd == "none":
        return tariff
    model, base_url = config.teacher.model or "", config.teacher.base_url or ""
    like = nearest_names(base_url, model)
    known = f" (its price list has {' and '.join(map(repr, like))})" if like else ""
    if isinstance(config.teacher, Student):
        why = "and there is no cap" if cap is None else "so a cap cannot be kept"
        raise ConfigError(
            f"{section}.free: nobody knows what {model!r} at {base_url} costs{known}, {why}: --student.free true where"
            ' it is a machine of yours, else set student.price_usd_per_mtok, or budget.usd = "none"'
        )
    if cap is None:
        raise ConfigError(
            f"{section}.price_usd_per_mtok: nobody knows the price of {model!r} at {base_url}{known}, and there is no"
            ' cap: set its price and budget.usd. For a server of your own: { input = "0", output = "0" }. To spend'
            ' what nobody counts: budget.usd = "none"'
        )
    raise ConfigError(
        f"{section}.price_usd_per_mtok: nobody knows the price of {model!r} at {base_url}{known}, so a cap cannot be"
        ' kept: set its price, or budget.usd = "none"'
    )
