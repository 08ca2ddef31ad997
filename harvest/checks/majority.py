"""Majority: without a gold answer, what most of a question's answers agree on is taken for right.

Answers are judged together, so none is judged until the last has come. Grouping asks nothing of their order, and in
a group every two answers are equal, each taken as gold for the other: a decimal that only one of them rounds to joins
no group, and 18 does not make one of "$18" and "18 cents".
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial

from harvest.answers.notation import squeezed
from harvest.answers.quantities import parse_number
from harvest.answers.stated import find_stated
from harvest.answers.words import hedges, is_words, plain_words, told_last
from harvest.checks.check import Finding, Work, shown
from harvest.checks.choice import chosen, options
from harvest.checks.maths.compare import MOST_NESTING, AtSight, Undecided, compare, nesting
from harvest.checks.maths.conclusion import stated_value
from harvest.checks.maths.equality import Algebra
from harvest.checks.maths.maths import Maths
from harvest.checks.maths.number_equality import same_number
from harvest.checks.text import truth_said
from harvest.core.nouns import Outcome, Question, Verdict
from harvest.questions.rows import MAJORITY

MOST_COMPARED_CHARACTERS = 1000
"""A longer stated answer agrees with no other: what a question's answers state is held together in memory."""
MOST_KINDS = 64
"""So many different answers of one question are compared, the most frequent first; the rest stand alone."""
MOST_ALGEBRA = 24
"""So many pairs of one question go to a checking process; the rest count as different."""
MOST_WORDS = 6
"""Of a last line that is taken for an answer in words."""

Same = Callable[[str, str], bool]
"""Whether two values are equal by algebra, which only a process that can be killed may find out."""
AtASight = Callable[[str, str], bool | None]
"""The same where it can be seen; None where it takes algebra."""


class Majority:
    """The check "majority". One answer alone is no majority; `judge_together` judges."""

    name = MAJORITY
    version = "1"

    def quick(self, question: Question, answer: str) -> Finding | Work:
        return Outcome.NO_ANSWER, "one answer alone is no majority"

    def work(self, work: Work) -> Finding:
        """Whether two values are equal: right or wrong."""
        from harvest.checks.maths import symbolic

        one, other, question = str(work["one"]), str(work["other"]), str(work["question"])
        try:
            equal = _both_ways(one, other, question, symbolic.Symbolic(question))
        except symbolic.Unreadable as unreadable:
            return Outcome.WRONG, f"cannot be read as maths: {shown(str(unreadable), 40)}"
        return (Outcome.RIGHT if equal else Outcome.WRONG), f"{shown(one, 40)} and {shown(other, 40)}"

    def prepare(self) -> None:
        Maths().prepare()

    def own_answer(self, question: Question) -> str | None:
        return None


# ---- what each answer states


@dataclass(frozen=True, slots=True)
class Says:
    """What one answer commits to, as it is compared; or None and why not."""

    value: str | None
    why: str = ""


def said_by(question: Question) -> Callable[[str], Says]:
    """Reads answers to a question: the letter of an option where it has options, else yes, no, a value, a few words."""
    listed = options(question.question, question.choices)
    return (lambda answer: _chosen(answer, listed)) if listed else _said


def _chosen(answer: str, listed: Mapping[str, str]) -> Says:
    picked = chosen(answer, listed)
    return Says(picked) if isinstance(picked, str) else Says(None, picked[1])


def _said(answer: str) -> Says:
    found = find_stated(answer)
    if found.value is None:
        return Says(None, f"no final answer found: {found.why}")
    if parse_number(found.value) is None and (truth := truth_said(found.value)):
        return Says({"true": "yes", "false": "no"}.get(truth, truth))
    read = stated_value(answer, "")
    value, also = read.value, read.also
    if value is None:
        value, also = _in_words(found.value, found.how), found.also
    if value is None:
        return Says(None, f"no final answer found: “{shown(found.value)}” is no value")
    if len(value) > MOST_COMPARED_CHARACTERS:
        return Says(None, f"states more than {MOST_COMPARED_CHARACTERS:,} characters")
    if nesting(value) > MOST_NESTING:
        return Says(None, f"nested too deeply to read: {shown(value)}")
    if also and _key(also) != _key(value):
        return Says(None, f"two different answers: {shown(value)}, then {shown(also)}")
    return Says(value)


