r"""The filter `format` refuses answers that do not fit the training format, or lack the form that the prompt asked for.

A text must not hold tags of a chat template or of another layout, because such tags would teach the student to open a
second chain, or to end its turn too early.
"""

import re
from itertools import pairwise

from harvest.answers.boxes import find_boxes, side_by_side
from harvest.filters.phrases import around
from harvest.filters.reading import FENCE, Reading, Text

_SPECIAL = re.compile(
    r"<\|[A-Za-z][A-Za-z0-9_ ]{0,40}\|>|<\N{FULLWIDTH VERTICAL LINE}[^<>\s]{1,40}\N{FULLWIDTH VERTICAL LINE}>"
    r"|<(?:start_of_turn|end_of_turn|eos|bos|pad|unk)>|\[/?(?:INST|THINK|SYSTEM_PROMPT|AVAILABLE_TOOLS)\]|<</?SYS>>"
    r"|◁/?think▷"
)
"""Matches a chat template's tag. Such a tag is a fault inside programs too, because a tokenizer reads it everywhere."""
_TAG = re.compile(
    r"</?(?:think|thinking|thought|thoughts|reasoning|scratchpad|reflection|answer|final_answer|solution|output|response"
    r"|assistant|user|system|s)>",
    re.IGNORECASE,
)
"""Matches a tag of a layout. Such a tag is a fault outside programs, unless the prompt holds it too."""
MOST_PLACES = 20_000
"""In one text, at most this many opening brackets of each kind are examined."""
_ASKS_FOR_BOX = re.compile(r"\\+boxed\b")
_ASKS_FOR_BLOCK = re.compile(r"fenced (?:code )?block|```|code block|triple backticks", re.IGNORECASE)
_FENCE_LINE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)


def form(reading: Reading, _: object) -> str | None:
    if not reading.answer.whole.strip():
        return "the answer is empty" if reading.chain.whole.strip() else "there is neither chain nor answer"
    return _stray_tag(reading, reading.chain) or _stray_tag(reading, reading.answer) or _unlike_asked(reading)


def _stray_tag(reading: Reading, text: Text) -> str | None:
    for opening in "<[◁":
        for pattern, within in ((_SPECIAL, text.whole), (_TAG, text.prose)):
            at, places = within.find(opening), 0
            while at >= 0 and places < MOST_PLACES:
                places += 1
                if (found := pattern.match(within, at)) and not _is_asked_for(reading, found[0], pattern is _TAG):
                    return f"the {text.name} holds the tag {found[0]}: “{around(within, at, len(found[0]), 20)}”"
                at = within.find(opening, at + 1)
    return None


def _is_asked_for(reading: Reading, tag: str, of_a_layout: bool) -> bool:
    """Whether the question holds the tag, or the tag belongs to a layout and the prompt holds it."""
    return tag in reading.question.question or (of_a_layout and tag in reading.asked)


def _unlike_asked(reading: Reading) -> str | None:
    answer = reading.answer.whole
    is_code = reading.question.check == "code"
    if not is_code and _ASKS_FOR_BOX.search(reading.asked):
        boxes, unclosed = find_boxes(reading.answer.prose if FENCE.search(answer) else answer)
        if not boxes:
            why = "a box that never closes" if unclosed is not None else "none"
            inside = " (the chain alone has one)" if "\\boxed" in reading.chain.whole else ""
            return f"a final \\boxed{{}} was asked for and the answer has {why}{inside}"
        apart = [b for b, after in pairwise(boxes) if not side_by_side(answer[b.end : after.start])]
        if apart and apart[-1].content != boxes[-1].content:
            return f"two answers are boxed apart: {apart[-1].content[:60]} and {boxes[-1].content[:60]}"
    fences = len(_FENCE_LINE.findall(answer))
    if is_code and fences < 2 and _ASKS_FOR_BLOCK.search(reading.asked):
        return "a fenced program was asked for and the answer has none that is closed"
    return "a fenced block of the answer is never closed" if fences % 2 else None
