r"""What a sentence of mathematics concludes: "So she makes **$18** every day" is 18, "Thus $x > 2$" is x > 2.

Prose is not a value; a sentence that concludes with one figure or one formula is. One that hedges, asks or
denies says nothing.
"""

import re
from collections.abc import Iterator

from harvest.checks.answer import MARKUP, Stated, find_stated, unwrapped
from harvest.checks.check import plain_words, shown, told_last
from harvest.checks.form import Words, foreign_words, is_words, read
from harvest.checks.numbers import counts, parse_number

_CONCLUDES = re.compile(
    r"^\W*(?:so|thus|hence|therefore|then|in total|in conclusion|altogether|finally|consequently|this means|that means"
    r"|that makes|this gives|that gives|it follows)\b",
    re.IGNORECASE,
)
_UNSURE = re.compile(
    r"\b(?:or|either|maybe|perhaps|possibly|probably|not|cannot|can't|between|at least|at most|unless|if"
    r"|more than|less than|fewer than|guess|unclear|unsure|except|excluding|impossible|one option|wrong|incorrect"
    r"|contradiction|rejected|extraneous|invalid|discarded?|does not|too (?:large|small|high|low|many|few))\b|\?|n't\b",
    re.IGNORECASE,
)
_FIGURE = re.compile(
    "(?<![\\w.])[-\N{MINUS SIGN}]?" r"[$€£]?\d[\d,]*(?:\.\d+)?(?:/\d+)?(?:\s?\\?%)?(?![\w\\^/π√.]*[\w\\^/π√])"
)
_NUMBERS = re.compile(
    r"\b(?:day|step|page|room|chapter|question|problem|case|option|part|year|level|grade|week|number|line|stage|round"
    r"|method|figure|equation|on|in|by"
    r"|over|under|above|below|up to|almost|nearly|twice|thrice|half|third|quarter|double|triple|root|square|cube|plus"
    r"|minus|negative|times|than|exceeds?|beyond|before|after|within|every|percent)\s+(?:of\s+)?(?:the\s+)?$",
    re.IGNORECASE,
)
"""Words before a figure that numbers something ("on day 18") or is only part of it ("half of 18")."""
_COUNTS = re.compile(
    r"\b(?:has|gets?|takes?|costs?|makes?|needs?|earns?|pays?|paid|spends?|spent|sold|sells|weighs?|bought|buys|saves?"
    r"|saved|will have|would have|receives?|received)\s+(?:exactly\s+|only\s+|a total of\s+)?[$€£]?\d[\d,.]*"
    r"(?:\s+[A-Za-z]+){0,5}$"
)
_SPAN = re.compile(r"(?<!\\)\$((?:[^$\\]|\\.)+)\$|\\\((.+?)\\\)|\*\*(.+?)\*\*")
_LEADS_TO = re.compile(
    r"(?:\b(?:is|are|was|equals|get|gets|that|have|obtain|find|conclude|need|makes|total|at|be)|[:=])\s*$",
    re.IGNORECASE,
)
_TELLS = re.compile(
    r"\b(?:solutions?|roots?|zero(?:e?s)?|values?|answers?|domain|range|interval|equation|polynomial|number|pairs?|points?"
    r"|set|result|probability|expression|vector|matrix|area|length|sum|product|total|coordinates|function|inverse)\b"
    r"[^.:]{0,120}?(?:\b(?:is|are|comes to|becomes)\b|:)\s*:?\s*(.+)$",
    re.IGNORECASE,
)


def stated_value(answer: str, gold: str) -> Stated:
    """What an answer states, as maths reads it. `gold` only says whether words are looked for."""
    stated = find_stated(answer)
    if stated.value is None:
        return stated
    also = stated.also if stated.also and parse_number(stated.also) else None
    if stated.how == "boxed":
        return Stated(_without_prose(stated.value, gold), "boxed", also)
    if stated.how == "stated":
        if is_words(gold) and len(stated.value.split()) <= 12:
            return Stated(stated.value, "stated", also)
        value = next(_readings(stated.value), None)
        if value is not None:
            return Stated(value, "stated", also)
        return Stated(None, why=f"“{shown(stated.value)}” is no value")
    line = re.sub(r"^(?:so|thus|hence|therefore|then|∴)[,:]?\s+(?=\S)", "", stated.value, flags=re.IGNORECASE)
    if "**" in line and _is_value(MARKUP.sub("", line)):
        line = MARKUP.sub("", line)
    if is_words(gold) and plain_words(told_last(line) or "") == plain_words(gold):
        return Stated(told_last(line), "last line")
    if _is_value(line) or (is_words(gold) and plain_words(line) == plain_words(gold)):
        return Stated(line, "last line")
    value = _conclusion(stated.value)
    if value is not None:
        return Stated(value, "last line")
    return Stated(None, why=f"the last line is no value: “{shown(line)}”")


