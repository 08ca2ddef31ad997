"""The filter `repetition` refuses texts that say the same words again and again, or the same lines with a counter.

`answers/repetition.py` finds a loop at the end of a stream that is still being paid for. This filter reads a whole,
finished text, so it needs fewer repetitions. It makes three tests, each in linear time:

1. It takes a probe of 32 bytes every 128 bytes, and reads all digits as 0. If a probe stands again within 2,000 bytes,
   the distance is a period, and a comparison says how far the text goes on with that period.
2. It counts the different words among 300 words in a row.
3. It counts what share of all sequences of eight words has stood earlier in the text.

A text that hardly compresses skips the third test. Programs are left out. A block in which several numbers change is a
calculation (a table of products) and no loop. A block that the prompt holds (a pattern to continue) is no loop.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from harvest.filters.phrases import around
from harvest.filters.reading import Reading, Text

PROBE, STEP, REACH = 32, 128, 2_000
TIMES, BYTES = 4, 240
"""A block of at least three words and 12 letters is a loop if it stands at least TIMES times in a row and fills at
least BYTES bytes."""
SHORT_TIMES, SHORT_BYTES = 20, 400
"""A shorter block, such as "no,", is a loop if it stands at least SHORT_TIMES times in a row and fills at least
SHORT_BYTES bytes."""
DATA_BYTES = 4_000
"""A block without letters, such as a ruled table or a row of zeros, is a loop if it goes on for this many bytes."""
COUNTED_TIMES, COUNTED_LETTERS = 6, 25
"""Lines that differ only in a number that counts on are a loop if there are at least COUNTED_TIMES such lines with at
least COUNTED_LETTERS letters each."""
GRAM, GRAMS_AGAIN, LEAST_GRAMS = 8, 0.45, 60
"""At most the share GRAMS_AGAIN of a text's sequences of GRAM words may have stood earlier in the text. A text with
fewer than LEAST_GRAMS sequences passes."""
WINDOW, DISTINCT = 300, 45
"""A window of WINDOW words in a row must hold at least DISTINCT different words. Recorded chains that are stuck hold 20
to 41 different words; all other recorded chains hold 47 or more."""
FEWEST_OF_A_SENTENCE = 6
"""A window is prose if at least this many of its different words have only letters. A truth table has fewer."""
PACKED = 3.9
"""Deflate makes a text at least this many times smaller if the third test would refuse the text."""
LONG = 400
"""A text with more words than this is compressed first, to see whether the third test is worth its time."""

_ONE_DIGIT = bytes.maketrans(b"123456789", b"0" * 9)
_NUMBER = re.compile(rb"\d+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_ROWS = 64
_ASKS_TO_REPEAT = re.compile(r"\b(?:\w+ times|repeat\w*|over and over|copies|once a line|each line)\b")


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a text, from byte `start` to byte `end`, that repeats a block of `period` bytes.

    Two blocks that differ only in digits count as the same block.
    """

    start: int
    end: int
    period: int


def repetition(reading: Reading, _: object) -> str | None:
    asked = reading.asked_plain
    for text in (reading.chain, reading.answer):
        if len(text.plain) < BYTES:
            continue
        raw = text.plain.encode("utf-8", "replace")
        loops = (_loop_fault(raw, stretch, asked) for stretch in _stretches(raw.translate(_ONE_DIGIT)))
        if found := next(filter(None, loops), None) or _again(text, asked):
            return f"the {text.name} {found}"
    return None


def _stretches(text: bytes) -> Iterator[Stretch]:
    """Yields each stretch in which a block stands at least three times in a row, in the order of the text."""
    at, size = 0, len(text)
    while at < size - PROBE:
        again = text.find(text[at : at + PROBE], at + 1, at + PROBE + REACH)
        if again < 0:
            at += STEP
            continue
        period = again - at
        start, end = _extent(text, at, period)
        if end - start >= 3 * period:
            yield Stretch(start, end, period)
        at = max(at + STEP, end - period)


