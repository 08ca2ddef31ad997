"""Chains that repeat themselves: the same words over and over, anywhere, or the same lines with a counter in them.

`answers/repetition.py` finds what a stream ends in while it is still paid for; here all of a finished text is read, so
less is enough. Three looks, each linear:

1. probes of 32 characters every 128, with digits read as one: where one stands again within 2,000 characters, the
   distance is a period, and a comparison says how far it holds;
2. eight words in a row that stood before: their share of the whole;
3. different words among 300 in a row, of a text that packs well.

Programs are left out. A block whose several numbers change is reckoning (a table of products), not a loop; a block
that was in the question (a pattern to go on with) is none either.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from harvest.filters.phrases import around
from harvest.filters.reading import Reading

PROBE, STEP, REACH = 32, 128, 2_000
TIMES, CHARS = 4, 240
"""A block of three words or more, so many times in a row, over so many characters."""
SHORT_TIMES, SHORT_CHARS = 20, 400
"""A shorter block: "no, no, no"."""
DATA_CHARS = 4_000
"""A block without letters: a ruled table, a row of zeros."""
COUNTED_TIMES, COUNTED_LETTERS = 6, 25
"""Lines that are equal but for one number which counts on: so many, with so many letters each."""
GRAM, GRAMS_AGAIN, LEAST_GRAMS = 8, 0.45, 60
WINDOW, DISTINCT = 300, 45
"""Of words: chains that are stuck have 20 to 41 different ones, others 47 and more."""
FEWEST_OF_A_SENTENCE = 6
"""Different words of letters in such a window; a truth table has fewer."""
PACKED = 3.9
"""Plain deflate makes that much of a text that the second and third look would refuse."""
LONG = 400
"""Words beyond which a text is packed first to see whether the slower looks are worth it."""

_ONE_DIGIT = bytes.maketrans(b"123456789", b"0" * 9)
_NUMBER = re.compile(rb"\d+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_ROWS = 64
_ASKS_TO_REPEAT = re.compile(r"\b(?:\w+ times|repeat\w*|over and over|copies|once a line|each line)\b")


@dataclass(frozen=True, slots=True)
class Stretch:
    """`period` bytes stand over and over from `start` to `end`, digits read as one."""

    start: int
    end: int
    period: int

    @property
    def times(self) -> float:
        return (self.end - self.start) / self.period


def repetition(reading: Reading, _: object) -> str | None:
    asked = reading.asked_plain
    for where, text, words in (
        ("chain", reading.chain_plain, reading.chain_words),
        ("answer", reading.answer_plain, reading.answer_words),
    ):
        if len(text) >= CHARS and (found := _loop(text, asked) or _again(text, words, asked)):
            return f"the {where} {found}"
    return None


def _loop(text: str, asked: str) -> str | None:
    raw = text.encode("utf-8", "replace")
    even = raw.translate(_ONE_DIGIT)
    for stretch in stretches(even):
        if said := _is_loop(raw, stretch, asked):
            return said
    return None


def stretches(text: bytes) -> Iterator[Stretch]:
    """Where a block stands at least three times in a row, in order of place."""
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
    """How far to both sides each byte is the one a period later: compared in pieces that double, then halve."""
    end = at + period + PROBE
    step = 64
    while step:
        if end + step <= len(text) and text[end : end + step] == text[end - period : end - period + step]:
            end += step
            step *= 2
        else:
            step //= 2
    start = at
    step = 64
    while step:
        if start >= step and text[start - step : start] == text[start - step + period : start + period]:
            start -= step
            step *= 2
        else:
            step //= 2
    return start, end


def _is_loop(raw: bytes, stretch: Stretch, asked: str) -> str | None:
    chars, times = stretch.end - stretch.start, int(stretch.times)
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
            wanted = times >= TIMES and chars >= CHARS
        elif any(c.isalpha() for c in block):
            wanted = times >= SHORT_TIMES and chars >= SHORT_CHARS
        else:
            wanted = chars >= DATA_CHARS
    else:
        wanted = times >= COUNTED_TIMES and letters >= COUNTED_LETTERS and chars >= CHARS and _counts_on(rows)
    if not wanted or _was_asked(block, asked):
        return None
    how = "says" if exact else "counts on"
    return f"{how} {times} times in a row: “{around(block, 0, 120, 0)}”"


def _counts_on(rows: list[bytes]) -> bool:
    """Whether one number alone changes from row to row, by the same step."""
    columns = list(zip(*(_NUMBER.findall(row) for row in rows), strict=False))
    changing = [[int(n[:18]) for n in column] for column in columns if len(set(column)) > 1]
    if len(changing) != 1:
        return False
    steps = {b - a for a, b in zip(changing[0], changing[0][1:], strict=False)}
    return len(steps) == 1


def _was_asked(block: str, asked: str) -> bool:
    """Whether what was asked has the block twice in a row, to be copied or gone on with, or asks for it many times."""
    once, twice = block.strip(), (2 * block).strip()
    return bool(twice) and (twice in asked or (once in asked and bool(_ASKS_TO_REPEAT.search(asked))))


def _again(text: str, words: list[str], asked: str) -> str | None:
    if len(words) - GRAM < LEAST_GRAMS:
        return None
    for start in range(0, len(words) - WINDOW + 1, WINDOW * 2 // 3):
        few = set(words[start : start + WINDOW])
        if len(few) < DISTINCT and _says(few) and " ".join(words[start : start + GRAM // 2]) not in asked:
            return f"has {len(few)} different words in {WINDOW}: “{' '.join(words[start : start + 24])}”"
    if len(words) > LONG and len(text) < PACKED * len(zlib.compress(text.encode("utf-8", "replace"), 1)):
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
    """Whether there are sentences in it, and not the cells of a table."""
    return sum(len(word) > 1 and word.strip(".,;:!?").isalpha() for word in words) >= FEWEST_OF_A_SENTENCE
