"""Reads the words of an answer: it makes them comparable, tells words from maths, and finds sentences that hedge."""

import re
import unicodedata

from harvest.answers.boxes import MOST_CHARACTERS
from harvest.answers.notation import TEXT_COMMAND

_HEDGED = re.compile(
    r"\b(?:not|never|no|or|if|could|might|may|can|perhaps|maybe|possibly|probably|some|unless|neither|nor)\b|n't\b|\?",
    re.IGNORECASE,
)


def hedges(sentence: str) -> bool:
    """Whether a sentence denies, doubts or asks."""
    return bool(_HEDGED.search(sentence))


def predicate(sentence: str) -> str | None:
    """Returns what a sentence says that something is: "Monday" for "So it was **Monday**".

    Returns None when the sentence says no such thing, or denies, doubts or asks.
    """
    told = re.search(
        r"\b(?:is|are|was|were|it's|be)\s+(?:a\s+|an\s+|the\s+)?((?:(?!\b(?:is|are|was|were|be)\b).)+)$", sentence
    )
    return None if told is None or hedges(sentence) else told[1].strip(' *_."“”`')


_QUOTES = "\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}“”"
_DROPPED = re.compile(rf"""[.,;:!?"'{_QUOTES}()\[\]{{}}$`*_~]+""")


_PLAIN_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe", "ı": "i"})
"""Letters that Unicode does not take apart into a letter and an accent."""


def plain_words(text: str) -> str:
    """Returns the text in the form in which words are compared.

    Capitals, accents, markup, punctuation and an article at the beginning are dropped, and so is a dash between words
    or before a space. Decimal points, symbols such as + # &, and a minus right before a digit or a letter stay, because
    they are part of what is said.
    """
    text = unicodedata.normalize("NFKD", TEXT_COMMAND.sub(r" \1 ", text[:MOST_CHARACTERS])).casefold()
    text = "".join(character for character in text if not unicodedata.combining(character)).translate(_PLAIN_LETTERS)
    text = re.sub(r"(?<=-)\\(?=[a-z])", "", text.replace("\N{MINUS SIGN}", "-")).replace("\\", " ")
    text = re.sub(r"(?<=\d)\.(?=\d)", "\0", text)
    text = _DROPPED.sub(" ", text).replace("\0", ".")
    text = re.sub(r"(?<=\w)-(?=\D)|(?<=\w)-(?=\d)|(?<!\w)-(?=[^a-z\d]|$)", " ", text)
    return re.sub(r"^(?:the|an|a) (?=\S)", "", " ".join(text.split()))


_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
_KNOWN_WORDS = """
    sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log exp sqrt max min gcd lcm det mod pi infty
    abs floor ceil union theta alpha beta gamma lambda deg text frac and matrix begin end mathbb emptyset
"""
_KNOWN = frozenset(_KNOWN_WORDS.split())


def foreign_words(text: str) -> list[str]:
    """Returns the words of three letters or more in a formula, except names of functions and Greek letters."""
    return [word for word in _WORD.findall(text) if word.lower() not in _KNOWN]


def is_words(text: str) -> bool:
    r"""Whether a text is words rather than maths: "Tuesday" and "\text{no solution}" are, "2x" and "\pi" are not."""
    bare = re.sub(r"\\(?:text|mbox|textbf|textrm|mathrm|textnormal)\s*\{([^{}]*)\}", r" \1 ", text)
    if re.search(r"\\[a-zA-Z]|[=^_<>+]|\d", bare):
        return bool(foreign_words(bare)) and not re.search(r"\\[a-zA-Z]", bare)
    return bool(foreign_words(bare)) or "\\text" in text


def signed_words(text: str) -> str:
    """Returns the plain words of a text. A minus at the beginning becomes a word: "-x" gives "minus x"."""
    return ("minus " if re.match(r"\s*-\s*[^\d\s]", text) else "") + plain_words(text).removeprefix("-")
