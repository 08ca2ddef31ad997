"""Filters as verdicts: what `checks.require` names beside "correct" an attempt must pass, or another one is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harvest.config import Checks, Filters, Rewrite
from harvest.filters.reading import Reading
from harvest.filters.table import FILTERS
from harvest.rewrite import rewritten
from harvest.trace import Candidate, Outcome, Verdict


@dataclass(frozen=True, slots=True)
class Required:
    """Which filters an accepted attempt must pass, as a run's settings say."""

    names: Sequence[str]
    filters: Filters
    rewrites: bool

    def __bool__(self) -> bool:
        return bool(self.names)

    def verdicts(self, candidate: Candidate) -> list[Verdict]:
        """Of each, on the answer as it would be trained."""
        if self.rewrites and (found := rewritten(candidate)) is not None:
            candidate = replace(candidate, reasoning=found.reasoning, answer=found.answer)
        reading = Reading(candidate)
        said = ((f, f.fault(reading, self.filters)) for f in FILTERS if f.name in self.names)
        return [Verdict(f.name, f.version, Outcome.WRONG if fault else Outcome.RIGHT, fault or "") for f, fault in said]


def required_by(config: Mapping[str, Any]) -> Required:
    """`config` is a run's, as it is stored."""
    checks = Checks.model_validate(config.get("checks", {}))
    filters = Filters.model_validate(config.get("filters", {}))
    names = [name for name in checks.require if name != "correct"]
    return Required(names, filters, Rewrite.model_validate(config.get("rewrite", {})).on)
