"""Finds phrases in long texts: a phrase's rare words (its anchor) are looked up first, its pattern is tried only there.

All filters share the set of a text's words, so a phrase whose anchor is missing costs almost nothing. A pattern sees at
most 120 characters on each side of its anchor, so that the time is linear whatever the text holds.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harvest.core.printable import one_line
from harvest.filters.reading import Text

BESIDE = 120
MOST_HITS = 2_000
"""How many places of one anchor in one text are looked at. A real text has a few hundred."""
Row = tuple[str, str] | tuple[str, str, str]
"""(anchors, pattern, excuses), where "|" separates anchors and excuses.

An anchor is words in lower case that every match holds one of. Its longest word is looked up first among the words of
the text, unless it is not ASCII. Where the question holds an excuse, the phrase is no fault.
"""


@dataclass(frozen=True, slots=True)
class Anchor:
    text: str
    word: str
    """The anchor's longest word. Empty: the anchor is searched in every text."""
    patterns: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]


def phrases(rows: Iterable[Row]) -> tuple[Anchor, ...]:
    """The phrases by anchor, so that each anchor is looked for once."""
    found: dict[str, list[tuple[re.Pattern[str], tuple[str, ...]]]] = {}
    for anchors, pattern, *excuses in rows:
        compiled = re.compile(pattern)
        for anchor in anchors.split("|"):
            found.setdefault(anchor, []).append((compiled, tuple(filter(None, "|".join(excuses).split("|")))))
    return tuple(
        Anchor(text, max(text.split(), key=len) if text.isascii() else "", tuple(patterns))
        for text, patterns in found.items()
    )


def matches(of: Sequence[Anchor], searched: Text, asked: str) -> Iterator[tuple[int, str]]:
    """(place, words) of each phrase in the plain form of a text. A phrase that stands in quotation marks, or in what
    was asked, is left out."""
    text = searched.plain
    for anchor in of:
        if anchor.word and anchor.word not in searched.vocabulary:
            continue
        at = text.find(anchor.text)
        if at < 0:
            continue
        meant = [pattern for pattern, excuses in anchor.patterns if not any(word in asked for word in excuses)]
        hits = 0
        while at >= 0 and hits < MOST_HITS:
            hits += 1
            start, end = max(0, at - BESIDE), at + len(anchor.text) + BESIDE
            for pattern in meant:
                for found in pattern.finditer(text, start, end):
                    held = found.start() <= at < found.end()
                    if held and found[0] not in asked and not _is_quoted(text, found.start()):
                        yield found.start(), found[0]
            at = text.find(anchor.text, at + len(anchor.text))


def _is_quoted(text: str, at: int) -> bool:
    """Whether this place is in quotation marks: opened before it on its line, and closed after it."""
    line = text[max(text.rfind("\n", 0, at), at - 300) + 1 : at]
    return line.count('"') % 2 == 1 and '"' in text[at : at + 300].partition("\n")[0]


def around(text: str, at: int, length: int, margin: int = 30) -> str:
    """A part of a text with a little of what stands beside it, on one line, to be shown in a fault."""
    return one_line(text[max(0, at - margin) : at + length + margin])
