"""Gives filters the texts of an answer in the forms that they read: without code, in lower case, as words."""

import re
from collections.abc import Iterable
from functools import cached_property

from harvest.core.nouns import Candidate

FENCE = re.compile(r"^[ \t]*+(```++|~~~++)[^\n]*+\n(?:.*?)(?:^[ \t]*+\1[`~]*+[ \t]*+$|\Z)", re.DOTALL | re.MULTILINE)
MARKS = ".,;:!?\"'()[]{}*_`~-–—…#>|/\\$“”。，！？：；"
_STRAIGHT = tuple(zip("‘’‛“”„‟«»", "'''" + 6 * '"', strict=True))


def plain(text: str) -> str:
    """Returns the text in lower case and with straight quotation marks. Filters look for phrases in this form."""
    low = text.lower()
    if not low.isascii():
        for curly, straight in _STRAIGHT:
            low = low.replace(curly, straight)
    return low


def bare(words: Iterable[str]) -> frozenset[str]:
    """Returns the different words, without the punctuation around each word."""
    return frozenset([word.strip(MARKS) for word in set(words)])


class Text:
    """The chain or the answer, as filters read it.

    Each form of the text is made when a filter first asks for that form, and is kept for the next filter.
    """

    def __init__(self, name: str, whole: str) -> None:
        """`name` is "chain" or "answer": faults call the text by this name."""
        self.name, self.whole = name, whole

    @cached_property
    def prose(self) -> str:
        """Returns the text without fenced blocks, since words in a program are not the author's own."""
        return FENCE.sub("\n", self.whole) if "```" in self.whole or "~~~" in self.whole else self.whole

    @cached_property
    def plain(self) -> str:
        return plain(self.prose)

    @cached_property
    def words(self) -> list[str]:
        """Returns the words in their order, each with the punctuation around it."""
        return self.plain.split()

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        return bare(self.words)


class Reading:
    """One candidate, as filters read it."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.question = candidate.question
        self.chain = Text("chain", candidate.reasoning or "")
        self.answer = Text("answer", candidate.answer)

    @cached_property
    def asked(self) -> str:
        """Returns all messages that the teacher was asked with, without the answers of worked examples."""
        return "\n".join(m["content"] for m in self.candidate.asked if m["role"] != "assistant")

    @cached_property
    def asked_plain(self) -> str:
        return plain(self.asked)

    @cached_property
    def question_plain(self) -> str:
        return plain(self.question.question)
