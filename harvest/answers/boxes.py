r"""Finds each `\boxed{…}` in an answer, and tells whether two boxes state two results."""

import re
from dataclasses import dataclass

MOST_CHARACTERS = 10_000
"""A stated result may have at most this many characters. For a longer result the check reports an error, not a wrong
answer."""
MOST_BOXES = 12
"""Only this many boxes are read, counted from the end of the text. No real list of solutions has more."""


@dataclass(frozen=True, slots=True)
class Box:
    start: int
    end: int
    content: str


_BOX = re.compile(r"\\(?:boxed|fbox)\b\s*(?:(\{)|(-?\d[\d.,/]*))")
_COMMAND = re.compile(r"\\(?:boxed|fbox)\b")


def _closing_brace(text: str, opened: int) -> int | None:
    depth, at = 0, opened
    stop = min(len(text), opened + MOST_CHARACTERS + 2)
    while at < stop:
        character = text[at]
        if character == "\\":
            at += 2
            continue
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    return None


def find_boxes(text: str) -> tuple[list[Box], str | None]:
    """Returns (the last finished boxes in the order of the text, the content of an unfinished box after them).

    At most MOST_BOXES boxes are read. The second part is None when no box after the finished boxes was left open.
    """
    commands = [m.start() for m in _COMMAND.finditer(text)][-MOST_BOXES:]
    boxes: list[Box] = []
    unclosed = None
    for start in commands:
        if boxes and start < boxes[-1].end:
            continue
        match = _BOX.match(text, start)
        if match is None:
            continue
        if match[2]:
            boxes.append(Box(start, match.end(), match[2].rstrip(".,")))
            unclosed = None
            continue
        closing = _closing_brace(text, match.end(1) - 1)
        if closing is None:
            unclosed = text[match.end(1) :][: MOST_CHARACTERS + 1]
            break
        content = text[match.end(1) : closing].strip()
        if content:
            boxes.append(Box(start, closing + 1, content))
    return boxes, unclosed


_FILLER = re.compile(
    r"(?:[\s$,;:.()\[\]\\*&|~!]|\\(?:text|mathrm|quad|qquad|hspace)\b|\{|\}|\b(?:and|or|either|also)\b"
    r"|[A-Za-z](?:_\{?\w+\}?)?\s*=)*"
)
_OTHERWISE = re.compile(
    r"[\s$,;:.)\]*\\]*(?:or|alternatively|otherwise|maybe|perhaps|possibly|another)\b", re.IGNORECASE
)
_FOLLOWS = re.compile(r"\b(?:so|thus|hence|therefore|then|gives?|yields?|becomes?)\b|=\s*$", re.IGNORECASE)
_ALTERNATIVE = re.compile(r"\bor\b|\balternatively\b", re.IGNORECASE)


def side_by_side(between: str) -> bool:
    """Whether two boxes state two results, judged by the text `between` the boxes.

    False means that the first box is a step on the way to the second box.
    """
    if len(between) > 160 or "\n\n" in between.strip():
        return bool(_OTHERWISE.match(between[:200])) and len(between) <= 400
    if _FILLER.fullmatch(between) or _OTHERWISE.match(between):
        return True
    if re.search(r"[.!?]\s|\n", between):
        return False
    if _ALTERNATIVE.search(between):
        return True
    return bool(re.search(r"\band\b", between)) and not _FOLLOWS.search(between)


def split_at_final_box(text: str) -> tuple[str, str] | None:
    r"""Returns (the text before the line of the last finished box, the text from that line on).

    The two parts together are `text`. The function serves teachers that write the chain into the answer: the first part
    is the chain. If the chain and the box are on one line, the cut is before the sentence with the box. Returns None
    when no box is finished, or when no text stands before the box.
    """
    boxes, _ = find_boxes(text)
    if not boxes:
        return None
    at = text.rfind("\n", 0, boxes[-1].start) + 1
    opening = re.search(r"(?:^|\n)[ \t]*(?:\\\[|\$\$|\\begin\{[a-z*]+\})[ \t]*\n[ \t]*$", text[max(0, at - 200) : at])
    if opening:
        at = max(0, at - 200) + opening.start() + (text[max(0, at - 200) + opening.start()] == "\n")
    if not text[:at].strip():
        at = max((m.end() for m in re.finditer(r"[.!?:]\s+", text[: boxes[-1].start])), default=0)
    return (text[:at], text[at:]) if text[:at].strip() else None
