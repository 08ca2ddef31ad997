"""Says what a run would have cost and brought under other settings, by the answers that it bought. Pure.

What the store knows is replayed, and the figures are exact. What it does not know is estimated, with a 90% interval, or
said to be unknown.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from harvest.asking.planning.plan import TRUNCATED, Rules, rules_of
from harvest.core.config import RunConfig, configs
from harvest.core.intervals import Z90
from harvest.core.money import FREE, PICO, Usage, cost_of, usd
from harvest.core.nouns import FILTER_REASONS, STUDENT
from harvest.core.teachers import AskedLive
from harvest.endpoint import Tariff, half_hour, tariff_of
from harvest.report.prediction.forecast import half_width, sample_variance, share_variance
from harvest.report.prediction.odds import FEWEST_QUESTIONS, Odds, odds_of
from harvest.report.prediction.replay import Chances, Group, Groups, Pattern, Played, answers_of, grouped, play
from harvest.store import BoughtAttempt

HALF_HOUR, HALF_HOURS = timedelta(minutes=30), 48
SAMPLES = (1, 4, 16)
"""The numbers of samples that are compared."""
MTOK = 1_000_000
UNKNOWN = "the store has too few questions with two answers or more"
FEW_ARE_LONG = "too few answers are longer than half of the limit"
TOGETHER = "the answers are judged by what most of them say"


@dataclass(frozen=True, slots=True)
class Longer:
    """Estimates how an answer that was cut at its limit would go on under a higher limit."""

    chances: tuple[Chances, Chances, Chances] | None
    """The chances of its outcomes (low end, likeliest, high end). None: too little is known."""
    tokens: float
    """How many more output tokens it has on average."""
    variance: float
    answers: int
    """How many answers `tokens` and `variance` are known from."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Other settings, and the attempts as they would have been with them."""

    what: str
    groups: Groups
    rules: Rules
    order: tuple[int, ...] | None = None
    """The old place of the teacher at each new place. None: the order is the same."""
    longer: Longer | None = None


@dataclass(slots=True)
class Sum:
    """A figure of the whole run: what is expected, and the variance of that."""

    mean: float = 0.0
    variance: float = 0.0


Rates = tuple[float, float, float]
"""What a token of input, of cached input and of output costs, in picodollars."""
Figures = dict[str, Sum]
"""Maps each of FIGURES to its sum."""
FIGURES = ("cost", "tokens", "accepted")


def tariffs_of(config: RunConfig, mode: Literal["live", "batch"] | None = None) -> dict[int, Tariff | None]:
    """Returns the prices of the student and of each teacher, by place; with `mode`, as if the teachers were asked
    so."""
    found: dict[int, Tariff | None] = {}
    for place, alone in configs(config).items():
        if mode is not None and not isinstance(alone.teacher, AskedLive):
            alone = alone.model_copy(update={"teacher": alone.teacher.model_copy(update={"mode": mode})})
        found[place] = tariff_of(alone)
    return found


def what_if(
    config: RunConfig,
    bought: Sequence[BoughtAttempt],
    tariffs: Mapping[int, Tariff | None],
    moment: datetime,
    scale: float = 1.0,
) -> list[dict[str, Any]]:
    """Returns the run as it was, and then with other settings: each with `what`, `basis` (replayed, estimated or
    unknown), and `usd`, `output_tokens` and `accepted` as low, mid and high, multiplied by `scale`.

    `bought` are the attempts at questions that have ended, in the order of questions. `tariffs` maps the place of each
    teacher to its prices. The run is taken to have asked at `moment`. `usd` is None if some cost is unknown.
    """
    if not bought:
        return []
    reckoning = Reckoning(config, bought, tariffs, moment, scale)
    others = [*map(reckoning.row, reckoning.decisions()), *reckoning.other_prices()]
    return [reckoning.as_it_was(), *others] if others else []


