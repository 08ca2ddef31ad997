"""Phrases sought in long texts: a plain search for a rare word first, a pattern only where it stands.

A search for a word runs at the speed of memory; a pattern sees at most 240 characters around it, so that the time
is linear whatever the text holds.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

BEFORE, AFTER = 120, 120
MOST_HITS = 20_000
"""Of one word in one text; a real one has a few hundred."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """`anchor` is a word in lower case that every match of `pattern` holds. `unless_asked`: words that make it no fault
    where the question holds one of them."""

    anchor: str
    pattern: re.Pattern[str]
    unless_asked: tuple[str, ...] = ()


def phrases(anchors: str, pattern: str, unless_asked: str = "") -> Iterator[Phrase]:
    """One for each anchor; anchors, and words that excuse it in a question, are parted by a bar. The rarer the anchor,
    the faster."""
    compiled, excuses = re.compile(pattern), tuple(filter(None, unless_asked.split("|")))
    for anchor in anchors.split("|"):
        yield Phrase(anchor, compiled, excuses)


def matches(phrases: Sequence[Phrase], text: str, asked: str) -> Iterator[tuple[int, str]]:
    """(place, words) of each phrase in a text of lower case that is neither quoted there nor in what was asked."""
    for each in phrases:
        at, hits = text.find(each.anchor), 0
        if at < 0 or any(word in asked for word in each.unless_asked):
            continue
        beyond = 0  # matches before it were looked at
        while at >= 0 and hits < MOST_HITS:
            hits += 1
            start = max(0, at - BEFORE)
            for found in each.pattern.finditer(text, start, at + len(each.anchor) + AFTER):
                place = found.start()
                if place < beyond or not found.start() <= at < found.end():
                    continue
                beyond = found.end()
                if found[0] not in asked and not is_quoted(text, place):
                    yield place, found[0]
            at = text.find(each.anchor, at + len(each.anchor))


def is_quoted(text: str, at: int) -> bool:
    """Whether a quotation was opened before this place on its line, and not closed."""
    line = text[max(text.rfind("\n", 0, at), at - 300) + 1 : at]
    return line.count('"') % 2 == 1


def around(text: str, at: int, length: int, margin: int = 30) -> str:
    """The words of a fault with a little beside them, on one line."""
    piece = text[max(0, at - margin) : at + length + margin]
    return " ".join("".join(c if c.isprintable() else " " for c in piece).split())
