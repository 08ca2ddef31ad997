"""`--section.key value` among the words of a command line. Shared by `harvest` and `finetune`, and light to import."""

import re
from collections.abc import Collection, Sequence

_SETTING = re.compile(r"[a-z_]+(\.([A-Za-z_][\w-]*|\d+))+")


def take_overrides(argv: Sequence[str], top_level: Collection[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """The words without `--section.key value` and `--section.key=value`, and those pairs.

    `top_level` names the settings that stand in no section. Taken out before argparse looks, which would take the value
    for the name of the file.
    """
    words: list[str] = []
    found: list[tuple[str, str]] = []
    rest = iter(argv)
    for word in rest:
        key, eq, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not (key in top_level or _SETTING.fullmatch(key)):
            words.append(word)
        elif eq:
            found.append((key, value))
        elif (following := next(rest, None)) is not None:
            found.append((key, following))
        else:
            words.append(word)
    return words, found
