"""Makes text from outside safe to show: on one line, in a terminal, in Markdown. Pure.

What a model, a provider or a file wrote may hold control characters that drive a terminal, line breaks that forge a
message, and markup that changes a page. Code that shows such text cleans it with these functions.
"""

import re
from collections.abc import Iterable, Iterator, Sequence


def printable(text: str, also: str = "", instead: str = " ") -> str:
    """Returns the text with `instead` in place of each character that cannot be printed. Characters in `also` stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in also else instead for c in text)


def one_line(words: str | bytes, most: int = 600) -> str:
    """Returns the text as one printable line of at most `most` characters, for a message. It ends in "…" if it was
    cut."""
    text = words[: 8 * most].decode("utf-8", "replace") if isinstance(words, bytes) else words[: 8 * most]
    line = " ".join(printable(text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def first_line(e: Exception) -> str:
    """Returns the first line of a library's error message, or the name of the error's class when the message is
    empty."""
    return (str(e).strip().splitlines() or [type(e).__name__])[0]


_ESCAPED = {c: f"\\{c}" for c in "\\`*_{}[]()#!|~$^"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def cell(text: str, most: int = 200) -> str:
    """Returns the text as one line of Markdown in which nothing is markup or HTML. A link in it shows its address."""
    return "".join(_ESCAPED.get(c, c) for c in one_line(text, most))


def fenced(text: str, language: str = "") -> Iterator[str]:
    """Yields the lines of a Markdown code block. Its fence is longer than any in the text, so that the text cannot end
    it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    yield fence + language
    yield from (printable(line, also="\t", instead="") for line in re.split(r"\r\n|\r|\n", text))
    yield fence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Returns the lines of a Markdown table. If it has three columns or more, all but the first are aligned to the
    right."""
    align = ["---", *("---:" if len(head) > 2 else "---" for _ in head[1:])]
    return ["| " + " | ".join(cells) + " |" for cells in (head, align, *rows)]
