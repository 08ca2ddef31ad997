"""Shows training rows as the model sees them: trained tokens in colour, all other tokens grey, and the counts."""

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.text import Text

from finetune.recipe import Recipe
from finetune.rows.dataset import BadRow, recipe_rows
from finetune.rows.faults import RowFault
from finetune.rows.render import Example
from finetune.rows.survey import examples_of
from finetune.rows.template import Tokenizer, layout_of, recipe_tokenizer
from harvest.core.errors import DatasetError, InputError, TooLong
from harvest.core.files import write_whole

STYLES = {"green": "trained", "bright_black": "read", "bold green reverse": "end"}
"""Maps each style of the terminal to the CSS class that the page uses instead."""
READ = "bright_black"
OPEN, CLOSE = "⟦", "⟧"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{about}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
h1 {{ font-size: 1.3rem; }} h2 {{ font-size: 1rem; margin: 2rem 0 .5rem; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f4; padding: 1rem; border-radius: 6px; }}
pre b {{ font-weight: normal; }} .read {{ color: #767676; }} .trained {{ color: #11632f; background: #e4f3e8; }}
.end {{ color: #fff; background: #11632f; }} .fault p {{ color: #a11; }}
@media (prefers-color-scheme: dark) {{
body {{ background: #1b1b1b; color: #ddd; }} pre {{ background: #242424; }}
.read {{ color: #999; }} .trained {{ color: #9fe0b3; background: #17341f; }} .fault p {{ color: #f88; }} }}
</style></head><body>
<h1>{about}</h1>
<p><b class="trained">Green is trained</b>, <b class="end">dark</b> is the token that ends the turn,
<b class="read">grey</b> is read only. At most {max_tokens:,} tokens a row.</p>
{sections}
</body></html>
"""


def show(recipe: Recipe, row: int) -> list[tuple[dict[str, Any], Text]]:
    """Returns (what --json prints, the coloured text) of one row, or of each of its turns. Loads only the tokenizer.

    A row has several where the student's template strips the chains of earlier turns. Raises DatasetError when the row
    does not exist or cannot be trained, TooLong when it is too long.
    """
    tokenizer = recipe_tokenizer(recipe)
    shown = examples_of_row(recipe, tokenizer, row)
    return [(figures(example, tokenizer, row), coloured(example, tokenizer)) for example in shown]


def write_page(recipe: Recipe, first: int, count: int, to: Path) -> int:
    """Writes `count` rows from `first` on as one HTML file, and returns how many rows the file has.

    The file loads nothing from elsewhere. A row that cannot be trained is shown with its fault. Raises DatasetError
    when there is no row `first`, InputError when `to` cannot be written.
    """
    tokenizer = recipe_tokenizer(recipe)
    parts = [_section(where, found, tokenizer) for where, found in some_examples(recipe, tokenizer, first, count)]
    about = html.escape(f"{recipe.data} for {recipe.student}")
    page = PAGE.format(about=about, max_tokens=recipe.render.max_tokens, sections="\n".join(parts))
    try:
        write_whole(to, page)
    except OSError as e:
        raise InputError(f"{to}: cannot be written: {e.strerror}") from None
    return len(parts)


def some_examples(
    recipe: Recipe, tokenizer: Tokenizer, first: int, count: int
) -> Iterator[tuple[str, "Example | RowFault | TooLong"]]:
    """Yields (the row's place, its example or the reason why there is none) for `count` rows from `first` on.

    Yields fewer rows when the dataset ends before. Raises DatasetError when the dataset has no row `first`.
    """
    layout, last = layout_of(recipe.render, tokenizer), -1
    for last, where, value in recipe_rows(recipe):
        if first <= last < first + count:
            try:
                if isinstance(value, BadRow):
                    raise value
                yield from ((m.where, m.example) for m in examples_of(value, where, recipe.render, tokenizer, layout))
            except RowFault as e:
                yield where, e
        elif last >= first + count:
            return
    if last < first:
        raise DatasetError(f"{recipe.data}: no row {first}: rows are counted from 0 and the last is {last}")


def examples_of_row(recipe: Recipe, tokenizer: Tokenizer, row: int) -> list[Example]:
    """Returns the example of row number `row`, or one for each of its turns.

    Raises DatasetError when the dataset has no such row or the row cannot be trained, TooLong when it is too long.
    """
    made = []
    for where, found in some_examples(recipe, tokenizer, row, 1):
        if isinstance(found, RowFault):
            raise DatasetError(f"{recipe.data}: {where}: {found}")
        if isinstance(found, TooLong):
            raise TooLong(f"{recipe.data}: {where}: {found}")
        made.append(found)
    return made


def _section(where: str, found: "Example | RowFault | TooLong", tokenizer: Tokenizer) -> str:
    if not isinstance(found, Example):
        return f'<section class="fault"><h2>{html.escape(where)}</h2><p>{html.escape(_safe(str(found)))}</p></section>'
    text = coloured(found, tokenizer)
    spans = sorted(text.spans)
    body = "".join(f'<b class="{STYLES[str(s.style)]}">{html.escape(text.plain[s.start : s.end])}</b>' for s in spans)
    counts = f"{len(found):,} tokens, {found.trained_tokens:,} of them trained"
    return f"<section><h2>{html.escape(where)} · {counts}</h2><pre>{body}</pre></section>"


def figures(example: Example, tokenizer: Tokenizer, row: int) -> dict[str, Any]:
    trained = [i for i, m in zip(example.ids, example.mask, strict=True) if m]
    return {
        "row": row,
        "tokens": len(example),
        "trained_tokens": len(trained),
        "text": _decode(tokenizer, list(example.ids)),
        "trained_text": _decode(tokenizer, trained),
    }


def marked(text: Text) -> str:
    """Returns the text for a terminal without colours: each trained part stands between two marks."""
    parts = ((s.style, text.plain[s.start : s.end]) for s in sorted(text.spans))
    joined = "".join(part if style == READ else f"{OPEN}{part}{CLOSE}" for style, part in parts if part)
    return joined.replace(CLOSE + OPEN, "")  # the end token goes with its turn


def coloured(example: Example, tokenizer: Tokenizer) -> Text:
    """Returns the text of a row: trained tokens are green, all other tokens grey.

    The last token of each trained sequence is reversed.
    """
    text, at = Text(), 0
    while at < len(example):
        to = at
        while to < len(example) and example.mask[to] == example.mask[at]:
            to += 1
        trained = bool(example.mask[at])
        body, last = (to - 1, to) if trained else (to, to)
        text.append(_safe(_decode(tokenizer, list(example.ids[at:body]))), "green" if trained else READ)
        text.append(_safe(_decode(tokenizer, list(example.ids[body:last]))), "bold green reverse")
        at = to
    return text


def _decode(tokenizer: Tokenizer, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def _safe(text: str) -> str:
    """Returns the text with control characters escaped, since what a model wrote must not steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)
