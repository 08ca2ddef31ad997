"""Brings a question's text to the one spelling by which public answers are looked up. Pure.

Two texts with the same key ask the same, with the same numbers, names, units and options in the same order: only
spaces, Unicode signs, a few spellings of LaTeX, the end of the sentence and known instructions around a question are
evened out. What could change the meaning stays: a wrong answer to the right text is dear, a missed one is only bought.
(`selection/near_duplicates.py` is bolder, since there a question is left out and not answered.)
"""

import re
import unicodedata
from itertools import pairwise

VERSION = "1"
"""The version of the rules in this file. When it changes, indexes of public sets are made anew."""

INSTRUCTIONS = (
    r"Return your final response within \boxed{}.",  # OpenThoughts-114k, before each maths question
    r"Please reason step by step, and put your final answer within \boxed{}.",  # DeepSeek-R1's card; OpenR1-Math
    r"Let's think step by step and output the final answer within \boxed{}.",  # DAPO, Skywork-OR1
    r"Let's think step by step and output the final answer in \boxed{}.",
    r"Put your final answer within \boxed{}.",
)
"""Instructions that public sets and prompts put before or after a question. They change nothing of what is asked."""

_KEPT_FORMS = ("<circle>", "<font>", "<square>")
"""Signs of these forms keep their spelling: ℝ is not R, and ① may be the name of an option."""
_SIGNS = {
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2212": "-", "\u2010": "-", "\u2011": "-",
    "\u2013": "-", "\u00b0": "^{\\circ}", "\u00d7": "\\times ", "\u00f7": "\\div ", "\u2264": "\\leq ",
    "\u2265": "\\geq ", "\u2260": "\\neq ", "\u03c0": "\\pi ",
    "\u200b": "", "\u2060": "", "\ufeff": "", "\u00ad": "",
}  # fmt: skip


class _Spellings(dict[int, str]):
    """Maps each character to its one spelling, which is worked out when the character is first met."""

    def __missing__(self, code: int) -> str:
        found = self[code] = _spelling(chr(code))
        return found


def _spelling(sign: str) -> str:
    if sign in _SIGNS:
        return _SIGNS[sign]
    form, _, parts = unicodedata.decomposition(sign).partition(" ")
    if form in _KEPT_FORMS:
        return sign
    if form in ("<super>", "<sub>"):  # NFKC would make 10³ of it 103
        return ("^{" if form == "<super>" else "_{") + unicodedata.normalize("NFKC", sign) + "}"
    if form == "<fraction>":
        above, _, below = "".join(chr(int(part, 16)) for part in parts.split()).partition("\u2044")
        return f"\\frac{{{above}}}{{{below}}}" if below else sign
    return unicodedata.normalize("NFKC", sign)


