"""`finetune show RECIPE.toml` prints one training row as the model sees it, or writes an HTML page of rows."""

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.text import Text

from finetune.commands.arguments import Overrides
from finetune.recipe import read_recipe, recipe_path
from finetune.rows.show import CLOSE, OPEN, marked, show, write_page


def run(args: argparse.Namespace, overrides: Overrides) -> int:
    recipe = read_recipe(recipe_path(args.recipe), overrides)
    if args.page:
        page = Path(args.page)
        rows = write_page(recipe, args.row, args.rows, page)
        print(json.dumps({"page": str(page), "rows": rows}) if args.json else f"{page}: {rows} rows")
        return 0
    shown = show(recipe, args.row)
    if args.json:
        turns = {"turns": [found for found, _ in shown]} if len(shown) > 1 else {}
        print(json.dumps({**shown[-1][0], **turns}, ensure_ascii=False))
        return 0
    console = Console()
    is_coloured = console.color_system is not None and not console.no_color
    how = "green" if is_coloured else f"between {OPEN} and {CLOSE}"
    for n, (found, text) in enumerate(shown):
        console.print(text if is_coloured else Text(marked(text)), soft_wrap=True)
        name = f"row {found['row']}, turn {n}" if len(shown) > 1 else f"row {found['row']}"
        console.print(f"{name}: {found['tokens']} tokens, {found['trained_tokens']} of them trained ({how})")
    return 0
