r"""Where an answer states its result: the last finished box, or what it says at its end.

Nothing here evaluates anything. Every rule errs towards "not stated": a trace whose result nobody can point
at teaches nothing. Two different results side by side ("\boxed{3} or \boxed{4}") come back joined as
"3, 4", which is right only where the gold answer has both.
"""

import re
from dataclasses import dataclass
from typing import Literal

from harvest.checks.check import MOST_CHARACTERS

MOST_BOXES = 12
"""How many boxes at the end are looked at: a list of solutions is never longer."""


@dataclass(frozen=True, slots=True)
class Box:
    start: int
    end: int
    content: str


@dataclass(frozen=True, slots=True)
class Stated:
    """What an answer commits to: `value`, or None and `why` not.

    `also` is a second, different result that it states too: then both must be right.
    """

    value: str | None
    how: Literal["boxed", "stated", "last line"] = "stated"
    also: str | None = None
    why: str = ""


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


def _boxes(text: str) -> tuple[list[Box], str | None]:
    """The last boxes in order of place, and what stands in a later box that was never closed."""
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


def _side_by_side(between: str) -> bool:
    """Whether two boxes are two results, and not a step and the result that follows from it."""
    if len(between) > 160 or "\n\n" in between.strip():
        return bool(_OTHERWISE.match(between[:200])) and len(between) <= 400
    if _FILLER.fullmatch(between) or _OTHERWISE.match(between):
        return True
    if re.search(r"[.!?]\s|\n", between):
        return False
    if _ALTERNATIVE.search(between):
        return True
    return bool(re.search(r"\band\b", between)) and not _FOLLOWS.search(between)