def cut_answers(bought: Sequence[BoughtAttempt]) -> dict[str, Any] | None:
    """Returns what went into the teachers' answers that were cut at their token limit; None if there are none.

    The keys: `answers`, `usd`, `output_tokens`, and `max_tokens`, the lowest and the highest of the limits. `usd` is
    None if the cost of one is unknown.
    """
    cut = [b for b in bought if b.attempt.teacher != STUDENT and b.attempt.reason == TRUNCATED]
    if not cut:
        return None
    limits = [b.attempt.max_tokens for b in cut]
    return {
        "answers": len(cut),
        "usd": None if any(b.unpriced for b in cut) else usd(sum(b.cost for b in cut)),
        "output_tokens": sum(b.output_tokens for b in cut),
        "max_tokens": [min(limits), max(limits)],
    }


class Reckoning:
    """Holds what is the same for all decisions about one run."""

    def __init__(
        self, config: RunConfig, bought: Sequence[BoughtAttempt], tariffs: Mapping[int, Tariff | None],
        moment: datetime, scale: float,
    ) -> None:  # fmt: skip
        self._config, self._bought, self._tariffs, self._moment, self._scale = config, bought, tariffs, moment, scale
        self._by_teachers = [b for b in bought if b.attempt.teacher != STUDENT]
        self._by_student = sum(b.cost for b in bought) - sum(b.cost for b in self._by_teachers)
        self._is_priced = not any(b.unpriced for b in bought)
        self._rules = replace(rules_of(config), student=None)  # what the student was asked stays as it was
        self._groups = grouped(self._by_teachers)
        self._odds: dict[int, tuple[Odds, Odds, Odds]] = {}
        self._cut: dict[int, float] = {}
        self._each: dict[int, Figures] = {}
        self._usages: dict[int, tuple[Usage, int]] = {}
        for place in range(len(self._rules.teachers)):
            self._learn(place)

    def _learn(self, place: int) -> None:
        """Notes what an answer of this teacher costs and how likely it is accepted."""
        counts: dict[tuple[int, int], int] = defaultdict(int)
        for pattern, group in self._groups.items():
            counts[answers_of(pattern, place)] += group.questions
        if (found := odds_of(counts)) is not None:
            self._odds[place] = found
        mine = [b for b in self._by_teachers if b.attempt.teacher == place and b.attempt.state == "answered"]
        self._usages[place] = _usage_of(mine), len(mine)
        rejected = [b.attempt.reason == TRUNCATED for b in mine if not b.attempt.accepted]
        asks_again = self._rules.teachers[place].when_truncated != "give_up"
        self._cut[place] = 0.0 if asks_again or not rejected else sum(rejected) / len(rejected)
        self._each[place] = {
            "cost": _sum_of([b.cost for b in mine]),
            "tokens": _sum_of([b.output_tokens for b in mine]),
        }

    # ---- decisions

    def as_it_was(self) -> dict[str, Any]:
        cost = sum(b.cost for b in self._by_teachers)
        tokens = sum(b.output_tokens for b in self._by_teachers)
        accepted = sum(b.attempt.accepted is True for b in self._by_teachers)
        return self._row("as it was", [{"cost": Sum(cost), "tokens": Sum(tokens), "accepted": Sum(accepted)}])

    def row(self, decision: Decision) -> dict[str, Any]:
        """Returns the entry of one decision."""
        together = self._config.checks.without_gold == "majority"
        found = None if together else self._figures(decision)
        if found is None:
            few_are_long = decision.longer is not None and decision.longer.chances is None
            return _unknown(decision.what, TOGETHER if together else FEW_ARE_LONG if few_are_long else UNKNOWN)
        asked = sum(group.questions for group in decision.groups.values())
        teachers = decision.rules.teachers if decision.rules.mode == "all" else decision.rules.teachers[:1]
        most = asked * sum(min(t.samples, t.stop_after_accepted) for t in teachers)
        return self._row(decision.what, found, most)

    def decisions(self) -> Iterator[Decision]:
        if len(self._rules.teachers) == 1:
            sampling = self._rules.teachers[0]
            limit, stop = sampling.max_tokens, sampling.stop_after_accepted
            limits = [n for n in (limit // 4, limit // 2) if any(b.output_tokens > n for b in self._by_teachers)]
            limits += [2 * limit] if any(b.attempt.reason == TRUNCATED for b in self._by_teachers) else []
            if sampling.when_truncated == "give_up":  # else the store does not tell what would follow a cut
                yield from (self.decision(max_tokens=n) for n in limits)
            yield from (self.decision(samples=n) for n in SAMPLES if n != sampling.samples)
            yield from (self.decision(stop_after_accepted=n) for n in sorted({1, sampling.samples}) if n != stop)
        elif self._rules.mode == "cascade":
            order = tuple(sorted(self._each, key=lambda place: self._each[place]["cost"].mean))
            if order != tuple(range(len(order))) and self._each[order[0]]["cost"].mean:
                yield self._ordered(order)
        yield from self._checks()

    def decision(self, **settings: int) -> Decision:
        """Returns the run of one teacher under other values of `max_tokens`, `samples` or `stop_after_accepted`."""
        what = ", ".join(f"{name} = {value}" for name, value in settings.items())
        sampling = self._rules.teachers[0]
        limit, new = sampling.max_tokens, settings.pop("max_tokens", sampling.max_tokens)
        rules = replace(self._rules, teachers=(sampling.model_copy(update=settings),))
        if new < limit:
            rates = self._rates(0)
            return Decision(what, grouped([_cut_at(b, new, rates) for b in self._by_teachers]), rules)
        if new == limit:
            return Decision(what, self._groups, rules)
        # Between the limit and n times the limit it goes as between the limit divided by n and the limit.
        beyond = [b for b in self._by_teachers if b.output_tokens > limit * limit / new]
        more = _sum_of([b.output_tokens - limit * limit / new for b in beyond])
        times = new / limit
        longer = Longer(_chances_beyond(beyond), times * more.mean, times**2 * more.variance, len(beyond))
        return Decision(what, self._groups, rules, longer=longer)

    def _ordered(self, order: tuple[int, ...]) -> Decision:
        new = {old: place for place, old in enumerate(order)}
        groups = {tuple(replace(a, teacher=new[a.teacher]) for a in p): group for p, group in self._groups.items()}
        rules = replace(self._rules, teachers=tuple(self._rules.teachers[old] for old in order))
        return Decision("the cheapest teacher first", groups, rules, order)

    def _checks(self) -> Iterator[Decision]:
        """Yields each required filter left out, and each filter that refused accepted answers required."""
        required = frozenset(self._config.checks.require)
        refusing = {name for b in self._by_teachers for name in b.refused_by}
        for name in (n for n in FILTER_REASONS if n in refusing):
            words = f"checks.require {'without' if name in required else 'with'} {name}"
            yield Decision(words, grouped(_checked(b, required ^ {name}) for b in self._by_teachers), self._rules)

    def other_prices(self) -> Iterator[dict[str, Any]]:
        """Yields the run in a batch, and at the cheapest and the dearest hours, if the price is another one then."""
        whole = self._by_list(self._moment)
        if not whole or not self._is_priced:
            return
        in_batches = any(alone.teacher.mode == "batch" for alone in configs(self._config).values())
        otherwise = self._by_list(self._moment, tariffs_of(self._config, "live" if in_batches else "batch"))
        if otherwise not in (0, whole):
            yield self._at("asked live" if in_batches else "in batches", otherwise / whole)
        moments = [half_hour(self._moment) + i * HALF_HOUR for i in range(HALF_HOURS)]
        costs = [self._by_list(moment) for moment in moments]
        for name, wanted in (("cheapest", min(costs)), ("dearest", max(costs))) if min(costs) != max(costs) else ():
            first = last = costs.index(wanted)
            while last + 1 < len(costs) and costs[last + 1] == wanted:
                last += 1
            hours = f"{moments[first]:%H:%M} to {moments[last] + HALF_HOUR:%H:%M} UTC"
            yield self._at(f"asked from {hours} ({name} price)", wanted / whole)

    # ---- figures

    def _figures(self, decision: Decision) -> list[Figures] | None:
        """Returns the figures at the low end, the middle and the high end of what is not known, or one alone if all is
        known. None if the odds are not known either."""
        found: list[Figures] = []
        for end in range(3):
            sums, unknown, longer = {name: Sum() for name in FIGURES}, defaultdict[int, float](float), 0.0
            for pattern, group in decision.groups.items():
                played = self._played(decision, pattern, end)
                if played is None:
                    return None
                self._add(sums, decision, pattern, group, played)
                longer += group.questions * sum(played.longer)
                for place, answers in played.unknown.items():
                    unknown[place] += group.questions * answers
            self._add_spread(sums, decision, unknown, longer)
            found.append(sums)
            if not unknown and not longer:
                break
        return found

    def _played(self, decision: Decision, pattern: Pattern, end: int) -> Played | None:
        if decision.longer is not None and decision.longer.chances is None:
            return None
        old = decision.order or range(len(self._rules.teachers))
        odds = {new: self._odds[place][end] for new, place in enumerate(old) if place in self._odds}
        if decision.order is not None and end == 2:
            # A teacher that was asked only what another one had failed at may do better on the rest.
            odds = {new: replace(one, mean=1.0) for new, one in odds.items()}
        cut = {new: self._cut[place] for new, place in enumerate(old)}
        longer = decision.longer.chances[end] if decision.longer and decision.longer.chances else None
        return play(pattern, decision.rules, odds, cut, longer)

    def _add(self, sums: Figures, decision: Decision, pattern: Pattern, group: Group, played: Played) -> None:
        """Adds what the questions of one group bring. An answer that nobody bought costs as much as the others to its
        question, else as much as the teacher's others."""
        n = group.questions
        sums["accepted"].mean += n * played.accepted
        sums["accepted"].variance += n * (played.accepted_square - played.accepted**2)
        longer = decision.longer.tokens * n * sum(played.longer) if decision.longer else 0.0
        longer_cost = longer * self._rates(0)[-1] if longer else 0.0
        for name, own, more in (("cost", group.cost, longer_cost), ("tokens", group.tokens, longer)):
            sums[name].mean += sum(share * value for share, value in zip(played.bought, own, strict=True)) + more
            for place, unknown in played.unknown.items():
                each = self._each[decision.order[place] if decision.order else place][name]
                mine = [own[a.id] / n for a in pattern if a.teacher == place and a.state == "answered"]
                sums[name].mean += n * unknown * (sum(mine) / len(mine) if mine else each.mean)

    def _add_spread(self, sums: Figures, decision: Decision, unknown: Mapping[int, float], longer: float) -> None:
        """Adds the variance of what the answers that nobody bought cost, and of the further tokens of longer ones.
        `unknown` says how many answers of each teacher they are, `longer` how many are longer."""
        for place, m in unknown.items():
            old = decision.order[place] if decision.order else place
            for name in ("cost", "tokens"):
                variance, n = self._each[old][name].variance, self._usages[old][1]
                sums[name].variance += half_width(variance, n, m, 1.0) ** 2 if n else 0.0
        if longer and decision.longer:
            spread = half_width(decision.longer.variance, decision.longer.answers, longer, 1.0) ** 2
            sums["tokens"].variance += spread
            sums["cost"].variance += spread * self._rates(0)[-1] ** 2

    def _row(self, what: str, ends: Sequence[Figures], most: float = math.inf) -> dict[str, Any]:
        """Returns one entry. `ends` has the figures at the low end, the middle and the high end, or one alone. `most`
        is how many answers can be accepted."""
        row: dict[str, Any] = {"what": what, "basis": "replayed" if len(ends) == 1 else "estimated", "because": None}
        for key, name in (("usd", "cost"), ("output_tokens", "tokens"), ("accepted", "accepted")):
            beside = self._by_student if name == "cost" else 0
            means = [beside + figures[name].mean for figures in ends]
            mid, half = means[len(means) // 2], Z90 * math.sqrt(ends[len(ends) // 2][name].variance)
            high = min(max(means) + half, most if name == "accepted" and len(ends) > 1 else math.inf)
            values = (max(0.0, min(means) - half), mid, high)
            row[key] = dict(zip(("low", "mid", "high"), (round(self._scale * value) for value in values), strict=True))
        return self._in_usd(row, row.pop("usd"))

    def _in_usd(self, row: dict[str, Any], cost_pusd: Mapping[str, int]) -> dict[str, Any]:
        accepted = row["accepted"]["mid"]
        return row | {
            "usd": {end: usd(value) for end, value in cost_pusd.items()} if self._is_priced else None,
            "usd_per_accepted_trace": usd(round(cost_pusd["mid"] / accepted)) if accepted and self._is_priced else None,
        }

    def _at(self, what: str, factor: float) -> dict[str, Any]:
        """Returns the run as it was at another price of the teachers. Models that judge and rewrite keep theirs."""
        about = sum(b.about_cost for b in self._by_teachers)
        cost = self._by_student + about + factor * (sum(b.cost for b in self._by_teachers) - about)
        return self._in_usd(
            self.as_it_was() | {"what": what}, dict.fromkeys(("low", "mid", "high"), round(self._scale * cost))
        )

    # ---- list prices

    def _rates(self, place: int) -> Rates:
        """Returns the teacher's prices for inputs of the usual length; of nothing if they are unknown."""
        (usage, answers), tariff = self._usages[place], self._tariffs.get(place)
        price = tariff.at(self._moment, (usage.input_tokens or 0) // max(1, answers)) if tariff else FREE
        input_, cached, output = (PICO * float(part) / MTOK for part in (price.input, price.cached_input, price.output))
        return input_, cached, output

    def _by_list(self, moment: datetime, tariffs: Mapping[int, Tariff | None] | None = None) -> int:
        """Returns what the teachers' answers cost by these prices (None: the run's), in picodollars; 0 if one is
        unknown."""
        whole = 0
        for place, (usage, answers) in self._usages.items():
            if (tariff := (tariffs or self._tariffs).get(place)) is None:
                return 0
            whole += cost_of(usage, tariff.at(moment, (usage.input_tokens or 0) // max(1, answers)))[0] or 0
        return whole


def _usage_of(bought: Sequence[BoughtAttempt]) -> Usage:
    return Usage(
        sum(b.input_tokens for b in bought),
        sum(b.cached_input_tokens for b in bought),
        sum(b.output_tokens for b in bought),
    )


def _sum_of(values: Sequence[float]) -> Sum:
    """Returns the mean of these values, and their variance."""
    return Sum(math.fsum(values) / len(values), sample_variance(values)) if values else Sum()


def _cut_at(one: BoughtAttempt, limit: int, rates: Rates) -> BoughtAttempt:
    """Returns the attempt as it would have been with at most `limit` output tokens. Nobody judges or rewrites what was
    cut."""
    if one.output_tokens <= limit:
        return one
    before = rates[0] * (one.input_tokens - one.cached_input_tokens) + rates[1] * one.cached_input_tokens
    whole, cut = before + rates[2] * one.output_tokens, before + rates[2] * limit
    attempt = replace(one.attempt, accepted=False, reason=TRUNCATED)
    cost = round((one.cost - one.about_cost) * cut / whole) if whole else 0
    return replace(one, attempt=attempt, cost=cost, about_cost=0, output_tokens=limit)


def _chances_beyond(beyond: Sequence[BoughtAttempt]) -> tuple[Chances, Chances, Chances] | None:
    """Returns the chances of the outcomes of answers that are longer than half the limit, with a 90% interval for the
    first; None if there are too few."""
    n = len(beyond)
    if n < FEWEST_QUESTIONS:
        return None
    accepted = sum(b.attempt.accepted is True for b in beyond)
    cut = sum(b.attempt.reason == TRUNCATED for b in beyond) / max(1, n - accepted)
    half = half_width(share_variance(accepted, n), n, 1, Z90) / math.sqrt(n + 1)
    shares = (max(0.0, accepted / n - half), accepted / n, min(1.0, accepted / n + half))
    low, mid, high = ((share, (1 - share) * (1 - cut), (1 - share) * cut) for share in shares)
    return low, mid, high


def _checked(one: BoughtAttempt, required: frozenset[str]) -> BoughtAttempt:
    """Returns the attempt as it would have been judged if these filters were required."""
    is_right = one.attempt.accepted or one.attempt.reason in FILTER_REASONS.values()
    if not (is_right and one.refused_by):
        return one
    reason = next((FILTER_REASONS[name] for name in FILTER_REASONS if name in one.refused_by & required), None)
    return replace(one, attempt=replace(one.attempt, accepted=reason is None, reason=reason))


def _unknown(what: str, because: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("usd", "output_tokens", "accepted", "usd_per_accepted_trace"))
    return {"what": what, "basis": "unknown", "because": because, **nothing}
