"""Whether a text has run into a loop: the same words again and again until its end. Pure."""

from dataclasses import dataclass

TIMES = 4
CHARS = 6_000
"""The same block stands at the end of the text so many times in a row, over so many characters or more. Recorded loops
repeat 8 to 1,600 times; where none comes of it, 4 times over 1,101 characters is the most (docs/streams.md)."""
CHARS_OF_CUT = 1_200
"""The same for a text that was cut at its limit, and is no answer whatever it ends in: just over that most."""
CHARS_WITHOUT_WORDS = 30_000
"""A block of digits, dashes or one letter alone may be data: a matrix of zeros, a ruled table."""
TAIL = 32_768
"""How much of the end is worth looking at: the longest block that can be found is a quarter of it."""
PROBE = 48


@dataclass(frozen=True, slots=True)
class Loop:
    """What a text ends in: `block`, over and over, for `chars` characters at least."""

    block: str
    chars: int


def loop_at_end(text: str, chars: int | None = None) -> Loop | None:
    """The loop that the text ends in; exact repeats alone, so enumerations, tables and refrains are none.

    `chars` in place of how many it takes otherwise: of a text that was cut at its limit, fewer tell. Takes some
    microseconds: where the last 48 characters stood before tells the period, and one comparison whether it holds.
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
