"""Finds the loop that a text ends in: the same words again and again until its end."""

from dataclasses import dataclass

TIMES = 4
CHARS = 6_000
"""A text ends in a loop when the same block stands there at least TIMES times in a row, over at least CHARS characters.
Recorded loops repeat 8 to 1,600 times. The longest repetition that was no loop: 4 times over 1,101 characters
(docs/streams.md)."""
CHARS_OF_CUT = 1_200
"""How many characters it takes in a text that was cut at its token limit: such a text is no answer in any case."""
CHARS_WITHOUT_WORDS = 30_000
"""How many characters it takes where the block has no words: digits or dashes may be data, such as a table."""
TAIL = 32_768
"""How many characters of the end are looked at. The longest block that can be found is a quarter of it."""
PROBE = 48
"""How many of the last characters are looked for earlier in the text."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop that a text ends in: `block` again and again, for at least `chars` characters."""

    block: str
    chars: int


def loop_at_end(text: str, chars: int | None = None) -> Loop | None:
    """The loop that the text ends in, or None. Only exact repeats count, so a list or a table with a counter is none.

    `chars` replaces the number of characters that a loop must have. It takes some microseconds: the place where the
    last 48 characters stood before gives the period, and one comparison shows whether it holds.
    """
    size = len(text)
    before = text.rfind(text[-PROBE:], max(0, size - TAIL), max(0, size - 1))
    if before < 0 or size <= PROBE:
        return None
    period = size - PROBE - before
    block = text[size - period :]
    wanted = max(chars or (CHARS if _has_words(block) else CHARS_WITHOUT_WORDS), TIMES * period)
    if size < wanted or text[size - wanted + period :] != text[size - wanted : size - period]:
        return None
    return Loop(block, wanted)


def _has_words(block: str) -> bool:
    return len(set(block)) > 2 and any(c.isalpha() for c in block)
