"""Arguments that several commands take, and the kinds of numbers on the command line."""

import argparse
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from harvest.core.files import package_folder

Overrides = list[tuple[str, str]]
"""Settings of the command line: ("train.learning_rate", "2e-4") for `--train.learning_rate 2e-4`."""


def add_settings(p: argparse.ArgumentParser) -> None:
    """The command takes settings of RECIPE.toml as `--section.key value`."""
    p.set_defaults(overrides=True)
    p.epilog = "Any setting of RECIPE.toml: --section.key value, e.g. --train.learning_rate 2e-4"


def add_recipe(p: argparse.ArgumentParser) -> None:
    """The command takes a RECIPE.toml, and settings over it."""
    p.add_argument("recipe", nargs="?", metavar="RECIPE.toml", help="without it: the demo's recipe")
    add_settings(p)


def recipe_path(args: argparse.Namespace) -> Path:
    """The recipe that was named, else the demo's."""
    return Path(args.recipe) if args.recipe else package_folder("recipes") / "demo-student.toml"


def add_run(p: argparse.ArgumentParser, what: str) -> None:
    """`--run` and `--store`: whose report gets `what` is recorded."""
    p.add_argument("--run", dest="run_name", metavar="RUN", help=what)
    p.add_argument("--store", metavar="URL", help="the store of that run; without it: the one its config.json names")


def add_evaluations(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--eval", dest="evaluations", action="append", default=[], metavar="F",
        help="questions of an evaluation: a row that asks one of them is reported; may be given again",
    )  # fmt: skip


def usd(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount") from None
    if not amount.is_finite() or amount < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount")
    return amount


def _number(text: str, kind: type[int] | type[float], holds: Callable[[float], bool], must: str) -> Any:
    try:
        x = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no {'whole number' if kind is int else 'number'}") from None
    if not holds(x):
        raise argparse.ArgumentTypeError(f"{text} is not {must}")
    return x


def count(text: str) -> int:
    return int(_number(text, int, lambda n: n >= 1, "at least 1"))


def seed(text: str) -> int:
    return int(_number(text, int, lambda n: 0 <= n < 2**31, "from 0 to 2147483647"))


def positive(text: str) -> float:
    return float(_number(text, float, lambda x: 0 < x < 1e9, "above 0 and below 1e9"))


def temperature(text: str) -> float:
    return float(_number(text, float, lambda t: 0 <= t <= 10, "between 0 and 10"))


def share(text: str) -> float:
    return float(_number(text, float, lambda x: 0 < x <= 1, "above 0 and at most 1"))
