"""What a check is, and the few things that all of them share."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Protocol

from harvest.core.boxes import MOST_CHARACTERS as MOST_CHARACTERS
from harvest.core.nouns import Outcome, Question, Verdict

Work = Mapping[str, Any]
"""JSON values that a worker process needs to finish a judgement; see `Check.work`."""

Finding = tuple[Outcome, str]


class Check(Protocol):
    """A way to judge answers. One file, one row in the table, a new version for new verdicts."""

    name: str
    version: str

    def quick(self, question: Question, answer: str) -> Finding | Work:
        """The finding, where it is safe and cheap to get; else the work that a killable process finishes.

        Runs in the process that owns the money and the store: it never evaluates what a model wrote, and its
        time is linear in the answer's length.
        """
        ...

    def work(self, work: Work) -> Finding:
        """Finishes what `quick` put off. Runs in a worker alone: may hang, swell or die."""
        ...

    def prepare(self) -> None:
        """Imports what `work` needs, so that the time it takes is not counted against an answer."""
        ...

    def own_answer(self, question: Question) -> str | None:
        """The gold answer as a teacher would state it. None: there is none to judge by."""
        ...


def verdict(check: Check, finding: Finding) -> Verdict:
    outcome, detail = finding
    return Verdict(check.name, check.version, outcome, detail)


def shown(text: str, most: int = 80) -> str:
    """One short line of what a model wrote, for a detail: no line breaks, no control characters."""
    line = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text[: most * 4])
    line = " ".join(line.split())
    return line if len(line) <= most else line[: most - 1] + "…"


_HEDGED = re.compile(
    r"\b(?:not|never|no|or|if|could|might|may|can|perhaps|maybe|possibly|probably|some|unless|neither|nor)\b|n't\b|\?",
    re.IGNORECASE,
)


def hedges(sentence: str) -> bool:
    """Whether a sentence denies, doubts or asks."""
    return bool(_HEDGED.search(sentence))


def told_last(sentence: str) -> str | None:
    """What a sentence says that something is: "So it was **Monday**" is Monday. None where it hedges."""
    told = re.search(
        r"\b(?:is|are|was|were|it's|be)\s+(?:a\s+|an\s+|the\s+)?((?:(?!\b(?:is|are|was|were|be)\b).)+)$", sentence
    )
    return None if told is None or hedges(sentence) else told[1].strip(' *_."“”`')


_PLAIN = re.compile(r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mbox|emph)\s*\{([^{}]*)\}")
_QUOTES = "\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}“”"
_DROPPED = re.compile(rf"""[.,;:!?"'{_QUOTES}()\[\]{{}}$`*_~]+""")


def plain_words(text: str) -> str:
    """Text as it is compared where only the words count: case, accents, markup, punctuation and a first
    article do not.

    A sign right before a digit or a letter, decimal points and symbols such as + # & stay: they are part of what is
    said. A dash between words or before a space is none.
    """
    text = unicodedata.normalize("NFKD", _PLAIN.sub(r" \1 ", text[:MOST_CHARACTERS])).casefold()
    text = "".join(character for character in text if not unicodedata.combining(character))
    text = re.sub(r"(?<=-)\\(?=[a-z])", "", text.replace("\N{MINUS SIGN}", "-")).replace("\\", " ")
    text = re.sub(r"(?<=\d)\.(?=\d)", "\0", text)
    text = _DROPPED.sub(" ", text).replace("\0", ".")
    text = re.sub(r"(?<=\w)-(?=\D)|(?<=\w)-(?=\d)|(?<!\w)-(?=[^a-z\d]|$)", " ", text)
    return re.sub(r"^(?:the|an|a) (?=\S)", "", " ".join(text.split()))
