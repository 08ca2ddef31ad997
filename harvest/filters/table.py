"""Holds the one table of filters, in the order in which they are asked, and the three filters of a chain's length."""

from collections.abc import Callable
from dataclasses import dataclass

from harvest.core.config import Filters
from harvest.core.money import CHARACTERS_A_TOKEN
from harvest.core.nouns import Candidate
from harvest.filters.form import form
from harvest.filters.leak import leaked_gold
from harvest.filters.loops import repetition
from harvest.filters.reading import Reading


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter: it finds one kind of reason not to train on an accepted attempt.

    Each filter has one row in the table. It gets a new version whenever it refuses other answers than before.
    """

    name: str
    """The name of the filter and of its setting in `Filters` (harvest/core/config.py). The filter is on if the setting
    is not false, zero or empty."""
    version: str
    fault: Callable[[Reading, Filters], str | None]
    """Returns the fault in words for `harvest why`; None if the filter finds no fault.

    The function is pure, and its time is linear in the length of the text.
    """


@dataclass(frozen=True, slots=True)
class Fault:
    """Says which filter refused an answer, and why."""

    filter: str
    version: str
    detail: str


def _no_chain(reading: Reading, _: Filters) -> str | None:
    return None if reading.chain.whole.strip() else "there is no chain, the answer alone"


def _short_chain(reading: Reading, settings: Filters) -> str | None:
    tokens, shown = _tokens(reading)
    return shown if reading.chain.whole.strip() and tokens < settings.short_chain else None


def _long_chain(reading: Reading, settings: Filters) -> str | None:
    tokens, shown = _tokens(reading)
    return shown if tokens > settings.long_chain else None


def _tokens(reading: Reading) -> tuple[int, str]:
    """Returns (the number of tokens in the chain, this number in words).

    The number is the endpoint's own count. If the endpoint gave no count, or 0, the number is estimated from the number
    of characters, and the words say "about".
    """
    counted = reading.candidate.reasoning_tokens
    tokens = counted or round(len(reading.chain.whole) / CHARACTERS_A_TOKEN)
    return tokens, f"{'' if counted else 'about '}{tokens:,} tokens of chain"


# The next three are imported when they are first asked: their patterns take a tenth of a second to compile, for which
# `collect` does not wait before it asks.


def _refusal(reading: Reading, settings: Filters) -> str | None:
    from harvest.filters.refusing import refusal

    return refusal(reading, settings)


def _language(reading: Reading, settings: Filters) -> str | None:
    from harvest.filters.language import language

    return language(reading, settings)


def _meta(reading: Reading, settings: Filters) -> str | None:
    from harvest.filters.meta import meta

    return meta(reading, settings)


FILTERS: tuple[Filter, ...] = (
    Filter("no_chain", "1", _no_chain),
    Filter("format", "2", form),
    Filter("refusal", "2", _refusal),
    Filter("language", "2", _language),
    Filter("repetition", "2", repetition),
    Filter("meta", "2", _meta),
    Filter("leaked_gold", "2", leaked_gold),
    Filter("short_chain", "1", _short_chain),
    Filter("long_chain", "1", _long_chain),
)


def versions(settings: Filters) -> dict[str, str]:
    """Maps the name of each filter that is on to its version.

    A stored selection is out of date when this map has changed.
    """
    return {f.name: f.version for f in FILTERS if getattr(settings, f.name)}


def first_fault(candidate: Candidate, settings: Filters) -> Fault | None:
    """Returns the fault that the first refusing filter finds; None if every filter that is on passes the answer."""
    reading = Reading(candidate)
    for each in FILTERS:
        if getattr(settings, each.name) and (detail := each.fault(reading, settings)):
            return Fault(each.name, each.version, detail)
    return None


def fault_of(name: str, candidate: Candidate, settings: Filters) -> Fault | None:
    """Returns the fault that the filter `name` finds in an answer, or None. The filter's setting need not be on."""
    each = next(f for f in FILTERS if f.name == name)
    detail = each.fault(Reading(candidate), settings)
    return Fault(each.name, each.version, detail) if detail else None
