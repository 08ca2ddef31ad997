"""Finds the loop that a text ends in: the text repeats the same words again and again until its end."""

from dataclasses import dataclass

TIMES = 4
CHARS = 6_000
"""A text ends in a loop when the same block stands at its end at least TIMES times in a row, over at least CHARS
characters. Recorded loops repeat 8 to 1,600 times. The longest repetition that was no loop had 4 repeats over 1,101
characters (docs/streams.md)."""
CHARS_OF_CUT = 1_200
"""This replaces CHARS for a text that was cut at its token limit, because such a text is no answer in any case."""
CHARS_WITHOUT_WORDS = 30_000
"""This replaces CHARS when the block has no words, because digits or dashes may be data, such as a table."""
TAIL = 32_768
"""Only this many characters at the end of the text are searched. A block can be found if it is at most a quarter as
long."""
PROBE = 48
"""This many characters from the end of the text are looked for earlier in the text."""


@dataclass(frozen=True, slots=True)
class Loop:
    """This is a loop that a text ends in: the text repeats `block` for at least `chars` characters."""

    block: str
    chars: int


def loop_at_end(text: str, chars: int | None = None) -> Loop | None:
    """Returns the loop that the text ends in; None when the text ends in no loop.

    Only exact repeats count, so a list or a table with a counter is no loop. `chars` is the number of characters that
    a loop must have; None means CHARS, or CHARS_WITHOUT_WORDS when the block has no words.

    The function takes some microseconds. It finds the place where the last PROBE characters stood before. The distance
    to that place is the length of the block, and one comparison shows whether the text repeats that block.
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
