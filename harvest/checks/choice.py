"""The check "choice": an answer must name one option by its letter or by its words. Two different options are wrong."""

import re
import string
from collections.abc import Mapping, Sequence

from harvest.answers.notation import TEXT_COMMAND
from harvest.answers.quantities import parse_number
from harvest.answers.stated import Stated, conditional, find_stated, unwrapped
from harvest.answers.words import plain_words, signed_words
from harvest.checks.check import Check, Finding, no_answer, right_or_wrong, shown, two_answers
from harvest.checks.maths.compare import equal_at_sight
from harvest.core.nouns import Outcome, Question

MOST_VALUE = 60
"""A text of this many characters or more is not compared as a number."""
_LISTED = re.compile(r"^[ \t]*(?:\(([A-Z])\)|([A-Z])[.):])[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_LATEX_LISTED = re.compile(
    r"\\(?:text|textbf|mathrm|mathbf|mbox|textrm)\s*\{\s*\(([A-Z])\)\s*\}((?:(?!\\(?:text|math)\w*\s*\{\s*\()[^\n])*)"
)
_LETTER = re.compile(r"\(?([A-Za-z])\)?[.:]?")
_BRACKETED = re.compile(r"\(([A-Z])\)")
_SPACING = re.compile(r"\\q?quad\b|\\(?![A-Za-z%])|~")


def options(question: str, choices: Sequence[str] | None) -> dict[str, str]:
    """Maps each option's letter to the option's words.

    The options are the row's `choices`, else those that the question lists as "(A) …" or "A. …". The map is empty if
    the row has no options, or if the question lists only one.
    """
    if choices:
        letters = zip(string.ascii_uppercase, choices, strict=False)
        return {letter: re.sub(rf"^\(?{letter}[.):]\s*", "", words) for letter, words in letters}
    listed: dict[str, str] = {}
    found = [(match[1] or match[2], match[3]) for match in _LISTED.finditer(question)]
    for letter, words in found or [(match[1], _bare(match[2])) for match in _LATEX_LISTED.finditer(question)]:
        if letter == string.ascii_uppercase[len(listed) % 26]:
            listed[letter] = words
    return listed if len(listed) > 1 else {}


def lettered(text: str) -> bool:
    """Whether a gold answer is an option's letter in brackets: "(A)" and "\\textbf{(A)}\\ 6" are, "A" is not."""
    return bool(_BRACKETED.fullmatch(text.strip()) or _LATEX_LISTED.fullmatch(text.strip()))


def gold_letter(gold: str, listed: Mapping[str, str]) -> str | None:
    """Returns the letter of the option that the gold answer names by words or by letter; None if it names no option."""
    gold = _bare(gold)
    if (by_words := _named_by(gold, listed)) is not None:
        return by_words
    single = _LETTER.fullmatch(gold.strip())
    if single and (single[1].upper() in listed or not listed):
        return single[1].upper()
    picked = _PICK.match(gold.strip())
    if picked and (letter := (picked[1] or picked[2]).upper()) in listed:
        return letter if letter == _named_by(picked[3], {letter: listed[letter]}) else None
    return None


def _named_by(words: str, listed: Mapping[str, str]) -> str | None:
    """Returns the letter of the option that has these words or this value; None if no option or several options do."""
    found = [letter for letter, text in listed.items() if signed_words(text) == signed_words(words)]
    if not found and len(words) < MOST_VALUE and parse_number(unwrapped(words)):
        found = [letter for letter, text in listed.items() if _same_value(text, words)]
    return found[0] if len(found) == 1 else None


def _same_value(option: str, words: str) -> bool:
    return equal_at_sight(unwrapped(option), unwrapped(words), "") is True


def _bare(text: str) -> str:
    """Returns the text without \\text, LaTeX's spaces, and the emphasis or brackets around the whole text."""
    text = " ".join(_SPACING.sub(" ", TEXT_COMMAND.sub(r"\1", text)).split()).strip(" *_$.>#'\"")
    inside = re.fullmatch(r"[{\[]+([^{}\[\]]*)[}\]]*|([^{}\[\]]*)[}\]]+", text)
    return text if inside is None else (inside[1] or inside[2] or "").strip(" *_$.>#'\"")


class Choice(Check):
    """The check "choice"."""

    name = "choice"
    version = "3"

    def quick(self, question: Question, answer: str) -> Finding:
        listed = options(question.question, question.choices)
        gold = gold_letter(question.answer or "", listed)
        if gold is None:
            return Outcome.ERROR, f"the gold answer {shown(question.answer or '')} names none of the options"
        picked = chosen(answer, listed)
        if not isinstance(picked, str):
            return picked
        return right_or_wrong(picked == gold, f"chose {picked}, gold {gold}")