def _in_words(stated: str, how: str) -> str | None:
    """A stated answer in words; of a last line what it tells, or all of it where it is short and hedges nothing."""
    if how != "last line":
        return stated if len(stated.split()) <= 2 * MOST_WORDS else None
    if hedges(stated):
        return None
    return told_last(stated) or (stated if len(stated.split()) <= MOST_WORDS else None)


# ---- who agrees


def _key(value: str) -> Hashable:
    """Alike for values that are plainly the same: exact numbers with their unit, words, what is written alike."""
    number = parse_number(value)
    if number is not None:
        return number.value, number.unit, number.name
    return plain_words(value) if is_words(value) else squeezed(value)


def _both_ways(one: str, other: str, question: str, algebra: Algebra) -> bool:
    return compare(one, other, question, algebra) and compare(other, one, question, algebra)


def same_at_sight(question: str, one: str, other: str) -> bool | None:
    """Whether each of two values would be right were the other gold; None where that takes algebra."""
    first, second = parse_number(one), parse_number(other)
    if first and second:
        return same_number(first, second, question) and same_number(second, first, question)
    undecided = False
    for gold, given in ((one, other), (other, one)):
        try:
            if not compare(gold, given, question, AtSight(question)):
                return False
        except Undecided:
            undecided = True
    return None if undecided else True


def grouped(values: Sequence[str], at_sight: AtASight, same: Same) -> list[list[int]]:
    """The places of equal values, the largest group first. Each place is in one group, whatever the order."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, value in enumerate(values):
        places[_key(value)].append(place)
    kinds = {_usual([values[p] for p in there]): there for there in places.values()}
    in_turn = sorted(kinds, key=lambda kind: (-len(kinds[kind]), kind))
    left = MOST_ALGEBRA

    def fits(kind: str, group: list[str]) -> bool:
        nonlocal left
        sights = [(member, at_sight(member, kind)) for member in group]
        if any(equal is False for _, equal in sights):
            return False
        for member in (member for member, equal in sights if equal is None):
            left -= 1
            if left < 0 or not same(*sorted((member, kind))):
                return False
        return True

    groups: list[list[str]] = []
    for kind in in_turn[:MOST_KINDS]:
        home = next((group for group in groups if fits(kind, group)), None)
        if home is None:
            groups.append([kind])
        else:
            home.append(kind)
    groups += [[kind] for kind in in_turn[MOST_KINDS:]]
    found = [[place for kind in group for place in kinds[kind]] for group in groups]
    return sorted(found, key=len, reverse=True)


def agreeing(said: Sequence[Says], question: Question, same: Same) -> list[list[int]]:
    """The places of answers that state the same, the largest group first; those that state nothing are in none."""
    stating = [(place, says.value) for place, says in enumerate(said) if says.value is not None]
    lettered = bool(options(question.question, question.choices))
    at_sight = str.__eq__ if lettered else partial(same_at_sight, question.question)
    return [[stating[p][0] for p in group] for group in grouped([value for _, value in stating], at_sight, same)]


def _usual(values: Sequence[str]) -> str:
    """How most of them write it."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))


def judge_together(said: Sequence[Says], question: Question, share: Decimal, same: Same) -> list[Verdict]:
    """A verdict on each of a question's finished answers, in their order. `share`: more of them than this must agree.

    Each verdict's own `share` is that of the largest group, right or not; None where there is no such group.
    """
    n = len(said)
    if n < 2:
        alone = "one finished answer alone proves nothing: a majority takes two at least"
        return [Verdict(Majority.name, Majority.version, Outcome.NO_ANSWER, alone) for _ in said]
    groups = agreeing(said, question, same)
    most = [(p, said[p].value or "") for p in groups[0]] if groups else []
    holds = Fraction(len(most), n)
    agree = f"{len(most)} of {n} agree on {shown(_usual([v for _, v in most]))} ({float(holds):.0%})" if most else ""
    figure = float(holds) if most else None
    inside = {place for place, _ in most}

    def finding(place: int, says: Says) -> Finding:
        if not most:
            return Outcome.NO_ANSWER, f"none of {n} answers states a result: {says.why}"
        if holds <= Fraction(share):
            return Outcome.NO_ANSWER, f"no majority: at most {agree}, and it takes more than {share:%}"
        if place in inside:
            return Outcome.RIGHT, agree
        if says.value is None:
            return Outcome.NO_ANSWER, f"{says.why}; {agree}"
        return Outcome.WRONG, f"{agree}, this one says {shown(says.value)}"

    return [Verdict(Majority.name, Majority.version, *finding(place, says), figure) for place, says in enumerate(said)]