_SPELLINGS = _Spellings()
_RAISED = re.compile(r"(?<=[0-9A-Za-z])\}(\^|_)\{(?=[0-9A-Za-z])")
_MAY_BE_LAYOUT = ("```", "\n  ", "\n\t", "   ")
_LAYOUT = re.compile(r"```|\n(?: {2,}|\t)\S|(?<![.,:;?! ]) {3,}\S")
"""Finds texts in which spaces and lines may have a meaning: programs, tables, drawings."""
_COMMANDS = tuple(
    (re.compile(pattern), put)
    for pattern, put in (
        (r"\\[dt]frac(?![A-Za-z])", r"\\frac"),
        (r"\\(?:left|right)(?=[()\[\]|.]|\\[{}])|\\displaystyle(?![A-Za-z])", ""),
        (r"\\q?quad(?![A-Za-z])|\\[,;:!]|(?<!\\)\\ ", " "),
        (r"\\[()\[\]]", "$"),
        (r"\\(le|ge|ne)(?![A-Za-z])", r"\\\1q"),
        (r"\\mathrm(?![A-Za-z])", r"\\text"),
        (r"\\frac *(\d) *(\d)", r"\\frac{\1}{\2}"),
    )
)
"""Spellings of LaTeX, for texts with a backslash."""
_RAISING = re.compile(r"([\^_]) *(?:([0-9A-Za-z])(?![0-9A-Za-z])|(\\[A-Za-z]+)(?![A-Za-z]))")
_SPACE = re.compile(r" (?=[\^_{}=<>+*/&|]|[,.;:?!](?:\s|$)|\)|- )|(?<=[\^_{}=<>+*/&|(]) |(?<= -) ")
"""The spaces around signs and before the end of a phrase, which mean nothing."""
_FORMULA = re.compile(r"(?<![\\$])\$([^$\n]+?)(?<!\\)\$")
_IN_FORMULA = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")
_WORDS = re.compile(r"[A-Za-z]{2,}[^A-Za-z\n]+[A-Za-z]{2,}")
_SPACES = re.compile(r"[^\S\n]+")
_BREAKS = re.compile(r" ?\n[\s]*")
_BEFORE_THE_END = frozenset(")}$%\"'")
"""Signs after which the last full stop or question mark says nothing."""
_BEGINNINGS = (
    "a an at by calculate compute consider define determine each evaluate every express factor find for from given how"
    " if in it let on one prove show simplify solve suppose the there three to two what when where which who write"
)
_OPENERS = frozenset(_BEGINNINGS.split())
"""First words of questions. Another first word may be a name or a formula: Ax = b is not ax = b."""


def question_key(text: str) -> str:
    """Returns the text in the spelling in which it is compared.

    >>> question_key("What is  $x^2$, if x = 3 ?") == question_key("what is \\\\(x^{2}\\\\), if x=3")
    True
    >>> question_key("What is 10³?") == question_key("What is 103?")
    False
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.isascii():
        text = _RAISED.sub("", unicodedata.normalize("NFC", text).translate(_SPELLINGS))
    if any(mark in text for mark in _MAY_BE_LAYOUT) and _LAYOUT.search(text.strip("\n")):
        return _without_instructions("\n".join(line.rstrip() for line in text.strip().split("\n")))
    text = _without_instructions(_one_line(text))
    if "\\" in text:
        for pattern, put in _COMMANDS:
            text = pattern.sub(put, text)
        text = _SPACES.sub(" ", text)
    if "^" in text or "_" in text:
        text = _RAISING.sub(r"\1{\2\3}", text)
    text = _SPACE.sub("", text)
    if "$" in text:
        text = _FORMULA.sub(_formula, text.replace("$$", "$"))
    text = text.strip()
    if text[-1:] in (".", "?") and (text[-2:-1].isalnum() or text[-2:-1] in _BEFORE_THE_END):
        text = text[:-1]
    return _small_at_first(text)


def _formula(found: "re.Match[str]") -> str:
    return f"${_IN_FORMULA.sub('', found[1].strip())}$"


def _one_line(text: str) -> str:
    """Returns the text with one space for any white space. A line break stays where it may have a meaning: beside a
    line that is no prose."""
    if "\n" not in text:
        return " ".join(text.split())
    lines = [line for line in _BREAKS.sub("\n", _SPACES.sub(" ", text).strip()).split("\n") if line]
    if not lines:
        return ""
    found = lines[0]
    for before, line in pairwise(lines):
        found += (" " if _WORDS.search(before) and _WORDS.search(line) else "\n") + line
    return found


def _without_instructions(text: str) -> str:
    if "\\boxed{}" in text:
        for words in INSTRUCTIONS:
            text = text.removeprefix(words).removesuffix(words).strip()
    return text


def _small_at_first(text: str) -> str:
    """Returns the text with its first word in small letters, if that is a word that questions begin with."""
    word = text.partition(" ")[0]
    return text[0].lower() + text[1:] if word[1:].islower() and word.lower() in _OPENERS else text
