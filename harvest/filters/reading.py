"""The texts of an answer in the forms that filters read: without code, in lower case, as words."""

import re
from functools import cached_property

from harvest.core.nouns import Candidate
from harvest.filters.phrases import bare

FENCE = re.compile(r"^[ \t]*+(```++|~~~++)[^\n]*+\n(?:.*?)(?:^[ \t]*+\1[`~]*+[ \t]*+$|\Z)", re.DOTALL | re.MULTILINE)
_STRAIGHT = tuple(zip("‘’‛“”„‟«»", "'''" + 6 * '"', strict=True))


def without_code(text: str) -> str:
    """The text without fenced blocks: what stands in a program is not said by whoever wrote it."""
    return FENCE.sub("\n", text) if "```" in text or "~~~" in text else text


def plain(text: str) -> str:
    """The text in lower case and with straight quotation marks, as phrases are looked for."""
    low = text.lower()
    if not low.isascii():
        for curly, straight in _STRAIGHT:
            if curly in low:
                low = low.replace(curly, straight)
    return low


class Reading:
    """One answer's texts. Each form is made when it is first asked for, and kept for the next filter."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.question = candidate.question
        self.chain = candidate.reasoning or ""
        self.answer = candidate.answer

    @cached_property
    def asked(self) -> str:
        """All that the teacher was asked, without the answers of worked examples."""
        return "\n".join(m["content"] for m in self.candidate.asked if m["role"] != "assistant")

    @cached_property
    def asked_plain(self) -> str:
        return plain(self.asked)

    @cached_property
    def question_plain(self) -> str:
        return plain(self.question.question)

    @cached_property
    def chain_prose(self) -> str:
        return without_code(self.chain)

    @cached_property
    def answer_prose(self) -> str:
        return without_code(self.answer)

    @cached_property
    def chain_plain(self) -> str:
        return plain(self.chain_prose)

    @cached_property
    def chain_words(self) -> list[str]:
        """The chain's words, as they stand between spaces."""
        return self.chain_plain.split()

    @cached_property
    def chain_vocabulary(self) -> frozenset[str]:
        """The chain's different words, without punctuation around them."""
        return bare(self.chain_words)

    @cached_property
    def answer_plain(self) -> str:
        return plain(self.answer_prose)

    @cached_property
    def answer_words(self) -> list[str]:
        return self.answer_plain.split()

    @cached_property
    def answer_vocabulary(self) -> frozenset[str]:
        return bare(self.answer_words)
