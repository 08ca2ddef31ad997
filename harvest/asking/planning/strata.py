"""Strata: questions that are alike in what is known before asking, their domain, difficulty and length."""

from collections.abc import Iterable

from harvest.core.nouns import Question

MOST_DOMAINS, MOST_DIFFICULTIES, MOST_SIZES = 64, 32, 8
"""How many of each are told apart. Whatever comes after them is `OTHER`."""
OTHER = "…"
SMALLEST_CHARACTERS = 128
"""A question of so many characters is of size 1, one of twice as many of size 2, and so on."""


class Strata:
    """Gives each question the name of its stratum, `domain|difficulty|size`."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        """`known`: the strata that the run has already. They keep their names."""
        parts = [name.split("|") for name in known if name.count("|") == 2]
        self._domains = {p[0] for p in parts}
        self._difficulties = {p[1] for p in parts}

    def of(self, question: Question) -> str:
        domain = _bounded(_plain(question.domain), self._domains, MOST_DOMAINS)
        difficulty = _bounded(_difficulty(question.difficulty), self._difficulties, MOST_DIFFICULTIES)
        return f"{domain}|{difficulty}|{size_of(question.question)}"


def size_of(text: str) -> int:
    """How long a question is, from 0 to MOST_SIZES - 1: each size is twice the one before."""
    return min(MOST_SIZES - 1, (len(text) // SMALLEST_CHARACTERS).bit_length())


def typical_characters(stratum: str) -> float:
    """How long a question of this stratum is, about."""
    size = stratum.rpartition("|")[2]
    return SMALLEST_CHARACTERS * 2.0 ** (int(size) if size.isdecimal() else 1)


def difficulty_of(stratum: str) -> str:
    """The difficulty in a stratum's name; empty where it has none."""
    parts = stratum.split("|")
    return parts[1] if len(parts) == 3 else ""


def as_number(difficulty: str) -> float | None:
    """A difficulty that is a number, as "Level 5" is; None: it is none."""
    words = difficulty.casefold().removeprefix("level").strip()
    try:
        number = float(words)
    except ValueError:
        return None
    return number if abs(number) < 1e9 else None  # also no NaN


def _bounded(name: str, seen: set[str], most: int) -> str:
    if name not in seen:
        if len(seen) >= most:
            return OTHER
        seen.add(name)
    return name


def _plain(text: str | None) -> str:
    return " ".join((text or "").replace("|", "/").split())[:40]


def _difficulty(text: str | None) -> str:
    """Shares are rounded to one place, other numbers to two digits, so that measured difficulties are few."""
    number = as_number(_plain(text))
    if number is None:
        return _plain(text).casefold()
    return f"{number:.1f}" if 0 < number < 1 else f"{number:.2g}"
