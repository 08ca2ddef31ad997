r"""Finds the value that a sentence concludes with: $18 in "So she makes **$18** every day", x > 2 in "Thus $x > 2$".

Only a sentence with exactly one number or one formula concludes with a value. A sentence that hedges, asks or denies
concludes with no value.
"""

import re
from collections.abc import Iterator

from harvest.answers.notation import TEXT_COMMAND
from harvest.answers.quantities import parse_number
from harvest.answers.spelled import CARDINALS
from harvest.answers.stated import MARKUP, Stated, find_stated, unwrapped
from harvest.answers.units import counts
from harvest.answers.words import foreign_words, is_words, plain_words, predicate
from harvest.checks.check import shown
from harvest.checks.maths.form_reader import read
from harvest.checks.maths.forms import Words

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
"""Matches words before a number that belongs to a series ("on day 18") or is part of the result ("half of 18")."""
_COUNTS = re.compile(
    r"\b(?:has|gets?|got|takes?|took|costs?|makes?|made|needs?|needed|earns?|earned|pays?|paid|spends?|spent|sold|sells"
    r"|weighs?|bought|buys|saves?|saved|receives?|received|(?:will|would) (?:have|be|take|cost|need)|collected|ate|used"
    r"|walked|drove|ran|read|baked|lost|won|left with|left|leaves|gives|owes?|(?:this|that|it) is an?"
    r"|(?:rises?|rose|increase[sd]?|decrease[sd]?|falls?|fell|grew|dropped|reduced|went up|went down) by)"
    r"\s+(?:exactly\s+|only\s+|about\s+|a total of\s+)?(?=\S)",
    re.IGNORECASE,
)
"""Matches verbs that stand right before a result: "earned $10 for 50 minutes"."""
_RATE = re.compile(
    r"\s*(?:per\b|/|each\b|every\b|an? (?:hour|day|minute|week|month|year|piece)\b|more\b|less\b|fewer\b|times\b)"
)
_GOES_ON = re.compile(
    r"(?:^|[^.]*?(?:,|\band\b|\bplus\b|&))[\s*]*(?:an?(?:other)?\s+)?(?:[$€£]\s?)?(?:\d|(?:half|quarter|third|"
    rf"{'|'.join(CARDINALS)}|hundred|thousand)\b)|[\s*]*[A-Za-z]+[\s*]+[$€£]?\d",
    re.IGNORECASE,
)
"""Matches the second part of a quantity after its first number: "and 20 minutes", ", 3 cats", "and a half"."""
_BESIDE = re.compile(
    r"(?:,?\s*\(?(?:or|which is|i\.e\.,?)\s+(?:about|approximately|roughly|equivalently|around|simply)\b"
    r"|,?\s+(?:since|because)\b|\s*(?:≈|\\approx)).*$"
)
"""Matches what a sentence adds after its result: another form of the result, or a reason."""
_LEFT = re.compile(
    r"^(?:in the end,?\s+|so\s+)?(\S+(?:\s+[a-z]+){0,3}?)\s+(?:are|is|were|was)\s+(?:left(?: over)?|remaining|needed)$",
    re.I,
)
_AMOUNT = re.compile(
    r"\b(?:area|total|sum|length|volume|perimeter|distance|cost|price|profit|speed|average|mean) of\s+(\S.{0,40})$"
)
_SO = re.compile(r",\s+(?:and\s+)?(?:so|hence|thus|therefore)\s+", re.IGNORECASE)
_SUBJECT = re.compile(
    r"^(\S.{0,40}?)\s+is\s+(?:therefore\s+|thus\s+)?the\s+(?:smallest|largest|least|greatest|only|minimum|maximum|total|sum"
    r"|number|value|probability|area)\b"
)
_SPAN = re.compile(r"(?<!\\)\$((?:[^$\\]|\\.)+)\$|\\\((.+?)\\\)|\*\*(.+?)\*\*")
_LEADS_TO = re.compile(
    r"(?:\b(?:is|are|was|equals|get|gets|that|have|obtain|find|conclude|need|makes|gives?|yields?|thus|therefore|total|at|be)|[:=])\s*$",
    re.IGNORECASE,
)
_TELLS = re.compile(
    r"\b(?:solutions?|roots?|zero(?:e?s)?|values?|answers?|domain|range|interval|equation|polynomial|number|pairs?|points?"
    r"|set|result|probability|expression|vector|matrix|area|length|sum|product|total|coordinates|function|inverse|vertex"
    r"|center|centre|focus|ratio)\b"
    r"(?:[^.:]{0,120}?(?:\b(?:is|are|comes to|becomes)\b|:)\s*:?|(?=\s+\())\s*(.+)$",
    re.IGNORECASE,
)