_ANCHOR = re.compile(
    r"""(?ix)
    (?: ^[ \t]*+\#{4}[ \t]*(?=\S)                                   # GSM8K
      | ^[ \t>*_#-]*+(?:A|Ans)[ \t*_]*+:[ \t*_]*+                  # A: 26
      | \b(?:final[ ]|correct[ ]|right[ ])?(?:answers?|option|choice)\b[ \t*_]*+
        (?:\([^()\n]{0,40}\)[ \t*_]*+)?
        (?:(?:to|for|of|in)\b[^.:\n=]{0,80}?)?[ \t*_]{0,4}
        (?: : | = | \b(?:is|are|was|would[ ]be|should[ ]be|must[ ]be|will[ ]be|equals)\b )
        [ \t]*+(?:\b(?:therefore|thus|then|indeed|simply|just|clearly|either)\b,?[ \t]*+)?:?[ \t*_]*+
      | ^[ \t>*_#-]*+(?:final[ ])?answer[ \t*_]*+(?=\$|\\[(\[])
      | ^[ \t>*_#-]*+(?:final[ ])?answer[ \t*_]*+\n                   # a heading, the value below it
    )""",
    re.MULTILINE,
)
_LISTS_OPTIONS = re.compile(r"^[ \t>*_-]*B[ \t*_]*:", re.MULTILINE)
_DISPLAY = re.compile(r"\s*(?:\$\$(?P<dollars>.+?)\$\$|\\\[(?P<bracket>.+?)\\\])", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?](?:[*_\"')\]]*)(?=\s|$)")
_ABBREVIATION = re.compile(
    r"\b(?:sq|ft|in|cm|mi|hr|min|sec|lb|lbs|oz|vs|approx|Rs|Mr|Mrs|Dr|a\.m|p\.m)$", re.IGNORECASE
)
_REASON = re.compile(
    r"[,;]?\s+(?:because|since|as|when|where|which|so that|given that|assuming|for which)\b", re.IGNORECASE
)


def _first_sentence(line: str) -> str:
    for end in _SENTENCE_END.finditer(line):
        before = line[: end.start()]
        if not _ABBREVIATION.search(before) and before.strip():
            return before
    return line


def unwrapped(value: str) -> str:
    """Without what a model wraps a value in: emphasis, code ticks, dollar and bracket pairs, a final stop."""
    value = value.strip()
    while True:
        before = value
        value = value.strip().rstrip(".,;:!").strip() if not value.endswith(("\\!", "\\,", "\\;")) else value[:-2]
        for opening, closing in (
            ("**", "**"), ("__", "__"), ("*", "*"), ("`", "`"), ("$$", "$$"), ("$", "$"),
            ("\\(", "\\)"), ("\\[", "\\]"), ("“", "”"), ('"', '"'),
        ):  # fmt: skip
            inside = value[len(opening) : -len(closing)]
            if (
                len(value) > len(opening) + len(closing)
                and value.startswith(opening)
                and value.endswith(closing)
                and not inside.endswith("\\")
                and opening not in inside
            ):
                value = inside
                break
        if value == before:
            return value


def _value_after(text: str, at: int) -> str | None:
    rest = text[at : at + MOST_CHARACTERS]
    display = _DISPLAY.match(rest)
    if display:
        return unwrapped(display["dollars"] or display["bracket"])
    lines = [line for line in rest.split("\n", 6)[:6] if line.strip(" \t*_")]
    if not lines:
        return None
    line = _REASON.split(_first_sentence(" ".join(lines[0].split())), maxsplit=1)[0]
    for pair in ("**", "__"):
        if line.count(pair) % 2:
            line = line.replace(pair, "")
    return unwrapped(line) or None


def _anchored(text: str) -> list[tuple[int, int, str]]:
    """Start, end and value of each place that announces the answer, in order."""
    found = []
    for match in _ANCHOR.finditer(text):
        if match[0].strip(" \t>*_#-").upper().startswith("A:") and _LISTS_OPTIONS.search(text, match.end()):
            continue
        value = _value_after(text, match.end())
        if value and not _ANCHOR.match(value):
            found.append((match.start(), match.end(), value))
    return found


_FAREWELL = re.compile(
    r"^\W*(?:i hope (?:it|this)|hope this|let me know|```|</?answer>|---+|\\end\{[a-z*]+\})|^\s*(?:\\\]|\$\$)\s*$",
    re.IGNORECASE,
)


def last_line(text: str) -> str | None:
    lines = [line for line in text.strip()[-MOST_CHARACTERS:].split("\n") if line.strip()]
    while lines and _FAREWELL.match(lines[-1]):
        lines.pop()
    return unwrapped(lines[-1]) or None if lines else None


def after_thinking(text: str) -> str | None:
    """What stands after the chain, where a chain's tag was left in the answer. None: it never ended."""
    _, tag, tail = text.rpartition("</think>")
    if tag:
        return tail
    return None if text.lstrip().startswith("<think>") else text


def find_stated(answer: str) -> Stated:
    """What the answer commits to, or in words why nothing can be found."""
    text = after_thinking(answer)
    if text is None:
        return Stated(None, why="the thinking never ended")
    if not text.strip():
        return Stated(None, why="the answer is empty")
    boxes, unclosed = _boxes(text)
    if unclosed is not None:
        if len(unclosed) > MOST_CHARACTERS:
            return Stated(unclosed, "boxed")
        last = boxes[-1].content if boxes else None
        if last is None or not unclosed.strip().startswith(last):
            return Stated(None, why="the box is not closed")
    if boxes:
        return _from_boxes(text, boxes)
    tail = text[-MOST_CHARACTERS:]
    anchored = _anchored(tail)
    if anchored:
        start, _, value = anchored[-1]
        also = None
        if len(anchored) > 1:
            _, before_end, before = anchored[-2]
            gap = tail[before_end:start]
            rest = gap[len(before) :] if gap.startswith(before) else gap.replace(before, "", 1)
            if before != value and (not rest.strip(" \t\n.*_$") or _OTHERWISE.match(rest)):
                also = before
        return Stated(value, "stated", also)
    line = last_line(tail)
    return Stated(line, "last line") if line else Stated(None, why="the answer ends without a result")


def _from_boxes(text: str, boxes: list[Box]) -> Stated:
    group = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        if not _side_by_side(text[box.end : group[0].start]):
            break
        group.insert(0, box)
    contents = list(dict.fromkeys(" ".join(box.content.split()) for box in group))
    value = contents[0] if len(contents) == 1 else ", ".join(contents)
    later = _anchored(text[boxes[-1].end :][:MOST_CHARACTERS])
    return Stated(value, "boxed", later[-1][2] if later else None)


def final_answer(text: str) -> str | None:
    """The result that an answer states: its last finished box, what it announces as its answer, or its last
    line. None where there is none, or its box was never closed."""
    return find_stated(text).value


def split_at_final_box(text: str) -> tuple[str, str] | None:
    r"""What stands before the line of the last finished box, and from there on; joined again they are `text`.

    For a teacher that thinks in its answer: the first part is its chain. Where the box's line holds the chain
    too, the cut is before the sentence with the box. None: no finished box, or nothing before it.
    """
    boxes, _ = _boxes(text)
    if not boxes:
        return None
    at = text.rfind("\n", 0, boxes[-1].start) + 1
    opening = re.search(r"(?:^|\n)[ \t]*(?:\\\[|\$\$|\\begin\{[a-z*]+\})[ \t]*\n[ \t]*$", text[max(0, at - 200) : at])
    if opening:
        at = max(0, at - 200) + opening.start() + (text[max(0, at - 200) + opening.start()] == "\n")
    if not text[:at].strip():
        at = max((m.end() for m in re.finditer(r"[.!?:]\s+", text[: boxes[-1].start])), default=0)
    return (text[:at], text[at:]) if text[:at].strip() else None
