"""All commands of both packages in the order in which one uses them, and which package has a command."""

import argparse
import shutil
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from harvest.core.errors import ConfigError
from harvest.core.files import settings_path
from harvest.core.overrides import take_overrides

Package = Literal["harvest", "finetune"]

ORDER = {
    "From questions to a measured student": ("job",),
    "Before the money": ("doctor", "estimate", "tryout"),
    "Ask the teacher": ("collect", "settle", "import"),
    "Look at what came": ("report", "why", "view", "verify"),
    "Choose and hand on": ("score", "select", "export", "shards", "copy"),
    "Train a student": ("check", "show", "sft", "distill", "prefer", "init", "curve", "merge"),
    "Measure it": ("eval",),
    "Prove it": ("verify-student",),
    "This machine": ("sandbox", "completion", "context"),
}
"""The commands under their headings. A command that stands nowhere here is listed at the end."""
COMPLETION = "print the script that completes commands and flags in bash, zsh or fish"
CONTEXT = "print what an assistant must know to drive winnow, in 2,000 tokens"
ESTIMATE = "what it will cost: of a RUN.toml by asking a few questions, of a RECIPE.toml or JOB.toml without asking"
RECIPE_ALONE = {"data", "output", "method", "render"}
"""Settings that a recipe has, and a run or a job has not."""
FIGURES = ("--params-b", "--rows", "--mean-tokens", "--calibrate")
"""Flags that say what a training takes without naming a recipe."""


def commands() -> dict[str, tuple[Package, argparse.ArgumentParser]]:
    """Returns each command with its package and its parser. `estimate`, which both packages have, is harvest's."""
    from finetune.commands.arguments import parser as of_finetune
    from harvest.commands.arguments import parser as of_harvest

    return {
        **{name: ("finetune", p) for name, p in subcommands(of_finetune("winnow")).items()},
        **{name: ("harvest", p) for name, p in subcommands(of_harvest("winnow")).items()},
    }


def routed(words: Sequence[str]) -> tuple[Package, list[str]]:
    """Returns the package that a command line is for, and its words there.

    `estimate` goes by its file: a run is harvest's, a recipe is finetune's, and a job is `job --dry-run`. Raises
    ConfigError when neither package has such a command.
    """
    from finetune.__main__ import TOP_LEVEL as OF_FINETUNE
    from harvest.__main__ import TOP_LEVEL as OF_HARVEST

    known = commands()
    without_settings, _ = take_overrides(words, {*OF_HARVEST, *OF_FINETUNE})
    command = next((word for word in without_settings if not word.startswith("-")), words[0])
    if command == "estimate":
        return _routed_estimate(words)
    if command not in known:
        from harvest.core.settings import nearest

        remedy = nearest(command, [*known, "completion", "context"]) or " (`winnow --help` lists them)"
        raise ConfigError(f"{command}: there is no such command{remedy}")
    return known[command][0], list(words)


def _routed_estimate(words: Sequence[str]) -> tuple[Package, list[str]]:
    before = ""
    for word in words[1:]:
        path = settings_path(word)
        if before != "--recipe" and not word.startswith("-") and Path(str(path).partition("#")[0]).is_file():
            keys = _keys(path)
            if "run" in keys:
                return "finetune", ["job", *words[1:], "--dry-run"]
            is_recipe = RECIPE_ALONE & keys.keys() or isinstance(keys.get("student"), str)
            return "finetune" if is_recipe else "harvest", list(words)
        before = word
    gives_figures = any(word.partition("=")[0] in FIGURES for word in words)
    return "finetune" if gives_figures else "harvest", list(words)


def _keys(path: Path) -> Mapping[str, Any]:
    if "#" in str(path):
        from harvest.core.settings import read_toml

        return read_toml(path)
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError):  # the command says what is wrong with it
        return {}


def help_text() -> str:
    """Returns what `winnow --help` prints."""
    width = min(100, shutil.get_terminal_size().columns)
    texts = {name: p.description or "" for name, (_, p) in commands().items()}
    texts |= {"completion": COMPLETION, "context": CONTEXT, "estimate": ESTIMATE}
    placed = {name for names in ORDER.values() for name in names}
    groups = {**ORDER, "More": tuple(name for name in texts if name not in placed)}
    out = [
        "usage: winnow COMMAND …",
        "",
        *textwrap.wrap(
            "Distil a reasoning teacher behind an API into a small open student: ask, check, count the money, train.",
            width,
        ),
    ]
    for heading, names in groups.items():
        shown = [name for name in names if name in texts]
        out += ["", f"{heading}:"] if shown else []
        for name in shown:
            first, *more = textwrap.wrap(texts[name], width - 14, break_on_hyphens=False) or [""]
            long = len(name) > 11
            out += [f"  {name}"] if long else []
            out += [f"  {'' if long else name:<12}{first}", *(" " * 14 + line for line in more)]
    return "\n".join([*out, "", "winnow COMMAND -h explains one command; winnow --version says which release this is."])


def subcommands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Returns the parsers of a parser's commands. argparse has no public way to them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    raise AssertionError(parser.prog)
