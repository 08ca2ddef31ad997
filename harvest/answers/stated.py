r"""Finds the result that an answer states: in its last finished box, in what it announces, or in its last line.

Nothing is evaluated. In doubt, a rule says that no result is stated, because a trace without a clear result teaches
nothing. Two different results side by side ("\boxed{3} or \boxed{4}") are joined to "3, 4", which is right only if the
gold answer has both results.
"""

import re
from dataclasses import dataclass
from typing import Literal

from harvest.answers.boxes import MOST_CHARACTERS, Box, find_boxes, side_by_side
from harvest.core.chain_marks import S1, THINK, THOUGHT


@dataclass(frozen=True, slots=True)
class Stated:
    """This is the result that an answer states. `value` is None when it states none, and `why` then says the reason.

    `how` says where the result was found. `also` is a different second result that the answer states beside `value`,
    for example after the box; None when there is none. If there is one, both results must be right.
    """

    value: str | None
    how: Literal["boxed", "stated", "last line"] = "stated"
    also: str | None = None
    why: str = ""


def find_stated(answer: str, lettered: bool = False) -> Stated:
    """Returns the result that an answer states, or the reason why no result can be found.

    `lettered` says that the question has options. Then "A:" at the beginning of a line is an option's letter; else it
    means "answer:".
    """
    text = after_thinking(answer)
    if text is None:
        return Stated(None, why="the thinking never ended")
    text = _without_code(_plain_text(text))
    closed = [tag.end() for tag in _TAG_ENDS.finditer(text)]
    tagged = _TAG.findall(text, 0, closed[-1]) if closed else []  # a tag that never closes is looked at once
    if tagged:
        return _from_tags(tagged)
    if re.search(r"<answer>", text):
        return Stated(None, why="the answer tag is not closed")
    if not text.strip():
        return Stated(None, why="the answer is empty")
    boxes, unclosed = find_boxes(text)
    if unclosed is not None:
        if len(unclosed) > MOST_CHARACTERS:
            return Stated(unclosed, "boxed")
        last = boxes[-1].content if boxes else None
        if last is None or not unclosed.strip().startswith(last):
            return Stated(None, why="the box is not closed")
    return _from_boxes(text, boxes) if boxes else _from_words(text, lettered)


def final_answer(text: str) -> str | None:
    """Returns the result that an answer states: its last box, what it announces as its answer, or its last line.

    Returns None when the answer states no result, for example because its last box was never closed.
    """
    return find_stated(text).value


# ---- what is no part of the answer

