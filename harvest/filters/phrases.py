"""Finds phrases in long texts: first whether the text has the phrase's rare word (its anchor), then the pattern there.

The words of a text are a set that all filters share, so a phrase whose anchor is missing costs almost nothing. A
pattern sees at most 240 characters around its anchor, so that the time is linear whatever the text holds.
"""

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass

from harvest.core.printable import one_line

BEFORE, AFTER = 120, 120
MARKS = ".,;:!?\"'()[]{}*_`~-–—…#>|/\\$“”。，！？：；"
MOST_HITS = 2_000
"""How many places of one anchor in one text are looked at. A real text has a few hundred."""


Row = tuple[str, str] | tuple[str, str, str]
"""Anchors parted by a bar, the pattern, and words, parted likewise, that make it no fault where the question holds one.
An anchor is words in lower case that the match holds; its longest word is looked up first, as it stands in a text
between spaces and marks, unless it is of another script."""


@dataclass(frozen=True, slots=True)
class Anchor:
    text: str
    word: str
    """Its longest word; empty where every text is searched."""
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


def matches(of: Sequence[Anchor], text: str, words: Container[str], asked: str) -> Iterator[tuple[int, str]]:
    """(place, words) of each phrase in a text of lower case that is neither quoted there nor in what was asked. `words`
    are the text's own, without the marks around them."""
    for anchor in of:
        if anchor.word and anchor.word not in words:
            continue
        at = text.find(anchor.text)
        if at < 0:
            continue
        meant = [pattern for pattern, excuses in anchor.patterns if not any(word in asked for word in excuses)]
        hits = 0
        while at >= 0 and hits < MOST_HITS:
            hits += 1
            start, end = max(0, at - BEFORE), at + len(anchor.text) + AFTER
            for pattern in meant:
                for found in pattern.finditer(text, start, end):
                    held = found.start() <= at < found.end()
                    if held and found[0] not in asked and not is_quoted(text, found.start()):
                        yield found.start(), found[0]
            at = text.find(anchor.text, at + len(anchor.text))


def bare(words: Iterable[str]) -> frozenset[str]:
    """The different words, without punctuation around them."""
    return frozenset([word.strip(MARKS) for word in set(words)])


def is_quoted(text: str, at: int) -> bool:
    """Whether a quotation was opened before this place on its line, and is closed after it."""
    line = text[max(text.rfind("\n", 0, at), at - 300) + 1 : at]
    return line.count('"') % 2 == 1 and '"' in text[at : at + 300].partition("\n")[0]


def around(text: str, at: int, length: int, margin: int = 30) -> str:
    """The words of a fault with a little of the text beside them, on one line."""
    return one_line(text[max(0, at - margin) : at + length + margin])
