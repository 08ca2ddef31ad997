"""Finds rows that ask a question of an evaluation (decontamination).

Everything here is pure, except that `evaluations_of` reads the evaluations' files.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from harvest.checks import ROW_RULES
from harvest.core.errors import QuestionError
from harvest.questions.rows import NO_COLUMNS
from harvest.questions.sources import read_rows
from harvest.selection import near_duplicates as rules
from harvest.selection.near_duplicates import QuestionFeatures, may_agree, same_question

COMMON_TO = 20
"""Three tokens in a row count only if at most this many questions of an evaluation (or 1% of them, if that is more)
hold them. Else the tokens come from a template."""
LOOKED_AT = 10
"""A row is compared with at most this many questions that share its words. Then the whole row, and the row without each
frame, are compared with at most this many questions that share their numbers."""


class Evaluation:
    """The questions of one evaluation, with indexes that find the question that a row asks."""

    def __init__(self, name: str, questions: Iterable[Sequence[str | None]]) -> None:
        """Indexes `questions`, each of which is (id, text) or (id, text, gold answer)."""
        self.name = name
        self.questions = [(str(q[0]), QuestionFeatures(q[1] or "", q[2] if len(q) > 2 else None)) for q in questions]

    @cached_property
    def _whole(self) -> dict[tuple[str, ...], str]:
        return {q.whole: key for key, q in self.questions}

    @cached_property
    def _by_triple(self) -> dict[tuple[str, ...], list[int]]:
        """Maps each sequence of three tokens to the indices, in `self.questions`, of the questions that hold it.

        Sequences that many questions hold are left out: they come from a template (COMMON_TO).
        """
        found = defaultdict(list)
        for n, (_, q) in enumerate(self.questions):
            for triple in q.triples:
                found[triple].append(n)
        most = max(COMMON_TO, len(self.questions) // 100)
        return {triple: of for triple, of in found.items() if len(of) <= most}

    @cached_property
    def _by_numbers(self) -> dict[frozenset[tuple[str, int]], list[int]]:
        found = defaultdict(list)
        for n, (_, q) in enumerate(self.questions):
            if q.numbers:
                found[frozenset(q.numbers.items())].append(n)
        return found

    def asked_in(self, text: str, gold: str | None = None) -> str | None:
        """Returns the id of the evaluation's question that `text` asks, or None if it asks none of them.

        The question is also found if the text changes names, puts a frame around the question, or adds sentences.
        """
        asked = QuestionFeatures(text, gold)
        if (key := self._whole.get(asked.whole)) is not None:
            return key
        hits = Counter(n for t in asked.triples for n in self._by_triple.get(t, ()))
        likely = [n for n, _ in hits.most_common(LOOKED_AT)]
        for _, _, numbers in asked.without_frames:
            likely += self._by_numbers.get(frozenset(numbers.items()), ())[:LOOKED_AT]
        for n in dict.fromkeys(likely):
            key, question = self.questions[n]
            if may_agree(asked, question) and _asks(asked, question):
                return key
        return None


def _asks(row: QuestionFeatures, question: QuestionFeatures) -> bool:
    """Whether a row holds the numbers and enough of the words of an evaluation's question.

    The row may hold further numbers and words.
    """
    if same_question(row, question):
        return True
    n = question.words.total()
    if n < rules.FEW_WORDS or not question.numbers <= row.numbers:
        return False
    words = (question.words & row.words).total() / n
    triples = len(question.triples & row.triples) / max(len(question.triples), 1)
    if question.numbers.total() >= rules.MANY_NUMBERS:
        known = row.gold is not None and question.gold is not None
        return words >= 0.6 and triples >= (0.2 if known else 0.35)
    return words >= rules.SHARE_OF_WORDS and triples >= 0.6


def evaluations_of(against: Sequence[str], base: Path, columns: Mapping[str, str] = NO_COLUMNS) -> list[Evaluation]:
    """Reads the evaluations that [select] `against` names. `columns` is the setting `against_columns`.

    Raises QuestionError when an evaluation cannot be read or has no question: a comparison with no question finds
    nothing, and the run would look clean.
    """
    found = []
    for source in against:
        rows = read_rows(source, base, ROW_RULES, without_gold="majority", may_skip=False, columns=columns)
        found.append(Evaluation(source, ((q.id, q.question, q.answer) for _, q in rows)))
        if not found[-1].questions:
            raise QuestionError(f"select.against: {source}: not one question in it")
    return found
