"""Text of others in Markdown: one line in which nothing is markup, or a block that it cannot end. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence

from harvest.core.foreign_json import one_line


def cell(text: str, most: int = 200) -> str:
    """Text of others as one line in which nothing is markup or HTML. An address stays one: it shows where it goes."""
    return "".join(_ESCAPED.get(c, c) for c in one_line(text, most))


_ESCAPED = {c: f"\\{c}" for c in "\\`*_{}[]()#!|~$^"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def fenced(text: str, language: str = "") -> Iterator[str]:
    """A block in a fence longer than any in the text, which so cannot end it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    yield fence + language
    yield from ("".join(c for c in line if c.isprintable() or c == "\t") for line in re.split(r"\r\n|\r|\n", text))
    yield fence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    align = ["---", *("---:" if len(head) > 2 else "---" for _ in head[1:])]
    return ["| " + " | ".join(cells) + " |" for cells in (head, align, *rows)]
