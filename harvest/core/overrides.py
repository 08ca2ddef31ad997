"""Finds `--section.key value` among the words of a command line. Imports no other file of ours, so that `--help` is
fast."""

import re
from collections.abc import Collection, Sequence

_SETTING = re.compile(r"[a-z_]+(\.([A-Za-z_][\w-]*|\d+))+")


def take_overrides(argv: Sequence[str], top_level: Collection[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Splits a command line and returns (all words that set nothing, the settings as pairs (setting, text)).

    Both `--section.key value` and `--section.key=value` are read. `top_level` names the settings that belong to no
    section. Settings are taken out before argparse reads the line, because argparse does not know them and would take a
    setting's value for the name of the file.
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
