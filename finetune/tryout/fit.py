"""Sums up how the answers of each teacher suit a student. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.run import ScoredAnswer
from harvest.core.intervals import mean_interval

Mean = tuple[float | None, float | None, float | None]
"""(mean, low end, high end) of a 95% interval over questions; None: unknown."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How the traces of one teacher suit a student. Each mean is over questions, so that each question counts once."""

    traces: int
    """How many traces have a score."""
    without: int
    """How many the student cannot be trained on: they are too long, or cannot be rendered."""
    surprisal: Mean
    """In nats a token."""
    rank: Mean
    rsr: Mean
    """The Rank-Surprisal Ratio of all traces, `rank` over `surprisal`: the lower, the better. Source: arXiv 2601.14249,
    equation 9, which is no mean of the traces' own ratios: one trace without surprises would outweigh all others."""
    tokens: int | None
    """The median of the trained tokens of a trace, as the student counts them."""

    def as_json(self) -> dict[str, Any]:
        means = {name: dict(zip(("mean", "low", "high"), getattr(self, name), strict=True)) for name in MEANS}
        return {"traces": self.traces, "without_score": self.without, **means, "median_tokens": self.tokens}


MEANS = ("surprisal", "rank", "rsr")


def fits_of(answers: Iterable[ScoredAnswer]) -> dict[int, Fit]:
    """Maps the index of each teacher to how its answers suit the student that scored them."""
    by_teacher: dict[int, list[ScoredAnswer]] = {}
    for answer in answers:
        by_teacher.setdefault(answer.teacher, []).append(answer)
    return {teacher: _fit(of) for teacher, of in sorted(by_teacher.items())}


def _fit(answers: Sequence[ScoredAnswer]) -> Fit:
    scored = [a for a in answers if a.score.tokens]
    tokens = sorted(a.score.tokens for a in scored)
    surprisals, ranks = (_by_question(scored, name) for name in ("surprisal", "rank"))
    median = tokens[len(tokens) // 2] if tokens else None
    return Fit(
        len(scored), len(answers) - len(scored), mean_interval(surprisals), mean_interval(ranks),
        _ratio(ranks, surprisals), median,
    )  # fmt: skip


def _ratio(over: Sequence[float], under: Sequence[float]) -> Mean:
    """Returns the ratio of two means with its interval, by how far each question lies from the common ratio."""
    if not sum(under):
        return None, None, None
    ratio, mean = sum(over) / sum(under), sum(under) / len(under)
    return mean_interval([ratio + (a - ratio * b) / mean for a, b in zip(over, under, strict=True)])


def _by_question(answers: Iterable[ScoredAnswer], name: str) -> list[float]:
    """Returns the mean of each question's answers."""
    found: dict[int, list[float]] = {}
    for a in answers:
        if (value := getattr(a.score, name)) is not None:
            found.setdefault(a.question, []).append(value)
    return [sum(values) / len(values) for values in found.values()]
