"""Applies the filters that an answer must pass to be accepted. The setting `checks.require` names these filters."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from harvest.core.config import Filters, RunConfig
from harvest.core.nouns import Candidate, Outcome, Verdict
from harvest.filters.reading import Reading
from harvest.filters.rewrite import VERSION as REWRITES
from harvest.filters.rewrite import rewritten
from harvest.filters.table import FILTERS


@dataclass(frozen=True, slots=True)
class Required:
    """The filters that a right answer must pass, according to the settings of a run."""

    versions: Mapping[str, str]
    """Maps each filter's name to its version, followed by the settings that change its verdicts.

    A verdict of another version is out of date.
    """
    filters: Filters = field(compare=False)
    rewrites: bool

    def __bool__(self) -> bool:
        return bool(self.versions)

    def verdicts(self, candidate: Candidate) -> list[Verdict]:
        """Returns the verdict of each required filter on the answer as a student would be trained on it.

        Whether a rewritten answer still passes its check is tested later, when traces are selected.
        """
        if self.rewrites and (found := rewritten(candidate)) is not None:
            candidate = replace(candidate, reasoning=found.reasoning, answer=found.answer)
        reading = Reading(candidate)
        said = ((f.name, f.fault(reading, self.filters)) for f in FILTERS if f.name in self.versions)
        return [
            Verdict(name, self.versions[name], Outcome.WRONG if fault else Outcome.RIGHT, fault or "")
            for name, fault in said
        ]


def required_by(config: RunConfig) -> Required:
    """Returns the filters that the settings of a run require."""
    filters, rewrites = config.filters, config.rewrite.on
    beside = {"language": f" {filters.language}"} if filters.language not in (False, "question") else {}
    rewritten_by = f", rewritten by {REWRITES}" if rewrites else ""
    required = [f for f in FILTERS if f.name in config.checks.require]
    return Required({f.name: f"{f.version}{beside.get(f.name, '')}{rewritten_by}" for f in required}, filters, rewrites)
