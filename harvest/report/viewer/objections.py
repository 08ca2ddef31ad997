"""Says what the filters object to in an answer, and where in its chain or its text that stands. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from harvest.core.config import Filters
from harvest.core.nouns import Candidate
from harvest.filters import FILTERS
from harvest.filters.reading import Reading
from harvest.report.viewer.steps import Span

LONGEST = 200_000
"""A longer chain is not read by the filters again, so that the page never waits for them."""
_QUOTED = re.compile("“(.+?)…?”", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Objections:
    """What the filters that are on object to."""

    words: Mapping[str, str]
    """Maps each filter that objects to its words."""
    chain: tuple[Span, ...] = ()
    answer: tuple[Span, ...] = ()
    is_read: bool = True
    """Whether the filters read the answer; False: it is too long to be read while somebody waits."""


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
                spans += [Span(m.start(), m.end(), why) for m in [passage.search(text)] if m is not None]
    return Objections(words, tuple(found.chain), tuple(found.answer))
