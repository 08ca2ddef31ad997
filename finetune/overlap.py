"""Which evaluation question a training row asks: the same one, or nearly. Pure."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cached_property

WORD = re.compile(r"\w+|[-+*/=^<>%|!\\]")
"""Signs that make another sum of it count as words, commas and full stops don't."""
SHINGLE = 8
"""Words in a row that are compared at once."""
SHARE = 0.8
"""So much of a question's shingles, and all its numbers, in a row: the same question, put a little otherwise."""


class Evaluation:
    """The questions of one evaluation, ready to be looked for. `questions` are (id, text)."""

    def __init__(self, name: str, questions: Iterable[tuple[str, str]]) -> None:
        self.name = name
        self.questions = [(key, _words(text)) for key, text in questions]

    @cached_property
    def _whole(self) -> dict[tuple[str, ...], str]:
        return {tuple(words): key for key, words in self.questions}

    @cached_property
    def _shingles(self) -> dict[tuple[str, ...], list[int]]:
        found = defaultdict(list)
        for n, (_, words) in enumerate(self.questions):
            for shingle in set(_shingles(words)):
                found[shingle].append(n)
        return found

    def asked_in(self, text: str) -> str | None:
        """The id of the question that `text` asks, else None.

        Case, spaces and what stands around the question do not count; numbers do: a sum of other terms is another.
        A question of fewer than eight words has to be all of the text.
        """
        words = _words(text)
        if (key := self._whole.get(tuple(words))) is not None:
            return key
        hits = Counter(n for shingle in set(_shingles(words)) for n in self._shingles.get(shingle, ()))
        numbers = Counter(w for w in words if w.isdigit())
        for n, shared in hits.most_common(5):
            key, question = self.questions[n]
            wanted = Counter(w for w in question if w.isdigit())
            if shared >= SHARE * len(set(_shingles(question))) and wanted <= numbers:
                return key
        return None


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _shingles(words: list[str]) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)]
