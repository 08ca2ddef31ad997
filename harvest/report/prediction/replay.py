"""Plays the plan of a run again over the attempts that it bought, under other rules. Pure.

The plan itself decides what is asked (harvest/asking/planning/plan.py). If it asks for an answer that nobody bought,
each outcome of that answer is followed with its chance.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harvest.asking.planning.plan import TRUNCATED, WRONG, Rules, next_step
from harvest.core.nouns import Ask, Attempt
from harvest.report.prediction.odds import Odds
from harvest.store import BoughtAttempt

Pattern = tuple[Attempt, ...]
"""The attempts at one question without what tells them from those at another: the id is the place in the pattern."""
Chances = tuple[float, float, float]
"""How likely an answer is accepted, wrong, and cut."""


@dataclass(slots=True)
class Group:
    """The questions whose attempts have the same pattern, with sums over these questions."""

    questions: int = 0
    cost: list[int] = field(default_factory=list)
    """What the attempts at each place of the pattern cost, in picodollars."""
    tokens: list[int] = field(default_factory=list)
    """Their output tokens."""


Groups = dict[Pattern, Group]


def grouped(bought: Iterable[BoughtAttempt]) -> Groups:
    """Groups the questions by the pattern of their attempts. `bought` are attempts of teachers, by question."""
    groups: dict[tuple[Any, ...], Group] = {}
    for mine in _by_question(bought):
        places = {b.attempt.id: place for place, b in enumerate(mine)}
        alike = tuple([_same(b.attempt, places) for b in mine])  # to hash this is faster than to hash attempts
        if (group := groups.get(alike)) is None:
            group = groups[alike] = Group(0, [0] * len(mine), [0] * len(mine))
        group.questions += 1
        for i, b in enumerate(mine):
            group.cost[i] += b.cost
            group.tokens[i] += b.output_tokens
    names = ("teacher", "sample", "max_tokens", "state", "accepted", "reason", "continues")
    return {
        tuple(Attempt(id=i, **dict(zip(names, one, strict=True))) for i, one in enumerate(alike)): group
        for alike, group in groups.items()
    }


def _same(a: Attempt, places: Mapping[int, int]) -> tuple[Any, ...]:
    continues = None if a.continues is None else places.get(a.continues)
    return a.teacher, a.sample, a.max_tokens, a.state, a.accepted, a.reason, continues


def _by_question(bought: Iterable[BoughtAttempt]) -> Iterator[list[BoughtAttempt]]:
    mine: list[BoughtAttempt] = []
    for b in bought:
        if mine and mine[0].question_id != b.question_id:
            yield mine
            mine = []
        mine.append(b)
    if mine:
        yield mine


@dataclass(slots=True)
class Played:
    """What one question brings on average when the plan is played again."""

    bought: list[float]
    """How likely the attempt at each place of the pattern is bought."""
    unknown: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    """How many answers that are not in the store each teacher is asked for, by its place."""
    longer: list[float] = field(default_factory=list)
    """How likely the attempt at each place, which was cut, goes on beyond its limit."""
    accepted: float = 0.0
    accepted_square: float = 0.0


Drawn = tuple[tuple[int, str], ...]
"""The answers that are not in the store, as (teacher, outcome), sorted: their order changes nothing."""
OUTCOMES = ("accepted", WRONG[0], TRUNCATED)


def play(
    pattern: Pattern, rules: Rules, odds: Mapping[int, Odds], cut: Mapping[int, float], longer: Chances | None = None
) -> Played | None:
    """Returns what the plan buys of one question under these rules; None if the odds of an answer are unknown.

    `odds` and `cut` map a teacher's place to its odds, and to the share of its rejected answers that are cut. With
    `longer`, the chances of an answer that was cut when it may go on beyond its limit.
    """
    places = {_key(a): i for i, a in enumerate(pattern)}
    most = sum(sampling.samples for sampling in rules.teachers)
    found = Played([0.0] * len(pattern), longer=[0.0] * len(pattern))
    level: dict[tuple[tuple[tuple[int, str], ...], Drawn], float] = {((), ()): 1.0}
    while level:
        following: dict[tuple[tuple[tuple[int, str], ...], Drawn], float] = defaultdict(float)
        for (held, drawn), chance in level.items():
            attempts = [*(_with(pattern[i], outcome) for i, outcome in held), *_attempts(drawn, pattern, rules)]
            asks = next_step(attempts, rules).asks
            if not asks:
                accepted = sum(a.accepted is True for a in attempts)
                found.accepted += chance * accepted
                found.accepted_square += chance * accepted**2
                continue
            ask = asks[0]
            place = places.get(_key(ask))
            if place is not None:
                if any(place == i for i, _ in held):
                    return None  # an answer that never came
                found.bought[place] += chance
                if longer is not None and pattern[place].reason == TRUNCATED:
                    found.longer[place] += chance
                    for outcome, share in zip(OUTCOMES, longer, strict=True):
                        following[(*held, (place, outcome)), drawn] += chance * share
                else:
                    following[(*held, (place, "")), drawn] += chance
                continue
            if ask.teacher not in odds or any(a.teacher == ask.teacher and a.sample == ask.sample for a in pattern):
                return None
            if len(drawn) >= most:
                return None  # the plan asks for more than it may: what the store holds does not fit these rules
            found.unknown[ask.teacher] += chance
            chances = _chances(ask.teacher, pattern, drawn, odds, cut)
            if chances is None:
                return None
            for outcome, share in zip(OUTCOMES, chances, strict=True):
                if share:  # an outcome that cannot be may be asked about for ever
                    following[held, tuple(sorted((*drawn, (ask.teacher, outcome))))] += chance * share
        level = following
    return found


def _chances(
    teacher: int, pattern: Pattern, drawn: Drawn, odds: Mapping[int, Odds], cut: Mapping[int, float]
) -> Chances | None:
    answers, accepted = answers_of(pattern, teacher)
    answers += sum(who == teacher for who, _ in drawn)
    accepted += drawn.count((teacher, OUTCOMES[0]))
    if (share := odds[teacher].after(accepted, answers)) is None:
        return None
    return share, (1 - share) * (1 - cut[teacher]), (1 - share) * cut[teacher]


def answers_of(pattern: Pattern, teacher: int) -> tuple[int, int]:
    """Returns how many samples a teacher answered, and how many of them were accepted."""
    mine = [a for a in pattern if a.teacher == teacher and a.state == "answered"]
    return len({a.sample for a in mine}), sum(a.accepted is True for a in mine)


def _key(one: Attempt | Ask) -> tuple[int, int, int, int | None]:
    return one.teacher, one.sample, one.max_tokens, one.continues


def _with(attempt: Attempt, outcome: str) -> Attempt:
    """Returns the attempt with another outcome; "": with its own."""
    if not outcome:
        return attempt
    accepted = outcome == OUTCOMES[0]
    return replace(attempt, accepted=accepted, reason=None if accepted else outcome)


def _attempts(drawn: Drawn, pattern: Sequence[Attempt], rules: Rules) -> Iterator[Attempt]:
    """Yields attempts for the answers that are not in the store. Each has a sample number that no stored one has."""
    for place, sampling in enumerate(rules.teachers):
        outcomes = [outcome for teacher, outcome in drawn if teacher == place]
        used = {a.sample for a in pattern if a.teacher == place} if outcomes else set()
        free = [n for n in range(sampling.samples) if n not in used]
        for n, outcome in zip(free, outcomes, strict=False):
            yield _with(Attempt(-1, n, sampling.max_tokens, "answered", teacher=place), outcome)
