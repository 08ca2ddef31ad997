"""Says what the filters object to in an answer, and where in its chain or its text that stands. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from harvest.core.config import Filters
from harvest.core.nouns import Candidate
from harvest.filters import FILTERS
from harvest.filters.reading import Reading
from harvest.report.viewer.steps import Span

MARGIN = 30
"""How many characters a filter shows around what it found (harvest/filters/phrases.py)."""
LONGEST = 200_000
"""A longer chain is not read by the filters again, so that the page never waits for them."""
_QUOTED = re.compile("“(.+?)…?”", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Objections:
    """What is wrong with one answer according to the filters that the run turns on."""

    words: Mapping[str, str]
    """Maps each filter that objects to its words."""
    chain: tuple[Span, ...] = ()
    answer: tuple[Span, ...] = ()
    is_read: bool = True
    """Whether the filters read the answer; False: it is too long to be read while somebody waits."""


def _without_margins(text: str, start: int, end: int) -> tuple[int, int]:
    """Returns where a quoted passage begins and ends without what a filter shows around what it found: paragraphs
    before and after, and words of which only a part is quoted."""
    before = text.rfind("\n\n", start, min(end, start + MARGIN + 2))
    start = before + 2 if before >= 0 else start
    after = text.find("\n\n", max(start, end - MARGIN - 2), end)
    end = after if after >= 0 else end
    if start and text[start - 1].isalnum() and text[start].isalnum():
        start = next((n for n in range(start, end) if text[n].isspace()), start - 1) + 1
    if end < len(text) and text[end - 1].isalnum() and text[end].isalnum():
        end = next((n for n in range(end, start, -1) if text[n - 1].isspace()), end + 1) - 1
    return start, end


@dataclass(slots=True)
class _Found:
    chain: list[Span] = field(default_factory=list)
    answer: list[Span] = field(default_factory=list)


def objections_to(candidate: Candidate, settings: Filters) -> Objections:
    """Returns what today's filters, with the run's settings, object to in an answer. A passage that a filter quotes is
    found in the text again, in whatever case and with whatever punctuation it stands there."""
    if len(candidate.reasoning or "") + len(candidate.answer) > LONGEST:
        return Objections({}, is_read=False)
    reading = Reading(candidate)
    words = {f.name: said for f in FILTERS if getattr(settings, f.name) and (said := f.fault(reading, settings))}
    found = _Found()
    for name, said in words.items():
        for quoted in _QUOTED.findall(said):
            why = f"{name.replace('_', ' ')}: {said}"
            parts = re.findall(r"\w+", quoted)
            if not parts:
                continue
            passage = re.compile(r"[\W_]+".join(map(re.escape, parts)), re.IGNORECASE)
            for text, spans in ((candidate.reasoning or "", found.chain), (candidate.answer, found.answer)):
                if (found_at := passage.search(text)) is not None:
                    start, end = found_at.span() if name == "repetition" else _without_margins(text, *found_at.span())
                    spans.append(Span(start, end, why))
    return Objections(words, tuple(found.chain), tuple(found.answer))
