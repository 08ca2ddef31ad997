"""Finds phrases in long texts. It looks for the rare words of a phrase (the anchor), and tries the pattern only there.

All filters share the set of a text's words, so a phrase whose anchor is missing costs almost no time. A pattern sees at
most 120 characters on each side of its anchor, so the time is linear for every text.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harvest.core.printable import one_line
from harvest.filters.reading import Text

BESIDE = 120
MOST_HITS = 2_000
"""An anchor is examined at most this many times in one text. Real texts need a few hundred times."""
Row = tuple[str, str] | tuple[str, str, str]
"""Each row is (anchors, pattern, excuses). The character "|" separates two anchors, or two excuses.

An anchor is a word or some words in lower case. Every match of the pattern contains one of the anchors. If an anchor is
ASCII, its longest word is first looked up in the text's set of words. If the question contains an excuse, the phrase is
no fault.
"""


@dataclass(frozen=True, slots=True)
class Anchor:
    text: str
    word: str
    """The anchor's longest word; empty if the anchor is not ASCII and is searched in every text."""
    patterns: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]


def phrases(rows: Iterable[Row]) -> tuple[Anchor, ...]:
    """Returns the phrases grouped by anchor, so that each anchor is looked for only once."""
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
    """Yields (index of its first character, its words) of each phrase in the plain form of `searched`.

    A phrase is left out if it stands in quotation marks, or if `asked` holds the same words.
    """
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
    """Whether quotation marks open before the index `at` and close after it on the same line."""
    line = text[max(text.rfind("\n", 0, at), at - 300) + 1 : at]
    return line.count('"') % 2 == 1 and '"' in text[at : at + 300].partition("\n")[0]


def around(text: str, at: int, length: int, margin: int = 30) -> str:
    """Returns a part of a text on one line, with up to `margin` characters on each side, to be shown in a fault."""
    return one_line(text[max(0, at - margin) : at + length + margin])