_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_TAG_ENDS = re.compile(r"</answer>", re.IGNORECASE)
_SPECIAL = re.compile(r"<\|(?:im_start|start_header_id|endoftext|eot_id|end|user)\|>.*\Z", re.DOTALL)
_TOKEN = re.compile(r"<\|[a-z_]{2,24}\|>|</?s>|<eos>|<end_of_turn>|<\N{FULLWIDTH VERTICAL LINE}[^<>]{2,40}>")
_PUNCTUATION = str.maketrans("。：，；（）！？", ".:,;()!?")
_FENCE = re.compile(r"^[ \t]*```[ \t]*([A-Za-z+#]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
_PROSE_FENCES = frozenset(("", "text", "txt", "latex", "tex", "math", "markdown", "md", "plaintext", "answer", "json"))
_INLINE_CODE = re.compile(r"`[^`\n]*\\(?:boxed|fbox)[^`\n]*`(?![*_.\s]*$)", re.MULTILINE)


def after_thinking(text: str) -> str | None:
    """Returns the text after the chain if the tags of a chain were left in the text, else the whole text.

    Returns None when the tag that opens a chain is never closed.
    """
    for opening, closing in (THINK, THOUGHT, S1):
        _, tag, tail = text.rpartition(closing)
        if tag:
            return tail
        if text.lstrip().startswith(opening):
            return None
    return text


def _plain_text(text: str) -> str:
    """Returns the text without the special tokens that a server left in it, and with Chinese punctuation made ASCII."""
    text = _TOKEN.sub("", _SPECIAL.sub("", text)) if "<" in text else text
    text = text.replace("\x08oxed", r"\boxed")  # "\b" of a JSON text that was unescaped twice
    return text if text.isascii() else text.translate(_PUNCTUATION)


def _without_code(text: str) -> str:
    """Returns the text without programs and quoted boxes, because what a program would print is no stated result."""
    if "`" not in text:
        return text
    text = _FENCE.sub(lambda fence: fence[2] if fence[1].lower() in _PROSE_FENCES else "\n", text)
    return _INLINE_CODE.sub(" ", text)


# ---- tags and boxes


def _from_tags(tagged: list[str]) -> Stated:
    results = [_inside(content.strip()) for content in tagged[-3:]]
    last = results[-1]
    others = [result.value for result in results if result.value != last.value and result.value]
    return Stated(last.value, last.how, others[-1], last.why) if others and last.value else last


def _inside(content: str) -> Stated:
    if not content:
        return Stated(None, why="the answer tag is empty")
    found = find_stated(content)
    if found.how == "last line" and found.value and "\n" not in content:
        return Stated(unwrapped(content) or None, "stated")
    return found


_TAKES_BACK = re.compile(
    r"\b(?:wait|actually|correction|scratch that|on second thoughts?|oops|hmm+|i made an? (?:mistake|error)"
    r"|(?:that|this|which|it) (?:is|was) (?:wrong|incorrect|not (?:right|correct))|let me (?:re-?\w+|correct|fix))\b"
    r"|\bthat's (?:wrong|incorrect|not right)",
    re.IGNORECASE,
)
_LAST_FIGURE = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")


def _from_boxes(text: str, boxes: list[Box]) -> Stated:
    group = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        if not side_by_side(text[box.end : group[0].start]):
            break
        group.insert(0, box)
    contents = list(dict.fromkeys(" ".join(box.content.split()) for box in group))
    value = contents[0] if len(contents) == 1 else ", ".join(contents)
    refused = _REFUSES.search(text, max(0, boxes[-1].start - 200))
    if refused:
        return Stated(None, why=f"it says “{refused[0]}”")
    after = text[boxes[-1].end :][:MOST_CHARACTERS]
    later = _announced(after)
    if later:
        return Stated(value, "boxed", later[-1].value)
    taken_back = _TAKES_BACK.search(after)
    if taken_back:
        figures = _LAST_FIGURE.findall(after[taken_back.start() :])
        if not figures or figures[-1] != value or re.search(r"\b(?:wrong|incorrect|mistake|instead)\b", after):
            return Stated(None, why=f"“{taken_back[0]}” takes the box back")
    return Stated(value, "boxed")


# ---- words

MOST_ANNOUNCEMENTS = 20
"""Only this many announcements are read, counted from the end of the text. Reading an announcement takes time in
proportion to the text after it."""
_WORDS_FOR_ANSWER = "answers?|option|choice|respuesta|réponse|antwort|risposta|resposta|ответ"
_ANCHOR = re.compile(
    rf"""(?ix)
    (?: ^[ \t]*+\#{{4}}[ \t]*(?=\S)                                 # GSM8K
      | ^[ \t>*_#-]*+(?:A|Ans)[ \t*_]*+[:.][ \t*_]*+              # A: 26
      | (?:最终|正确)?答案[ \t]*(?:应该)?(?:是|为|為)?[ \t]*:?[ \t]*
      | \b(?:final[ _]|correct[ ]|right[ ]|best[ ])?(?:{_WORDS_FOR_ANSWER})\b"?[ \t*_]*+
        (?:\((?![A-Za-z]\))[^()\n]{{0,40}}\)[ \t*_]*+)?
        (?:(?:to|for|of|in)\b[^.:\n=]{{0,80}}?)?[ \t*_]{{0,4}}
        (?: : | = | \b(?:is|are|was|would[ ]be|should[ ]be|must[ ]be|will[ ]be|equals|es|est|ist|è|é)\b )
        [ \t]*+(?:\b(?:therefore|thus|then|indeed|simply|just|clearly|either|definitely|certainly)\b,?[ \t]*+)?
        :?[ \t*_]*+
      | ^[ \t>*_#-]*+(?:final[ ])?answer[ \t*_]*+(?:(?=\$|\\[(\[])|(?:-|–|—|→|->|=>)[ ])
      | ^[ \t>*_#-]*+(?:step[ ]\d+[ \t]*:[ \t]*)?(?:final[ ])?answer[ \t*_]*+\n    # a heading, the value below it
    )""",
    re.MULTILINE,
)
_LISTS_OPTIONS = re.compile(r"^[ \t>*_-]*B[ \t*_]*[:.]", re.MULTILINE)
_OF_OTHERS = re.compile(
    r"\b(?:if|unless|suppose|assume|assuming|whether|said|says?|claims?|claimed|thought|believes?|wrote|writes)\s+"
    r"(?:that\s+)?(?:the\s+|their\s+|his\s+|her\s+|your\s+)?$",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"\b(?:if|suppose|unless)\s+(?!(?:i|we) had to\b)[^.!?\n]*\b(?:were|was|had|did|could|\w{3,}ed)\b[^.!?\n]*$",
    re.IGNORECASE,
)
"""Matches a condition that is not true, before "would be": "If it were summer, the answer would be …"."""
_REJECTED = re.compile(
    r"\b(?:is|are|was|be|seems?|looks?)\s+(?:\w+\s+){0,2}(?:wrong|incorrect|not (?:the |right|correct)|impossible)"
    r"|\b(?:isn't|cannot be|can't be) (?:the|right|correct)",
    re.IGNORECASE,
)
_DISPLAY = re.compile(r"\s*(?:\$\$(?P<dollars>.+?)\$\$|\\\[(?P<bracket>.+?)\\\])", re.DOTALL)
_SENTENCE_END = re.compile(r"(?:[.?]|(?<!\\)!(?=\W*$|\s+[A-Z]))(?:[*_\"')\]]*)(?=\s|$)")
_ABBREVIATION = re.compile(
    r"\b(?:sq|ft|in|cm|mi|hr|min|sec|lb|lbs|oz|vs|approx|Rs|Mr|Mrs|Ms|Dr|St|Mt|Ft|Prof|Gen|Jr|Sr|a\.m|p\.m)$|(?:^|[\s.])\(?[A-Z]$",
    re.IGNORECASE,
)
_REASON = re.compile(
    r"[,;]?\s+(?:because|since|as|when|where|which|so that|given that|assuming|for which|(?:and |but )?not|rather than"
    r"|instead of)\b",
    re.IGNORECASE,
)
MARKUP = re.compile(r"(?<!\w)(?:\*\*|__)|(?:\*\*|__)(?!\w)")
"""Matches the marks of emphasis (** and __), but not the power in x**2."""


@dataclass(frozen=True, slots=True)
class _Announced:
    start: int
    end: int
    value: str


_REFUSES = re.compile(
    r"\bI(?:'m| am)? (?:cannot|can't|can not|could not|couldn't|unable to|not able to|won't|will not|refuse to)"
    r"(?: \w+)? ?(?:compute|calculate|answer|determine|solve|help|find|provide|give|do|figure)\b",
    re.IGNORECASE,
)


def _from_words(text: str, lettered: bool) -> Stated:
    tail = text[-MOST_CHARACTERS:]
    refused = _REFUSES.search(tail[-300:])
    if refused:
        return Stated(None, why=f"it says “{refused[0]}”")
    announced = _announced(tail, lettered)
    if announced:
        last = announced[-1]
        also = None
        if len(announced) > 1:
            before = announced[-2]
            gap = tail[before.end : last.start]
            rest = gap[len(before.value) :] if gap.startswith(before.value) else gap.replace(before.value, "", 1)
            beside = not rest.strip(" \t\n.*_$") or re.match(r"[\s$,;:.)\]*\\]*(?:or|alternatively)\b", rest, re.I)
            also = before.value if before.value != last.value and beside else None
        return Stated(last.value, "stated", also)
    first = _ANSWER_FIRST.match(text)
    if first:
        return Stated(unwrapped(first[1]), "stated")
    line = last_line(tail)
    if line is None:
        return Stated(None, why="the answer ends without a result")
    called = _CALLED_ANSWER.match(line)
    return Stated(unwrapped(called[1]), "stated") if called else Stated(line, "last line")


_ANSWER_FIRST = re.compile(
    r"\s*+([^\n]{1,60})\n\s*+[*_#]*+(?:explanation|reasoning|justification|because|here is why|here's why)\b",
    re.IGNORECASE,
)
_CALLED_ANSWER = re.compile(
    r"(?:(?:so|thus|hence|therefore|then)\b,?\s+)?(?!.*\b(?:not|n't|if)\b)(.{1,80}?)\s+(?:is|are|must be)\s+"
    r"(?:indeed\s+)?(?:the|my|our)\s+(?:final |correct |right |best )?(?:answers?|option|choice|result)\.?",
    re.IGNORECASE,
)


def _announced(text: str, lettered: bool = False) -> list[_Announced]:
    """Returns the places that announce the answer and give a value, in the order of the text.

    A place does not count if it reports somebody else's answer, or calls the answer wrong.
    """
    found = []
    for match in list(_ANCHOR.finditer(text))[-MOST_ANNOUNCEMENTS:]:
        head = match[0].strip(" \t>*_#-").upper()
        if head.startswith(("A:", "A.")) and (lettered or _LISTS_OPTIONS.search(text, match.end())):
            continue
        if _OF_OTHERS.search(text[max(0, match.start() - 60) : match.start()]):
            continue
        if conditional(text[max(0, match.start() - 200) : match.end()], text[match.end() : match.end() + 200]):
            continue
        value = _value_after(text, match.end())
        if value and not _ANCHOR.match(value):
            found.append(_Announced(match.start(), match.end(), value))
    return found


def conditional(said: str, after: str = "") -> bool:
    """Whether "the answer would be" at the end of `said` holds only under a condition that is not true."""
    if not re.search(r"\bwould(?: have been| be)\b", said[-60:], re.IGNORECASE):
        return False
    return bool(
        _SUPPOSED.search(said) or re.match(r"[^.!?\n]{0,60}\b(?:if|had|were)\s+(?:it|the|this|we|they)\b", after)
    )


def _value_after(text: str, at: int) -> str | None:
    rest = text[at : at + MOST_CHARACTERS]
    display = _DISPLAY.match(rest)
    if display:
        return unwrapped(display["dollars"] or display["bracket"])
    quoted = rest.startswith("\n") or text[max(0, at - 1) : at] == "\n"
    lines = [line for line in rest.split("\n", 6)[:6] if line.strip(" \t*_")]
    lines[:1] = [re.sub(r"^\s*>\s+", "", line) if quoted else line for line in lines[:1]]
    if not lines:
        return None
    sentence = _first_sentence(" ".join(lines[0].split()))
    if _REJECTED.search(sentence):
        return None
    line = _REASON.split(sentence, maxsplit=1)[0]
    if line.count("**") % 2 or line.count("__") % 2:
        line = MARKUP.sub("", line)
    if line.count("}") > line.count("{"):
        line = line.strip().rstrip("}")  # {"answer": 42}
    return unwrapped(line) or None


def _first_sentence(line: str) -> str:
    for end in _SENTENCE_END.finditer(line):
        before = line[: end.start()]
        last = end.end() == len(line)
        if (last or not _ABBREVIATION.search(before)) and before.strip():
            return line[: end.start() + (line[end.start()] == "?")]
    return line


_FAREWELL = re.compile(
    r"^\W*(?:(?:black)?square\b|qed\b|q\.e\.d|∎|i hope (?:it|this)|hope this|let me know|```|</?answer>|---+"
    r"|\\end\{[a-z*]+\})|^\s*(?:\\\]|\$\$)\s*$",
    re.IGNORECASE,
)


def last_line(text: str) -> str | None:
    """Returns the last line that says something, without the emphasis, math marks or quotes around it.

    "I hope this helps", QED and closing marks do not count. Returns None when no line is left.
    """
    lines = [line for line in text.strip()[-MOST_CHARACTERS:].split("\n") if line.strip()]
    while lines and _FAREWELL.match(lines[-1]):
        lines.pop()
    if not lines:
        return None
    line = re.sub(r"(?<=[.!])\s+(?:I hope (?:it|this)|Hope this|Let me know)\b[^.!?]*[.!?]?\s*$", "", lines[-1])
    return unwrapped(line) or None


_PAIRS = (
    ("**", "**"), ("__", "__"), ("*", "*"), ("`", "`"), ("$$", "$$"), ("$", "$"),
    ("\\(", "\\)"), ("\\[", "\\]"), ("“", "”"), ('"', '"'),
)  # fmt: skip


def unwrapped(value: str) -> str:
    """Returns the value without the emphasis, code ticks, dollar signs, math brackets and quotes around it.

    A stop, comma, colon or tick after the value is dropped too.
    """
    value = value.strip()
    if value.isalnum():
        return value
    while True:
        before = value
        value = value[:-2] if value.endswith(("\\!", "\\,", "\\;")) else value.strip().rstrip(".,;:✓✔✅").strip()
        for opening, closing in _PAIRS:
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