def stated_value(answer: str, gold: str) -> Stated:
    """Returns the mathematical value that an answer states as its result, or the reason why it states none.

    `gold` decides only whether words may be a result.
    """
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
    parts = _SO.split(line)
    if len(parts) > 1 and (concluded := _conclusion("So " + parts[-1])):
        return Stated(concluded, "last line")
    if "**" in line and _is_value(MARKUP.sub("", line)):
        line = MARKUP.sub("", line)
    if is_words(gold) and plain_words(predicate(line) or "") == plain_words(gold):
        return Stated(predicate(line), "last line")
    if _is_value(line) or (is_words(gold) and plain_words(line) == plain_words(gold)):
        return Stated(line, "last line")
    value = _conclusion(stated.value)
    if value is not None:
        return Stated(value, "last line")
    return Stated(None, why=f"the last line is no value: “{shown(line)}”")


def _without_prose(boxed: str, gold: str) -> str:
    """Returns the value in a boxed sentence: "18" for "\\text{She sells } 18 \\text{ eggs}".

    The content of any other box is returned as it is.
    """
    told = TEXT_COMMAND.sub(r" \1 ", boxed)
    if is_words(gold):
        last = predicate(told)
        return last if last and plain_words(last) == plain_words(gold) else boxed
    prose = re.match(r"\s*(?:[A-Za-z']+[ ,:]+){2,}[^A-Za-z]*\d", told)
    if prose is None or len(boxed) > 400 or parse_number(boxed):
        return boxed
    return _conclusion(told, announced=True) or boxed


def _readings(value: str) -> Iterator[str]:
    """Yields the values that an announced text may state: the text itself if it is a value, then its only value."""
    if _is_value(value) or (is_words(value) and len(value.split()) <= 4 and not _FIGURE.search(value)):
        yield value
    concluded = _conclusion(value, announced=True)
    if concluded is not None:
        yield concluded


def _conclusion(line: str, announced: bool = False) -> str | None:
    """Returns the only value in the last sentence of a line; None if the sentence concludes with no value.

    `announced` says that words before the line call it the answer.
    """
    sentence = re.split(r"(?<=[.!?])\s+", line[-600:].strip())[-1].rstrip(".")
    sentence = _BESIDE.sub("", sentence)
    if _UNSURE.search(sentence) or len(sentence) > 300:
        return _listed(sentence)
    concludes = announced or bool(_CONCLUDES.match(sentence))
    return (
        _last_told(sentence)
        or _in_formula(sentence, concludes)
        or _counted(sentence)
        or (_figure(sentence) if concludes and not _SPAN.search(sentence) else None)
        or _listed(sentence)
    )


def _last_told(sentence: str) -> str | None:
    """Returns the number at the end of a sentence, after "is" or "=", or at its beginning ("7 is the smallest …").

    Returns None if there is no such number.
    """
    subject = _SUBJECT.match(sentence) or _LEFT.match(sentence) or _AMOUNT.search(sentence)
    if subject and parse_number(value := unwrapped(subject[1])):
        return value
    tail = re.search(r"^(?:.*\b(?:is|are|equals|comes to|:)\s|.*(?<![!<>\\])=|[\w *]{1,40}:)\s*([^=]+)$", sentence)
    if tail is None or (tail[1].count("$") % 2 and tail[1].rstrip().endswith("$")):
        return None
    value = unwrapped(tail[1].replace("**", "").strip("* "))
    return value if parse_number(value) else None