# ---- what is chosen


def chosen(answer: str, listed: Mapping[str, str]) -> str | Finding:
    """Returns the letter of the option that an answer chooses, or a finding that says why it chooses none."""
    answer = re.sub(r"\bi\.\s?e\.,?(?=\s)", "that is", answer)  # the dots in it end no sentence
    stated = find_stated(answer, lettered=True)
    if stated.value is None:
        return no_answer(stated.why)
    picked = _picked(stated, listed)
    if not isinstance(picked, str) and stated.how == "last line":
        picked = _first_line(answer, listed) or picked
    if (
        isinstance(picked, str)
        and stated.also
        and stated.how == "boxed"
        and _picked(Stated(stated.also), listed) != picked
    ):
        return two_answers(f"boxed {picked}, then stated {shown(stated.also)}")
    renamed = _renamed(answer, stated)
    if isinstance(picked, str) and renamed in listed and renamed != picked:
        return two_answers(f"{picked}, then option {renamed}")
    return picked


def _renamed(answer: str, stated: Stated) -> str | None:
    """Returns the letter that the next sentence gives to the stated value: "C" for "London. That is option C.".

    Returns None when the next sentence gives no letter.
    """
    _, found, after = answer.rpartition(stated.value or "")
    called = _EQUATED.match(after.lstrip(" \t\n.,;*_$})")) if found and stated.how != "last line" else None
    return called[1] if called else None


def _first_line(answer: str, listed: Mapping[str, str]) -> str | None:
    """Returns the letter of the option that the first line of an answer names, as in "B. Ben"; else None.

    The reasons then follow the first line.
    """
    line = answer.strip().partition("\n")[0].strip(" *_#")
    letter = _LETTER.fullmatch(line)
    if letter and letter[1].upper() in listed:
        return letter[1].upper()
    pick = _PICK.match(line)
    named = pick is not None and _named_by(pick[3].strip(" *_."), listed)
    return str(named) if pick and named == (pick[1] or pick[2]).upper() else None


