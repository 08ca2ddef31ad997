"""Decides whether two questions ask the same: numbers and formulas decide first, words second. Pure.

Two questions of one template share nearly all of their words, and are different. Two copies of one question with other
names, in another order or in another frame share few sequences of words. So numbers and formulas are compared first,
and the gold answers if both are known. A frame is the first or last few sentences of a question (FRAME_SENTENCES).

deduplication.py finds near-duplicate answers. How alike two answers must be is the setting `select.near_similarity`.
"""

from collections import Counter
from functools import cached_property

from harvest.selection.question_text import quantities, sentences, tokens, unnumbered

VERSION = "2"
"""The version of the rules in this file. When it changes, all questions are compared again."""

SHARE_OF_WORDS = 0.8
"""If neither numbers nor gold answers say that two questions ask the same, the longer one must have this share of the
shorter one's words."""
FRAME_SENTENCES = 2
"""A frame (such as `Problem 12.`) is at most this many sentences before or after the question proper. Its numbers are
not compared."""
MANY_NUMBERS = 3
"""If two questions have this many numbers and formulas in common, chance is hardly the cause."""
FEW_WORDS = 8
"""If the shorter of two questions has fewer words than this and no number, both ask the same only if all their words
and signs are the same."""


class QuestionFeatures:
    """What is compared of one question: its numbers, formulas and words, and its gold answer if that is known."""

    def __init__(self, text: str, gold: str | None = None) -> None:
        self.sentences = sentences(tokens(unnumbered(text)))
        self.by_sentence = [Counter(quantities(s)) for s in self.sentences]
        self.gold = _gold(gold)

    @cached_property
    def numbers(self) -> Counter[str]:
        """All numbers and formulas of the question, with how often each occurs."""
        return sum(self.by_sentence, Counter())

    @cached_property
    def words(self) -> Counter[str]:
        """All words and numbers of the question, with how often each occurs."""
        return Counter(t for s in self.sentences for t in s if t[0].isalnum())

    @cached_property
    def triples(self) -> frozenset[tuple[str, ...]]:
        """All sequences of three tokens within a sentence, so that the order of sentences does not count."""
        return frozenset(tuple(s[i : i + 3]) for s in self.sentences for i in range(len(s) - 2))

    @cached_property
    def whole(self) -> tuple[str, ...]:
        """All tokens of the question, without the ends of sentences."""
        return tuple(t for s in self.sentences for t in s)

    @cached_property
    def without_frames(self) -> list[tuple[bool, bool, Counter[str]]]:
        """The numbers and formulas of the whole question, and of the question without frames (first or last sentences).

        Each entry is (whether a frame at the beginning is left out, whether a frame at the end is left out, the numbers
        and formulas of the rest). The rest always has more than half of the question's tokens.
        """
        lengths, n = [len(s) for s in self.sentences], len(self.sentences)
        total = sum(lengths)
        found = [(False, False, self.numbers)]
        for first in range(min(FRAME_SENTENCES, n) + 1):
            for last in range(min(FRAME_SENTENCES, n - first) + 1):
                left_out = [*range(first), *range(n - last, n)]
                if 2 * (total - sum(lengths[i] for i in left_out)) <= total:
                    continue
                if not any(self.by_sentence[i] for i in left_out):
                    continue  # the same numbers are left
                numbers = self.numbers - sum((self.by_sentence[i] for i in left_out), Counter())
                if numbers and all(numbers != other for _, _, other in found):
                    found.append((first > 0, last > 0, numbers))
        return found


def _gold(gold: str | None) -> tuple[str, ...] | None:
    """Returns the tokens of a gold answer, brought to one spelling.

    Returns None if the answer is unknown, holds nothing to compare, or is so long that it can be spelled in many ways.
    """
    if gold is None or not gold.strip() or len(gold) > 400:
        return None
    found = [t for s in sentences(tokens(gold)) for t in s]
    numbers = tuple(sorted(quantities(found)))
    return numbers or tuple(t for t in found if t[0].isalnum()) or None


def same_question(a: QuestionFeatures, b: QuestionFeatures) -> bool:
    """Whether two questions ask the same, even in other words, in another order or in another frame.

    Questions with different gold answers are different. Numbers and formulas must be the same, apart from frames. If
    more numbers are shared, or if the gold answers are known and the same, fewer words need to agree.
    """
    if a.whole == b.whole:
        return True
    if not may_agree(a, b):
        return False
    return _same_numbers(a, b) and _same_words(a, b)


def same_task(a: QuestionFeatures, b: QuestionFeatures) -> bool:
    """Whether two questions ask the same, given that their answers are nearly the same.

    The same numbers are then enough, whatever the words. But if a gold answer is unknown, the questions need at least
    MANY_NUMBERS numbers; with fewer numbers, `same_question` decides.
    """
    numbers = min(a.numbers.total(), b.numbers.total())
    if not numbers or (numbers < MANY_NUMBERS and (a.gold is None or b.gold is None)):
        return same_question(a, b)
    return a.whole == b.whole or (may_agree(a, b) and _same_numbers(a, b))


def _same_numbers(a: QuestionFeatures, b: QuestionFeatures) -> bool:
    """Whether two questions have the same numbers, either as they are or after frames are left out.

    A frame at the beginning may be left out of only one of the two questions, and the same holds at the end: two
    questions that both begin with numbers of their own are different.
    """
    return any(
        n == m and not (first and other_first) and not (last and other_last)
        for first, last, n in a.without_frames
        for other_first, other_last, m in b.without_frames
    )


def may_agree(a: QuestionFeatures, b: QuestionFeatures) -> bool:
    """Whether the gold answers allow that two questions ask the same: they are equal, or one of them is unknown."""
    return a.gold is None or b.gold is None or a.gold == b.gold


def _same_words(a: QuestionFeatures, b: QuestionFeatures) -> bool:
    """Whether the words of two questions agree enough, given that the numbers are the same."""
    shorter, longer = sorted((a, b), key=lambda q: q.words.total())
    n = shorter.words.total()
    words = (shorter.words & longer.words).total() / max(n, 1)
    triples = len(shorter.triples & longer.triples) / max(len(shorter.triples), 1)
    numbers = min(a.numbers.total(), b.numbers.total())
    if n < FEW_WORDS and not numbers:
        return False
    if a.gold is None or b.gold is None:
        if numbers >= MANY_NUMBERS:
            return words >= 0.7 and triples >= 0.35
        return words >= SHARE_OF_WORDS and triples >= SHARE_OF_WORDS
    if numbers >= MANY_NUMBERS:
        return words >= 0.55
    if numbers:
        return words >= 0.7 and triples >= 0.3
    return words >= SHARE_OF_WORDS and triples >= 0.5
