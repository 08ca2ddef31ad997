"""The filter `leaked_gold` refuses answers to a prompt that told the gold answer ("(answer: 42)", "Hint: it is 42").

A leak needs words that announce a result, and exactly the gold answer after these words. So a yes or no, an option or a
number that belongs to the question is no leak, and the form of an answer ("answer: yes or no") is no leak either. A
worked solution that ends in the gold answer is a leak, and so is a box that holds the gold answer.
"""

import re
from itertools import islice

from harvest.answers.boxes import find_boxes
from harvest.answers.quantities import parse_number
from harvest.answers.words import plain_words
from harvest.filters.phrases import around
from harvest.filters.reading import Reading

_TELLS = re.compile(
    r"""(?ix)
    (?: \b(?:(?:final|correct|right|expected|reference|gold(?:en)?|true|known|target)[ ])*
        (?:answers?(?:[ ]key)?|solution|result|label|option|choice|ground[ ]truth)\b
        (?:[ ](?:to|for|of)[ ](?:this|the|that)[ ](?:question|problem|task|exercise|puzzle|above))?
        [ \t*_"')]*
        (?:[:=]|(?<!solution[ ])\b(?:is|are|was|equals|(?:should|must|will)[ ]be)\b(?:[ ](?:actually|simply))?:?)
      | \bexpected[ ]output[ ](?:is|should[ ]be)
      | \b(?:hint|spoiler|key)\b[ \t*_]*:[ \t*_]*(?:it[ ]is|it's|the[ ]value[ ]is|think[ ]of|=)?
      | <(?:answer|solution|final_answer|gold|label)>
      | \#\#\#\#
      | \b(?:ans|a)[ \t]*[:=]
    )[ \t*_"'(`]*"""
)
_WORKED = re.compile(
    r"\b(?:reference|worked|official|model|sample|correct|gold(?:en)?) solution\b[ \t*_]*:\s*(?=\S)", re.IGNORECASE
)
_CONDITION = re.compile(
    r"\b(?:if|when|whenever|unless|suppose|whether|in case|e\.g\.|for example|for instance|such as|write|form|format"
    r"|like|end(?:s|ing)? (?:your|the|with)|true that|possible that|says?|claims?|thinks?|believes?|not)\b"
    r"[^.!?\n]{0,40}$",
    re.IGNORECASE,
)
_ENDS = re.compile(
    r"[ \t*_\"'`)\]}$]*(?:$|\n|[.;!:](?=\s|$|[)\"'*])|[)\]]|</|[ \t]\("
    r"|,?[ \t]+(?:so|because|since|now|please|show|explain|derive|but|and (?:show|explain|derive))\b)"
)
MOST_TELLS, MOST_ENDS = 64, 8
"""At most MOST_TELLS phrases that may announce a result are examined in a message. After each phrase, at most MOST_ENDS
points are tried as the result's end."""
LONGEST_GOLD = 200
TAIL = 400
"""Only this many characters after such a phrase are read."""


def leaked_gold(reading: Reading, _: object) -> str | None:
    gold = (reading.question.answer or "").strip()
    if not gold or len(gold) > LONGEST_GOLD or reading.question.check == "code":
        return None
    wanted = _keys(gold)
    for message in reading.candidate.asked:
        if message["role"] == "assistant":
            continue
        text = message["content"]
        for found in islice(_TELLS.finditer(text), MOST_TELLS):
            at, end = found.span()
            if not _CONDITION.search(text, max(0, at - 60), at) and _tells(text[end : end + TAIL], wanted):
                return f"what was asked tells it: “{around(text, at, end - at + len(gold))}”"
        if (worked := _WORKED.search(text)) and _ends_in(text[worked.end() :], wanted):
            return f"what was asked has a worked solution: “{around(text, worked.start(), 60, 0)}”"
        if "\\boxed{" in text or "\\fbox{" in text:
            for box in find_boxes(text)[0]:
                before = text[max(0, box.start - 60) : box.start]
                if _keys(box.content) & wanted and not _CONDITION.search(before):
                    return f"what was asked boxes it: “{around(text, box.start, box.end - box.start)}”"
    return None


def _keys(value: str) -> set[str]:
    """Returns the keys by which a value is compared: its plain words, and its number if the value is a number."""
    number = parse_number(value.strip(" .$*"))
    return {plain_words(value)} | ({f"={number.true_value}"} if number is not None else set())


def _ends_in(solution: str, wanted: set[str]) -> bool:
    """Whether the last paragraph of a worked solution ends in the gold answer."""
    words = solution.strip(" \n\t.$*}").split()
    return bool(words) and bool(_keys(words[-1].rpartition("{")[2]) & wanted)


def _tells(rest: str, wanted: set[str]) -> bool:
    """Whether the first thing that `rest` says is the gold answer and nothing more.

    `wanted` holds the keys of the gold answer. If other words follow before the result can end, `rest` is a sentence or
    a list of possible forms, and tells no result.
    """
    for end in islice(_ENDS.finditer(rest), MOST_ENDS):
        value = rest[: end.start()]
        if "\n" in value:
            return False
        if value.strip() and _keys(value) & wanted:
            return True
    return False
