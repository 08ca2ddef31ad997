"""Splits a chain into its steps, finds the steps that repeat, and marks passages in them. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harvest.answers.repetition import CHARS_OF_CUT, loop_at_end

LONG_STEP = 2_000
"""A step with more characters than this is split at its line breaks."""
LONGEST_PERIOD = 8
"""At most this many steps in a row are found to repeat as a group."""
TIMES = 3
"""A group of steps is collapsed when it stands at least this many times in a row."""
MOST_CONTROLS = 200
"""At most this many control characters of a step are shown by their names; the others become U+FFFD."""
_BREAK = re.compile(r"\n[ \t]*\n\s*")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class Span:
    """A passage of a text, and why it is marked."""

    start: int
    end: int
    why: str


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a chain: the characters from `start` to `end`, and its number, from 1."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Repeat:
    """Stands for steps that are left out, because they repeat the `steps` ones before them another `times` times."""

    steps: int
    times: int
    start: int
    end: int


def steps_of(text: str) -> list[Step | Repeat]:
    """Returns the steps of a chain in their order, each repetition collapsed.

    A step is a paragraph; a fenced block of code is in one step. A long paragraph is split at its line breaks. A loop
    at the end of the last step is a repetition too.
    """
    blocks = list(_blocks(text))
    found: list[Step | Repeat] = []
    at = 0
    texts = [text[start:end].strip() for start, end in blocks]
    while at < len(blocks):
        period, times = _repeated(texts, at)
        found += [Step(at + n + 1, *blocks[at + n]) for n in range(period)]
        if times > 1:
            found.append(Repeat(period, times - 1, blocks[at + period][0], blocks[at + period * times - 1][1]))
        at += period * times
    if found and isinstance(last := found[-1], Step):
        found[-1:] = _loop_collapsed(text, last)
    return found


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Gives (start, end) of each paragraph, without the empty lines between paragraphs."""
    start = counted = fences = 0
    fenced = _FENCE.search(text) is not None
    for found in _BREAK.finditer(text):
        if fenced:
            fences += len(_FENCE.findall(text, counted, found.start()))
            counted = found.end()
            if fences % 2:
                continue
        if text[start : found.start()].strip():
            yield from _lines(text, start, found.start(), fences > 0)
        start = counted = found.end()
        fences = 0
    if text[start:].strip():
        yield from _lines(text, start, len(text.rstrip()), fences > 0)


def _lines(text: str, start: int, end: int, has_code: bool) -> Iterator[tuple[int, int]]:
    """Gives a paragraph as it is, or in parts of at most LONG_STEP characters that end at line breaks."""
    while end - start > LONG_STEP and not has_code:
        cut = text.rfind("\n", start, start + LONG_STEP)
        if cut <= start and (cut := text.find("\n", start, end)) < 0:
            break
        yield start, cut
        start = cut + 1
    if text[start:end].strip():
        yield start, end


def _repeated(texts: Sequence[str], at: int) -> tuple[int, int]:
    """Returns (how many steps from `at` on form a group that repeats, how many times it stands there); (1, 1) if no
    group repeats."""
    for period in range(1, LONGEST_PERIOD + 1):
        times = 1
        while texts[at : at + period] == texts[at + times * period : at + (times + 1) * period]:
            times += 1
        if times >= TIMES:
            return period, times
    return 1, 1


def _loop_collapsed(text: str, last: Step) -> list[Step | Repeat]:
    loop = loop_at_end(text[last.start : last.end], CHARS_OF_CUT)
    if loop is None:
        return [last]
    size, begin = len(loop.block), last.end
    while begin - size >= last.start and text.startswith(loop.block, begin - size):
        begin -= size
    once = begin + size
    return [Step(last.number, last.start, once), Repeat(0, (last.end - once) // size, once, last.end)]


def shown_steps(text: str, spans: Iterable[Span]) -> list[dict[str, Any]]:
    """Returns the steps of a chain as the page shows them: {n, pieces} for each step, {repeats, steps, chars} for
    steps that are left out."""
    marked = sorted(spans, key=lambda s: (s.start, s.end))
    shown: list[dict[str, Any]] = []
    for step in steps_of(text):
        if isinstance(step, Repeat):
            shown.append({"repeats": step.times, "steps": step.steps, "chars": step.end - step.start})
        else:
            shown.append({"n": step.number, "pieces": pieces(text, step.start, step.end, marked)})
    return shown


def pieces(text: str, start: int, end: int, spans: Sequence[Span]) -> list[list[str]]:
    """Returns the characters from `start` to `end` as pieces: [text], or [text, why it is marked].

    `spans` are in the order of their starts. A character that does not show, or that turns the direction of a text, is
    a piece with its name.
    """
    found: list[list[str]] = []
    at = start
    for span in spans:
        begin, stop = max(at, span.start), min(end, span.end)
        if begin < stop:
            found += _visible(text[at:begin])
            found.append([_CONTROL.sub("\ufffd", text[begin:stop]), span.why])
            at = stop
    return found + _visible(text[at:end])


def _visible(text: str) -> list[list[str]]:
    text = text.replace("\r\n", "\n")
    if text.isascii() and text.isprintable():
        return [[text]] if text else []
    found: list[list[str]] = []
    at = 0
    for control in _CONTROL.finditer(text):
        if len(found) > 2 * MOST_CONTROLS:
            break
        if control.start() > at:
            found.append([text[at : control.start()]])
        found.append([f"U+{ord(control[0]):04X}", "control"])
        at = control.end()
    rest = _CONTROL.sub("\ufffd", text[at:])
    return [*found, [rest]] if rest else found
