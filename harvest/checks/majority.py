"""The check "majority": if a question has no gold answer, the result that most of its answers state counts as right.

All answers to a question get their verdicts together, when the last answer has come. Answers with equal results form a
group. The order in which the answers came does not change the groups. In a group, each result would be right if any
other result of the group were gold. So 1.333 and 4/3 form two groups: 4/3 is right if 1.333 is gold, but 1.333 is
wrong if 4/3 is gold. And "18" does not put "$18" and "18 cents" into one group, although "18" equals each of them.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import partial

from harvest.answers.notation import squeezed
from harvest.answers.quantities import parse_number
from harvest.answers.stated import Stated, find_stated
from harvest.answers.words import hedges, is_words, plain_words, predicate
from harvest.checks.check import Check, Finding, Work, right_or_wrong, shown
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
"""A stated result with more characters than this agrees with no other result. The limit keeps memory small, because the
results of all answers to a question are in memory at once."""
MOST_KINDS = 64
"""At most this many different results of one question are compared, the most frequent ones first. Each further result
forms a group of its own."""
MOST_ALGEBRA = 24
"""At most this many pairs of results of one question go to a worker. Further pairs that need a worker count as
different."""
MOST_WORDS = 6
"""A result in words may have at most this many words on a last line. An announced or boxed result may have twice as
many words."""

Same = Callable[[str, str], bool]
"""Says whether two values are equal by algebra. Only a worker may compute that, because a worker can be killed."""
SeenEqual = Callable[[str, str], bool | None]
"""Says whether two values are equal if no algebra is needed for that; else gives None."""


class Majority(Check):
    """This is the check "majority". One answer is no majority: `majority_verdicts` judges all answers together."""

    name = MAJORITY
    version = "1"

    def quick(self, question: Question, answer: str) -> Finding | Work:
        return Outcome.NO_ANSWER, "one answer alone is no majority"

    def work(self, work: Work) -> Finding:
        """Returns RIGHT if the two values in `work` are equal, WRONG if they differ."""
        from harvest.checks.maths import symbolic

        one, other, question = str(work["one"]), str(work["other"]), str(work["question"])
        try:
            equal = _both_ways(one, other, question, symbolic.Symbolic(question))
        except symbolic.Unreadable as unreadable:
            return Outcome.WRONG, f"cannot be read as maths: {shown(str(unreadable), 40)}"
        return right_or_wrong(equal, f"{shown(one, 40)} and {shown(other, 40)}")

    def prepare(self) -> None:
        Maths().prepare()

    def own_answer(self, question: Question) -> str | None:
        return None


# ---- what each answer states


def answer_reader(question: Question) -> Callable[[str], Stated]:
    """Returns a function that reads what an answer to the question states.

    If the question has options, the stated value is the letter of an option. Else it is yes, no, a mathematical value,
    or a few words. If the answer states no such value, the value is None and `why` says the reason.
    """
    listed = options(question.question, question.choices)
    return partial(_chosen, listed=listed) if listed else _value_in


def _chosen(answer: str, listed: Mapping[str, str]) -> Stated:
    picked = chosen(answer, listed)
    return Stated(picked) if isinstance(picked, str) else Stated(None, why=picked[1])


def _value_in(answer: str) -> Stated:
    found = find_stated(answer)
    if found.value is None:
        return Stated(None, why=f"no final answer found: {found.why}")
    if parse_number(found.value) is None and (truth := truth_said(found.value)):
        return Stated({"true": "yes", "false": "no"}.get(truth, truth))
    read = stated_value(answer, "")
    value, also = read.value, read.also
    if value is None:
        value, also = _in_words(found.value, found.how), found.also
    if value is None:
        return Stated(None, why=f"no final answer found: “{shown(found.value)}” is no value")
    if len(value) > MOST_COMPARED_CHARACTERS:
        return Stated(None, why=f"states more than {MOST_COMPARED_CHARACTERS:,} characters")
    if nesting(value) > MOST_NESTING:
        return Stated(None, why=f"nested too deeply to read: {shown(value)}")
    if also and _key(also) != _key(value):
        return Stated(None, why=f"two different answers: {shown(value)}, then {shown(also)}")
    return Stated(value)


def _in_words(stated: str, how: str) -> str | None:
    """Returns a result in words; None if it has too many words.

    The result in a last line is the words after its "is", else the whole line if the line is short. Returns None if the
    line hedges.
    """
    if how != "last line":
        return stated if len(stated.split()) <= 2 * MOST_WORDS else None
    if hedges(stated):
        return None
    return predicate(stated) or (stated if len(stated.split()) <= MOST_WORDS else None)


# ---- who agrees


def _key(value: str) -> Hashable:
    """Returns a key that values share if they look equal: their number with unit and name, their words, or their
    notation."""
    number = parse_number(value)
    if number is not None:
        return number.value, number.unit, number.name
    return plain_words(value) if is_words(value) else squeezed(value)


def _both_ways(one: str, other: str, question: str, algebra: Algebra) -> bool:
    return compare(one, other, question, algebra) and compare(other, one, question, algebra)


def same_at_sight(question: str, one: str, other: str) -> bool | None:
    """Whether each of two values would be right if the other value were gold; None if that takes algebra."""
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


def grouped(values: Sequence[str], at_sight: SeenEqual, same: Same) -> list[list[int]]:
    """Returns groups of equal values, the largest group first. A group is a list of indices into `values`.

    Each index is in exactly one group.
    """
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


def agreeing(said: Sequence[Stated], question: Question, same: Same) -> list[list[int]]:
    """Returns groups of answers that state equal results, the largest group first.

    A group is a list of indices into `said`. An answer that states no result is in no group.
    """
    stating = [(place, stated.value) for place, stated in enumerate(said) if stated.value is not None]
    lettered = bool(options(question.question, question.choices))
    at_sight = str.__eq__ if lettered else partial(same_at_sight, question.question)
    return [[stating[p][0] for p in group] for group in grouped([value for _, value in stating], at_sight, same)]


def _usual(values: Sequence[str]) -> str:
    """Returns the most frequent of the spellings of one value."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))


def majority_verdicts(said: Sequence[Stated], question: Question, share: Decimal, same: Same) -> list[Verdict]:
    """Returns a verdict on each finished answer to a question, in the order of the answers.

    There is a majority if more than `share` (0 to 1) of all answers agree. The field `share` of each verdict is the
    share of the largest group, 0 to 1; None if no answer states a result, or if there are fewer than two answers.
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

    def finding(place: int, stated: Stated) -> Finding:
        if not most:
            return Outcome.NO_ANSWER, f"none of {n} answers states a result: {stated.why}"
        if holds <= Fraction(share):
            return Outcome.NO_ANSWER, f"no majority: at most {agree}, and it takes more than {share:%}"
        if place in inside:
            return Outcome.RIGHT, agree
        if stated.value is None:
            return Outcome.NO_ANSWER, f"{stated.why}; {agree}"
        return Outcome.WRONG, f"{agree}, this one says {shown(stated.value)}"

    found = [finding(place, stated) for place, stated in enumerate(said)]
    return [Verdict(Majority.name, Majority.version, *each, figure) for each in found]