_PICK = re.compile(
    r"^(?:(?:option|choice|answer|letter)\s*:?\s*)?(?:\(([A-Za-z])\)|([A-Za-z])(?=[).:,\s]|$))[.):,]?\s*(.*)$",
    re.IGNORECASE | re.DOTALL,
)
_MARKED = re.compile(r"\(?[A-Za-z][).:,]|(?:option|choice|answer|letter)\b", re.IGNORECASE)
_DENIED = re.compile(
    r"\b(?:not|isn't|aren't|can't|cannot|never|wrong|incorrect|false|unless|neither|nor|except|anyone but|ruled out"
    r"|eliminated)\b",
    re.IGNORECASE,
)
_TAKES = re.compile(
    r"(?:\b(?i:go with|going with|choose|chose|pick|select|opt for|is|it's|be|so|thus|hence|therefore|then)|选择?|:)"
    r"[,:]?\s*(?i:the\s+)?[*_\"(]*(?i:(?:option|choice|letter|answer)\s+)?[*\"(]*([A-Z])[*\").]*$"
)
_RIGHT = re.compile(
    r"(?:(?:is|must be)\s+(?:indeed\s+|clearly\s+)?(?:the\s+)?(?:correct|right|best|true|answer)|fits(?:\s+best)?)\b",
    re.I,
)
_LETTERS = re.compile(r"\(?[A-Z]\)?(?:\s*,\s*\(?[A-Z]\)?)*,?\s*(?:\band\b|&)\s*\(?[A-Z]\b\)?\s+\w")
"""Matches several letters that are the subject of a sentence: "A, B and C are wrong"."""
_EQUATED = re.compile(
    r"\b(?i:so|thus|hence|therefore|namely|meaning|(?:that|this|which|it)(?:\s+is|'s|\s+corresponds\s+to"
    r"|\s+matches|\s+means))\s+[*_\"(]*(?i:(?:the\s+)?(?:option|choice|answer|letter)\s+)?[*_\"(]*([A-Z])\b"
    r"(?![*_\")]*\s+(?:is|was|has|can|does|would|are|and|or)\b)(?!')"
)
"""Matches a sentence that gives a letter to the words before it: "London. That is option C"."""
_REASON = re.compile(
    r"\W*(?:because|since|as|for|due to|given|where|when|while|whereas|if|based on|not|"
    r"(?:this|that|it|which)(?: is|'s) (?:because|due|since))\b",
    re.IGNORECASE,
)
_COMMENT = re.compile(
    r"\W*(?:it|it's|its|this|that|these|those|they|which|he|she|we|i|you|by|from|using|so|there|option|choice|final"
    r"|answer|my|correct|definitely|certainly|clearly|obviously|surely|hope|let|here|explanation|reason\w*|only"
    r"|the others?)\b",
    re.IGNORECASE,
)
"""Matches the first word of a remark, which is not the words of an option."""
_RIGHT_AT_END = re.compile(rf"\s+{_RIGHT.pattern}\W*$", re.IGNORECASE)
_NOT_THIS = re.compile(r"\b(?:not|nor|than|unlike)\s+(?i:option\s+|choice\s+)?\(?[A-Z]\b")
_CAPITAL = re.compile(r"(?<![\w'.-])([A-HJ-Z])(?![\w'-])")
"""Matches a capital letter that stands alone, except I."""
_STEM = 6
"""Two words count as the same word if their first six letters are equal: increases, increased."""
_SMALL_WORD_NAMES = "a an the of in on at to is are was were be and or by for it its with that"
_SMALL_WORDS = frozenset(_SMALL_WORD_NAMES.split())
_SURELY = re.compile(
    r"^(?:for sure|definitely|certainly|clearly|obviously|most likely|likely|probably|indeed|simply|just)\s+",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(r"^\W*(?:so|thus|hence|therefore|consequently|in conclusion)\b", re.IGNORECASE)


def _picked(stated: Stated, listed: Mapping[str, str]) -> str | Finding:
    value = _bare(stated.value or "")
    if stated.how == "last line":
        sentences = re.split(r"(?<=[.!?])\s+(?=\S{2}|[A-Z]$)", value)
        before, last = sentences[:-1], sentences[-1]
        if before and (renamed := _EQUATED.match(last)) and (named := _named_by(before[-1], listed)):
            return named if renamed[1] == named else two_answers(shown(value))
        value = value if _MARKED.match(value) else last
    value = _SURELY.sub("", value)
    both = re.fullmatch(r"(.*\S)\s*\((?:option\s+|choice\s+)?([A-Z])\)", value)
    if both and (named := _named_by(both[1], listed)):
        return named if named == both[2] else two_answers(shown(value))
    known = set(listed) or set(string.ascii_uppercase)
    if len({letter for letter in _BRACKETED.findall(value) if letter in known}) > 1:
        return two_answers(shown(value))
    found = _by_letter(value, listed, known)
    if found is None:
        found = _named_by(value, listed) or _by_first_words(value, listed, known)
    if found is None:
        found = _by_sentence(value, listed, known)
    if found is not None:
        return found
    if stated.how == "last line":
        return no_answer(f"the last line names no option: “{shown(value)}”")
    return Outcome.WRONG, f"{stated.how} {shown(value)}, which is none of the options"


def _by_letter(value: str, listed: Mapping[str, str], known: set[str]) -> str | Finding | None:
    """Returns the letter that a value begins with: alone, before its option's words, or with a mark ("B)").

    Returns a finding when the value makes no clear choice, and None when it begins with no letter of an option.
    """
    pick = _PICK.match(value)
    if pick is None or (letter := (pick[1] or pick[2]).upper()) not in known or _LETTERS.match(value):
        return None
    rest = pick[3].strip(" *_$.")
    # "A" may be an article and "I" a pronoun. So a bare letter counts with a mark, at the end, or before its words.
    marked = bool(_MARKED.match(value))
    if not rest or letter == _named_by(rest, {letter: listed.get(letter, "")}):
        return letter
    if not marked and _named_by(value, listed):
        return None
    words = plain_words(rest)
    letters = all(word.upper() in known for word in re.sub(r"\b(?:or|and)\b", "", words).split())
    if _named_by(rest, listed) not in (None, letter) or letters or re.match(r"(?:or|and)\b|[/,]\s*[A-Z]\b", rest):
        return two_answers(shown(value))
    if _RIGHT.match(rest):
        return letter
    if re.match(r"(?:is|was|are|seems|looks|lost|has been)\b", rest):
        return no_answer(f"“{shown(value)}”")
    if not marked:
        return None
    equated = _EQUATED.search(rest)
    if equated and equated[1] in known - {letter}:
        return two_answers(shown(value))
    return letter if _REASON.match(rest) or not listed else _with_words(letter, rest, listed)


def _with_words(letter: str, rest: str, listed: Mapping[str, str]) -> str | Finding:
    """Returns the letter if the words after it belong to its option or give a reason.

    Else returns a finding that says why the choice is not clear.
    """
    fits = {option: _share(text, rest) for option, text in listed.items()}
    longest = max(len(text.split()) for text in listed.values())
    remark = _COMMENT.match(rest)
    if max(fits.values()) > fits[letter] and not (remark and len(rest.split()) > longest + 3):
        return two_answers(f"{letter}, then {shown(rest)}")
    clause = re.split(r"[.;,:]\s+", rest)[0]
    if not fits[letter] and not remark and (parse_number(unwrapped(clause)) or len(clause.split()) <= longest):
        return no_answer(f"{letter}, then {shown(rest)}, which is none of the options")
    return letter


def _share(option: str, text: str) -> float:
    """Returns the share (0 to 1) of an option's words that a text has, in any order and inflexion.

    If the option and the text are numbers, the share is 0 or 1.
    """
    if len(text) < MOST_VALUE and parse_number(unwrapped(text)) and parse_number(unwrapped(option)):
        return float(_same_value(option, text))
    stems = {word[:_STEM] for word in plain_words(text).split()}
    words = [word for word in plain_words(option).split() if word not in _SMALL_WORDS] or plain_words(option).split()
    return sum(word[:_STEM] in stems for word in words) / max(1, len(words))


def _by_first_words(value: str, listed: Mapping[str, str], known: set[str]) -> str | Finding | None:
    """Returns the letter of the option whose words stand before the first comma.

    Returns a finding if the text after the comma names another option, and None if no option has these words.
    """
    parts = re.split(r"[,;]\s+|\.\s+(?=[A-Z(])", value)
    named = _named_by(_RIGHT_AT_END.sub("", parts[0]), listed)
    if named is None or len(parts) == 1:
        return None
    rest = value[len(parts[0]) :]
    letters = set(_CAPITAL.findall(_NOT_THIS.sub("", rest)))
    words = {_named_by(part, listed) for part in set(parts[1:])} - {None}
    if (letters & known | words) - {named}:
        return two_answers(shown(value))
    return named


def _by_sentence(value: str, listed: Mapping[str, str], known: set[str]) -> str | Finding | None:
    """Returns the letter that a sentence ends with ("I'd go with B").

    If the sentence is a conclusion that names only one option, returns the letter of this option. Returns a finding
    when the sentence denies an option or names two, and None when it names no option.
    """
    clauses = re.split(r"[,;]\s+|\.\s+|\s+(?=because\b|since\b)", value)
    while len(clauses) > 1 and re.match(r"(?:because|since|as|for|it can't|which|not|while|whereas)\b", clauses[-1]):
        clauses.pop()
    last = clauses[-1]
    bracketed = [letter for letter in _BRACKETED.findall(value) if letter in known]
    would = re.search(r"^.*\bwould be\b", value)
    if _DENIED.search(last) or (would and conditional(would[0], value[would.end() :])):
        return no_answer(f"“{shown(value)}”")
    letter = re.fullmatch(r"(?:(?:option|choice)\s+)?\(?([A-Z])\)?[.:]?", last.strip("*_ "))
    called = {named for clause in set(clauses[:-1]) if (named := _named_by(_RIGHT_AT_END.sub("", clause), listed))}
    if letter and len(clauses) > 1 and letter[1] in known:
        return letter[1] if called <= {letter[1]} else two_answers(shown(value))
    taken = _TAKES.search(last)
    if taken and taken[1] in known:
        others = re.findall(r"\b([A-Z])\b(?=\s+(?:or|and|nor)\s+)", last)
        return str(taken[1]) if not others and called <= {taken[1]} else two_answers(shown(value))
    right = re.search(r"\(?\b([A-Z])[)*_]*\s+(?i:" + _RIGHT.pattern + ")", last)
    if right and right[1] in known:
        return str(right[1])
    if len(bracketed) == 1 and not _DENIED.search(value):
        return str(bracketed[0])
    said = f" {plain_words(last)} "
    said_of = [letter for letter, text in listed.items() if plain_words(text) and f" {plain_words(text)} " in said]
    if len(said_of) != 1:
        return None
    told = re.search(r"\b(?:is|are|was|were|it's)\s+(?:a\s+|an\s+|the\s+)?(.+)$", last)
    return said_of[0] if _CONCLUDES.match(value) or (told and _named_by(told[1].strip(" *_"), listed)) else None