def _without_prose(boxed: str, gold: str) -> str:
    """A boxed sentence as the value that it tells: "\\text{She sells } 18 \\text{ eggs}"."""
    told = re.sub(r"\\(?:text|textbf|mbox|textrm|mathrm)\s*\{([^{}]*)\}", r" \1 ", boxed)
    prose = re.match(r"\s*(?:[A-Za-z']+[ ,:]+){2,}[^A-Za-z]*\d", told)
    if prose is None or len(boxed) > 400 or is_words(gold) or parse_number(boxed):
        return boxed
    return _conclusion(told, announced=True) or boxed


def _readings(value: str) -> Iterator[str]:
    """A stated value as it is, or the one value that its sentence holds."""
    if _is_value(value) or (is_words(value) and len(value.split()) <= 4 and not _FIGURE.search(value)):
        yield value
    concluded = _conclusion(value, announced=True)
    if concluded is not None:
        yield concluded


def _conclusion(line: str, announced: bool = False) -> str | None:
    """The one value in a sentence that concludes. `announced`: words before it have called it the answer."""
    sentence = re.split(r"(?<=[.!?])\s+", line[-600:].strip())[-1].rstrip(".")
    if _UNSURE.search(sentence) or len(sentence) > 300:
        return _listed(sentence)
    concludes = announced or bool(_CONCLUDES.match(sentence))
    tail = re.search(r"^(?:.*\b(?:is|are|equals|comes to|:)\s|.*(?<![!<>\\])=|[\w *]{1,40}:)\s*([^=]+)$", sentence)
    if tail and tail[1].count("$") % 2 == 0 and parse_number(value := unwrapped(tail[1].strip("* "))):
        return value
    spans = list(_SPAN.finditer(sentence))
    values = [unwrapped(next(part for part in span.groups() if part)) for span in spans]
    told = [(span, v) for span, v in zip(spans, values, strict=True) if not re.fullmatch(r"[A-Za-z]|\W*", v)]
    if len(told) == 1 and not _FIGURE.search(sentence.replace(told[0][0][0], " ")):
        span, value = told[0]
        number = parse_number(value)
        bold = span[3] is not None and number is not None
        after = re.fullmatch(r"[A-Za-z\s.]{0,40}", sentence[span.end() :])
        if concludes or bold or (after and _LEADS_TO.search(sentence[: span.start()])):
            return value if number or _is_value(value) else None
    if told:
        return _listed(sentence)
    return (_figure(sentence) if concludes or _COUNTS.search(sentence) else None) or _listed(sentence)


def _figure(sentence: str) -> str | None:
    """The one figure of a sentence, where it counts something."""
    figures = list(_FIGURE.finditer(sentence))
    if len(figures) != 1:
        return None
    before, after = sentence[: figures[0].start()], sentence[figures[0].end() :]
    in_formula = re.search(r"[-+*/^_<>({\\|]\s*$", before) or re.match(r"\s*[-+*/^=<>]", after)
    return None if in_formula or not counts(after) or _NUMBERS.search(before) else figures[0][0]


def _listed(sentence: str) -> str | None:
    """The values of "The solutions are 3 and 5"."""
    told = _TELLS.search(sentence)
    if told is None or len(told[1]) > 120:
        return None
    value = unwrapped(told[1].strip("* "))
    return value if _is_value(value) and re.search(r"\d|\\[a-z]|[=<>]", value) else None


def _is_value(text: str) -> bool:
    if parse_number(text):
        return True
    bare = re.sub(
        r"\\(?:begin|end)\{[a-z]+\*?\}(?:\{[a-z|]*\})?|\\text\s*\{[^{}]*\}|\\[a-zA-Z]+|_\{[^{}]*\}", " ", text
    )
    bare = bare.replace(" and ", ",").replace(" or ", ",")
    if not foreign_words(bare) and not re.search(r"[A-Za-z]{2,} [A-Za-z]{2,}|\?$", bare):
        return True
    return len(text) < 80 and "all real" in text.lower() and not isinstance(read(text), Words)
