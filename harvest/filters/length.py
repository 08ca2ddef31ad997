"""The filters of length: no chain, a chain that is too short, one that is too long. All are off unless they are set."""

from harvest.core.config import Filters
from harvest.core.money import CHARACTERS_A_TOKEN
from harvest.filters.reading import Reading


def no_chain(reading: Reading, _: Filters) -> str | None:
    return None if reading.chain.strip() else "there is no chain, the answer alone"


def short_chain(reading: Reading, settings: Filters) -> str | None:
    if not reading.chain.strip():
        return None
    tokens, about = _tokens(reading)
    return f"{about}{tokens:,} tokens of chain" if tokens < settings.short_chain else None


def long_chain(reading: Reading, settings: Filters) -> str | None:
    tokens, about = _tokens(reading)
    return f"{about}{tokens:,} tokens of chain" if tokens > settings.long_chain else None


def _tokens(reading: Reading) -> tuple[int, str]:
    """(tokens of the chain, "" or "about "): the endpoint's own count, else an estimate from its characters."""
    if reading.candidate.reasoning_tokens:
        return reading.candidate.reasoning_tokens, ""
    return round(len(reading.chain) / CHARACTERS_A_TOKEN), "about "
