"""Limits a selection by difficulty, by answers for each question, and by a draw if traces are too many. Pure."""

from collections.abc import Iterator
from random import Random

import numpy as np

from harvest.core.config import Select
from harvest.selection.candidates import BOOL, I64, Candidates, Questions
from harvest.selection.minhash import U64


def is_hard_enough(of: Candidates, questions: Questions, settings: Select) -> BOOL:
    """Returns [n]: whether each candidate's question has a wanted difficulty and enough wrong answers."""
    enough = np.ones(len(questions.row), bool)
    if settings.difficulty:
        wanted = {d.casefold() for d in settings.difficulty}
        enough &= np.array([d.lower() in wanted for d in questions.difficulty], bool)
    if settings.min_failed is not None:
        with np.errstate(invalid="ignore"):
            enough &= questions.failed >= float(settings.min_failed)  # False for NaN
    return np.asarray(enough[of.question])


def beyond_limit(of: Candidates, questions: Questions, rank: I64, alive: BOOL, most: int) -> I64:
    """Returns the candidates with at least `most` candidates of smaller rank for the same question. The ranks come from
    stages.py, by the setting `select.prefer`."""
    at = np.flatnonzero(alive)
    text = questions.text[of.question]
    at = at[np.lexsort((rank[at], text[at]))]
    first = np.searchsorted(text[at], text[at])
    return at[np.arange(len(at)) - first >= most]


def too_many_long(of: Candidates, rank: I64, alive: BOOL, long_tokens: int, short_per_long: int) -> I64:
    """Returns the candidates of `long_tokens` or more for which there are too few shorter ones: one long candidate is
    kept for each `short_per_long` short ones, those of smaller rank first."""
    at = np.flatnonzero(alive)
    is_long = of.tokens[at] >= long_tokens
    long = at[is_long]
    return np.asarray(long[np.argsort(rank[long], kind="stable")][int((~is_long).sum()) // short_per_long :])


def drawn(of: Candidates, questions: Questions, settings: Select, left: I64, chance: U64) -> I64:
    """Returns the candidates that are drawn from `left`, one by one, until `traces` or `tokens` is reached."""
    taken: list[int] = []
    tokens = 0
    for i in _in_drawing_order(of, questions, settings, left, chance):
        tokens += int(of.tokens[i])
        full = settings.traces is not None and len(taken) == settings.traces
        if full or (settings.tokens is not None and tokens > settings.tokens):
            break
        taken.append(i)
    return np.array(taken, np.int64)


def _in_drawing_order(of: Candidates, questions: Questions, settings: Select, left: I64, chance: U64) -> Iterator[int]:
    """Gives the candidates of `left` in the order in which they are drawn.

    With `balance`, each draw first picks a domain, and all domains have the same chance. Inside a domain all traces
    have the same chance. If `favour` is "longer", the longest trace has a chance of about 1/2 instead, the second
    longest 1/4, and so on (s1, data/filter.ipynb). If it is "rsr" or "surprisal", the lowest comes first.
    """
    random = Random(settings.seed)
    domain = questions.domain[of.question[left]] if settings.balance == "domains" else np.full(len(left), "", object)
    groups: list[list[int]] = []
    for name in np.unique(domain):
        group = left[domain == name]
        last = {"longer": of.tokens, "rsr": -of.rsr, "surprisal": -of.surprisal}.get(settings.favour)
        by = (chance[group],) if last is None else (chance[group], last[group])
        groups.append(group[np.lexsort(by)].tolist())  # what is favoured last: a list pops fast near its end
    while groups:
        n = int(random.random() * len(groups))
        group = groups[n]
        yield group.pop(len(group) - 1 - _halving(random, len(group)) if settings.favour == "longer" else -1)
        if not group:
            del groups[n]


def _halving(random: Random, n: int) -> int:
    """Returns a random number below `n`: 0 with a chance of about 1/2, 1 with a chance of about 1/4, and so on."""
    while True:
        at = 0
        while random.random() < 0.5:
            at += 1
        if at < n:
            return at
