r"""What the training format needs: one chain that ended, one answer after it, in the form that was asked for.

Tags that a chat template or another layout would add again must not stand in the text: trained, they teach the
student to open a second chain, or to end its turn in the middle.
"""

import re
from itertools import pairwise

from harvest.answers.boxes import find_boxes, side_by_side
from harvest.filters.phrases import around
from harvest.filters.reading import FENCE, Reading

_SPECIAL = re.compile(
    r"<\|[A-Za-z][A-Za-z0-9_ ]{0,40}\|>|<\N{FULLWIDTH VERTICAL LINE}[^<>\s]{1,40}\N{FULLWIDTH VERTICAL LINE}>"
    r"|<(?:start_of_turn|end_of_turn|eos|bos|pad|unk)>|\[/?(?:INST|THINK|SYSTEM_PROMPT|AVAILABLE_TOOLS)\]|<</?SYS>>"
    r"|◁/?think▷"
)
"""Of a chat template: wherever they stand, a tokeniser may read them as what they are."""
_TAG = re.compile(
    r"</?(?:think|thinking|thought|thoughts|reasoning|scratchpad|reflection|answer|final_answer|solution|output|response"
    r"|assistant|user|system|s)>",
    re.IGNORECASE,
)
"""Of a layout: a fault outside programs, unless what was asked speaks of it."""
MOST_PLACES = 20_000
"""Brackets of one kind that are looked at in one text."""
_ASKS_FOR_BOX = re.compile(r"\\+boxed\b")
_ASKS_FOR_BLOCK = re.compile(r"fenced (?:code )?block|```|code block|triple backticks", re.IGNORECASE)
_FENCE_LINE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)


def asks_for_box(reading: Reading) -> bool:
    """Whether a final box was asked for. A question about code is answered by its program, whatever the prompt says."""
    return reading.question.check != "code" and "boxed" in reading.asked and bool(_ASKS_FOR_BOX.search(reading.asked))


def asks_for_block(reading: Reading) -> bool:
    """Whether a program in a fenced block was asked for: only questions about code are."""
    return reading.question.check == "code" and bool(_ASKS_FOR_BLOCK.search(reading.asked))


def form(reading: Reading, _: object) -> str | None:
    answer = reading.answer
    if not answer.strip():
        return "the answer is empty" if reading.chain.strip() else "there is neither chain nor answer"
    return (
        _stray(reading, "chain", reading.chain, reading.chain_prose)
        or _stray(reading, "answer", answer, reading.answer_prose)
        or _unlike_asked(reading)
    )


def _stray(reading: Reading, where: str, text: str, prose: str) -> str | None:
    for opening in "<[◁":
        for pattern, within in ((_SPECIAL, text), (_TAG, prose)):
            at, places = within.find(opening), 0
            while at >= 0 and places < MOST_PLACES:
                places += 1
                if (found := pattern.match(within, at)) and not _is_asked_for(reading, found[0], pattern is _TAG):
                    return f"the {where} holds the tag {found[0]}: “{around(within, at, len(found[0]), 20)}”"
                at = within.find(opening, at + 1)
    return None


def _is_asked_for(reading: Reading, tag: str, of_a_layout: bool) -> bool:
    """Whether the question speaks of it, or the prompt asks for it."""
    return tag in reading.question.question or (of_a_layout and tag in reading.asked)


def _unlike_asked(reading: Reading) -> str | None:
    answer = reading.answer
    if asks_for_box(reading):
        boxes, unclosed = find_boxes(reading.answer_prose if FENCE.search(answer) else answer)
        if not boxes:
            why = "a box that never closes" if unclosed is not None else "none"
            inside = " (the chain alone has one)" if "\\boxed" in reading.chain else ""
            return f"a final \\boxed{{}} was asked for and the answer has {why}{inside}"
        apart = [b for b, after in pairwise(boxes) if not side_by_side(answer[b.end : after.start])]
        if apart and apart[-1].content != boxes[-1].content:
            return f"two answers are boxed apart: {apart[-1].content[:60]} and {boxes[-1].content[:60]}"
    fences = len(_FENCE_LINE.findall(answer))
    if asks_for_block(reading) and fences < 2:
        return "a fenced program was asked for and the answer has none that is closed"
    return "a fenced block of the answer is never closed" if fences % 2 else None
