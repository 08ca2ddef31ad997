"""Compares an answer with its rewriting: whether the content is the same.

Both texts are (chain, answer). Rules are held to `keeps_all`. A model is held to `what_changed`, which also allows it
to put a program that stands in the text into a fenced block, and to state the result once more, in a box at the end.
"""

import re
from collections.abc import Iterator
from itertools import zip_longest

from harvest.answers.boxes import find_boxes
from harvest.core.printable import one_line
from harvest.filters.reading import FENCE

NUMBER = re.compile(r"[-\N{MINUS SIGN}+]?\d+(?:[.,]\d+)*")
OPERATOR = re.compile(r"[+=<≤≥≠×÷^]|(?<=[\w)}]) ?/ ?(?=[\w({\\])")
"""Signs between numbers and names. Of these, - * > are left out, since they are also marks of Markdown."""
END_OF_TEXT = 400
"""A box that a model adds may hold only what stands in so many characters at the end of the text."""
LEAST_KEPT, SHORT = 0.9, 200
"""A model must keep this share of the letters and digits, or leave out no more than SHORT of them (greetings)."""
_WRAPPED_WORDS = re.compile(r"\\(?:boxed|text)\b")
_TAG = re.compile(r"</?[A-Za-z|][^<>\n]{0,40}>")
_RULE = re.compile(r"^[ \t]*={3,}[ \t]*$", re.MULTILINE)
_FENCE_LINE = re.compile(r"^[ \t]*(?:```+|~~~+)[^\n]*$", re.MULTILINE)
_STATED_AGAIN = re.compile(
    r"(?:\A|\n)[ \t*_#>$]*(?:(?:so|thus|therefore|hence),? )?(?:(?:the )?(?:final )?(?:answer|result)(?: is)?)?"
    r"[ \t:*_$]*"
    r"(?:\\\[|\\\()?[ \t]*\\boxed\{(?P<inside>[^\n]*)\}[ \t.*_$]*(?:\\\]|\\\))?[ \t.*_$]*\s*\Z",
    re.IGNORECASE,
)
Parts = tuple[str | None, str]
"""(chain, answer). The chain is None when there is none."""


def keeps_all(before: Parts, after: Parts) -> bool:
    """Whether a rewriting keeps the content.

    It must keep the numbers in their order, keep the programs byte for byte, and add no letter and no digit.
    """
    old, new = _texts(before, after)
    if not after[1].strip():
        return False
    if _numbers(old) != _numbers(new):
        return False
    if [m[0].strip() for m in FENCE.finditer(old)] != [m[0].strip() for m in FENCE.finditer(new)]:
        return False
    return _adds_no_letter(old, new)


def what_changed(before: Parts, after: Parts) -> str | None:
    """Returns in words how a model's rewriting changed the content; None if it kept the content.

    The numbers and the operators must be the same in the same order, each program must be kept byte for byte, no letter
    may be added, and little may be left out. A fenced block may be added around text that stands there. A box may be
    added at the text's end alone: around what stands there, or around a result that is stated once more.
    """
    old, new = _texts(before, after)
    if not after[1].strip():
        return "there is no answer in it"
    new = _without_restated(old, new)
    if len(boxes := find_boxes(new)[0]) > len(find_boxes(old)[0]) and boxes[-1].start < len(new) - END_OF_TEXT:
        return "it has a box before the text's end"
    for was, is_now in zip_longest(_numbers(old), _numbers(new)):
        if was != is_now:
            return f"it has {one_line(is_now or 'no number', 40)} in place of {one_line(was or 'no number', 40)}"
    if any(program not in new for program in _programs(old)):
        return "a program in it is changed"
    if any(program not in old for program in _programs(new)):
        return "it has a program that the text has not"
    old, new = (_FENCE_LINE.sub("", text) for text in (old, new))
    if not _adds_no_letter(old, new):
        return "it has words that the text has not"
    if _operators(old) != _operators(new):
        return "it has other operators than the text"
    had, has = (sum(map(str.isalnum, text)) for text in (old, new))
    return "it leaves out a part of the text" if has < min(had - SHORT, LEAST_KEPT * had) else None


def _texts(before: Parts, after: Parts) -> tuple[str, str]:
    """Returns (the old text, the new text). A chain that is the same in both is left out."""
    if before[0] == after[0]:
        before, after = (None, before[1]), (None, after[1])
    old, new = ("\n".join(filter(None, parts)) for parts in (before, after))
    return old, new


def _numbers(text: str) -> list[str]:
    return NUMBER.findall(_WRAPPED_WORDS.sub(" ", text))


def _operators(text: str) -> list[str]:
    return [m[0].strip() for m in OPERATOR.finditer(_RULE.sub("", _TAG.sub("", text)))]


def _programs(text: str) -> Iterator[str]:
    """Yields what stands inside of each fenced block."""
    for fence in FENCE.finditer(text):
        yield _FENCE_LINE.sub("", fence[0]).strip()


def _adds_no_letter(old: str, new: str) -> bool:
    letters = iter(filter(str.isalnum, old))
    return all(c in letters for c in filter(str.isalnum, _without_new_boxes(old, new)))


def _without_restated(old: str, new: str) -> str:
    """Returns the new text without a result that it states once more in a box at its end."""
    if len(find_boxes(new)[0]) <= len(find_boxes(old)[0]):
        return new
    found = _STATED_AGAIN.search(new, max(0, len(new) - END_OF_TEXT))
    if found is None or not (said := _bare(found["inside"])):
        return new
    cut = new[: found.start()]
    return cut if said in _bare(old[-END_OF_TEXT:]) and cut.strip() else new


def _bare(text: str) -> str:
    return "".join(filter(str.isalnum, _WRAPPED_WORDS.sub("", text)))


def _without_new_boxes(old: str, new: str) -> str:
    """Returns the new text without the commands that a new box added."""
    for command in ("\\boxed", "\\text"):
        for _ in range(new.count(command) - old.count(command)):
            at = new.rfind(command)
            new = new[:at] + new[at + len(command) :]
    return new
