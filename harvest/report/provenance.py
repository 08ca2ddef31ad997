"""Says where a run's traces are from: teachers and their terms, prompt, sources and licences of the questions. Pure."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harvest.asking.planning.teacher_terms import terms_of
from harvest.core.config import teachers_of
from harvest.core.printable import one_line
from harvest.store import RunFigures


def provenance(figures: RunFigures) -> dict[str, Any]:
    """Returns the report's `provenance`. `sources` and `licences` map each name to its number of questions. The name ""
    stands for questions that name no source or licence."""
    run = figures.run
    return {
        "teachers": [_teacher(figures, n, teacher) for n, teacher in enumerate(teachers_of(run.settings))],
        "prompt": {"name": Path(run.config.prompt).stem, "sha256": run.prompt_sha256},
        "sources": _named(figures.sources),
        "licences": _named(figures.licences),
    }


def _named(counts: Mapping[str, int]) -> dict[str, int]:
    """Returns the counts by names that can be printed. Names that look the same then are counted together."""
    found = Counter[str]()
    for name, n in counts.items():
        found[one_line(name, 100)] += n
    return dict(found)


def _teacher(figures: RunFigures, place: int, teacher: Mapping[str, Any]) -> dict[str, Any]:
    served = [s for s in figures.served if s.teacher == place]
    terms = terms_of(teacher)
    return {
        "model": teacher["model"] or teacher["local"],
        "base_url": teacher["base_url"] or ("local" if teacher["local"] else None),
        "served_models": sorted({s.served_model for s in served if s.served_model}),
        "served_by": sorted({s.served_by for s in served if s.served_by}),
        "terms": terms.words,
        "terms_said_by": terms.said_by,
        "terms_page": terms.page,
    }
