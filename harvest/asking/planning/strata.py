"""Groups questions into strata: questions of one stratum have the same domain, difficulty and size, all known before
asking."""

from collections.abc import Iterable

from harvest.core.nouns import Question

MOST_DOMAINS, MOST_DIFFICULTIES, MOST_SIZES = 64, 32, 8
"""How many domains, difficulties and sizes are told apart. Each further domain or difficulty is called `OTHER`."""
OTHER = "…"
SMALLEST_CHARACTERS = 128
"""A question of this many characters has size 1, a question of twice as many has size 2, and so on."""


class Strata:
    """Gives each question the name of its stratum, `domain|difficulty|size`."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        """`known` has the strata that the run has already. They keep their names."""
        parts = [name.split("|") for name in known if name.count("|") == 2]
        self._domains = {p[0] for p in parts}
        self._difficulties = {p[1] for p in parts}

    def of(self, question: Question) -> str:
        domain = _bounded(_plain(question.domain), self._domains, MOST_DOMAINS)
        difficulty = _bounded(_difficulty(question.difficulty), self._difficulties, MOST_DIFFICULTIES)
        return f"{domain}|{difficulty}|{size_of(question.question)}"


def size_of(text: str) -> int:
    """Returns the size of a question, from 0 to MOST_SIZES - 1. With each size the length doubles."""
    return min(MOST_SIZES - 1, (len(text) // SMALLEST_CHARACTERS).bit_length())


def typical_characters(stratum: str) -> float:
    """Returns about how many characters a question of this stratum has."""
    size = stratum.rpartition("|")[2]
    return SMALLEST_CHARACTERS * 2.0 ** (int(size) if size.isdecimal() else 1)


def difficulty_of(stratum: str) -> str:
    """Returns the difficulty in a stratum's name; empty if the name has none."""
    parts = stratum.split("|")
    return parts[1] if len(parts) == 3 else ""


def as_number(difficulty: str) -> float | None:
    """Returns the number in a difficulty such as "3" or "Level 5"; None if the difficulty is not a number."""
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
    """Returns a difficulty as its stratum names it. A number between 0 and 1 is rounded to one decimal place, and other
    numbers to two digits, so that measured difficulties give few strata."""
    number = as_number(_plain(text))
    if number is None:
        return _plain(text).casefold()
    return f"{number:.1f}" if 0 < number < 1 else f"{number:.2g}"