def _extent(text: bytes, at: int, period: int) -> tuple[int, int]:
    """Returns (first byte, end) of the part around `at` in which each byte equals the byte one period later.

    The function compares pieces of text. A piece is twice as large after an equal piece, and half as large after a
    piece that differs.
    """
    start, end = at, at + period + PROBE
    step = 64
    while step:
        if end + step <= len(text) and text[end : end + step] == text[end - period : end - period + step]:
            end += step
            step *= 2
        else:
            step //= 2
    step = 64
    while step:
        if start >= step and text[start - step : start] == text[start - step + period : start + period]:
            start -= step
            step *= 2
        else:
            step //= 2
    return start, end


def _loop_fault(raw: bytes, stretch: Stretch, asked: str) -> str | None:
    """Returns what is wrong with a stretch, in words; None if it is no loop, or if the prompt asked to repeat."""
    length = stretch.end - stretch.start
    times = length // stretch.period
    block = raw[stretch.start : stretch.start + stretch.period].decode("utf-8", "ignore")
    words = _WORD.findall(block)
    letters = sum(map(len, words))
    rows = [
        raw[at : at + stretch.period]
        for at in range(stretch.start, stretch.start + stretch.period * min(times, _ROWS), stretch.period)
    ]
    rows = rows[1:] if len(rows) > TIMES else rows  # the first may begin with another digit
    exact = all(row == rows[-1] for row in rows)
    if exact:
        if len(words) >= 3 and letters >= 12:
            wanted = times >= TIMES and length >= BYTES
        elif any(c.isalpha() for c in block):
            wanted = times >= SHORT_TIMES and length >= SHORT_BYTES
        else:
            wanted = length >= DATA_BYTES
    else:
        wanted = times >= COUNTED_TIMES and letters >= COUNTED_LETTERS and length >= BYTES and _counts_on(rows)
    if not wanted or _was_asked(block, asked):
        return None
    how = "says" if exact else "counts on"
    return f"{how} {times} times in a row: “{around(block, 0, 120, 0)}”"


def _counts_on(rows: list[bytes]) -> bool:
    """Whether exactly one number changes from row to row, and changes by the same step each time."""
    columns = list(zip(*(_NUMBER.findall(row) for row in rows), strict=False))
    changing = [[int(n[:18]) for n in column] for column in columns if len(set(column)) > 1]
    if len(changing) != 1:
        return False
    steps = {b - a for a, b in zip(changing[0], changing[0][1:], strict=False)}
    return len(steps) == 1


def _was_asked(block: str, asked: str) -> bool:
    """Whether the prompt holds the block twice in a row, to be copied or continued, or holds it and asks to repeat."""
    once, twice = block.strip(), (2 * block).strip()
    return bool(twice) and (twice in asked or (once in asked and bool(_ASKS_TO_REPEAT.search(asked))))


def _again(text: Text, asked: str) -> str | None:
    """Makes the second and the third test. Returns the fault in words; None if the text passes both.

    The second test finds too few different words in a window. The third test finds too many sequences of words that
    stood earlier in the text.
    """
    words = text.words
    if len(words) - GRAM < LEAST_GRAMS:
        return None
    for start in range(0, len(words) - WINDOW + 1, WINDOW * 2 // 3):
        few = set(words[start : start + WINDOW])
        if len(few) < DISTINCT and _says(few) and " ".join(words[start : start + GRAM // 2]) not in asked:
            return f"has {len(few)} different words in {WINDOW}: “{' '.join(words[start : start + 24])}”"
    if len(words) > LONG and len(text.plain) < PACKED * len(zlib.compress(text.plain.encode("utf-8", "replace"), 1)):
        return None
    words = [word for word in words if any(map(str.isalnum, word))]
    grams = list(zip(*(words[i:] for i in range(GRAM)), strict=False))
    again = len(grams) - len(set(grams))
    if len(grams) < LEAST_GRAMS or again <= GRAMS_AGAIN * len(grams):
        return None
    usual = " ".join(Counter(grams).most_common(1)[0][0])
    if " ".join(usual.split()[: GRAM // 2]) in " ".join(asked.split()):
        return None
    return f"says {again / len(grams):.0%} of its words again in the same order: “{usual}”"


def _says(words: set[str]) -> bool:
    """Whether the different words `words` come from sentences, and not from the cells of a table."""
    return sum(len(word) > 1 and word.strip(".,;:!?").isalpha() for word in words) >= FEWEST_OF_A_SENTENCE
