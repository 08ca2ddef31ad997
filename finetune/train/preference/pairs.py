"""Decides which two answers to a question make a preference pair. Pure.

Source: Sky-T1-Flash (novasky-ai.github.io/posts/reduce-overthinking). It draws eight answers to a question and prefers
the shortest right answer to the longest right one. In a tenth of the pairs it prefers a right answer to a shorter wrong
one: without such pairs, the student thought too little about hard questions.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from finetune.recipe import Prefer

Outcome = Literal["right", "wrong"]
Kind = Literal["shorter", "longer"]
"""A "shorter" pair prefers the shortest right answer to the longest right one. A "longer" pair prefers a right answer
to a shorter wrong one."""
KINDS: tuple[Kind, ...] = ("shorter", "longer")


class Answer(NamedTuple):
    """One answer to a question: its length in the student's tokens, and whether it is right."""

    question_id: str
    tokens: int
    outcome: Outcome


class Pair(NamedTuple):
    """A pair of answers, each by its number."""

    chosen: int
    rejected: int
    kind: Kind


def possible_pairs(answers: Sequence[Answer]) -> list[Pair]:
    """Returns every pair that the answers give, at most one of each kind for a question, in the order of the questions.

    Of equally long answers the first one counts.
    """
    by_question: dict[str, list[int]] = {}
    for n, answer in enumerate(answers):
        by_question.setdefault(answer.question_id, []).append(n)
    found = []
    for of in by_question.values():
        right, wrong = (sorted((n for n in of if answers[n].outcome == o), key=lambda n: answers[n].tokens)
                        for o in ("right", "wrong"))  # fmt: skip
        if right and answers[right[0]].tokens < answers[right[-1]].tokens:
            longest = next(n for n in right if answers[n].tokens == answers[right[-1]].tokens)
            found.append(Pair(right[0], longest, "shorter"))
        longer = next((n for n in right if wrong and answers[n].tokens > answers[wrong[0]].tokens), None)
        if longer is not None:
            found.append(Pair(longer, wrong[0], "longer"))
    return found


def pairs_of(answers: Sequence[Answer], prefer: Prefer, seed: int) -> list[Pair]:
    """Returns the pairs that are trained: those of `possible_pairs`, in the recipe's proportions.

    `seed` chooses where there are more pairs of a kind than that. If there is no pair of the kind "shorter", there is
    none at all.
    """
    possible = possible_pairs(answers)
    there, most = counted([pair.kind for pair in possible]), prefer.most_pairs or len(possible)
    whole = min(most, there["shorter"] / (1 - prefer.wrong_share))
    longer = min(there["longer"], round(whole * prefer.wrong_share))
    wanted = {"shorter": min(there["shorter"], most - longer), "longer": longer}
    kept: set[Pair] = set()
    for kind in KINDS:
        of_kind = [pair for pair in possible if pair.kind == kind]
        kept.update(random.Random(f"{seed}/{kind}").sample(of_kind, wanted[kind]))
    return [pair for pair in possible if pair in kept]


def counted(kinds: Sequence[str]) -> Mapping[str, int]:
    """Returns how many pairs there are of each kind, zeros included."""
    return {kind: sum(k == kind for k in kinds) for kind in KINDS}
