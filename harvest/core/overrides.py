"""`--section.key value` among the words of a command line. Imports nothing, so that `--help` answers at once."""

import re
from collections.abc import Collection, Sequence

_SETTING = re.compile(r"[a-z_]+(\.([A-Za-z_][\w-]*|\d+))+")


def take_overrides(argv: Sequence[str], top_level: Collection[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Splits a command line into its other words and the pairs (setting, text) that it sets.

    Both `--section.key value` and `--section.key=value` are read. `top_level` names the settings that belong to no
    section. They are taken out before argparse reads the line, because argparse would take the value of a setting that
    it does not know for the name of the file.
    """
    words: list[str] = []
    overrides: list[tuple[str, str]] = []
    rest = iter(argv)
    for word in rest:
        key, eq, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not (key in top_level or _SETTING.fullmatch(key)):
            words.append(word)
        elif eq:
            overrides.append((key, value))
        elif (following := next(rest, None)) is not None:
            overrides.append((key, following))
        else:
            words.append(word)
    return words, overrides