def _in_formula(sentence: str, concludes: bool) -> str | None:
    """Returns the only formula or the only bold number of a sentence; None if there is no clear one."""
    spans = list(_SPAN.finditer(sentence))
    values = [unwrapped(next(part for part in span.groups() if part)) for span in spans]
    told = [(span, v) for span, v in zip(spans, values, strict=True) if not re.fullmatch(r"[A-Za-z]|\W*", v)]
    if len(told) != 1:
        return None
    span, value = told[0]
    before, after = sentence[: span.start()], sentence[span.end() :]
    number = parse_number(value)
    if number and span[3] is not None and not _RATE.match(_more_needed(before, after)):
        return None if _GOES_ON.match(after) else value
    if _FIGURE.search(before + " " + after):
        return None
    if re.search(r"\b(?:is|are|equals)\s*$", before) and re.match(r"[^=]{2,}=", value):
        value = value.rpartition("=")[2].strip()  # "the sum is $-b/a = -3/2$"
    leads = re.fullmatch(r"[A-Za-z\s.]{0,40}", after) and _LEADS_TO.search(before)
    return value if (concludes or leads) and (number or _is_value(value)) else None


def _counted(sentence: str) -> str | None:
    """Returns the number right after a verb such as "earned"; None unless the sentence has exactly one such number."""
    found = []
    for verb in _COUNTS.finditer(sentence):
        words = sentence[verb.end() :].replace("**", "").replace("\\$", "$").split()
        for most in (5, 4, 3, 2, 1):
            phrase, rest = " ".join(words[:most]).rstrip(".,;:"), " ".join(words[most:])
            if most > len(words) or not parse_number(phrase) or (most > 3 and not _TWO.search(phrase)):
                continue
            after = _more_needed(sentence[: verb.end()], " ".join(words[1:]))
            if not _RATE.match(_more_needed(sentence[: verb.end()], rest)) and not _RATE.match(after):
                if _GOES_ON.match(rest) or (most < 3 and _GOES_ON.match(after)):
                    return None
                found.append(phrase)
            break
    return found[0] if len(found) == 1 else None


_TWO = re.compile(r"\d\D+\d|\band\b|\bpoint\b|hundred|thousand|million")


def _more_needed(before: str, after: str) -> str:
    """Returns the text after a number without the "more" of "she needs $5 more", which compares nothing."""
    needed = re.search(r"\bneeds? (?:to \w+ )?[\w\s]{0,12}[*$\\]*$", before)
    return re.sub(r"^[\s*]*more\b", "", after) if needed else after


def _figure(sentence: str) -> str | None:
    """Returns the only number of a sentence if it is a count or an amount; else None."""
    figures = list(_FIGURE.finditer(sentence))
    if len(figures) != 1:
        return None
    before, after = sentence[: figures[0].start()], sentence[figures[0].end() :]
    in_formula = re.search(r"[-+*/^_<>({\\|]\s*$", before) or re.match(r"\s*[-+*/^=<>]", after)
    return (
        None if in_formula or _GOES_ON.match(after) or not counts(after) or _NUMBERS.search(before) else figures[0][0]
    )


def _listed(sentence: str) -> str | None:
    """Returns "3 and 5" for a sentence such as "The solutions are 3 and 5"; None if the sentence lists no values."""
    told = _TELLS.search(sentence)
    if told is None or len(told[1]) > 120:
        return None
    value = unwrapped(told[1].strip("* "))
    return value if _is_value(value) and re.search(r"\d|\\[a-z]|[=<>]", value) else None


def _is_value(text: str) -> bool:
    if parse_number(text):
        return True
    bare = re.sub(
        r"\\(?:text)?color\s*\{[^{}]*\}|\\(?:begin|end)\{[a-z]+\*?\}(?:\{[a-z|]*\})?|\\text\s*\{[^{}]*\}|\\[a-zA-Z]+|_\{[^{}]*\}",
        " ",
        text,
    )
    bare = bare.replace(" and ", ",").replace(" or ", ",")
    if not foreign_words(bare) and not re.search(r"[A-Za-z]{2,} [A-Za-z]{2,}|\?$", bare):
        return True
    return len(text) < 80 and "all real" in text.lower() and not isinstance(read(text), Words)
