"""Finds the API keys and prices of all teachers, the student and the judging model, before the first request."""

import os
from datetime import UTC, datetime

from harvest.asking.planning.run import judging_settings
from harvest.core.config import RunConfig, configs, section_of
from harvest.core.errors import ConfigError
from harvest.core.teachers import Student
from harvest.endpoint import Tariff, nearest_names, tariff_of


def take_keys(config: RunConfig) -> dict[str, str]:
    """Returns the API keys of all who may be asked, each under the name of its environment variable. Raises ConfigError
    when a key is missing."""
    keys: dict[str, str] = {}
    asked = [(section_of(config, place), one) for place, one in configs(config).items()]
    judging = judging_settings(config)
    for name, one in [*asked, *([("judge", judging)] if judging is not None else [])]:
        variable = one.teacher.api_key_env
        if variable is not None and variable not in keys and (key := take_key(one, name)) is not None:
            keys[variable] = key
    return keys


def take_key(config: RunConfig, section: str = "teacher") -> str | None:
    """Takes the key out of the environment, so that no child process inherits it. Returns the key; None if the endpoint
    needs no key.

    Raises ConfigError when the variable is not set, or holds something that cannot be a key.
    """
    name = config.teacher.api_key_env
    if name is None:
        return None
    key = os.environ.pop(name, "").strip()
    if not key:
        if name.upper() != name:
            raise ConfigError(
                f"{section}.api_key_env: there is no such variable. Is it a key? It takes a variable's name"
            )
        raise ConfigError(f"{section}.api_key_env: the variable {name} is not set: export {name}=…")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{section}.api_key_env: the variable {name} holds something that cannot be a key")
    return key


def checked_tariff(config: RunConfig, section: str = "teacher") -> Tariff | None:
    """Returns what the endpoint in this section charges; None if nobody knows.

    Raises ConfigError when the endpoint has a price and the run has no cap, or when there is a cap and nobody knows the
    price.
    """
    tariff, cap = tariff_of(config), config.budget.usd
    if config.teacher.local is not None:
        return tariff
    if tariff is not None and cap is None and not tariff.at(datetime.now(UTC), 0).is_free:
        raise ConfigError(
            f"budget.usd: {section} is priced (by {tariff.source}) and the run has no cap: set budget.usd,"
            ' e.g. usd = "5.00"'
        )
    if tariff is None and cap is not None:
        own, like = (
            isinstance(config.teacher, Student),
            nearest_names(config.teacher.base_url or "", config.teacher.model or ""),
        )
        known = f" (its price list has {' and '.join(map(repr, like))})" if like else ""
        raise ConfigError(
            f"{section}.free: nobody knows what {config.teacher.model!r} at {config.teacher.base_url} costs{known}, so"
            " a cap cannot be kept: --student.free true where it is a machine of yours, else set"
            " student.price_usd_per_mtok"
            if own
            else f"{section}.price_usd_per_mtok: nobody knows the price of {config.teacher.model!r} at"
            f" {config.teacher.base_url}{known}, so a cap cannot be kept: set its price, or take out budget.usd"
        )
    return tariff
